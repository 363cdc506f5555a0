from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.leakage.attacks import loss
from nas.base import plugins
from nas.defences import gecko
from nas.defences import none
from nas.preprocessing.preprocessing import unchanged
from nas.records import Records
from nas.records import Splits
from nas.search.bench import make_bench
from nas.spaces import sample
from nas.split_overview import Overview
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import measure
from nas.training.assess import train_teacher
from nas.training.defence import load_defence
from nas.training.loop import Diverged
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.defended import DEFENCES
from tests.defended import defended
from tests.defended import middle_of
from tests.defended import with_needs
from tests.small_search import planned
from tests.small_search import run_here
from tests.small_search import with_settings

SPACES = plugins.available("search_spaces", "make_space")
RECIPE = Recipe(epochs=2, batch_size=16)
ONE_STEP_TOO_FAR = {"epochs": 1, "batch_size": 128, "learning_rate": 3e38, "optimizer": "sgd"}


def space_of(name):
    return plugins.load("search_spaces", name, "make_space")((1, 8, 8), 3)


def records(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(24, 1, 8, 8, generator=generator), torch.arange(24) % 3


def plain(space="mlp", recipe=RECIPE, seed=0, **point):
    made = space_of(space)
    return plain_setup(made.decode({**made.reference, **point}), *records(), recipe, seed)


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_trains_every_space_and_repeats_from_its_seed(defence, space):
    made = space_of(space)
    for point_seed in range(2):
        architecture = made.decode(sample(made.distributions, np.random.default_rng(point_seed)))
        setup = plain_setup(architecture, *records(), RECIPE, seed=1)
        ready = defended(defence, setup, train_teacher)
        first, again = (train(ready) for _ in range(2))  # what a training remembers is not in its set-up
        other = train(defended(defence, replace(setup, seed=2), train_teacher))
        assert first.architecture == architecture  # the network that was priced is the one that is trained
        assert np.isfinite(logits_of(first, records(seed=1)[0])).all()
        assert torch.equal(weights(first), weights(again))
        assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("defence", DEFENCES)
def test_a_defence_trains_on_records_it_is_given_and_by_the_recipe(defence):
    setup = with_needs(defence, plain(first_bits=4))
    ready = defended(defence, setup, train_teacher)
    parts = [setup.features] if setup.reserve is None else [setup.features, setup.reserve.features]
    given = {record.tobytes() for part in parts for record in part.numpy()}
    assert 0 < len(ready.features) <= len(given)
    assert {record.tobytes() for record in ready.features.numpy()} <= given
    assert (ready.recipe, ready.seed) == (setup.recipe, setup.seed)
    assert len(ready.targets) == len(ready.features)


def test_no_defence_is_the_plain_training_and_asks_for_no_teacher():
    def teach(_setup):
        raise AssertionError("a teacher was asked for")

    setup = plain()
    assert none.defend(setup, teach) is setup


def test_gecko_learns_from_a_float_twin_of_the_network():
    asked = []

    def teach(setup):
        asked.append(setup)
        return torch.zeros(len(setup.features), 3)

    setup = plain(first_bits=1, last_bits=8, layer1_activation_bits=2, depth=2, layer2_weight_bits=1)
    defended = gecko.defend(setup, teach)
    (teacher,) = asked
    assert {op.weight_bits for op in teacher.architecture.ops} == {op.bits for op in teacher.architecture.ops} == {32}
    shapes = [(op.kind, op.shape, op.inputs) for op in setup.architecture.ops]
    assert [(op.kind, op.shape, op.inputs) for op in teacher.architecture.ops] == shapes
    # phase I: the teacher itself is trained on the labels, by the same recipe
    assert teacher.targets is setup.targets
    assert teacher.loss is setup.loss
    assert (teacher.recipe, teacher.seed) == (setup.recipe, setup.seed)
    assert defended.architecture is setup.architecture


def test_gecko_sees_the_teachers_logits_in_full_precision():
    setup = plain(first_bits=1)
    teacher = replace(setup, architecture=setup.architecture.as_float())
    expected = logits_of(train(teacher), setup.features)
    defended = gecko.defend(setup, train_teacher)
    np.testing.assert_array_equal(defended.targets.numpy(), expected)
    assert defended.loss.keywords == {"loss": gecko.symmetric_cross_entropy, "temperature": 1.0}


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_no_label_enters_a_students_loss(label_smoothing):
    logits = torch.randn(24, 3, generator=torch.Generator().manual_seed(7))
    setup = plain(first_bits=2, recipe=replace(RECIPE, label_smoothing=label_smoothing))
    shuffled = replace(setup, targets=setup.targets.roll(1))
    students = [train(gecko.defend(labelled, lambda _: logits)) for labelled in (setup, shuffled)]
    assert torch.equal(weights(students[0]), weights(students[1]))
    assert not torch.equal(weights(train(setup)), weights(train(shuffled)))  # they differ to everybody else


def test_the_symmetric_cross_entropy_by_hand():
    student = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])
    teacher = torch.tensor([[np.log(9.0), 0.0], [0.0, 0.0]])
    # f_s = (1/2, 1/2), (3/4, 1/4); f_t = (9/10, 1/10), (1/2, 1/2); minus the sum of f_s log f_t and f_t log f_s
    first = -(0.5 * np.log(0.9) + 0.5 * np.log(0.1) + 0.9 * np.log(0.5) + 0.1 * np.log(0.5))
    second = -(0.75 * np.log(0.5) + 0.25 * np.log(0.5) + 0.5 * np.log(0.75) + 0.5 * np.log(0.25))
    loss = gecko.symmetric_cross_entropy(student, teacher).item()
    assert loss == pytest.approx((first + second) / 2, rel=1e-6)
    assert loss > 0  # the published formula lacks its minus sign
    assert gecko.symmetric_cross_entropy(teacher, student).item() == pytest.approx(loss, rel=1e-6)


