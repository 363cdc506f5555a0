"""Opening a run: one way for all commands, and what becomes of runs that an earlier gecko-nas left."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nas.base import files
from nas.runs.run import open_run
from nas.search.schema import WEIGHTS
from nas.search.storage import weights_path
from tests.small_search import SMALL

AGAIN = [*SMALL, "--trials", "7", "--members", "100", "--seed", "3"]
EARLIER = Path(__file__).resolve().parents[2] / "fixtures" / "earlier_runs"


@pytest.fixture
def earlier(tmp_path):
    """A run of a gecko-nas before training versions, in a folder of all runs."""
    return shutil.copytree(EARLIER, tmp_path / "runs")


def test_a_run_is_opened_by_name_and_by_folder(own_run):
    by_name, by_folder = open_run("small", own_run.runs), open_run(str(own_run.folder), Path("nowhere"))
    assert by_name.name == by_folder.name == "small"
    assert by_name.folder.resolve() == by_folder.folder.resolve()
    assert by_name.config.space == "mlp"


def test_what_there_is_not_is_named(own_run):
    run = open_run("small", own_run.runs)
    with pytest.raises(ValueError, match=r"^no trained candidate 99 in 'small'; there are \[0, 1, 2, 3, 4\]$"):
        run.trained(99)
    for number in (99, -1):
        with pytest.raises(ValueError, match=rf"^no trial {number} in 'small'; there are 0 to 4$"):
            run.sampled(number)
    with pytest.raises(ValueError, match=r"^no run 'other' in \S+; there are \['small'\]$"):
        open_run("other", own_run.runs)


def test_the_data_are_those_of_the_search(own_run):
    run = open_run("small", own_run.runs)
    assert run.data.fingerprint == run.plan.data.fingerprint


def test_the_network_has_the_weights_that_were_measured(own_run):
    run = open_run("small", own_run.runs)
    trial = run.trained(2)
    path = weights_path(run.folder, trial.user_attrs["key"])
    assert files.digest_of(path) == trial.user_attrs[WEIGHTS]
    assert run.weights(trial) == path
    assert not run.network(trial).training


def test_a_run_goes_on_after_new_files_that_change_no_number(nas, own_run, in_process, tmp_path, monkeypatch):
    """New modules beside the shipped ones, as later versions bring them."""
    for package, content in (("search_spaces", "SPACE = 1\n"), ("nas.defences", "KIND = 1\n")):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "brand_new.py").write_text(f'"""Something new."""\n\n{content}')
        module = __import__(package, fromlist=["__path__"])
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
    result = nas("search", *SMALL, "--trials", "6", "--name", "small", "--runs", own_run.runs)
    assert (result.code, result.err) == (0, "")
    assert len(open_run("small", own_run.runs).study.trials) == 6


def test_an_earlier_run_is_shown(nas, earlier):
    told = json.loads(nas("show", "before", "--json", "--runs", earlier).out)
    stored = json.loads((earlier / "before" / "front.json").read_text())
    assert told["counts"]["trained"] == 6
    numbers = [(row["number"], row["error"], row["leakage"], row["latency_ms"]) for row in told["front"]]
    assert numbers == [(row["number"], row["error"], row["leakage"], row["latency_ms"]) for row in stored["front"]]
    assert nas("show", "before", "--runs", earlier).code == 0


def test_an_earlier_runs_networks_are_priced(nas, earlier):
    stored = {row["number"]: row for row in json.loads((earlier / "before" / "front.json").read_text())["front"]}
    told = json.loads(nas("estimate", "before:3", "--device", "stm32h747", "--json", "--runs", earlier).out)
    assert (told["params"], told["macs"]) == (stored[3]["params"], stored[3]["macs"])
    # Its last layer is in floating point, which is priced anew since.
    assert told["latency_ms_low"] < stored[3]["latency_ms"] < told["latency_ms_high"]


@pytest.mark.parametrize(
    "command",
    [
        ("pick", "before"),
        ("pick", "before", "--prefer", "error"),
        ("audit", "before", "--pick", 3),
        ("search", "--name", "before", *AGAIN),
    ],
    ids=["pick", "pick without weights", "audit", "search"],
)
def test_what_needs_more_than_an_earlier_runs_numbers_is_refused_with_what_to_do(refused, earlier, command):
    line = refused(*command, runs=earlier)
    assert re.search(r"by a gecko-nas before training versions", line)
    assert line.endswith("search again under another --name")


def test_an_earlier_pick_is_not_exported(nas, earlier):
    result = nas("export", earlier / "before" / "picks" / "3", "--runs", earlier)
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("there is none: pick the candidate again\n")
