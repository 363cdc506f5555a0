"""Shadow networks: what each is trained on, what is kept, and what makes them others."""

import threading
from dataclasses import fields
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.audit import shadows
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import seconds_each
from nas.audit.shadows import train_missing
from nas.audit.shadows import train_shadow
from nas.base.plugins import TRUSTED
from nas.base.weights import read_weights
from nas.defences import gecko
from nas.records import Records
from nas.training import assess as evaluate
from nas.training import stages
from nas.training.assess import Candidate
from nas.training.bank import halves
from nas.training.loop import Diverged
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from search_spaces import mlp
from search_spaces.compressions import sparsity

AUDITED, BEYOND = 24, 6
PATIENCE = 240
RECIPE = Recipe(epochs=2, batch_size=8, label_smoothing=0.1)
# Another value for each field of a recipe.
OTHER = {
    "epochs": 3,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "dropout": 0.2,
    "label_smoothing": 0.0,
    "batch_size": 4,
    "optimizer": "sgd",
    "augment": "flip-crop",
    "class_weights": "balanced",
    "pruning": "one_shot",
    "quantization": "afterwards",
}


def made_pool(*, seed=0, beyond=BEYOND):
    """The first feature of each record is its row."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(AUDITED + beyond, 4)).astype(np.float32)
    features[:, 0] = np.arange(len(features))
    return Pool(features, np.arange(len(features)) % 3, np.arange(AUDITED) < AUDITED // 2)


def candidate(*, defence="none", width=16, **recipe):
    space = mlp.make_space((4,), 3)
    return Candidate(space.decode({**space.reference, "layer1_width": width}), replace(RECIPE, **recipe), defence)


@pytest.fixture
def spec(tmp_path):
    return ShadowSpec(made_pool(), candidate(), 7, tmp_path)


@pytest.fixture
def trainings(monkeypatch):
    """Every training, in order, as it was set up: of shadows here, of teachers in `nas.training.assess`."""
    seen = []

    def watched(setup, _first_stage=None):
        seen.append(setup)
        return train(setup)

    monkeypatch.setattr(shadows, "train_in_stages", watched)
    monkeypatch.setattr(evaluate, "train_in_stages", watched)
    return seen


def trained(spec, count, **options):
    return list(train_missing([spec], count, workers=1, **options))


def rows_in(setup):
    return sorted(int(row) for row in setup.features[:, 0])


def weights(spec, count):
    return [spec.path(shadow).read_bytes() for shadow in range(count)]


# What a shadow is trained on.


def test_a_shadow_and_its_partner_share_the_audited_records_out_and_both_see_the_others(spec):
    beyond = set(range(AUDITED, AUDITED + BEYOND))
    for shadow in range(0, 8, 2):
        first, second = (set(spec.pool.rows(number, spec.seed).tolist()) for number in (shadow, shadow + 1))
        assert first & second == beyond
        assert first | second == set(range(AUDITED + BEYOND))
    assert len({tuple(spec.pool.rows(shadow, spec.seed)) for shadow in range(8)}) == 8


def test_every_shadow_sees_as_many_records_as_the_network_did(spec, trainings):
    trained(spec, 4)
    members = int(spec.pool.is_member.sum()) + BEYOND
    assert [len(setup.features) for setup in trainings] == [members] * 4
    assert all(set(range(AUDITED, AUDITED + BEYOND)) <= set(rows_in(setup)) for setup in trainings)


def test_the_bank_says_what_each_shadow_was_trained_on(spec, trainings):
    trained(spec, 4)
    bank = bank_of(spec.pool, load(spec, 4), spec.seed)
    for setup, mask in zip(trainings, bank.trained_on, strict=True):
        assert [row for row in rows_in(setup) if row < AUDITED] == np.flatnonzero(mask).tolist()
    assert (bank.trained_on.sum(axis=0) == 2).all()
    np.testing.assert_array_equal(bank.labels, spec.pool.labels[:AUDITED])


def test_labels_stay_with_their_records(spec, trainings):
    trained(spec, 2)
    for setup in trainings:
        assert [int(label) for label in setup.targets] == [int(row) % 3 for row in setup.features[:, 0]]


def test_a_shadow_is_what_the_recipe_gives_on_its_records(spec):
    train_shadow(spec, 3)
    rows = spec.pool.rows(3, spec.seed)
    seed = seed_from(spec.seed, spec.pool.fingerprint, spec.candidate.key, 3)
    features, labels = torch.from_numpy(spec.pool.features[rows]), torch.from_numpy(spec.pool.labels[rows])
    expected = train(plain_setup(spec.candidate.architecture, features, labels, spec.candidate.recipe, seed))
    found = read_weights(spec.path(3))
    assert found.keys() == expected.state_dict().keys()
    assert all(torch.equal(found[name], values) for name, values in expected.state_dict().items())


def test_shadows_differ_and_start_from_seeds_of_their_own(spec, trainings):
    trained(spec, 4)
    assert len({setup.seed for setup in trainings}) == 4
    assert len(set(weights(spec, 4))) == 4


def test_the_bank_asks_the_shadows_themselves(spec):
    trained(spec, 2)
    networks = load(spec, 2)
    bank = bank_of(spec.pool, networks, spec.seed)
    for network, logits, oracle in zip(networks, bank.logits, bank.oracles, strict=True):
        with torch.no_grad():
            expected = network(torch.from_numpy(spec.pool.features[:AUDITED])).numpy()
        np.testing.assert_array_equal(logits, expected)
        np.testing.assert_allclose(oracle.query(spec.pool.features[:3]), logits[:3], atol=1e-6)


def test_shadows_in_train_mode_are_refused(spec):
    trained(spec, 2)
    first, second = load(spec, 2)
    with pytest.raises(ValueError, match=r"expected a network in eval mode; .* call .eval\(\) first"):
        bank_of(spec.pool, [first, second.train()], spec.seed)


def test_a_teacher_is_trained_on_the_shadows_own_records(spec, trainings):
    defended = replace(spec, candidate=candidate(defence="gecko"))
    train_shadow(defended, 0)
    teacher, student = trainings
    assert rows_in(teacher) == rows_in(student) == sorted(spec.pool.rows(0, spec.seed).tolist())
    assert teacher.architecture.key == spec.candidate.architecture.as_float().key
    assert teacher.recipe == student.recipe == RECIPE
    assert student.loss.keywords == {"loss": gecko.symmetric_cross_entropy, "temperature": 1.0}
    expected = logits_of(train(teacher), teacher.features)
    np.testing.assert_array_equal(student.targets.numpy(), expected)


ENSEMBLES = {
    "cross_distillation": {"folds": 3, "alpha": 1.0},
    "selena": {"models": 4, "left_out": 2},
}


@pytest.mark.parametrize("teacher", [None, candidate(width=32, epochs=1)], ids=["own", "fixed"])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_folds_and_ensembles_are_a_shadows_own_and_none_has_seen_what_it_speaks_of(spec, trainings, name, teacher):
    """The shadow repeats the whole defence: a record that it leaves out is in none of its teachers either."""
    groups = np.arange(AUDITED + BEYOND) // 2
    pool = replace(spec.pool, groups=groups, is_member=np.arange(AUDITED) < AUDITED // 2)
    distilled = replace(candidate(defence=name), defence_parameters=ENSEMBLES[name])
    defended = replace(spec, pool=pool, candidate=distilled, teacher=teacher)
    for shadow in range(2):
        trainings.clear()
        train_shadow(defended, shadow)
        *teachers, student = trainings
        seen = set(pool.rows(shadow, spec.seed).tolist())
        assert len(seen) < AUDITED + BEYOND
        assert set(rows_in(student)) == seen
        assert len(teachers) == len({one.seed for one in teachers}) in (3, 4)
        rows = [set(rows_in(one)) for one in teachers]
        assert all(one < seen for one in rows)
        described = teacher or replace(distilled, architecture=distilled.architecture.as_float())
        assert {(one.architecture.key, one.recipe) for one in teachers} == {
            (described.architecture.key, described.recipe)
        }
        answers = [torch.from_numpy(logits_of(train(one), student.features)).softmax(dim=1).numpy() for one in teachers]
        for place, row in enumerate(student.features[:, 0].int().tolist()):
            kin = set(np.flatnonzero(groups == groups[row])) & seen
            speaking = [answer[place] for answer, known in zip(answers, rows, strict=True) if not known & kin]
            assert len(speaking) == ENSEMBLES[name].get("left_out", 1)
            np.testing.assert_allclose(student.targets[place].numpy(), np.mean(speaking, axis=0), atol=1e-5)


def test_a_shadow_of_dmp_learns_from_the_reserve_and_its_teacher_from_the_shadows_records(spec, trainings):
    beside = np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)
    reserve = Records(beside, np.arange(12) % 3, tuple("abc"))
    parameters = {"temperature": 1.0, "share": 1.0}
    distilled = replace(candidate(defence="distillation"), defence_parameters=parameters)
    train_shadow(replace(spec, candidate=distilled, reserve=reserve), 0)
    teacher, student = trainings
    assert rows_in(teacher) == sorted(spec.pool.rows(0, spec.seed).tolist())
    np.testing.assert_array_equal(student.features.numpy(), beside)


# What is kept.


def test_four_shadows_grow_to_eight_and_nothing_is_trained_twice(spec, trainings):
    assert spec.missing(4) == [0, 1, 2, 3]
    assert trained(spec, 4) == [spec] * 4
    assert len(trainings) == 4
    before = weights(spec, 4)
    assert trained(spec, 4) == []
    assert spec.missing(8) == [4, 5, 6, 7]
    assert trained(spec, 8) == [spec] * 4
    assert len(trainings) == 8
    assert weights(spec, 4) == before
    load(spec, 8)
    assert len(trainings) == 8


def test_a_shadow_does_not_depend_on_how_many_there_are_nor_on_the_folder(spec, tmp_path):
    elsewhere = replace(spec, folder=tmp_path / "other")
    trained(spec, 2)
    trained(spec, 4)
    trained(elsewhere, 4)
    assert spec.key == elsewhere.key
    assert weights(spec, 4) == weights(elsewhere, 4)


def test_one_that_is_missing_in_between_is_trained_alone(spec, trainings):
    trained(spec, 4)
    before = weights(spec, 4)
    spec.path(2).unlink()
    assert spec.missing(4) == [2]
    trained(spec, 4)
    assert len(trainings) == 5
    assert weights(spec, 4) == before


@pytest.mark.parametrize("broken", ["empty", "half", "text", "another network's"])
def test_a_file_that_cannot_be_read_is_made_anew(spec, trainings, broken):
    trained(spec, 2)
    before = weights(spec, 2)
    if broken == "another network's":
        other = replace(spec, candidate=candidate(width=32))
        train_shadow(other, 1)
        trainings.pop()
        content = other.path(1).read_bytes()
    else:
        content = {"empty": b"", "half": before[1][: len(before[1]) // 2], "text": b"weights"}[broken]
    spec.path(1).write_bytes(content)
    loaded = load(spec, 2)
    assert len(trainings) == 3
    assert weights(spec, 2) == before
    kept = read_weights(spec.path(1))
    assert all(torch.equal(values, kept[name]) for name, values in loaded[1].state_dict().items())


def test_several_kinds_share_a_crew_and_each_is_named_as_one_of_it_is_there(spec, trainings):
    other = replace(spec, candidate=candidate(epochs=3))
    train_shadow(other, 0)
    assert list(train_missing([spec, other], 2, workers=1)) == [spec, spec, other]
    assert len(trainings) == 4


def test_stopping_keeps_what_is_trained(spec, trainings):
    work = train_missing([spec], 4, workers=1)
    next(work)
    work.close()
    assert spec.missing(4) == [1, 2, 3]
    assert len(trainings) == 1


def test_a_training_that_diverges_is_told_and_leaves_nothing(spec, monkeypatch):
    def diverges(_setup, _first_stage):
        raise Diverged("the loss became nan in epoch 1 of 2")

    monkeypatch.setattr(shadows, "train_in_stages", diverges)
    with pytest.raises(Diverged):
        trained(spec, 2)
    assert spec.missing(2) == [0, 1]


@pytest.mark.parametrize("count", [-2, 0, 1, 3, 7])
def test_shadows_come_in_pairs(spec, trainings, count):
    with pytest.raises(ValueError, match=f"^expected an even number of shadow models, at least 2; got {count}$"):
        trained(spec, count)
    assert not trainings


# What makes others of them.


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_another_recipe_is_another_key(spec, field):
    assert replace(spec, candidate=candidate(**{field: OTHER[field]})).key != spec.key


def changed_data(spec):
    features = spec.pool.features.copy()
    features[-1, -1] += 1e-6
    return replace(spec, pool=replace(spec.pool, features=features))


def changed_labels(spec):
    labels = spec.pool.labels.copy()
    labels[[0, 1]] = labels[[1, 0]]
    return replace(spec, pool=replace(spec.pool, labels=labels))


def changed_membership(spec):
    return replace(spec, pool=replace(spec.pool, is_member=~spec.pool.is_member))


def fewer_audited(spec):
    return replace(spec, pool=replace(spec.pool, is_member=np.arange(AUDITED - 2) < AUDITED // 2 - 1))


CHANGES = {
    "data": changed_data,
    "labels": changed_labels,
    "membership": changed_membership,
    "audited": fewer_audited,
    "architecture": lambda spec: replace(spec, candidate=candidate(width=32)),
    "defence": lambda spec: replace(spec, candidate=candidate(defence="gecko")),
    "seed": lambda spec: replace(spec, seed=8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_pool_candidate_or_seed_is_another_key_and_a_training(spec, trainings, change):
    trained(spec, 2)
    other = change(spec)
    assert other.key != spec.key
    assert other.missing(2) == [0, 1]
    trained(other, 2)
    assert weights(other, 2) != weights(spec, 2)


def test_another_training_version_is_another_key(spec, monkeypatch):
    monkeypatch.setattr(shadows, "training_version", lambda: "another")
    assert replace(spec).key != spec.key


def test_another_content_of_a_defence_of_the_same_name_is_another_key(spec, tmp_path, monkeypatch):
    (tmp_path / "my_defences").mkdir()
    path = tmp_path / "my_defences" / "mine.py"
    path.write_text("def defend(setup, _teach):\n    return setup\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUSTED, "my_defences.mine")
    defended = replace(spec, candidate=candidate(defence="my_defences.mine"))
    path.write_text("def defend(setup, _teach):\n    return setup  # and more\n")
    assert replace(defended).key != defended.key


def test_equal_content_has_an_equal_key(spec, tmp_path):
    pool = made_pool()
    again = Pool(np.asfortranarray(pool.features), pool.labels.copy(), pool.is_member.copy())
    assert ShadowSpec(again, candidate(), 7, tmp_path / "elsewhere").key == spec.key


# Several at once.


def test_processes_train_what_this_one_trains(spec, tmp_path):
    apart = replace(spec, folder=tmp_path / "apart")
    other = replace(apart, candidate=candidate(defence="gecko"))
    found = list(train_missing([apart, other], 2, workers=2))
    assert found.count(apart) == found.count(other) == 2
    for mine, theirs in ((spec, apart), (replace(other, folder=spec.folder), other)):
        trained(mine, 2)
        assert weights(mine, 2) == weights(theirs, 2)


def test_two_at_once_do_not_train_a_shadow_twice(spec, monkeypatch):
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def slow(setup, _first_stage):
        calls.append(setup)
        begun.set()
        assert go_on.wait(PATIENCE)
        return train(setup)

    monkeypatch.setattr(shadows, "train_in_stages", slow)
    workers = [threading.Thread(target=train_shadow, args=(spec, 0)) for _ in range(2)]
    workers[0].start()
    assert begun.wait(PATIENCE)
    workers[1].start()
    workers[1].join(0.3)
    assert workers[1].is_alive()  # it waits for the first
    go_on.set()
    for worker in workers:
        worker.join(PATIENCE)
    assert len(calls) == 1
    assert spec.missing(2) == [1]


def test_the_time_is_estimated_from_one_epoch_and_nothing_is_kept(spec, monkeypatch):
    ticks = iter([0.0, 0.0, 9.0, 10.0, 10.0, 10.5])
    monkeypatch.setattr(shadows.time, "perf_counter", lambda: next(ticks))
    epochs = []
    monkeypatch.setattr(shadows, "train_in_stages", lambda setup, _: epochs.append(setup.recipe.epochs))
    assert seconds_each(replace(spec, candidate=candidate(epochs=30))) == 15.0
    assert epochs == [1, 1]
    assert list(spec.folder.iterdir()) == []


@pytest.mark.parametrize(("teacher", "expected"), [(10, 10 * 0.25 + 30 * 0.5), (None, 30 * 0.25 + 30 * 0.5)])
def test_the_time_of_teachers_is_estimated_by_their_own_epochs(spec, monkeypatch, teacher, expected):
    ticks = iter([0.0, 8.0, 9.0, 10.0, 10.25, 10.75])
    monkeypatch.setattr(shadows.time, "perf_counter", lambda: next(ticks))
    epochs = []
    for module in (shadows, evaluate):
        monkeypatch.setattr(module, "train_in_stages", lambda setup, *_: epochs.append(setup.recipe.epochs))
    monkeypatch.setattr(evaluate, "logits_of", lambda _network, features: np.zeros((len(features), 3), np.float32))
    fixed = None if teacher is None else candidate(width=32, epochs=teacher)
    assert seconds_each(replace(spec, candidate=candidate(defence="gecko", epochs=30), teacher=fixed)) == expected
    assert epochs == [1, 1, 1, 1]


def test_the_time_of_a_training_with_updates_is_measured_with_one(spec, monkeypatch):
    ticks = iter([0.0, 0.0, 9.0, 9.0, 9.0, 9.5, 10.0, 10.0, 20.0])
    monkeypatch.setattr(shadows.time, "perf_counter", lambda: next(ticks))
    epochs = []
    monkeypatch.setattr(shadows, "train_in_stages", lambda setup, *_: epochs.append(setup.recipe.epochs))
    dense = candidate(epochs=30, pruning="safecompress")
    sparse = replace(dense, architecture=sparsity.compress(dense.architecture, 0.9, "unstructured", "uniform"))
    # Half a second for an epoch, eight for an update beside its four epochs.
    assert seconds_each(replace(spec, candidate=sparse)) == 30 * 0.5 + 3 * 8.0
    assert epochs == [1, 1, 4]


# The records under audit.


@pytest.mark.parametrize("members", [0, 5, 7, 12])
def test_a_pool_of_unequal_sides_is_refused(members):
    with pytest.raises(ValueError, match=f"as many audited members as non-members; got {members} members of 12$"):
        Pool(np.zeros((12, 2), np.float32), np.zeros(12, np.int64), np.arange(12) < members)


def test_more_flags_than_records_are_refused():
    with pytest.raises(ValueError, match=r"got 7 members of 14$"):
        Pool(np.zeros((12, 2), np.float32), np.zeros(12, np.int64), np.arange(14) < 7)


def test_halves_are_those_of_the_pool(spec):
    for shadow in range(4):
        rows = spec.pool.rows(shadow, spec.seed)
        np.testing.assert_array_equal(rows[rows < AUDITED], np.flatnonzero(halves(AUDITED, shadow, spec.seed)))


def test_shadows_of_one_network_pruned_in_several_ways_share_their_first_stage(spec, monkeypatch):
    trained = []

    def watched(setup, **rest):
        trained.append(setup.architecture.key)
        return train(setup, **rest)

    monkeypatch.setattr(stages, "train", watched)
    dense = spec.candidate
    for share in (0.5, 0.9):
        architecture = sparsity.compress(dense.architecture, share, "unstructured", "uniform")
        sparse = replace(dense, architecture=architecture, recipe=replace(dense.recipe, pruning="one_shot"))
        train_shadow(replace(spec, candidate=sparse), 0)
        (network,) = load(replace(spec, candidate=sparse), 1)
        assert [op.sparsity for op in network.architecture.ops if op.kind == "linear"] == pytest.approx(
            [share] * 2, abs=0.02
        )
    assert trained == [dense.architecture.key]
    train_shadow(spec, 0)
    assert trained == [dense.architecture.key]


def test_the_time_of_a_network_in_stages_is_estimated_without_leaving_files(spec):
    architecture = sparsity.compress(spec.candidate.architecture, 0.5, "unstructured", "uniform")
    seconds_each(replace(spec, candidate=replace(spec.candidate, architecture=architecture)))
    assert not spec.folder.exists() or list(spec.folder.iterdir()) == []
