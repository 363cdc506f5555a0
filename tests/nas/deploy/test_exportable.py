"""Int8 versions are judged once for each file of weights, and what was found is data."""

from __future__ import annotations

import json
import stat

import pytest

from nas.deploy import exportable
from nas.deploy.exportable import Exportability
from nas.deploy.judging import judge
from nas.runs.front_and_knee import front
from nas.runs.run import open_run
from nas.search.schema import WEIGHTS


@pytest.fixture
def run(own_run):
    return open_run("small", own_run.runs)


@pytest.fixture
def judged(monkeypatch):
    """Count the candidates that are judged."""
    seen = []

    def count(*arguments):
        seen.append(arguments)
        return judge(*arguments)

    monkeypatch.setattr("nas.deploy.judging.judge", count)
    return seen


def test_a_search_leaves_what_it_found_of_its_front(trained_run, run, judged):
    known = exportable.read(trained_run.folder)
    best = front(run.study)
    assert {trial.user_attrs[WEIGHTS] for trial in best} == known.keys()
    assert stat.S_IMODE((trained_run.folder / "exports.json").stat().st_mode) == 0o600
    assert exportable.judge_int8(run, best) == known
    assert not judged
    for trial in best:
        found = known[trial.user_attrs[WEIGHTS]]
        assert found.error - found.error_increase == pytest.approx(trial.user_attrs["error"])
        assert found.loss_auc - found.loss_auc_increase == pytest.approx(trial.user_attrs["loss_auc"], abs=2e-3)
        assert found.written == (found.reason is None)


def test_it_is_shown_and_printed(nas, trained_run):
    known = exportable.read(trained_run.folder)
    told = json.loads(nas("show", "small", "--json", "--runs", trained_run.runs).out)
    assert len(told["front"]) == len(known)
    for row in told["front"]:
        assert row["int8"] in [found.model_dump() for found in known.values()]
    printed = nas("show", "small", "--runs", trained_run.runs).out
    for row in told["front"]:
        assert f"int8 of candidate {row['number']}: error {row['int8']['error']:.3f} (" in printed


def test_a_pick_that_is_not_of_the_front_is_judged_too(nas, own_run, run, judged):
    (own_run.folder / "exports.json").unlink()
    told = json.loads(nas("pick", "small", "--json", "--runs", own_run.runs).out)
    assert len(judged) == 1
    assert told["picked"]["int8"]["error"] is not None
    assert len(exportable.read(own_run.folder)) == 1
    exportable.judge_int8(run, front(run.study))
    assert len(judged) == len(front(run.study))


def test_one_that_cannot_be_written_is_refused_with_the_reason(run, monkeypatch):
    (run.folder / "exports.json").unlink()

    def fail(*_):
        raise ValueError("the answers\ncannot be written")

    monkeypatch.setattr("nas.deploy.deployed.judged", fail)
    best = front(run.study)
    known = exportable.judge_int8(run, best)
    assert all(
        found == Exportability(written=False, reason="the answers cannot be written") for found in known.values()
    )
    assert exportable.sentences(known, best[:1]) == [
        f"int8 of candidate {best[0].number}: refused: the answers cannot be written"
    ]


def test_what_errs_more_is_refused_with_its_error():
    found = Exportability(written=False, reason="too much", error=0.171, error_increase=0.05)
    assert exportable._sentence(found) == "error 0.171 (+0.050), refused: too much"
    found = Exportability(written=True, error=0.121, error_increase=0.004)
    assert exportable._sentence(found) == "error 0.121 (+0.004), can be written"


def test_a_device_in_float_and_weights_elsewhere_are_passed_over(run, judged):
    (run.folder / "exports.json").unlink()
    for path in (run.folder / "models").glob("*.safetensors"):
        path.unlink()
    assert exportable.judge_int8(run, front(run.study)) == {}
    run.__dict__["config"] = run.config.model_copy(update={"device": "host"})
    assert exportable.judge_int8(run, front(run.study)) == {}
    assert not judged
    assert not (run.folder / "exports.json").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "at ''"),
        ('{"int8": {"a": {"written": 1}}}', "at 'int8.a.written'"),
        ('{"int8": {"a": {"written": true, "error": NaN}}}', "at 'int8.a.error'"),
        ('{"int8": {"a": {"written": true, "code": "x"}}}', "at 'int8.a.code'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_strangers_file_is_data(refused, own_run, text, line):
    (own_run.folder / "exports.json").write_text(text)
    assert line in refused("show", "small", runs=own_run.runs)


def test_a_run_of_an_earlier_version_has_none(nas, own_run):
    (own_run.folder / "exports.json").unlink()
    told = json.loads(nas("show", "small", "--json", "--runs", own_run.runs).out)
    assert [row["int8"] for row in told["front"]] == [None] * len(told["front"])
