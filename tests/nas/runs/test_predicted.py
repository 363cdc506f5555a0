"""How a super-network's predictions compare with trainings, in one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from scipy.stats import kendalltau

from nas.runs.predicted import agreement
from tests.nas.search.test_supernet import Made
from tests.small_search import SMALL
from tests.small_search import without_training

TRAINED = [(0.1, 0.6), (0.3, 0.5), (0.2, 0.7), (0.5, 0.8), (0.4, 0.55), (0.6, 0.9)]
PREDICTED = [(0.2, 0.9), (0.3, 0.5), (0.25, 0.6), (0.9, 0.7), (0.5, 0.5), (0.8, 0.8)]


def study_of(trained=TRAINED, predicted=PREDICTED, like=("supernet",)):
    trials = [SimpleNamespace(user_attrs={"error": 0.0, "leakage": 9.0})]  # one that it could not predict
    for (error, leakage), (supernet_error, supernet_leakage) in zip(trained, predicted, strict=True):
        of_it = {"supernet_error": supernet_error, "supernet_leakage": supernet_leakage}
        trials.append(SimpleNamespace(user_attrs={"error": error, "leakage": leakage, **of_it}))
    config = {"name": "s", "space": "mobile", "like": list(like)}
    return SimpleNamespace(user_attrs={"config": config}, get_trials=lambda **_states: trials)


def test_it_is_the_rank_correlation_over_all_candidates_that_were_predicted():
    taus = [kendalltau(*columns).statistic for columns in zip(zip(*TRAINED), zip(*PREDICTED))]  # noqa: B905
    line = agreement(study_of())
    assert line.startswith("super-network against stand-alone training, 6 candidates: Kendall's tau ")
    assert f"tau {taus[0]:.2f} (" in line
    assert f"for error, {taus[1]:.2f} (" in line
    assert line.endswith("for leakage; its predictions are no figures of a candidate")


def test_few_candidates_and_equal_ones_have_none():
    few = agreement(study_of(TRAINED[:4], PREDICTED[:4]))
    assert few.endswith("4 candidates: too few for a rank correlation, which takes 5")
    equal = agreement(study_of(predicted=[(0.5, leakage) for _, leakage in PREDICTED]))
    assert "tau undefined (all are equal) for error, 0." in equal
    assert agreement(study_of(like=())) is None


@pytest.mark.usefixtures("in_process")
def test_a_search_prints_the_line_when_it_ends(nas, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.search.supernet.DRAWN", 30)
    monkeypatch.setattr("nas.search.supernet.make_bench", lambda plan: None)
    monkeypatch.setattr("nas.search.supernet._screen", lambda plan, bench, pool: Made())
    monkeypatch.setattr("nas.search.study.screen_of", lambda plan, bench: Made())
    without_training(monkeypatch)
    command = ["search", *SMALL, "--space", "mobile", "--like", "supernet", "--set", "stages=1", "--trials", "12"]
    result = nas(*command, "--runs", tmp_path)
    assert result.code == 0
    assert result.out.count("super-network against stand-alone training, ") == 1
    again = nas(*command, "--runs", tmp_path, "--json")
    assert "super-network against stand-alone training, " in again.err
    front = json.loads(again.out)["front"]
    assert any("supernet_error" in one for one in front)
    assert all(one.get("supernet_error") != one["error"] for one in front)
