"""Narrow a space to what a user wants of it: parameters by pattern, each to a value, a list or a range.

What is sampled is the narrowed space. What a point is checked against stays the space's own: a candidate of a narrowed
search is a point like any other.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.search.config import Narrow
from nas.search.config import Parameter
from nas.search.config import Range
from nas.spaces import COMPRESSIONS
from nas.spaces import compressions_in
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import Distributions
from search_spaces.space import SearchSpace
from search_spaces.space import describe_distribution


@dataclass(frozen=True)
class Narrowing:
    """A narrowed space.

    Attributes:
        distributions: What is sampled of each parameter; a fixed one has a single choice.
        lines: What the user should know: how many parameters are searched, which ones a pattern left as they are, and
            which ranges reach beyond what the space offers.
    """

    distributions: Distributions
    lines: tuple[str, ...]


def narrow(space: SearchSpace, wanted: Mapping[str, Narrow]) -> Narrowing:
    """Narrow a space.

    A pattern is a glob over the names of the space's parameters. One that matches no name is an ending: `bits` stands
    for `*_bits`, `share` for the `*.share` of a compression. Where two patterns match a parameter, the later one wins. A parameter that offers none of the values
    is left as it is, as long as another one that the pattern matches offers them.

    Args:
        space: The space.
        wanted: What each pattern is narrowed to.

    Raises:
        ValueError: If a pattern matches no parameter, or no matched parameter offers a value.

    >>> from search_spaces.conv import make_space
    >>> found = narrow(make_space((1, 8, 8), 10), {"bits": 8, "depth": Range(low=2, high=9), "block1_weight_bits": [4, 2]})
    >>> found.distributions["first_bits"], found.distributions["block1_weight_bits"], found.distributions["depth"]
    (CategoricalDistribution(choices=(8,)), CategoricalDistribution(choices=(4, 2)), IntDistribution(high=4, log=False, low=2, step=1))
    >>> for line in found.lines:
    ...     print(line)
    27 of the 36 parameters of the space 'conv' are searched
    set depth=2..9 is cut to what the space 'conv' offers: depth: 1 to 4
    """  # noqa: E501 - the output of a doctest is not broken
    if not wanted:
        return Narrowing(space.distributions, ())
    narrowed: dict[str, BaseDistribution] = dict(space.distributions)
    left: dict[str, str] = {}
    for pattern, value in wanted.items():
        matched = _matched(space, pattern)
        offered = {name: _offered(space.distributions[name], value) for name in matched}
        _check_offered(space, pattern, value, matched)
        for name, distribution in offered.items():
            left.pop(name, None)
            if distribution is None:
                left[name] = pattern
            else:
                narrowed[name] = distribution
    return Narrowing(narrowed, (_count(space, narrowed), *_left(space, wanted, left), *_cut(space, wanted)))


def changed(space: SearchSpace, point: Params, wanted: Mapping[str, Parameter]) -> Params:
    """Change parameters of one point, by the patterns that narrow a space.

    Args:
        space: The space.
        point: All parameters of a point.
        wanted: The value that each pattern stands for. A parameter that does not offer it keeps its own.

    Raises:
        ValueError: If a pattern matches no parameter, or no matched parameter offers the value.

    >>> from search_spaces.conv import make_space
    >>> space = make_space((1, 8, 8), 10)
    >>> point = changed(space, space.reference, {"bits": "ternary", "depth": 4})
    >>> point["block1_weight_bits"], point["block1_activation_bits"], point["depth"]
    ('ternary', 32, 4)
    """
    narrowed = narrow(space, wanted).distributions
    fixed = [name for name, distribution in narrowed.items() if distribution is not space.distributions[name]]
    # One value is a single choice, whatever the distribution was.
    return {**point, **{name: _choices(narrowed[name])[0] for name in fixed}}


def described(pattern: str, value: Narrow) -> str:
    """Write what one pattern is narrowed to as on the command line.

    >>> described("depth", Range(low=1, high=3)), described("block*_bits", [8, "bf16", True])
    ('depth=1..3', 'block*_bits=8,bf16,true')
    """
    if isinstance(value, Range):
        return f"{pattern}={value.low}..{value.high}"
    return f"{pattern}={','.join(map(_word, value if isinstance(value, list) else [value]))}"


def _word(value: ParamValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _matched(space: SearchSpace, pattern: str) -> list[str]:
    """List the parameters that a pattern stands for.

    Raises:
        ValueError: If there are none.
    """
    names = list(space.distributions)
    for globs in ((pattern,), (f"*_{pattern}", f"*.{pattern}")):
        if matched := [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]:
            return matched
    patterns = sorted({re.sub(r"\d+", "*", name) for name in names})
    near = difflib.get_close_matches(pattern, [*names, *patterns], n=1)
    compression = pattern.partition(".")[0]
    known = plugins.available(COMPRESSIONS, "PARAMETERS")
    left_out = compression in known and compression not in compressions_in(names)
    raise ValueError(
        f"no parameter of the space {space.name!r} is called {pattern!r} or ends in '_{pattern}'"
        f"{f' (near it: {near[0]!r})' if near else ''}; there are {', '.join(patterns)}"
        f"{f'; --compress {compression} adds its own' if left_out else ''}"
    )


def _offered(distribution: BaseDistribution, value: Narrow) -> BaseDistribution | None:
    """Return what a distribution has of what is wanted; None if it has nothing of it."""
    if isinstance(value, Range) and isinstance(distribution, IntDistribution | FloatDistribution):
        return _between(distribution, value)
    found: list[ParamValue]
    if isinstance(value, Range):
        found = [choice for choice in _numbers(distribution) if value.low <= choice <= value.high]
    else:
        meant = (_meant(distribution, one) for one in (value if isinstance(value, list) else [value]))
        found = [choice for choice in meant if choice is not None]
    return CategoricalDistribution(list(dict.fromkeys(found))) if found else None


def _choices(distribution: BaseDistribution) -> tuple[ParamValue, ...]:
    """Return the choices of a categorical distribution; none of a numeric one."""
    return tuple(distribution.choices) if isinstance(distribution, CategoricalDistribution) else ()


def _numbers(distribution: BaseDistribution) -> list[int | float]:
    """List the choices that are numbers."""
    found = _choices(distribution)
    return [choice for choice in found if isinstance(choice, int | float) and not isinstance(choice, bool)]


def _meant(distribution: BaseDistribution, value: ParamValue) -> ParamValue:
    """Return the value of a distribution that a user means, in the distribution's own type; None if it has none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(distribution, CategoricalDistribution):
        if is_number:
            return next((choice for choice in _numbers(distribution) if choice == value), None)
        return next((one for one in distribution.choices if one == value and type(one) is type(value)), None)
    if not is_number or not isinstance(distribution, IntDistribution | FloatDistribution):
        return None
    number = float(value)  # type: ignore[arg-type] # a number
    if not distribution.low <= number <= distribution.high:
        return None
    if isinstance(distribution, FloatDistribution):
        return number
    return int(number) if (number - distribution.low) % distribution.step == 0 else None


