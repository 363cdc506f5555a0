import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.records import Records
from nas.training import bank as bank_module
from nas.training.bank import BankSpec
from nas.training.bank import build_bank
from nas.training.bank import halves
from nas.training.bank import reference_logits
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

CLASSES = ("no", "yes", "maybe")


def sets(fingerprint="f", seed=0):
    made = {}
    for name, size in {"members": 20, "non_members": 20}.items():
        seed += 1
        features = np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)
        made[name] = Records(features, np.arange(size) % 3, CLASSES)
    return SimpleNamespace(**made, fingerprint=fingerprint)  # no other set is there to be opened


def spec_of(**changes):
    space = mlp.make_space((4,), 3)
    values = {"data": sets(), "architecture": space.decode(space.reference), "recipe": Recipe(epochs=2), "seed": 0}
    return BankSpec(**{**values, "references": 4, **changes})


@pytest.fixture
def trained(monkeypatch):
    """Numbers of the references that are trained, in order."""
    numbers = []

    def watched(spec, reference):
        numbers.append(reference)
        return reference_logits(spec, reference)

    monkeypatch.setattr(bank_module, "reference_logits", watched)
    return numbers


@pytest.mark.parametrize("references", [2, 4, 6])
@pytest.mark.parametrize("records", [10, 41])
def test_references_come_in_pairs_that_share_the_records(references, records):
    masks = np.stack([halves(records, reference, seed=7) for reference in range(references)])
    for first, second in zip(masks[::2], masks[1::2], strict=True):
        assert (first ^ second).all()
        assert first.sum() == records // 2
    assert (~masks).sum(axis=0).tolist() == [references // 2] * records
    assert len({mask.tobytes() for mask in masks}) == references


def test_the_halves_follow_the_seed():
    assert (halves(40, 0, seed=1) == halves(40, 0, seed=1)).all()
    assert (halves(40, 0, seed=1) != halves(40, 0, seed=2)).any()


def test_without_groups_the_halves_and_the_key_are_what_they_were():
    """Banks and shadow models that are kept from earlier versions stand for these records."""
    assert np.flatnonzero(halves(10, 0, seed=3)).tolist() == [0, 1, 2, 6, 9]
    assert len(json.loads(spec_of().what)) == 4


def test_people_are_in_one_half_and_their_names_do_not_matter(tmp_path):
    plain, grouped = sets(), sets()
    for first, name in ((0, "members"), (100, "non_members")):
        records = getattr(grouped, name)
        people = first + np.arange(len(records)) // 3
        setattr(grouped, name, replace(records, groups=people))
    spec = spec_of(data=grouped)
    assert spec.key != spec_of(data=plain).key
    for reference in range(4):
        mask = spec.trained_on(reference)
        assert not set(spec.groups[mask]) & set(spec.groups[~mask])
        assert abs(int(mask.sum()) - len(mask) / 2) < 3
        assert (mask ^ spec.trained_on(reference ^ 1)).all()
    renamed = SimpleNamespace(**vars(grouped))
    for name in ("members", "non_members"):
        records = getattr(grouped, name)
        setattr(renamed, name, replace(records, groups=np.array([f"person {one:03d}" for one in records.groups])))
    assert spec_of(data=renamed).key == spec.key
    bank = build_bank(replace(spec, references=2), tmp_path)
    np.testing.assert_array_equal(bank.trained_on[0], spec.trained_on(0))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=40), st.integers(0, 1000))
