"""How well examples made on one network work on the server network, and how alike their gradients are."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.shares import paired_difference
from nas.records import Records
from nas.siblings.attack import ATTACKS
from nas.siblings.attack import Attack
from nas.siblings.attack import craft
from nas.siblings.attack import is_fooled
from nas.siblings.attack import losses_of
from nas.siblings.attack import without_answers
from nas.siblings.reach import Reach
from nas.siblings.similarity import Similarity
from nas.siblings.similarity import similarity
from nas.training.loop import Labelled
from nas.training.loop import compute_device
from nas.training.loop import logits_of
from search_spaces.network import Network

WANTED_DROP = 0.3
"""By what share the transfer has to fall for an unpairing to be worth its error."""
ACCEPTED_ERROR = 0.01
"""Largest rise of the error that it may cost."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What stays fixed while networks are compared with one server network.

    Attributes:
        server: In eval mode.
        records: Records that no network was trained on.
        right: `(records,)`: where the server network names the right class; only there can it be fooled.
        reach: How far examples may lie from their records.
        attacks: How they are looked for.
        seed: Of the random starts.
    """

    server: Network
    records: Labelled
    right: NDArray[np.bool_]
    reach: Reach
    attacks: Sequence[Attack] = ATTACKS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Fooled:
    """What the examples of one attack on one network did.

    Attributes:
        server: `(records that the server network gets right,)`: whether it then names another class.
        own: `(records that the network itself gets right,)`: the same of the network they were made on.
    """

    server: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @property
    def transfer(self) -> Estimate:
        """Share of the server network's right answers that the examples turn; the lower, the better."""
        return proportion_interval(int(self.server.sum()), len(self.server))

    @property
    def white_box(self) -> Estimate:
        """Share of the network's own right answers that they turn: how good the attack is where it sees everything."""
        return proportion_interval(int(self.own.sum()), len(self.own))


@dataclass(frozen=True, eq=False)
class Kinship:
    """What one network gives away about the server network.

    Attributes:
        name: `server` itself, `shipped`, `control` or `unpaired`.
        wrong: `(records,)`: where it names another class than the record's.
        similarity: Of its gradients and the server network's.
        fooled: What each attack did, by its name.
        crafted: Examples of the last attack, `(restarts, records, ...)`.
    """

    name: str
    wrong: NDArray[np.bool_]
    similarity: Similarity
    fooled: Mapping[str, Fooled]
    crafted: Tensor

    @property
    def error(self) -> Estimate:
        """Share of the records that get a wrong class."""
        return proportion_interval(int(self.wrong.sum()), len(self.wrong))


def ground_for(server: Network, records: Records, reach: Reach, *, count: int, seed: int) -> Ground:
    """Choose records to compare on.

    Args:
        server: In eval mode.
        records: Records that no network was trained on.
        reach: How far examples may lie from them.
        count: How many to take at most.
        seed: Of the choice and of the random starts.

    Raises:
        ValueError: If the server network is right on none of them.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(records))[:count])
    place = compute_device()
    chosen = Labelled(
        torch.from_numpy(records.features[rows]).to(place), torch.from_numpy(records.labels[rows]).to(place)
    )
    right = ~_wrong(server, chosen)
    if not right.any():
        raise ValueError(f"expected a server network that is right on some records; it errs on all {len(rows)}")
    return Ground(server, chosen, right, reach, seed=seed)


def kinship(name: str, network: Network, ground: Ground) -> Kinship:
    """Make examples on a network and try them on the server network.

    Raises:
        ValueError: If the network is right on none of the records.
    """
    wrong = _wrong(network, ground.records)
    if wrong.all():
        raise ValueError(f"expected a {name} network that is right on some records; it errs on all {len(wrong)}")
    own, other = (losses_of(without_answers(one).requires_grad_(False)) for one in (network, ground.server))
    features, labels = ground.records.features, ground.records.labels
    fooled, crafted = {}, features[None]
    for attack in ground.attacks:
        crafted = craft(own, features, labels, ground.reach, attack, seed=ground.seed)
        fooled[attack.name] = Fooled(
            server=is_fooled(ground.server, crafted, labels)[ground.right],
            own=is_fooled(network, crafted, labels)[~wrong],
        )
    return Kinship(name, wrong, similarity(own, other, features, labels), fooled, crafted)


def black_box(network: Network, ground: Ground, control: Kinship) -> Estimate:
    """Return how many of a network's right answers the examples of the control's strongest attack turn.

    Gradients that hide what is there make examples of another network work better than a network's own (Athalye,
    Carlini and Wagner, 2018).
    """
    right = ~_wrong(network, ground.records)
    turned = is_fooled(network, control.crafted, ground.records.labels)[right]
    return proportion_interval(int(turned.sum()), len(turned))


def more_than(first: Kinship, second: Kinship) -> dict[str, Estimate]:
    """Return, by attack, the transfer of one network minus another's: paired, on the same records."""
    return {name: paired_difference(first.fooled[name].server, second.fooled[name].server) for name in first.fooled}


@dataclass(frozen=True, eq=False)
class Effect:
    """What an unpairing changed.

    Attributes:
        transfer: By attack, the transfer after minus before, paired.
        drop: By attack, by what share the transfer fell; 1: nothing is left of it. None where there was none.
        error: The error after minus before, paired.
    """

    transfer: Mapping[str, Estimate]
    drop: Mapping[str, float | None]
    error: Estimate

    @property
    def holds(self) -> bool:
        """Whether it fell by `WANTED_DROP` under every attack, for a rise of the error of `ACCEPTED_ERROR` at most."""
        fell = all(drop is not None and drop >= WANTED_DROP - 1e-9 for drop in self.drop.values())
        return fell and self.error.value <= ACCEPTED_ERROR + 1e-9


def effect(before: Kinship, after: Kinship) -> Effect:
    """Compare a network before and after its unpairing."""
    drops = {}
    for name, fooled in before.fooled.items():
        was, now = fooled.transfer.value, after.fooled[name].transfer.value
        drops[name] = None if not was else 1 - now / was
    return Effect(more_than(after, before), drops, paired_difference(after.wrong, before.wrong))


def signs_of_masking(before: Kinship, after: Kinship, from_control: Estimate) -> list[str]:
    """Say, a sentence each, what suggests that an unpairing hid gradients and changed nothing else.

    Args:
        before: The shipped network.
        after: The same, unpaired.
        from_control: What `black_box` gives for the unpaired network.
    """
    said = []
    strongest = list(before.fooled)[-1]
    was, now = (found.fooled[strongest].white_box for found in (before, after))
    if now.high < was.low:
        said.append(
            f"{strongest} on the unpaired network itself succeeds less than before ({now.value:.3f}, {was.value:.3f} "
            "before): its gradients may be masked, and another attack may still transfer"
        )
    if from_control.low > now.high:
        said.append(
            f"examples of the control fool the unpaired network more often ({from_control.value:.3f}) than its own "
            f"({now.value:.3f}): its gradients are masked"
        )
    return said


def _wrong(network: Network, records: Labelled) -> NDArray[np.bool_]:
    answers = logits_of(network, records.features).argmax(axis=1)
    return np.asarray(answers != records.labels.cpu().numpy())
