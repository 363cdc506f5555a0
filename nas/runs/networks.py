"""Price one architecture given by hand, by a file or by a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas import spaces
from nas.base import files
from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.runs import report
from nas.search.config import load_config
from nas.search.storage import load_study
from nas.training.defence import deployed_network
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.network import Network
from search_spaces.network import build


def read_architecture(
    text: str | None, space: str, input_shape: Shape | None, classes: int | None, runs: Path
) -> Architecture:
    """Find the architecture that a user means.

    Args:
        text: JSON of parameters, the path of a JSON file (of parameters, or one written by `nas pick`), RUN:NUMBER, the
            space's own text of a point, or None for the space's reference. Parameters left out are the reference's.
        space: Space of the parameters, where the text does not say.
        input_shape: Shape of one record, where the text does not say; None: the space's usual one.
        classes: Number of classes, where the text does not say; None: the usual number.
        runs: Folder of all runs.

    Raises:
        ValueError: If the text is none of these or does not belong to the space.
    """
    if not text or text.lstrip().startswith("{"):
        return parse_architecture(text or "{}", space, input_shape, classes)
    if Path(text).exists():
        return _decoded(files.read_json(Path(text)), space, input_shape, classes)
    if text.rpartition(":")[2].isdigit() or spaces.space_named(space, input_shape, classes).parse is None:
        return _from_run(text, runs)
    return parse_architecture(text, space, input_shape, classes)


def parse_architecture(text: str, space: str, input_shape: Shape | None, classes: int | None) -> Architecture:
    """Read JSON of parameters, those left out being the reference's, or what the space itself calls a point.

    Args:
        text: An object of parameters, what `nas pick` writes, or the space's own text (a cell of NAS-Bench-201).
        space: Space of the parameters, where the text does not say.
        input_shape: Shape of one record, where the text does not say; None: the space's usual one.
        classes: Number of classes, where the text does not say; None: the usual number.

    Raises:
        ValueError: If the text is none of these or does not belong to the space.
    """
    if text.lstrip().startswith("{"):
        return _decoded(_parse(text), space, input_shape, classes)
    made = spaces.space_named(space, input_shape, classes)
    if made.parse is None:
        raise ValueError(f"expected JSON of parameters, the space {space!r} has no text of its own; got {text!r}")
    return made.decode(made.parse(text))


def _decoded(found: Any, space: str, input_shape: Shape | None, classes: int | None) -> Architecture:
    if not isinstance(found, dict):
        raise ValueError(f"expected an object of parameters; got {found!r}")
    if "params" in found:
        space, input_shape, classes, found = _task(found)
    made = spaces.space_named(space, input_shape, classes)
    return made.decode({**made.reference, **found})


def _from_run(text: str, runs: Path) -> Architecture:
    name, _, number = text.partition(":")
    if not number.isdigit():
        raise ValueError(f"expected JSON, a file or RUN:NUMBER; got {text!r}, and there is no such file")
    folder = runs / name
    settings = folder / "config.toml"
    storage = load_config(settings, {}).storage if settings.exists() else None
    study = load_study(name, folder, storage)
    trials = study.get_trials(deepcopy=False)
    if int(number) >= len(trials):
        raise ValueError(f"no trial {number} in {name!r}; there are 0 to {len(trials) - 1}")
    if not trials[int(number)].params.keys() >= report.space_of(study).distributions.keys():
        raise ValueError(f"trial {number} of {name!r} has no architecture: it was not sampled to the end")
    return report.architecture_of(study, trials[int(number)])


def _task(written: dict[str, Any]) -> tuple[str, Shape, int, dict[str, Any]]:
    """Read what `nas pick` wrote: space, input shape, number of classes and parameters."""
    if missing := [name for name in ("space", "input_shape", "num_classes") if name not in written]:
        raise ValueError(f"expected parameters, or what nas pick writes; missing beside 'params': {missing}")
    space, shape, classes, params = (written[name] for name in ("space", "input_shape", "num_classes", "params"))
    if not isinstance(shape, list) or not all(type(length) is int for length in [*shape, classes]):
        raise ValueError(f"expected whole numbers as input_shape and num_classes; got {shape!r} and {classes!r}")
    if not isinstance(space, str) or not isinstance(params, dict):
        raise ValueError(f"expected a name as space and an object as params; got {space!r} and {params!r}")
    return space, tuple(shape), classes, params


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON; got {text!r}: {error}") from None


RANDOM_RECORDS = 256


@dataclass(frozen=True, eq=False)
class Found:
    """A network that a user means, with records to calibrate and check it on.

    Attributes:
        architecture: The graph.
        network: The network, in eval mode.
        trained: Whether its weights were learned; else they are random, good for timing only.
        calibration: `(records, *input_shape)`: set the 8-bit ranges.
        check: `(records, *input_shape)`: compared with PyTorch.
    """

    architecture: Architecture
    network: Network
    trained: bool
    calibration: Tensor
    check: Tensor


def find(
    text: str | None, space: str, input_shape: Shape | None, classes: int | None, runs: Path, *, seed: int = 0
) -> Found:
    """Find the network that a user means.

    Args:
        text: Folder written by `nas pick`, for its trained weights; or anything `nas.runs.networks.read_architecture`
            takes, for random ones.
        space: Space of the parameters, where the text does not say.
        input_shape: Shape of one record, where the text does not say; None: the space's usual one.
        classes: Number of classes, where the text does not say; None: the usual number.
        runs: Folder of all runs.
        seed: Seed of random weights and records.

    Raises:
        ValueError: If the text is none of these, or the run's data cannot be read any more.
    """
    if text and Path(text).is_dir():
        folder = Path(text)
        architecture, network = read_pick(folder)
        return Found(architecture, network, True, *_records_of_run(folder.resolve().parents[1]))
    architecture = read_architecture(text, space, input_shape, classes, runs)
    shape = (2, RANDOM_RECORDS, *architecture.input_shape)
    records = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Found(architecture, build(architecture, seed=seed).eval(), False, records[0], records[1])


def _records_of_run(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the run's reserve, to calibrate, and validation records, to check; members would mark the ranges."""
    settings = folder / "config.toml"
    if not settings.is_file():
        raise ValueError(f"expected a pick inside its run, to calibrate on the run's data; there is no {settings}")
    config = load_config(settings, {})
    source = Source(config.dataset, config.data_path, config.label_column, config.group_column)
    data = split(load_records(source), seed=config.seed, members=config.members)
    return torch.from_numpy(data.reserve.features), torch.from_numpy(data.validation.features)


