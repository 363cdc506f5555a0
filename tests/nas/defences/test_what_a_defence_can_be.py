"""Each published kind of defence is one file: those of `tests.own_defences` go all the way a shipped one goes."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from estimators.leakage.attacks import loss as loss_attack
from nas.audit import shadows
from nas.audit.candidate import pool_of
from nas.audit.candidate import shadow_spec
from nas.audit.candidate import subject_of
from nas.audit.onnx_oracle import OnnxNetwork
from nas.audit.oracles import of_network
from nas.base import files
from nas.base import plugins
from nas.base.weights import read_weights
from nas.deploy.deployed import write
from nas.deploy.onnx_file import to_onnx
from nas.runs import picks
from nas.runs import report
from nas.runs.front_and_knee import Choice
from nas.runs.networks import find_network
from nas.runs.networks import read_pick
from nas.runs.run import Run
from nas.search.bench import make_bench
from nas.search.config import to_toml
from nas.training import assess as assessing
from nas.training.answers import answers_of
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.bank import halves
from nas.training.defence import load_defence
from nas.training.defence import parted
from nas.training.loop import logits_of
from nas.training.loop import train
from nas.training.measures import MEASURED
from nas.training.post_training import compressed
from nas.training.recipe import Recipe
from tests.defended import DEFENCES
from tests.defended import middle_of
from tests.small_search import planned
from tests.small_search import run_here

KINDS = (
    "noisy_gradients",
    "attacker_game",
    "cross_distillation",
    "reserve_distillation",
    "even_layers",
    "learned_mask",
)
OWN = [f"tests.own_defences.{kind}" for kind in KINDS]
ALL = [*DEFENCES, *OWN]
RECIPE = Recipe(epochs=2, batch_size=32)


class Locked:
    """A record set that must not be opened."""

    def __getattribute__(self, name):
        raise AssertionError(f"a search opened {name} of a set that is not its own")


@pytest.fixture(scope="module", autouse=True)
def trusted():
    """What a user does with `--plugin` for modules of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.TRUSTED, "")
        plugins.trust(*OWN)
        yield


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), attack="loss", defences=ALL, compressions=["exits"])


def candidate_of(plan, name, **changes):
    architecture = plan.space.decode(plan.space.reference)
    return replace(Candidate(architecture, RECIPE, name, middle_of(name)), **changes)


def bench_of(plan, **changes):
    return replace(Bench(plan.data, loss_attack.attack, None, plan.defences, seed=0), **changes)


def rows(features):
    return {np.asarray(record).tobytes() for record in features}


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@pytest.fixture
def trainings(monkeypatch):
    """Every set-up that is trained, teachers' included."""
    seen = []

    def watched(setup, _first_stage=None):
        seen.append(setup)
        return train(setup)

    monkeypatch.setattr(assessing, "train_in_stages", watched)
    return seen


@pytest.mark.parametrize("name", ALL)
def test_a_defence_is_given_members_and_its_part_of_the_reserve_and_nobody_else(plan, trainings, name):
    given = []
    defence = plan.defences[name]

    def spied(setup, teach, **parameters):
        def asked(setup, *, rows=None, about=None):
            if about is not None:
                given.append(about)
            return teach(setup, rows=rows, about=about)

        given.append(setup.features)
        if setup.reserve is not None:
            given.append(setup.reserve.features)
        return defence.defend(setup, asked, **parameters)

    needs = "reserve" in defence.needs
    data = replace(plan.data, test=Locked(), reserve=plan.data.reserve if needs else Locked())
    assess(candidate_of(plan, name), bench_of(plan, data=data, defences={name: replace(defence, defend=spied)}))
    members = rows(plan.data.members.features)
    beside, unknown = (rows(part.features) for part in parted(plan.data.reserve))
    allowed = members | beside if needs else members
    seen = [*given, *(setup.features for setup in trainings)]
    assert seen
    assert all(rows(features) <= allowed for features in seen)
    assert beside.isdisjoint(unknown)
    if needs:
        assert any(rows(features) == beside for features in given)


