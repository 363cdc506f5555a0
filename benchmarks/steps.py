"""How many steps a training needs on few records: the error of random networks by the steps they are trained for.

Random candidates of the conv space on digits, each trained for several numbers of steps, everything else as sampled.
Errors are those on validation. What is asked: from how many steps on more of them help little for what they cost.
`--short` trains three candidates, for 30 and 120 steps.

    python benchmarks/steps.py [--short]
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from report import write_results

from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.spaces import sample
from nas.training.assess import outputs
from nas.training.assess import set_up
from nas.training.loop import Diverged
from nas.training.loop import train
from nas.training.schedule import seed_from
from nas.training.schedule import steps_per_epoch

MEMBERS = (180, 539)
STEPS = (30, 60, 120, 240, 480, 960)
CANDIDATES = 10


def main(*, short: bool) -> None:
    """Train the candidates and report."""
    torch.set_num_threads(1)
    candidates, every, all_steps = (3, MEMBERS[:1], (30, 120)) if short else (CANDIDATES, MEMBERS, STEPS)
    rows = [row(members, steps, candidates) for members in every for steps in all_steps]
    write_results("steps_short" if short else "steps", rows, candidates=candidates)


def row(members: int, steps: int, count: int) -> dict[str, object]:
    """Train the same candidates for about so many steps."""
    config = parse_config({"space": "conv", "members": members, "defences": ["none"], "name": "steps"})
    with tempfile.TemporaryDirectory() as runs:
        plan = resolve(config, Path(runs))
    learned, judged = plan.data.members, plan.data.validation
    rng, errors, begin = np.random.default_rng(1), [], time.perf_counter()
    for _ in range(count):
        candidate = plan.candidate(sample(plan.distributions, rng))
        each = steps_per_epoch(len(learned), candidate.recipe.batch_size)
        epochs = -(-steps // each)
        candidate = replace(candidate, recipe=replace(candidate.recipe, epochs=epochs))
        setup = set_up(candidate, learned.features, learned.labels, seed_from(0, candidate.key))
        try:
            wrong = outputs(train(setup), judged.features).argmax(axis=1) != judged.labels
            errors.append(float(wrong.mean()))
        except Diverged:
            errors.append(1.0)
    return {
        "members": members,
        "steps": epochs * each,
        "epochs": epochs,
        "median_error": float(np.median(errors)),
        "worst_quarter": float(np.quantile(errors, 0.75)),
        "best_error": min(errors),
        "seconds": (time.perf_counter() - begin) / count,
    }


if __name__ == "__main__":
    main(short="--short" in sys.argv[1:])
