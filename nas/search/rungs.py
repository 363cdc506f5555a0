"""Rungs: a training is stopped where its candidate is not among the best third of those that came as far.

After a ninth and after a third of its epochs, error and leakage are measured as at the end. The candidate is compared
with all that have reached the same rung, by what each had there: a leakage grows with the epochs, so it means nothing
beside one of another rung. The order is that of NSGA-II with another second key (Deb et al., 2002; Emmerich et al.,
2005): first by non-dominated rank, then by the hypervolume that a candidate adds to its rank.

Nobody waits for anybody (ASHA: Li et al., 2020, "A System for Massively Parallel Hyperparameter Tuning"): a worker
decides from what the study holds at that moment. A candidate that goes on continues its training, and one that is
stopped is not taken up again. The decision stands in the trial, so a training that is repeated after a kill is not
judged anew.

Candidates that are trained in several stages, or pruned by safecompress, have no rungs
(`nas.training.assess.is_looked_at`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank

from nas.search.schema import RUNGS

if TYPE_CHECKING:
    from nas.training.assess import Candidate

Numbers = NDArray[np.float64]
SHARES = (Fraction(1, 9), Fraction(1, 3))
"""Of a training's epochs, at each of `RUNGS`."""
KEPT = 3
"""One of so many goes on; while fewer have reached a rung, all do."""
MARGIN = 0.1
"""The reference point of hypervolumes lies so far beyond the worst value, as a share of the values' range."""
STOPPED = "stopped at rung"
"""How the reason starts for which a training ended at a rung."""


class Stopped(Exception):  # noqa: N818 - an outcome, as Diverged is
    """A training ended at a rung: its candidate is rejected, the search goes on."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A moment of one training.

    Attributes:
        name: One of `RUNGS`: the attribute of the trial that holds what was found there.
        epochs: How many epochs are done by then.
    """

    name: str
    epochs: int


def rungs_of(candidate: Candidate) -> tuple[Rung, ...]:
    """Return the rungs of a candidate's training: whole epochs, the nearest to `SHARES`, at least one, never the last.

    Where two are the same epoch, it is the later rung, whose share is nearer.
    """
    from nas.training.assess import is_looked_at  # noqa: PLC0415 - it trains

    epochs = candidate.recipe.epochs
    if not is_looked_at(candidate):
        return ()
    nearest = [max(1, math.floor(share * epochs + Fraction(1, 2))) for share in SHARES]
    names = dict(zip(nearest, RUNGS, strict=True))
    return tuple(Rung(name, at) for at, name in names.items() if at < epochs)


def places(values: Numbers) -> NDArray[np.intp]:
    """Order candidates: by non-dominated rank, then by the hypervolume they add to their rank, then as they are listed.

    Args:
        values: `(candidates, objectives)`; lower is better.

    Returns:
        `(candidates,)`: the place of each, from 1, the best.

    >>> places(np.array([[3.0, 3.0], [1.0, 2.0], [2.0, 1.0], [1.4, 1.9]])).tolist()
    [4, 2, 1, 3]
    """
    ranks = _fast_non_domination_rank(values)
    best, worst = values.min(axis=0), values.max(axis=0)
    # On one scale the volumes of objectives in any unit are numbers that floats hold.
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    reference = np.full(values.shape[1], 1.0 + MARGIN)
    added = np.zeros(len(values))
    for rank in np.unique(ranks):
        inside = np.flatnonzero(ranks == rank)
        added[inside] = contributions(scaled[inside], reference)
    order = np.lexsort((np.arange(len(values)), -added, ranks))
    found = np.empty(len(values), dtype=np.intp)
    found[order] = np.arange(1, len(values) + 1)
    return found


def contributions(front: Numbers, reference: Numbers) -> Numbers:
    """Return the hypervolume that each point alone dominates; of two equal points neither does.

    Args:
        front: `(points, objectives)`, none of which dominates another; lower is better.
        reference: `(objectives,)`: worse than any point in every objective.

    >>> contributions(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.array([4.0, 4.0]))
    array([1., 1., 1.])
    """
    own = np.prod(reference - front, axis=1)
    shared = [
        # What a point shares with another lies beyond the worse of both in each objective.
        compute_hypervolume(np.maximum(point, np.delete(front, index, axis=0)), reference) if len(front) > 1 else 0.0
        for index, point in enumerate(front)
    ]
    alone: Numbers = np.maximum(own - np.array(shared), 0.0)
    return alone


def row_of(
    rung: Rung,
    candidate: Candidate,
    numbers: Mapping[str, float],
    mine: Sequence[float],
    others: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """Decide whether a candidate goes on at a rung, and return what its trial keeps of that.

    Args:
        rung: Where it is.
        candidate: Who it is.
        numbers: What is kept of it by name: its objectives, error and leakage as of now.
        mine: Its objectives.
        others: Those of each that has reached the rung before.
    """
    place = int(places(np.array([*others, mine], dtype=np.float64))[-1])
    among = len(others) + 1
    goes_on = among < KEPT or place <= among // KEPT
    decided = {"epochs": rung.epochs, "of": candidate.recipe.epochs, "place": place, "among": among}
    return {**decided, "goes_on": goes_on, **numbers}


def reason_in(attrs: Mapping[str, Any]) -> str | None:
    """Say from a trial's attributes why its training was stopped; None if it was not.

    >>> row = {"epochs": 2, "of": 18, "place": 3, "among": 7, "goes_on": False}
    >>> reason_in({"rung_1": row}), reason_in({"rung_1": {**row, "goes_on": True}})
    ('stopped at rung 1 of 2: place 3 of 7 after 2 of 18 epochs, 2 go on', None)
    """
    for number, name in enumerate(RUNGS, start=1):
        row = attrs.get(name)
        if row is not None and not row["goes_on"]:
            best = row["among"] // KEPT
            told = f"place {row['place']} of {row['among']} after {row['epochs']} of {row['of']} epochs"
            return f"{STOPPED} {number} of {len(RUNGS)}: {told}, {best} {'goes' if best == 1 else 'go'} on"
    return None


def share_in(attrs: Mapping[str, Any]) -> Fraction:
    """Return which share of its training a trial that was stopped has had; 0 where none was stopped.

    >>> share_in({"rung_1": {"epochs": 2, "of": 18, "goes_on": False}}), share_in({})
    (Fraction(1, 9), Fraction(0, 1))
    """
    rows = [attrs[name] for name in RUNGS if name in attrs]
    return sum((Fraction(row["epochs"], row["of"]) for row in rows if not row["goes_on"]), Fraction(0))