def test_halves_of_groups_are_whole_and_differ_by_less_than_a_group(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    mask = halves(len(groups), 0, seed, groups)
    assert not set(groups[mask]) & set(groups[~mask])
    assert 0 <= len(groups) - 2 * int(mask.sum()) <= 2 * max(sizes)


def test_the_bank_says_truly_who_was_trained_on_what(tmp_path, monkeypatch):
    trainings = []

    def watched(setup):
        trainings.append(setup)
        return train(setup)

    monkeypatch.setattr(bank_module, "train", watched)
    spec = spec_of()
    bank = build_bank(spec, tmp_path)
    features = np.concatenate([spec.data.members.features, spec.data.non_members.features])
    labels = np.concatenate([spec.data.members.labels, spec.data.non_members.labels])
    assert bank.logits.shape == (4, 40, 3)
    np.testing.assert_array_equal(bank.labels, labels)
    for setup, mask in zip(trainings, bank.trained_on, strict=True):
        np.testing.assert_array_equal(setup.features.numpy(), features[mask])
        np.testing.assert_array_equal(setup.targets.numpy(), labels[mask])
        assert (setup.architecture, setup.recipe) == (spec.architecture, spec.recipe)
    assert len({setup.seed for setup in trainings}) == 4


def test_a_references_logits_are_on_members_then_others_whoever_was_in_it(tmp_path):
    spec = spec_of(recipe=Recipe(epochs=150, learning_rate=0.02))
    bank = build_bank(spec, tmp_path)
    right = bank.logits.argmax(axis=2) == bank.labels
    assert right[bank.trained_on].mean() > 0.9  # memorised
    assert right[~bank.trained_on].mean() < 0.7


def test_a_second_bank_reads_the_files_and_a_larger_one_adds_to_them(tmp_path, trained):
    two = build_bank(spec_of(references=2), tmp_path)
    again = build_bank(spec_of(references=2), tmp_path)
    np.testing.assert_array_equal(two.logits, again.logits)
    assert trained == [0, 1]
    four = build_bank(spec_of(references=4), tmp_path)
    assert trained == [0, 1, 2, 3]
    np.testing.assert_array_equal(four.logits[:2], two.logits)
    np.testing.assert_array_equal(four.trained_on[:2], two.trained_on)
    build_bank(spec_of(references=2), tmp_path)
    assert trained == [0, 1, 2, 3]


def test_references_differ(tmp_path):
    logits = build_bank(spec_of(), tmp_path).logits
    assert all(not np.allclose(logits[0], other, atol=1e-3) for other in logits[1:])


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": Recipe(epochs=3)},
        {"data": sets(fingerprint="g")},
        {"seed": 1},
        {"architecture": mlp.make_space((4,), 3).decode({**mlp.make_space((4,), 3).reference, "layer1_width": 16})},
    ],
    ids=["recipe", "data", "seed", "architecture"],
)
def test_another_bank_is_trained_anew(tmp_path, trained, change):
    build_bank(spec_of(references=2), tmp_path)
    build_bank(spec_of(references=2, **change), tmp_path)
    assert trained == [0, 1, 0, 1]


def test_another_training_version_is_a_cache_miss_with_the_same_seeds(tmp_path, trained, monkeypatch):
    build_bank(spec_of(references=2), tmp_path)
    what = spec_of(references=2).what
    monkeypatch.setattr(bank_module, "training_version", lambda: "later")
    build_bank(spec_of(references=2), tmp_path)
    assert trained == [0, 1, 0, 1]
    assert spec_of(references=2).what == what


@pytest.mark.parametrize("references", [0, 1, 3])
def test_a_bank_of_odd_size_is_refused(references):
    with pytest.raises(ValueError, match=f"an even number of references, at least 2; got {references}"):
        spec_of(references=references)


def test_workers_share_the_references_among_them(tmp_path, monkeypatch):
    # The locks are the operating system's, between open files: threads stand for processes here.
    everybody_trains = threading.Barrier(3, timeout=240)
    trained = []

    def slow(spec, reference):
        everybody_trains.wait()  # passes only if three references are trained at a time, by three workers
        trained.append((reference, threading.get_ident()))
        return np.full((40, 3), reference, dtype=np.float32)

    monkeypatch.setattr(bank_module, "reference_logits", slow)
    banks = []
    workers = [
        threading.Thread(target=lambda: banks.append(build_bank(spec_of(references=6), tmp_path))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(reference for reference, _ in trained) == list(range(6))
    assert len({worker for _, worker in trained}) == 3
    assert len(banks) == 3
    for bank in banks:
        assert bank.logits[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_reference_cut_off_on_disk_is_trained_anew(tmp_path, trained):
    first = build_bank(spec_of(references=2), tmp_path)
    path = spec_of(references=2).paths(tmp_path)[1]
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"\0" * len(whole)):
        path.write_bytes(broken)
        again = build_bank(spec_of(references=2), tmp_path)
        np.testing.assert_array_equal(again.logits, first.logits)
    assert trained == [0, 1, 1, 1, 1]


def test_a_reference_is_written_whole_or_not_at_all(tmp_path, monkeypatch, trained):
    spec = spec_of(references=2)

    def killed(stream, **arrays):
        stream.write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nas.base.files.np.savez", killed)
        with pytest.raises(KeyboardInterrupt):
            build_bank(spec, tmp_path)
    assert not list(tmp_path.glob("*.npz*"))
    assert not [path for path in spec.paths(tmp_path) if path.exists()]
    build_bank(spec, tmp_path)  # and the lock is free
    assert trained == [0, 0, 1]


def test_a_cached_reference_with_an_object_in_it_is_not_unpickled(tmp_path, trained):
    path = spec_of(references=2).paths(tmp_path)[0]
    np.savez(path, logits=np.array([print], dtype=object), allow_pickle=True)
    build_bank(spec_of(references=2), tmp_path)
    assert trained == [0, 1]


def test_a_bank_for_other_records_is_another_bank():
    assert spec_of().key == spec_of(references=2).key
    assert spec_of().key != replace(spec_of(), seed=3).key
