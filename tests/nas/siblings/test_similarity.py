"""The cosine between gradients, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.siblings.attack import losses_of
from nas.siblings.similarity import cosines
from nas.siblings.similarity import mean_interval
from nas.siblings.similarity import similarity
from tests.small_network import RECORDS
from tests.small_network import small


def test_cosines_are_those_by_hand_whatever_the_lengths():
    first = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]], [[1e-30, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
    second = torch.tensor([[[4.0, 3.0]], [[0.0, 7.0]], [[1e-32, 1e-32]], [[-2.0, -2.0]], [[1.0, 2.0]]])
    found = cosines(first, second)
    torch.testing.assert_close(found, torch.tensor([0.96, 0.0, 0.5**0.5, -1.0, 0.0]))


def test_cosines_can_be_learned_from_where_a_gradient_is_nothing():
    first = torch.tensor([[0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    cosines(first, torch.ones(2, 2)).sum().backward()
    assert first.grad.isfinite().all()


def test_a_network_is_like_itself_and_a_turned_one_is_not():
    _, network = small()
    features, labels = torch.from_numpy(RECORDS), torch.arange(70) % 3
    own = losses_of(network)
    same = similarity(own, own, features, labels)
    assert same.cosine.value == pytest.approx(1, abs=1e-5)
    assert same.without_gradient == 0
    turned = similarity(own, lambda *given: -own(*given), features, labels)
    assert turned.cosine.value == pytest.approx(-1, abs=1e-5)


def test_records_without_a_gradient_are_counted_and_are_like_nothing():
    _, network = small()
    features, labels = torch.from_numpy(RECORDS), torch.arange(70) % 3
    own = losses_of(network)
    flat_for_ten = lambda x, y: own(x, y) * (torch.arange(70)[: len(x)] >= 10) if len(x) == 64 else own(x, y)
    found = similarity(flat_for_ten, own, features, labels)
    assert found.without_gradient == 10
    assert found.cosine.value == pytest.approx(60 / 70, abs=1e-5)
    assert similarity(own, flat_for_ten, features, labels).without_gradient == 0


def test_the_interval_of_a_mean_is_students():
    found = mean_interval(np.array([0.1, 0.2, 0.3]))
    # t(0.975, 2) = 4.3027; the standard error is 0.1 / sqrt(3).
    assert (found.value, found.high) == (pytest.approx(0.2), pytest.approx(0.2 + 4.3027 * 0.1 / 3**0.5, abs=1e-4))
    assert mean_interval(np.array([0.5])).low == -1
    assert mean_interval(np.array([1.0, 1.0])).high == 1
