"""What a search is given of earlier ones: the points of its first candidates, in place of sampled ones.

The points of an earlier run are its front. Other points are those of the published networks of the space, and of
networks that a super-network finds (`nas.search.supernet`). They are looked up once, when the study begins, and written
into it: trial 0 has the first of them, whoever works on it and however often it is taken up. A point is given only if
its network is one of this search. Of the recipe and the defence it has what this search offers.

Nothing else of an earlier run comes in. Its numbers are not read beyond its front, and every given candidate is
screened, trained, measured and attacked like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial

from estimators.devices.fields import CannotRun
from estimators.estimate import flat
from nas.base import plugins
from nas.pricing.limits import over
from nas.search.config import PUBLISHED
from nas.search.config import SUPERNET
from nas.search.config import TABLE
from nas.search.config import SearchConfig
from nas.search.config import stored_config
from nas.search.plan import Plan
from nas.search.schema import CONFIG
from nas.search.schema import DEFENCE_PARAMETERS
from nas.search.schema import ORIGIN
from nas.search.schema import Given
from nas.search.schema import training_version_of
from nas.search.storage import JOURNAL
from nas.search.storage import find_study
from nas.search.storage import folder_of
from nas.search.storage_url import is_database
from nas.search.supernet import predicted_best
from nas.spaces import as_run
from nas.spaces import compressible
from nas.spaces import networks_of
from nas.spaces import space_named
from nas.spaces import with_ternary
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import SearchSpace
from search_spaces.space import contains
from search_spaces.space import describe_distribution

SHOWN = 5
"""Candidates that a line names; the others are counted."""


@dataclass(frozen=True)
class Liked:
    """What a search is given.

    Attributes:
        given: The points, in the order in which they are asked for.
        lines: What the user should know of them.
    """

    given: tuple[Given, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Earlier:
    """A candidate of an earlier run, a published network, or one that a super-network found.

    Attributes:
        number: Its number, or the network's name.
        of: The same with the run's name.
        space: A space that has the network, for this search's records and device.
        params: Its point there.
        beside: Recipe, defence and the defence's parameters, by the names they are sampled by.
    """

    number: str
    of: str
    space: SearchSpace
    params: Params
    beside: Mapping[str, ParamValue]


def liked(plan: Plan) -> Liked:
    """Look up what a search is given.

    Raises:
        ValueError: If there is no such run, it searched another space, or nothing of it is a candidate of this search.
    """
    given: list[Given] = []
    lines: list[str] = []
    for name in plan.config.like:
        about, earlier, notes = SOURCES[name](plan) if name in SOURCES else _front(plan, name)
        lines += [f"like {name}: {line}" for line in (*_take(plan, name, about, earlier, given), *notes)]
    if len(given) > plan.config.trials:
        lines.append(f"like: these are {len(given)} candidates, and {plan.config.trials} are to be trained")
    return Liked(tuple(given), tuple(lines))


def _published(plan: Plan) -> tuple[str, list[_Earlier], list[str]]:
    """Return the published networks of the space, in the middle of the recipe, and what they are called.

    Raises:
        ValueError: If there are none.
    """
    networks = networks_of(plan.config.space)
    if not networks:
        raise ValueError(
            f"no published networks of the space {plan.config.space!r} for like; nas list networks has those there are"
        )
    beside = asdict(plan.config.recipe.middle())
    found = [
        _Earlier(name, name, plan.space, {**plan.space.reference, **named.network.params}, beside)
        for name, named in networks.items()
    ]
    return "published networks", found, []


def _front(plan: Plan, run: str) -> tuple[str, list[_Earlier], list[str]]:
    """Return the front of an earlier run, what its candidates are called, and what else to say.

    Raises:
        ValueError: If there is no such run, it searched another space, or it has no front.
    """
    own = plan.config.storage
    folder = folder_of(run, plan.folder.parent)
    # A run without a journal of its own may be beside this one, in the same database.
    study = find_study(run, plan.folder.parent, own if is_database(own) and not (folder / JOURNAL).exists() else None)
    attrs = study.user_attrs
    config = stored_config(attrs[CONFIG])
    if config.space != plan.config.space:
        raise ValueError(
            f"expected a run of the space {plan.config.space!r} for like; {run!r} searched {config.space!r}"
        )
    by_first = sorted(study.best_trials, key=lambda trial: (*trial.values, trial.number))
    front = [by_first[place] for place in ends_first(len(by_first))]
    if not front:
        raise ValueError(f"expected a run with a trained candidate within its limits for like; {run!r} has none")
    plugins.check_allowed(f"the study {run!r}", *config.compressions)
    compressions = {*config.compressions, *plan.config.compressions}
    networks = space_named(config.space, plan.space.input_shape, plan.space.num_classes)
    space = as_run(compressible(networks, compressions), plan.float_becomes_bits)
    version = training_version_of(attrs)
    found = []
    for trial in front:
        own_params = {name: value for name, value in trial.params.items() if name in space.distributions}
        params = {**space.reference, **with_ternary(own_params, version)}
        beside = _beside_in(config, trial, space) if config.evaluator != TABLE else asdict(plan.config.recipe.middle())
        found.append(_Earlier(str(trial.number), f"{study.study_name}:{trial.number}", space, params, beside))
    same = attrs.get(ORIGIN, {}).get("fingerprint") == plan.fingerprint
    note = "it searched the same records: what was chosen there by luck is chosen again"
    return "candidates on its front", found, [note] if same and not plan.table else []


def _predicted(plan: Plan) -> tuple[str, list[_Earlier], list[str]]:
    """Return networks that a super-network finds, in the middle of the recipe, what they are called, what else to say.

    Raises:
        ValueError: If hardly any network keeps the limits, or its training diverged.
    """
    found, beside = predicted_best(plan), asdict(plan.config.recipe.middle())
    places = ends_first(len(found.best))
    best = [
        _Earlier(str(one.number), f"{SUPERNET}:{one.number}", plan.space, one.params, beside)
        for one in (found.best[place] for place in places)
    ]
    note = (
        f"trained on the members for {found.epochs:,} epochs; of {found.drawn:,} points {found.screened:,} networks "
        "were screened; its predictions choose first candidates and are no figures of theirs"
    )
    left_out = [f"it does not predict {', '.join(found.left_out)}"] if found.left_out else []
    return "networks that it predicts to be best", best, [note, *left_out]


def _beside_in(config: SearchConfig, trial: FrozenTrial, space: SearchSpace) -> dict[str, ParamValue]:
    """Return what an earlier candidate was trained by, and what was sampled for the defences that it has not."""
    defence = str(trial.params.get("defence", config.defences[0]))
    of_defence = {f"{defence}.{name}": value for name, value in trial.user_attrs.get(DEFENCE_PARAMETERS, {}).items()}
    sampled = {name: value for name, value in trial.params.items() if name not in space.distributions}
    return {**asdict(config.recipe.recipe(trial.params)), **of_defence, **sampled, "defence": defence}


def _take(plan: Plan, name: str, about: str, earlier: Sequence[_Earlier], given: list[Given]) -> list[str]:
    """Add the points that this search has to those that it is given, and say which they are and what became of others.

    Raises:
        ValueError: If it has none of them.
    """
    taken: list[str] = []
    left: list[str] = []
    changed: dict[str, list[str]] = {}
    for one in earlier:
        point = _offered(plan, one.params)
        reason = _refusal(plan, one, point)
        beside, notes = _beside(plan, one.beside)
        same = next((other.of for other in given if other.params == {**point, **beside}), None)
        if reason or same:
            left.append(f"{one.number} ({reason or f'the same as {same}'})")
            continue
        taken.append(one.number)
        given.append(Given(of=one.of, params={**point, **beside}))
        for note in notes:
            changed.setdefault(note, []).append(one.number)
    if not taken:
        raise ValueError(
            f"expected a candidate of this search among the {len(earlier)} {about}, for like {name!r}; got none: "
            f"{_some(left)}"
        )
    return [
        f"{len(taken)} of the {len(earlier)} {about} are asked for first: {_some(taken)}",
        *([f"left out: {_some(left)}"] if left else []),
        *(f"{note}: {_some(numbers)}" for note, numbers in changed.items()),
    ]


def _offered(plan: Plan, params: Params) -> dict[str, ParamValue]:
    """Return a point of this search's space: what it does not offer is replaced, by the nearest number or any choice.

    A parameter that has no part in the network makes no difference; whether it has one is seen by the network.
    """
    reference = plan.space.reference
    point = {}
    for name, distribution in plan.narrowing.distributions.items():
        wanted = params.get(name, reference[name])
        offered = [value for value in (wanted, reference[name]) if contains(distribution, value)]
        point[name] = offered[0] if offered else _nearest(distribution, wanted)
    return point


def _refusal(plan: Plan, one: _Earlier, point: Params) -> str | None:
    """Say why a network is none that this search may train; None if it is one."""
    try:
        wanted = one.space.decode(one.params)
        network = plan.space.decode(point)
        costs = plan.prices(network)
    except CannotRun as error:
        return f"cannot run on {plan.device.name}: {error}"
    except ValueError as error:
        return str(error).partition("; there are ")[0]
    if network.key != wanted.key:
        return _differences(plan, one, point, wanted.key)
    return ", ".join(limit.told(number) for limit, number in over(flat(costs), plan.limits)) or None


def _differences(plan: Plan, one: _Earlier, point: Params, key: str) -> str:
    """Name what a network has and this search does not offer: where it is replaced, the network is another one."""
    offered = plan.narrowing.distributions
    told = []
    for name, value in one.params.items():
        other = point.get(name, one.space.reference[name])
        if other != value and one.space.decode({**one.params, name: other}).key != key:
            expected = describe_distribution(offered[name]) if name in offered else f"{other}: it is not searched"
            told.append(f"{name}={value}, expected {expected}")
    return _some(told, "; ", 1)


SOURCES = {PUBLISHED: _published, SUPERNET: _predicted}
"""What gives the points of each name that is no run's."""


