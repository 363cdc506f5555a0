"""Adversarial examples: exact where the network is a plane, inside the ball and the range everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.defences import confidence_rounding
from nas.siblings.attack import PGD
from nas.siblings.attack import STRONG
from nas.siblings.attack import Attack
from nas.siblings.attack import craft
from nas.siblings.attack import gradients
from nas.siblings.attack import is_fooled
from nas.siblings.attack import losses_of
from nas.siblings.attack import without_answers
from nas.siblings.reach import Reach
from nas.training.answers import answering
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.small_network import RECORDS
from tests.small_network import small

WEIGHTS = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 1.0, 0.25, 0.0]])
FREE = Reach(torch.full((1, 4), 0.3), torch.full((1, 4), -100.0), torch.full((1, 4), 100.0))


def plane():
    """Two classes, parted by a plane: the loss of a record of class 0 grows along the difference of the weights."""
    graph = GraphBuilder((4,))
    graph.linear(0, 2)
    network = build(graph.architecture("example", {})).eval()
    with torch.no_grad():
        network.op1_linear.weight.copy_(WEIGHTS)
    return network


@pytest.mark.parametrize("attack", [PGD, STRONG, Attack("one", 1, 2)])
def test_on_a_plane_the_corner_of_the_ball_is_found(attack):
    records, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 2
    crafted = craft(losses_of(plane()), records, labels, FREE, attack)
    uphill = (WEIGHTS[1 - labels] - WEIGHTS[labels]).sign()
    assert crafted.shape == (attack.restarts, 9, 4)
    for found in crafted:
        torch.testing.assert_close((found - records)[:, :3], 0.3 * uphill[:, :3])
    assert torch.equal(uphill[:, 3], torch.zeros(9))  # a value without a gradient stays where it began


def test_a_corner_beyond_the_range_of_the_records_is_cut_off():
    reach = Reach(torch.tensor([[0.3, 0.3, 0.3, 0.0]]), torch.tensor([[-0.1] * 4]), torch.tensor([[0.1] * 4]))
    (found,) = craft(losses_of(plane()), torch.zeros(1, 4), torch.tensor([0]), reach, PGD)
    torch.testing.assert_close(found, torch.tensor([[-0.1, 0.1, -0.1, 0.0]]))


@pytest.mark.parametrize("bits", [32, 8, 2])
def test_examples_stay_in_the_ball_and_in_the_range(bits):
    _, network = small(bits)
    records, labels = torch.from_numpy(RECORDS), torch.arange(70) % 3
    reach = Reach(torch.tensor([[0.5, 0.2, 0.1, 0.0, 1.0, 0.3]]), torch.full((1, 6), -1.0), torch.full((1, 6), 1.0))
    crafted = craft(losses_of(network), records, labels, reach, replace(STRONG, steps=7))
    moved = (crafted - records).abs()
    assert (moved <= reach.radius + 1e-6).all()
    assert moved.amax() > 0.5
    assert (moved[..., 3] == 0).all()
    inside = records.abs() <= 1
    assert (crafted.abs() <= 1 + 1e-6)[:, inside].all()
    # A record beyond the range of the members may come back, and goes no further out.
    assert (crafted.abs() <= records.abs() + 1e-6)[:, ~inside].all()


def test_more_restarts_begin_with_the_fewer_and_never_find_less():
    _, network = small()
    records, labels = torch.from_numpy(RECORDS), torch.from_numpy(RECORDS[:, 0] > 0).long()
    reach = Reach(torch.full((1, 6), 0.3), torch.full((1, 6), -9.0), torch.full((1, 6), 9.0))
    few, many = (craft(losses_of(network), records, labels, reach, Attack("", 3, restarts)) for restarts in (1, 4))
    torch.testing.assert_close(many[:1], few)
    assert not torch.equal(many[0], many[1])
    once, often = (is_fooled(network, crafted, labels) for crafted in (few, many))
    assert (often | ~once).all()
    assert often.dtype == np.bool_


def test_one_of_several_examples_is_enough():
    network = plane()
    labels = torch.tensor([0, 0, 0])  # class 0 wherever the first value leads
    right, wrong = [1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]
    crafted = torch.tensor([[right, wrong, right], [right, right, wrong]])
    assert is_fooled(network, crafted, labels).tolist() == [False, True, True]


def test_answers_of_a_defence_hide_no_gradient():
    _, network = small()
    records, labels = torch.from_numpy(RECORDS), torch.arange(70) % 3
    expected = gradients(losses_of(network), records, labels)
    rounded = answering(small()[1], confidence_rounding.answers(digits=1))
    assert gradients(losses_of(without_answers(rounded)), records, labels).equal(expected)
    assert not gradients(losses_of(rounded), records, labels).equal(expected)


def test_gradients_far_below_one_lead_as_far_as_others():
    network = plane()
    records, labels = torch.randn(5, 4), torch.arange(5) % 2
    losses = losses_of(network)
    faint = craft(lambda *given: losses(*given) * 1e-35, records, labels, FREE, STRONG)
    torch.testing.assert_close(faint, craft(losses, records, labels, FREE, STRONG))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}, {"momentum": -1.0}, {"momentum": float("nan")}])
def test_an_attack_without_steps_or_starts_is_refused(wrong):
    with pytest.raises(ValueError, match="expected an attack of 1 or more steps"):
        replace(PGD, **wrong)
