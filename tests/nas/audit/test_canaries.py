"""One training with canaries: what is drawn, what is trained on, what is found and what is not."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from scipy.special import softmax

from estimators.estimate import Estimate
from estimators.leakage.statistics.epsilon import one_run_bound
from nas.audit import canaries
from nas.audit import shadows
from nas.audit.candidate import Subject
from nas.audit.candidate import pool_of
from nas.audit.candidate import shadow_spec
from nas.audit.shadows import trained_on
from nas.training import assess as evaluate
from nas.training.assess import Candidate
from nas.training.loop import logits_of
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.small_search import planned

COUNT = 200


@cache
def plan():
    return planned(Path(mkdtemp()), members=300)


@cache
def subject():
    """A network that learns its 300 digits by heart."""
    data, space = plan().data, plan().space
    pool = pool_of(data.members, data.test, seed=0)
    candidate = Candidate(space.decode({**space.reference, "layer1_width": 128}), Recipe(epochs=60, weight_decay=0.0))
    spec = shadow_spec(plan(), candidate, pool)
    network = trained_on(spec, data.members.features, data.members.labels, seed=1).eval()
    return Subject(0, network, pool, data.reserve, data.test, spec, Estimate(0.6, 0.5, 0.7))


@cache
def found():
    return canaries.audit(subject(), plan().data.members, COUNT)


def test_canaries_are_test_records_with_wrong_labels_and_fair_coins():
    test = plan().data.test
    drawn = canaries.draw(test, COUNT, seed=3)
    true = {row.tobytes(): label for row, label in zip(test.features, test.labels, strict=True)}
    assert all(true[row.tobytes()] != label for row, label in zip(drawn.features, drawn.labels, strict=True))
    assert drawn.labels.min() >= 0
    assert drawn.labels.max() < test.num_classes
    assert len({row.tobytes() for row in drawn.features}) == COUNT
    assert 70 < drawn.included.sum() < 130
    other = canaries.draw(test, COUNT, seed=4)
    assert not np.array_equal(drawn.included, other.included)
    again = canaries.draw(test, COUNT, seed=3)
    assert np.array_equal(drawn.included, again.included)
    assert np.array_equal(drawn.labels, again.labels)


def test_a_network_is_trained_on_its_members_and_on_the_canaries_that_the_coins_chose(monkeypatch):
    seen = []

    def watched(_spec, features, labels, seed, groups):
        seen.append((features, labels, groups))
        return subject().network

    monkeypatch.setattr(canaries, "trained_on", watched)
    members = plan().data.members
    told = canaries.audit(subject(), members, COUNT)
    ((features, labels, groups),) = seen
    assert groups is None
    np.testing.assert_array_equal(features[: len(members)], members.features)
    np.testing.assert_array_equal(labels[: len(members)], members.labels)
    assert len(labels) == len(members) + told.included.sum()
    # The network is the candidate itself here, which saw no canary: all scores are equal, and nothing is shown.
    assert (told.any_training.epsilon, told.gaussian.epsilon) == (0, 0)


def test_a_canary_belongs_to_nobodys_group(monkeypatch):
    seen = []

    def watched(_spec, features, _labels, _seed, groups):
        seen.append((len(features), groups))
        return subject().network

    monkeypatch.setattr(canaries, "trained_on", watched)
    members = plan().data.members
    people = np.array([f"person {row // 3}" for row in range(len(members))])
    canaries.audit(subject(), replace(members, groups=people), COUNT)
    ((count, groups),) = seen
    assert len(groups) == count
    np.testing.assert_array_equal(groups[: len(members)], np.unique(people, return_inverse=True)[1])
    assert len(set(groups)) == len(set(people)) + count - len(members)


def test_what_was_learned_by_heart_is_found_and_the_same_again():
    assert found().any_training.epsilon > 1
    assert found().gaussian.epsilon > found().any_training.epsilon
    assert (found().any_training.delta, found().any_training.confidence) == (1e-5, 0.95)
    again = canaries.audit(subject(), plan().data.members, COUNT)
    assert again.guesses == found().guesses
    # Each number of guesses has its part of the error.
    confidence = 1 - 0.05 / len(found().guesses)
    bounds = [one_run_bound(COUNT, *made, delta=1e-5, confidence=confidence) for made in found().guesses.items()]
    assert max(bound.epsilon for bound in bounds) == pytest.approx(found().any_training.epsilon)


def test_canaries_that_were_never_trained_on_are_not_found(monkeypatch):
    members = plan().data.members

    def without_canaries(spec, features, labels, seed, groups):
        return trained_on(spec, features[: len(members)], labels[: len(members)], seed)

    monkeypatch.setattr(canaries, "trained_on", without_canaries)
    told = canaries.audit(subject(), members, COUNT)
    assert (told.any_training.epsilon, told.gaussian.epsilon) == (0, 0)


def test_a_number_of_canaries_that_cannot_be_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(canaries, "trained_on", None)
    available = len(plan().data.test)
    for count in (-1, 0, 9, available + 1):
        with pytest.raises(ValueError, match=f"expected --canaries from 10 to {available}, .*; got {count}"):
            canaries.audit(subject(), plan().data.members, count)


def test_terminal_and_json_say_the_same_with_every_caveat():
    about = canaries.about(subject(), plan(), found())
    written = canaries.as_json(found(), about)
    any_training, gaussian = written["epsilon_bounds"]
    assert any_training["assumes"] == "nothing about the training"
    assert (any_training["epsilon"], any_training["mu"]) == (found().any_training.epsilon, None)
    assert gaussian["assumes"] == "the training's trade-off function is Gaussian"
    assert (gaussian["epsilon"], gaussian["mu"]) == (found().gaussian.epsilon, found().gaussian.mu)
    assert {row["guesses"]: row["right"] for row in written["guesses"]} == found().guesses
    assert (written["canaries"], written["included"]) == (COUNT, int(found().included.sum()))
    line = canaries.headline(found())
    assert line.startswith(f"epsilon at least {any_training['epsilon']:.2f} at delta 1e-05, with 95 % confidence")
    assert f"{COUNT} canaries, {written['included']} of them" in line
    assert canaries.summary(found())[1:] == written["epsilon_caveats"]
    columns = [list(column.cells) for column in canaries.table(found()).columns]
    assert columns[1] == [f"{any_training['epsilon']:.2f}", f"{gaussian['epsilon']:.2f}"]
    assert about["training records"].startswith("300, ")


DISTILLED = {
    "cross_distillation": {"folds": 3, "alpha": 1.0},
    "selena": {"models": 4, "left_out": 2},
    "gecko": {},
}


@pytest.mark.parametrize("name", DISTILLED)
def test_canaries_go_the_whole_way_of_a_distilled_candidate(name, monkeypatch):
    """K5: a canary's wrong label reaches teachers, and the soft label that takes its place is of those that never did.

    A defence that taught from members alone, or a student that got the canary's own label, would be another training
    than the one that is audited.
    """
    told = []

    def watched(setup, _first_stage=None):
        told.append(setup)
        return train(setup)

    monkeypatch.setattr(shadows, "train_in_stages", watched)
    monkeypatch.setattr(evaluate, "train_in_stages", watched)
    recipe = Recipe(epochs=2, batch_size=64)
    candidate = replace(subject().spec.candidate, recipe=recipe, defence=name, defence_parameters={**DISTILLED[name]})
    members = plan().data.members
    who = replace(subject(), spec=replace(subject().spec, candidate=candidate))
    found = canaries.audit(who, members, COUNT)
    *teachers, student = told
    assert len(teachers) == {"cross_distillation": 3, "selena": 4, "gecko": 1}[name]
    canary = np.arange(len(members), len(members) + found.included.sum())
    assert len(student.features) == len(members) + len(canary)
    row_of = {row.tobytes(): place for place, row in enumerate(student.features.numpy())}
    seen = np.zeros((len(teachers), len(student.features)), dtype=bool)
    true = {row.tobytes(): label for row, label in zip(who.test.features, who.test.labels, strict=True)}
    for teacher, known in zip(teachers, seen, strict=True):
        places = np.array([row_of[row.tobytes()] for row in teacher.features.numpy()])
        known[places] = True
        wrong = {place: int(label) for place, label in zip(places, teacher.targets, strict=True) if place in canary}
        assert wrong
        assert all(true[student.features[place].numpy().tobytes()] != label for place, label in wrong.items())
    assert seen[:, canary].any(axis=0).all()
    if name != "gecko":  # whose one teacher knows every record that it speaks of
        answers = [logits_of(train(teacher), student.features) for teacher in teachers]
        shares = softmax(np.stack(answers).astype(np.float64), axis=2)
        speaks = ~seen[:, canary, None]
        expected = (shares[:, canary] * speaks).sum(axis=0) / speaks.sum(axis=0)
        np.testing.assert_allclose(student.targets[canary].numpy(), expected, atol=1e-5)


def test_another_seed_or_another_number_of_canaries_throws_other_coins(monkeypatch):
    monkeypatch.setattr(canaries, "trained_on", lambda *_, **__: subject().network)
    members = plan().data.members
    other = replace(subject(), spec=replace(subject().spec, seed=99))
    first, second, third = (
        canaries.audit(who, members, count).included[:50]
        for who, count in ((subject(), COUNT), (other, COUNT), (subject(), COUNT - 1))
    )
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, third)
