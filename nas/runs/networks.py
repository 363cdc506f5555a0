"""Price one architecture given by hand, by a file or by a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from estimators.devices.fields import CannotRun
from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from estimators.estimate import Estimate
from nas.base import files
from nas.base import plugins
from nas.pricing import crosscheck
from nas.runs import report
from nas.search.config import load_config
from nas.search.storage import load_study
from nas.training.assess import screen
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Shape


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
    if text.rpartition(":")[2].isdigit() or report.space_named(space, input_shape, classes).parse is None:
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
    made = report.space_named(space, input_shape, classes)
    if made.parse is None:
        raise ValueError(f"expected JSON of parameters, the space {space!r} has no text of its own; got {text!r}")
    return made.decode(made.parse(text))


def price_on(architecture: Architecture, device: str) -> tuple[dict[str, dict[str, Estimate]], dict[str, str]]:
    """Price an architecture on one device, or on all of them with `all`.

    Returns:
        Its costs by device, and, of all devices, why the others cannot run it.

    Raises:
        ValueError: If the one device cannot run it.
    """
    if device != "all":
        chip = load_device(device)
        try:
            return {device: screen(architecture, chip)}, {}
        except CannotRun as error:
            raise ValueError(f"{chip.name} cannot run it: {error}") from None
    priced, refused = {}, {}
    for name in available_devices():
        try:
            priced[name] = screen(architecture, load_device(name))
        except CannotRun as error:
            refused[name] = str(error)
    return priced, refused


def check(architecture: Architecture) -> dict[str, dict[str, int]]:
    """Count MACs and parameters with other people's tools.

    Raises:
        ValueError: If one of them disagrees with ours.
    """
    ours = {
        name: int(plugins.load("estimators.cost", name, "estimate")(architecture, load_device("stm32h747")).value)
        for name in ("macs", "params")
    }
    counted = crosscheck.counts(architecture)
    wrong = [f"{tool} {numbers}" for tool, numbers in counted.items() if numbers != ours]
    if wrong:
        raise ValueError(f"counts differ: ours {ours}, {', '.join(wrong)}")
    return counted


def _decoded(found: Any, space: str, input_shape: Shape | None, classes: int | None) -> Architecture:
    if not isinstance(found, dict):
        raise ValueError(f"expected an object of parameters; got {found!r}")
    if "params" in found:
        space, input_shape, classes, found = _task(found)
    made = report.space_named(space, input_shape, classes)
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
