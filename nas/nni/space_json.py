"""Search spaces as NNI writes them: a JSON table of `{"_type": ..., "_value": [...]}` by the name of the parameter.

| NNI | here |
|---|---|
| `choice` of numbers, texts, true, false and null | categorical |
| `randint [low, beyond]` | int, `low` to `beyond - 1` |
| `quniform [low, high, q]`, all whole | int with the step `q` |
| `qloguniform [low, high, 1]`, all whole | int on a log scale |
| `uniform [low, high]` | float |
| `loguniform [low, high]` | float on a log scale |
| `quniform [low, high, q]`, not all whole | float with the step `q` |

Everything else is refused by name: normal distributions, which have no ends; nested choices, whose parameters come and
go; steps that do not start at zero, as NNI's do. NNI draws the two ends of a stepped range half as often as the rest.

NNI itself is not needed here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import TypeAlias

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import files
from nas.base import reading
from nas.search.config import Narrow
from nas.search.config import Range
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import Distributions
from search_spaces.space import SearchSpace

Entry: TypeAlias = dict[str, Any]
NORMAL = ("normal", "qnormal", "lognormal", "qlognormal")
ON_GRID = 1e-9
"""How far from a multiple of the step a number may be, in steps, and still be one: decimal fractions are not exact."""


def to_nni(distributions: Distributions) -> dict[str, Entry]:
    """Write distributions as an NNI search space.

    Args:
        distributions: One Optuna distribution for each parameter.

    Raises:
        ValueError: If one has no counterpart in NNI.

    >>> to_nni({"depth": IntDistribution(1, 4), "bits": CategoricalDistribution([8, "ternary"])})
    {'depth': {'_type': 'randint', '_value': [1, 5]}, 'bits': {'_type': 'choice', '_value': [8, 'ternary']}}
    """
    return {name: _entry(name, distribution) for name, distribution in distributions.items()}


def from_nni(table: object, where: str) -> dict[str, BaseDistribution]:
    """Read an NNI search space.

    Args:
        table: What was JSON.
        where: Where it was, for messages.

    Raises:
        ValueError: If it is no search space of NNI's, or a parameter has no counterpart here.

    >>> from_nni({"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}}, "space.json")
    {'lr': FloatDistribution(high=0.1, log=True, low=0.001, step=None)}
    """
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"expected a search space of NNI's, a table of parameters by name, in {where}")
    found: dict[str, BaseDistribution] = {}
    for name, entry in table.items():
        try:
            found[str(name)] = _distribution(entry)
        except ValueError as error:
            raise ValueError(f"the parameter {name!r} in {where}: {error}") from error
    return found


def write(path: Path, distributions: Distributions) -> None:
    """Write an NNI search-space file.

    Raises:
        ValueError: If a parameter has no counterpart in NNI.
    """
    files.write_json(path, to_nni(distributions))


def read(path: Path) -> dict[str, BaseDistribution]:
    """Read an NNI search-space file.

    Raises:
        ValueError: If the file is not there, or holds no search space that has a counterpart here.
    """
    expected = "a search space of NNI's as JSON"
    text = reading.read_text(reading.existing(path, expected))
    return from_nni(reading.parse_json(text, f"expected {expected} in {path}"), str(path))


def narrowing(space: SearchSpace, distributions: Distributions) -> dict[str, Narrow]:
    """Return what narrows one of our spaces to a search space that was read: the key `set` of a search's settings.

    A range narrows the ends alone: its scale and step stay those of the space.

    Args:
        space: The space.
        distributions: Some of its parameters, with fewer values.

    Raises:
        ValueError: If a parameter is none of the space's, or null is one of its values.

    >>> from search_spaces.mlp import make_space
    >>> narrowing(make_space((20,), 3), {"depth": IntDistribution(1, 2)})
    {'depth': Range(low=1, high=2, log=False)}
    """
    unknown = sorted(distributions.keys() - space.distributions.keys())
    if unknown:
        raise ValueError(
            f"expected parameters of the space {space.name!r}; got {', '.join(unknown)}; "
            f"there are {', '.join(space.distributions)}"
        )
    return {name: _narrow(distribution) for name, distribution in distributions.items()}


def point_in(distributions: Distributions, drawn: Mapping[str, Any]) -> dict[str, ParamValue]:
    """Return a point that NNI drew, with the types of its distributions: NNI's numbers with a step are floats.

    >>> point_in({"width": IntDistribution(8, 64, step=8)}, {"width": 16.0})
    {'width': 16}
    """
    return {
        name: round(drawn[name]) if isinstance(distribution, IntDistribution) else drawn[name]
        for name, distribution in distributions.items()
    }


def check_on_grid(name: str, low: float, high: float, step: float) -> None:
    """Refuse steps that NNI cannot take: its own start at zero.

    Raises:
        ValueError: With what would do.
    """
    if not (_is_multiple(low, step) and _is_multiple(high, step)):
        raise ValueError(
            f"NNI's steps start at zero: expected {name!r} from and to a multiple of its step {step}; got {low} to "
            f"{high}; a choice of the single values would do"
        )


def _entry(name: str, distribution: BaseDistribution) -> Entry:
    if isinstance(distribution, CategoricalDistribution):
        values = list(distribution.choices)
        if wrong := [value for value in values if not _is_plain(value)]:
            raise ValueError(
                f"NNI's JSON takes finite numbers, texts, true, false and null as choices; got {wrong[0]!r}"
            )
        return {"_type": "choice", "_value": values}
    if isinstance(distribution, IntDistribution):
        return _int_entry(name, distribution)
    if isinstance(distribution, FloatDistribution):
        return _float_entry(name, distribution)
    raise ValueError(f"no rule for {type(distribution).__name__}; there are categorical, int and float distributions")


def _int_entry(name: str, distribution: IntDistribution) -> Entry:
    low, high, step = distribution.low, distribution.high, distribution.step
    if step == 1 and (low == high or not distribution.log):
        return {"_type": "randint", "_value": [low, high + 1]}
    check_on_grid(name, low, high, step)
    return {"_type": "qloguniform" if distribution.log else "quniform", "_value": [low, high, step]}


def _float_entry(name: str, distribution: FloatDistribution) -> Entry:
    low, high, step = float(distribution.low), float(distribution.high), distribution.step
    if low == high:
        raise ValueError(f"NNI takes no range of one number: expected {name!r} to be a choice; got {low} alone")
    if step is None:
        return {"_type": "loguniform" if distribution.log else "uniform", "_value": [low, high]}
    check_on_grid(name, low, high, step)
    return {"_type": "quniform", "_value": [low, high, float(step)]}


def _distribution(entry: object) -> BaseDistribution:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("_value"), list):
        raise ValueError(f'expected {{"_type": ..., "_value": [...]}}; got {_shown(entry)}')
    kind = entry.get("_type")
    if kind in NORMAL:
        raise ValueError(f"{kind!r} has no ends, and a search here needs them: expected uniform or loguniform")
    if not isinstance(kind, str) or kind not in READERS:
        raise ValueError(f"expected one of {list(READERS)}; got {_shown(kind)}")
    return READERS[kind](kind, entry["_value"])


def _choice(_kind: str, values: Sequence[Any]) -> BaseDistribution:
    if any(isinstance(value, Mapping) for value in values):
        raise ValueError("a nested choice has parameters that come and go: expected numbers or texts as choices")
    if not values or not all(_is_plain(value) for value in values):
        raise ValueError(f"expected finite numbers, texts, true, false or null to choose from; got {_shown(values)}")
    if len({(type(value), value) for value in values}) < len(values):
        raise ValueError(f"expected different values to choose from; got {_shown(values)}")
    return CategoricalDistribution(values)


def _randint(_kind: str, values: Sequence[Any]) -> BaseDistribution:
    low, beyond = _numbers(values, 2)
    if not _are_whole(values):
        raise ValueError(f"expected two whole numbers; got {_shown(values)}")
    return IntDistribution(int(low), int(beyond) - 1)


def _uniform(kind: str, values: Sequence[Any]) -> BaseDistribution:
    low, high = _numbers(values, 2, positive=kind == "loguniform")
    return FloatDistribution(float(low), float(high), log=kind == "loguniform")


def _stepped(_kind: str, values: Sequence[Any]) -> BaseDistribution:
    low, high, step = _numbers(values, 3)
    if step <= 0:
        raise ValueError(f"expected a step above 0; got {_shown(values)}")
    if not (_is_multiple(low, step) and _is_multiple(high, step)):
        raise ValueError(f"expected ends that are multiples of the step, as NNI's values are; got {_shown(values)}")
    if _are_whole(values):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(float(low), float(high), step=float(step))


def _stepped_log(_kind: str, values: Sequence[Any]) -> BaseDistribution:
    low, high, step = _numbers(values, 3, positive=True)
    if not _are_whole(values) or step != 1:
        raise ValueError(f"expected whole numbers and the step 1 on a log scale; got {_shown(values)}")
    return IntDistribution(int(low), int(high), log=True)


READERS: Mapping[str, Callable[[str, Sequence[Any]], BaseDistribution]] = {
    "choice": _choice,
    "randint": _randint,
    "uniform": _uniform,
    "loguniform": _uniform,
    "quniform": _stepped,
    "qloguniform": _stepped_log,
}


def _numbers(values: Sequence[Any], count: int, *, positive: bool = False) -> list[int | float]:
    """Return the numbers of a range, the first two of which are its ends.

    Raises:
        ValueError: If these are other than so many finite numbers, or out of order, or not above 0 where they must be.
    """
    found = [value for value in values if _is_plain(value) and _is_number(value)]
    if len(found) != count or len(values) != count or found[0] >= found[1] or (positive and found[0] <= 0):
        order = "0 < low < high" if positive else "low < high"
        raise ValueError(f"expected {count} numbers, {order}; got {_shown(values)}")
    return found


def _narrow(distribution: BaseDistribution) -> Narrow:
    if isinstance(distribution, CategoricalDistribution):
        choices = [choice for choice in distribution.choices if choice is not None]
        if len(choices) < len(distribution.choices):
            raise ValueError("expected values that a search's settings know; got null among the choices")
        return choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.low == distribution.high:
        return distribution.low
    return Range(low=distribution.low, high=distribution.high)


def _is_multiple(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) < ON_GRID


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _is_plain(value: object) -> bool:
    """Tell whether JSON takes a value back and forth; NaN and infinity are none of it."""
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else f"{text[:97]}..."
