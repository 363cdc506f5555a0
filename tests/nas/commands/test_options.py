"""What the commands share: whose code may run."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

from nas.base.plugins import TRUSTED
from nas.commands.options import limits
from nas.nni import job
from nas.search import workers
from tests.small_search import SMALL
from tests.small_search import planned
from tests.small_search import tiny_space

TRAP = "from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported; returns its dotted name and that file."""
    folder = tmp_path / "path" / "trap"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(TRAP)
    (folder / "module.py").write_text(TRAP)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv(TRUSTED, "")
    yield "trap.module", folder / "sprung"
    for name in [name for name in sys.modules if name.split(".")[0] == "trap"]:
        del sys.modules[name]


def described(space):
    return {"space": space, "input_shape": [1, 8, 8], "num_classes": 10, "params": {"width": 8}}


def wants(name, line, where):
    return line == f"{where} names the module {name!r}, whose code would run here: give --plugin {name} if you trust it"


@pytest.mark.parametrize("name", ["trap.module", "trap.__main__", "search_spaces.graph.builder", "os.path"])
def test_an_architecture_imports_no_module(refused, trap, tmp_path, name):
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(described(name)))
    assert wants(name, refused("estimate", path), str(path))
    assert wants(name, refused("estimate", json.dumps(described(name))), "the architecture")
    assert not trap[1].exists()


@pytest.mark.parametrize("name", ["graph", "space", "network", "layers"])
def test_an_architecture_names_no_other_file_of_the_folder(refused, name):
    assert refused("estimate", json.dumps(described(name))).startswith(f"no '{name}' in search_spaces; there are ")


@pytest.mark.parametrize("command", ["export", "measure"])
def test_a_pick_imports_no_module(nas, trap, tmp_path, command):
    folder = tmp_path / "runs" / "theirs" / "picks" / "0"
    folder.mkdir(parents=True)
    (folder / "architecture.json").write_text(json.dumps({**described(trap[0]), "key": "0" * 16}))
    (folder / "weights.safetensors").write_bytes(b"")
    told = nas(command, folder, "--runs", tmp_path / "runs")
    assert told.code == 2
    assert wants(trap[0], told.err[len("nas: ") : -1], str(folder / "architecture.json"))
    assert not trap[1].exists()


def test_a_table_imports_no_module(nas, trap, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(f'space,architecture,latency_ms\n{trap[0]},"{{}}",1\n')
    for command in (("estimate", "--output", tmp_path / "out.csv"), ("calibrate",)):
        told = nas(*command, "--from", table, "--device", "stm32l4r5" if command[0] == "estimate" else "mine")
        assert told.code == 2
        assert f"the column 'space' names the module {trap[0]!r}" in told.err
    assert not trap[1].exists()


def test_a_study_imports_no_module(nas, trap, own_run):
    journal = own_run.folder / "journal.log"
    journal.write_text(journal.read_text().replace('"space":"mlp"', f'"space":"{trap[0]}"'))
    for command in (("show",), ("pick",), ("audit", "--pick", 0)):
        told = nas(command[0], own_run.name, *command[1:], "--runs", own_run.runs)
        assert told.code == 2
        assert f"names the module {trap[0]!r}" in told.err
    assert not trap[1].exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("space", "{}"), ("dataset", "{}"), ("attack", "{}"), ("defences", '["none", "{}"]')],
)
def test_the_settings_of_a_run_import_no_module(refused, trap, own_run, setting, value):
    settings = own_run.folder / "config.toml"
    written = value.format(trap[0]) if value.startswith("[") else f'"{trap[0]}"'
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(f"{setting} =")]
    settings.write_text("\n".join([f"{setting} = {written}", *lines]))
    assert wants(trap[0], refused("search", settings, runs=own_run.runs), str(settings))
    assert not trap[1].exists()


def test_settings_from_nni_import_no_module(trap, tmp_path):
    plan = planned(tmp_path / "runs")
    job.write(plan, tmp_path / "nni")
    path = tmp_path / "nni" / job.CODE / job.SETTINGS
    path.write_text(path.read_text().replace('"space": "mlp"', f'"space": "{trap[0]}"'))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} names the module '{trap[0]}'"):
        job.read(path)
    assert not trap[1].exists()


# What a person names is imported.


@pytest.fixture
def three(tmp_path, monkeypatch):
    """The space of three networks, not trusted yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUSTED, "")
    name = tiny_space(tmp_path)
    yield name
    for module in ("tiny_spaces", name):
        sys.modules.pop(module, None)


def test_a_flag_or_plugin_option_imports_a_module(nas, three, tmp_path):
    flagged = nas("estimate", '{"width": 8}', "--space", three)
    assert flagged.code == 0, flagged.err
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(described(three)))
    assert nas("estimate", path).code == 2
    assert nas("estimate", path, "--plugin", "other.module", "--plugin", three).code == 0


@pytest.mark.parametrize("by", ["flag", "file"])
def test_a_run_with_a_module_of_the_users_own_goes_on_and_is_read(nas, in_process, three, tmp_path, by):
    settings = [*SMALL[2:], "--name", "own", "--trials", "2", "--runs", tmp_path / "runs"]
    file = tmp_path / "search.toml"
    file.write_text(f'space = "{three}"\n' if by == "file" else "")
    given = [file] if by == "file" else ["--space", three]
    assert nas("search", *given, *settings).code == 0
    config = tmp_path / "runs" / "own" / "config.toml"
    for command in (("search", config), ("show", "own"), ("pick", "own")):
        told = nas(*command, "--runs", tmp_path / "runs")
        assert (told.code, f"names the module {three!r}" in told.err) == (2, True)
        told = nas(*command, "--runs", tmp_path / "runs", "--plugin", three)
        assert told.code == 0, told.err


def test_a_stopped_search_says_which_modules_to_name_again(nas, interrupted, three, tmp_path):
    told = nas("search", "--space", three, *SMALL[2:], "--name", "own", "--runs", tmp_path / "runs")
    assert told.code == 130
    assert f"config.toml --runs {tmp_path / 'runs'} --plugin {three}" in told.out


def test_workers_trust_what_their_parent_trusts(nas, three, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    told = nas("search", "--space", three, *SMALL[2:], "--name", "own", "--trials", "1", "--runs", tmp_path / "runs")
    assert told.code == 0, told.err
    assert workers.run.__module__ == "nas.search.workers"  # in processes of their own
    shutil.rmtree(tmp_path / "runs")


def test_limits_are_divided_at_the_last_sign():
    given = ["latency_ms=5", "class_error_<=50K=0.2", "class_error_a=b=c=1e-1", "class_error_ x =0.5"]
    assert limits(given, "--max") == {
        "latency_ms": 5.0,
        "class_error_<=50K": 0.2,
        "class_error_a=b=c": 0.1,
        "class_error_ x": 0.5,
    }


@pytest.mark.parametrize("text", ["5", "=5", " =5", "error", "error=", "error=nan", "class_error_<=50K", "error=inf"])
def test_a_limit_without_a_name_or_a_number_is_refused(text):
    with pytest.raises(ValueError, match=rf"^expected --max METRIC=NUMBER; got '{re.escape(text)}'$"):
        limits([text], "--max")
