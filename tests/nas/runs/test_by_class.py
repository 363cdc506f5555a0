"""Imbalanced data and few records: what a search, its study and a pick say of them."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import norm

from nas.runs import by_class
from nas.runs import report
from nas.runs.front_and_knee import is_metric
from nas.search.schema import limits_of
from nas.search.storage import load_study
from tests.conftest import command_line
from tests.conftest import work_here

FLAGS = "--dataset csv --space mlp --references 2 --trials 2 --epochs 4 --workers 1 --device stm32l4r5"
NO, YES = "<=50K", "yes"


def write_rare(path, records=1000):
    """One record of fifty is of the class `yes`, and next to nothing tells it from the others."""
    rng = np.random.default_rng(0)
    features, is_rare = rng.normal(size=(records, 3)), np.arange(records) % 50 == 0
    features[is_rare, 0] += 0.5
    rows = [",".join(f"{value:.4f}" for value in row) for row in features]
    lines = [f"{row},{YES if rare else NO}" for row, rare in zip(rows, is_rare, strict=True)]
    path.write_text("\n".join(["a,b,c,label", *lines]))


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """A search of imbalanced data: the folder of all runs and what the command printed."""
    folder = tmp_path_factory.mktemp("rare")
    write_rare(folder / "rare.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        told = command_line(
            "search", *FLAGS.split(), "--data-path", folder / "rare.csv", "--name", "rare", "--runs", folder
        )
    assert told.code == 0, told.err
    return folder, told


WARNING = (
    "warning: 2 % of the members are 'yes' (6; 2 validation records): the error says little of them; consider "
    "--objectives balanced_error,leakage,latency_ms or --class-weights balanced"
)


def test_two_percent_positives_are_told_before_the_search_and_after_it(rare):
    _, told = rare
    lines = told.out.splitlines()
    assert lines.count(WARNING) == 1
    assert lines.index(WARNING) < lines.index(next(line for line in lines if line.startswith("rare: ")))
    assert re.search(r"^candidate \d, the knee of the front, never predicts: yes$", told.out, re.MULTILINE)


def test_show_and_pick_and_card_say_it_too(nas, rare):
    runs, _ = rare
    shown = nas("show", "rare", "--runs", runs)
    assert shown.out.splitlines().count(WARNING) == 1
    assert "never predicts: yes" in shown.out
    # An error of .02 beside a balanced error of one half, and the rarest class's.
    assert re.search(r"\b0\.020 +0\.500 +1\.000 ", shown.out)
    picked = nas("pick", "rare", "--runs", runs)
    assert "never predicts: yes\n" in picked.out
    assert WARNING in picked.out.splitlines()
    (card,) = (runs / "rare" / "picks").glob("*/card.md")
    text = card.read_text()
    # Two references say nothing of what trainings vary by: it counts as much as the records' own variance.
    high = np.sqrt(2) * binomtest(0, 98).proportion_ci(0.95, "exact").high
    assert "| class | members | validation records | error | interval |\n|---|---|---|---|---|\n" in text
    assert rf"| \<=50K | 294 | 98 | 0 | 0 to {high:.4g} |" in text
    assert "| yes | 6 | 2 | 1 | 0 to 1 |" in text
    assert "\nIt never predicts: yes.\n" in text
    assert "Warning: 2 % of the members are 'yes'" in text


def test_the_json_has_the_classes_and_each_ones_error(nas, rare):
    runs, _ = rare
    told = json.loads(nas("show", "rare", "--runs", runs, "--json").out)
    assert told["warnings"] == [WARNING.removeprefix("warning: ")]
    assert told["classes"] == [
        {"name": NO, "members": 294, "validation": 98},
        {"name": YES, "members": 6, "validation": 2},
    ]
    row = told["front"][0]
    assert (row["balanced_error"], row["rarest_class_error"]) == (0.5, 1)
    assert row["balanced_error_low"] < 0.5 < row["balanced_error_high"]
    first, second = row["by_class"]
    assert (first["class"], first["members"], first["validation"], first["error"]) == (NO, 294, 98, 0)
    assert (second["class"], second["error"], round(second["error_low"], 4), second["error_high"]) == (
        YES,
        1,
        0.0,
        1,
    )
    assert row["never_predicted"] == [YES]
    picked = json.loads(nas("pick", "rare", "--runs", runs, "--json").out)
    assert picked["warnings"] == told["warnings"]


def test_errors_of_classes_are_limits_and_preferences(nas, rare):
    runs, _ = rare
    accepted = nas("pick", "rare", "--runs", runs, "--max", f"class_error_{NO}=0.5", "--prefer", "balanced_error")
    assert accepted.code == 0
    assert "lowest balanced_error (0.5)" in accepted.out
    refused = nas("pick", "rare", "--runs", runs, "--max", "class_error_yes=0.9")
    assert (refused.code, refused.out) == (2, "")
    assert "class_error_yes 1 > 0.9" in refused.err


def test_a_limit_on_a_class_is_met_at_a_confidence_by_the_upper_end(nas, rare):
    runs, _ = rare
    end = np.sqrt(2) * binomtest(0, 98).proportion_ci(0.95, "exact").high  # as the card has it
    sure = end * norm.ppf(0.95) / norm.ppf(0.975)
    above, below = (f"class_error_{NO}={sure + apart:.9f}" for apart in (1e-4, -1e-4))
    accepted = nas("pick", "rare", "--runs", runs, "--max", above, "--confidence", 95)
    assert accepted.code == 0, accepted.err
    assert f"limit class_error_{NO}={sure + 1e-4:.4g} at 95 % confidence: your budget" in accepted.out
    assert nas("pick", "rare", "--runs", runs, "--max", below).code == 0
    refused = nas("pick", "rare", "--runs", runs, "--max", below, "--confidence", 95)
    assert (refused.code, refused.out) == (2, "")
    assert f"class_error_{NO} {sure:.4g} at 95 % confidence > {sure - 1e-4:.4g}" in refused.err


def test_they_are_objectives_and_budgets(nas, in_process, tmp_path):
    write_rare(tmp_path / "rare.csv", 500)
    flags = ["search", *FLAGS.split(), "--data-path", tmp_path / "rare.csv", "--runs", tmp_path]
    wanted = ("--objectives", f"balanced_error,class_error_{NO}", "--budget", "rarest_class_error=0.95")
    budget = ("--budget", f"class_error_{NO}=1")
    told = nas(*flags, *wanted, *budget, "--class-weights", "balanced", "--name", "weighted")
    assert told.code == 0, told.err
    picked = nas("pick", "weighted", "--runs", tmp_path, "--max", "rarest_class_error=2", "--confidence", 95)
    assert picked.code == 0, picked.err
    assert f"limit class_error_{NO}=1 at 95 % confidence: your budget" in picked.out
    # Who asks for it knows it.
    assert "consider" not in told.out
    study = load_study("weighted", tmp_path / "weighted", None)
    assert study.metric_names == ["balanced_error", f"class_error_{NO}"]
    assert "error" not in {limit.metric for limit in limits_of(study.user_attrs)}  # its ceiling would work against them
    for trial in study.get_trials():
        assert trial.values == [trial.user_attrs["balanced_error"], trial.user_attrs[f"class_error_{NO}"]]
        assert trial.constraints["rarest_class_error"] == pytest.approx(
            trial.user_attrs["rarest_class_error"] / 0.95 - 1
        )
        assert report.row(study, trial)["recipe"]["class_weights"] == "balanced"


def test_the_hint_leaves_out_what_is_done(rare, nas, in_process, tmp_path):
    write_rare(tmp_path / "rare.csv")
    flags = ["search", *FLAGS.split(), "--data-path", tmp_path / "rare.csv", "--runs", tmp_path, "--trials", 1]
    told = nas(*flags, "--class-weights", "none,balanced", "--name", "weighted")
    hint = "consider --objectives balanced_error,leakage,latency_ms"
    assert any(line.endswith(hint) for line in told.out.splitlines())


def test_a_class_that_there_is_not_is_refused_before_any_training(nas, no_training, tmp_path):
    write_rare(tmp_path / "rare.csv")
    flags = ["search", *FLAGS.split(), "--data-path", tmp_path / "rare.csv", "--runs", tmp_path / "runs"]
    for wanted in (("--objectives", "class_error_maybe"), ("--budget", "class_error_maybe=0.1")):
        told = nas(*flags, *wanted)
        assert (told.code, told.out) == (2, "")
        assert told.err == (
            "nas: no class 'maybe' among the validation records, for 'class_error_maybe'; there are ['<=50K', 'yes']\n"
        )


def test_balanced_data_need_no_warning_and_no_columns(nas, trained_run):
    shown = nas("show", trained_run.name, "--runs", trained_run.runs)
    assert "warning" not in shown.out
    assert "balanced" not in shown.out
    told = json.loads(nas("show", trained_run.name, "--runs", trained_run.runs, "--json").out)
    assert (told["warnings"], len(told["classes"])) == ([], 10)
    assert all({row["class"] for row in one["by_class"]} == set("0123456789") for one in told["front"])


def study_of(members, validation, **config):
    names = [f"n{n}" for n in range(len(members))]
    settings = {"objectives": ["error", "leakage"], "budgets": {}, **config}
    return SimpleNamespace(
        user_attrs={"classes": {"names": names, "members": members, "validation": validation}, "config": settings}
    )


@pytest.mark.parametrize(
    ("members", "imbalanced"), [([90, 10], True), ([89, 11], False), ([50, 50, 6], True), ([50, 50, 8], False)]
)
def test_a_fifth_of_an_even_share_is_the_line(members, imbalanced):
    assert by_class.is_imbalanced(study_of(members, members)) == (members != [90, 10] and imbalanced)


def test_just_below_the_line_is_warned_of():
    (line,) = by_class.cautions(study_of([91, 9], [91, 9]))
    assert line.startswith("9 % of the members are 'n1' (9; 9 validation records): the error says little of them")
    assert by_class.cautions(study_of([90, 10], [90, 10])) == []


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        ({"objectives": ["rarest_class_error"]}, False),
        ({"budgets": {"class_error_n1": 0.2}}, False),
        ({"budgets": {"error": 0.2}}, True),
        ({"recipe": {"class_weights": "balanced"}}, True),
    ],
)
def test_who_asks_for_the_classes_is_not_warned(config, warned):
    assert bool(by_class.cautions(study_of([980, 20], [980, 20], **config))) == warned


def test_few_validation_records_are_told_with_the_width_of_an_interval():
    (line,) = by_class.cautions(study_of([50, 50], [29, 29]))
    ends = binomtest(6, 58).proportion_ci(0.95, "exact")
    assert line.startswith(
        f"58 validation records: an error near 0.1 has an interval from {ends.low:.2f} to {ends.high:.2f}, "
    )
    assert by_class.cautions(study_of([50, 50], [50, 50])) == []
    assert by_class.cautions(study_of([50, 50], [50, 49]))


def test_a_study_of_an_earlier_version_says_nothing_of_classes():
    study = SimpleNamespace(user_attrs={"config": {"objectives": ["error"], "budgets": {}}})
    trial = SimpleNamespace(user_attrs={"error": 0.1, "error_low": 0.05, "error_high": 0.2, "never_predicted": [3]})
    assert (by_class.class_counts(study), by_class.cautions(study), by_class.told_by_class(study)) == ([], [], [])
    assert (by_class.errors_by_class(study, trial), by_class.never_predicted(study, trial)) == ([], [])
    assert by_class.estimate_of(study, trial, "error").high == 0.2


def test_a_class_may_be_called_like_the_end_of_anothers_interval():
    study = study_of([5, 5, 5], [4, 4, 4])
    study.user_attrs["classes"]["names"] = ["risk", "risk_low", "risk_high"]
    errors = {"class_error_risk": 0.25, "class_error_risk_low": 1, "class_error_risk_high": 0}
    trial = SimpleNamespace(user_attrs={**errors, "error": 0.1, "error_low": 0.0, "error_high": 0.2})
    rows = by_class.errors_by_class(study, trial)
    assert [row["error"] for row in rows] == [0.25, 1, 0]
    assert rows[0]["error_low"] < 0.25 < rows[0]["error_high"]
    assert [name for name in trial.user_attrs if is_metric(trial, name)] == [*errors, "error"]
