"""Rungs: who goes on, what a stopped candidate leaves, and that nothing else depends on them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from nas.runs.progress import count
from nas.search import rungs
from nas.search import schema
from nas.search import study as search
from nas.search.bench import weights_path
from nas.search.config import parse_config
from nas.search.ledger import spent_on
from nas.search.rungs import KEPT
from nas.search.rungs import MARGIN
from nas.search.rungs import Rung
from nas.search.rungs import contributions
from nas.search.rungs import places
from nas.search.rungs import row_of
from nas.search.rungs import rungs_of
from nas.search.storage import open_study
from nas.training.assess import Assessment
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.recipe import Recipe
from search_spaces import mlp
from tests.small_search import NO_BENCH
from tests.small_search import elsewhere
from tests.small_search import evaluated
from tests.small_search import measures_of
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import with_settings

few = hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
SPACE = mlp.make_space((4,), 3)


@st.composite
def points(draw, most=7):
    objectives = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 4), min_size=objectives, max_size=objectives)
    return np.array(draw(st.lists(row, min_size=1, max_size=most)), dtype=float)


def candidate(epochs):
    return Candidate(SPACE.decode(SPACE.reference), Recipe(epochs=epochs))


# The rungs of a training


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, {}),
        (2, {"rung_2": 1}),
        (4, {"rung_2": 1}),
        (5, {"rung_1": 1, "rung_2": 2}),
        (9, {"rung_1": 1, "rung_2": 3}),
        (10, {"rung_1": 1, "rung_2": 3}),
        (14, {"rung_1": 2, "rung_2": 5}),
        (40, {"rung_1": 4, "rung_2": 13}),
        (160, {"rung_1": 18, "rung_2": 53}),
    ],
)
def test_rungs_by_hand(epochs, expected):
    assert {rung.name: rung.epochs for rung in rungs_of(candidate(epochs))} == expected


def test_rungs_come_in_order_and_before_the_end():
    for epochs in range(1, 500):
        found = [rung.epochs for rung in rungs_of(candidate(epochs))]
        assert found == sorted(set(found))
        assert all(1 <= at < epochs for at in found)


def test_what_is_trained_in_several_stages_has_none():
    one = candidate(9)
    sparse = tuple(op._replace(sparsity=0.5) if op.kind == "linear" else op for op in one.architecture.ops)
    assert rungs_of(replace(one, architecture=one.architecture.with_ops(sparse))) == ()


# Who is better


def dominates(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def ranks_of(values):
    """Peel fronts off, one after the other."""
    left, ranks, rank = set(range(len(values))), {}, 0
    while left:
        front = {one for one in left if not any(dominates(values[other], values[one]) for other in left)}
        ranks |= dict.fromkeys(front, rank)
        left, rank = left - front, rank + 1
    return [ranks[index] for index in range(len(values))]


def alone(front, reference):
    """What each point alone dominates, by inclusion and exclusion over what it shares with sets of others."""
    found = []
    for index, point in enumerate(front):
        others = [other for place, other in enumerate(front) if place != index]
        volume = Fraction(0)
        for size in range(len(others) + 1):
            for chosen in itertools.combinations(others, size):
                corner = [max(values) for values in zip(point, *chosen, strict=True)]
                product = Fraction(1)
                for end, value in zip(reference, corner, strict=True):
                    product *= end - value
                volume += (-1) ** size * product
        found.append(volume)
    return found


@few
@given(points())
def test_contributions_against_inclusion_and_exclusion(values):
    front = values[[rank == 0 for rank in ranks_of(values.tolist())]]
    reference = np.full(values.shape[1], 5.0)
    exact = alone([[Fraction(int(value)) for value in row] for row in front], [Fraction(5)] * values.shape[1])
    np.testing.assert_allclose(contributions(front, reference), [float(volume) for volume in exact], atol=1e-9)


@few
@given(points())
def test_places_go_by_rank_then_by_contribution_then_by_age(values):
    found, ranks = places(values), ranks_of(values.tolist())
    assert sorted(found) == list(range(1, len(values) + 1))
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = [
        [
            Fraction(int(value - least), int(most - least) or 1)
            for value, least, most in zip(row, low, high, strict=True)
        ]
        for row in values
    ]
    beyond = 1 + Fraction(MARGIN).limit_denominator(100)
    added = {}
    for rank in set(ranks):
        inside = [index for index, one in enumerate(ranks) if one == rank]
        volumes = alone([scaled[index] for index in inside], [beyond] * len(low))
        added |= dict(zip(inside, volumes, strict=True))
    order = sorted(range(len(values)), key=found.__getitem__)
    for one, other in itertools.pairwise(order):
        assert ranks[one] <= ranks[other]
        if ranks[one] == ranks[other]:
            assert added[one] >= added[other] - Fraction(1, 10**9)


@few
@given(points(), st.integers(-8, 8))
def test_the_unit_of_an_objective_does_not_matter(values, exponent):
    scaled = values.copy()
    scaled[:, -1] *= 2.0**exponent
    assert places(scaled).tolist() == places(values).tolist()


def test_places_by_hand():
    equal = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert places(equal).tolist() == [1, 2, 3]  # nobody adds anything: the earlier one
    crowded = np.array([[0.0, 10.0], [4.9, 5.1], [5.0, 5.0], [10.0, 0.0], [11.0, 11.0]])
    assert places(crowded).tolist()[4] == 5
    assert set(places(crowded)[[1, 2]].tolist()) == {3, 4}  # each takes from what the other adds
    one = np.array([[0.3], [0.1], [0.2]])
    assert places(one).tolist() == [3, 1, 2]


@few
@given(points(most=12))
def test_nobody_goes_on_before_one_that_dominates_it(values):
    rows = decided(values.tolist())
    for number, row in enumerate(rows):
        better = [dominates(values[earlier], values[number]) for earlier in range(number)]
        if row["goes_on"] and number >= KEPT - 1:
            # At least as many as dominate it are before it, and all of them are within the third.
            assert sum(better) < row["place"] <= (number + 1) // KEPT


def decided(values):
    """Let candidates arrive at a rung one after the other."""
    return [
        row_of(Rung("rung_1", 1), candidate(9), {"error": mine[0]}, mine, values[:number])
        for number, mine in enumerate(values)
    ]


def test_who_goes_on_by_hand():
    errors = [0.5, 0.9, 0.4, 0.6, 0.3, 0.39, 0.35, 0.95, 0.2]
    rows = decided([[error] for error in errors])
    assert [row["place"] for row in rows] == [1, 2, 1, 3, 1, 2, 2, 8, 1]
    assert [row["among"] for row in rows] == list(range(1, 10))
    assert [row["goes_on"] for row in rows] == [True, True, True, False, True, True, True, False, True]
    assert rows[3] == {"epochs": 1, "of": 9, "place": 3, "among": 4, "goes_on": False, "error": 0.6}


@few
@given(st.permutations(range(9)))
def test_the_best_goes_on_in_any_order(errors):
    rows = decided([[float(error)] for error in errors])
    assert rows[errors.index(0)]["goes_on"]
    worst = rows[errors.index(8)]
    assert worst["goes_on"] == (worst["among"] < KEPT)


# A search with rungs, nothing trained


@pytest.fixture(scope="module")
def nine_epochs(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), recipe={"epochs": 9}, fidelity="rungs", trials=6)


@pytest.fixture
def plan(nine_epochs, tmp_path):
    return elsewhere(nine_epochs, tmp_path / "run")


def found_at(one, epochs):
    """What a look finds, made from the key and the epochs."""
    return Assessment(measures_of(f"{one.key} {epochs}"), (), (1,), None, {})


@pytest.fixture
def looked(monkeypatch):
    """Replace trainings by looks at made-up numbers and a made-up end; returns (key, epochs) of each look, and ends."""
    seen = []

    def evaluate(_plan, _bench, one, looks):
        for epochs in range(1, one.recipe.epochs):
            if epochs in looks.epochs:
                seen.append((one.key, epochs))
                looks.judge(epochs, found_at(one, epochs))
        seen.append((one.key, one.recipe.epochs))
        return evaluated(one.key)

    monkeypatch.setattr(search, "evaluate", evaluate)
    monkeypatch.setattr(search, "make_bench", lambda _: NO_BENCH)
    return seen


def stopped_in(study):
    return [
        trial
        for trial in study.get_trials(states=(TrialState.PRUNED,))
        if trial.user_attrs["rejected"].startswith("stopped")
    ]


def test_a_search_stops_what_is_not_among_the_best_third_and_invents_nothing(plan, looked):
    study = run_here(plan)
    stopped, trials = stopped_in(study), study.get_trials()
    assert {"rung_1", "rung_2"} <= set().union(*(trial.user_attrs for trial in stopped))
    for trial in stopped:
        assert trial.values is None
        assert not {"error", "leakage", "weights_sha256"} & trial.user_attrs.keys()
        assert max(trial.constraints.values()) < 0  # nobody may take it for infeasible
        assert trial.user_attrs["rejected"] == rungs.reason_in(trial.user_attrs)
    for name, at in (("rung_1", 1), ("rung_2", 3)):
        there = []
        for trial in (trial for trial in trials if name in trial.user_attrs):
            row, made = trial.user_attrs[name], measures_of(f"{trial.user_attrs['key']} {at}")
            mine = [made["error"].value, made["leakage"].value, trial.user_attrs["latency_ms"]]
            assert [row[of] for of in plan.config.objectives] == mine
            place = int(places(np.array([*there, mine]))[-1])
            there.append(mine)
            assert (row["epochs"], row["of"], row["among"], row["place"]) == (at, 9, len(there), place)
            assert row["goes_on"] == (len(there) < 3 or place <= len(there) // 3)
    for trial in trials:
        rows = [trial.user_attrs[name]["goes_on"] for name in schema.RUNGS if name in trial.user_attrs]
        expected = {TrialState.COMPLETE: [True, True], TrialState.PRUNED: [*[True] * (len(rows) - 1), False]}
        assert "rung_1" not in trial.user_attrs or rows == expected[trial.state]
    trained = [key for key, at in looked if at == 9]
    assert trained == [trial.user_attrs["key"] for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    assert len({key for key, at in looked if at == 1}) == sum("rung_1" in trial.user_attrs for trial in trials)


def test_the_budget_counts_shares_of_epochs_exactly(plan, looked):
    study = run_here(plan)
    ends = Counter(max(at for key, at in looked if key == one) for one in {key for key, _ in looked})
    spent = sum(map(spent_on, study.get_trials()))
    assert spent == ends[9] + Fraction(ends[1], 9) + Fraction(ends[3], 3)
    assert ends[1] > 0
    assert 6 - 1 < spent <= 6
    counts = count(study.get_trials())
    assert (counts.trained, counts.stopped, counts.spent) == (ends[9], ends[1] + ends[3], float(spent))
    assert f"{counts.stopped} stopped: " in str(counts)
    assert not counts.has_room(6)


def test_without_rungs_nothing_is_looked_at(plan, monkeypatch):
    given_to = []

    def evaluate(*given):
        given_to.append(given[3:])
        return evaluated(given[2].key)

    monkeypatch.setattr(search, "evaluate", evaluate)
    monkeypatch.setattr(search, "make_bench", lambda _: NO_BENCH)
    study = run_here(with_settings(plan, fidelity="off"))
    assert given_to == [()] * 6
    assert count(study.get_trials()).trained == 6


def interrupting(monkeypatch, looked, when):
    """Press Ctrl-C before or after the judgement of some looks."""
    judge = search._judge

    def interrupted(plan, study, proposal, rung, found):
        before, after = when(len(looked))
        if before:
            raise KeyboardInterrupt
        try:
            judge(plan, study, proposal, rung, found)
        finally:
            if after:
                raise KeyboardInterrupt

    monkeypatch.setattr(search, "_judge", interrupted)


@pytest.mark.parametrize("place", [0, 1], ids=["before", "after"])
def test_a_search_broken_off_at_every_look_equals_one_that_was_not(plan, tmp_path, looked, monkeypatch, place):
    expected = record_of(run_here(elsewhere(plan, tmp_path / "whole")))
    looked.clear()
    done = set()

    def when(_):
        key = looked[-1]
        first_time = key not in done
        done.add(key)
        return (first_time and place == 0, first_time and place == 1)

    interrupting(monkeypatch, looked, when)
    for _ in range(200):
        try:
            study = run_here(plan)
        except KeyboardInterrupt:
            continue
        break
    assert record_of(study) == expected
    if place == 1:  # what was decided is not looked at again
        assert max(Counter(look for look in looked if look[1] < 9).values()) == 1


def test_a_decision_stays_whoever_comes_later(plan, looked, monkeypatch):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    looks = search.looks_at(plan, study, proposal)
    assert looks.epochs == (1, 3)
    looks.judge(1, found_at(proposal.candidate, 1))
    row = dict(proposal.trial.user_attrs["rung_1"])
    looks.judge(1, found_at(proposal.candidate, 3))  # as after an outage, when the answer was lost
    assert study.get_trials()[0].user_attrs["rung_1"] == row
    proposal.hold.release()
    again = search.propose(plan, open_study(plan))
    assert again.trial.number == proposal.trial.number
    assert search.looks_at(plan, study, again).epochs == (3,)
    again.hold.release()


def test_a_trial_that_was_stopped_before_it_could_say_so_is_not_trained(plan, looked):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    row = {"epochs": 1, "of": 9, "place": 4, "among": 4, "goes_on": False, "error": 0.9, "leakage": 0.5}
    proposal.trial.set_user_attr("rung_1", {**row, "latency_ms": 1.0})
    proposal.hold.release()
    study = run_here(with_settings(plan, trials=1))
    first = study.get_trials()[0]
    assert first.state == TrialState.PRUNED
    assert first.user_attrs["rejected"] == "stopped at rung 1 of 2: place 4 of 4 after 1 of 9 epochs, 1 goes on"
    assert first.user_attrs["key"] not in {key for key, _ in looked}


def test_a_stopped_candidate_is_not_trained_again(plan, looked):
    study = run_here(plan)
    stopped, number = stopped_in(study)[0], len(study.get_trials())
    study.enqueue_trial(stopped.params)
    again = run_here(with_settings(plan, trials=7)).get_trials()[number]
    assert again.params == stopped.params
    assert again.user_attrs["rejected"] == f"duplicate of trial {stopped.number}"


def test_a_trial_that_was_given_away_in_the_meantime_is_left(plan, looked):
    study = open_study(plan)
    proposal = search.propose(plan, study)
    study._storage.set_trial_state_values(proposal.trial._trial_id, TrialState.FAIL)
    with pytest.raises(rungs.Stopped, match="its trial has ended"):
        search.looks_at(plan, study, proposal).judge(1, found_at(proposal.candidate, 1))


def test_a_failed_trial_is_nobody_to_compare_with(plan, looked):
    study = open_study(plan)
    for _ in range(4):
        proposal = search.propose(plan, study)
        search.looks_at(plan, study, proposal).judge(1, found_at(proposal.candidate, 1))
        assert proposal.trial.user_attrs["rung_1"]["among"] == 1
        search.fail(study, proposal, "a bug")


def test_means_over_exits_are_objectives_at_a_rung_too(tmp_path, looked):
    plan = planned(tmp_path, recipe={"epochs": 9}, fidelity="rungs", objectives=["error_high", "mean_latency_ms"])
    study = open_study(plan)
    proposal = search.propose(plan, study)
    found = found_at(proposal.candidate, 1)
    search.looks_at(plan, study, proposal).judge(1, found)
    row = proposal.trial.user_attrs["rung_1"]
    assert row["error_high"] == found.measures["error"].high
    assert row["mean_latency_ms"] == proposal.trial.user_attrs["latency_ms"]
    assert (row["error"], row["leakage"]) == tuple(found.measures[name].value for name in ("error", "leakage"))


# Settings, and studies of others


@pytest.mark.parametrize("engine", ["nni", "nni-service"])
def test_nni_is_refused(engine):
    with pytest.raises(ValueError, match=rf"expected the engine 'optuna' for fidelity 'rungs'.*got '{engine}'"):
        parse_config({"fidelity": "rungs", "engine": engine})


def test_a_table_and_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it trains nothing; got \['fidelity'\]"):
        parse_config({"fidelity": "rungs", "evaluator": "table", "data_path": str(tmp_path / "t.csv")})
    with pytest.raises(ValueError, match=r"no fidelity 'some'; there are \['off', 'rungs'\]"):
        parse_config({"fidelity": "some"})
    assert parse_config({}).fidelity == "off"


def test_a_run_keeps_its_fidelity(plan, looked):
    run_here(plan)
    with pytest.raises(ValueError, match=r"fidelity: was 'rungs', now 'off'"):
        open_study(with_settings(plan, fidelity="off"))


ROW = {
    "epochs": 1, "of": 9, "place": 1, "among": 2, "goes_on": True, "error": 0.5, "leakage": 0.5, "latency_ms": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        None, 5, [], {}, {**ROW, "epochs": 9}, {**ROW, "epochs": 0}, {**ROW, "of": "9"}, {**ROW, "place": 3},
        {**ROW, "goes_on": 1}, {**ROW, "error": None}, {**ROW, "more": "text"}, {**ROW, "epochs": 1.0},
        {name: value for name, value in ROW.items() if name != "latency_ms"},
    ],
)  # fmt: skip
def test_a_rung_of_another_kind_is_refused(row):
    config = SimpleNamespace(objectives=("error", "leakage", "latency_ms"))
    schema._check_rungs(SimpleNamespace(user_attrs={"rung_2": ROW}), config, "trial 0")
    with pytest.raises(ValueError, match="rung_2"):
        schema._check_rungs(SimpleNamespace(user_attrs={"rung_2": row}), config, "trial 0")


# Real trainings


def test_a_real_search_trains_fewer_epochs_and_its_candidates_are_those_of_any_search(tmp_path):
    recipe = {"epochs": 9, "dropout": {"low": 0.0, "high": 0.5}}
    plan = planned(tmp_path, recipe=recipe, fidelity="rungs", trials=4, sampler="random")
    study = run_here(plan)
    counts = count(study.get_trials())
    assert counts.stopped > 0
    assert 3 < counts.spent <= 4
    bench = search.open_bench(plan, study)
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        again = assess(plan.candidate(trial.params), bench)
        assert trial.user_attrs["error"] == again.measures["error"].value
        assert trial.user_attrs["leakage"] == again.measures["leakage"].value
        # To the bit: the digest is that of the file with the weights.
        assert weights_path(plan.folder, trial.user_attrs["key"]).exists()
        assert search.evaluate(plan, bench, plan.candidate(trial.params)).weights == trial.user_attrs["weights_sha256"]
    for trial in stopped_in(study):
        assert not weights_path(plan.folder, trial.user_attrs["key"]).exists()
