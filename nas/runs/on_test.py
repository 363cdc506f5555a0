"""The error of a picked network on test records, measured once and kept in the study.

It says what the network at hand errs on records that nothing was chosen by. That holds for the first pick: whoever
picks several candidates and keeps the one with the lowest error chooses by the test records. So the study knows of
which candidates it was looked at, and the card and later audits say so. An audit takes the test records as non-members.
It loses nothing by one look that no choice follows from.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.base import processes
from nas.runs.run import Run
from nas.search.schema import errors_on_test


def measured(run: Run, trial: FrozenTrial) -> Estimate:
    """Return the error of a candidate's weights on the test records of its run; measure it if nobody has.

    Raises:
        ValueError: If the weights or the records are not those of the search.
    """
    known = errors_on_test(run.study.user_attrs)
    if trial.number in known:
        return known[trial.number]
    from nas.training.assess import outputs  # noqa: PLC0415 - what was measured before is read without PyTorch
    from nas.training.loop import compute_device  # noqa: PLC0415

    test, network = run.data.test, run.network(trial).to(compute_device())
    with processes.one_thread():
        wrong = int((outputs(network, test.features).argmax(axis=1) != test.labels).sum())
    return keep(run.study, trial.number, proportion_interval(wrong, len(test)))


def keep(study: optuna.Study, number: int, error: Estimate) -> Estimate:
    """Keep the error of a candidate on test records, unless it is known, and return what is known."""
    known = errors_on_test(study.user_attrs)
    if number not in known:
        row = {"error_low": error.low, "error_high": error.high, **flat({"error": error})}
        study.set_user_attr(f"test_error_{number}", {name: float(value) for name, value in row.items()})
    return known.get(number, error)
