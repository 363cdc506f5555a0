"""The command line: what it prints, what it refuses before any training, what it leaves behind."""

from __future__ import annotations

import errno
import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from estimators.device_files import available_devices
from nas import files
from nas import plugins
from nas import search
from nas.config import load_config
from nas.config import parse_config
from nas.evaluate import MEASURED
from nas.evaluate import measure
from nas.plan import resolve
from nas.storage import load_study
from search_spaces.network import build

SMALL = ("--space", "mlp", "--members", "120", "--references", "2", "--trials", "5", "--epochs", "3", "--workers", "1")


@pytest.fixture
def no_training(monkeypatch):
    """Fail a test in which anything is trained or a worker started."""

    def fail(*_):
        raise AssertionError("a training was started")

    for place in ("nas.workers.run", "nas.evaluate.train", "nas.bank.train", "nas.search.assess"):
        monkeypatch.setattr(place, fail)


@pytest.fixture
def interrupted(monkeypatch):
    """Press Ctrl-C where the workers would start, and keep the settings they were to get."""
    seen = []

    def stop(config, *_):
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.workers.run", stop)
    return seen


@pytest.fixture
def refused(nas, tmp_path, no_training):
    """Run a command that must be refused; returns its one line."""

    def run(*arguments, runs=tmp_path / "runs"):
        before = snapshot(tmp_path)
        result = nas(*arguments, "--runs", runs)
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(r"nas: [^\n]+\n", result.err)
        assert snapshot(tmp_path) == before
        return result.err[len("nas: ") : -1]

    return run


