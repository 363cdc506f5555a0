"""A pick that is trained anew: what its defence states of it, and that it repeats."""

from __future__ import annotations

import pytest

from nas.base import files
from nas.base import plugins
from nas.runs import picks
from nas.runs import retrained
from nas.runs.front_and_knee import chosen
from nas.runs.networks import find_network
from nas.runs.run import open_run
from nas.search.config import to_toml
from tests.small_search import planned
from tests.small_search import run_here

# States how many records it was given, and reads one part of the reserve.
COUNTING = """
from dataclasses import replace

NEEDS = ("reserve",)

def defend(setup, teach):
    return replace(setup, guarantee={"given": float(len(setup.features)), "beside": float(len(setup.reserve.labels))})
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of one candidate with a defence that states something."""
    path = tmp_path / "counting.py"
    path.write_text(COUNTING)
    monkeypatch.setenv(plugins.TRUSTED, "")
    plugins.trust(str(path))
    plan = planned(tmp_path / "runs", defences=[str(path)], trials=1)
    run_here(plan)
    files.write_text(plan.folder / "config.toml", to_toml(plan.config))
    return open_run("small", tmp_path / "runs")


def test_what_a_defence_states_is_stated_of_the_new_training(run):
    trial = run.trained(0)
    assert trial.user_attrs["given"] == len(run.plan.data.members)
    pick = picks.write(run, chosen(run.study, trial, ()))
    found = retrained.write(run, trial, pick)
    data = run.plan.data
    assert found.records == len(data.members) + len(data.non_members) + len(data.validation)
    assert found.guarantee == {"given": found.records, "beside": trial.user_attrs["beside"]}
    assert f"given = {found.records} for this training" in (found.folder / "card.md").read_text()
    weights = (found.folder / "weights.safetensors").read_bytes()
    assert retrained.write(run, trial, pick).weights_sha256 == found.weights_sha256
    assert (found.folder / "weights.safetensors").read_bytes() == weights


def test_it_is_known_for_what_it_is_where_it_is_read(run):
    trial = run.trained(0)
    pick = picks.write(run, chosen(run.study, trial, ()))
    found = retrained.write(run, trial, pick)
    ours, theirs = (find_network(str(folder), "", None, None, run.folder.parent) for folder in (found.folder, pick))
    assert (ours.is_retrained, theirs.is_retrained) == (True, False)
    assert ours.architecture.key == theirs.architecture.key
