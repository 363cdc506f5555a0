"""`nas audit` as a user calls it: a candidate, a network from files, a search's proxy."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import optuna
import pytest
import torch
from optuna.trial import TrialState
from optuna.trial import create_trial

from nas.audit import attack_all as audit
from nas.audit import shadows
from nas.audit.candidate import AUDITS
from nas.audit.candidate import earlier
from nas.audit.candidate import note
from nas.audit.candidate import subject_of
from nas.commands.audit import _beside_stronger
from nas.commands.audit import _command
from nas.commands.audit import _Wanted
from nas.deploy.onnx_file import to_onnx
from nas.records import Source
from nas.records import load_records
from nas.runs.run import open_run
from nas.search.schema import errors_on_test
from nas.search.storage import ORIGIN
from nas.search.storage import load_study
from nas.search.storage import open_storage
from nas.training.loop import Diverged
from search_spaces import mlp
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build
from tests import audits
from tests.conftest import Run
from tests.conftest import command_line
from tests.conftest import work_here

ONE = ("--workers", 1)
REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.fixture
def trained(monkeypatch):
    """How many shadows were trained, each by its records."""
    seen = []
    train = shadows.train_in_stages

    def watched(setup, _first_stage=None):
        seen.append(len(setup.features))
        return train(setup)

    monkeypatch.setattr(shadows, "train_in_stages", watched)
    return seen


@pytest.fixture
def no_shadow(monkeypatch, no_training):
    """Fail a test in which a shadow is trained, too."""

    def fail(_setup, _first_stage):
        raise AssertionError("a shadow was trained")

    monkeypatch.setattr(shadows, "train_in_stages", fail)


def study_of(run):
    return optuna.load_study(study_name=run.name, storage=open_storage(None, run.folder))


def audited(nas, run, *options, pick=1, effort="quick"):
    return nas("audit", run.name, "--pick", pick, "--effort", effort, *ONE, *options, "--runs", run.runs)


def lines(run):
    return [json.loads(line) for line in (run.folder / AUDITS).read_text().splitlines()]


# A candidate.


def test_a_candidate_is_audited_and_reported(nas, own_run, trained):
    result = audited(nas, own_run)
    assert result.code == 0, result.err
    folder = own_run.folder / "audits" / "1"
    html, plain, statement = (folder / name for name in ("audit.html", "audit.json", "statement.md"))
    assert result.out.splitlines()[-1] == f"written to {html}, {plain} and {statement}"
    written = json.loads((folder / "audit.json").read_text())
    page = (folder / "audit.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "candidate 1 of small" in json.dumps(written)
    assert "candidate 1 of small" in page
    assert "4 shadow models to train, 0 from earlier audits: about " in result.err
    # Four, and two of one epoch for the estimate; each sees as many records as the candidate.
    assert trained == [120] * 6
    assert lines(own_run) == [{"candidate": 1, "effort": "quick"}]


def test_the_second_run_trains_nothing_and_says_so(nas, own_run, trained):
    first = audited(nas, own_run, "--json")
    trained.clear()
    second = audited(nas, own_run, "--json")
    assert (first.code, second.code, trained) == (0, 0, [])
    assert second.err.splitlines()[0] == "4 shadow models, all from earlier audits"
    one, other = (json.loads(result.out) for result in (first, second))
    assert one == json.loads(json.dumps(one))
    assert numbers(one) == numbers(other)
    # The error of each class is that on all test records, by the class's own name.
    test = open_run("small", own_run.runs).data.test
    assert {row["name"]: row["records"] for row in one["class_errors"]} == {
        name: int(count) for name, count in zip(test.classes, test.class_counts, strict=True) if count
    }
    wrong = sum(row["error"] * row["records"] for row in one["class_errors"])
    assert one["about"]["error on test records"].startswith(f"{wrong / len(test):.3f} (")
    assert "audited on them before: never" in json.dumps(one)
    assert "audited on them before: candidate 1 1 times" in json.dumps(other)
    assert earlier(own_run.folder) == {1: 2}


def numbers(written):
    """All that an audit found, without the time it took and how often others looked."""
    found = {name: value for name, value in written.items() if name != "about"}
    return json.loads(re.sub(r'"seconds": [\d.e+-]+', '"seconds": 0', json.dumps(found)))


def test_members_are_named_as_in_the_users_data(nas, own_run, trained):
    written = json.loads(audited(nas, own_run, "--attack", "loss", "--json").out)
    plan = open_run("small", own_run.runs).plan
    loaded = load_records(Source(plan.config.dataset))
    for one in written["records"]:
        place = one["row"] - 1
        assert loaded.labels[place] == one["label"]
        assert loaded.classes[one["label"]] == one["class_name"]
        assert one["row"] in plan.data.members.rows
        assert one["file"] is None
    assert len({one["row"] for one in written["records"]}) == len(written["records"])
    again = audited(nas, own_run, "--attack", "loss")
    assert "Row is the record's place in its file" in " ".join(again.out.split())
    assert trained


def test_versions_have_their_strongest_attack_and_their_error(nas, own_run, trained):
    written = json.loads(audited(nas, own_run, "--bits", 2, "--json").out)
    as_trained, two_bits, together = written["released"]
    assert (as_trained["attack"], as_trained["auc_low"]) == (written["strongest"], written["leakage_low"])
    assert two_bits["attacks"] == as_trained["attacks"] == len(written["findings"])
    assert two_bits["error_low"] <= two_bits["error"] <= two_bits["error_high"]
    assert (together["attack"], together["error"]) == ("together", None)
    assert trained


def test_json_is_what_the_file_holds(nas, own_run, trained):
    result = audited(nas, own_run, "--json")
    assert json.loads(result.out) == json.loads((own_run.folder / "audits" / "1" / "audit.json").read_text())
    assert trained


def test_another_candidate_looked_at_before_is_a_warning(nas, own_run, trained):
    first = audited(nas, own_run, "--attack", "loss", pick=0)
    second = audited(nas, own_run, "--attack", "loss", pick=1)
    assert first.code == second.code == 0
    assert "the test records were used before" not in first.out
    assert "the test records were used before, in audits of candidates 0 of this run" in " ".join(second.out.split())
    assert earlier(own_run.folder) == {0: 1, 1: 1}
    assert trained


def test_an_error_on_test_records_that_a_pick_has_shown_is_a_warning_for_others(nas, own_run, trained):
    numbers = [trial.number for trial in load_study("small", own_run.folder, None).best_trials][:2]
    assert nas("pick", "small", "--number", numbers[0], "--runs", own_run.runs).code == 0
    same, other = (audited(nas, own_run, "--attack", "loss", "--json", pick=number) for number in numbers)
    assert "was looked at before" not in same.out
    line = f"was looked at before, of candidates {numbers[0]} of this run"
    # The audit of the first has used the test records more than that, and says so.
    assert line not in other.out
    (own_run.folder / AUDITS).unlink()
    assert line in audited(nas, own_run, "--attack", "loss", "--json", pick=numbers[1]).out
    known = errors_on_test(load_study("small", own_run.folder, None).user_attrs)
    assert set(known) == set(numbers)
    assert trained


def test_attacks_and_a_folder_may_be_named(nas, own_run, trained, tmp_path):
    result = audited(nas, own_run, "--attack", "loss", "--attack", "rmia", "--output", tmp_path / "here", "--json")
    assert result.code == 0, result.err
    written = json.loads(result.out)
    assert sorted(one["attack"] for one in written["findings"]) == ["loss", "rmia"]
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["audit.html", "audit.json", "statement.md"]
    assert not (own_run.folder / "audits").exists()
    assert trained


def test_a_report_is_not_replaced_by_one_of_fewer_attacks(nas, own_run, trained):
    folder = own_run.folder / "audits"
    asked = ("--attack", "loss", "--attack", "rmia", "--attack", "gap")
    assert audited(nas, own_run, *asked).code == 0
    (number,) = [path.name for path in folder.iterdir()]
    before = (folder / number / "audit.json").read_bytes()
    told = audited(nas, own_run, "--attack", "loss")
    assert told.code == 0
    beside = folder / f"{number}-quick-1-attacks"
    assert f"written to {beside / 'audit.html'}" in told.out
    assert (folder / number / "audit.json").read_bytes() == before
    assert len(json.loads((beside / "audit.json").read_text())["findings"]) == 1
    # As many attacks take its place: the audit was repeated.
    (folder / number / "audit.html").unlink()
    assert audited(nas, own_run, *asked).code == 0
    assert (folder / number / "audit.html").exists()


def test_versions_are_attacked_with_it(nas, own_run, trained):
    result = audited(nas, own_run, "--bits", 8, "--bits", 2, "--attack", "loss", "--json")
    assert result.code == 0, result.err
    assert {"8 bits", "2 bits", "all together"} <= set(re.findall(r'"name": "([^"]+)"', result.out))
    assert len(trained) == 6


def test_a_file_is_audited_as_shipped(nas, own_run, trained):
    number = json.loads(nas("pick", "small", "--runs", own_run.runs, "--json").out)["picked"]["number"]
    pick = own_run.folder / "picks" / str(number)
    assert nas("export", pick, "--precision", "int8").code == 0
    asked = ("audit", "small", "--runs", own_run.runs, "--pick", number, "--effort", "quick", "--json", *ONE)
    result = nas(*asked, "--artefact", pick / "int8.onnx")
    assert (result.code, result.err.count("shadow models to train")) == (0, 1)
    before = len(trained)
    found, plain = json.loads(result.out), json.loads(nas(*asked).out)
    assert len(trained) == before  # the network's audit uses the shadow models of the file's
    about = found["about"]["file"]
    assert re.fullmatch(r"int8\.onnx, int8, SHA-256 [0-9a-f]{64}, asked through ONNX Runtime; .*", about)
    assert "--artefact int8.onnx" in found["about"]["command"]
    assert "file" not in plain["about"]
    assert "white_box" in {one["attack"] for one in found["findings"]}
    assert found["findings"] != plain["findings"]
    assert (own_run.folder / "audits" / f"{number}-int8.onnx" / "audit.json").is_file()


def test_a_file_that_is_not_the_candidates_is_refused(refused, nas, own_run, no_shadow):
    number = json.loads(nas("pick", "small", "--runs", own_run.runs, "--json").out)["picked"]["number"]
    assert nas("export", own_run.folder / "picks" / str(number), "--precision", "float32").code == 0
    file = own_run.folder / "picks" / str(number) / "float32.onnx"
    other = next(trial for trial in range(5) if trial != number)
    said = refused("audit", "small", "--pick", other, "--artefact", file, runs=own_run.runs)
    assert said.startswith(("expected a file of the network", "expected the answers of the candidate's float32 file"))
    said = refused("audit", "small", "--pick", number, "--artefact", file, "--bits", 8, runs=own_run.runs)
    assert said == "expected --bits only without --artefact: the file is the version that is released"
    said = refused("audit", "small", "--artefact", file, runs=own_run.runs)
    assert said.startswith("expected --artefact only with --pick")


def test_members_are_those_of_the_candidate_and_others_test_records(own_run):
    study = study_of(own_run)
    run = open_run("small", own_run.runs)
    subject, plan = subject_of(run, 1), run.plan
    pool = subject.pool

    def known(records):
        return {row.tobytes() for row in records.features}

    inside = {row.tobytes() for row in pool.features[pool.audited][pool.is_member]}
    outside = {row.tobytes() for row in pool.features[pool.audited][~pool.is_member]}
    beyond = {row.tobytes() for row in pool.features[len(pool.is_member) :]}
    assert inside | beyond == known(plan.data.members)
    assert outside <= known(plan.data.test)
    searched = known(plan.data.non_members) | known(plan.data.validation) | known(plan.data.reserve)
    assert not (inside | outside | beyond) & searched
    assert known(subject.population) == known(plan.data.reserve)
    assert subject.spec.candidate.key == study.trials[1].user_attrs["key"]
    assert not subject.network.training
    assert subject.proxy.value == study.trials[1].user_attrs["leakage"]


def test_canaries_cost_one_training_and_bound_epsilon(nas, own_run, trained):
    result = nas("audit", "small", "--pick", 1, "--canaries", 40, "--json", "--runs", own_run.runs)
    assert result.code == 0, result.err
    written = json.loads(result.out)
    path = own_run.folder / "audits" / "1" / "canaries-40.json"
    assert written == json.loads(path.read_text())
    assert path.stat().st_mode & 0o077 == 0
    assert (written["canaries"], trained) == (40, [120 + written["included"]])
    assert not (own_run.folder / AUDITS).exists()  # no error on test records was looked at
    told = nas("audit", "small", "--pick", 1, "--canaries", 40, "--runs", own_run.runs)
    bounds = written["epsilon_bounds"]
    assert told.out.startswith(
        f"epsilon at least {bounds[0]['epsilon']:.2f} at delta 1e-05, with 95 % confidence, from one"
    )
    text = " ".join(told.out.split())
    for line in (*written["epsilon_caveats"], f"Gaussian {bounds[1]['epsilon']:.2f} {bounds[1]['mu']:.2f}"):
        assert line in text
    assert told.out.splitlines()[-1] == f"written to {path}"
    documented = (REFERENCE / "json.md").read_text(encoding="utf-8")
    section = documented.partition("## nas audit RUN --pick N --canaries N")[2].partition("\n## ")[0]
    assert set(written) == set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))


# What is refused before any training, with nothing written.


def test_canaries_that_cannot_be_are_refused(refused, own_run, no_shadow, described):
    def told(*options, what="small"):
        return refused("audit", what, *options)

    available = len(open_run("small", own_run.runs).data.test)
    assert told("--pick", 1, "--canaries", 9) == (
        f"expected --canaries from 10 to {available}, one for each test record of the run; got 9"
    )
    assert told("--canaries", 40) == "expected --canaries only with --pick: which candidate's training is it to audit?"
    assert told("--pick", 1, "--canaries", 40, "--effort", "quick") == (
        "expected --effort only without --canaries, which runs no attacks"
    )
    assert told("--effort", "quick").startswith("expected --effort only with --pick: the proxy check always runs ")
    assert told("--pick", 1, "--canaries", 40, "--bits", 8) == (
        "expected --bits only without --canaries, which runs no attacks"
    )
    assert told("--pick", 1, "--canaries", 40, "--fail-above", "epsilon=1") == (
        "expected --fail-above only without --canaries, which runs no attacks"
    )
    assert told("--canaries", 40, what=described) == (
        f"expected --canaries only for a candidate of a run: canaries have to be trained on, and {described} is of a "
        "network that is trained"
    )


def add_rejected(run):
    study = study_of(run)
    study.add_trial(create_trial(state=TrialState.PRUNED, params={}, distributions={}))
    return len(study.trials) - 1


def refusal_of(refused, run, *options, pick=1):
    return refused("audit", run.name, "--pick", pick, "--effort", "quick", *ONE, *options)


@pytest.mark.parametrize("pick", [99, -1, 5])
def test_an_unknown_candidate_is_refused(refused, own_run, no_shadow, pick):
    refusal = refusal_of(refused, own_run, pick=pick)
    assert refusal == f"no trained candidate {pick} in 'small'; there are [0, 1, 2, 3, 4]"


def test_a_rejected_candidate_is_refused(refused, own_run, no_shadow):
    number = add_rejected(own_run)
    assert number == 5
    assert refusal_of(refused, own_run, pick=5).startswith(
        "no trained candidate 5 in 'small'; there are [0, 1, 2, 3, 4]"
    )


def test_what_cannot_be_done_is_refused(refused, own_run, no_shadow, tmp_path):
    def told(*options):
        return refused("audit", "small", *options)

    assert told("--pick", 1, "--effort", "hard") == "no effort 'hard'; there are ['quick', 'standard', 'full']"
    assert told("--effort", "hard").startswith("no effort 'hard'")
    assert told("--pick", 1, "--attack", "guess").startswith("no 'guess' in estimators.leakage.attacks; there are [")
    needs = "the attack 'exit_index' cannot run here: it needs exits"
    assert told("--pick", 1, "--attack", "exit_index") == needs
    quick = "the attack 'label_noise' cannot run here: it needs --effort standard"
    assert told("--pick", 1, "--effort", "quick", "--attack", "label_noise") == quick
    assert told("--pick", 1, "--bits", 5) == "expected post-training bits of [8, 4, 3, 2, 1]; got 5"
    assert told("--pick", 1, "--workers", 0) == "expected --workers of 1 or more; got 0"
    assert told("--pick", 1, "--data", tmp_path) == "expected --data only for an .onnx file; small is a run"
    assert told("--pick", 1, "--shadow", tmp_path) == "expected --shadow only for an .onnx file; small is a run"
    assert told("--bits", 8).startswith("expected --bits only with --pick")
    assert told("--attack", "loss").startswith("expected --attack only with --pick")
    assert told().startswith("expected at least 8 trained candidates for the proxy check; got 5")
    assert "'nothing'" in refused("audit", "nothing", "--pick", 1)


def test_bits_of_a_network_without_float_are_refused(refused, own_run, no_shadow, monkeypatch):
    monkeypatch.setattr(Architecture, "without_float", lambda self, _bits: self)
    assert refusal_of(refused, own_run, "--bits", 8) == (
        "expected a network with weights or tensors in 32-bit float; all are quantised already"
    )


def test_other_data_than_the_search_had_are_refused(refused, own_run, no_shadow):
    study = study_of(own_run)
    study.set_user_attr(ORIGIN, {**study.user_attrs[ORIGIN], "fingerprint": "another"})
    line = refused("audit", "small", "--pick", 1, runs=own_run.runs)
    assert "(the data: other records, or other sets of them); go on with what" in line


def test_another_version_than_searched_is_refused(refused, own_run, no_shadow, monkeypatch):
    monkeypatch.setattr("nas.search.origin.training_version", lambda: "another")
    assert re.search(
        r"\(the program: was training version \d+, PyTorch [^ ]+, now another\); go on with what",
        refused("audit", "small", "--pick", 1, runs=own_run.runs),
    )


def test_ctrl_c_keeps_what_is_trained(nas, own_run, trained, monkeypatch):
    def first_two(specs, _count, *, workers):
        yield from work(specs, 2, workers=workers)
        raise KeyboardInterrupt

    work = shadows.train_missing
    monkeypatch.setattr(shadows, "train_missing", first_two)
    result = audited(nas, own_run)
    assert result.code == 130
    assert "stopped; 2 trained shadow models are kept, 2 are missing: run the same command to continue" in result.err
    assert not (own_run.folder / AUDITS).exists()
    monkeypatch.setattr(shadows, "train_missing", work)
    trained.clear()
    again = audited(nas, own_run)
    assert again.code == 0
    assert "2 shadow models to train, 2 from earlier audits: about " in again.err
    assert len(trained) == 2 + 2


def test_shadows_that_diverge_end_in_one_line_and_no_report(nas, own_run, monkeypatch):
    def diverges(_setup, _first_stage):
        raise Diverged("the loss became nan in epoch 1 of 3")

    monkeypatch.setattr(shadows, "train_in_stages", diverges)
    result = audited(nas, own_run)
    assert (result.code, result.out) == (2, "")
    assert "nas: the loss became nan in epoch 1 of 3" in result.err
    assert not (own_run.folder / "audits").exists()


# Networks from files.


@pytest.fixture
def described(tmp_path):
    """Logits of a network that is surer of its members, as an .npz, in a folder of its own."""
    rng = np.random.default_rng(0)
    labels, is_member = rng.integers(0, 3, 200), np.arange(200) < 100
    logits = rng.normal(size=(200, 3)) + np.eye(3)[labels] * (1 + 3 * is_member[:, None])
    np.savez(tmp_path / "mine.npz", labels=labels, is_member=is_member, logits=logits.astype(np.float32))
    return tmp_path / "mine.npz"


def test_logits_from_elsewhere_are_audited(nas, described, monkeypatch):
    monkeypatch.chdir(described.parent)
    result = nas("audit", described, "--json")
    assert result.code == 0, result.err
    written = json.loads(result.out)
    assert sorted(path.name for path in (described.parent / "mine-audit").iterdir()) == [
        "audit.html",
        "audit.json",
        "statement.md",
    ]
    assert json.loads((described.parent / "mine-audit" / "audit.json").read_text()) == written
    found = {one["attack"]: one for one in written["findings"]}
    assert found["loss"]["auc"] > 0.7
    plain = nas("audit", "mine.npz", "--output", "elsewhere")
    assert plain.code == 0
    folder = "elsewhere/mine-audit"
    assert f"written to {folder}/audit.html, {folder}/audit.json and {folder}/statement.md" in plain.out
    statement = (described.parent / folder / "statement.md").read_text()
    assert "- command: nas audit mine.npz --effort standard" in statement
    assert re.search(r"- network: mine.npz, SHA-256 [0-9a-f]{64}\n", statement)


def test_a_report_is_kept_in_a_folder_without_a_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("audit.json").write_text(json.dumps({"effort": "full", "findings": []}))
    assert _beside_stronger(Path(), audits.without_bank()) == Path(
        f"quick-{len(audits.without_bank().findings)}-attacks"
    )


@pytest.mark.parametrize("there", [{"effort": "full", "findings": 5}, [], {"effort": 1}])
def test_what_is_no_report_is_not_replaced(tmp_path, there):
    (tmp_path / "audit.json").write_text(json.dumps(there))
    with pytest.raises(ValueError, match=r"expected an audit's report at .*; give --output"):
        _beside_stronger(tmp_path, audits.without_bank())


def test_the_command_of_a_report_repeats_it_and_names_no_folder_of_the_machine(tmp_path):
    wanted = _Wanted("quick", (), ["mine"], None, None, False, (), ("own.attacks", str(tmp_path / "mine.py")))
    told = _command(tmp_path / "a.onnx", wanted, data=Path("data/b.npz"), shadow=[tmp_path / "s.onnx"])
    assert told == (
        "nas audit a.onnx --effort quick --data data/b.npz --shadow s.onnx --attack mine --plugin own.attacks "
        "--plugin mine.py"
    )


def test_an_audit_above_a_limit_ends_with_exit_code_3_and_its_report(nas, described, tmp_path):
    result = nas("audit", described, "--output", tmp_path, "--fail-above", "auc=0.55", "--fail-above", "advantage=1")
    assert result.code == 3
    assert re.fullmatch(r"nas: auc of records is up to 0\.\d+, above 0\.55\n", result.err)
    assert "leakage: AUC" in result.out
    written = json.loads((tmp_path / "mine-audit" / "audit.json").read_text())
    assert [(one["metric"], one["passes"]) for one in written["limits"]] == [("auc", False), ("advantage", True)]
    statement = (tmp_path / "mine-audit" / "statement.md").read_text()
    assert "- does not pass: auc of records is up to" in statement
    page = (tmp_path / "mine-audit" / "audit.html").read_text()
    for line in ("does not pass: auc of records is up to", "passes: advantage of records is up to"):
        assert line in result.out
        assert f"<li>{line}" in page
    assert "- command: nas audit mine.npz --effort standard --fail-above auc=0.55" in statement
    assert str(described.parent) not in statement + json.dumps(written)
    passed = nas("audit", described, "--output", tmp_path, "--fail-above", "auc=0.99", "--json")
    assert (passed.code, passed.err) == (0, "")
    assert json.loads(passed.out)["limits"][0]["passes"] is True


def test_records_without_labels_are_attacked_by_what_reads_none(nas, described, tmp_path):
    arrays = dict(np.load(described))
    del arrays["labels"]
    np.savez(tmp_path / "bare.npz", **arrays)
    result = nas("audit", tmp_path / "bare.npz", "--output", tmp_path)
    assert result.code == 0, result.err
    written = json.loads((tmp_path / "bare-audit" / "audit.json").read_text())
    assert {one["attack"] for one in written["findings"]} == {"confidence", "entropy"}
    assert written["skipped"]["loss"] == written["skipped"]["gap"] == "needs labels"
    assert written["classes"] == written["class_errors"] == []
    assert written["shapr_mean"] is None
    assert written["findings"][0]["over_gap"] is None
    assert "No label is known" in " ".join(written["summary"])
    assert "the network's own classes stand in" in written["about"]["how they were read"]


def test_people_in_files_stand_first(nas, described, tmp_path):
    arrays = dict(np.load(described))
    np.savez(tmp_path / "people.npz", **arrays, groups=np.arange(200) // 4)
    result = nas("audit", tmp_path / "people.npz", "--output", tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith("leakage by person: AUC")
    assert json.loads((tmp_path / "people-audit" / "audit.json").read_text())["people"]["members"] == 25


def test_an_inverted_membership_is_an_alarm_and_how_files_were_read_is_said(nas, described, tmp_path):
    arrays = dict(np.load(described))
    shares = np.exp(arrays["logits"]) / np.exp(arrays["logits"]).sum(axis=1, keepdims=True)
    names = np.array(["one", "two", "three"])
    inverted = {**arrays, "is_member": ~arrays["is_member"], "labels": names[arrays["labels"]]}
    np.savez(tmp_path / "wrong.npz", **{**inverted, "logits": shares, "classes": names})
    result = nas("audit", tmp_path / "wrong.npz", "--output", tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith("leakage: not measured, because the data are most likely wrong: ")
    assert "Most likely 'is_member' is inverted" in result.out
    assert "how they were read: logits: recognised as probabilities" in " ".join(result.out.split())
    written = json.loads((tmp_path / "wrong-audit" / "audit.json").read_text())
    assert written["leakage"] is None
    assert "loss" in written["reversed"]
    assert {one["class_name"] for one in written["classes"]} == {"one", "two", "three"}


def test_an_onnx_file_is_audited_with_its_records(nas, own_run, tmp_path, monkeypatch):
    space = mlp.make_space((5,), 3)
    network = build(space.decode(space.reference), seed=0).eval()
    model = tmp_path / "network.onnx"
    onnx.save(to_onnx(network.architecture, network, "float32", torch.zeros(1, 5)), model)
    features = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    data = tmp_path / "records.npz"
    np.savez(data, labels=np.arange(80) % 3, is_member=np.arange(80) < 40, features=features)
    result = nas("audit", model, "--data", data, "--effort", "quick", "--output", tmp_path, "--json")
    assert result.code == 0, result.err
    assert {one["attack"] for one in json.loads(result.out)["findings"]} >= {"loss", "gap", "label_augment"}
    assert (tmp_path / "network-audit" / "audit.html").exists()


def test_files_that_cannot_be_audited_are_refused(nas, described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(*arguments):
        before = sorted(tmp_path.rglob("*"))
        result = nas("audit", *arguments)
        assert (result.code, result.out) == (2, "")
        assert sorted(tmp_path.rglob("*")) == before
        assert re.fullmatch(r"nas: [^\n]+\n", result.err)
        return result.err[len("nas: ") : -1]

    assert told("network.onnx") == (
        "expected --data with the .npz of the audited records, because the network is an .onnx file; got none"
    )
    assert told("mine.npz", "--pick", 0) == "expected --pick only for a candidate of a run; mine.npz is a file"
    assert told("mine.npz", "--bits", 8) == "expected --bits only for a candidate of a run; mine.npz is a file"
    assert told("mine.npz", "--data", described).startswith(
        "expected --data only with an .onnx file; mine.npz contains"
    )
    assert told("mine.npz", "--effort", "hard").startswith("no effort 'hard'")
    assert told("mine.npz", "--fail-above", "acu=1").startswith("no metric 'acu' for --fail-above; there are ['auc'")
    assert told("mine.npz", "--attack", "lira") == "the attack 'lira' cannot run here: it needs bank"
    assert told("none.npz").startswith("expected an .npz that describes an audit at none.npz; there is no such path")
    assert told("network.onnx", "--data", "mine.npz").startswith("expected an ONNX file at network.onnx")


# The proxy.


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A search of eight candidates."""
    runs = tmp_path_factory.mktemp("eight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.workers.run", work_here)
        settings = "--space mlp --members 120 --references 2 --trials 8 --epochs 3 --workers 1 --name eight --json"
        result = command_line("search", *settings.split(), "--runs", runs)
    assert result.code == 0, result.err
    return Run(runs, "eight", result.out)