def snapshot(folder):
    """Every file with its content. The folders of a run and of its locks may be there, empty."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def names(package, attribute):
    return plugins.available(package, attribute)


def csv_of(path, rows, header="a,b,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows(count, label=lambda number: "yn"[number % 2]):
    rng = np.random.default_rng(0)
    return [f"{rng.normal():.6f},{rng.normal():.6f},{label(number)}" for number in range(count)]


# Names and flags.


def own(what, package, attribute):
    return (
        f"no {what!r} in {package}; there are {names(package, attribute)} "
        f"(a module of your own is given by its dotted name and defines {attribute!r})"
    )


UNKNOWN = {
    ("--space", "cube"): own("cube", "search_spaces", "make_space"),
    ("--dataset", "mnist"): own("mnist", "nas.data", "load"),
    ("--attack", "lira"): own("lira", "estimators.leakage.attacks", "attack"),
    ("--defences", "none,dp"): own("dp", "nas.defences", "defend"),
    (
        "--device",
        "esp32",
    ): f"no device 'esp32'; there are {available_devices()} (one of your own is given by its .toml)",
    ("--sampler", "cma"): "no sampler 'cma'; there are ['tpe', 'nsga2', 'random']",
    ("--engine", "ray"): "no engine 'ray'; there are ['optuna', 'nni', 'nni-service']",
}


@pytest.mark.parametrize("flags", UNKNOWN)
def test_an_unknown_name_lists_those_there_are(refused, flags):
    assert refused("search", *flags) == UNKNOWN[flags]


@pytest.mark.parametrize(
    ("flags", "what"), [(("--objectives", "error,speed"), "objective"), (("--budget", "speed=3"), "budget")]
)
def test_an_unknown_metric_lists_those_of_the_device(refused, flags, what):
    line = refused("search", *flags, "--device", "host")
    known = line.removeprefix(f"no {what} 'speed' on host; there are ")
    assert known.startswith("['accuracy_gap', ")
    assert {"error", "leakage", "latency_ms", "macs"} <= set(re.findall(r"\w+", known))


def test_a_metric_that_the_device_has_no_figure_for_is_unknown_there(refused):
    assert refused("search", "--objectives", "energy_mj", "--device", "host").startswith(
        "no objective 'energy_mj' on host; there are "
    )


WRONG = {
    ("search", "--budget", "latency_ms"): "expected --budget METRIC=NUMBER; got 'latency_ms'",
    ("search", "--budget", "latency_ms=nan"): "expected --budget METRIC=NUMBER; got 'latency_ms=nan'",
    ("search", "--budget", "latency_ms=5ms"): "expected --budget METRIC=NUMBER; got 'latency_ms=5ms'",
    ("search", "--epochs", "x"): "expected --epochs NUMBER or LOW:HIGH; got 'x'",
    ("search", "--epochs", ""): "expected --epochs NUMBER or LOW:HIGH; got ''",
    ("search", "--epochs", "1:2:3"): "expected --epochs NUMBER or LOW:HIGH; got '1:2:3'",
    ("search", "--epochs", "5:2"): "recipe.epochs: expected low < high; got 5 and 2",
    ("search", "--objectives", ","): "expected at least one name in objectives, each once; got []",
    ("search", "--references", "3"): "references: Input should be a multiple of 2; got 3",
    ("search", "--trials", "0"): "trials: Input should be greater than or equal to 1; got 0",
    ("search", "--name", "../x"): (
        "expected a name of at most 100 letters, digits, dots, dashes and underscores, the first a letter or digit; "
        "got '../x'"
    ),
    ("search", "none.toml"): "cannot read none.toml: No such file or directory",
    ("estimate", "--input-shape", "3x32x32"): "expected --input-shape with whole numbers, like 3,32,32; got '3x32x32'",
    ("estimate", "--classes", "1"): "expected two classes or more; got 1",
    ("estimate", "nothing"): "expected JSON, a file or RUN:NUMBER; got 'nothing', and there is no such file",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_flag_is_one_line(refused, arguments):
    assert refused(*arguments) == WRONG[arguments]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "--trials", "x"), ("--trials", "integer")),
        (("search", "--bogus"), ("No such option", "--bogus")),
        (("search", "a.toml", "b.toml"), ("b.toml",)),
        (("show",), ("Missing argument",)),
        (("pick", "x", "--max"), ("--max",)),
        (("sarch",), ("No such command", "sarch")),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(nas, arguments, words, no_training):
    result = nas(*arguments)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"nas: [^\n]+\n", result.err)
    assert all(word in result.err for word in words)


def test_nothing_at_all_is_a_cry_for_help(nas):
    assert nas() == nas("--help")
    assert nas().code == 0
    assert all(command in nas().out for command in ("search", "show", "pick", "estimate", "list"))


def test_settings_in_a_file_are_refused_by_name(refused, tmp_path):
    path = tmp_path / "search.toml"
    path.write_text("[recipe]\nepohcs = 3\n")
    assert refused("search", path).startswith("no setting 'recipe.epohcs'; there are ['augment', ")
    path.write_text("trials = [\n")
    assert refused("search", path).startswith(f"expected TOML in {path}: ")


def test_a_long_line_stays_one_line(refused):
    assert len(refused("search", "--space", "x" * 500)) > 500


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
    "text": (["1,x,y", *rows(100)], "expected a finite number in column 'b' in row 1 (line 2) of {path}; got 'x'"),
    "missing": (
        [*rows(100), "1,,y"],
        "expected a finite number in column 'b' in row 101 (line 102) of {path}; got a missing value",
    ),
    "one class": (
        rows(100, lambda _: "y"),
        "expected records of at least two classes; all 100 are of class 'y' (column 'label' of {path})",
    ),
    "short row": (["1,2", *rows(100)], "expected 3 values in row 1 (line 2) of {path}; got 2"),
    "nothing": ([], "expected records with numeric columns in {path}; got (0, 2)"),
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


# Storage.

RECORD = b'{"op_code":0,"worker_id":"w","study_name":"small","directions":[1,1,1]}\n'
CORRUPT = {
    "text": b"dear diary\n",
    "text without an end": b"dear diary",
    "binary": b"\xff\xfe\x00\x01" * 9,
    "a list": b"[1]\n",
    "a number": b"3\n",
    "JSON of another shape": b'{"study": 1}\n',
    "an unknown record": b'{"op_code":99,"worker_id":"w"}\n',
    "half a record": b'{"op_code":0,"worker_id":"w"}\n',
    "a bad record in the middle": RECORD + b"x\n" + RECORD,
    "a bad record at the end": RECORD + b"x\n",
    "two torn lines that grew together": RECORD + RECORD[:30] + RECORD,
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_journal_that_is_none_is_refused_and_left_alone(refused, tmp_path, kind):
    path = tmp_path / "runs" / "small" / "journal.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(CORRUPT[kind])
    (path.parent / "config.toml").write_text('name = "small"\n')
    for command in (
        ("search", *SMALL, "--name", "small"),
        ("show", "small"),
        ("pick", "small"),
        ("estimate", "small:0"),
    ):
        line = refused(*command)
        assert line.startswith(f"expected an Optuna study in {path}; it cannot be read: ")


def foreign_studies(storage):
    """Studies that somebody else made under names of ours."""
    trained = optuna.create_study(study_name="trained", storage=storage, directions=["minimize"] * 3)
    trained.tell(trained.ask(), [0.0, 0.0, 0.0])
    optuna.create_study(study_name="upwards", storage=storage, directions=["maximize"] * 3)
    optuna.create_study(study_name="flat", storage=storage)
    signed = optuna.create_study(study_name="signed", storage=storage, directions=["minimize"] * 3)
    signed.set_user_attr("config", "mine")
    halfway = optuna.create_study(study_name="halfway", storage=storage, directions=["minimize"] * 3)
    halfway.set_user_attr("config", {"space": "conv"})


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_that_somebody_else_made_is_refused(nas, tmp_path, no_training, kind):
    path = tmp_path / "studies"
    if kind == "sqlite":
        url = storage = f"sqlite:///{path}"
    else:
        url, storage = str(path), JournalStorage(JournalFileBackend(str(path)))
    foreign_studies(storage)
    runs = ("--storage", url, "--runs", tmp_path / "runs")
    for name in ("trained", "upwards", "flat", "signed", "halfway"):
        result = nas("search", *SMALL, "--name", name, *runs)
        message = f"nas: the study '{name}' was not made by nas search"
        assert (result.code, result.out, result.err) == (2, "", f"{message}; choose another --name\n")
        for command in ("show", "pick"):
            assert nas(command, name, *runs).err == f"{message}\n"
        study = optuna.load_study(study_name=name, storage=url if kind == "sqlite" else storage)
        assert len(study.trials) == (name == "trained")
    assert not list((tmp_path / "runs").rglob("*.toml"))


def test_a_storage_is_not_made_by_looking_at_it(refused, tmp_path):
    for url in (tmp_path / "none.log", f"sqlite:///{tmp_path / 'none.log'}"):
        assert (
            refused("show", "x", "--storage", url) == f"no study 'x' in {tmp_path / 'none.log'}; there is no such file"
        )


def test_a_database_of_something_else(refused, tmp_path):
    (tmp_path / "notes.db").write_text("dear diary" * 100)
    for command in (("search", *SMALL), ("show", "x")):
        assert refused(*command, "--storage", f"sqlite:///{tmp_path / 'notes.db'}").endswith("file is not a database")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://user:hunter2@127.0.0.1:1/db",  # nobody listens
        "postgresql+psycopg2://user:hunt@er2@127.0.0.1:1/db",  # an @ that should be %40
        "postgresql+psycopg2://user:hunter2:@127.0.0.1:x/db?password=hunter2",
        "postgresql+nosuchdriver://user:hunter2@127.0.0.1:1/db",
        "oracle+oracledb://user:hunter2@127.0.0.1:1/db",
        "nosuchscheme://user:hunter2@host/db",
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line_without_the_password(refused, url):
    for command in (("search", *SMALL), ("show", "x"), ("pick", "x")):
        line = refused(*command, "--storage", url)
        assert line.startswith(
            (
                f"expected an Optuna study in {url.split(':')[0]}://...; ",
                f"no driver for the storage {url.split(':')[0]}:",
            )
        )
        assert "er2" not in line


def test_a_journal_with_a_torn_last_line_is_mended_and_goes_on(nas, own_run, no_training, interrupted):
    journal = own_run.folder / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:25])
    assert nas("show", "small", "--runs", own_run.runs).out == nas("show", "small", "--runs", own_run.runs).out
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + b'{"op_')
    assert nas("search", *SMALL, "--name", "small", "--runs", own_run.runs).code == 130
    study = load_study("small", own_run.folder, None)
    study.set_user_attr("mended", value=True)
    assert len(load_study("small", own_run.folder, None).trials) == 5


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
    assert result.out.startswith("stopped; 5 trained candidates are kept. Go on with: nas search ")


def test_other_data_under_the_same_name_are_refused(nas, tmp_path, interrupted):
    path = csv_of(tmp_path / "people.csv", rows(200))
    command = ("search", "--dataset", "csv", "--space", "mlp", "--data-path", path, "--runs", tmp_path / "runs")
    assert nas(*command).code == 130
    csv_of(path, rows(201))
    result = nas(*command)
    assert (result.code, result.out) == (2, "")
    assert result.err == "nas: the run 'csv-mlp' was started with other data; choose another --name\n"
    csv_of(path, rows(200))
    moved = path.rename(tmp_path / "moved.csv")
    assert nas(*command, "--data-path", moved).code == 130
    assert len(interrupted) == 2


def test_what_ctrl_c_says_goes_on(nas, tmp_path, interrupted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    csv_of(tmp_path / "people.csv", rows(200))
    first = nas("search", "--dataset", "csv", "--space", "mlp", "--data-path", "people.csv", "--trials", "7")
    assert first.code == 130
    said = first.out.split("Go on with: ")[1]
    assert shlex.split(said) == ["nas", "search", "runs/csv-mlp/config.toml"]
    assert nas(*shlex.split(said)[1:]).out == first.out
    assert interrupted[0] == interrupted[1]
    elsewhere = nas(*shlex.split(said)[1:], "--runs", tmp_path / "runs")
    assert elsewhere.out.endswith(f"config.toml --runs {tmp_path / 'runs'}\n")


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


# Looking at a run.


def test_a_run_that_does_not_exist_lists_those_that_do(refused, own_run):
    runs = own_run.runs
    for command in (("show", "large"), ("pick", "large"), ("estimate", "large:0")):
        assert refused(*command, runs=runs) == f"no run 'large' in {runs}; there are ['small']"
    url = own_run.folder / "journal.log"
    assert refused("show", "large", "--storage", url) == "no study 'large' in the storage; there are ['small']"


def test_nothing_trained_yet(nas, tmp_path, interrupted):
    runs = ("--runs", tmp_path)
    nas("search", *SMALL, "--name", "small", *runs)
    shown = nas("show", "small", *runs)
    assert (shown.code, shown.out.splitlines()[1]) == (0, "no candidate was trained to the end yet")
    assert json.loads(nas("show", "small", "--json", *runs).out)["front"] == []
    picked = nas("pick", "small", *runs)
    assert (picked.code, picked.out) == (2, "")
    assert picked.err == "nas: nothing to pick from: no candidate was trained to the end yet\n"


def test_show_prints_the_front_and_what_became_of_the_rest(nas, trained_run):
    study = load_study("small", trained_run.folder, None)
    result = nas("show", "small", "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "small: 5 trained, 5 screened, 0 rejected, 0 duplicate"
    assert max(map(len, lines)) <= 140
    shown = [int(line.split()[0]) for line in lines[4:] if re.match(r" *\d+ ", line) and "W" in line]
    assert sorted(shown) == sorted(trial.number for trial in study.best_trials)
    assert nas("show", trained_run.folder).out == result.out  # a folder is as good as a name


def test_show_gives_json_with_every_number_and_its_interval(nas, trained_run):
    result = nas("show", "small", "--json", "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    shown = json.loads(result.out)
    assert shown["name"] == "small"
    assert shown["counts"] == {
        "screened": 5, "trained": 5, "rejected": 0, "duplicates": 0, "diverged": 0, "running": 0
    }  # fmt: skip
    best = {trial.number: trial for trial in load_study("small", trained_run.folder, None).best_trials}
    assert {row["number"] for row in shown["front"]} == best.keys()
    for row in shown["front"]:
        trial = best[row["number"]]
        assert [row["error"], row["leakage"], row["latency_ms"]] == trial.values
        assert {
            "params",
            "macs",
            "flash_kib",
            "peak_ram_kib",
            "bits",
            "defence",
            "recipe",
            "architecture",
        } <= row.keys()
        for name in ("error", "leakage", "tpr_at_1pct_fpr", "loss_auc", "latency_ms"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


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
    monkeypatch.setattr("nas.workers.run", lambda _config, _runs, look: look())
    result = nas("search", *SMALL, "--trials", "9", "--name", "small", "--runs", own_run.runs, "--json")
    assert result.code == 0
    assert "the space gave no more new candidates after 5 of 9" in result.err
    assert result.out == own_run.printed


def test_a_search_that_trained_nothing_fails(nas, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.workers.run", lambda _config, _runs, look: look())
    result = nas("search", *SMALL, "--runs", tmp_path)
    assert result.code == 2
    assert result.err == "nas: no candidate was trained to the end: 0 screened, 0 rejected, 0 duplicate\n"
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


# Picking.


@pytest.fixture
def picked(nas, own_run):
    """Pick from a run of one's own; returns what was printed as JSON."""

    def pick(*flags):
        result = nas("pick", "small", *flags, "--json", "--runs", own_run.runs)
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    return pick