def read_pick(folder: Path) -> tuple[Architecture, Network]:
    """Read the architecture and the trained network, in eval mode, from a folder that `nas pick` wrote.

    Raises:
        ValueError: If files are missing, or were not written by this version for this network.
    """
    described, weights = folder / "architecture.json", folder / "weights.safetensors"
    if not (described.is_file() and weights.is_file()):
        raise ValueError(
            f"expected a folder that nas pick wrote, with {described.name} and {weights.name}; got {folder}"
        )
    architecture = read_architecture(str(described), "", (), 0, folder)
    if (key := files.read_json(described).get("key")) != architecture.key:
        raise ValueError(f"expected the network {key} in {described}; this version builds {architecture.key} of it")
    network = deployed_network(architecture, *_defence_in(described))
    try:
        network.load_state_dict(files.read_weights(weights))
    except RuntimeError:
        raise ValueError(f"expected the weights of network {architecture.key} in {weights}; got others") from None
    return architecture, network.eval()


def _defence_in(described: Path) -> tuple[str, Params]:
    """Read the defence of a pick and its parameters; a pick of an earlier version has none that changes answers."""
    written = files.read_json(described)
    name, parameters = written.get("defence", "none"), written.get("defence_parameters", {})
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise ValueError(f"expected a name as defence and an object as its parameters in {described}")
    return name, parameters
