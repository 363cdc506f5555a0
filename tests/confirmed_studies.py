"""Studies of made-up candidates with further trainings, in which nothing was trained."""

import optuna

from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.search.schema import CONFIG

OBJECTIVES = ("error", "leakage", "latency_ms")
HALF = 0.02
"""Half of the interval of the records alone, of every number."""


def around(value, half=HALF):
    return Estimate(value, value - half, value + half)


def study_of(*rows, again=None, objectives=OBJECTIVES, budgets=None, between=None):
    """A study with a candidate for each row of (error, leakage, latency_ms).

    Args:
        rows: The numbers of the first training of each.
        again: By candidate, (error, leakage) of each further training; None for one that diverged.
        objectives: Names, which may be those of ends.
        budgets: Upper limits by metric.
        between: Share of the variance between trainings that a bank of four pairs learned; None: it was not learned.
    """
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    study.set_user_attr(CONFIG, {"budgets": budgets or {}, "objectives": list(objectives)})
    if between is not None:
        row = {"share": between, "sd": 0.01, "pairs": 4}
        study.set_user_attr("between_trainings", dict.fromkeys(("error", "leakage", "loss_auc", "accuracy_gap"), row))
    for error, leakage, latency_ms in rows:
        trial = study.ask()
        measured = {"error": around(error), "leakage": around(leakage), "latency_ms": Estimate.exact(latency_ms)}
        numbers = flat(measured)
        for name, number in numbers.items():
            trial.set_user_attr(name, number)
        for name, limit in (budgets or {}).items():
            trial.set_constraint(name, numbers[name] - limit)
        trial.set_user_attr("key", f"{trial.number:016x}")
        study.tell(trial, [numbers[name] for name in objectives])
    for number, trainings in (again or {}).items():
        for repetition, training in enumerate(trainings, start=1):
            train_again(study, number, repetition, training)
    return study


def train_again(study, number, repetition, training, **more):
    """Write a further training into a study: (error, leakage), or None if it diverged."""
    if training is None:
        row = {"diverged": "the loss of epoch 2 is nan"}
    else:
        error, leakage = training
        row = {"measures": {**flat({"error": around(error), "leakage": around(leakage)}), **more}}
    study.set_user_attr(f"confirmed_{number}_{repetition}", row)
