"""The proxy check: which candidates are audited, and what is concluded from a hand example."""

import io
import re

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from optuna.trial import create_trial
from rich.console import Console

from estimators.estimate import Estimate
from nas.audit import proxy_check
from nas.audit.proxy_check import as_json
from nas.audit.proxy_check import conclude
from nas.audit.proxy_check import proxy_of
from nas.audit.proxy_check import stratified
from nas.audit.proxy_check import summary
from nas.audit.proxy_check import table
from nas.runs.front_and_knee import front

OBJECTIVES = ("error", "leakage")


def trial(error, leakage, *, state=TrialState.COMPLETE):
    measured = {"error": error, "leakage": leakage, "leakage_low": leakage - 0.02, "leakage_high": leakage + 0.02}
    done = state == TrialState.COMPLETE
    return create_trial(
        state=state,
        values=[error, leakage] if done else None,
        params={"x": error},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs=measured if done else {},
    )


def study_of(points, rejected=0):
    study = optuna.create_study(directions=["minimize", "minimize"])
    for error, leakage in points:
        study.add_trial(trial(error, leakage))
        for _ in range(rejected):
            study.add_trial(trial(error, leakage, state=TrialState.PRUNED))
    return study


def line(count, best):
    """Candidates of rising leakage: `best` on the front, the others beaten by one of them."""
    on_front = [(0.5 - 0.3 * index / best, 0.5 + 0.2 * index / best) for index in range(best)]
    others = [(0.6, 0.52 + 0.4 * index / (count - best)) for index in range(count - best)]
    return study_of([*on_front, *others])


def numbers(trials):
    return [each.number for each in trials]


# Which candidates.


