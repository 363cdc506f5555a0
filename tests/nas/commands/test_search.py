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
from nas.base.plugins import trust
from nas.runs.networks import read_pick
from nas.search import workers
from nas.search.config import load_config
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import load_study
from nas.search.storage import open_study
from nas.training.sparse import sparse_layers
from tests.small_search import SMALL
from tests.small_search import TINY_SPACE
from tests.small_search import settings
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
        r"no candidate meets the limits: (\d+) screened on stm32h747, smallest latency_ms (\S+) \(limit 0\.001\), "
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


SMALL_CHIP = 'base = "stm32g0b1"\ndescription = "a chip with next to nothing"\nram_kib = {ram}\n'


def small_chip(folder, ram):
    path = folder / "tiny.toml"
    path.write_text(SMALL_CHIP.format(ram=ram))
    return path


def test_a_device_that_no_network_fits_is_named_with_the_flag(refused, nas, tmp_path, interrupted):
    chip = small_chip(tmp_path, 0.5)
    line = refused("search", "--device", chip)
    assert re.fullmatch(
        r"no candidate meets the limits: 1000 screened on tiny, smallest peak_ram_kib \S+ "
        r"\(limit 0\.5: tiny has 0\.5 KiB of RAM; --no-device-limits looks beyond\)",
        line,
    )
    beyond = ("--device", chip, "--no-device-limits", "--runs", tmp_path / "runs")
    assert nas("search", *beyond).code == 130


def test_a_search_says_what_it_keeps_to_before_it_starts(nas, tmp_path, interrupted):
    settings = ("--space", "mlp", "--members", "180", "--budget", "flash_kib=300", "--runs", tmp_path)
    said = nas("search", "--device", "stm32g0b1", *settings).out.splitlines()[:-1]
    assert said[1] == "epochs 40 to 160: 120 to 480 steps of 60 records"
    ram, ceiling, flash = said[2:]
    assert ram == "limit peak_ram_kib=144: stm32g0b1 has 144 KiB of RAM; --no-device-limits looks beyond"
    assert ceiling.startswith("limit error=0.1393: twice the error of logistic regression, 0.0696; --no-error-ceiling")
    assert flash == "limit flash_kib=300: your budget"
    beyond = ("--no-device-limits", "--no-error-ceiling", "--name", "beyond")
    said = nas("search", "--device", "stm32g0b1", *settings, *beyond).out.splitlines()[:-1]
    assert said[2:] == ["limit flash_kib=300: your budget"]


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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--epochs", "2:9"),
            "); a wider choice of recipe.epochs needs a study of its own: go on with the old ones, or",
        ),
        (("--defences", "none,gecko,early_stopping"), "); a wider choice of defences needs a study of its own: go on"),
        (("--epochs", "4:9"), "now {'low': 4, 'high': 9, 'log': False}); go on with the old ones, or"),
        (("--defences", "none"), "now ['none']); go on with the old ones, or"),
    ],
)
def test_a_wider_choice_of_a_running_study_is_refused_and_says_how(refused, own_run, flags, said):
    arguments = list(SMALL)
    if flags[0] == "--epochs":
        del arguments[arguments.index("--epochs") : arguments.index("--epochs") + 2]
    line = refused("search", *arguments, *flags, "--name", "small", runs=own_run.runs)
    assert line.startswith("the run 'small' was started with other settings (")
    assert said in line
    assert line.endswith("choose another --name")


@pytest.mark.parametrize("flags", [("--trials", "9"), ("--workers", "2"), ("--trials", "3", "--workers", "1")])
def test_how_much_and_how_may_change(nas, own_run, interrupted, flags):
    result = nas("search", *SMALL, *flags, "--name", "small", "--runs", own_run.runs)
    assert result.code == 130
    assert result.out.splitlines()[-1].startswith("stopped; 5 trained candidates are kept. To continue: nas search ")


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
        "device_limits": False,
        "error_ceiling": False,
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
        if value is not False
    ] + [f"--no-{name.replace('_', '-')}" for name, value in settings.items() if value is False]
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

    monkeypatch.setattr("nas.search.bench.write_weights", write)
    result = nas("search", *SMALL, "--trials", "6", "--name", "small", "--runs", own_run.runs)
    assert result.code == 2
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
    begun = plain.out.splitlines()
    assert begun[0].startswith("1,797 records: 120 members, 120 non-members, 389 validation, 389 reserve, 778 test")
    assert begun[1].startswith(
        "epochs 3: 6 steps of 60 records; with fewer than 120 steps networks are often half trained"
    )
    assert "\ntrained 5 of 5  |  5 screened, 0 rejected, 0 duplicate\nsmall: 5 trained, " in plain.out


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


