"""The study's reference bank: small networks trained once, against which every candidate's outputs are held.

Each reference is trained on a random half of members and non-members, as many records as a candidate sees. References
come in complementary pairs, so every record is left out by exactly half of them. Records of one group, such as one
person's, are in one half together. Each reference is kept in a file of its own under a key of data, split, recipe and
training version: a later, larger bank reuses them, and several workers share the work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from nas.base import files
from nas.base import locks
from nas.records import Splits
from nas.training.loop import compute_device
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.loop import training_version
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from search_spaces.graph.architecture import Architecture


@dataclass(frozen=True, eq=False)
class BankSpec:
    """What the references are.

    Attributes:
        data: The record sets; references learn from members and non-members only. Groups of theirs are halved whole.
        architecture: The network every reference uses.
        recipe: How each is trained.
        references: How many; an even number, at least two.
        seed: Fixes which half each reference sees, and its training.

    Raises:
        ValueError: If the number of references is odd or below two.
    """

    data: Splits
    architecture: Architecture
    recipe: Recipe
    references: int
    seed: int

    def __post_init__(self) -> None:
        if self.references < 2 or self.references % 2:
            raise ValueError(f"expected an even number of references, at least 2; got {self.references}")

    @property
    def groups(self) -> NDArray[Any] | None:
        """Which records of members and non-members stay together, `(records,)`, from 0; None without groups."""
        of_members, of_others = self.data.members.groups, self.data.non_members.groups
        if of_members is None or of_others is None:
            return None
        return np.unique(np.concatenate([of_members, of_others]), return_inverse=True)[1]

    def trained_on(self, reference: int) -> NDArray[np.bool_]:
        """Tell which members and non-members a reference is trained on: `(records,)`."""
        records = len(self.data.members) + len(self.data.non_members)
        return halves(records, reference, self.seed, self.groups)

    @property
    def what(self) -> str:
        """All that decides a reference but the program; the number of references does not."""
        parts = [self.data.fingerprint, self.architecture.key, self.recipe.identity, self.seed]
        if self.groups is not None:  # without groups the key stays what it was before there were any
            parts.append(hashlib.sha256(json.dumps(self.groups.tolist()).encode()).hexdigest())
        return json.dumps(parts, sort_keys=True)

    @property
    def key(self) -> str:
        """Sixteen hex digits over all that decides a reference's logits."""
        return hashlib.sha256(f"{self.what} {training_version()}".encode()).hexdigest()[:16]

    def paths(self, folder: Path) -> list[Path]:
        """Files that hold the references' logits, one each."""
        return [folder / f"reference-{self.key}-{reference}.npz" for reference in range(self.references)]


def halves(records: int, reference: int, seed: int, groups: NDArray[Any] | None = None) -> NDArray[np.bool_]:
    """Tell which records a reference is trained on: `(records,)`. Its partner sees exactly the others.

    Records of one group, such as one person's, stay on one side: groups in random order are taken while they fit into
    half of the records, so that the halves differ by less than one group.

    Args:
        records: How many.
        reference: Its number.
        seed: Of the draw.
        groups: `(records,)`, equal for records that stay together; None: each record is on its own.

    >>> (halves(10, 0, seed=3) ^ halves(10, 1, seed=3)).all()
    np.True_
    >>> mask = halves(6, 0, seed=3, groups=np.array([0, 0, 1, 1, 2, 2]))
    >>> (mask[::2] == mask[1::2]).all()
    np.True_
    """
    rng = np.random.default_rng([seed, reference // 2])
    mask = np.zeros(records, dtype=bool)
    if groups is None:
        mask[rng.permutation(records)[: records // 2]] = True
    else:
        mask = _whole(groups, rng)
    return mask if reference % 2 == 0 else ~mask


def _whole(groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose whole groups at random, of about half of the records together."""
    _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    chosen, left = np.zeros(len(sizes), dtype=bool), len(groups) // 2
    for group in rng.permutation(len(sizes)):
        if sizes[group] <= left:
            chosen[group] = True
            left -= int(sizes[group])
    return np.asarray(chosen[which])


def reference_logits(spec: BankSpec, reference: int) -> NDArray[np.float32]:
    """Train one reference and return its logits on members followed by non-members: `(records, classes)`."""
    place = compute_device()
    parts = (spec.data.members, spec.data.non_members)
    features = torch.from_numpy(np.concatenate([part.features for part in parts])).to(place)
    labels = torch.from_numpy(np.concatenate([part.labels for part in parts])).to(place)
    rows = torch.from_numpy(np.flatnonzero(spec.trained_on(reference))).to(place)
    seed = seed_from(spec.seed, spec.what, reference)
    network = train(plain_setup(spec.architecture, features[rows], labels[rows], spec.recipe, seed))
    return logits_of(network, features)


def build_bank(spec: BankSpec, folder: Path) -> Bank:
    """Return the bank, training what is not in the folder yet.

    Several processes may call this at once: each reference is trained by one of them.

    Args:
        spec: What the references are.
        folder: Where references are kept.
    """
    files.private_folder(folder)
    paths = spec.paths(folder)
    for patient in (False, True):  # first take what nobody works on, then wait for what others do
        for reference, path in enumerate(paths):
            with locks.held(path.with_suffix(".lock"), patient=patient) as mine:
                if mine:
                    cached_logits(path, partial(reference_logits, spec, reference))
    data = spec.data
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    logits = np.stack([files.read_array(path, "logits") for path in paths])
    trained_on = np.stack([spec.trained_on(reference) for reference in range(spec.references)])
    return Bank(logits, trained_on, labels)


def cached_logits(path: Path, train_anew: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Read a network's logits from the cache, or train it and keep them; hold a lock around it.

    A file that cannot be read (a disk that lost power leaves such) is made anew.
    """
    if path.exists():
        with suppress(ValueError):
            return files.read_array(path, "logits")
    logits = train_anew()
    files.write_arrays(path, mode=files.OWNER, logits=logits)
    return logits