def _between(distribution: IntDistribution | FloatDistribution, wanted: Range) -> BaseDistribution | None:
    """Return the part of a numeric distribution that lies in a range, on its own scale."""
    low, high = max(distribution.low, wanted.low), min(distribution.high, wanted.high)
    if isinstance(distribution, IntDistribution):
        start, step = distribution.low, distribution.step
        low, high = start + math.ceil((low - start) / step) * step, start + math.floor((high - start) / step) * step
    if low >= high:
        return CategoricalDistribution([type(distribution.low)(low)]) if low == high else None
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(low), int(high), log=distribution.log, step=distribution.step)
    return FloatDistribution(low, high, log=distribution.log)


def _check_offered(space: SearchSpace, pattern: str, wanted: Narrow, matched: Iterable[str]) -> None:
    """Refuse values of which no matched parameter offers any.

    Raises:
        ValueError: With the values, and what each of the parameters offers.
    """
    parts = wanted if isinstance(wanted, list) else [wanted]
    matched = list(matched)
    nowhere = [part for part in parts if all(_offered(space.distributions[name], part) is None for name in matched)]
    if nowhere:
        texts = [described(pattern, part).removeprefix(f"{pattern}=") for part in nowhere]
        raise ValueError(
            f"expected values that the space {space.name!r} offers for set {described(pattern, wanted)}: "
            f"{_offers(space, matched)}; got {', '.join(texts)}"
        )


def _offers(space: SearchSpace, names: Iterable[str]) -> str:
    """Say what parameters offer, those that offer the same together, and as a pattern where all that it matches do."""
    by_offer: dict[str, list[str]] = {}
    for name in names:
        by_offer.setdefault(describe_distribution(space.distributions[name]), []).append(name)
    return "; ".join(f"{', '.join(_patterns(space, same))}: {offer}" for offer, same in by_offer.items())


def _patterns(space: SearchSpace, names: list[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        glob = re.sub(r"\d+", "*", name)
        others = [other for other in space.distributions if fnmatchcase(other, glob)]
        found[glob if len(others) > 1 and set(others) <= set(names) else name] = None
    return list(found)


def _count(space: SearchSpace, narrowed: Distributions) -> str:
    searched = sum(not distribution.single() for distribution in narrowed.values())
    return f"{searched} of the {len(narrowed)} parameters of the space {space.name!r} are searched"


def _left(space: SearchSpace, wanted: Mapping[str, Narrow], left: Mapping[str, str]) -> list[str]:
    """Say which parameters were left as they are, because they do not offer what a pattern that they match wants."""
    lines = []
    for pattern in dict.fromkeys(left.values()):
        names = [name for name, by in left.items() if by == pattern]
        lines.append(f"set {described(pattern, wanted[pattern])} leaves as they are: {_offers(space, names)}")
    return lines


def _cut(space: SearchSpace, wanted: Mapping[str, Narrow]) -> list[str]:
    """Say which ranges reach beyond what all parameters that they match offer."""
    lines = []
    for pattern, value in wanted.items():
        if not isinstance(value, Range):
            continue
        matched = _matched(space, pattern)
        ends = [end for name in matched for end in _ends(space.distributions[name])]
        if value.low < min(ends) or value.high > max(ends):
            offers = _offers(space, matched)
            lines.append(f"set {described(pattern, value)} is cut to what the space {space.name!r} offers: {offers}")
    return lines


def _ends(distribution: BaseDistribution) -> list[int | float]:
    """List the lowest and the highest number that a distribution offers, or all that are choices."""
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    return _numbers(distribution)
