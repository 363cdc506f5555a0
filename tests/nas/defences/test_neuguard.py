import numpy as np
import pytest
import torch

from nas.defences import neuguard
from nas.defences.neuguard import ClassMeans
from nas.defences.neuguard import hidden_layers
from nas.defences.neuguard import imbalance
from nas.training.loop import Batch
from nas.training.loop import Training
from nas.training.loop import train
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.nas.defences.small import CLASSES
from tests.nas.defences.small import MEMBERS
from tests.nas.defences.small import loss_auc
from tests.nas.defences.small import plain
from tests.nas.defences.small import weights
from tests.nas.defences.small import with_exits

CPU = torch.device("cpu")


def test_the_variance_by_hand():
    means = ClassMeans(2, CPU)
    first = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    # class 0 has the mean (.8, .2): both are .1 off in two places; class 1 is its own mean
    assert means.spread(first, torch.tensor([0, 0, 1])).item() == pytest.approx((0.02 + 0.02 + 0) / 3, rel=1e-5)
    # a second batch: the means are those of all records so far, (.6, .4) and (.3, .7)
    second = torch.tensor([[0.2, 0.8], [0.4, 0.6]])
    expected = (2 * 0.4**2 + 2 * 0.1**2) / 2
    assert means.spread(second, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-5)


def test_no_gradient_enters_the_class_means():
    posteriors = torch.tensor([[0.9, 0.1], [0.7, 0.3]], requires_grad=True)
    spread = ClassMeans(2, CPU).spread(posteriors, torch.tensor([0, 0]))
    (slope,) = torch.autograd.grad(spread, posteriors)
    # of a distance to a fixed mean (.8, .2): 2 (p - mean) / 2 records
    torch.testing.assert_close(slope, torch.tensor([[0.1, -0.1], [-0.1, 0.1]]))


def test_class_weights_weigh_the_variance_of_each_record():
    posteriors, labels = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]]), torch.tensor([0, 0, 1, 1])
    weighted = ClassMeans(2, CPU).spread(posteriors, labels, torch.tensor([0.0, 3.0]))
    # class 1 alone counts, three times: both are .1 off in two places
    assert weighted.item() == pytest.approx(3 * 2 * 0.02 / 4, rel=1e-5)


def test_the_imbalance_by_hand():
    # (1 - 5)^2 / 2 and (2 - 2)^2 / 2; of three outputs the first is one half: (1 - 5)^2 / 3
    assert imbalance(torch.tensor([[1.0, 5.0], [2.0, 2.0]])).item() == pytest.approx((8 + 0) / 2)
    assert imbalance(torch.tensor([[1.0, 2.0, 3.0]])).item() == pytest.approx(16 / 3)


def network_of(layers):
    """A network of layers by their letters: l(inear), n(orm), a(ctivation)."""
    graph, x = GraphBuilder((8,)), 0
    for letter in layers:
        x = {"l": lambda at: graph.linear(at, 6), "n": graph.norm, "a": graph.activation}[letter](x)
    graph.linear(x, CLASSES)
    return graph.architecture("example", {})


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("", []),
        ("l", ["op1_linear"]),
        ("la", ["op2_activation"]),
        ("lnal", ["op3_activation", "op4_linear"]),
        ("laa", ["op3_activation"]),
    ],
)
def test_hidden_layers_are_read_after_their_activation_and_logits_are_not_among_them(layers, names):
    assert hidden_layers(network_of(layers)) == names


def test_convolutional_layers_are_left_alone_and_exits_are_no_hidden_layers():
    graph = GraphBuilder((1, 4, 4))
    x = graph.activation(graph.norm(graph.conv(0, 2, kernel=(3, 3), padding=(1, 1))))
    graph.linear(graph.flatten(x), CLASSES)
    assert hidden_layers(graph.architecture("example", {})) == []
    architecture = with_exits().architecture
    exits = {f"op{index}_linear" for index in architecture.outputs}
    assert len(exits) == 3
    assert not exits & set(hidden_layers(architecture))


def test_the_step_adds_both_terms_by_their_weights():
    setup = plain(epochs=1)
    network = build(setup.architecture, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    training = Training(setup, network, optimizer, lambda batch: batch)
    features, labels = MEMBERS.features[:8], MEMBERS.labels[:8]
    step = neuguard.guarded_step(training, balance=2.0, variance=3.0)
    found = step(Batch(0, torch.arange(8), features, labels))
    hidden = network.op3_activation(network.op2_norm(network.op1_linear(features)))
    logits = network.op4_linear(hidden)
    spread = ClassMeans(CLASSES, CPU).spread(logits.softmax(dim=1), labels)
    expected = setup.loss(logits, labels) + 2 * (imbalance(hidden) + imbalance(logits)) + 3 * CLASSES * spread
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("setup", [plain(dropout=0.3, label_smoothing=0.1, class_weights="balanced"), with_exits()])
def test_with_weights_of_0_it_is_the_plain_training(setup):
    assert torch.equal(weights(train(neuguard.defend(setup, None, balance=0.0, variance=0.0))), weights(train(setup)))
    for changed in ({"balance": 1.0, "variance": 0.0}, {"balance": 0.0, "variance": 1.0}):
        assert not torch.equal(weights(train(neuguard.defend(setup, None, **changed))), weights(train(setup)))


@torch.no_grad()
def spread_within_classes(network):
    posteriors = network(MEMBERS.features).softmax(dim=1)
    of_classes = [posteriors[label == MEMBERS.labels].var(dim=0).sum().item() for label in range(CLASSES)]
    return np.mean(of_classes)


def test_answers_to_a_class_are_alike_and_members_are_harder_to_tell():
    setup = plain(epochs=60, width=256)
    without, with_it = (train(ready) for ready in (setup, neuguard.defend(setup, None, balance=0.0, variance=10.0)))
    assert spread_within_classes(with_it) < spread_within_classes(without) / 4
    assert loss_auc(with_it) < loss_auc(without) - 0.03


def test_outputs_are_balanced_and_members_are_harder_to_tell():
    setup = plain(epochs=60, width=256)
    without, with_it = (train(ready) for ready in (setup, neuguard.defend(setup, None, balance=10.0, variance=0.0)))
    with torch.no_grad():
        assert imbalance(with_it(MEMBERS.features)) < imbalance(without(MEMBERS.features)) / 4
    assert loss_auc(with_it) < loss_auc(without) - 0.05


def test_weights_below_0_are_refused():
    for balance, variance in ((-1.0, 0.0), (0.0, -1.0)):
        with pytest.raises(ValueError, match=r"^expected neuguard.balance and neuguard.variance >= 0; got "):
            neuguard.check(balance, variance)
    neuguard.check(0.0, 0.0)
