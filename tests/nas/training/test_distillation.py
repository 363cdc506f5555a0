"""Teachers that have not seen what they speak of: how records are shared out, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.training.distillation import check_unseen
from nas.training.distillation import clusters_in
from nas.training.distillation import divergence
from nas.training.distillation import folds_of
from nas.training.distillation import soft_labels
from nas.training.distillation import subsets_of
from nas.training.loop import plain_setup
from nas.training.recipe import Recipe
from search_spaces import mlp

few = settings(max_examples=80, deadline=None, derandomize=True)


def plain(records=24, *, groups=None, equal=()):
    """A set-up whose records are all different, but for pairs that are named."""
    space = mlp.make_space((4,), 3)
    features = torch.randn(records, 4, generator=torch.Generator().manual_seed(0))
    for one, other in equal:
        features[one] = features[other]
    labels = torch.arange(records) % 3
    return plain_setup(space.decode(space.reference), features, labels, Recipe(epochs=1), 0, groups=groups)


@few
@given(
    clusters=st.lists(st.integers(0, 12), min_size=12, max_size=60),
    folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_folds_hold_whole_clusters_and_all_records(clusters, folds, seed):
    clusters = np.array([*clusters, *range(20, 20 + folds)])
    labels = np.random.default_rng(seed).integers(0, 3, len(clusters))
    fold = folds_of(clusters, labels, folds)
    assert set(fold) == set(range(folds))
    assert all(len(set(fold[clusters == cluster])) == 1 for cluster in clusters)
    largest = np.bincount(clusters).max()
    assert np.ptp(np.bincount(fold)) <= largest
    check_unseen(clusters, fold != np.arange(folds)[:, None])


@few
@given(records=st.integers(10, 200), folds=st.integers(2, 7), classes=st.integers(2, 9))
def test_folds_of_records_that_stand_alone_are_even_in_number_and_in_each_class(records, folds, classes):
    labels = np.random.default_rng(records).integers(0, classes, records)
    fold = folds_of(np.arange(records), labels, folds)
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    for label in range(classes):
        assert np.ptp(np.bincount(fold[labels == label], minlength=folds)) <= 1


def test_more_folds_than_clusters_are_refused():
    with pytest.raises(
        ValueError, match=r"^expected at least 3 records or groups that differ, for so many folds; got 2$"
    ):
        folds_of(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 3)


@few
@given(clusters=st.lists(st.integers(0, 30), min_size=20, max_size=60), models=st.integers(2, 9), data=st.data())
def test_each_cluster_is_left_out_by_so_many_teachers(clusters, models, data):
    left_out, clusters = data.draw(st.integers(1, models - 1)), np.array(clusters)
    sees = subsets_of(clusters, models, left_out)
    assert ((~sees).sum(axis=0) == left_out).all()
    assert all((sees[:, clusters == cluster].std(axis=1) == 0).all() for cluster in clusters)


def test_teachers_see_about_as_many_records_as_they_should():
    sees = subsets_of(np.arange(1000), 5, 2)
    np.testing.assert_allclose(sees.mean(axis=1), 0.6, atol=0.05)
    assert len({tuple(row) for row in sees}) == 5


def test_equal_records_and_groups_are_clusters():
    groups = torch.tensor([0, 0, 1, 1, *range(2, 22)])
    found = clusters_in(plain(groups=groups, equal=[(1, 2), (23, 10)]))
    assert len(set(found[:4])) == 1
    assert found[23] == found[10]
    assert len(set(found)) == 20
    assert len(set(clusters_in(plain()))) == 24


# Planted leaks.

CLUSTERS = np.array([0, 0, 1, 2])
TIGHT = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)


def test_teachers_that_have_not_seen_what_they_speak_of_are_accepted():
    check_unseen(CLUSTERS, TIGHT)


@pytest.mark.parametrize(
    ("teacher", "record", "message"),
    [
        (2, 0, r"teacher 2 has seen such of 1 records$"),  # the twin of a record that it speaks of
        (slice(3), 3, r"got 1 records that all have seen, 0 that see none$"),
        (slice(3), slice(0, 2), r"got 2 records that all have seen, 0 that see none$"),
    ],
)
def test_a_teacher_that_has_seen_what_it_speaks_of_is_refused(teacher, record, message):
    sees = TIGHT.copy()
    sees[teacher, record] = True
    with pytest.raises(ValueError, match=message):
        check_unseen(CLUSTERS, sees)


def test_a_teacher_that_sees_nothing_is_refused():
    with pytest.raises(ValueError, match=r"0 records that all have seen, 1 that see none$"):
        check_unseen(CLUSTERS, np.vstack([TIGHT, np.zeros(4, bool)]))


def test_no_teacher_is_trained_where_one_would_leak():
    def teach(_setup, **_asked):
        raise AssertionError("a teacher was asked for")

    setup = plain(equal=[(0, 1)])
    sees = np.arange(24) % 2 != np.arange(2)[:, None]  # the equal records lie apart
    with pytest.raises(
        ValueError, match=r"^expected soft labels from teachers that have seen neither a record nor one "
    ):
        soft_labels(setup, teach, sees)


def test_a_soft_label_is_the_mean_of_the_teachers_that_have_not_seen_its_record():
    answers = torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(1))
    asked = []

    def teach(setup, *, rows):
        asked.append((setup, rows))
        return answers[len(asked) - 1]

    sees = np.ones((3, 24), bool)
    sees[0, :12] = sees[1, 6:18] = sees[2, 18:] = False
    setup = plain()
    found = soft_labels(setup, teach, sees)
    for (described, rows), seen in zip(asked, sees, strict=True):
        assert described.architecture == setup.architecture.as_float()
        assert rows.tolist() == np.flatnonzero(seen).tolist()
    of = answers.softmax(dim=2)
    for record in range(24):
        speaking = of[torch.from_numpy(~sees[:, record]), record]
        torch.testing.assert_close(found[record], speaking.mean(dim=0))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(24))


def test_what_teachers_learn_from_depends_on_the_records_alone():
    setup = plain()
    labels = setup.targets.numpy()
    for other in (replace(setup, seed=5), replace(setup, recipe=Recipe(epochs=9))):
        np.testing.assert_array_equal(*(folds_of(clusters_in(one), labels, 3) for one in (setup, other)))
        np.testing.assert_array_equal(*(subsets_of(clusters_in(one), 5, 2) for one in (setup, other)))


# The loss.


def test_the_divergence_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[np.log(3.0), 0.0]])
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert divergence(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    assert divergence(torch.cat([student, teacher]), torch.cat([teacher, teacher])).item() == pytest.approx(
        expected / 2
    )
