"""How much of a known front could a sampler find whose model had learnt from 2,000 networks before its first one?

The error that a table gives is that of one training of 12 epochs, and no model predicts how lucky a training was. So
the share of the true front that a good model reaches is below 1, and it bounds what `search_efficiency.py` can ask of a
sampler that has seen a few dozen networks. Here the Gaussian process of `cost_aware`, on the same features, learns from
2,000 random cells of NAS-Bench-201. Among the others each evaluation is the one that is expected to add most to the
hypervolume, from the first on; front and hypervolume are those of these others. Medians over ten draws, and the rank
correlation of the predicted error with the table's.

    python benchmarks/search_ceiling.py            # some five minutes
    python benchmarks/search_ceiling.py --short    # 625 cells, 200 of them learnt from, one draw
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from nb201_table import NB201
from numpy.typing import NDArray
from report import write_results
from scipy.stats import spearmanr
from search_efficiency import SHORT_TABLE
from search_efficiency import Task
from search_efficiency import of_table
from search_efficiency import offered
from search_efficiency import remembered
from search_efficiency import task_of
from search_efficiency import volume

from nas.search.surrogate.frame import frame_of
from nas.search.surrogate.gaussian_process import condition
from nas.search.surrogate.gaussian_process import fit
from nas.search.surrogate.improvement import expected_improvement
from nas.search.surrogate.improvement import is_front

TABLE, BUDGETS = "raspi4", (25, 50, 100)
DRAWS, LEARNT, FITTED_TO = 10, 2000, 300
"""Random choices of what is learnt from, how many networks that is, and how many of them scales are fitted to."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a table.

    Attributes:
        task: The table.
        rows: `(networks, columns)`: their features.
        groups: `(columns,)`: the group of each feature.
        values: `(networks, 2)`: error and latency.
    """

    task: Task
    rows: Numbers
    groups: NDArray[np.intp]
    values: Numbers


def main() -> None:
    """Learn, search among the rest, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    if not NB201.exists():
        sys.exit("skipped: no tables beside the repository's parent folder")
    networks = networks_of(task_of(SHORT_TABLE if short else TABLE))
    draws, learnt = (1, 200) if short else (DRAWS, LEARNT)
    found = [searched(networks, seed, learnt) for seed in range(draws)]
    rows: list[dict[str, object]] = []
    for place, budget in enumerate(BUDGETS):
        shares = [one[place] for one, _ in found]
        row = {"evaluations": budget, "share": float(np.median(shares))}
        rows.append(row | {"lowest": min(shares), "highest": max(shares)})
    rank = float(np.median([rank for _, rank in found]))
    write_results("search_ceiling_short" if short else "search_ceiling", rows, learnt=learnt, rank_correlation=rank)


def networks_of(task: Task) -> Networks:
    """Look at all networks of a table that may be sampled."""
    points = [task.point({name: point[name] for name in task.free}) for point in offered(task.plan)]
    known = [remembered(task, point) for point in points]
    kept = [one for one in known if one is not None]
    frame = frame_of(kept)
    values = of_table(task.plan)[[one is not None for one in known]]
    return Networks(task, frame.rows(kept), frame.groups, values)


def searched(networks: Networks, seed: int, learnt: int) -> tuple[list[float], float]:
    """Learn from random networks and search among the others.

    Args:
        networks: All.
        seed: Of the choice.
        learnt: How many are learnt from.

    Returns:
        The share of the front of the others after each of `BUDGETS`, and the rank correlation of their predicted error.
    """
    order = np.random.default_rng(seed).permutation(len(networks.rows))
    known, others = order[:learnt], order[learnt:]
    errors = networks.values[known, 0]
    centre, spread = errors.mean(), errors.std()
    targets = (errors - centre) / spread
    fitted_to = targets[:FITTED_TO]
    scales = fit(networks.rows[known[:FITTED_TO]], networks.groups, fitted_to, np.zeros(len(fitted_to)))
    process = condition(scales, networks.rows[known], networks.groups, targets, np.zeros(learnt))
    predicted, deviation = process.predict(networks.rows[others])
    values = networks.values[others]
    means = np.column_stack([centre + spread * predicted, values[:, 1]])
    # What a table says of a network holds the luck of its training.
    deviations = np.column_stack([spread * np.sqrt(deviation**2 + scales.noise), np.zeros(len(others))])
    chosen = [int(np.argmin(predicted))]
    while len(chosen) < min(BUDGETS[-1], len(others)):
        front = values[chosen]
        worth = expected_improvement(means, deviations, front[is_front(front)], networks.task.worst)
        worth[chosen] = -1.0
        chosen.append(int(np.argmax(worth)))
    scaled = networks.task.scaled(values)
    shares = [volume(scaled[chosen[:budget]]) / volume(scaled) for budget in BUDGETS]
    return shares, float(spearmanr(predicted, values[:, 0]).statistic)


if __name__ == "__main__":
    main()