def test_a_search_whose_candidates_all_exceed_a_limit_shows_the_nearest(nas, tmp_path, in_process):
    command = ("search", *SMALL, "--name", "small", "--budget", "error=0.001", "--runs", tmp_path)
    result = nas(*command)
    assert result.code == 0  # the search did what it was asked to; `nas pick` has nothing to pick
    study = load_study("small", tmp_path / "small", None)
    first, *others = sorted(study.trials, key=lambda trial: trial.user_attrs["error"])
    line = (
        "none of the 5 trained candidates meets the limits: all exceed error=0.001; nearest is candidate "
        f"{first.number}: error {first.user_attrs['error']:.4g} > 0.001. More trials, epochs or another space "
        "may help; nas pick takes one all the same with --max error=NUMBER\n"
    )
    assert line in result.out
    assert "no candidate has finished training" not in result.out
    told = json.loads(nas(*command, "--json").out)
    assert told["front"] == []
    assert [row["number"] for row in told["nearest"]] == [first.number, *(trial.number for trial in others[:2])]
    assert files.read_json(tmp_path / "small" / "front.json") == {"front": []}
    picked = nas("pick", "small", "--runs", tmp_path)
    assert (picked.code, picked.out) == (2, "")
    assert f"candidate {first.number} is nearest: error {first.user_attrs['error']:.4g} > 0.001" in picked.err


def test_a_ceiling_that_no_candidate_meets_is_said_with_the_flag(nas, tmp_path, in_process):
    assert SMALL[-1] == "--no-error-ceiling"
    result = nas("search", *SMALL[:-1], "--name", "small", "--runs", tmp_path)
    assert result.code == 0
    assert "all exceed error=0.1" in result.out
    assert "nas pick takes one all the same with --no-error-ceiling\n" in result.out
    picked = nas("pick", "small", "--runs", tmp_path)
    assert picked.code == 2
    reason = r"> 0\.1\S+ \(twice the error of logistic regression, \S+\); --no-error-ceiling looks beyond"
    assert re.search(reason, picked.err)
    assert nas("pick", "small", "--no-error-ceiling", "--runs", tmp_path).code == 0
    assert nas("pick", "small", "--max", "error=1", "--runs", tmp_path).code == 0


def test_a_run_leaves_its_settings_and_what_it_ran_on(trained_run):
    config = load_config(trained_run.folder / "config.toml", {})
    assert (config.name, config.trials, config.recipe.epochs) == ("small", 5, 3)
    environment = files.read_json(trained_run.folder / "environment.json")
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["packages"]["optuna"] == optuna.__version__
    assert environment["cores"] >= 1
    names = {path.name for path in trained_run.folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.toml",
        "environment.json",
        "exports.json",
        "front.json",
        "journal.log",
        "models",
        "timings.jsonl",
    }


# Plug-ins by the paths of their files.


SHIFTED = """
from dataclasses import replace

PARAMETERS = {"by": {"low": 0.1, "high": 0.5}}

def defend(setup, teach, by):
    return replace(setup, features=setup.features + by)
"""


@pytest.fixture
def files_of_ones_own(tmp_path, monkeypatch):
    """A space and a defence as files in a folder beside the current one, which is not on the path."""
    monkeypatch.setenv("GECKO_NAS_PLUGINS", "")
    (tmp_path / "plug ins").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "plug ins" / "three.py").write_text(TINY_SPACE)
    (tmp_path / "plug ins" / "shifted.py").write_text(SHIFTED)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "plug ins"


