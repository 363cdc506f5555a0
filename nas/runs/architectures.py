"""Find the architecture that a user means: by parameters, a file, a run's candidate, or its own name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas import spaces
from nas.base import files
from nas.base import plugins
from nas.base.reading import parse_json
from nas.preprocessing.stored import PREPROCESSING
from nas.runs.run import open_run
from nas.search.config import Parameter
from nas.search.config import load_config
from nas.search.narrowing import changed
from nas.search.schema import COMPRESSIONS
from nas.search.schema import FLOAT_BECOMES_BITS
from nas.search.schema import TRAINED_BY
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.space import SearchSpace


def read_architecture(
    text: str | None,
    space: str | None,
    input_shape: Shape | None,
    classes: int | None,
    runs: Path,
    *,
    changes: Mapping[str, Parameter] | None = None,
) -> Architecture:
    """Find the architecture that a user names.

    Args:
        text: JSON of parameters, the path of a JSON file (of parameters, or one written by `nas pick`), RUN:NUMBER, the
            name of a network (`nas list networks`), the space's own text of a point, or None for the space's reference.
            Parameters left out are the reference's.
        space: Space of the parameters, where the text does not say; None: `nas.spaces.DEFAULT`.
        input_shape: Shape of one record, where the text does not say, or for a network by its name; None: the usual
            one, or the network's own.
        classes: Number of classes in the same way.
        runs: Folder of all runs.
        changes: Parameters to change, by the patterns of `nas.search.narrowing`.

    Raises:
        ValueError: If the text is none of these or does not belong to the space, or there is nothing to change.
    """
    asked = Asked(space, input_shape, classes, changes or {})
    if not text or text.lstrip().startswith("{"):
        return _parsed(text or "{}", asked)
    if Path(text).exists():
        return _decoded(files.read_json(Path(text)), text, asked)
    if text.rpartition(":")[2].isdigit():
        check_unchanged(text, changes)
        return _from_run(text, runs)
    return _named_or_written(text, asked, "expected JSON, a file, RUN:NUMBER or")


@dataclass(frozen=True)
class Asked:
    """What a user asks for beside the text that names a network: what it is for, where the text is silent, and changes.

    Attributes:
        space: Name of the space; None: the default, or a named network's.
        input_shape: Shape of one record; None: the usual one.
        classes: Number of classes; None: the usual number.
        changes: Parameters to change, by pattern.
    """

    space: str | None
    input_shape: Shape | None
    classes: int | None
    changes: Mapping[str, Parameter] = field(default_factory=dict)

    def made(self) -> SearchSpace:
        """Return the space for what is asked."""
        return spaces.space_named(self.space or spaces.DEFAULT, self.input_shape, self.classes)

    def describe(self, space: SearchSpace, point: Params) -> Architecture:
        """Describe a point of a space, changed; a change may name a compression's parameter, `sparsity.share`."""
        there = spaces.compressions_in(space.distributions)
        asked = [name for name in spaces.compressions_in(self.changes) if name not in there]
        more = [name for name in asked if plugins.find(spaces.COMPRESSIONS, name, "compress")]
        space = spaces.compressible(space, more)
        return space.decode(changed(space, {**space.reference, **point}, self.changes))


def check_unchanged(text: str, changes: Mapping[str, Parameter] | None) -> None:
    """Refuse changes of a candidate, whose numbers are those of the network that was trained.

    Raises:
        ValueError: If there are any.
    """
    if changes:
        raise ValueError(f"expected no --set with {text}: it is a candidate as it was trained; got {sorted(changes)}")


def is_of_a_run(text: str | None) -> bool:
    """Tell whether what `read_architecture` takes names a candidate of a run or a pick: it stands behind something."""
    if not text or text.lstrip().startswith("{"):
        return False
    if Path(text).exists():
        return (Path(text).parent / PREPROCESSING).is_file()
    return text.rpartition(":")[2].isdigit()


