"""Hostile files end in one line or an accepted run: `benchmarks/hostile_inputs.py` makes them and says what holds."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KINDS = ("settings", "tables", "arrays", "images", "records", "devices", "architectures", "picks", "studies")
EXAMPLES = 2250
MOST_MIB = 1024


@pytest.fixture(scope="module")
def hostile():
    """The generator, set up in this process."""
    before = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    module = importlib.import_module("hostile_inputs")
    module.setting_up()
    made = module.base()
    yield module
    shutil.rmtree(made.folder)
    sys.path[:] = before


def test_every_kind_is_tried(hostile):
    assert tuple(hostile.KINDS) == KINDS


# What is a warning here is silenced by the command line; each failure names an example that the benchmark makes again.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1200)  # ten seconds of work, or minutes on a machine that is busy
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_one_line_or_an_accepted_run_in_less_than_a_gibibyte(hostile, kind):
    @settings(max_examples=EXAMPLES // len(KINDS), deadline=None, derandomize=True, database=None)
    @given(number=st.integers(0, 2**32))
    def check(number):
        found = hostile.example(kind, number)
        assert found.problems == (), f"--kind {kind} --first {number} --examples 1: nas {found.command}"

    hostile.forget_peak()
    before = hostile.peak_mib()
    check()
    assert not hostile.peak_mib() - before > MOST_MIB  # not a number where the system does not count


@pytest.mark.filterwarnings("ignore")
def test_what_must_hold_is_seen_where_it_does_not(hostile, monkeypatch, tmp_path):
    def leak(*_):
        importlib.import_module(hostile.TRAP)
        (tmp_path / "elsewhere").write_text("")
        sys.stdout.write("\x1b[31m")
        raise KeyError("a bug")

    monkeypatch.setattr("nas.cli.main", leak)
    trace, *others = hostile.example("tables", 0).problems
    assert trace.endswith("KeyError: 'a bug'\n")
    assert [other.split(":")[0] for other in others] == [
        "a module that a file names was imported",
        "written outside",
        "control characters printed",
    ]