def test_pick_takes_the_knee_and_says_so(nas, own_run, picked):
    chosen = picked()
    assert chosen["reason"].startswith("knee of the front: ")
    front = json.loads(own_run.printed)["front"]
    assert chosen["picked"] in front
    printed = nas("pick", "small", "--runs", own_run.runs)
    assert printed.out.startswith(f"candidate {chosen['picked']['number']}: knee of the front: ")
    assert printed.out.endswith(f"written to {chosen['folder']}\n")


def test_pick_within_limits_prefers_what_it_is_told(own_run, picked):
    trials = load_study("small", own_run.folder, None).trials
    by_params = sorted(trials, key=lambda trial: trial.user_attrs["params"])
    limit = by_params[1].user_attrs["params"]
    chosen = picked("--max", f"params={limit}", "--prefer", "error")
    expected = min(by_params[:2], key=lambda trial: trial.user_attrs["error"])
    assert chosen["picked"]["number"] == expected.number
    assert (
        chosen["reason"] == f"lowest error ({expected.user_attrs['error']:.4g}) of the 2 candidates within the limits"
    )


def test_limits_nobody_meets_name_the_nearest_and_what_fails(nas, own_run):
    trials = load_study("small", own_run.folder, None).trials
    nearest = min(trials, key=lambda trial: trial.user_attrs["error"])
    failed = f"error {nearest.user_attrs['error']:.4g} > 0.001"
    limits = ("--max", "error=0.001", "--max", "leakage=1", "--runs", own_run.runs)
    result = nas("pick", "small", *limits)
    assert (result.code, result.out) == (2, "")
    line = f"nas: no candidate meets the limits; candidate {nearest.number} is nearest: {failed}\n"
    assert result.err == line
    result = nas("pick", "small", *limits, "--json")
    assert (result.code, result.err) == (2, line)
    told = json.loads(result.out)
    assert (told["picked"], told["nearest"]["number"], told["failed"]) == (None, nearest.number, [failed])
    assert not (own_run.folder / "picks").exists()


