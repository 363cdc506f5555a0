"""`--inherit parents`: whose weights a candidate starts from, what is written down, and who follows that."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from nas.audit.candidate import _started_from
from nas.audit.candidate import shadow_spec
from nas.audit.candidate import subject_of
from nas.audit.shadows import load
from nas.audit.shadows import seconds_each
from nas.audit.shadows import train_missing
from nas.audit.shadows import trained_on
from nas.base.weights import read_weights
from nas.runs import report
from nas.runs import retrained
from nas.runs.front_and_knee import Choice
from nas.runs.run import Run
from nas.runs.run import open_run
from nas.search import parents
from nas.search.bench import make_bench
from nas.search.bench import train_line
from nas.search.config import parse_config
from nas.search.config import to_toml
from nas.search.parents import line_of
from nas.search.schema import INHERITED
from nas.search.schema import check
from nas.search.schema import inherited_in
from nas.search.storage import weights_path
from nas.training.assess import assess
from nas.training.assess import set_up
from nas.training.inheritance import inherited
from nas.training.inheritance import started
from nas.training.loop import train
from nas.training.schedule import seed_from
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import with_settings

# Float networks of one to three layers, of which most can start from one before.
NARROW = {
    "activation": "relu",
    "norm": False,
    "range": "tracked",
    "bits": 32,
    "width": [16, 32],
    "depth": {"low": 1, "high": 2},
}


def plan_of(runs, **changes):
    return planned(runs, **{"inherit": "parents", "defences": ["none"], "set": NARROW, "trials": 6, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search whose candidates inherit."""
    plan = plan_of(tmp_path_factory.mktemp("runs"))
    study = run_here(plan)
    plan.folder.mkdir(exist_ok=True)
    (plan.folder / "config.toml").write_text(to_toml(plan.config))
    return Run(plan.folder, study)


@pytest.fixture
def child(run):
    """The trial with the longest line."""
    return max(run.study.get_trials(), key=lambda trial: (len(line_of(run.study, trial)), trial.number))


def weights_in(run, trial):
    return read_weights(weights_path(run.folder, trial.user_attrs["key"]))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_trial_says_whose_weights_it_started_from_and_for_how_long_they_were_trained(run, child):
    *forebears, _ = line_of(run.study, child)
    found = inherited_in(child.user_attrs)
    assert len(forebears) >= 2
    assert found.parent == forebears[-1].number < child.number
    assert found.share >= parents.LEAST
    assert found.epochs_seen == 2 * (len(forebears) + 1)
    first = run.study.get_trials()[0].user_attrs[INHERITED]
    assert first == {
        "parent": None,
        "because": "no earlier candidate could give 50% of its weights",
        "share": 0.0,
        "epochs_seen": 2,
    }


def test_the_weights_are_those_of_a_training_that_starts_from_the_parents(run, child):
    plan, parent = run.plan, line_of(run.study, child)[-2]
    candidate, before = plan.candidate(child.params), plan.candidate(parent.params)
    begun = []

    def begin(setup):
        begun.append(started(setup, before.architecture, weights_in(run, parent)))
        return begun[-1]

    found = assess(candidate, make_bench(run.plan), begin=begin).network
    assert same(found.state_dict(), weights_in(run, child))
    expected = inherited(candidate.architecture, before.architecture, weights_in(run, parent), begun[0].seed)
    assert same(begun[0].start, expected)
    assert not same(found.state_dict(), train(replace(begun[0], start=None)).state_dict())


def test_a_search_that_is_repeated_inherits_the_same(run, tmp_path):
    again = run_here(plan_of(tmp_path))
    assert record_of(again) == record_of(run.study)


def test_missing_weights_of_a_whole_line_are_trained_again(run, child):
    line = line_of(run.study, child)
    before = {trial.number: weights_in(run, trial) for trial in line}
    for trial in line:
        weights_path(run.folder, trial.user_attrs["key"]).unlink()
    run.weights(child)
    assert all(same(weights_in(run, trial), before[trial.number]) for trial in line)


def test_candidates_have_the_keys_they_have_without_inheriting(run):
    plan = with_settings(run.plan, inherit="off")
    trials = run.study.get_trials(states=(TrialState.COMPLETE,))
    assert all(plan.candidate(trial.params).key == trial.user_attrs["key"] for trial in trials)


def test_a_training_that_broke_off_keeps_its_parent_unless_the_weights_are_gone(run, child):
    plan = run.plan
    candidate = plan.candidate(child.params)
    decide = partial(parents.start_of, plan, run.study, candidate, setup_of(plan, candidate))
    likely = [trial for share, trial, _ in parents._by_share(plan, run.study.get_trials(), candidate) if share]
    assert decide(None).row.parent == likely[0].number != likely[-1].number
    known = inherited_in(child.user_attrs).model_copy(update={"parent": likely[-1].number})
    assert decide(known).row.parent == likely[-1].number
    fresh = known.model_copy(update={"parent": None, "because": "so it was"})
    assert decide(fresh) == parents.Start(fresh, None)
    path = weights_path(run.folder, likely[-1].user_attrs["key"])
    kept = path.read_bytes()
    try:
        path.write_bytes(b"others")
        assert decide(known).row.parent == likely[0].number
    finally:
        path.write_bytes(kept)


