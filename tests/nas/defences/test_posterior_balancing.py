from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.defences import posterior_balancing
from nas.defences.posterior_balancing import divergence
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from search_spaces.compressions import sparsity
from tests.nas.defences.small import MEMBERS
from tests.nas.defences.small import loss_auc
from tests.nas.defences.small import plain
from tests.nas.defences.small import weights
from tests.nas.defences.small import with_exits

SHARES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
# Ranked: the first half (.7, .2, .1), (.5, .3, .2); the second (.5, .25, .25), (.8, .1, .1)
BY_HAND = (
    0.5 * np.log(0.5 / 0.7)
    + 0.25 * np.log(0.25 / 0.2)
    + 0.25 * np.log(0.25 / 0.1)
    + 0.8 * np.log(0.8 / 0.5)
    + 0.1 * np.log(0.1 / 0.3)
    + 0.1 * np.log(0.1 / 0.2)
) / 2


def test_the_divergence_by_hand():
    assert divergence(SHARES.log()).item() == pytest.approx(BY_HAND, rel=1e-5)
    # shifted logits are the same posteriors, and a fifth record has no partner
    shifted = torch.cat([SHARES.log() + 3, torch.tensor([[9.0, 0.0, 0.0]])])
    assert divergence(shifted).item() == pytest.approx(BY_HAND, rel=1e-5)
    assert divergence(SHARES[:1].log()).item() == 0


def test_which_class_an_answer_is_sure_of_does_not_matter():
    again = SHARES[:, [2, 0, 1]]
    assert divergence(again.log()).item() == pytest.approx(BY_HAND, rel=1e-5)


def test_both_halves_are_pulled_to_each_other():
    logits = SHARES.log().requires_grad_()
    (slope,) = torch.autograd.grad(divergence(logits), logits)
    assert (slope.abs().sum(dim=1) > 0).all()
    assert divergence(logits - 0.1 * slope) < divergence(logits)


@pytest.mark.parametrize("setup", [plain(dropout=0.3, label_smoothing=0.1, class_weights="balanced"), with_exits()])
def test_with_a_strength_of_0_it_is_the_plain_training(setup):
    assert torch.equal(weights(train(posterior_balancing.defend(setup, None, strength=0.0))), weights(train(setup)))
    other = train(posterior_balancing.defend(setup, None, strength=4.0))
    assert not torch.equal(weights(other), weights(train(setup)))


def test_the_step_adds_it_so_many_times(monkeypatch):
    setup, seen = plain(epochs=1), []

    def watched(logits):
        seen.append(logits)
        return logits.sum() * 0 + 2

    monkeypatch.setattr(posterior_balancing, "divergence", watched)
    told = []

    def make_step(training):
        step = posterior_balancing.balanced_step(training, strength=4.0)

        def spied(batch):
            loss = step(batch)
            told.append(loss - setup.loss(seen[-1], batch.targets))
            return loss

        return spied

    train(replace(setup, make_step=make_step))
    torch.testing.assert_close(torch.stack(told), torch.full((3,), 8.0))


def test_members_are_harder_to_tell_and_answers_are_as_sure_as_each_other():
    setup = plain(epochs=60, width=256)
    without, with_it = (train(ready) for ready in (setup, posterior_balancing.defend(setup, None, strength=16.0)))
    assert loss_auc(with_it) < loss_auc(without) - 0.05
    with torch.no_grad():
        assert divergence(with_it(MEMBERS.features)) < 0.02


@pytest.mark.parametrize("pruning", ["retrained", "one_shot", "dynamic"])
def test_it_acts_in_every_stage_of_a_pruned_networks_training(pruning, monkeypatch):
    architecture = sparsity.compress(plain().architecture, 0.5, "unstructured", "uniform")
    setup = plain_setup(architecture, MEMBERS.features, MEMBERS.labels, Recipe(epochs=4, pruning=pruning), 0)
    calls = []
    step = posterior_balancing.balanced_step

    def watched(training, strength):
        calls.append((training.setup.architecture.key == architecture.key, strength))
        return step(training, strength)

    monkeypatch.setattr(posterior_balancing, "balanced_step", watched)
    train_in_stages(posterior_balancing.defend(setup, None, strength=4.0))
    expected = {"retrained": [False, True], "one_shot": [False], "dynamic": [True]}
    assert calls == [(is_pruned, 4.0) for is_pruned in expected[pruning]]


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match=r"^expected posterior_balancing.strength >= 0; got -1.0$"):
        posterior_balancing.check(-1.0)
    posterior_balancing.check(0.0)