def test_the_proxy_is_held_against_audits(nas, eight, trained, monkeypatch):
    monkeypatch.setitem(audit.EFFORTS, "standard", 4)
    result = nas("audit", "eight", *ONE, "--runs", eight.runs, "--json")
    assert result.code == 0, result.err
    written = json.loads(result.out)
    assert sorted(line["number"] for line in written["candidates"]) == list(range(8))
    proxies = [line["proxy"] for line in written["candidates"]]
    assert proxies == sorted(proxies)
    measured = {trial.number: trial.user_attrs["leakage"] for trial in study_of(eight).trials}
    assert {line["number"]: line["proxy"] for line in written["candidates"]} == measured
    assert all(line["audited_low"] <= line["audited"] <= line["audited_high"] for line in written["candidates"])
    assert -1 <= written["spearman_low"] <= written["spearman"] <= written["spearman_high"] <= 1
    assert json.loads((eight.folder / "audits" / "proxy.json").read_text()) == written
    assert len(trained) >= 4
    assert {line["effort"] for line in lines(eight)} == {"contract"}
    assert earlier(eight.folder) == dict.fromkeys(range(8), 1)
    # Again, in words: nothing is trained, and the figures are the same.
    trained.clear()
    again = nas("audit", "eight", *ONE, "--runs", eight.runs)
    assert again.code == 0
    assert not trained
    assert "32 shadow models, all from earlier audits" in again.err
    assert json.loads((eight.folder / "audits" / "proxy.json").read_text()) == written
    assert f"rank correlation of proxy and audits, 8 candidates: Spearman {written['spearman']:.2f} (" in again.out
    assert earlier(eight.folder) == dict.fromkeys(range(8), 2)


