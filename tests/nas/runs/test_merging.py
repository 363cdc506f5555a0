"""One front of several runs: which may be merged, and what is on it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.runs import merging
from nas.runs.run import Run
from nas.search.schema import CONFIG
from nas.search.schema import LIMITS
from nas.search.schema import ORIGIN
from nas.search.schema import TASK
from tests.small_search import settings

MEASURED = ("error", "leakage")
THEN = {
    "version": "training version 3, PyTorch 2",
    "fingerprint": "a",
    "device": "b",
    "float_becomes_bits": None,
    "measures": {"error": 0.4, "leakage": 0.7},
}


def run(name, *rows, origin=None, limits=(), **changes):
    """A run whose study has a trained trial for each (key, error, leakage, latency_ms)."""
    config = settings(name=name, **changes)
    study = optuna.create_study(directions=["minimize"] * len(config.objectives), study_name=name)
    study.set_user_attr(CONFIG, config.model_dump(mode="json", exclude={"storage"}))
    study.set_user_attr(TASK, {"id": name})
    study.set_user_attr(ORIGIN, {**THEN, **(origin or {})})
    study.set_user_attr(LIMITS, list(limits))
    for key, *row in rows:
        measured = {
            name: Estimate(value, value - 0.05, value + 0.05) for name, value in zip(MEASURED, row, strict=False)
        }
        attrs = {"key": key, **flat(measured), "latency_ms": row[2]}
        values = [attrs[objective] for objective in config.objectives]
        study.add_trial(optuna.trial.create_trial(values=values, user_attrs=attrs))
    return Run(Path(name), study)


def merged(*runs):
    return merging.merge({one.name: one for one in runs})


def test_the_front_of_all_is_sorted_and_named_by_run():
    first = run("a", ("k0", 0.1, 0.9, 5.0), ("k1", 0.4, 0.5, 5.0))
    second = run("b", ("k2", 0.3, 0.5, 5.0), ("k3", 0.2, 0.95, 5.0))
    found = merged(first, second)
    # b:0 beats a:1; a:0 beats b:1.
    assert [one.name for one in found.shown] == ["a:0", "b:0"]
    assert found.shown[1].study is second.study
    assert found.repeated == {}
    assert found.knee.name == "a:0"  # (0, 1) and (1, 0) are as far: the first
    assert found.ties == {"error": [], "leakage": []}


numbers = st.lists(st.tuples(*(st.integers(0, 4).map(float) for _ in range(3))), min_size=1, max_size=5)


@examples(max_examples=25, deadline=None, derandomize=True)
@given(numbers, numbers)
def test_a_merged_front_is_that_of_one_study_with_all_trials(one, other):
    rows = [[(f"{name}{place}", *row) for place, row in enumerate(rows)] for name, rows in (("x", one), ("y", other))]
    both = run("both", *rows[0], *rows[1]).study.best_trials
    found = merged(run("a", *rows[0]), run("b", *rows[1]))
    assert {shown.trial.user_attrs["key"] for shown in found.shown} == {trial.user_attrs["key"] for trial in both}
    assert [tuple(shown.trial.values) for shown in found.shown] == sorted(tuple(trial.values) for trial in both)


def test_objectives_may_stand_in_another_order():
    first = run("a", ("k0", 0.1, 0.9, 5.0))
    second = run("b", ("k1", 0.2, 0.5, 5.0), objectives=["leakage", "latency_ms", "error"])
    assert [one.name for one in merged(first, second).shown] == ["a:0", "b:0"]
    assert [one.name for one in merged(second, first).shown] == ["b:0", "a:0"]  # by leakage, its first objective


def test_a_candidate_that_both_have_is_told_once():
    first, second = run("a", ("k0", 0.1, 0.9, 5.0)), run("b", ("k0", 0.1, 0.9, 5.0), ("k1", 0.2, 0.5, 5.0))
    found = merged(first, second)
    assert ([one.name for one in found.shown], found.repeated) == (["a:0", "b:1"], {"b:0": "a:0"})
    # What both have and something beats is not told.
    third = run("c", ("k0", 0.1, 0.9, 5.0), ("k2", 0.1, 0.4, 5.0))
    assert merged(first, third).repeated == {}


def test_where_nothing_was_trained_there_is_no_front():
    found = merged(run("a"), run("b"))
    assert (found.shown, found.knee, found.ties) == ((), None, {})


def test_limits_are_told_once_where_they_hold_in_all_runs():
    shared = {"metric": "flash_kib", "value": 2048.0, "reason": "it has that", "kind": "device"}
    own = {"metric": "latency_ms", "value": 5.0, "reason": "your budget", "kind": "budget"}
    found = merged(run("a", limits=[shared, own]), run("b", limits=[shared]))
    assert found.notes == (
        "limit flash_kib=2048: it has that; --no-device-limits looks beyond",
        "in a: limit latency_ms=5: your budget",
    )


def test_other_references_are_said():
    (note,) = merged(run("a"), run("b", space="conv")).notes
    assert note.startswith("their reference networks differ")
    (note,) = merged(run("a"), run("b", recipe={"epochs": 3})).notes
    assert note.startswith("their reference networks differ")
    assert merged(run("a"), run("b", trials=9)).notes == ()


APART = {
    "seed 0 and 1": ({"fingerprint": "c"}, {"seed": 1}),
    "members 120 and 60": ({"fingerprint": "c"}, {"members": 60}),
    "other records, or other sets of them": ({"fingerprint": "c"}, {}),
    "attack lira_fitted and rmia": ({}, {"attack": "rmia"}),
    "references 2 and 4": ({}, {"references": 4}),
    "transform none and log": ({}, {"transform": "log", "dataset": "csv", "data_path": "a.csv"}),
    "objectives error, leakage, latency_ms and objectives error, leakage, macs": (
        {},
        {"objectives": ["error", "leakage", "macs"]},
    ),
    "training version 3, PyTorch 2 and training version 4, PyTorch 2": (
        {"version": "training version 4, PyTorch 2"},
        {},
    ),
    "device stm32h747 and host": ({"device": "c"}, {"device": "host"}),
    "the file of stm32h747 had other figures": ({"device": "c"}, {}),
    "what is in float was trained in other bits": ({"float_becomes_bits": 8}, {}),
    "the attack or the statistics found other numbers in a made-up case": (
        {"measures": {"error": 0.4, "leakage": 0.71}},
        {},
    ),
}


@pytest.mark.parametrize("told", APART)
def test_what_differs_is_named(told):
    origin, changes = APART[told]
    with pytest.raises(ValueError, match="the runs 'a' and 'b' cannot be merged: ") as error:
        merged(run("a"), run("b", origin=origin, **changes))
    assert told in str(error.value)


def test_what_decides_no_number_may_differ():
    measures = {"error": 0.4, "leakage": 0.70001, "later": 1.0}
    merged(run("a"), run("b", origin={"measures": measures}, trials=7, sampler="random", defences=["none"]))


def test_the_same_study_twice_and_a_study_without_an_origin_are_refused():
    first, copy, before = run("a"), run("b"), run("c")
    copy.study.set_user_attr(TASK, {"id": "a"})
    with pytest.raises(ValueError, match="expected different runs; 'a' and 'b' are the same study"):
        merged(first, copy)
    early = optuna.create_study(directions=["minimize"] * 3, study_name="c")
    for name in (CONFIG, TASK):
        early.set_user_attr(name, before.study.user_attrs[name])
    with pytest.raises(ValueError, match="c does not say what decided its numbers"):
        merged(first, Run(Path("c"), early))
