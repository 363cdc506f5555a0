"""First candidates from a super-network: which networks are screened, which are chosen, what a study keeps."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.base.plugins import available
from nas.pricing.limits import over
from nas.runs.report import row
from nas.runs.report import settings_lines
from nas.search import like
from nas.search import supernet
from nas.search.schema import PREDICTED
from nas.search.schema import given_to
from nas.search.supernet import pool_of
from nas.search.supernet import predicted_best
from nas.search.supernet import spread
from nas.training.supernet import Prediction
from search_spaces.space import check_point
from tests.small_search import planned
from tests.small_search import run_here
from tests.small_search import without_training

SMALL = {"space": "mobile", "like": ["supernet"], "set": {"stages": {"low": 1, "high": 2}, "resolution": [1]}}


def share_of(key, what):
    return hashlib.sha256(f"{what} {key}".encode()).digest()[0] / 255


class Made:
    """A screen of predictions that are made of a network's key; some networks have none."""

    spec = SimpleNamespace(recipe=SimpleNamespace(epochs=20))

    def __init__(self):
        self.asked = []

    def predict(self, architecture):
        self.asked.append(architecture.key)
        if architecture.key < "2":
            return None
        return Prediction(share_of(architecture.key, "error"), share_of(architecture.key, "leakage"))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(supernet, "DRAWN", 60)


@pytest.fixture
def made(monkeypatch, few):
    """Predictions and trainings without any training; returns the screen."""
    screen = Made()
    without_training(monkeypatch)
    monkeypatch.setattr(supernet, "make_bench", lambda plan: None)
    monkeypatch.setattr(supernet, "_screen", lambda plan, bench, pool: screen)
    return screen


# --- which are screened ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_networks_that_are_screened_are_points_within_the_limits(tmp_path):
    plan = planned(tmp_path, **SMALL, budgets={"latency_ms": 20.0})
    pool = pool_of(plan)
    assert 20 < len(pool) < 60
    assert len({one.architecture.key for one in pool}) == len(pool)
    for one in pool:
        check_point(plan.space.distributions, one.params, "the space")
        assert plan.space.decode(one.params).key == one.architecture.key
        assert one.costs["latency_ms"] <= 20.0
        assert not over(one.costs, plan.limits)
    unlimited = pool_of(planned(tmp_path, **SMALL))
    assert len(unlimited) > len(pool)
    assert [one.number for one in unlimited] == [one.number for one in pool_of(planned(tmp_path, **SMALL))]
    assert [one.params for one in pool_of(planned(tmp_path, **SMALL, seed=1))] != [one.params for one in unlimited]


@pytest.mark.usefixtures("few")
def test_the_largest_networks_are_left_out(tmp_path, monkeypatch):
    plan = planned(tmp_path, **SMALL)
    sizes = lambda pool: np.array([supernet._sizes(one.architecture) for one in pool])
    less = sizes(pool_of(plan))
    monkeypatch.setattr(supernet, "LARGEST", 0.0)
    everyone = sizes(pool_of(plan))
    gone = [size for size in everyone.tolist() if size not in less.tolist()]
    assert 0 < len(gone) < 0.25 * len(everyone)
    assert all((np.array(size) > less.max(axis=0)).any() for size in gone)


@pytest.mark.usefixtures("few")
def test_a_search_whose_limits_nothing_keeps_is_refused(tmp_path, monkeypatch):
    plan = planned(tmp_path, **SMALL)
    monkeypatch.setattr(supernet, "over", lambda costs, limits: ["all"])
    with pytest.raises(ValueError, match="expected networks within the limits for like 'supernet'; 0 of 60 points"):
        pool_of(plan)


# --- which are chosen ------------------------------------------------------------------------------------------------

TABLES = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25)


@given(TABLES, st.integers(1, 12))
def test_no_row_is_chosen_before_one_that_dominates_it(rows, count):
    values = np.array(rows, dtype=float)
    chosen = spread(values, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(rows))
    for place, left in enumerate(values):
        if place not in chosen:
            assert not any((left <= values[one]).all() and (left < values[one]).any() for one in chosen)


def test_those_that_lie_close_together_go_first_and_the_ends_stay():
    values = np.array([[at, 10 - at] for at in (0, 4.9, 5, 5.1, 8, 10)], dtype=float)
    assert spread(values, 4) == [0, 1, 4, 5]
    assert spread(values, 2) == [0, 5]


def test_the_chosen_are_best_by_predictions_and_exact_costs(tmp_path, made):
    plan = planned(tmp_path, **SMALL)
    found, pool = predicted_best(plan), pool_of(plan)
    known = [one for one in pool if one.architecture.key >= "2"]
    assert made.asked == [one.architecture.key for one in pool]
    assert found.screened == len(known) < len(pool)
    assert (found.drawn, found.epochs, found.left_out) == (60, 20, ())

    def values(one):
        predicted = [share_of(one.architecture.key, what) for what in ("error", "leakage")]
        return np.array([*predicted, one.costs["latency_ms"]])

    assert len(found.best) == supernet.CHOSEN
    chosen = {one.number for one in found.best}
    for one in known:
        if one.number not in chosen:
            worse = [best for best in found.best if (values(one) <= values(best)).all()]
            assert not [best for best in worse if (values(one) < values(best)).any()]
    assert [values(one)[0] for one in found.best] == sorted(values(one)[0] for one in found.best)