def test_the_symmetric_cross_entropy_pulls_the_student_to_the_teacher():
    teacher = torch.tensor([[3.0, -1.0, 0.5]])
    student = torch.zeros(1, 3, requires_grad=True)
    before = gecko.symmetric_cross_entropy(student, teacher)
    (slope,) = torch.autograd.grad(before, student)
    after = gecko.symmetric_cross_entropy(student - 0.1 * slope, teacher)
    assert after < before
    assert slope.argmin() == teacher.argmax()


def test_extreme_teachers_give_a_finite_loss():
    teacher = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.isfinite(gecko.symmetric_cross_entropy(torch.zeros(1, 3), teacher))


@pytest.fixture
def trained_teachers(monkeypatch):
    """Set-ups of the teachers that a search trains."""
    setups = []

    def watched(setup, **asked):
        setups.append(setup)
        return train_teacher(setup, **asked)

    monkeypatch.setattr("nas.search.bench.train_teacher", watched)
    return setups


def gecko_candidate(plan, **point):
    return Candidate(plan.space.decode({**plan.space.reference, **point}), RECIPE, "gecko")


def test_candidates_that_differ_in_bits_share_their_twin(tmp_path, trained_teachers):
    plan = planned(tmp_path, attack="loss", teacher="twin")
    bench = make_bench(plan)
    for bits in (1, 8):
        assess(gecko_candidate(plan, first_bits=bits), bench)
    assert len(trained_teachers) == 1
    assess(gecko_candidate(plan, first_bits=2), make_bench(plan))  # another process, or a search that goes on
    assert len(trained_teachers) == 1
    assess(gecko_candidate(plan, layer1_width=16), bench)
    assert len(trained_teachers) == 2


def test_a_teacher_is_trained_anew_for_other_data_and_seeds(tmp_path, trained_teachers):
    plan = planned(tmp_path, attack="loss")
    for other in (plan, with_settings(plan, seed=1), planned(tmp_path, attack="loss", members=100)):
        assess(gecko_candidate(other), make_bench(other))
    assert len(trained_teachers) == 3


def test_the_reference_network_teaches_all_candidates_of_a_study(tmp_path, trained_teachers):
    """With teachers of their own, these two would cost two trainings each."""
    plan = planned(tmp_path, attack="loss", teacher="reference")
    bench = make_bench(plan)
    other = replace(gecko_candidate(plan, layer1_width=16, depth=2), recipe=replace(RECIPE, learning_rate=1e-3))
    for candidate in (gecko_candidate(plan, first_bits=1), other):
        assert assess(candidate, bench).measures["trainings"].value == 2
    (setup,) = trained_teachers
    assert setup.architecture.key == plan.space.decode(plan.space.reference).as_float().key
    assert setup.recipe == plan.config.recipe.middle()


@pytest.mark.parametrize(("teacher", "each"), [("reference", 1.25), ("twin", 2.0)])
def test_what_a_search_of_distilled_candidates_trains(tmp_path, trained_teachers, teacher, each):
    """With one teacher for all, Gecko costs at most 1.3 trainings for each candidate."""
    searched = {"low": 1e-3, "high": 1e-2, "log": True}
    recipe = {"epochs": 2, "learning_rate": searched}
    plan = planned(tmp_path, attack="loss", defences=["gecko"], trials=4, recipe=recipe, teacher=teacher)
    study = run_here(plan)
    keys = {trial.user_attrs["key"] for trial in study.get_trials()}
    assert len(keys) == 4
    assert (len(keys) + len(trained_teachers)) / len(keys) == each