def test_the_reserve_is_parted_by_clusters_the_same_way_each_time(plan):
    reserve = plan.data.reserve
    first, second = parted(reserve)
    assert len(first) + len(second) == len(reserve)
    assert abs(len(first) - len(second)) <= 1
    again, _ = parted(reserve)
    np.testing.assert_array_equal(first.features, again.features)
    grouped = replace(reserve, groups=np.arange(len(reserve)) // 5)
    sides = [set(part.groups) for part in parted(grouped)]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("name", OWN)
def test_it_is_measured_like_every_other_and_repeats_from_its_seed(plan, name):
    bench = bench_of(plan)
    first, again = (assess(candidate_of(plan, name), bench) for _ in range(2))
    assert first.measures.keys() >= set(MEASURED)
    assert first.measures == again.measures
    assert torch.equal(weights(first.network), weights(again.network))


def test_a_guarantee_is_a_measure_and_absent_where_there_is_none(plan):
    bench = bench_of(plan)
    name = "tests.own_defences.noisy_gradients"
    measures = assess(candidate_of(plan, name, defence_parameters={"noise": 0.5}), bench).measures
    assert (measures["epsilon"].value, measures["delta"].value) == (RECIPE.epochs / 0.5, 1e-5)
    plain = assess(candidate_of(plan, "none"), bench).measures
    assert plain.keys() == {*MEASURED, *(f"class_error_{name}" for name in plan.data.members.classes)}


def test_a_guarantee_cannot_take_the_name_of_a_measure(plan):
    def boastful(setup, _teach):
        return replace(setup, guarantee={"leakage": 0.5})

    defences = {"none": replace(load_defence("none"), defend=boastful)}
    with pytest.raises(ValueError, match=r"expected other names for the guarantee of 'none'; got \['leakage'\]"):
        assess(candidate_of(plan, "none"), bench_of(plan, defences=defences))


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        ("none", {}, 1),
        ("gecko", {}, 2),
        ("relaxloss", {"alpha": 0.5}, 1),
        ("early_stopping", {"share": 0.1}, 1),
        ("cross_distillation", {"folds": 3, "alpha": 0.5}, 4),
        ("selena", {"models": 4, "left_out": 1}, 5),
        ("distillation", {"temperature": 1.0, "share": 1.0}, 2),
        ("tests.own_defences.cross_distillation", {"folds": 3}, 4),
        ("tests.own_defences.reserve_distillation", {}, 2),
    ],
)
def test_trainings_are_counted(plan, trainings, name, parameters, trained):
    found = assess(candidate_of(plan, name, defence_parameters=parameters), bench_of(plan))
    assert found.measures["trainings"].value == trained == len(trainings)


def test_trainings_do_not_depend_on_who_trained_the_teacher(plan, trainings):
    bench = make_bench(plan)
    first, again = (assess(candidate_of(plan, "gecko"), bench) for _ in range(2))
    assert first.measures["trainings"].value == again.measures["trainings"].value == 2
    assert len(trainings) == 3  # the teacher was kept


def test_every_soft_label_comes_from_a_teacher_that_never_saw_its_record(plan, trainings):
    assess(candidate_of(plan, "tests.own_defences.cross_distillation", defence_parameters={"folds": 3}), bench_of(plan))
    *teachers, student = trainings
    members = plan.data.members.features
    for fold, setup in enumerate(teachers):
        left_out = np.arange(len(members)) % 3 == fold
        assert rows(setup.features) == rows(members[~left_out])
        answered = torch.from_numpy(logits_of(train(setup), torch.from_numpy(members))).softmax(dim=1)
        torch.testing.assert_close(student.targets[left_out], answered[left_out], atol=1e-5, rtol=0)
    assert len({setup.seed for setup in teachers}) == 3


def test_the_studys_cache_tells_teachers_of_other_records_apart(plan, trainings, tmp_path):
    plan = replace(plan, folder=tmp_path / "runs" / "one")
    bench = make_bench(plan)
    name = "tests.own_defences.cross_distillation"
    alone = assess(candidate_of(plan, name, defence_parameters={"folds": 2}), bench)
    assess(candidate_of(plan, "gecko"), bench)
    assess(candidate_of(plan, "tests.own_defences.reserve_distillation"), bench)
    assert len(list(plan.cache_folder.glob("teacher-*.npz"))) == 4
    before = len(trainings)
    again = assess(candidate_of(plan, name, defence_parameters={"folds": 2}), bench)
    assert len(trainings) == before + 1
    assert torch.equal(weights(alone.network), weights(again.network))