def test_plugins_by_path_are_searched_with_continued_and_picked(nas, files_of_ones_own, in_process):
    space, defence = files_of_ones_own / "three.py", files_of_ones_own / "shifted.py"
    flags = ("--members", "120", "--references", "2", "--trials", "1", "--epochs", "2", "--workers", "1")
    flags += ("--no-error-ceiling",)
    first = nas("search", "--space", "../plug ins/three.py", "--defences", "../plug ins/shifted.py", *flags)
    assert (first.code, first.err) == (0, "")
    settings = Path("runs/digits-three/config.toml")
    config = load_config(settings, {})
    assert (config.space, config.defences) == (str(space), (str(defence),))
    # The run is data: it imports nothing unless the files are named here, by whatever path.
    refused = nas("search", settings, "--trials", "2")
    assert refused.code == 2
    assert f"names the module '{space}', whose code would run here: give --plugin '{space}' if you" in refused.err
    assert nas("show", "digits-three").code == 2
    plugins = ("--plugin", "../plug ins/three.py", "--plugin", defence)
    assert nas("search", settings, "--trials", "2", *plugins).code == 0
    picked = json.loads(nas("pick", "digits-three", "--json", *plugins).out)["picked"]
    assert picked["defence"] == str(defence)
    assert 0.1 <= picked["defence_parameters"]["by"] <= 0.5
    shown = nas("show", "digits-three", *plugins).out
    assert "shifted" in shown
    assert str(files_of_ones_own) not in shown
    assert nas("estimate", "--space", "../plug ins/three.py", '{"width": 16}').code == 0


def test_paths_in_a_search_file_are_below_its_folder(nas, files_of_ones_own, interrupted):
    toml = files_of_ones_own / "search.toml"
    toml.write_text(
        'space = "three.py"\ndefences = ["none", "./shifted.py"]\nmembers = 120\n'
        '[defence_parameters."shifted.py"]\nby = 0.2\n'
    )
    assert nas("search", toml).code == 130
    (config,) = interrupted
    defence = str(files_of_ones_own / "shifted.py")
    assert (config.space, config.defences) == (str(files_of_ones_own / "three.py"), ("none", defence))
    assert config.defence_parameters == {defence: {"by": 0.2}}
    assert config.name == "digits-three"


def test_a_file_that_is_not_there_is_named_by_its_full_path(refused, files_of_ones_own):
    line = refused("search", "--space", "../plug ins/none.py")
    assert line == f"no '{files_of_ones_own / 'none.py'}' for search_spaces: there is no file " + str(
        files_of_ones_own / "none.py"
    )


def test_workers_import_the_same_file(files_of_ones_own, tmp_path):
    space = str(files_of_ones_own / "three.py")
    trust(space)
    config = parse_config({**settings().model_dump(mode="json"), "space": space, "defences": ["none"], "trials": 1})
    open_study(resolve(config, tmp_path / "runs"))
    workers.run(config, tmp_path / "runs", look=lambda: None)
    study = load_study("small", tmp_path / "runs" / "small", None)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"]


@pytest.mark.usefixtures("in_process")
def test_zeros_that_an_attacker_moves_go_from_the_search_to_the_audit(nas, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.training.safecompress.ATTACKER_EPOCHS", 1)
    small = [*SMALL[: SMALL.index("--trials")], "--trials", 2, "--epochs", 4, "--workers", 1, "--no-error-ceiling"]
    given = ["--compress", "sparsity", "--pruning", "safecompress", "--set", "share=0.9", "--name", "safe"]
    zeros = ["--set", "pattern=unstructured", "--set", "first_bits=32", "--set", "last_bits=32", "--set", "depth=1"]
    searched = nas("search", *small, *given, *zeros, "--runs", tmp_path)
    assert searched.code == 0, searched.err
    shown = json.loads(nas("show", "safe", "--json", "--runs", tmp_path).out)
    assert shown["front"]
    picked = nas("pick", "safe", "--runs", tmp_path)
    assert picked.code == 0, picked.err
    (folder,) = (tmp_path / "safe" / "picks").iterdir()
    _, network = read_pick(folder)
    layers = list(sparse_layers(network.architecture))
    assert len(layers) == 2
    for name, op in layers:
        weight = network.get_parameter(name)
        assert int((weight == 0).sum()) == round(op.sparsity * weight.numel())
    audited = nas(
        "audit",
        "safe",
        "--pick",
        folder.name,
        "--effort",
        "quick",
        "--attack",
        "loss",
        "--workers",
        1,
        "--runs",
        tmp_path,
    )
    assert audited.code == 0, audited.err
    told = (tmp_path / "safe" / "audits" / folder.name / "audit.json").read_text()
    assert "pruning safecompress" in told
