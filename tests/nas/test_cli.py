"""The command line as a whole: names, flags, lists; what it refuses before any training."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from estimators.devices.files import available_devices
from nas.base import plugins
from nas.base import text
from nas.base.errors import clipped
from nas.cli import app
from nas.commands import completion
from nas.commands import examples
from nas.commands.options import show_table
from nas.pricing.by_exit import MEANS
from nas.spaces import all_networks
from nas.training.measures import MEASURED
from tests.conftest import time_at_any_load


def names(package, attribute):
    return plugins.available(package, attribute)


# Names and flags.


def own(what, package, attribute):
    return (
        f"no {what!r} in {package}; there are {names(package, attribute)} "
        f"(a module of your own is given by its dotted name or its file's path, ./mine.py, and defines {attribute!r})"
    )


UNKNOWN = {
    ("--space", "cube"): own("cube", "search_spaces", "make_space"),
    ("--dataset", "mnist"): own("mnist", "nas.data", "load"),
    ("--attack", "guess"): own("guess", "estimators.leakage.attacks", "attack"),
    ("--defences", "none,dp"): own("dp", "nas.defences", "defend"),
    (
        "--device",
        "esp32",
    ): f"no device 'esp32'; there are {available_devices()} (one of your own is given by its .toml)",
    ("--sampler", "cma"): own("cma", "nas.search.samplers", "make_sampler"),
    ("--engine", "ray"): "no engine 'ray'; there are ['optuna', 'nni', 'nni-service']",
}


@pytest.mark.parametrize("flags", UNKNOWN)
def test_an_unknown_name_lists_those_there_are(refused, flags):
    assert refused("search", *flags) == clipped(UNKNOWN[flags])


@pytest.mark.parametrize(
    ("flags", "what"), [(("--objectives", "error,speed"), "objective"), (("--budget", "speed=3"), "budget")]
)
def test_an_unknown_metric_lists_those_of_the_device(refused, flags, what):
    line = refused("search", *flags, "--device", "host")
    assert line.startswith(f"no {what} 'speed' on host (ends: ")
    known = line.split("; there are ")[1]
    assert known.startswith("['accuracy_gap', ")
    assert {"error", "leakage", "latency_ms", "macs"} <= set(re.findall(r"\w+", known))


def test_a_metric_that_the_device_has_no_figure_for_is_unknown_there(refused):
    assert refused("search", "--objectives", "energy_mj", "--device", "host").startswith(
        "no objective 'energy_mj' on host (ends: "
    )


WRONG = {
    ("search", "--budget", "latency_ms"): "expected --budget METRIC=NUMBER; got 'latency_ms'",
    ("search", "--budget", "latency_ms=nan"): "expected --budget METRIC=NUMBER; got 'latency_ms=nan'",
    ("search", "--budget", "latency_ms=5ms"): "expected --budget METRIC=NUMBER; got 'latency_ms=5ms'",
    ("search", "--epochs", "x"): "expected --epochs NUMBER or LOW:HIGH; got 'x'",
    ("search", "--epochs", ""): "expected --epochs NUMBER or LOW:HIGH; got ''",
    ("search", "--epochs", "1:2:3"): "expected --epochs NUMBER or LOW:HIGH; got '1:2:3'",
    ("search", "--epochs", "5:2"): "recipe.epochs: expected low < high; got 5 and 2",
    ("search", "--set", "bits"): (
        "expected --set PARAMETER=VALUE, PARAMETER=VALUE,VALUE or PARAMETER=LOW..HIGH; got 'bits'"
    ),
    ("search", "--set", "depth=5..2"): "set.depth: expected low < high; got 5 and 2",
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
    ("estimate", "nothing"): (
        "expected JSON, a file, RUN:NUMBER or the name of a network (nas list networks); got 'nothing', and there is "
        "nothing of this name"
    ),
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


def test_a_long_line_stays_one_line_and_is_cut(refused):
    assert refused("search", "--device", "x" * 500) == f"no device '{'x' * 288}\N{HORIZONTAL ELLIPSIS}"


def test_help_is_quick_because_it_imports_neither_torch_nor_scipy():
    code = (
        "import sys; from nas.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'scipy', 'matplotlib', 'onnx'}))"
    )
    run = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


# Tables.


def test_a_table_that_is_too_wide_is_divided_and_nothing_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    figures = [str(1_234_567_890_123 + column) for column in range(20)]
    table = text.plain_table("name", *figures, "bits")
    for column in table.columns[1:-1]:
        column.no_wrap = True
    bits = "W 8 2x2 8x3 A 8x4 4x2"
    table.add_row("a", *figures, bits)
    show_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    headings, rows = lines[0::3], lines[2::3]
    assert all(heading.split()[0] == "name" for heading in headings)
    assert [name for heading in headings for name in heading.split()[1:]] == [*figures, "bits"]
    assert [cell for row in rows for cell in row.split()[1:]] == [*figures, *bits.split()]


@pytest.mark.parametrize("width", [80, 140])
def test_a_table_that_can_break_its_text_stays_within_the_columns(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    table = text.plain_table("name", "long", "text")
    table.add_row("a", "x" * 40 + " y", "word " * 100)
    show_table(table)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert (out.count("word"), out.count("x" * 40)) == (100, 1)


def test_every_table_of_a_run_fits_80_columns_and_is_whole(nas, own_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("nas.deploy.deployed.time_models", time_at_any_load)
    runs = ("--runs", own_run.runs)
    commands = [
        ("show", "small"),
        ("compare", "small", "0", "3"),
        ("pick", "small"),
        ("list",),
        ("list", "runs"),
        ("estimate", "small:0"),
        ("estimate", "small:0", "--device", "all"),
        ("estimate", "small:0", "--by-layer"),
        ("measure", "small:0", "--rounds", "1"),
    ]
    for command in commands:
        result = nas(*command, *runs)
        assert (result.code, "\N{HORIZONTAL ELLIPSIS}" in result.out) == (0, False), command
        # A rule below its heading makes a table; the lines of text that follow are broken by the terminal.
        lines = result.out.splitlines()
        rules = [number for number, line in enumerate(lines) if set(line) == {"\N{BOX DRAWINGS LIGHT HORIZONTAL}"}]
        assert rules, command
        for rule in rules:
            table = [line for line in lines[max(0, rule - 2) :] if len(line) == len(lines[rule])]
            assert len(lines[rule]) <= 80, command
            assert table, command
    shown = nas("show", "small", *runs).out
    for name in ("error", "leakage", "latency", "defence", "bits"):
        assert name in shown


# Lists.


def test_lists_hold_every_plugin_with_a_line_about_it(nas):
    told = json.loads(nas("list", "--json").out)
    assert {title: sorted(entries) for title, entries in told.items()} == {
        "spaces": names("search_spaces", "make_space"),
        "compressions": names("search_spaces.compressions", "compress"),
        "datasets": names("nas.data", "load"),
        "attacks": names("estimators.leakage.attacks", "attack"),
        "defences": names("nas.defences", "defend"),
        "samplers": names("nas.search.samplers", "make_sampler"),
        "metrics": sorted([*names("estimators.cost", "estimate"), *MEANS, *MEASURED, "class_error_NAME"]),
        "networks": sorted(all_networks()),
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
        "nas: no list of 'engines'; there are ['spaces', 'compressions', 'datasets', 'attacks', 'defences', "
        "'samplers', 'metrics', 'networks', 'devices', 'runs']\n"
    )


# Help, version, completion.


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_the_help_of_every_command_ends_with_examples(nas, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    out = nas(name, "--help").out
    told = [line.strip() for line in out.partition("Examples:")[2].splitlines() if line.strip()]
    assert told == list(examples.EXAMPLES[name])  # none is broken into two lines
    assert len(told) >= 2


def test_every_command_has_examples():
    assert {info.name or info.callback.__name__ for info in app.registered_commands} == set(examples.EXAMPLES)


def test_the_version_is_printed(nas):
    assert nas("--version").out == f"gecko-nas {version('gecko-nas')}\n"


PACKAGES = {
    completion.spaces: ("search_spaces", "make_space"),
    completion.datasets: ("nas.data", "load"),
    completion.attacks: ("estimators.leakage.attacks", "attack"),
    completion.defences: ("nas.defences", "defend"),
    completion.samplers: ("nas.search.samplers", "make_sampler"),
}


@pytest.mark.parametrize("complete", PACKAGES)
def test_the_names_that_are_completed_are_those_that_are_loaded(complete):
    known = names(*PACKAGES[complete])
    assert complete("") == known
    assert complete(known[0][:3]) == [name for name in known if name.startswith(known[0][:3])]
    assert complete("no such") == []


def test_networks_are_completed_by_the_names_that_are_loaded():
    known = sorted(all_networks())
    assert completion.networks("") == known
    assert completion.networks(known[0]) == [name for name in known if name.startswith(known[0])]
    assert completion.networks("no such") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NETWORKS: Mapping = {"a": 1, **OTHERS} | {"b": {"c": 2}}', ["a", "b"]),
        ('NETWORKS: Mapping = MappingProxyType({"b": {"c": 2}, "a": 1})', ["a", "b"]),
        ('NETWORKS = {name: 1 for name in "ab"}\nOTHERS = {"c": 1}', []),
    ],
)
def test_names_of_networks_are_read_without_running_their_file(monkeypatch, tmp_path, text, expected):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "one.py").write_text(f"def make_space(): 1 / 0\n1 / 0\n{text}\n")
    monkeypatch.setattr(completion, "ROOT", tmp_path)
    assert completion.networks("") == expected


def test_runs_and_published_networks_are_completed_for_like(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text("")
    context = SimpleNamespace(params={"runs": tmp_path})
    assert completion.likes(context, "") == ["networks", "supernet", "first", "second"]
    assert completion.likes(context, "first,se") == ["first,second"]


def test_of_several_defences_the_last_is_completed():
    assert completion.defences("none,ge") == ["none,gecko"]


def test_devices_of_ones_own_are_completed_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "pump.toml").write_text("")
    assert completion.devices("") == available_devices()
    assert completion.devices("pu") == ["pump"]


def completed(words, folder):
    """Ask for a completion as bash does."""
    code = "import sys; from nas.cli import main; sys.argv[0] = 'nas'; main()"
    asked = {"_NAS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **asked},
    )
    return run.stdout.split()


def test_a_shell_completes_commands_names_and_runs(trained_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "runs" / "example").mkdir(parents=True)
    (tmp_path / "runs" / "example" / "config.toml").write_text("")
    assert completed("nas se", tmp_path) == ["search"]
    assert completed("nas search --space c", tmp_path) == ["conv"]
    assert completed("nas show ex", tmp_path) == ["example"]
    assert completed(f"nas show --runs {trained_run.runs} ", tmp_path) == ["small"]
    assert "runs" in completed("nas list ", tmp_path)
