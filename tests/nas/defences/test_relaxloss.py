from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from nas.defences import relaxloss
from nas.defences.relaxloss import relaxed_loss
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

# Confidences (.7, .2, .1), (.1, .6, .3), (.5, .25, .25); true classes 0, 2, 0.
LOGITS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25]]).log()
LABELS = torch.tensor([0, 2, 0])
LOSSES = -np.log([0.7, 0.3, 0.5])
MEAN = LOSSES.mean()


def slope(flatten, alpha):
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(relaxed_loss(logits, LABELS, alpha, flatten=flatten), logits)
    return gradient


def plain_slope():
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, LABELS), logits)
    return gradient


@pytest.mark.parametrize("flatten", [False, True])
def test_above_the_level_it_descends_as_ever(flatten):
    torch.testing.assert_close(slope(flatten, alpha=MEAN - 0.1), plain_slope())


def test_below_the_level_even_epochs_climb_to_it():
    assert relaxed_loss(LOGITS, LABELS, 1.5, flatten=False).item() == pytest.approx(1.5 - MEAN)
    torch.testing.assert_close(slope(flatten=False, alpha=1.5), -plain_slope())


def test_below_the_level_odd_epochs_flatten_what_is_misclassified_by_hand():
    # Only the second record is: it keeps .3 for its class and spreads .7 evenly over the two others.
    flattened = -(0.3 * np.log(0.3) + 0.35 * np.log(0.1) + 0.35 * np.log(0.6))
    expected = (flattened - LOSSES.sum()) / 3
    assert relaxed_loss(LOGITS, LABELS, 1.5, flatten=True).item() == pytest.approx(expected, rel=1e-6)
    # Rows of records classified right climb; that of the other gets softmax - target, less its own climb.
    by_hand = (torch.tensor([0.1, 0.6, 0.3]) - torch.tensor([0.35, 0.35, 0.3])) / 3 - plain_slope()[1]
    torch.testing.assert_close(
        slope(flatten=True, alpha=1.5), torch.stack([-plain_slope()[0], by_hand, -plain_slope()[2]])
    )


def mean_loss(alpha, epochs=60):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(96, 8, generator=generator), torch.randint(0, 4, (96,), generator=generator)
    space = mlp.make_space((8,), 4)
    recipe = Recipe(epochs=epochs, batch_size=32, learning_rate=0.02, weight_decay=0.0)
    setup = plain_setup(space.decode({**space.reference, "layer1_width": 256}), features, labels, recipe, seed=0)
    if alpha is not None:
        setup = relaxloss.defend(setup, None, alpha=alpha)
    network = train(setup)
    with torch.no_grad():
        return functional.cross_entropy(network(features), labels).item()


def test_the_members_loss_is_held_near_the_level():
    assert mean_loss(None) < 0.1  # learned by heart
    assert 0.3 < mean_loss(0.5) < 0.7
    assert 0.8 < mean_loss(1.0) < 1.2


def test_the_epochs_parity_decides_whether_it_flattens(monkeypatch):
    seen = []

    def watched(logits, labels, alpha, *, flatten, weights):
        assert weights is None
        seen.append((alpha, flatten))
        return functional.cross_entropy(logits, labels)

    monkeypatch.setattr(relaxloss, "relaxed_loss", watched)
    mean_loss(0.25, epochs=3)
    assert seen == [(0.25, False)] * 3 + [(0.25, True)] * 3 + [(0.25, False)] * 3


def test_label_smoothing_has_no_part_in_it():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(24, 8, generator=generator), torch.arange(24) % 4
    space = mlp.make_space((8,), 4)
    setups = [
        relaxloss.defend(
            plain_setup(
                space.decode(space.reference), features, labels, replace(Recipe(epochs=2), label_smoothing=s), 0
            ),
            None,
            alpha=0.5,
        )
        for s in (0.0, 0.3)
    ]
    states = [train(setup).state_dict() for setup in setups]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_negative_level_is_refused():
    with pytest.raises(ValueError, match=r"expected relaxloss.alpha >= 0; got -1"):
        relaxloss.check(-1.0)
    relaxloss.check(0.0)


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_class_weights_weigh_each_record_of_it(alpha, flatten):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 0, 0, 0, 1, 2])
    whole = torch.tensor([1.0, 2.0, 0.0])
    # A weight of 2 is the record twice, one of 0 leaves it out.
    twice = torch.tensor([0, 1, 2, 3, 4, 4])
    weighted = relaxed_loss(logits, labels, alpha, flatten=flatten, weights=whole)
    repeated = relaxed_loss(logits[twice], labels[twice], alpha, flatten=flatten)
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-5)


def test_the_recipes_weights_reach_its_step(monkeypatch):
    seen = []

    def watched(logits, labels, alpha, *, flatten, weights):
        seen.append(weights)
        return functional.cross_entropy(logits, labels)

    monkeypatch.setattr(relaxloss, "relaxed_loss", watched)
    space = mlp.make_space((8,), 4)
    labels = torch.tensor([0] * 18 + [1] * 6)
    features = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(epochs=1, class_weights="balanced")
    train(relaxloss.defend(plain_setup(space.decode(space.reference), features, labels, recipe, 0), None, alpha=0.5))
    assert seen[0].tolist() == pytest.approx([2 / 3, 2, 0, 0])
