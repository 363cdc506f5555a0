"""One candidate's evaluation as NNI carries it: a flat dictionary of numbers, for both engines."""

from __future__ import annotations

from collections.abc import Mapping

from estimators.estimate import Estimate
from nas.search.bench import evaluate
from nas.search.plan import Plan
from nas.search.plan import price
from nas.training.assess import MEASURED
from nas.training.assess import Bench
from nas.training.assess import Candidate

# Starts the names of numbers that are wall time by phase.
SECONDS = "seconds_"
# Stand in a result for the reason, where a training gave no numbers: an outcome, or a bug.
DIVERGED = "diverged"
FAILED = "failed"
# Starts the names of what a defence states beside the measures that every candidate has.
GUARANTEE = "guarantee_"


def measure(plan: Plan, bench: Bench, candidate: Candidate) -> dict[str, float]:
    """Train a candidate, attack it, and write all numbers the way NNI reports a result.

    Args:
        plan: The resolved settings.
        bench: What every candidate is measured with.
        candidate: What to train.

    Returns:
        Costs and measures by name, the ends of an interval as `<name>_low` and `<name>_high`, what a defence states as
        `guarantee_<name>`, wall time by phase as `seconds_<phase>`, and the first objective once more as `default`, by
        which NNI ranks; lower is better.

    Raises:
        nas.training.loop.Diverged: If its training diverged.
    """
    measures, seconds = evaluate(plan, bench, candidate)
    costs = price(plan, candidate.architecture)
    estimates = {**costs, **measures}
    numbers = {"default": estimates[plan.config.objectives[0]].value}
    for name, estimate in estimates.items():
        if name not in MEASURED and name not in costs:
            numbers[f"{GUARANTEE}{name}"] = estimate.value
            continue
        numbers[name] = estimate.value
        if estimate.low < estimate.high:
            numbers[f"{name}_low"] = estimate.low
            numbers[f"{name}_high"] = estimate.high
    return numbers | {f"{SECONDS}{phase}": value for phase, value in seconds.items()}


def measures_in(numbers: Mapping[str, float]) -> dict[str, Estimate]:
    """Read the measures back from what NNI carried.

    >>> numbers = {"error": 0.2, "error_low": 0.1, "error_high": 0.4, "leakage": 0.5, "tpr_at_1pct_fpr": 0.0}
    >>> numbers |= {"loss_auc": 0.6, "accuracy_gap": 0.0, "trainings": 1, "guarantee_epsilon": 8.0}
    >>> measures_in({"default": 0.2, "macs": 9, **numbers})["epsilon"]
    Estimate(value=8.0, low=8.0, high=8.0)
    >>> measures_in({"default": 0.2, "macs": 9, **numbers})["error"]
    Estimate(value=0.2, low=0.1, high=0.4)
    """
    measured = {
        name: Estimate(
            numbers[name], numbers.get(f"{name}_low", numbers[name]), numbers.get(f"{name}_high", numbers[name])
        )
        for name in MEASURED
    }
    stated = {name.removeprefix(GUARANTEE): value for name, value in numbers.items() if name.startswith(GUARANTEE)}
    return measured | {name: Estimate.exact(value) for name, value in stated.items()}


def seconds_in(numbers: Mapping[str, float]) -> dict[str, float]:
    """Read wall time by phase from what NNI carried."""
    return {name.removeprefix(SECONDS): value for name, value in numbers.items() if name.startswith(SECONDS)}
