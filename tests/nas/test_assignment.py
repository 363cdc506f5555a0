"""Shares by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.assignment import _apportion
from nas.assignment import _shared
from nas.assignment import _targets
from nas.assignment import clusters_of


@settings(max_examples=50, deadline=None, derandomize=True)
@given(weights=st.lists(st.integers(2, 500), min_size=1, max_size=8), share=st.floats(0, 1))
def test_parts_add_up_keep_their_limits_and_follow_the_weights(weights, share):
    weights = np.array(weights)
    least = np.full_like(weights, 2)
    size = int(least.sum() + share * (weights.sum() - least.sum()))
    parts = _apportion(size, weights, least, weights)
    assert parts.sum() == size
    assert (parts >= least).all()
    assert (parts <= weights).all()
    order = np.argsort(weights, kind="stable")
    assert (np.diff(parts[order]) >= -1).all()


def test_targets_of_four_hundred_records_by_hand():
    counts = np.array([300, 100])
    # 120 members are 90 + 30, and 160 are left: 40, 40 and 80, at three to one.
    expected = [[90, 30], [90, 30], [30, 10], [30, 10], [60, 20], [0, 0]]
    assert _targets(counts, 120, capped=False, official=False).tolist() == expected
    # 40 members leave 320; validation and reserve may not exceed 1,000, so they share all of it.
    assert _targets(counts, 40, capped=True, official=True).tolist() == [
        [30, 10],
        [30, 10],
        [120, 40],
        [120, 40],
        [0, 0],
    ]


def test_a_shortage_falls_on_the_last_sets_but_not_below_two():
    wanted = np.array([5, 5, 3, -4, 4, 9])
    parts = _shared(np.arange(13), wanted)
    taken = [first.size + then.size for first, then in zip(parts[:6], parts[6:], strict=True)]
    assert taken == [5, 4, 2, 0, 2, 0]
    assert sorted(np.concatenate(parts)) == list(range(13))


def test_minus_zero_equals_zero():
    assert clusters_of(np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32), None).tolist() == [0, 0]


def test_rare_classes_get_two_everywhere():
    targets = _targets(np.array([990, 10]), 300, capped=False, official=False)
    assert targets[:5, 1].tolist() == [2, 2, 2, 2, 2]
    assert targets.sum(axis=1).tolist() == [300, 300, 100, 100, 200, 0]


@pytest.mark.parametrize("groups", [None, np.array([7, 8, 9, 9])])
def test_images_are_compared_whole(groups):
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[1, 0, 1, 1] = 1
    images[2, 0, 0, 0] = 1
    expected = [0, 1, 2, 0] if groups is None else [0, 1, 0, 0]
    assert clusters_of(images, groups).tolist() == expected