def _beside(plan: Plan, beside: Mapping[str, ParamValue]) -> tuple[dict[str, ParamValue], list[str]]:
    """Return what this search samples of a recipe and a defence, and what was changed or left to chance."""
    values: dict[str, ParamValue] = {}
    notes = []
    defence = beside.get("defence")
    for name in [name for name in plan.distributions if name not in plan.space.distributions and name in beside]:
        distribution = plan.distributions[name]
        if contains(distribution, beside[name]):
            values[name] = beside[name]
        elif "." in name and not name.startswith(f"{defence}."):
            continue  # a parameter of a defence that it has not
        elif isinstance(distribution, CategoricalDistribution):
            notes.append(f"{name} is not offered here and drawn at random")
        else:
            values[name] = _nearest(distribution, beside[name])
            notes.append(f"{name} is brought into the range here")
    if defence is not None and "defence" not in plan.distributions and defence not in plan.config.defences:
        notes.append(f"trained with the defence {plan.config.defences[0]!r}, not their own")
    return values, notes


def _nearest(distribution: BaseDistribution, value: Any) -> ParamValue:
    """Return the value of a distribution that is nearest to a number, the first one of a choice.

    >>> _nearest(IntDistribution(2, 8, step=2), 9), _nearest(FloatDistribution(0, 1), -1), _nearest(IntDistribution(1, 3), "a")
    (8, 0.0, 1)
    """  # noqa: E501 - the output of a doctest is not broken
    if isinstance(distribution, CategoricalDistribution):
        first: ParamValue = distribution.choices[0]
        return first
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    number = value if isinstance(value, int | float) else distribution.low
    number = min(max(number, distribution.low), distribution.high)
    if isinstance(distribution, FloatDistribution):
        return float(number)
    return int(distribution.low + (number - distribution.low) // distribution.step * distribution.step)


def ends_first(count: int) -> list[int]:
    """Return the places of a row in an order whose beginnings are spread over it, however few are taken.

    >>> ends_first(6), ends_first(1)
    ([0, 5, 2, 1, 4, 3], [0])
    """
    halvings = range(count.bit_length() + 1)
    steps = ((step, 2**halving) for halving in halvings for step in range(2**halving + 1))
    return list(dict.fromkeys(round(step * (count - 1) / parts) for step, parts in steps)) if count else []


def _some(texts: Iterable[str], between: str = ", ", shown: int = SHOWN) -> str:
    """List the first of some texts, and count the others.

    >>> _some("abc", shown=2), _some("ab")
    ('a, b and 1 more', 'a, b')
    """
    texts = list(texts)
    rest = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return between.join(texts[:shown]) + rest
