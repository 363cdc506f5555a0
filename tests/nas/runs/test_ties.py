"""Ties: the interval of a difference by hand, and what makes candidates a tie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.runs.ties import are_tied
from nas.runs.ties import difference
from nas.runs.ties import has_noise
from nas.runs.ties import sentences
from nas.runs.ties import ties
from nas.runs.ties import ties_in
from nas.search.schema import CONFIG

few = settings(max_examples=60, deadline=None, derandomize=True)
numbers = st.floats(-10, 10)
widths = st.floats(0, 5)
estimates = st.builds(
    lambda value, below, above: Estimate(value, value - below, value + above), numbers, widths, widths
)


def test_the_interval_of_a_difference_by_hand():
    # 56 of 70 and 48 of 80 with their Wilson intervals. Newcombe (1998, table II, method 10) has .0524 to .3339 for the
    # difference of .2: his method is MOVER of these.
    first, second = Estimate(56 / 70, 0.6918, 0.8770), Estimate(48 / 80, 0.4905, 0.7004)
    found = difference(first, second)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-4)


@few
@given(estimates, estimates)
def test_a_difference_turns_round_with_its_parts(first, second):
    there, back = difference(first, second), difference(second, first)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert are_tied(first, second) == are_tied(second, first)
    assert are_tied(first, first)


@few
@given(estimates, estimates, widths)
def test_more_noise_never_breaks_a_tie(first, second, more):
    wider = replace(second, low=second.low - more, high=second.high + more)
    assert are_tied(first, wider) or not are_tied(first, second)


def test_exact_numbers_are_tied_only_where_they_are_equal():
    assert are_tied(Estimate.exact(3), Estimate.exact(3))
    assert not are_tied(Estimate.exact(3), Estimate.exact(3.001))


def test_equal_candidates_are_tied_and_different_ones_are_not():
    """On the same records, where the errors of two networks vary together: the null and the positive control."""
    rng = np.random.default_rng(0)
    records, times = 400, 400
    hard = rng.random((times, records))  # a record is wrong where it is harder than a network is good

    def share_tied(better, worse):
        found = 0
        for row in hard:
            wrong = [int((row + 0.2 * rng.random(records) < rate).sum()) for rate in (better, worse)]
            found += are_tied(*(proportion_interval(count, records) for count in wrong))
        return found / times

    assert share_tied(0.3, 0.3) >= 0.95
    assert share_tied(0.3, 0.5) <= 0.05


def test_ties_by_measure_and_how_they_are_told():
    chosen = {"error": Estimate(0.10, 0.08, 0.12), "leakage": Estimate(0.60, 0.57, 0.63)}
    near = {"error": Estimate(0.20, 0.18, 0.22), "leakage": Estimate(0.58, 0.55, 0.61)}
    far = {"error": Estimate(0.11, 0.09, 0.13), "leakage": Estimate(0.80, 0.77, 0.83)}
    tied = ties(chosen, {4: near, 9: far, 12: near})
    assert tied == {"error": [9], "leakage": [4, 12]}
    trial = optuna.trial.create_trial(value=0.0)
    trial.number = 17
    assert sentences(trial, tied) == [
        "candidate 9 is tied with 17 in error: the difference is within the noise",
        "candidates 4, 12 are tied with 17 in leakage: their differences are within the noise",
    ]
    assert sentences(trial, {"error": [], "leakage": []}) == []


def test_the_measured_objectives_are_compared_also_where_an_end_is_the_objective():
    study = optuna.create_study(directions=["minimize"] * 2)
    study.set_user_attr(CONFIG, {"objectives": ["leakage_high", "latency_ms"]})
    for leakage in (0.60, 0.61, 0.90):
        trial = study.ask()
        for name, number in flat({"leakage": Estimate(leakage, leakage - 0.03, leakage + 0.03)}).items():
            trial.set_user_attr(name, number)
        trial.set_user_attr("latency_ms", 1.0)
        study.tell(trial, [leakage + 0.03, 1.0])
    first, *_ = study.trials
    assert ties_in(study, first, study.trials) == {"leakage": [1]}


def test_what_is_measured_has_noise_and_what_is_predicted_or_an_end_has_none():
    assert all(map(has_noise, ("error", "leakage", "class_error_<=50K")))
    assert not any(map(has_noise, ("latency_ms", "macs", "leakage_high", "epsilon")))
