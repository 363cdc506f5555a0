"""Oracles of trained networks."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.audit.oracles import of_network
from nas.base import plugins
from nas.spaces import compressible
from nas.spaces import sample
from nas.spaces import space_named
from nas.training.answers import answering
from nas.training.loop import Diverged
from nas.training.loop import exits_of
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import quantize_weight
from search_spaces.network import build
from tests.small_network import RECORDS
from tests.small_network import small


@pytest.mark.parametrize("bits", [32, 8, 4, 2, 1])
def test_logits_are_the_last_layer_of_the_activations(bits):
    _, network = small(bits)
    oracle = of_network(network)
    logits, activations = oracle.query(RECORDS), oracle.activations(RECORDS)
    assert logits.dtype == activations.dtype == np.float32
    assert (logits.shape, activations.shape) == ((70, 3), (70, 8))
    if bits < 32:
        assert len(np.unique(activations)) <= 2**bits
    layer = network.op3_linear
    levels, scale = quantize_weight(layer.weight, bits) if bits < 32 else (layer.weight, torch.ones(3, 1))
    weight, bias = (levels * scale).detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(activations @ weight.T + bias, logits, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_array_equal(oracle.query(RECORDS[:64]), network(torch.from_numpy(RECORDS[:64])))


@pytest.mark.parametrize("name", plugins.available("search_spaces", "make_space"))
def test_every_space_is_seen_through_to_its_classifier(name):
    shape = (20,) if name == "mlp" else (3, 8, 8)
    space = plugins.load("search_spaces", name, "make_space")(shape, 10)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(2)))
    features = np.random.default_rng(3).normal(0, 1, (5, *shape))
    oracle = of_network(build(architecture).eval())
    assert oracle.query(features).shape == (5, 10)
    evidence = Evidence(oracle.query(features), np.arange(5), features=features, oracle=oracle)
    if architecture.ops[-1].kind == "linear":
        inputs = architecture.ops[architecture.ops[-1].inputs[0]].size
        assert oracle.activations(features).shape == (5, inputs)
        assert evidence.holds >= {"queries", "activations"}
    else:  # a convolution classifies
        assert oracle.activations is None
        assert evidence.holds >= {"queries"}


def test_the_order_of_execution_decides_which_layer_is_last():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(6, 4)

        def forward(self, records):
            return self.last(self.first(records).relu())

    assert of_network(Crossed().eval()).activations(RECORDS).shape == (70, 4)


def test_a_network_without_linear_layers_shows_its_logits_alone():
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()).eval()
    oracle = of_network(network)
    assert oracle.activations is None
    assert oracle.query(np.zeros((2, 1, 2, 2))).shape == (2, 3)


def test_batches_of_one_answer_as_many_do():
    _, network = small(4)
    oracle = of_network(network)
    for ask in (oracle.query, oracle.activations):
        one_by_one = np.concatenate([ask(RECORDS[n : n + 1]) for n in range(70)])
        np.testing.assert_allclose(one_by_one, ask(RECORDS), rtol=1e-5, atol=1e-6)


def test_the_network_is_left_as_it_was():
    _, network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    oracle = of_network(network)
    oracle.activations(RECORDS)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_train_mode_is_refused_now_and_later():
    _, network = small()
    oracle = of_network(network)
    network.op3_dropout.train()  # a part is enough
    for ask in (lambda _: of_network(network), oracle.query, oracle.activations):
        with pytest.raises(ValueError, match=r"expected a network in eval mode; op3_dropout is in train mode"):
            ask(RECORDS)
    network.train()
    with pytest.raises(ValueError, match=r"the network is in train mode: call \.eval\(\) first"):
        of_network(network)


def test_what_cannot_be_read_is_refused():
    _, network = small()
    oracle = of_network(network)
    with torch.no_grad():
        network.op3_linear.bias[0] = np.inf
    for ask in (oracle.query, oracle.activations):
        with pytest.raises(Diverged):
            ask(RECORDS)
    with pytest.raises(
        ValueError, match=r"expected the last linear layer to read \(records, units\); it read \[\(2, 1"
    ):
        of_network(nn.Sequential(nn.Linear(3, 2), nn.Flatten()).eval()).activations(np.zeros((2, 1, 3)))
    unused = nn.Sequential(nn.Flatten()).eval()
    unused[0].register_module("linear", nn.Linear(2, 2).eval())
    with pytest.raises(ValueError, match="it read nothing"):
        of_network(unused).activations(RECORDS)


def test_an_oracle_is_what_evidence_expects():
    assert isinstance(of_network(small()[1]), Oracle)


class Twice(nn.Module):
    def forward(self, records):
        return records, records


def test_a_network_with_several_outputs_and_no_graph_is_refused():
    with pytest.raises(ValueError, match="expected a network with one output, or one of a graph that says which"):
        of_network(Twice().eval()).query(np.zeros((2, 6), np.float32))


def with_exits(threshold=0.6):
    """Two exits: of the record itself, and of eight units behind it."""
    graph = GraphBuilder((3,))
    early = graph.linear(0, 2)
    late = graph.linear(graph.activation(graph.linear(0, 8)), 2)
    return replace(graph.architecture("example", {}, (early, late)), exit_threshold=threshold)


def test_an_oracle_of_a_network_with_exits_says_which_one_answered_and_shows_what_its_layer_read():
    network = build(with_exits(), seed=3).eval()
    oracle, asked = of_network(network), np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    with torch.no_grad():
        early, late = network(torch.from_numpy(asked))
        hidden = network.op2_linear(torch.from_numpy(asked)).relu().numpy()
    is_early = early.softmax(1).amax(1).numpy() >= 0.6
    assert 0 < is_early.sum() < 70
    np.testing.assert_array_equal(oracle.exits(asked), ~is_early)
    expected = np.where(is_early[:, None], early.numpy(), late.numpy())
    np.testing.assert_allclose(oracle.query(asked), expected, rtol=1e-5, atol=1e-6)
    read = np.where(is_early[:, None], np.pad(asked, ((0, 0), (0, 5))), hidden)
    np.testing.assert_allclose(oracle.activations(asked), read, rtol=1e-5, atol=1e-6)


EARLY_AND_LATE = 600


def three_exits():
    """Three exits of a deep network, of which records take all."""
    space = compressible(space_named("mlp", (4,), 3), ["exits"])
    point = {"depth": 4, "exits.count": 2, "exits.threshold": 0.5, "norm": False}
    return space.decode({**space.reference, **point})


def asked_about(*shape):
    return np.random.default_rng(1).normal(size=(EARLY_AND_LATE, *shape)).astype(np.float32)


def held_back(network, delay):
    return answering(copy.deepcopy(network), None, delay)


@pytest.mark.parametrize(("architecture", "shape"), [(with_exits(), (3,)), (three_exits(), (4,))])
def test_delayed_answers_tell_the_exit_as_far_as_their_time_does(architecture, shape):
    features = 4 * asked_about(*shape)
    network = build(architecture, seed=3).eval()
    true = of_network(network).exits(features)
    last = len(architecture.outputs) - 1
    assert np.bincount(true, minlength=last + 1).min() > EARLY_AND_LATE / 50
    told = {delay: of_network(held_back(network, delay)).exits(features) for delay in (0.01, 1.0, 1000.0)}
    # A wait that is short beside the time between exits hides nothing, a long one all.
    np.testing.assert_array_equal(told[0.01], true)
    assert (told[1000.0] == last).mean() > 0.99
    # In between an answer is never taken for an earlier one: it is given at that exit's time or later.
    assert (told[1.0] >= true).all()
    assert 0 < (told[1.0] > true).mean() < 1
    if last == 1:  # an answer waits to the end if |N(0, 1)| is 1 or more
        assert (told[1.0] == last)[true == 0].mean() == pytest.approx(0.317, abs=0.06)


def test_a_record_is_delayed_the_same_whenever_it_is_asked_about_and_otherwise_by_another_network():
    architecture = with_exits()
    features = asked_about(3)
    network = answering(build(architecture, seed=3).eval(), None, 1.0)
    oracle, again = of_network(network), of_network(copy.deepcopy(network))
    told = oracle.exits(features)
    order = np.random.default_rng(2).permutation(len(features))
    np.testing.assert_array_equal(oracle.exits(features), told)
    np.testing.assert_array_equal(again.exits(features[order]), told[order])
    with torch.no_grad():
        network.op2_linear.weight += 1e-3  # of the late exit: the same exits answer
    early = of_network(build(architecture, seed=3).eval()).exits(features) == 0
    assert 0.2 < (of_network(network).exits(features) != told)[early].mean() < 0.7


def test_delays_change_no_answer_and_who_looks_inside_sees_the_exit():
    features = asked_about(3)
    plain = build(with_exits(), seed=3).eval()
    oracle, delayed = of_network(plain), of_network(held_back(plain, 16.0))
    np.testing.assert_array_equal(delayed.query(features), oracle.query(features))
    np.testing.assert_array_equal(delayed.activations(features), oracle.activations(features))
    # Prices, errors and files go by the exit itself.
    computed = exits_of(held_back(plain, 16.0), torch.from_numpy(features))
    np.testing.assert_array_equal(computed, oracle.exits(features))
    assert (delayed.exits(features) != oracle.exits(features)).any()


def test_an_exit_without_macs_is_timed_too():
    """Its own time lies before the other's, or a delay would hide nothing that an attacker could see without it."""
    graph = GraphBuilder((2, 2, 2))
    early = graph.flatten(graph.pool(0, "avg", kernel=(2, 2), stride=(2, 2)))
    late = graph.activation(early)
    architecture = replace(graph.architecture("example", {}, (early, late)), exit_threshold=0.6)
    features = asked_about(2, 2, 2)
    network = build(architecture).eval()
    true, told = of_network(network).exits(features), of_network(held_back(network, 0.01)).exits(features)
    assert set(true.tolist()) == {0, 1}
    np.testing.assert_array_equal(told, true)


def test_an_exit_without_a_linear_layer_shows_no_activations():
    graph = GraphBuilder((2, 2, 2))
    early = graph.flatten(graph.pool(0, "avg", kernel=(2, 2), stride=(2, 2)))
    late = graph.linear(graph.flatten(0), 2)
    oracle = of_network(build(graph.architecture("example", {}, (early, late))).eval())
    assert (oracle.activations, of_network(small()[1]).exits) == (None, None)