# The list of a run's audits, and who may read what they leave.


TORN = ['{"cand', '{"candidate": 1', '{"candidate": 1, "effort": "qui']


@pytest.mark.parametrize("torn", TORN)
def test_half_a_line_of_an_earlier_audit_is_told_and_does_not_swallow_the_next(nas, own_run, trained, torn):
    path = own_run.folder / AUDITS
    path.write_text(f'{{"candidate": 0, "effort": "quick"}}\n{torn}')
    result = audited(nas, own_run)
    assert result.code == 0, result.err
    told = f"nas: line 2 of {path} is torn; the audit it stands for is not counted"
    assert result.err.splitlines().count(told) == 1
    assert earlier(own_run.folder) == {0: 1, 1: 1}
    assert path.read_text().splitlines()[1:] == [torn, '{"candidate": 1, "effort": "quick"}']


def test_a_whole_line_without_its_end_counts(own_run):
    (own_run.folder / AUDITS).write_text('{"candidate": 3, "effort": "quick"}')
    note(own_run.folder, 3, "quick")
    assert earlier(own_run.folder) == {3: 2}


@pytest.mark.parametrize("content", [b"dear diary\n", b"\xff\xfe\n", b"[1]\n", b'{"a": 1}\n', b"[" * 9000])
def test_a_list_of_audits_that_is_none_is_refused_before_any_shadow(nas, own_run, no_shadow, content):
    (own_run.folder / AUDITS).write_bytes(content)
    result = audited(nas, own_run)
    assert result.code == 2
    assert re.fullmatch(r"nas: expected a line for each audit in [^\n]+ line 1 is none: [^\n]+\n", result.err)
    assert (own_run.folder / AUDITS).read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
def test_what_an_audit_leaves_is_its_owners_alone(nas, own_run, trained):
    cache = own_run.runs / ".cache"
    cache.chmod(0o755)  # as an earlier version made it
    before = os.umask(0o000)
    try:
        assert audited(nas, own_run).code == 0
    finally:
        os.umask(before)
    left = [own_run.folder / AUDITS, *(own_run.folder / "audits" / "1").iterdir(), *cache.glob("shadow-*.safetensors")]
    assert len(left) == 8
    assert {path.stat().st_mode & 0o777 for path in left} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (cache, own_run.folder / "audits")} == {0o700}


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
def test_what_a_search_keeps_for_its_attack_is_its_owners_alone(trained_run):
    cache = trained_run.runs / ".cache"
    kept = [*cache.glob("reference-*.npz"), *cache.glob("teacher-*.npz")]
    assert {path.name.partition("-")[0] for path in kept} == {"reference", "teacher"}
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert cache.stat().st_mode & 0o777 == 0o700
