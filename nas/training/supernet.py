"""A super-network: tensors that many networks of a space share, trained once, to tell them apart before any training.

Each step trains one network, drawn at random (Guo et al., 2020, "Single Path One-Shot"). Its parameters are views of
the shared tensors (`search_spaces.graph.sharing`): what it takes is moved, and nothing else. A network computes with
its own bits: its layers round what they take, as in any training. What is not shared is made anew for each network and
each step: the steps of weights with 3 and 2 bits, and the ranges of tensors, from the batch at hand.

Afterwards a network is filled with what it takes. The statistics of its norms and the ranges of its tensors are those
of `CALIBRATED` members in one batch: those of the training are of all networks together, and fit none of them.

The figures of such a network only order networks. Its weights had a share of the steps, and were pulled by all others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from nas.base import files
from nas.base import locks
from nas.base.weights import read_weights
from nas.base.weights import write_tensors
from nas.records import Splits
from nas.training.assess import Attack
from nas.training.assess import outputs
from nas.training.loop import Diverged
from nas.training.loop import TrainSetup
from nas.training.loop import built
from nas.training.loop import compute_device
from nas.training.loop import flip_crop
from nas.training.loop import optimizer_of
from nas.training.loop import plain_setup
from nas.training.loop import shuffled
from nas.training.loop import training_version
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from nas.training.schedule import steps_per_epoch
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape
from search_spaces.graph.sharing import LayerNames
from search_spaces.graph.sharing import Share
from search_spaces.graph.sharing import is_covered
from search_spaces.graph.sharing import part_of
from search_spaces.graph.sharing import shares_of
from search_spaces.graph.sharing import together
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import fit_step
from search_spaces.network import Network

CALIBRATED = 256
"""Members that the statistics of norms and the ranges of tensors are made of."""
ASKED = 500
"""Members, non-members and validation records that a network is asked about, at most so many of each."""


@dataclass(frozen=True, eq=False)
class SuperSpec:
    """What a super-network is.

    Attributes:
        data: The record sets; it learns from the members only.
        networks: What it is trained for; each tensor is as large as the largest of them needs it.
        layer_names: Names their layers; equal names share.
        recipe: How it is trained; each step trains one of the networks.
        seed: Fixes its initial weights, and which network has which step.
    """

    data: Splits
    networks: tuple[Architecture, ...]
    layer_names: LayerNames
    recipe: Recipe
    seed: int

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shared tensors' shapes, by name."""
        return together(shares_of(network, self.layer_names) for network in self.networks)

    @property
    def key(self) -> str:
        """Sixteen hex digits over all that decides the tensors."""
        keys = hashlib.sha256(" ".join(network.key for network in self.networks).encode()).hexdigest()
        parts = [self.data.fingerprint, len(self.data.members), keys, self.recipe.identity, self.seed]
        what = json.dumps([*parts, sorted(self.shapes.items()), training_version()], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prediction:
    """What a network gives with the weights of a super-network; no figure of the network itself.

    Attributes:
        error: Share of validation records that it puts into a wrong class.
        leakage: AUC of the study's attack on it.
    """

    error: float
    leakage: float


def build_supernet(spec: SuperSpec, folder: Path) -> dict[str, Tensor]:
    """Return the shared tensors by name, training them unless they are in the folder.

    Several processes may call this at once: one of them trains. A file that cannot be read is made anew.

    Args:
        spec: What the super-network is.
        folder: Where it is kept.

    Raises:
        nas.training.loop.Diverged: If its loss is not finite.
    """
    files.private_folder(folder)
    path = folder / f"supernet-{spec.key}.safetensors"
    with locks.held(path.with_suffix(".lock")):
        if path.exists():
            with suppress(ValueError):
                return {name: tensor.to(compute_device()) for name, tensor in read_weights(path).items()}
        shared = train_supernet(spec)
        write_tensors(path, shared, files.OWNER)
    return shared


def train_supernet(spec: SuperSpec) -> dict[str, Tensor]:
    """Train the shared tensors and return them by name.

    Raises:
        nas.training.loop.Diverged: If the loss is not finite at the end of an epoch.
    """
    place, recipe, members = compute_device(), spec.recipe, spec.data.members
    features, labels = (torch.from_numpy(values).to(place) for values in (members.features, members.labels))
    setup = plain_setup(spec.networks[0], features, labels, recipe, spec.seed)
    pupil = _Pupil({name: tensor.to(place) for name, tensor in _initial(spec).items()}, recipe)
    steps = steps_per_epoch(len(features), recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        pupil.scheduled, max_lr=recipe.learning_rate, total_steps=steps * recipe.epochs
    )
    order, drawn = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)  # of dropout
        for epoch in range(recipe.epochs):
            for rows in shuffled(len(features), steps, order):
                network = replace(setup, architecture=spec.networks[drawn.integers(len(spec.networks))])
                batch = flip_crop(features[rows], order) if recipe.augment == "flip-crop" else features[rows]
                loss = pupil.step(network, shares_of(network.architecture, spec.layer_names), batch, labels[rows])
                schedule.step()
            if not torch.isfinite(loss):
                raise Diverged(f"the loss of the super-network became {loss.item()} in epoch {epoch + 1}")
    return pupil.shared


