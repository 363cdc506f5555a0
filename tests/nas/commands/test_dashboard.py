"""`nas dashboard`: a run on a page of this machine."""

from __future__ import annotations

import json
import sys
from wsgiref.util import setup_testing_defaults

import pytest

from nas.base import loopback
from nas.runs.run import open_run
from tests.small_search import snapshot


def read(page, path, host="127.0.0.1:8080"):
    """What a page answers: status and bytes."""
    path, _, query = path.partition("?")
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": host, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    seen = []
    parts = page(environ, lambda status, _headers, *_: seen.append(status))
    text = b"".join(parts)
    getattr(parts, "close", lambda: None)()
    return int(seen[0].split()[0]), text


@pytest.fixture
def served(monkeypatch):
    """Read a page in place of serving it; returns what was asked for."""
    pytest.importorskip("optuna_dashboard", reason="needs gecko-nas[dashboard]")
    asked = {}

    def serve(page, port, started):
        started("http://127.0.0.1:1/")
        _, studies = read(page, "/api/studies")
        (study,) = json.loads(studies)["study_summaries"]
        _, told = read(page, f"/api/studies/{study['study_id']}?after=0")
        asked.update(port=port, study=study, told=json.loads(told), page=read(page, "/dashboard")[0])
        for trial in asked["told"]["trials"]:
            for one in trial["artifacts"]:
                path = f"/artifacts/{study['study_id']}/{trial['trial_id']}/{one['artifact_id']}"
                asked.setdefault("files", {})[trial["number"], one["filename"]] = read(page, path)

    monkeypatch.setattr(loopback, "serve", serve)
    return asked


@pytest.mark.filterwarnings("ignore")  # of the library's own
def test_the_page_has_names_constraints_notes_and_files_of_the_front(nas, own_run, served):
    before = snapshot(own_run.runs)
    result = nas("dashboard", "small", "--port", 9000, "--runs", own_run.runs)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "open http://127.0.0.1:1/ on this machine; Ctrl-C ends it"
    assert (served["port"], served["page"], served["study"]["study_name"]) == (9000, 200, "small")
    told, study = served["told"], open_run("small", own_run.runs).study
    assert told["objective_names"] == ["error", "leakage", "latency_ms"]
    assert told["note"]["body"].startswith("# small\n")
    best = {trial.number for trial in study.best_trials}
    assert {trial["number"] for trial in told["trials"] if trial["note"]["body"]} == best
    assert {number for number, name in served["files"] if name == "card.md"} == best
    for trial in told["trials"]:
        assert trial["constraints"] == list(study.trials[trial["number"]].constraints.values())
    for (number, _), (status, text) in served["files"].items():
        assert (status, text.decode().startswith(f"# Candidate {number} of small")) == (200, True)
    assert snapshot(own_run.runs) == before


def test_without_the_library_one_line_says_how_to_get_it(refused, own_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert refused("dashboard", "small", runs=own_run.runs) == (
        "nas dashboard needs optuna-dashboard: pip install 'gecko-nas[dashboard]'"
    )


def test_a_run_that_is_not_there_is_one_line(refused, own_run):
    pytest.importorskip("optuna_dashboard", reason="needs gecko-nas[dashboard]")
    assert refused("dashboard", "large", runs=own_run.runs).startswith("no run 'large' in ")
