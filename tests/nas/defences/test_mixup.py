from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from nas.defences import mixup
from nas.training.loop import train
from tests.nas.defences.small import MEMBERS
from tests.nas.defences.small import losses
from tests.nas.defences.small import plain
from tests.nas.defences.small import weights
from tests.nas.defences.small import with_exits

# Posteriors (.7, .2, .1), (.1, .6, .3); classes 0 and 2; the second record is mixed into the first and the other way.
LOGITS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]).log()
OTHER = torch.tensor([1, 0])


def test_features_are_mixed_by_hand():
    features = torch.tensor([[[1.0, 2.0]], [[5.0, 10.0]]])
    assert mixup.mixed(features, OTHER, 0.75).tolist() == [[[2.0, 4.0]], [[4.0, 8.0]]]


def test_the_loss_by_hand_with_classes_and_with_soft_targets():
    # .75 of -log p(own class), .25 of -log p(the other's class), the mean over both records
    own, others = -np.log([0.7, 0.3]), -np.log([0.1, 0.1])
    expected = (0.75 * own + 0.25 * others).mean()
    classes = torch.tensor([0, 2])
    for targets in (classes, functional.one_hot(classes, 3).float()):
        found = mixup.mixed_loss(functional.cross_entropy, LOGITS, targets, other=OTHER, share=0.75)
        assert found.item() == pytest.approx(expected, rel=1e-6)
    # which is the cross-entropy to the mixed targets, as the paper has it
    soft = torch.tensor([[0.75, 0.0, 0.25], [0.25, 0.0, 0.75]])
    assert functional.cross_entropy(LOGITS, soft).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("setup", [plain(dropout=0.3, label_smoothing=0.1, class_weights="balanced"), with_exits()])
def test_with_an_alpha_of_0_it_is_the_plain_training(setup):
    assert torch.equal(weights(train(mixup.defend(setup, None, alpha=0.0))), weights(train(setup)))
    assert not torch.equal(weights(train(mixup.defend(setup, None, alpha=1.0))), weights(train(setup)))


def test_each_record_has_the_weight_of_its_own_class():
    labels = torch.tensor([0] * 72 + [1] * 24)
    members = replace(MEMBERS, labels=labels)
    setup = plain(members=members, class_weights="balanced")
    logits, targets = torch.tensor([[0.3, 0.2, 0.0, 0.0], [0.1, 0.5, 0.0, 0.0]]), torch.tensor([0, 1])
    by_record = functional.cross_entropy(logits, targets, reduction="none")
    crossed = functional.cross_entropy(logits, targets[OTHER], reduction="none")
    # classes 0 and 1 weigh 2/3 and 2
    expected = 0.75 * (2 / 3 * by_record[0] + 2 * by_record[1]) / 2
    expected += 0.25 * (2 * crossed[0] + 2 / 3 * crossed[1]) / 2
    found = mixup.mixed_loss(setup.loss, logits, targets, other=OTHER, share=0.75)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_shares_are_drawn_anew_for_each_batch_from_the_beta_distribution(monkeypatch):
    seen = []

    def watched(features, other, share):
        assert sorted(other.tolist()) == list(range(len(features)))
        seen.append(share)
        return features

    monkeypatch.setattr(mixup, "mixed", watched)
    train(mixup.defend(plain(epochs=40), None, alpha=4.0))
    assert len(seen) == len(set(seen)) == 120
    # Beta(4, 4) has mean 1/2 and standard deviation 1/6
    assert np.mean(seen) == pytest.approx(0.5, abs=0.06)
    assert np.std(seen) == pytest.approx(1 / 6, abs=0.04)


def test_members_are_learned_by_heart_no_more():
    setup = plain(epochs=60, width=256)
    without, with_it = train(setup), train(mixup.defend(setup, None, alpha=8.0))
    assert losses(without, MEMBERS).mean() < 0.1
    assert losses(with_it, MEMBERS).mean() > 0.3


def test_a_negative_alpha_is_refused():
    with pytest.raises(ValueError, match=r"^expected mixup.alpha >= 0; got -1.0$"):
        mixup.check(-1.0)
    mixup.check(0.0)
