"""The command line as a whole: names, flags, lists; what it refuses before any training."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from estimators.devices.files import available_devices
from nas.base import plugins
from nas.base import text
from nas.base.errors import clipped
from nas.commands.options import show_table
from nas.training.assess import MEASURED


def names(package, attribute):
    return plugins.available(package, attribute)


# Names and flags.


def own(what, package, attribute):
    return (
        f"no {what!r} in {package}; there are {names(package, attribute)} "
        f"(a module of your own is given by its dotted name and defines {attribute!r})"
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
    ("--sampler", "cma"): "no sampler 'cma'; there are ['tpe', 'nsga2', 'random']",
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


def test_a_table_of_many_figures_is_whole_where_there_is_no_terminal(capsys):
    figures = [str(1_234_567_890_123 + column) for column in range(20)]
    table = text.plain_table("name", *figures, "bits")
    for column in table.columns[1:-1]:
        column.no_wrap = True
    bits = "W 8 2x2 8x3 A 8x4 4x2"
    table.add_row("a", *figures, bits)
    show_table(table)
    heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", *figures, "bits"]
    assert row.split() == ["a", *figures, *bits.split()]


def test_a_table_that_can_break_its_text_stays_within_140_columns(capsys):
    table = text.plain_table("name", "text")
    table.add_row("a", "word " * 100)
    show_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 140
    assert sum(line.count("word") for line in lines) == 100


# Lists.


def test_lists_hold_every_plugin_with_a_line_about_it(nas):
    told = json.loads(nas("list", "--json").out)
    assert {title: sorted(entries) for title, entries in told.items()} == {
        "spaces": names("search_spaces", "make_space"),
        "datasets": names("nas.data", "load"),
        "attacks": names("estimators.leakage.attacks", "attack"),
        "defences": names("nas.defences", "defend"),
        "metrics": sorted([*names("estimators.cost", "estimate"), *MEASURED, "class_error_NAME"]),
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
