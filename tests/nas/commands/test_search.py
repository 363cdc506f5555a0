"""`nas search`: what it refuses before any training, what it prints, what it leaves behind and how it goes on."""

from __future__ import annotations

import errno
import json
import re
import resource
import shlex
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from nas.base import files
from nas.search.config import load_config
from nas.search.config import parse_config
from nas.search.storage import load_study
from tests.small_search import SMALL
from tests.small_search import snapshot


def csv_of(path, rows, header="a,b,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows(count, label=lambda number: "yn"[number % 2]):
    rng = np.random.default_rng(0)
    return [f"{rng.normal():.6f},{rng.normal():.6f},{label(number)}" for number in range(count)]


# Budgets and data.


def test_a_budget_nobody_can_meet_says_how_many_were_screened_and_the_smallest_seen(refused):
    line = refused("search", "--budget", "latency_ms=0.001", "--budget", "params=1e9")
    found = re.fullmatch(
        r"no candidate meets the budget: (\d+) screened on stm32h747, smallest latency_ms (\S+) \(limit 0\.001\), "
        r"smallest params (\S+) \(limit 1e\+09\)",
        line,
    )
    assert int(found[1]) == 1000
    assert 0.001 < float(found[2]) < 1
    assert 100 < float(found[3]) < 10_000


CSVS = {
    "text": (
        ["1,x,y", *rows(100)],
        (
            "expected a number in column 'b' in row 1 (line 2) of {path}; got 'x' "
            "(leave the cell empty if it is missing, or --drop-column b)"
        ),
    ),
    "one class": (
        rows(100, lambda _: "y"),
        "expected records of at least two classes; all 100 are of class 'y' (column 'label' of {path})",
    ),
    "short row": (["1,2", *rows(100)], "expected 3 values in row 1 (line 2) of {path}; got 2"),
    "nothing": ([], "expected records with columns beside the label in {path}; got 0 records and 2 such columns"),
}


@pytest.mark.parametrize("case", CSVS)
def test_a_csv_that_cannot_be_used(refused, tmp_path, case):
    lines, message = CSVS[case]
    path = csv_of(tmp_path / "people.csv", lines)
    assert refused("search", "--dataset", "csv", "--space", "mlp", "--data-path", path) == message.format(path=path)


def test_too_few_records_for_five_sets(refused, tmp_path):
    path = csv_of(tmp_path / "people.csv", rows(12))
    line = refused("search", "--dataset", "csv", "--space", "mlp", "--data-path", path)
    assert re.fullmatch(r"expected at least \d+ records of each class, to fill 5 sets with \d+ of each; .* has 6", line)


def test_more_members_than_there_are_records(refused):
    assert refused("search", "--members", "100000") == (
        "expected from 20 to 866 members, so that five sets can be filled; got 100000"
    )


def test_other_ways_to_have_no_data(refused, tmp_path):
    path = csv_of(tmp_path / "people.csv", rows(100))
    common = ("search", "--dataset", "csv", "--space", "mlp")
    assert refused(*common) == "expected the path of a CSV file; got none"
    assert "there is no such path" in refused(*common, "--data-path", tmp_path / "none.csv")
    assert refused(*common, "--data-path", path, "--label-column", "class").startswith(
        "expected one column 'class' in "
    )
    assert refused(*common, "--data-path", path, "--group-column", "who").startswith("expected one column 'who' in ")
    assert refused("search", "--dataset", "csv", "--data-path", path) == (
        "expected images (channels, height, width) for the space 'conv'; got shape (2,)"
    )


# Going on.


def test_a_changed_setting_is_refused_and_named(nas, own_run, no_training):
    runs = ("--name", "small", "--runs", own_run.runs)
    before = {path: content for path, content in snapshot(own_run.runs).items() if path.name != "journal.log"}
    result = nas("search", *SMALL, *runs, "--seed", "1", "--budget", "macs=1e9", "--epochs", "4")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "nas: the run 'small' was started with other settings (budgets.macs: was None, now 1000000000.0; "
        "recipe.epochs: was 3, now 4; seed: was 0, now 1); go on with the old ones, or choose another --name\n"
    )
    result = nas("search", *SMALL, *runs, "--objectives", "error")
    assert "objectives: was ['error', 'leakage', 'latency_ms'], now ['error']" in result.err
    assert before.items() <= snapshot(own_run.runs).items()