def test_one_larger_teacher_can_teach_all(tmp_path, trained_teachers):
    plan = planned(tmp_path, attack="loss", teacher={"depth": 2, "layer1_width": 256, "layer2_width": 128})
    bench = make_bench(plan)
    for point in ({"first_bits": 1}, {"layer1_width": 16}, {"depth": 3}):
        assess(gecko_candidate(plan, **point), bench)
    (setup,) = trained_teachers
    assert [op.shape for op in setup.architecture.ops if op.kind == "linear"] == [(256,), (128,), (10,)]
    assert {op.bits for op in setup.architecture.ops} == {32}
    assert setup.recipe == plan.config.recipe.middle()
    assert torch.equal(setup.targets, torch.from_numpy(plan.data.members.labels))


def test_a_teacher_cut_off_on_disk_is_trained_anew(tmp_path, trained_teachers):
    plan = planned(tmp_path, attack="loss")
    first = assess(gecko_candidate(plan), make_bench(plan))
    (path,) = plan.cache_folder.glob("teacher-*.npz")
    path.write_bytes(path.read_bytes()[:100])
    again = assess(gecko_candidate(plan), make_bench(plan))
    assert len(trained_teachers) == 2
    assert torch.equal(weights(first.network), weights(again.network))


def test_a_teacher_that_diverged_is_not_kept(tmp_path):
    plan = planned(tmp_path, attack="loss", recipe=ONE_STEP_TOO_FAR)
    candidate = replace(gecko_candidate(plan), recipe=plan.config.recipe.middle())
    with pytest.raises(Diverged, match="finite"):
        assess(candidate, make_bench(plan))
    assert not list(plan.cache_folder.glob("teacher-*.npz"))


def test_the_teachers_time_is_counted(tmp_path, monkeypatch):
    plan = planned(tmp_path, attack="loss")
    clock = [0.0]
    monkeypatch.setattr("nas.base.clock.time.perf_counter", lambda: clock[0])

    def slow(setup, **asked):
        clock[0] += 40.0
        return train_teacher(setup, **asked)

    bench = Bench(plan.data, plan.attack, None, plan.defences, seed=0, teach=slow)
    seconds = {name: assess(replace(gecko_candidate(plan), defence=name), bench).seconds for name in ("none", "gecko")}
    assert seconds["gecko"] == {"teacher": 40.0, "training": 0.0, "attack": 0.0}
    assert seconds["none"] == {"teacher": 0.0, "training": 0.0, "attack": 0.0}


# Controls: labels that mean nothing, learned by heart; who is a member is real once, and drawn by lot once.


@pytest.fixture(scope="module")
def by_heart():
    rng = np.random.default_rng(0)
    sets = {}
    for name, size in {"members": 150, "non_members": 150, "validation": 60, "reserve": 60}.items():
        sets[name] = Records(rng.normal(size=(size, 12)).astype(np.float32), np.arange(size) % 10, tuple("0123456789"))
    preprocessing = unchanged((12,), tuple("0123456789"))
    overview = Overview(480, {}, 0, 0, None, 480, 1)
    return Splits(**sets, test=sets["validation"], fingerprint="noise", preprocessing=preprocessing, overview=overview)


def trained_by_heart(data, defence):
    space = plugins.load("search_spaces", "mlp", "make_space")((12,), 10)
    architecture = space.decode({**space.reference, "layer1_width": 256})
    recipe = Recipe(epochs=60, learning_rate=0.01, weight_decay=0.0)
    candidate = Candidate(architecture, recipe, defence, middle_of(defence))
    return assess(candidate, Bench(data, loss.attack, None, {defence: load_defence(defence)}, seed=0))


def test_without_a_defence_the_members_are_found(by_heart):
    assert trained_by_heart(by_heart, "none").measures["leakage"].low > 0.95


@pytest.mark.parametrize("defence", DEFENCES)
def test_members_drawn_by_lot_cannot_be_told_whatever_the_defence(by_heart, defence):
    network = trained_by_heart(by_heart, defence).network
    both = (by_heart.members, by_heart.non_members)
    features, labels = (np.concatenate([getattr(part, name) for part in both]) for name in ("features", "labels"))
    order = np.random.default_rng(1).permutation(len(labels))
    members, non_members = (Records(features[rows], labels[rows], both[0].classes) for rows in np.split(order, 2))
    drawn = replace(by_heart, members=members, non_members=non_members)
    measures = measure(network, Bench(drawn, loss.attack, None, {}, seed=0))
    for name, nothing in {"leakage": 0.5, "accuracy_gap": 0.0}.items():
        assert measures[name].low < nothing < measures[name].high, name
