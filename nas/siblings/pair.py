"""The two networks that are compared, as a user names them, and the control beside the shipped one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from optuna.trial import FrozenTrial

from nas.base import files
from nas.base import processes
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import Records
from nas.runs.networks import read_pick
from nas.runs.networks import run_of
from nas.runs.retrained import RETRAINED_ON
from nas.runs.run import Run
from nas.runs.run import open_trained
from nas.search.bench import train_line
from nas.search.parents import line_of
from nas.training.loop import compute_device
from nas.training.post_training import BITS
from nas.training.post_training import quantized_afterwards
from search_spaces.graph.integers import in_integers
from search_spaces.network import Network

UNPAIRED = "unpaired_from"
"""Key of an unpaired pick's `architecture.json`: the SHA-256 of the weights of the server network."""


@dataclass(frozen=True, eq=False)
class Named:
    """A network that a user names.

    Attributes:
        text: How.
        run: The run that it is of.
        trial: The candidate whose recipe it was trained by.
        network: In eval mode, with the bits that were asked for.
        is_unpaired: Whether it was fine-tuned after the search.
        bits: What was in float is rounded to so many bits after training; None: nothing is.
    """

    text: str
    run: Run
    trial: FrozenTrial
    network: Network
    is_unpaired: bool = False
    bits: int | None = None

    @property
    def label(self) -> str:
        """The network in a report: candidate, run and bits."""
        parts = [f"candidate {self.trial.number} of {self.run.name}"]
        parts += ["unpaired"] * self.is_unpaired
        parts += [] if self.bits is None else [f"rounded to {self.bits} bits"]
        return ", ".join(parts)


def named(text: str, runs: Path, bits: int | None = None) -> Named:
    """Find a trained network with the weights that were measured.

    Args:
        text: RUN:NUMBER, or a folder that `nas pick` or an unpairing wrote.
        runs: Folder of all runs.
        bits: Round what is in float to so many bits after training; None: leave it.

    Raises:
        ValueError: If it is neither, its run's data or weights are not those of the search, it was trained on all
            records, or nothing in it is in float to round.
    """
    name, _, number = text.rpartition(":")
    if Path(text).is_dir():
        found = _of_folder(text, Path(text))
    elif name and number.isdigit():
        run = open_trained(name, runs)
        trial = run.trained(int(number))
        found = Named(text, run, trial, run.network(trial))
    else:
        raise ValueError(f"expected RUN:NUMBER or a folder that nas pick wrote; got {text!r}")
    network = found.network
    if bits is not None:
        network = rounded(network, bits, found.run.data.reserve)
    return Named(text, found.run, found.trial, network.to(compute_device()), found.is_unpaired, bits)


def _of_folder(text: str, folder: Path) -> Named:
    architecture, network = read_pick(folder)
    told = files.read_json(folder / "architecture.json")
    if RETRAINED_ON in told:
        raise ValueError(
            f"expected a network that was trained on the members alone; {text} was trained on all records, and none is "
            "left to compare it on"
        )
    run = run_of(folder)
    number = folder.resolve().name.partition("-")[0]
    if not number.isdigit():
        raise ValueError(f"expected a pick's folder with the candidate's number as its name; got {text!r}")
    trial = run.trained(int(number))
    if run.architecture(trial).as_float().key != architecture.as_float().key:
        raise ValueError(f"expected a pick of candidate {number} of {run.name!r} in {text}; its network is another one")
    return Named(text, run, trial, network, UNPAIRED in told)


def rounded(network: Network, bits: int, calibration: Records) -> Network:
    """Round what a network has in float after training, where an engine in integers would.

    Args:
        network: In eval mode.
        bits: One of `nas.training.post_training.BITS`.
        calibration: Records that it was not trained on; they set the ranges of its tensors.

    Raises:
        ValueError: If the number of bits is none of these, or nothing in the network is in float.
    """
    if bits not in BITS:
        raise ValueError(f"expected --bits out of {list(BITS)}; got {bits}")
    architecture = in_integers(network.architecture, bits)
    if architecture is network.architecture:
        raise ValueError("expected a network with weights or tensors in float for --bits; all are quantised already")
    return quantized_afterwards(network, architecture, torch.from_numpy(calibration.features))


def check_siblings(shipped: Named, server: Named) -> None:
    """Refuse two networks that no one record could be given to, or that learned from different records.

    Raises:
        ValueError: If classes, the records and their division, or what the networks are trained behind differ.
    """
    one, other = (found.run.data for found in (shipped, server))
    classes = [data.preprocessing.classes for data in (one, other)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"expected two networks of the same classes; {shipped.text} has {_some(classes[0])} and {server.text} "
            f"{_some(classes[1])}"
        )
    if one.fingerprint != other.fingerprint:
        raise ValueError(
            f"expected two networks of the same records, divided in the same way; those of {shipped.text} and "
            f"{server.text} differ: search both with the same data, members and seed"
        )
    if not _equal(one.preprocessing, other.preprocessing):
        raise ValueError(
            f"expected two networks that read records alike; {shipped.text} and {server.text} stand behind different "
            "transforms"
        )


def _some(classes: tuple[str, ...]) -> str:
    return str(list(classes)) if len(classes) <= 5 else f"{len(classes)}, from {classes[0]!r} to {classes[-1]!r}"


def _equal(one: Preprocessing, other: Preprocessing) -> bool:
    return (
        one.columns == other.columns
        and one.arrangement == other.arrangement
        and np.array_equal(one.mean, other.mean)
        and np.array_equal(one.deviation, other.deviation)
    )


def control_of(shipped: Named) -> Network:
    """Train a network as the shipped one was trained, from another seed: alike in everything but its checkpoint.

    Its architecture, recipe, defence, members and bits are the same, and so is the line of candidates whose weights it
    starts from.

    Raises:
        ValueError: If the run's data, device or program are not those of the search, or the training diverged.
    """
    plan = shipped.run.plan
    line = [plan.candidate(one.params) for one in line_of(shipped.run.study, shipped.trial)]
    members = plan.data.members
    with processes.one_thread():
        _, network = train_line(plan, line, members.features, members.labels, "control")
    if not isinstance(network, Network):
        raise TypeError(f"expected a Network; got {type(network).__name__}")
    return network if shipped.bits is None else rounded(network, shipped.bits, plan.data.reserve)