@pytest.mark.parametrize("flags", [("--max", "speed=1"), ("--prefer", "speed"), ("--prefer", "leakage_low")])
def test_an_unknown_metric_to_pick_by_lists_those_that_were_measured(refused, own_run, flags):
    line = refused("pick", "small", *flags, runs=own_run.runs)
    name = flags[1].split("=")[0]
    known = sorted([*MEASURED, "bit_operations", "flash_kib", "latency_ms", "macs", "params", "peak_ram_kib"])
    assert line == f"no metric {name!r} in this run; there are {known}"


def measured(folder, plan):
    """Build what `nas pick` wrote and measure it as the search did."""
    described = files.read_json(folder / "architecture.json")
    space = plugins.load("search_spaces", described["space"], "make_space")(
        tuple(described["input_shape"]), described["num_classes"]
    )
    architecture = space.decode(described["params"])
    assert architecture.key == described["key"]
    network = build(architecture)
    network.load_state_dict(files.read_weights(folder / "weights.safetensors"))
    return measure(network.eval(), search.make_bench(plan))


def test_what_pick_writes_is_the_network_that_was_measured(own_run, picked):
    plan = resolve(load_config(own_run.folder / "config.toml", {}), own_run.runs)
    for trial in load_study("small", own_run.folder, None).trials:
        limits = ("--max", f"params={trial.user_attrs['params']}", "--max", f"error={trial.user_attrs['error']}")
        chosen = picked(*limits, "--prefer", "leakage")
        folder = Path(chosen["folder"])
        assert folder == own_run.folder / "picks" / str(chosen["picked"]["number"])
        assert sorted(path.name for path in folder.iterdir()) == ["architecture.json", "card.md", "weights.safetensors"]
        assert (folder / "card.md").read_text().startswith(f"# Candidate {chosen['picked']['number']} of small\n")
        for name, estimate in measured(folder, plan).items():
            assert estimate.value == chosen["picked"][name]


