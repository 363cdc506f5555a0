"""One candidate's evaluation as NNI carries it: a flat dictionary of numbers, for both engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import from_flat
from estimators.estimate import number_in
from nas.search.bench import Evaluated
from nas.search.bench import evaluate
from nas.search.plan import Plan
from nas.search.schema import EXITS
from nas.search.schema import NEVER_PREDICTED
from nas.search.schema import WEIGHTS
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.measures import MEASURED

# Starts the names of numbers that are wall time by phase.
SECONDS = "seconds_"
# Stand in a result for the reason, where a training gave no numbers: an outcome, the machine's fault, or a bug.
DIVERGED = "diverged"
OUT_OF_MEMORY = "out_of_memory"
DIED = "died"
FAILED = "failed"
# Starts the names of what comes beside the measures that every candidate has: a defence's guarantee, errors of classes.
GUARANTEE = "guarantee_"


def result_of(plan: Plan, bench: Bench, candidate: Candidate) -> dict[str, Any]:
    """Train a candidate, attack it, and write all numbers the way NNI reports a result.

    Args:
        plan: The resolved settings.
        bench: What every candidate is measured with.
        candidate: What to train.

    Returns:
        Costs and measures by name, the ends of an interval as `<name>_low` and `<name>_high`, what a defence states as
        `guarantee_<name>` and so the errors of classes, wall time by phase as `seconds_<phase>`, the digest of the
        weights, the classes never predicted, how many records leave at each exit, and the first objective once more as
        `default`, by which NNI ranks; lower is better. Means over exits follow from these, and are not carried.

    Raises:
        nas.training.loop.Diverged: If its training diverged.
    """
    evaluated = evaluate(plan, bench, candidate)
    costs = plan.prices(candidate.architecture)
    estimates = {**costs, **evaluated.measures}
    by_exit = plan.by_exit(candidate, evaluated.exits)
    means = {} if by_exit is None else by_exit.means
    first = number_in(flat({**estimates, **means}), plan.config.objectives[0])
    others: dict[str, Any] = {"default": first, WEIGHTS: evaluated.weights}
    others[NEVER_PREDICTED] = list(evaluated.never_predicted)
    others[EXITS] = list(evaluated.exits)
    for name in estimates.keys() - costs.keys() - set(MEASURED):
        others[f"{GUARANTEE}{name}"] = estimates.pop(name).value
    return others | flat(estimates) | {f"{SECONDS}{phase}": value for phase, value in evaluated.seconds.items()}


def evaluated_in(numbers: Mapping[str, Any]) -> Evaluated:
    """Read back what NNI carried.

    >>> numbers = {"error": 0.2, "error_low": 0.1, "error_high": 0.4, "leakage": 0.5, "tpr_at_1pct_fpr": 0.0}
    >>> numbers |= {"loss_auc": 0.6, "accuracy_gap": 0.0, "trainings": 1, "guarantee_epsilon": 8.0}
    >>> numbers |= {"balanced_error": 0.2, "rarest_class_error": 0.3}
    >>> found = evaluated_in({**numbers, "weights_sha256": "ab", "seconds_training": 2.0})
    >>> found.measures["error"].high, found.measures["epsilon"].high, found.seconds["training"]
    (0.4, 8.0, 2.0)
    """
    measures = {name: from_flat(numbers, name) for name in MEASURED}
    stated = {name.removeprefix(GUARANTEE): value for name, value in numbers.items() if name.startswith(GUARANTEE)}
    measures |= {name: Estimate.exact(value) for name, value in stated.items()}
    never = tuple(numbers.get(NEVER_PREDICTED, ()))
    return Evaluated(measures, seconds_in(numbers), numbers[WEIGHTS], never, tuple(numbers.get(EXITS, (1,))))


def seconds_in(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Read wall time by phase from what NNI carried; of a training that broke off there is some, too."""
    return {name.removeprefix(SECONDS): value for name, value in numbers.items() if name.startswith(SECONDS)}
