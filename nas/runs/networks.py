"""Find the network that a user means, with its weights and with records to calibrate and check it on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.base import files
from nas.base import sizes
from nas.base.reading import read_text
from nas.base.weights import read_weights
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged
from nas.preprocessing.stored import PREPROCESSING
from nas.preprocessing.stored import from_json
from nas.records import Records
from nas.records import Source
from nas.runs.architectures import check_unchanged
from nas.runs.architectures import read_architecture
from nas.runs.retrained import RETRAINED_ON
from nas.runs.run import Run
from nas.runs.run import open_run
from nas.search.config import Parameter
from nas.search.config import load_config
from nas.search.schema import WEIGHTS
from nas.training.defence import deployed_network
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.network import Network
from search_spaces.network import build

RANDOM_RECORDS = 256
VALUES_AT_ONCE = 2**26
"""Elements of one tensor over all random records together: large tensors are checked on fewer records."""


@dataclass(frozen=True, eq=False)
class UserNetwork:
    """A network that a user names, with records to calibrate and check it on.

    Attributes:
        architecture: The graph.
        network: The network, in eval mode.
        trained: Whether its weights are trained; if not, they are random, for timing only.
        preprocessing: What it was trained behind; nothing, with random weights.
        calibration: `(records, *input_shape)`, standardised, to set the 8-bit ranges.
        check: `(records, *input_shape)`, as the data have them, to compare with PyTorch.
        is_retrained: Whether the weights are those of a pick that was trained anew on all records.
        labels: `(records,)`, the classes of the check records; None with random weights.
        members: What the network was trained on, as the data have it; None with random weights.
        non_members: As many others, for the leakage; None with random weights.
        device: Name of the run's device; None with random weights.
        run: The run that it was trained in; None with random weights.
    """

    architecture: Architecture
    network: Network
    trained: bool
    preprocessing: Preprocessing
    calibration: Tensor
    check: Tensor
    is_retrained: bool = False
    labels: Tensor | None = None
    members: Labelled | None = None
    non_members: Labelled | None = None
    device: str | None = None
    run: Run | None = None


def find_network(
    text: str | None,
    space: str | None,
    input_shape: Shape | None,
    classes: int | None,
    runs: Path,
    *,
    changes: Mapping[str, Parameter] | None = None,
    seed: int = 0,
) -> UserNetwork:
    """Find the network that a user names.

    Args:
        text: Folder written by `nas pick`, for its trained weights; or anything
            `nas.runs.architectures.read_architecture` takes, for random ones.
        space: As in `read_architecture`.
        input_shape: As in `read_architecture`.
        classes: As in `read_architecture`.
        runs: Folder of all runs.
        changes: As in `read_architecture`.
        seed: Seed of random weights and records.

    Raises:
        ValueError: If the text is none of these, or the run's data cannot be read.
    """
    if text and not text.lstrip().startswith("{") and Path(text).is_dir():  # JSON may be too long for a name
        folder = Path(text)
        check_unchanged(text, changes)
        architecture, network = read_pick(folder)
        behind = read_preprocessing(folder, architecture)
        found = network_of_run(run_of(folder), architecture, network, behind)
        return replace(found, is_retrained=RETRAINED_ON in files.read_json(folder / "architecture.json"))
    architecture = read_architecture(text, space, input_shape, classes, runs, changes=changes)
    check_buildable(architecture)
    largest = max(op.size for op in architecture.ops)
    count = max(1, min(RANDOM_RECORDS, VALUES_AT_ONCE // largest))
    shape = (2, count, *architecture.input_shape)
    records = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    behind = unchanged(architecture.input_shape)
    return UserNetwork(architecture, build(architecture, seed=seed).eval(), False, behind, records[0], records[1])


def network_of_run(run: Run, architecture: Architecture, network: Network, behind: Preprocessing) -> UserNetwork:
    """Put together a trained network of a run and the run's records.

    Args:
        run: The run.
        architecture: The graph of one of its candidates.
        network: That candidate, in eval mode.
        behind: What it was trained behind.

    Raises:
        ValueError: If the run's data cannot be read, or are not those of the search.
    """
    calibration = torch.from_numpy(run.data.reserve.features)  # members would mark the ranges
    validation = _labelled(run.sets["validation"])
    return UserNetwork(
        architecture,
        network,
        True,
        behind,
        calibration=calibration,
        check=validation.features,
        labels=validation.labels,
        members=_labelled(run.sets["members"]),
        non_members=_labelled(run.sets["non_members"]),
        device=run.config.device,
        run=run,
    )


def check_buildable(architecture: Architecture) -> None:
    """Refuse to build a network whose weights or tensors would take the machine's memory.

    Raises:
        ValueError: If it has too many weights, or a tensor has too many elements.
    """
    weights = sum(kernel.weights for kernel in architecture.kernels)
    largest = max(op.size for op in architecture.ops)
    for count, what in ((weights, "weights"), (largest, "elements in a tensor")):
        if count > sizes.MOST_WEIGHTS:
            raise ValueError(f"expected a network of at most {sizes.MOST_WEIGHTS:,} {what}; got {count:,}")
    sizes.check_memory(4 * 4 * (weights + largest), "the network")


def run_of(pick: Path) -> Run:
    """Return the run that a pick lies in.

    Raises:
        ValueError: If it lies in none.
    """
    folder = pick.resolve().parent.parent
    if not (folder / "config.toml").is_file():
        raise ValueError(f"expected a pick inside its run, to calibrate on the run's data; there is no run in {folder}")
    return open_run(str(folder), folder.parent)


def _labelled(records: Records) -> Labelled:
    return Labelled(torch.from_numpy(records.features), torch.from_numpy(records.labels))


def read_pick(folder: Path) -> tuple[Architecture, Network]:
    """Read the architecture and the trained network, in eval mode, from a folder that `nas pick` wrote.

    Raises:
        ValueError: If files are missing, or belong to another network or version.
    """
    described, weights = folder / "architecture.json", folder / "weights.safetensors"
    if not (described.is_file() and weights.is_file()):
        raise ValueError(
            f"expected a folder that nas pick wrote, with {described.name} and {weights.name}; got {folder}"
        )
    architecture = read_architecture(str(described), "", (), 0, folder)
    told = files.read_json(described)
    if (key := told.get("key")) != architecture.key:
        raise ValueError(f"expected the network {key} in {described}; this version builds {architecture.key} of it")
    if WEIGHTS not in told:
        raise ValueError(
            f"expected the digest of the weights as {WEIGHTS!r} in {described}; there is none: pick the candidate again"
        )
    if files.digest_of(weights) != told[WEIGHTS]:
        raise ValueError(f"expected the weights that were measured in {weights}; got others: pick the candidate again")
    check_buildable(architecture)
    network = deployed_network(architecture, *_defence_in(described))
    try:
        network.load_state_dict(read_weights(weights))
    except RuntimeError:
        raise ValueError(f"expected the weights of network {architecture.key} in {weights}; got others") from None
    return architecture, network.eval()


def read_preprocessing(folder: Path, architecture: Architecture) -> Preprocessing:
    """Read what a pick was trained behind.

    Raises:
        ValueError: If it is missing, as in a pick of an earlier version, or belongs to another network.
    """
    path = folder / PREPROCESSING
    if not path.is_file():
        raise ValueError(
            f"expected what the network was trained behind in {path}; there is none, and without it records as a user "
            "has them get wrong answers: pick the candidate again"
        )
    behind = from_json(read_text(path), str(path))
    got = behind.arrangement.input_shape, len(behind.classes)
    if got != (expected := (architecture.input_shape, architecture.num_classes)):
        raise ValueError(
            f"expected a preprocessing to records {expected[0]} of {expected[1]} classes in {path}; got {got[0]} and "
            f"{got[1]}"
        )
    return behind


def open_pick(folder: Path) -> tuple[Preprocessing, Callable[[NDArray[Any]], NDArray[np.float32]], Source | None]:
    """Open a pick to ask it about new records.

    Returns:
        What the network was trained behind; what returns its logits `(records, classes)` about records as an exported
        network takes them; and where the run's own records are, None for a pick outside its run.

    Raises:
        ValueError: If files are missing, or belong to another network or version.
    """
    architecture, network = read_pick(folder)
    behind = read_preprocessing(folder, architecture)

    def answer(records: NDArray[Any]) -> NDArray[np.float32]:
        return logits_of(network, torch.from_numpy(behind.standardised(behind.arrangement.apply(records))))

    settings = folder.resolve().parent.parent / "config.toml"
    return behind, answer, load_config(settings, {}).source if settings.is_file() else None


def _defence_in(described: Path) -> tuple[str, Params]:
    """Read the defence of a pick and its parameters; a pick of an earlier version has none that changes answers."""
    written = files.read_json(described)
    name, parameters = written.get("defence", "none"), written.get("defence_parameters", {})
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise ValueError(f"expected a name as defence and an object as its parameters in {described}")
    return name, parameters
