"""One front of several runs, where what decides their numbers is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from nas.runs import ties
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import knee_index
from nas.runs.front_and_knee import non_dominated
from nas.runs.report import Shown
from nas.runs.run import Run
from nas.search.config import TABLE
from nas.search.schema import CONFIG
from nas.search.schema import FLOAT_BECOMES_BITS
from nas.search.schema import ORIGIN
from nas.search.schema import TASK
from nas.search.schema import limits_of

SETTINGS = ("evaluator", "attack", "references", "transform")
"""Settings of a search that decide what its numbers mean, beside the objectives and what the origin says."""
MEASURES_AGREE = 1e-3
"""Last digits of the origin's made-up case depend on the processor."""


@dataclass(frozen=True, eq=False)
class Merged:
    """The front of several runs.

    Attributes:
        shown: Its candidates, by the first objective; each is called `RUN:NUMBER`.
        repeated: For each candidate on the front of a later run that an earlier run has, too: what it is called there.
        notes: What the user should know, a line each.
    """

    shown: tuple[Shown, ...]
    repeated: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def knee(self) -> Shown | None:
        """The candidate at the knee of the front; None where there is no front."""
        if not self.shown:
            return None
        objectives = self.shown[0].study.user_attrs[CONFIG]["objectives"]
        return self.shown[knee_index([_values(one, objectives) for one in self.shown])]

    @property
    def ties(self) -> dict[str, list[str]]:
        """By measured objective: the candidates that are tied with the knee."""
        knee = self.knee
        if knee is None:
            return {}
        names = ties.measured_objectives(knee.study)
        others = {one.name: ties.measures(one.trial, names) for one in self.shown if one is not knee}
        return ties.ties(ties.measures(knee.trial, names), others)


def merge(runs: Mapping[str, Run]) -> Merged:
    """Merge the fronts of runs. Each run's own limits hold for its candidates.

    Args:
        runs: Two or more, by what the user calls them.

    Raises:
        ValueError: If they cannot be merged; what differs is named.
    """
    (name, first), *others = runs.items()
    by_study: dict[str, str] = {}
    for called, run in runs.items():
        if (same := by_study.setdefault(run.study.user_attrs[TASK]["id"], called)) != called:
            raise ValueError(f"expected different runs; {same!r} and {called!r} are the same study")
    for other, second in others:
        if apart := differences(first, second):
            raise ValueError(f"the runs {name!r} and {other!r} cannot be merged: {'; '.join(apart)}")
    kept, repeated = _without_repeated(runs)
    values = [_values(one, first.config.objectives) for one in kept]
    best = non_dominated(values) if kept else ()
    order = sorted(range(len(kept)), key=lambda place: (values[place], place))
    shown = tuple(kept[place] for place in order if best[place])
    names = {one.name for one in shown}
    return Merged(shown, {again: one for again, one in repeated.items() if one in names}, tuple(_notes(runs)))


def differences(first: Run, second: Run) -> list[str]:
    """Name what decides the numbers of two runs and is not the same."""
    if without := [run.name for run in (first, second) if ORIGIN not in run.study.user_attrs]:
        return [f"{' and '.join(without)} does not say what decided its numbers: an earlier version began it"]
    then, now = (run.study.user_attrs[ORIGIN] for run in (first, second))
    found = _apart(first, second, SETTINGS)
    if set(first.config.objectives) != set(second.config.objectives):
        found.append(" and ".join(f"objectives {', '.join(run.config.objectives)}" for run in (first, second)))
    if then["fingerprint"] != now["fingerprint"]:
        because = _apart(first, second, ("dataset", "seed", "members"))
        found.append("other records, or other sets of them" + (f" ({', '.join(because)})" if because else ""))
    if then["version"] != now["version"]:
        found.append(f"{then['version']} and {now['version']}")
    if then["device"] != now["device"]:
        found += _apart(first, second, ("device",)) or [f"the file of {first.config.device} had other figures"]
    if then.get(FLOAT_BECOMES_BITS) != now.get(FLOAT_BECOMES_BITS):
        found.append("what is in float was trained in other bits")
    if not _agree(then["measures"], now["measures"]):
        found.append("the attack or the statistics found other numbers in a made-up case")
    return found


def _apart(first: Run, second: Run, settings: Sequence[str]) -> list[str]:
    values = [(name, getattr(first.config, name), getattr(second.config, name)) for name in settings]
    return [f"{name} {one} and {other}" for name, one, other in values if one != other]


def _agree(then: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Tell whether two programs measured the same; a number that only the later one has says nothing of the earlier."""
    return all(
        math.isclose(then[name], now[name], rel_tol=MEASURES_AGREE, abs_tol=MEASURES_AGREE)
        for name in then.keys() & now.keys()
    )


def _without_repeated(runs: Mapping[str, Run]) -> tuple[list[Shown], dict[str, str]]:
    """Return the candidates on the fronts of runs, each once, and what the others repeat."""
    kept: dict[str, Shown] = {}
    repeated = {}
    for called, run in runs.items():
        for trial in front(run.study):
            one = Shown(run.study, trial, f"{called}:{trial.number}")
            first = kept.setdefault(trial.user_attrs["key"], one)
            if first is not one:
                repeated[one.name] = first.name
    return list(kept.values()), repeated


def _values(one: Shown, objectives: Sequence[str]) -> list[float]:
    """Return what a candidate is judged by, in the order of some objectives: its study may have another order."""
    by_name = dict(zip(one.study.user_attrs[CONFIG]["objectives"], one.trial.values or (), strict=True))
    return [by_name[name] for name in objectives]


def _notes(runs: Mapping[str, Run]) -> list[str]:
    """Say which limits held in which run, and that leakage was measured against other references where it was."""
    lines: dict[str, list[str]] = {}
    for called, run in runs.items():
        for limit in limits_of(run.study.user_attrs):
            lines.setdefault(limit.line, []).append(called)
    told = [line if len(where) == len(runs) else f"in {', '.join(where)}: {line}" for line, where in lines.items()]
    configs = [run.config for run in runs.values()]
    banks = {(config.space, config.recipe.middle()) for config in configs if config.evaluator != TABLE}
    if len(banks) > 1:
        told.append(
            "their reference networks differ, because their spaces or recipes do: each leakage was measured against "
            "those of its own run"
        )
    return told