@pytest.mark.parametrize("flags", [("--trials", "9"), ("--workers", "2"), ("--trials", "3", "--workers", "1")])
def test_how_much_and_how_may_change(nas, own_run, interrupted, flags):
    result = nas("search", *SMALL, *flags, "--name", "small", "--runs", own_run.runs)
    assert result.code == 130
    assert result.out.startswith("stopped; 5 trained candidates are kept. To continue: nas search ")


def test_other_data_under_the_same_name_are_refused(nas, tmp_path, interrupted):
    path = csv_of(tmp_path / "people.csv", rows(200))
    command = ("search", "--dataset", "csv", "--space", "mlp", "--data-path", path, "--runs", tmp_path / "runs")
    assert nas(*command).code == 130
    csv_of(path, rows(201))
    result = nas(*command)
    assert (result.code, result.out) == (2, "")
    assert "(the data: other records, or other sets of them); go on with what it was started with" in result.err
    csv_of(path, rows(200))
    moved = path.rename(tmp_path / "moved.csv")
    assert nas(*command, "--data-path", moved).code == 130
    assert len(interrupted) == 2


def test_what_ctrl_c_says_goes_on(nas, tmp_path, interrupted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv_of(tmp_path / "people.csv", rows(200))
    first = nas("search", "--dataset", "csv", "--space", "mlp", "--data-path", "people.csv", "--trials", "7")
    assert first.code == 130
    said = first.out.split("To continue: ")[1]
    assert shlex.split(said) == ["nas", "search", "runs/csv-mlp/config.toml"]
    assert nas(*shlex.split(said)[1:]).out == first.out
    assert interrupted[0] == interrupted[1]
    elsewhere = nas(*shlex.split(said)[1:], "--runs", tmp_path / "runs")
    assert elsewhere.out.endswith(f"config.toml --runs {tmp_path / 'runs'}\n")


def test_commands_for_nni_that_a_run_names_need_a_flag(refused, tmp_path):
    folder = tmp_path / "runs" / "theirs"
    folder.mkdir(parents=True)
    yaml = folder / "nni.yaml"
    yaml.write_text("trainingService:\n  platform: local\ntrialCommand: touch sprung\n")
    settings = f'name = "theirs"\nspace = "mlp"\nengine = "nni-service"\nnni_config = "{yaml}"\n'
    (folder / "config.toml").write_text(settings)
    (folder / "journal.log").write_text("")
    line = refused("search", folder / "config.toml", "--yes")
    assert line.startswith(f"expected --nni-config {yaml} with the settings of a run, which name it: NNI would run")


def test_a_flag_beats_the_file(nas, tmp_path, interrupted):
    path = tmp_path / "search.toml"
    path.write_text('name = "x"\nspace = "mlp"\ntrials = 7\nseed = 5\n[budgets]\nlatency_ms = 50\n')
    nas("search", path, "--trials", "3", "--budget", "macs=1e7", "--runs", tmp_path / "runs")
    (config,) = interrupted
    assert (config.name, config.space, config.trials, config.seed) == ("x", "mlp", 3, 5)
    assert config.budgets == {"latency_ms": 50.0, "macs": 1e7}
    assert load_config(tmp_path / "runs" / "x" / "config.toml", {}) == config


def test_every_flag_reaches_the_settings(nas, tmp_path, interrupted):
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal()},{number % 3},{number % 50}" for number in range(300)]
    settings = {
        "name": "x",
        "space": "mlp",
        "dataset": "csv",
        "data_path": str(csv_of(tmp_path / "people.csv", lines, "a,class,who")),
        "label_column": "class",
        "group_column": "who",
        "members": 60,
        "device": "host",
        "objectives": ("error", "macs"),
        "budgets": {"macs": 1e6, "flash_kib": 900.5},
        "attack": "loss",
        "defences": ("gecko",),
        "references": 6,
        "trials": 3,
        "recipe": {"epochs": {"low": 2, "high": 5}},
        "workers": 2,
        "seed": 7,
        "sampler": "random",
        "engine": "optuna",
        "storage": str(tmp_path / "journal"),
    }
    flags = {"objectives": "error,macs", "defences": "gecko", "budgets": "macs=1e6", "recipe": "2:5"}
    names = {"budgets": "--budget", "recipe": "--epochs"}
    arguments = [
        part
        for name, value in settings.items()
        for part in (names.get(name, f"--{name.replace('_', '-')}"), flags.get(name, value))
    ]
    result = nas("search", *arguments, "--budget", "flash_kib=900.5", "--runs", tmp_path / "runs")
    assert (result.code, result.err) == (130, "")
    assert interrupted == [parse_config(settings)]