@pytest.mark.parametrize("count", [8, 9, 10, 11, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_are_of_the_front(count, seed):
    study = line(60, best=15)
    chosen = stratified(study, count, seed=seed)
    assert len(set(numbers(chosen))) == count
    best = {each.number for each in front(study)}
    assert best == set(range(15))
    # The others come from all the rest, which may hold some of the front, too.
    assert count // 2 <= len(best & set(numbers(chosen))) < count
    leakage = [each.user_attrs["leakage"] for each in chosen]
    assert leakage == sorted(leakage)


@pytest.mark.parametrize("count", [8, 10, 12])
def test_every_stratum_of_the_leakage_gives_one(count):
    study = line(60, best=1)
    rest = np.array_split(np.arange(1, 60), count - 1)  # numbers rise with the leakage
    for seed in range(5):
        first, *others = sorted(numbers(stratified(study, count, seed=seed)))
        assert first == 0
        assert [number in stratum for number, stratum in zip(others, rest, strict=True)] == [True] * (count - 1)


def test_the_choice_is_drawn_by_the_seed_alone():
    study = line(60, best=15)
    chosen = {tuple(numbers(stratified(study, seed=seed))) for seed in range(10)}
    assert numbers(stratified(study, seed=3)) == numbers(stratified(study, seed=3))
    assert len(chosen) == 10
    assert all(len(each) == 10 for each in chosen)


def test_a_small_front_is_taken_whole_and_the_rest_fills_up():
    study = line(40, best=2)
    chosen = stratified(study, 10, seed=0)
    assert len(chosen) == 10
    assert {0, 1} <= set(numbers(chosen))


@pytest.mark.parametrize("best", [1, 5, 8])
def test_where_few_were_trained_all_are_audited(best):
    chosen = stratified(
        line(8, best=best) if best < 8 else study_of([(0.8 - 0.1 * i, 0.1 * i) for i in range(8)]), 12, seed=0
    )
    assert sorted(numbers(chosen)) == list(range(8))


def test_rejected_candidates_are_never_chosen():
    study = study_of([(0.5, 0.5 + 0.01 * index) for index in range(12)], rejected=2)
    chosen = stratified(study, 12, seed=0)
    assert all(each.state == TrialState.COMPLETE for each in chosen)
    assert len(chosen) == 12


@pytest.mark.parametrize("count", [7, 13])
def test_eight_to_twelve_are_chosen(count):
    refusal = f"expected 8 to 12 candidates for the proxy check; got {count}"
    with pytest.raises(ValueError, match=f"^{refusal}$"):
        stratified(line(20, best=5), count, seed=0)


def test_fewer_than_eight_trained_are_refused():
    study = study_of([(0.5, 0.5 + 0.01 * index) for index in range(7)], rejected=3)
    refusal = "expected at least 8 trained candidates for the proxy check; got 7"
    with pytest.raises(ValueError, match=f"^{refusal}$"):
        stratified(study, seed=0)


def test_the_proxy_is_what_the_search_measured():
    assert proxy_of(trial(0.5, 0.6)) == Estimate(0.6, 0.58, 0.62)


# What is concluded: eight candidates, two neighbours of whom change places, all a tenth higher.

PROXY = (0.50, 0.52, 0.54, 0.56, 0.58, 0.60, 0.62, 0.64)
AUDITED = (0.60, 0.62, 0.66, 0.64, 0.68, 0.70, 0.72, 0.74)
ERRORS = (0.40, 0.35, 0.30, 0.31, 0.25, 0.26, 0.20, 0.15)


def by_hand(audited=AUDITED, errors=ERRORS, objectives=OBJECTIVES):
    trials = study_of(zip(errors, PROXY, strict=True)).trials
    return conclude(trials, objectives, [Estimate(value, value - 0.01, value + 0.01) for value in audited])


def test_correlations_and_bias_by_hand():
    found = by_hand()
    # Squared rank differences sum to 2, of 8: rho = 1 - 6 * 2 / (8 * 63). One pair of 28 is discordant.
    assert found.spearman.value == pytest.approx(1 - 12 / 504)
    assert found.kendall.value == pytest.approx(26 / 28)
    assert found.spearman.low < found.spearman.value < found.spearman.high
    assert found.bias == pytest.approx(-0.1)
    assert found.error == pytest.approx(0.1)
    assert [(each.number, each.proxy.value, each.audited.value) for each in found.lines] == list(
        zip(range(8), PROXY, AUDITED, strict=True)
    )
    assert found.warnings == ()


def test_bias_and_error_differ_where_the_proxy_errs_both_ways():
    found = by_hand([value + 0.05 * (-1) ** index for index, value in enumerate(PROXY)])
    assert found.bias == pytest.approx(0.0)
    assert found.error == pytest.approx(0.05)


def test_who_leaves_the_front_and_who_enters_by_hand():
    # By the proxy 3 (.31, .56) is beaten by 2 (.30, .54), and 5 by 4. By the audit 3 leaks less than 2 and enters.
    found = by_hand()
    assert (found.leave, found.enter) == ((), (3,))
    # Were the leakage of 1 the highest of all, everybody with a smaller error and 0 would beat it.
    worse = by_hand((0.60, 0.90, *AUDITED[2:]))
    assert (worse.leave, worse.enter) == ((1,), (3,))


def test_without_leakage_among_the_objectives_the_front_stays():
    found = by_hand(tuple(reversed(AUDITED)), objectives=("error",))
    assert found.leave == found.enter == ()


def test_below_a_rank_correlation_of_eight_tenths_it_warns():
    # With d the sum of squared rank differences rho is 1 - 6 d / 504: .8 at d = 16.8.
    good = by_hand((0.54, 0.52, 0.50, 0.60, 0.58, 0.56, 0.62, 0.64))  # 8 + 8
    bad = by_hand((0.54, 0.52, 0.50, 0.60, 0.58, 0.56, 0.64, 0.62))  # 8 + 8 + 2
    assert good.spearman.value == pytest.approx(1 - 96 / 504)
    assert bad.spearman.value == pytest.approx(1 - 108 / 504)
    assert good.warnings == ()
    (warning,) = bad.warnings
    assert warning.startswith("the proxy does not rank candidates as the audits do: Spearman 0.79 (0.06 to 0.97) over")
    assert "expected at least 0.8; choose by audits" in warning


def test_a_proxy_that_ranks_the_other_way_round_warns():
    found = by_hand(tuple(reversed(AUDITED)))
    assert found.spearman.value < -0.9
    assert found.warnings


# How it is told.


def test_json_has_every_number():
    written = as_json(by_hand())
    assert written["candidates"][3] == {
        "number": 3,
        "proxy": 0.56,
        "proxy_low": 0.56 - 0.02,
        "proxy_high": 0.56 + 0.02,
        "audited": 0.64,
        "audited_low": 0.64 - 0.01,
        "audited_high": 0.64 + 0.01,
    }
    assert written["enter_front"] == [3]
    assert written["leave_front"] == []
    assert written["spearman"] == pytest.approx(1 - 12 / 504)
    assert {"spearman_low", "spearman_high", "kendall", "kendall_low", "kendall_high"} <= written.keys()
    assert written["bias"] == pytest.approx(-0.1)
    assert written["mean_absolute_error"] == pytest.approx(0.1)
    assert written["warnings"] == []


def test_table_and_summary_say_who_leaves_and_who_enters():
    found = by_hand((0.60, 0.90, *AUDITED[2:]))
    screen = Console(file=io.StringIO(), width=120)
    screen.print(table(found))
    shown = screen.file.getvalue().splitlines()
    rows = {int(match[1]): row for row in shown if (match := re.match(r"\s*(\d+) ", row))}
    assert sorted(rows) == list(range(8))
    assert "leaves" in rows[1]
    assert "-0.380" in rows[1]
    assert "enters" in rows[3]
    assert all(word not in rows[number] for number in (0, 2, 4, 5, 6, 7) for word in ("leaves", "enters"))
    told = summary(found)
    assert told[2] == "ranked by the audits, 1 would leave the front; 3 would enter the front"
    assert told[3:] == list(found.warnings)
    assert proxy_check.ENOUGH == 0.8
    stays = summary(by_hand(objectives=("error",)))
    assert stays[2] == "ranked by the audits, the front of these candidates is the same"
    assert "Spearman 0.98 (" in stays[0]
    assert stays[1] == "mean absolute error of the proxy 0.100, bias -0.100 (negative: the proxy is too low)"


def test_an_end_of_the_leakage_may_be_the_objective():
    beaten = [(0.5 + 0.01 * index, 0.7 + 0.01 * index) for index in range(6)]
    trials = study_of([(0.1, 0.60), (0.2, 0.55), *beaten]).trials
    audited = [Estimate(0.60, 0.59, 0.61), Estimate(0.58, 0.54, 0.62)]
    audited += [Estimate(leakage + 0.1, leakage, leakage + 0.2) for _, leakage in beaten]
    # The second candidate errs more. By its upper end in the audit, not by its value, it also leaks more.
    assert conclude(trials, ("error", "leakage_high"), audited).leave == (1,)
    assert conclude(trials, ("error", "leakage"), audited).leave == ()