def test_a_defence_is_told_which_members_belong_together(plan):
    told = []

    def spied(setup, _teach):
        told.append(setup.members.groups)
        return setup

    people = np.array([f"person {row // 4}" for row in range(len(plan.data.members))])
    grouped = replace(plan.data, members=replace(plan.data.members, groups=people))
    defences = {"none": replace(load_defence("none"), defend=spied)}
    for data in (plan.data, grouped):
        assess(candidate_of(plan, "none"), bench_of(plan, data=data, defences=defences))
    assert told[0] is None
    assert len(set(told[1].tolist())) == len(set(people))
    for number in set(told[1].tolist()):
        assert len(set(people[told[1].numpy() == number])) == 1


# Shadows.


@pytest.mark.parametrize("name", ALL)
def test_shadows_are_trained_with_the_same_defence_parameters_and_kinds_of_records(plan, name, monkeypatch, tmp_path):
    calls = []
    defence = plan.defences[name]

    def spied(setup, teach, **parameters):
        calls.append((setup, parameters))
        return defence.defend(setup, teach, **parameters)

    monkeypatch.setattr(shadows, "load_defence", lambda asked: replace(load_defence(asked), defend=spied))
    monkeypatch.setattr("nas.training.defence.Defence.digest", "digest")
    plan = replace(plan, folder=tmp_path / "runs" / "one")
    candidate = candidate_of(plan, name)
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    spec = shadow_spec(plan, candidate, pool)
    for shadow in range(2):
        shadows.train_shadow(spec, shadow)
    assert [parameters for _, parameters in calls] == [candidate.defence_parameters] * 2
    for shadow, (setup, _) in enumerate(calls):
        assert rows(setup.features) == rows(pool.features[pool.rows(shadow, spec.seed)])
        assert len(setup.features) == len(plan.data.members)
        assert (setup.reserve is not None) == ("reserve" in defence.needs)
        if setup.reserve is not None:
            assert rows(setup.reserve.features) == rows(parted(plan.data.reserve)[0].features)
            assert set(setup.reserve.labels.tolist()) <= set(range(10))
    networks = shadows.load(spec, 2)
    assert all((answers_of(network) is not None) == (defence.answers is not None) for network in networks)
    bank = shadows.bank_of(pool, networks, spec.seed)
    assert (bank.trained_on[0] == halves(len(pool.is_member), 0, spec.seed)).all()


def test_other_parameters_or_another_reserve_are_other_shadows(plan):
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    name = "tests.own_defences.attacker_game"
    spec = shadow_spec(plan, candidate_of(plan, name), pool)
    others = [
        shadow_spec(plan, candidate_of(plan, name, defence_parameters={"weight": 0.11}), pool),
        replace(spec, reserve=parted(plan.data.reserve)[1]),
        replace(spec, teacher=candidate_of(plan, "none")),
    ]
    assert len({spec.key, *(other.key for other in others)}) == 4


# A whole run.


@pytest.fixture(scope="module")
def masked_run(tmp_path_factory):
    """A run whose only defence has answers that learn something."""
    runs = tmp_path_factory.mktemp("runs")
    plan = planned(runs, attack="loss", defences=["tests.own_defences.learned_mask"], trials=2, budgets={})
    return plan, run_here(plan)


