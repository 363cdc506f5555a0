"""The copy of a study that optuna-dashboard shows."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from nas.runs import dashboard
from nas.runs.run import open_run
from tests.small_search import snapshot


@pytest.fixture
def copied(own_run, tmp_path):
    """Copy the run, again after each change."""
    made = iter(range(100))

    def copy():
        folder = tmp_path / f"copy{next(made)}"
        folder.mkdir()
        return dashboard.copied(open_run("small", own_run.runs), folder)

    return copy


def artifacts_of(copy, number):
    """The files beside a trial, by name, as Optuna lists them."""
    trial = copy.study.trials[number]
    found = optuna.artifacts.get_all_artifact_meta(trial, storage=copy.storage)
    assert len({one.filename for one in found}) == len(found)
    return {one.filename: one for one in found}


def content(copy, meta):
    with copy.artifacts.open_reader(meta.artifact_id) as stream:
        return stream.read()


def test_the_copy_has_the_numbers_names_and_constraints_of_the_study(copied, own_run):
    study, copy = open_run("small", own_run.runs).study, copied()
    assert copy.storage.get_all_studies()[0].study_name == "small"
    assert copy.study.metric_names == ["error", "leakage", "latency_ms"]
    assert copy.study.directions == study.directions
    for ours, theirs in zip(copy.study.trials, study.trials, strict=True):
        assert (ours.number, ours.state, ours.values) == (theirs.number, theirs.state, theirs.values)
        assert (ours.params, ours.distributions) == (theirs.params, theirs.distributions)
        assert (ours.datetime_start, ours.datetime_complete) == (theirs.datetime_start, theirs.datetime_complete)
        assert list(ours.constraints.values()) == list(theirs.constraints.values())
        assert ours.system_attrs["constraints"] == list(theirs.constraints.values())  # as the page reads them
        numbers = {name: value for name, value in theirs.user_attrs.items() if isinstance(value, int | float)}
        assert numbers.items() <= ours.user_attrs.items()
    assert {trial.number for trial in copy.study.best_trials} == {trial.number for trial in study.best_trials}


def test_trials_that_were_not_trained_keep_their_numbers(copied, own_run):
    study = open_run("small", own_run.runs).study
    waiting = study.ask()
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study.tell(study.ask(), state=state)
    states = [trial.state for trial in study.get_trials()]
    assert states[waiting.number :] == [TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.state for trial in copied().study.trials] == states


def test_the_run_is_not_changed(copied, own_run):
    before = snapshot(own_run.runs)
    copy = copied()
    copy.study.set_user_attr("note", "here alone")
    assert snapshot(own_run.runs) == before


def test_each_candidate_of_the_front_has_its_card_as_note_and_as_file(copied, own_run):
    opened, copy = open_run("small", own_run.runs), copied()
    best = {trial.number for trial in opened.study.best_trials}
    assert copy.notes.keys() == {None, *best}
    for trial in copy.study.trials:
        found = artifacts_of(copy, trial.number)
        assert found.keys() == ({"card.md"} if trial.number in best else set())
        if trial.number in best:
            assert content(copy, found["card.md"]).decode() == copy.notes[trial.number]
            assert copy.notes[trial.number].startswith(f"# Candidate {trial.number} of small\n")
    about = copy.notes[None]
    assert about.startswith("# small\n")
    assert "constraints, met where they are 0 or less: peak_ram_kib, flash_kib" in about
    assert sum(note.count("knee of the front") for note in copy.notes.values()) == 1


def test_a_pick_has_its_plot_and_exported_files_too(copied, own_run, nas):
    number = open_run("small", own_run.runs).study.best_trials[0].number
    assert nas("pick", "small", "--number", number, "--runs", own_run.runs).code == 0
    pick = own_run.folder / "picks" / str(number)
    (pick / "int8.onnx").write_bytes(b"exported")
    (pick / "notes.html").write_text("<script>")
    copy = copied()
    found = artifacts_of(copy, number)
    assert found.keys() == {"card.md", "roofline.png", "int8.onnx", "architecture.json", "preprocessing.json"}
    assert content(copy, found["int8.onnx"]) == b"exported"
    assert content(copy, found["roofline.png"]).startswith(b"\x89PNG")
    assert found["roofline.png"].mimetype == "image/png"


def test_large_files_and_links_are_left_out(copied, own_run, tmp_path, monkeypatch):
    number = open_run("small", own_run.runs).study.best_trials[0].number
    pick = own_run.folder / "picks" / str(number)
    pick.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (pick / "float32.onnx").symlink_to(secret)
    (pick / "int8.onnx").write_bytes(b"x" * 11)
    (pick / "mixed.onnx").write_bytes(b"x" * 10)
    monkeypatch.setattr(dashboard, "MOST_BYTES_OF_A_FILE", 10)
    assert artifacts_of(copied(), number).keys() == {"card.md", "roofline.png", "mixed.onnx"}
    monkeypatch.setattr(dashboard, "MOST_WITH_FILES", 0)
    assert artifacts_of(copied(), number) == {}


def test_a_run_whose_device_is_not_here_has_no_plot(copied, own_run, monkeypatch):
    number = open_run("small", own_run.runs).study.best_trials[0].number
    (own_run.folder / "picks" / str(number)).mkdir(parents=True)

    def gone(*_):
        raise ValueError("no device")

    monkeypatch.setattr("estimators.devices.files.load_device", gone)
    assert artifacts_of(copied(), number).keys() == {"card.md"}


def test_texts_and_parameters_of_others_are_cut_and_cannot_steer():
    names = {"big": "x" * 10**7, "\x1b[31m": "\x1b]0;title\x07", "table": {"a": ["<b>"] * 10**5}, "n" * 10**6: 1.0}
    many = {f"more{place}": place for place in range(10**4)}
    wide = CategoricalDistribution(["a", "b" * 10**6])
    trial = optuna.trial.create_trial(
        value=0.0, params={"huge": "a"}, distributions={"huge": wide}, user_attrs={**names, **many}
    )
    shown = dashboard._shown(trial, {})
    assert len(json.dumps(shown.user_attrs)) < 20_000
    assert len(shown.user_attrs) == dashboard.MOST_ATTRIBUTES
    assert "\x1b" not in "".join([*shown.user_attrs, *map(str, shown.user_attrs.values())])
    assert shown.params == {}
    assert shown.user_attrs["big"] == "x" * 199 + "\N{HORIZONTAL ELLIPSIS}"


def test_notes_are_kept_as_the_page_reads_them(copied):
    library = pytest.importorskip("optuna_dashboard", reason="needs gecko-nas[dashboard]")
    copy = copied()
    dashboard.write_notes(copy)
    assert library.get_note(copy.study) == copy.notes[None]
    for number, note in copy.notes.items():
        if number is not None:
            trial = optuna.trial.Trial(copy.study, copy.study.trials[number]._trial_id)
            assert library.get_note(trial) == note


def test_a_card_that_is_too_long_is_cut(monkeypatch, copied):
    monkeypatch.setattr(dashboard, "LONGEST_NOTE", 100)
    assert all(len(note) < 120 and note.endswith("(cut here)") for note in copied().notes.values())