class _Pupil:
    """Shared tensors in training, with what an optimizer remembers of each.

    A step is that of an optimizer of its own, over the views that its network takes, with views of what was remembered
    of them: what a network does not take is neither read nor written.

    Attributes:
        shared: The tensors, by name.
        scheduled: Holds the learning rate of the next step; it has nothing to optimise.
    """

    def __init__(self, shared: dict[str, Tensor], recipe: Recipe) -> None:
        self.shared, self._recipe = shared, recipe
        self.scheduled = optimizer_of([nn.Parameter(torch.zeros(1))], recipe)
        kinds = ("exp_avg", "exp_avg_sq") if recipe.optimizer == "adamw" else ("momentum_buffer",)
        self._memory = {kind: {name: torch.zeros_like(tensor) for name, tensor in shared.items()} for kind in kinds}
        self._steps = {name: torch.tensor(0.0) for name in shared}

    def step(self, setup: TrainSetup, shares: Mapping[str, Share], batch: Tensor, targets: Tensor) -> Tensor:
        """Train one network on one batch, and return its loss."""
        network = _filled(setup, self.shared, shares).train()
        own = {network.get_parameter(name): share for name, share in shares.items()}
        optimizer = optimizer_of(own, self._recipe)
        scheduled = self.scheduled.param_groups[0]
        rates: dict[str, Any] = {name: scheduled[name] for name in ("lr", "betas", "momentum") if name in scheduled}
        for group in optimizer.param_groups:
            group |= {**rates, "fused": False, "foreach": False}  # those are for tensors that lie in one piece
        for parameter, share in own.items():
            remembered = {kind: _view(tensors, share) for kind, tensors in self._memory.items()}
            optimizer.state[parameter] = {"step": self._steps[share.name], **remembered}
        loss = setup.loss(network(batch), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.scheduled.step()  # does nothing; a schedule counts it
        return loss.detach()


def sub_network(
    shared: Mapping[str, Tensor], architecture: Architecture, layer_names: LayerNames, members: Tensor
) -> Network:
    """Return a network in eval mode that is filled with what it takes of shared tensors, and calibrated.

    Args:
        shared: The tensors, by name.
        architecture: The network.
        layer_names: Names its layers.
        members: Features `(records, ...)` that statistics of norms and ranges of tensors are made of.
    """
    labels = torch.zeros(len(members), dtype=torch.long, device=members.device)
    setup = plain_setup(architecture, members, labels, Recipe(), seed=0)
    network = _filled(setup, shared, shares_of(architecture, layer_names)).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this batch alone
    with torch.no_grad():
        network(members)
    return network.eval()


@dataclass(frozen=True, eq=False)
class Screen:
    """Predicts what networks give, from shared tensors.

    Attributes:
        spec: What the super-network is.
        shared: Its tensors, by name.
        attack: Gives each record a score, higher for members.
        bank: The study's reference networks on the records that are attacked; None for attacks without.
        calibrating: Features `(records, ...)` of some members.
        asked: Features `(records, ...)` of members, then non-members, then validation records.
        labels: `(records,)`, theirs.
        members: How many of those records are members.
        attacked: How many are members or non-members.
    """

    spec: SuperSpec
    shared: Mapping[str, Tensor]
    attack: Attack
    bank: Bank | None
    calibrating: Tensor
    asked: NDArray[np.float32]
    labels: NDArray[np.int64]
    members: int
    attacked: int

    def predict(self, architecture: Architecture) -> Prediction | None:
        """Predict a network; None if the shared tensors do not hold all that it takes, or its logits are not finite."""
        if not is_covered(shares_of(architecture, self.spec.layer_names), self.spec.shapes):
            return None
        network = sub_network(self.shared, architecture, self.spec.layer_names, self.calibrating)
        try:
            logits = outputs(network, self.asked)
        except Diverged:
            return None
        wrong = logits.argmax(axis=1)[self.attacked :] != self.labels[self.attacked :]
        evidence = Evidence(logits[: self.attacked], self.labels[: self.attacked], self.bank)
        is_member = np.arange(self.attacked) < self.members
        return Prediction(float(wrong.mean()), auc(self.attack(evidence), is_member))


def screen_with(spec: SuperSpec, shared: Mapping[str, Tensor], attack: Attack, bank: Bank | None) -> Screen:
    """Put together what predicts networks.

    Args:
        spec: What the super-network is.
        shared: Its tensors, by name.
        attack: Gives each record a score, higher for members.
        bank: The study's reference networks on members followed by non-members; None for attacks without references.
    """
    data = spec.data
    parts = (data.members, data.non_members, data.validation)
    rows = [_some(len(part), ASKED, seed_from(spec.seed, "asked", place)) for place, part in enumerate(parts)]
    attacked = np.concatenate([rows[0], rows[1] + len(data.members)])
    calibrating = _some(len(data.members), CALIBRATED, seed_from(spec.seed, "calibration"))
    return Screen(
        spec,
        shared,
        attack,
        None if bank is None else bank.part(records=attacked),
        torch.from_numpy(data.members.features[calibrating]).to(compute_device()),
        np.concatenate([part.features[some] for part, some in zip(parts, rows, strict=True)]),
        np.concatenate([part.labels[some] for part, some in zip(parts, rows, strict=True)]),
        members=len(rows[0]),
        attacked=len(attacked),
    )


def _some(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Choose some of so many records at random, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _initial(spec: SuperSpec) -> dict[str, Tensor]:
    """Return the tensors before any training: norms at one, weights of the size that torch gives the median network.

    For the largest network they would be smaller, and a step would overwrite those of a small one.
    """
    inputs: dict[str, list[int]] = {}
    for network in spec.networks:
        for share in shares_of(network, spec.layer_names).values():
            inputs.setdefault(share.name, []).append(prod(share.shape[1:]))
    random, found = torch.Generator().manual_seed(spec.seed), {}
    for name, shape in sorted(spec.shapes.items()):
        found[name] = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        if len(shape) > 1:
            most = float(np.median(inputs[name])) ** -0.5
            found[name].uniform_(-most, most, generator=random)
    return found


def _filled(setup: TrainSetup, shared: Mapping[str, Tensor], shares: Mapping[str, Share]) -> Network:
    """Build a network whose parameters are views of what it takes, and fit the steps of few-bit weights to them."""
    network = built(setup)
    for name, share in shares.items():
        network.get_parameter(name).data = _view(shared, share)
    for module in network.modules():
        if isinstance(module, QuantConv2d | QuantLinear):
            fit_step(module)
    return network


def _view(shared: Mapping[str, Tensor], share: Share) -> Tensor:
    whole = shared[share.name]
    return whole[part_of(tuple(whole.shape), share.shape)]