# Disks.


@pytest.mark.parametrize("limit", [50, 150, 700])
def test_a_full_disk_ends_in_one_line_and_the_search_goes_on_when_there_is_room(nas, tmp_path, interrupted, limit):
    """No file may grow beyond a limit that is met in the journal's first record, in the next, in a later one."""
    command = ("search", *SMALL, "--name", "small", "--runs", tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = nas(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.code, result.out, interrupted) == (2, "", [])
    assert re.fullmatch(r"nas: File too large[^\n]*\n", result.err)
    assert not (tmp_path / "small" / "config.toml").exists()
    assert nas(*command).code == 130
    assert len(load_study("small", tmp_path / "small", None).trials) == 0


def test_a_disk_that_fills_up_in_a_worker_ends_in_one_line(nas, own_run, monkeypatch, in_process):
    def write(path, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_weights", write)
    result = nas("search", *SMALL, "--trials", "6", "--name", "small", "--runs", own_run.runs)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"nas: No space left on device: \S+/models/[0-9a-f]{16}\.safetensors\n", result.err)
    assert len(list((own_run.folder / "models").iterdir())) == 5


def test_a_place_where_nothing_can_be_written_is_named(nas, tmp_path, no_training):
    (tmp_path / "file").write_text("")
    for runs, words in ((tmp_path / "file", "Not a directory"), (Path("/proc/none"), "No such file or directory")):
        result = nas("search", *SMALL, "--runs", runs)
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(f"nas: {words}: {runs}[^\n]*\n", result.err)


def test_a_read_only_disk_is_named(nas, tmp_path, no_training, monkeypatch):
    def mkdir(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    result = nas("search", *SMALL, "--name", "small", "--runs", tmp_path / "runs")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"nas: Read-only file system: {tmp_path / 'runs' / 'small'}\n"


# What a search prints and leaves.


def test_search_prints_json_alone_and_leaves_the_same_front(nas, trained_run):
    shown = nas("show", "small", "--json", "--runs", trained_run.runs)
    assert trained_run.printed == shown.out
    kept = files.read_json(trained_run.folder / "front.json")
    assert kept == {"front": json.loads(shown.out)["front"]}


def test_a_search_prints_json_on_one_stream_and_progress_on_the_other(nas, own_run, in_process):
    result = nas("search", *SMALL, "--name", "small", "--runs", own_run.runs, "--json")
    assert result.code == 0
    assert result.out == own_run.printed  # nothing was left to do
    assert "trained 5 of 5" in result.err
    plain = nas("search", *SMALL, "--name", "small", "--runs", own_run.runs)
    assert plain.err == ""
    assert plain.out.startswith("trained 5 of 5  |  5 screened, 0 rejected, 0 duplicate\nsmall: 5 trained, ")


def test_a_space_that_runs_out_says_so_and_shows_what_there_is(nas, own_run, monkeypatch):
    monkeypatch.setattr("nas.search.workers.run", lambda _config, _runs, look: look())
    result = nas("search", *SMALL, "--trials", "9", "--name", "small", "--runs", own_run.runs, "--json")
    assert result.code == 0
    assert "no new candidates were found after 5 of 9" in result.err
    assert result.out == own_run.printed


def test_a_search_that_trained_nothing_fails(nas, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.search.workers.run", lambda _config, _runs, look: look())
    result = nas("search", *SMALL, "--runs", tmp_path)
    assert result.code == 2
    assert result.err == "nas: no candidate finished training: 0 screened, 0 rejected, 0 duplicate\n"
    assert not list(tmp_path.rglob("front.json"))


def test_a_run_leaves_its_settings_and_what_it_ran_on(trained_run):
    config = load_config(trained_run.folder / "config.toml", {})
    assert (config.name, config.trials, config.recipe.epochs) == ("small", 5, 3)
    environment = files.read_json(trained_run.folder / "environment.json")
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["packages"]["optuna"] == optuna.__version__
    assert environment["cores"] >= 1
    names = {path.name for path in trained_run.folder.iterdir() if not path.name.startswith(".")}
    assert names == {"config.toml", "environment.json", "front.json", "journal.log", "models", "timings.jsonl"}