def setup_of(plan, candidate):
    members = plan.data.members
    return set_up(candidate, members.features, members.labels, seed=3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda setup: replace(setup, guarantee={"epsilon": 1.0}), "guarantee"),
        (lambda setup: replace(setup, features=setup.features[1:], targets=setup.targets[1:]), "keeps members aside"),
    ],
)
def test_what_a_defence_promises_starts_from_fresh_weights(run, child, change, reason):
    candidate = run.plan.candidate(child.params)
    found = parents.start_of(run.plan, run.study, candidate, change(setup_of(run.plan, candidate)), None)
    assert found.begin is None
    assert reason in found.row.because


def test_a_network_of_several_stages_starts_from_fresh_weights(run, child):
    candidate = run.plan.candidate(child.params)
    ops = tuple(op._replace(shared_bits=2) if op.kind == "linear" else op for op in candidate.architecture.ops)
    staged = replace(candidate, architecture=candidate.architecture.with_ops(ops))
    found = parents.start_of(run.plan, run.study, staged, setup_of(run.plan, staged), None)
    assert (found.begin, found.row.because) == (None, "its network is trained in several stages")


def test_a_parent_has_the_same_defence(run, child):
    candidate = replace(run.plan.candidate(child.params), defence="gecko")
    found = parents.start_of(run.plan, run.study, candidate, setup_of(run.plan, candidate), None)
    assert found.row.parent is None


def test_a_private_training_refuses_weights_of_others_wherever_they_come_from(run, child):
    candidate, plan = run.plan.candidate(child.params), run.plan
    bench = make_bench(run.plan)
    forced = weights_in(run, child)
    with pytest.raises(ValueError, match="expected fresh weights"):
        assess(candidate, bench, begin=lambda setup: replace(setup, guarantee={"epsilon": 1.0}, start=forced))
    assert plan.config.inherit == "parents"


def test_an_audit_trains_the_shadow_models_of_the_whole_line(run, child, tmp_path):
    subject = subject_of(open_run(str(run.folder), run.folder.parent), child.number)
    spec, keys = moved(subject.spec, tmp_path), []
    while spec is not None:
        keys.append(spec.candidate.key)
        spec = spec.parent
    assert keys == [trial.user_attrs["key"] for trial in reversed(line_of(run.study, child))]
    spec = moved(subject.spec, tmp_path)
    assert list(train_missing([spec], 2, workers=1)) == [spec, spec]
    ours, theirs = load(spec, 2)[1].state_dict(), load(spec.parent, 2)[1].state_dict()
    plain = replace(spec, parent=None)
    assert plain.key != spec.key
    list(train_missing([plain], 2, workers=1))
    assert not same(load(plain, 2)[1].state_dict(), ours)
    # The same by hand, on the records of that shadow.
    rows = spec.pool.rows(1, spec.seed)
    seed = seed_from(spec.seed, spec.pool.fingerprint, spec.candidate.key, 1)
    setup = set_up(spec.candidate, spec.pool.features[rows], spec.pool.labels[rows], seed)
    assert same(train(started(setup, spec.parent.candidate.architecture, theirs)).state_dict(), ours)


def moved(spec, folder):
    return None if spec is None else replace(spec, folder=folder, parent=moved(spec.parent, folder))


def test_all_trainings_of_a_line_count_in_the_estimate_of_an_audits_time(run, child, monkeypatch):
    spec = subject_of(run, child.number).spec
    monkeypatch.setattr("nas.audit.shadows._seconds", lambda _spec, _epochs: (0.0, 1.0))
    assert seconds_each(spec) == 2 * len(line_of(run.study, child))


def test_a_shadow_on_other_records_goes_the_whole_line_too(run, child, tmp_path):
    spec = moved(subject_of(run, child.number).spec, tmp_path)
    features, labels = spec.pool.features[:40], spec.pool.labels[:40]
    with_parents = trained_on(spec, features, labels, 5).state_dict()
    assert same(with_parents, trained_on(spec, features, labels, 5).state_dict())
    assert not same(with_parents, trained_on(replace(spec, parent=None), features, labels, 5).state_dict())
    assert not list(tmp_path.iterdir())


