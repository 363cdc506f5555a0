from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from nas.defences import adversarial_regularization as game
from nas.defences.adversarial_regularization import Attacker
from nas.training.loop import Labelled
from nas.training.loop import train
from tests.nas.defences.small import BESIDE
from tests.nas.defences.small import CLASSES
from tests.nas.defences.small import MEMBERS
from tests.nas.defences.small import loss_auc
from tests.nas.defences.small import plain
from tests.nas.defences.small import weights
from tests.nas.defences.small import with_exits


def ready(setup, strength, beside=BESIDE):
    return game.defend(replace(setup, reserve=beside), None, strength=strength)


class Sure(torch.nn.Module):
    """An attacker that judges by the true class's posterior, and adds a number of its own."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def forward(self, logits, labels):
        return logits.softmax(dim=1).gather(1, labels[:, None]).flatten() + self.shift


LOGITS, LABELS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25]]).log(), torch.tensor([0, 2, 1])


def test_the_gain_by_hand():
    odds = torch.tensor([0.7, 0.3, 0.25])
    expected = torch.log(1 / (1 + torch.exp(-odds))).mean() / 2
    torch.testing.assert_close(game.gain(Sure(), LOGITS, LABELS), expected)


def test_the_network_descends_to_what_the_attacker_takes_for_no_member():
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(game.gain(Sure(), logits, LABELS), logits)
    moved = (LOGITS - 0.1 * slope).softmax(dim=1).gather(1, LABELS[:, None])
    assert (moved < LOGITS.softmax(dim=1).gather(1, LABELS[:, None])).all()


def test_the_attacker_learns_who_is_a_member():
    attacker = Sure()
    optimizer = torch.optim.SGD(attacker.parameters(), lr=1.0)
    game.learn(attacker, optimizer, [LOGITS], LABELS, members=2)
    # the slope of the mean cross-entropy by the shift is the mean of sigmoid(odds) - is member
    found = torch.tensor([0.7, 0.3, 0.25]).sigmoid() - torch.tensor([1.0, 1.0, 0.0])
    assert attacker.shift.item() == pytest.approx(-found.mean().item(), rel=1e-5)


def test_an_attacker_finds_members_by_posteriors_and_class_together():
    """Half of the records answer with their class, half with another: the posteriors alone tell nothing."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (256,), generator=generator)
    answered = torch.where(torch.arange(256) < 128, labels, (labels + 1) % CLASSES)
    logits = 6 * functional.one_hot(answered, CLASSES).float()
    torch.manual_seed(0)
    attacker = Attacker(CLASSES)
    optimizer = torch.optim.Adam(attacker.parameters(), lr=0.01)
    for _ in range(150):
        game.learn(attacker, optimizer, [logits], labels, members=128)
    odds = attacker(logits, labels)
    assert (odds[:128] > 0).all()
    assert (odds[128:] < 0).all()


@pytest.mark.parametrize("setup", [plain(dropout=0.3, label_smoothing=0.1, class_weights="balanced"), with_exits()])
def test_with_a_strength_of_0_it_is_the_plain_training_and_records_beside_teach_the_network_nothing(setup):
    assert torch.equal(weights(train(ready(setup, 0.0))), weights(train(setup)))
    assert not torch.equal(weights(train(ready(setup, 1.0))), weights(train(setup)))


def test_every_batch_is_a_move_of_the_attacker_on_as_many_records_beside_it(monkeypatch):
    seen = []

    def watched(attacker, _optimizer, exits, labels, *, members):
        seen.append((members, len(labels), [logits.shape for logits in exits], id(attacker)))

    monkeypatch.setattr(game, "learn", watched)
    train(ready(plain(epochs=2), 1.0))
    assert [entry[:3] for entry in seen] == [(32, 64, [(64, CLASSES)])] * 6
    assert len({entry[3] for entry in seen}) == 1


def test_the_attacker_reads_what_the_deployed_network_would_answer(monkeypatch):
    """The members' answers first: with dropout left out, and what batch norms know by then."""
    moves, answers = [], game._answers

    def watched(training, features):
        assert training.network.training
        found = answers(training, features)
        assert training.network.training
        training.network.eval()
        with torch.no_grad():
            torch.testing.assert_close(found[0], training.network(features))
        training.network.train()
        moves.append(features)
        return found

    monkeypatch.setattr(game, "_answers", watched)
    train(ready(plain(epochs=1, dropout=0.5), 1.0))
    known, beside = ({record.numpy().tobytes() for record in part.features} for part in (MEMBERS, BESIDE))
    for features in moves:
        assert {record.numpy().tobytes() for record in features[:32]} <= known
        assert {record.numpy().tobytes() for record in features[32:]} <= beside


def test_all_exits_are_judged_by_one_attacker(monkeypatch):
    seen = []
    gain = game.gain

    def watched(attacker, logits, labels):
        seen.append(id(attacker))
        return gain(attacker, logits, labels)

    monkeypatch.setattr(game, "gain", watched)
    train(ready(with_exits(epochs=1), 1.0))
    assert len(seen) == 3 * 3
    assert len(set(seen)) == 1


def test_members_are_harder_to_tell():
    setup = plain(epochs=60, width=256)
    assert loss_auc(train(ready(setup, 5.0))) < loss_auc(train(setup)) - 0.03


def test_without_records_beside_the_members_there_is_no_game():
    nobody = Labelled(BESIDE.features[:0], BESIDE.labels[:0])
    for beside in (None, nobody):
        with pytest.raises(ValueError, match=r"^expected records beside the members for adversarial_regularization"):
            train(ready(plain(), 1.0, beside))


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match=r"^expected adversarial_regularization.strength >= 0; got -1.0$"):
        game.check(-1.0)
    game.check(0.0)
