"""Expected improvement against brute force: sampled values, and a grid that counts what is dominated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from nas.search.surrogate.improvement import boxes
from nas.search.surrogate.improvement import expected_improvement
from nas.search.surrogate.improvement import is_front

few = settings(max_examples=40, deadline=None, derandomize=True)
objectives = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


def some_front(rng, dimensions, count=6):
    points = rng.integers(0, 8, (count, dimensions)) / 8  # equal coordinates are frequent
    return points[is_front(points)]


@few
@given(seeds, objectives)
def test_boxes_hold_what_nothing_dominates_once(seed, dimensions):
    rng = np.random.default_rng(seed)
    front, reference = some_front(rng, dimensions), np.full(dimensions, 0.9)
    lower, upper = boxes(front, reference)
    places = rng.random((200, dimensions)) * 1.2 - 0.1
    inside = ((places[:, None] > lower) & (places[:, None] <= upper)).all(axis=2).sum(axis=1)
    dominated = (front[None] < places[:, None]).all(axis=2).any(axis=1)
    counts = (places <= reference).all(axis=1) & ~dominated
    assert inside.tolist() == counts.astype(int).tolist()


@few
@given(seeds, objectives)
def test_boxes_leave_the_hypervolume_that_optuna_finds(seed, dimensions):
    front = some_front(np.random.default_rng(seed), dimensions)
    reference = np.ones(dimensions)
    expected = compute_hypervolume(front, reference)
    lower, upper = boxes(front, reference)
    left = (upper - np.maximum(lower, 0.0)).prod(axis=1).sum()
    assert 1 - left == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("unknown", [[0], [0, 1], [1, 2], [0, 1, 2]])
def test_what_is_expected_is_the_mean_over_many_values(unknown):
    rng = np.random.default_rng(5)
    front, reference = some_front(rng, 3, count=12), np.ones(3)
    means, deviations = rng.random((4, 3)), np.zeros((4, 3))
    deviations[:, unknown] = rng.uniform(0.05, 0.4, (4, len(unknown)))
    found = expected_improvement(means, deviations, front, reference)
    before = compute_hypervolume(front, reference)
    for of in range(4):
        values = means[of] + deviations[of] * rng.standard_normal((4000, 3))
        gains = np.zeros(len(values))
        for index, value in enumerate(values):
            if (value < reference).all():
                gains[index] = compute_hypervolume(np.vstack([front, value]), reference) - before
        assert found[of] == pytest.approx(gains.mean(), abs=4 * gains.std() / np.sqrt(len(gains)) + 1e-4)


def test_a_known_candidate_adds_what_it_dominates_alone():
    front = np.array([[0.2, 0.6], [0.6, 0.2]])
    known = np.array([[0.4, 0.4], [0.7, 0.7], [0.1, 1.5], [0.1, 0.1]])
    added = expected_improvement(known, np.zeros_like(known), front, np.ones(2))
    assert added.tolist() == pytest.approx([0.04, 0.0, 0.0, 0.81 - 0.48])


def test_of_equal_points_one_is_on_the_front():
    points = np.array([[1.0, 1.0], [1.0, 1.0], [0.5, 2.0], [1.0, 2.0]])
    assert is_front(points).tolist() == [True, False, True, False]
    assert is_front(np.empty((0, 2))).tolist() == []


def test_without_a_front_all_below_the_reference_is_to_win():
    lower, upper = boxes(np.empty((0, 3)), np.array([1.0, 2.0, 3.0]))
    assert np.isneginf(lower).all()
    assert upper.tolist() == [[1.0, 2.0, 3.0]]