def test_weights_that_are_not_here_are_trained_again_to_the_same_numbers(own_run, picked):
    first = Path(picked()["folder"]) / "weights.safetensors"
    before = first.read_bytes()
    first.unlink()
    models = own_run.folder / "models"
    for path in models.iterdir():
        path.unlink()
    chosen = picked()
    assert first.read_bytes() == before
    (trained,) = models.iterdir()  # that one, and no other
    assert trained.stem == chosen["picked"]["key"]


def test_weights_of_a_run_that_was_renamed_are_trained_again_too(nas, own_run):
    moved = own_run.folder.rename(own_run.runs / "renamed")
    (models := moved / "models").rename(moved / "gone")
    result = nas("pick", "renamed", "--runs", own_run.runs)
    assert (result.code, result.err) == (0, "")
    assert not models.exists()
    assert list((moved / "picks").rglob("weights.safetensors"))


def test_weights_cannot_be_trained_again_on_other_data(nas, own_run, no_training):
    study = load_study("small", own_run.folder, None)
    study.set_user_attr("task", {**study.user_attrs["task"], "fingerprint": "of other data"})
    (own_run.folder / "models").rename(own_run.folder / "gone")
    result = nas("pick", "small", "--runs", own_run.runs)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(
        r"nas: expected the weights in \S+\.safetensors; they cannot be trained again: other data or another version\n",
        result.err,
    )
    assert not (own_run.folder / "picks").exists()