@pytest.mark.usefixtures("made")
def test_an_objective_that_is_not_predicted_is_named(tmp_path):
    plan = planned(tmp_path, **SMALL, objectives=["tpr_at_1pct_fpr", "error_high", "latency_ms"])
    assert predicted_best(plan).left_out == ("tpr_at_1pct_fpr",)
    assert like.liked(plan).lines[2] == "like supernet: it does not predict tpr_at_1pct_fpr"
    with pytest.raises(ValueError, match="expected an objective that is a cost, error or leakage"):
        predicted_best(planned(tmp_path, **SMALL, objectives=["tpr_at_1pct_fpr"]))


# --- what a study keeps ----------------------------------------------------------------------------------------------


def test_the_chosen_are_trained_first_and_predictions_are_kept_apart(tmp_path, made, monkeypatch):
    monkeypatch.setattr("nas.search.study.screen_of", lambda plan, bench: made)
    plan = planned(tmp_path, **SMALL, trials=14, recipe={"epochs": {"low": 2, "high": 8}})
    study = run_here(plan)
    best = {one.number: one for one in predicted_best(plan).best}
    trials = study.get_trials()
    first = [given_to(study.user_attrs, trial) for trial in trials[: len(best)]]
    assert {one.of for one in first} == {f"supernet:{number}" for number in best}
    for one, trial in zip(first, trials, strict=False):
        assert row(study, trial)["like"] == one.of
        assert plan.candidate(trial.params).architecture.key == best[int(one.of[9:])].architecture.key
        assert trial.params["epochs"] == 5  # the middle of the recipe
    assert {given_to(study.user_attrs, trial) for trial in trials[len(best) :]} == {None}
    for trial in trials:
        key = plan.candidate(trial.params).architecture.key
        if trial.values is None or key < "2":
            assert not set(PREDICTED.values()) & trial.user_attrs.keys()
            continue
        assert trial.user_attrs["supernet_error"] == share_of(key, "error") != trial.user_attrs["error"]
        assert trial.user_attrs["supernet_leakage"] == share_of(key, "leakage")
        assert trial.values[:2] == [trial.user_attrs["error"], trial.user_attrs["leakage"]]


@pytest.mark.usefixtures("made")
def test_a_search_says_what_the_super_network_is_and_that_it_gives_no_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.search.study.screen_of", lambda plan, bench: Made())
    told = [line for line in settings_lines(run_here(planned(tmp_path, **SMALL, trials=10))) if "supernet" in line]
    assert told[0].startswith("like supernet: 10 of the 10 networks that it predicts to be best are asked for first: ")
    assert told[1].startswith("like supernet: trained on the members for 20 epochs; of 60 points ")
    assert told[1].endswith("its predictions choose first candidates and are no figures of theirs")


def test_a_search_that_is_killed_while_it_screens_trains_nothing_twice_and_another_process_finds_the_same(
    tmp_path, monkeypatch
):
    settings = {**SMALL, "members": 60, "attack": "loss"}
    code = textwrap.dedent(
        f"""
        import json
        from pathlib import Path
        from nas.search import like, supernet
        from tests.small_search import planned
        supernet.DRAWN, supernet.LONGER = 10, 1
        given = like.liked(planned(Path({str(tmp_path / "other")!r}), **{settings!r})).given
        print(json.dumps([one.model_dump() for one in given]))
        """
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    monkeypatch.setattr(supernet, "DRAWN", 10)
    monkeypatch.setattr(supernet, "LONGER", 1)
    whole, trained, asked = supernet.Screen.predict, [], []

    def killed(screen, architecture):
        asked.append(architecture.key)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return whole(screen, architecture)

    train = supernet.build_supernet.__globals__["train_supernet"]
    monkeypatch.setattr("nas.training.supernet.train_supernet", lambda spec: trained.append(spec.key) or train(spec))
    monkeypatch.setattr(supernet.Screen, "predict", killed)
    plan = planned(tmp_path, **settings)
    with pytest.raises(KeyboardInterrupt):
        like.liked(plan)
    found = like.liked(plan).given
    assert len(trained) == 1
    assert [one.model_dump() for one in found] == json.loads(other.stdout)
    assert len(found) >= 3


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--space", "conv"], f"one of {available('search_spaces', 'layer_names')}; got 'conv'"),
        (["--space", "mobile", "--engine", "nni"], "got engine 'nni', evaluator 'training' and compressions []"),
        (["--space", "mobile", "--compress", "sparsity"], "and compressions ['sparsity']"),
        (["--space", "mobile", "--evaluator", "table", "--data-path", "t.csv"], "evaluator 'table'"),
    ],
)
def test_a_super_network_is_refused_where_networks_cannot_share_weights(refused, flags, expected):
    line = refused("search", "--like", "supernet", *flags)
    assert "for like 'supernet'" in line
    assert line.endswith(expected) or expected in line


def test_mobile_alone_has_names_for_its_layers():
    assert available("search_spaces", "layer_names") == ["mobile"]