def test_a_mask_is_in_all_that_is_picked_audited_and_released(masked_run):
    plan, study = masked_run
    trial = study.get_trials()[0]
    candidate = plan.candidate(trial.params)
    bench = make_bench(plan)
    measured = assess(candidate, bench)
    assert measured.measures["loss_auc"].value == trial.user_attrs["loss_auc"]
    features = plan.data.validation.features[:20]
    expected = of_network(measured.network).query(features)
    bare = replace(candidate, defence="none", defence_parameters={})
    assert float(answers_of(measured.network).calm) > 0

    _, picked = read_pick(picks.write(Run(plan.folder, study), Choice(trial, "a test", ())))
    subject = subject_of(Run(plan.folder, study), trial.number)
    for network in (picked, subject.network):
        np.testing.assert_array_equal(of_network(network).query(features), expected)
    assert not np.allclose(
        of_network(assess(bare, bench_of(plan, defences={"none": load_defence("none")})).network).query(features),
        expected,
    )

    unknown = parted(plan.data.reserve)[1]
    np.testing.assert_array_equal(subject.population.features, unknown.features)
    version = compressed(measured.network, 8, unknown.features)
    assert float(answers_of(version).calm) == float(answers_of(measured.network).calm)
    assert answers_of(version) is not answers_of(measured.network)

    with pytest.raises(ValueError, match=r"cannot be written as ONNX: Shifted has no write_onnx, and a file without"):
        to_onnx(candidate.architecture, measured.network, "float32", torch.from_numpy(features))


def test_what_a_mask_learned_is_in_the_file_of_the_weights(masked_run):
    plan, study = masked_run
    for trial in study.get_trials():
        path = plan.folder / "models" / f"{trial.user_attrs['key']}.safetensors"
        assert "answers.calm" in read_weights(path)


@pytest.fixture(scope="module")
def rounded_run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    fixed = {"confidence_rounding": {"digits": 1}}
    plan = planned(runs, attack="loss", defences=["confidence_rounding"], defence_parameters=fixed, trials=1)
    study = run_here(plan)
    files.write_text(plan.folder / "config.toml", to_toml(plan.config))
    return plan, study


def test_rounded_confidences_go_from_the_search_to_the_exported_file(rounded_run):
    plan, study = rounded_run
    (trial,) = study.get_trials()
    folder = picks.write(Run(plan.folder, study), Choice(trial, "a test", ()))
    told = files.read_json(folder / "architecture.json")
    assert (told["defence"], told["defence_parameters"]) == ("confidence_rounding", {"digits": 1})
    assert "with the defence `confidence_rounding (digits 1)`" in (folder / "card.md").read_text()
    assert report.row(study, trial)["defence_parameters"] == {"digits": 1}
    found = find_network(str(folder), "mlp", None, None, plan.folder.parent)
    exported = write(found, "float32", folder / "float32.onnx")
    assert exported.judgement.agreement > 0.99
    features = plan.data.validation.features[:50]
    answered = np.exp(OnnxNetwork(exported.path).query(found.preprocessing.as_given(found.check[:50].numpy())))
    np.testing.assert_allclose(answered, answered.round(1), atol=1e-5)
    np.testing.assert_allclose(answered, np.exp(of_network(found.network).query(features)), atol=0.1 + 1e-4)


def test_a_pick_names_a_defence_that_there_is(rounded_run):
    plan, study = rounded_run
    folder = picks.write(Run(plan.folder, study), Choice(study.get_trials()[0], "a test", ()))
    told = files.read_json(folder / "architecture.json")
    for change, message in (
        ({"defence": "no_such"}, "no 'no_such' in nas.defences; there are "),
        ({"defence": 3}, "expected a name as defence and an object as its parameters in "),
        ({"defence_parameters": {"digitz": 1}}, "expected the parameters of the defence 'confidence_rounding'; got "),
        ({"defence_parameters": {"digits": 99}}, "expected confidence_rounding.digits from 0 to 3; got 99"),
        ({"defence_parameters": {"digits": "many"}}, "expected the parameters of the defence 'confidence_rounding'; g"),
    ):
        files.write_json(folder / "architecture.json", {**told, **change})
        with pytest.raises(ValueError, match=re.escape(message)):
            read_pick(folder)
    del told["defence"], told["defence_parameters"]  # as an earlier version wrote it
    files.write_json(folder / "architecture.json", told)
    assert answers_of(read_pick(folder)[1]) is None


def test_a_front_with_long_names_and_parameters_fits_a_terminal(rounded_run):
    _, study = rounded_run
    stream = io.StringIO()
    Console(file=stream, width=110).print(report.front_table(study, study.get_trials()))
    lines = stream.getvalue().splitlines()
    assert "…" not in stream.getvalue()
    assert max(map(len, lines)) <= 110
    assert "(digits 1)" in stream.getvalue()