def parse_architecture(text: str, space: str | None, input_shape: Shape | None, classes: int | None) -> Architecture:
    """Read JSON of parameters, a network's name or the space's own text form. Parameters left out are the reference's.

    Args:
        text: An object of parameters, what `nas pick` writes, the name of a network (`nas list networks`), or the
            space's own text (a cell of NAS-Bench-201).
        space: As in `read_architecture`.
        input_shape: As in `read_architecture`.
        classes: As in `read_architecture`.

    Raises:
        ValueError: If the text is none of these or does not belong to the space.
    """
    return _parsed(text, Asked(space, input_shape, classes))


def _parsed(text: str, asked: Asked) -> Architecture:
    if text.lstrip().startswith("{"):
        return _decoded(parse_json(text, f"expected JSON; got {text!r}"), "the architecture", asked)
    return _named_or_written(text, asked, "expected JSON of parameters or")


def _named_or_written(text: str, asked: Asked, expected: str) -> Architecture:
    """Find a network by its name, or by the space's own text.

    Args:
        text: The name or the text.
        asked: Where to look, and what for.
        expected: How the message begins: what else the text could have been.
    """
    if named := spaces.find_named(text, asked.space):
        return asked.describe(*named.point(asked.input_shape, asked.classes))
    like = spaces.like_named(text, asked.space)
    is_own = asked.space is not None and plugins.is_own(asked.space)
    known = f"; {'there are' if is_own else 'near it:'} {like}" if like else ""
    made = asked.made()
    if made.parse is None:
        raise ValueError(
            f"{expected} the name of a network (nas list networks); got {text!r}, and there is nothing of this name"
            f"{known}"
        )
    try:
        point = made.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}{known}") from None
    return asked.describe(made, point)


def _decoded(found: Any, where: str, asked: Asked) -> Architecture:
    if not isinstance(found, dict):
        raise ValueError(f"expected an object of parameters; got {found!r}")
    bits = compressions = None
    if "params" in found:
        bits, compressions = _bits_of_float(found), _compressions(found)
        version = _training_version(found)
        space, input_shape, classes, found = _task(found)
        asked = replace(asked, space=space, input_shape=input_shape, classes=classes)
        found = dict(spaces.with_ternary(found, version))
        plugins.check_allowed(where, space)
    if compressions is None:
        compressions = spaces.compressions_in(found)
    plugins.check_allowed(where, *compressions)
    made = spaces.as_run(spaces.compressible(asked.made(), compressions), bits)
    return asked.describe(made, {**made.reference, **found})


def device_of(text: str | None, runs: Path) -> str | None:
    """Return the device of the run that a text names a candidate or a pick of, None where it names no run.

    Args:
        text: What `read_architecture` or `find_network` takes.
        runs: Folder of all runs.

    Raises:
        ValueError: If the run cannot be opened.
    """
    if not text or text.lstrip().startswith("{"):
        return None
    if (path := Path(text)).exists():
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        settings = folder.parent.parent / "config.toml"
        return load_config(settings, {}).device if folder.parent.name == "picks" and settings.is_file() else None
    name, _, number = text.rpartition(":")
    return open_run(name, runs).config.device if name and number.isdigit() else None


def _from_run(text: str, runs: Path) -> Architecture:
    name, _, number = text.rpartition(":")
    run = open_run(name, runs)
    return run.architecture(run.sampled(int(number)))


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


def _bits_of_float(written: dict[str, Any]) -> int | None:
    """Read the width in which a pick was trained where its space has float."""
    bits = written.get(FLOAT_BECOMES_BITS)
    if bits is not None and not (type(bits) is int and 1 <= bits <= 32):
        raise ValueError(f"expected a width of 1 to 32 bits as {FLOAT_BECOMES_BITS}; got {bits!r}")
    return bits


def _compressions(written: dict[str, Any]) -> list[str] | None:
    """Read the compressions of a pick; None where it names none, and its parameters tell."""
    names = written.get(COMPRESSIONS)
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"expected a list of names as {COMPRESSIONS}; got {names!r}")
    return names


def _training_version(written: dict[str, Any]) -> int:
    """Read the training version of a pick; 0 for one from before it was written down."""
    version = written.get(TRAINED_BY, 0)
    if type(version) is not int or version < 0:
        raise ValueError(f"expected a whole number as {TRAINED_BY}; got {version!r}")
    return version
