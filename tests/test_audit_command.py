"""`nas audit`: of a candidate, of a network from elsewhere, of a search's proxy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas import files
from nas.storage import load_study

QUICK = ("--effort", "quick", "--workers", "1")


@pytest.fixture
def no_shadows(monkeypatch):
    """Fail a test in which a shadow is trained."""

    def fail(*_):
        raise AssertionError("a shadow was trained")

    monkeypatch.setattr("nas.shadows.train", fail)


def outputs_of(path, **changes):
    """Write what a network said about 400 records, half of them members."""
    rng = np.random.default_rng(0)
    is_member, labels = np.arange(400) < 200, rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 2 * np.eye(3)[labels] * (0.5 + is_member[:, None])
    files.write_arrays(path, **{"labels": labels, "is_member": is_member, "logits": logits, **changes})
    return path


def test_a_candidate_is_audited_and_its_shadows_are_kept(nas, own_run, monkeypatch):
    command = ("audit", "small", "--pick", "0", *QUICK, "--runs", own_run.runs)
    first = nas(*command)
    assert first.code == 0, first.err
    assert "4 shadows to train, 0 kept from earlier audits" in first.err
    folder = own_run.folder / "audits" / "0"
    report = files.read_json(folder / "audit.json")
    assert "<svg" in (folder / "audit.html").read_text()
    assert {"gap", "loss", "lira_online", "white_box", "label_augment"} <= {one["attack"] for one in report["findings"]}
    assert report["members"] == report["non_members"]
    monkeypatch.setattr("nas.shadows.train", lambda _: pytest.fail("a shadow was trained again"))
    again = nas(*command, "--json")
    assert again.code == 0, again.err
    assert "4 shadows, all kept from earlier audits" in again.err
    leakage = [json.loads(again.out)["leakage"], report["leakage"]]
    assert leakage[0] == leakage[1]
    # Only audits of other candidates make this one's a choice among several.
    assert not [line for line in json.loads(again.out)["warnings"] if "open before" in line]
    lines = (own_run.folder / "audits.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"candidate": 0, "effort": "quick"}] * 2


def test_an_earlier_audit_of_another_candidate_is_a_warning(nas, own_run):
    for number, expected in (("0", 0), ("1", 1)):
        command = ("audit", "small", "--pick", number, *QUICK, "--attack", "loss", "--json", "--runs", own_run.runs)
        result = nas(*command)
        assert result.code == 0, result.err
        warned = [line for line in json.loads(result.out)["warnings"] if "open before, for candidates 0 " in line]
        assert len(warned) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pick", "77"), "no trained candidate 77 in 'small'; there are"),
        (("--pick", "0", "--effort", "extreme"), "no effort 'extreme'; there are ['quick', 'standard', 'full']"),
        (("--pick", "0", "--attack", "none_such"), "no 'none_such' in estimators.leakage.attacks"),
        (("--pick", "0", "--bits", "5"), "expected post-training bits of [8, 4, 2, 1]; got 5"),
        ((), "expected at least 8 trained candidates to hold the proxy against; got 5"),
    ],
)
def test_mistakes_are_refused_before_any_training(refused, own_run, no_shadows, flags, message):
    assert refused("audit", "small", *flags, runs=own_run.runs).startswith(message)


def test_a_run_of_another_version_is_refused(refused, own_run, no_shadows, monkeypatch):
    monkeypatch.setattr("nas.auditing.code_version", lambda: "another")
    assert "audit with what searched, or search again" in refused("audit", "small", "--pick", "0", runs=own_run.runs)


def test_what_another_framework_said_is_audited(nas, tmp_path):
    path = outputs_of(tmp_path / "theirs.npz")
    result = nas("audit", path, "--output", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["leakage_low"] > 0.5
    assert report["shadows"] == 0
    assert (tmp_path / "out" / "theirs-audit" / "audit.html").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": np.full((400, 3), np.nan)}, "expected finite logits"),
        ({"labels": np.full(400, 7)}, "expected labels from 0 to 2; got 7 to 7"),
        ({"features": np.ones((400, 2), np.float32)}, "expected members and non-members without a record in common"),
        (
            {"recipe": np.array('{"epochs": 30}'), "reference_recipe": np.array('{"epochs": 10}')},
            "expected shadows trained by the network's recipe; epochs: network 30, shadows 10",
        ),
        (
            {"trained_on": np.arange(400)[None] < [[100], [300]], "reference_logits": np.zeros((2, 400, 3))},
            "expected ",
        ),
    ],
)
def test_files_that_cannot_be_audited_are_refused(refused, tmp_path, changes, message):
    path = outputs_of(tmp_path / "theirs.npz", **changes)
    result = refused("audit", path, "--output", tmp_path)
    assert result.startswith(message)


def test_the_proxy_is_held_against_audits(nas, own_run, monkeypatch):
    monkeypatch.setattr("nas.contract.LEAST", 5)
    monkeypatch.setattr("nas.contract.CANDIDATES", 5)
    monkeypatch.setattr("nas.contract.stratified.__defaults__", (5,))
    monkeypatch.setattr("nas.audit.EFFORTS", {"quick": 4, "standard": 4, "full": 4})
    monkeypatch.setattr("nas.auditing.EFFORTS", {"quick": 4, "standard": 4, "full": 4})
    result = nas("audit", "small", "--workers", "1", "--json", "--runs", own_run.runs)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    trained = [trial.number for trial in load_study("small", own_run.folder, None).trials if trial.values]
    assert {one["number"] for one in found["candidates"]} <= set(trained)
    assert len(found["candidates"]) == 5
    assert -1 <= found["spearman_low"] <= found["spearman"] <= found["spearman_high"] <= 1
    assert files.read_json(own_run.folder / "audits" / "proxy.json") == found