def test_training_anew_on_all_records_trains_the_whole_line_on_them(run, child, monkeypatch, tmp_path):
    plan, line = run.plan, [run.plan.candidate(one.params) for one in line_of(run.study, child)]
    features, labels = plan.data.members.features[:50], plan.data.members.labels[:50]
    seen = []
    monkeypatch.setattr("nas.search.bench.train_in_stages", lambda setup: seen.append(setup) or train(setup))
    setup, network = train_line(plan, line, features, labels, "here")
    assert [one.architecture.key for one in seen] == [candidate.architecture.key for candidate in line]
    assert all(len(one.features) == 50 for one in seen)
    assert seen[0].start is None
    assert setup is seen[-1]
    before = inherited(line[-1].architecture, line[-2].architecture, train(seen[-2]).state_dict(), setup.seed)
    assert same(setup.start, before)
    assert same(network.state_dict(), train(setup).state_dict())
    asked = []
    monkeypatch.setattr(
        retrained, "train_line", lambda _plan, line, *_rest, **_more: asked.append(line) or (setup, network)
    )
    (tmp_path / "picks" / "0").mkdir(parents=True)
    (tmp_path / "picks" / "0" / "architecture.json").write_text(json.dumps({}))
    (tmp_path / "picks" / "0" / retrained.PREPROCESSING).write_text("")
    retrained.write(run, child, tmp_path / "picks" / "0")
    assert [candidate.key for candidate in asked[0]] == [candidate.key for candidate in line]


@pytest.mark.parametrize("parent", ["itself", 99])
def test_a_line_that_cannot_be_is_refused(run, child, parent):
    row = {**child.user_attrs[INHERITED], "parent": child.number if parent == "itself" else parent}
    forged = Forged(run.study, child.number, row)
    with pytest.raises(ValueError, match="expected a trained candidate as the parent"):
        line_of(forged, forged.get_trials()[child.number])


class Forged:
    """A study of which one trial says something else."""

    def __init__(self, study, number, row):
        self.study_name = study.study_name
        self._trials = study.get_trials()
        self._trials[number].set_user_attr(INHERITED, row)

    def get_trials(self, **_):
        return self._trials


def test_a_shadow_spec_names_its_forebears_in_its_key(run, child):
    plan, line = run.plan, [run.plan.candidate(one.params) for one in line_of(run.study, child)]
    pool = subject_of(run, child.number).pool
    keys = {shadow_spec(plan, line[-1], pool, line[start:-1]).key for start in range(len(line))}
    assert len(keys) == len(line)
    assert np.all([len(key) == 16 for key in keys])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inherit": "children"}, "no inherit 'children'; there are"),
        ({"engine": "nni"}, "expected the engine 'optuna' for inherit 'parents'"),
        ({"fidelity": "rungs"}, "expected fidelity 'off' with inherit 'parents'"),
        ({"evaluator": "table", "data_path": "table.csv"}, "it trains nothing; got \\['inherit'\\]"),
    ],
)
def test_what_it_does_not_go_with_is_refused(change, line):
    with pytest.raises(ValueError, match=line):
        parse_config({"inherit": "parents", **change})


@pytest.mark.parametrize(
    "row",
    [
        {"parent": 0, "because": "both", "share": 1.0, "epochs_seen": 2},
        {"parent": None, "because": None, "share": 0.0, "epochs_seen": 2},
        {"parent": -1, "because": None, "share": 1.0, "epochs_seen": 2},
        {"parent": 0, "because": None, "share": 1.5, "epochs_seen": 2},
        {"parent": 0, "because": None, "share": 1.0, "epochs_seen": 0},
        "0",
    ],
)
def test_a_study_of_others_that_says_what_cannot_be_is_refused(run, child, row):
    forged = Forged(run.study, child.number, row)
    with pytest.raises(ValueError, match=f"trial {child.number} of the study 'small' has a wrong inherited"):
        check("small", run.study.user_attrs, 3, forged.get_trials())


def test_rows_and_cards_say_whose_weights_it_started_from(run, child):
    found = report.row(run.study, child)["inherited"]
    assert found == child.user_attrs[INHERITED]
    told = "\n".join(report.card(run.study, Choice(child, "asked for", ()), "stm32h747").splitlines())
    assert f"- training started from candidate {found['parent']}, which gave" in told
    assert f"for {found['epochs_seen']} epochs in all" in told
    first = "\n".join(report.card(run.study, Choice(run.study.get_trials()[0], "asked for", ()), "x").splitlines())
    assert "- training started from fresh weights: no earlier candidate could give 50% of its weights" in first
    assert any(line.startswith("parents: ") for line in report.settings_lines(run.study))


def test_an_audit_says_that_its_shadow_models_went_the_whole_line(run, child):
    *forebears, _ = line_of(run.study, child)
    spec = subject_of(run, child.number).spec
    told = _started_from(spec)["started from"]
    assert all(trial.user_attrs["key"] in told for trial in forebears)
    assert f"; {child.user_attrs[INHERITED]['epochs_seen']} epochs in all" in told
    assert _started_from(replace(spec, parent=None)) == {}
