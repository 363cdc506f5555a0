"""What a command imports: one that touches no tensor starts without the libraries that compute with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "opacus",
    "nni",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy.stats",
    "pandas",
    "sqlalchemy",
)
EARLIER = ("--runs", str(Path(__file__).parents[2] / "fixtures" / "earlier_runs"))
AT_THE_END = f"""
import sys
from nas.cli import main
sys.argv[0], code = "nas", 0
try:
    main()
except SystemExit as end:
    code = end.code
print("end", code, *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def imported_by(*command, **environment):
    """Run a command in its own process; returns what it printed, its exit code and the heavy libraries it imported."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    end = done.stderr.splitlines()[-1].split()
    assert end[0] == "end", done.stderr
    return done.stdout, end[1], end[2:]


COMMANDS = (
    ("--help",),
    ("--version",),
    ("search", "--help"),
    ("list",),
    ("list", "--json"),
    ("list", "runs", *EARLIER),
    ("show", "before", *EARLIER),
    ("show", "before", "--json", *EARLIER),
    ("compare", "before", "1", "3", *EARLIER),
    ("estimate",),
    ("estimate", "mlperf-resnet8", "--device", "all", "--json"),
    ("estimate", "--by-layer", "--device", "host"),
    ("estimate", "before:3", *EARLIER),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_describes_starts_without_what_trains(command):
    printed, *rest = imported_by(*command)
    assert (bool(printed), *rest) == (True, "0", [])


def test_a_table_is_priced_without_what_trains(tmp_path):
    (tmp_path / "nets.csv").write_text('architecture\n"{}"\n')
    command = (
        "estimate",
        "--space",
        "mlp",
        "--input-shape",
        "8",
        "--classes",
        "2",
        "--from",
        tmp_path / "nets.csv",
        "--output",
        tmp_path / "priced.csv",
    )
    assert imported_by(*map(str, command))[1:] == ("0", [])


def test_a_pick_that_no_candidate_fits_is_refused_without_what_trains():
    assert imported_by("pick", "before", "--max", "error=0", *EARLIER)[1:] == ("2", [])


def test_a_pick_that_was_judged_before_copies_its_weights_without_pytorch(nas, own_run):
    command = ("pick", own_run.name, "--runs", str(own_run.runs))
    assert nas(*command).code == 0
    _, code, found = imported_by(*command)
    assert (code, {"torch", "onnx", "onnxruntime"} & set(found)) == ("0", set())


def test_completion_imports_nothing_that_trains():
    asked = {"_NAS_COMPLETE": "complete_bash", "COMP_WORDS": "nas estimate --device stm32h7", "COMP_CWORD": "3"}
    printed, code, found = imported_by(**asked)
    assert (printed.split(), code, found) == (["stm32h747", "stm32h7a3"], "0", [])


@pytest.mark.parametrize("command", ["show", "compare", "front", "dashboard", "pick"])
def test_a_run_is_completed_by_every_command_that_looks_at_one(command):
    words = f"nas {command} {' '.join(EARLIER)} be"
    printed, code, _ = imported_by(_NAS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert (printed.split(), code) == (["before"], "0")


def test_the_check_sees_what_is_imported():
    _, code, found = imported_by("estimate", "--space", "mlp", "--check")
    assert (code, "torch" in found) == ("0", True)