# Estimates and lists.


def test_an_estimate_by_hand(nas):
    # 64 inputs, 16 hidden, 10 classes: 64 * 16 + 16 * 10 MACs; with a norm, 2 * 16 + 10 parameters more.
    result = nas("estimate", '{"layer1_width": 16}', "--space", "mlp", "--json", "--check")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert (told["macs"], told["params"]) == (1184, 1184 + 42)
    assert told["bit_operations"] == 1184 * 32 * 32
    assert (told["space"], told["device"], told["bits"]) == ("mlp", "stm32h747", "W 32x2 A 32x2")
    assert told["latency_ms_low"] < told["latency_ms"] < told["latency_ms_high"]
    assert told["architecture"]["layer1_width"] == 16
    expected = {"macs": 1184, "params": 1226}
    assert told["check"] == {"fvcore": expected, "thop": expected, "torch": expected}


def test_an_estimate_on_all_devices(nas):
    told = json.loads(nas("estimate", "--device", "all", "--json").out)
    assert sorted([*told["devices"], *told["refused"]]) == available_devices()
    assert "for 32 bits" in told["refused"]["bitfusion_like"]
    assert told["devices"]["stm32l4r5"]["energy_mj"] > 0
    assert "energy_mj" not in told["devices"]["host"]
    printed = nas("estimate", "--device", "all", "--check")
    assert (printed.code, printed.err) == (0, "")
    assert all(name in printed.out for name in (*available_devices(), "fvcore: ", "thop: ", "torch: "))
    assert re.search(r"\nbitfusion_like cannot run it: [^\n]*for 32 bits[^\n]*\n", printed.out)
    assert printed.out.endswith("all counts agree\n")


def test_what_was_searched_what_was_picked_and_what_is_written_by_hand_cost_the_same(nas, own_run, picked):
    chosen = picked()
    row = chosen["picked"]
    common = ("--json", "--runs", own_run.runs)
    by_run = json.loads(nas("estimate", f"small:{row['number']}", *common).out)
    by_file = json.loads(nas("estimate", Path(chosen["folder"]) / "architecture.json", *common).out)
    by_hand = json.loads(nas("estimate", json.dumps(row["architecture"]), "--space", "mlp", *common).out)
    assert by_run == by_file == by_hand
    assert {name: by_run[name] for name in ("macs", "params", "latency_ms", "flash_kib", "peak_ram_kib")} == {
        name: row[name] for name in ("macs", "params", "latency_ms", "flash_kib", "peak_ram_kib")
    }


def test_lists_hold_every_plugin_with_a_line_about_it(nas):
    told = json.loads(nas("list", "--json").out)
    assert {title: sorted(entries) for title, entries in told.items()} == {
        "spaces": names("search_spaces", "make_space"),
        "datasets": names("nas.data", "load"),
        "attacks": names("estimators.leakage.attacks", "attack"),
        "defences": names("nas.defences", "defend"),
        "metrics": sorted([*names("estimators.cost", "estimate"), *MEASURED]),
        "devices": available_devices(),
    }
    assert all(text for entries in told.values() for text in entries.values())
    for title, entries in told.items():
        assert json.loads(nas("list", title, "--json").out) == {title: entries}
        printed = nas("list", title).out
        assert all(name in printed for name in entries)


def test_a_list_of_something_else(nas):
    result = nas("list", "engines")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "nas: no list of 'engines'; there are ['spaces', 'datasets', 'attacks', 'defences', 'metrics', 'devices']\n"
    )


def test_help_is_quick_because_it_imports_neither_torch_nor_scipy():
    code = (
        "import sys; from nas.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'scipy', 'matplotlib', 'onnx'}))"
    )
    run = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
