import math

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from torch import nn
from torch.nn import functional

from nas.base import plugins
from nas.spaces import sample
from nas.training.exits import joint_loss
from nas.training.exits import loss_weights
from nas.training.loop import flip_crop
from nas.training.private import FULL
from nas.training.private import Observing
from nas.training.private import clipped_sum
from nas.training.private import gradients_by_record
from nas.training.private import poisson
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.network import build

SPACES = plugins.available("search_spaces", "make_space")
RECORDS, CLASSES = 6, 3
# Weight bits, tensor bits and how ranges come about.
PRECISIONS = [(8, 8, "tracked"), (4, 4, "learned"), (3, 3, "learned"), (2, 2, "tracked"), (1, 1, "tracked")]


def records(seed=0, count=RECORDS):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 1, 8, 8, generator=generator, dtype=torch.float64)
    return features, torch.arange(count) % CLASSES


def ready(architecture, seed=1):
    """A network in double precision, so that no rounding to levels hangs on the order of a sum."""
    network = build(architecture, seed=seed).double().train()
    with torch.no_grad():
        network(records(seed=9, count=16)[0])  # ranges and statistics that are not those of a new network
    return network.eval()


def loss_of(network):
    weights = loss_weights(network.architecture)

    def loss(outputs, targets):
        return joint_loss(outputs, weights, lambda logits: functional.cross_entropy(logits, targets))

    return loss


def one_by_one(network, loss, copies, targets):
    """The gradients as a loop over batches of a single record gives them."""
    found = {name: [] for name, _ in network.named_parameters()}
    for row in range(len(targets)):
        features = torch.stack([copy[row] for copy in copies])
        network.zero_grad(set_to_none=True)
        loss(network(features), targets[row].expand(len(features), *targets[row].shape)).backward()
        for name, parameter in network.named_parameters():
            found[name].append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    return {name: torch.stack(gradients) for name, gradients in found.items()}


def assert_as_one_by_one(network, copies, targets):
    loss = loss_of(network)
    found, expected = (how(network, loss, copies, targets) for how in (gradients_by_record, one_by_one))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max() + 1e-12))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_batches_of_one_in_every_space(space, seed):
    made = plugins.load("search_spaces", space, "make_space")((1, 8, 8), CLASSES)
    network = ready(made.decode(sample(made.distributions, np.random.default_rng(seed))))
    features, targets = records()
    assert_as_one_by_one(network, [features], targets)


def quantized(weight_bits, bits, range):
    graph = GraphBuilder((1, 8, 8), bits=8 if bits < 32 else 32)
    x = graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=weight_bits)
    x = graph.activation(graph.norm(x), bits=bits, range=range)
    x = graph.conv(x, 4, kernel=(1, 1), stride=(2, 2), weight_bits=weight_bits)
    x = graph.activation(graph.norm(graph.depthwise(x, kernel=(3, 3), padding=(1, 1))), bits=bits, range=range)
    x = graph.flatten(graph.pool(x, "avg", kernel=(2, 2), stride=(2, 2)))
    graph.linear(x, CLASSES, bias=True, weight_bits=weight_bits)
    return graph.architecture("example", {})


@pytest.mark.parametrize(("weight_bits", "bits", "range"), PRECISIONS)
def test_gradients_are_those_of_batches_of_one_in_every_precision(weight_bits, bits, range):
    network = ready(quantized(weight_bits, bits, range))
    features, targets = records()
    assert_as_one_by_one(network, [features], targets)
    assert_as_one_by_one(network, [features, features.flip(3), features.roll(1, dims=2)], targets)


@pytest.mark.parametrize("format", ["ternary", "bf16", "fp16"])
def test_gradients_are_those_of_batches_of_one_in_every_format(format):
    network = ready(quantized(format, 8, "tracked"))
    assert_as_one_by_one(network, [records()[0]], records()[1])


def test_gradients_of_a_float_network_are_those_of_opacus():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, CLASSES)).double()
    features, targets = records()
    found = gradients_by_record(network, functional.cross_entropy, [features], targets)
    theirs = GradSampleModule(network, batch_first=True, loss_reduction="sum")
    functional.cross_entropy(theirs(features.clone().requires_grad_()), targets, reduction="sum").backward()
    for name, parameter in theirs._module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad_sample, rtol=1e-5, atol=1e-9)


def test_every_exit_counts():
    graph = GraphBuilder((1, 8, 8))
    x = graph.linear(graph.flatten(0), 5)
    early, late = graph.linear(x, CLASSES), graph.linear(graph.linear(x, 7), CLASSES)
    network = ready(graph.architecture("example", {}, outputs=(early, late)))
    assert_as_one_by_one(network, [records()[0]], records()[1])


@pytest.fixture
def network():
    return ready(quantized(8, 8, "tracked"))


def length(gradients):
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))


def test_no_record_is_longer_than_the_longest(network):
    features, targets = records()
    loss = loss_of(network)
    for longest in (1e-3, 0.1):
        for row in range(RECORDS):
            one = clipped_sum(network, loss, [features[row : row + 1] * 100], targets[row : row + 1], longest)
            assert length(one) <= longest * (1 + 1e-9)
    short = clipped_sum(network, loss, [features[:1]], targets[:1], 1e9)  # what is short enough stays as it is
    expected = one_by_one(network, loss, [features[:1]], targets[:1])
    assert length({name: short[name] - expected[name][0] for name in short}) < 1e-9


@pytest.mark.parametrize("count", [1, 5, FULL, FULL + 3, 70])
def test_the_sum_is_over_the_records_and_no_others(count):
    network = ready(quantized(4, 4, "learned"))  # a learned range is a parameter of no dimension
    features, targets = records(count=count)
    loss, longest = loss_of(network), 0.5
    found = clipped_sum(network, loss, [features], targets, longest)
    each = one_by_one(network, loss, [features], targets)
    lengths = torch.stack([gradient.reshape(count, -1).square().sum(1) for gradient in each.values()]).sum(0).sqrt()
    shares = (longest / lengths).clamp(max=1)
    assert shares.min() < 1  # something is shortened
    for name, gradient in each.items():
        torch.testing.assert_close(found[name], torch.tensordot(shares, gradient, dims=1), rtol=1e-5, atol=1e-9)


def test_no_record_gives_nothing(network):
    features, targets = records()
    assert length(clipped_sum(network, loss_of(network), [features[:0]], targets[:0], 1.0)) == 0


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_no_number_counts_as_zero(value):
    network = ready(quantized(32, 32, "tracked"))  # rounded tensors are finite whatever comes in
    features, targets = records()
    spoilt = features.clone()
    spoilt[2] = value
    loss = loss_of(network)
    kept = torch.tensor([0, 1, 3, 4, 5])
    found = clipped_sum(network, loss, [spoilt], targets, 1.0)
    expected = clipped_sum(network, loss, [features[kept]], targets[kept], 1.0)
    assert length({name: found[name] - expected[name] for name in found}) < 1e-9


def test_poisson_sampling_draws_each_record_alone_and_at_its_rate():
    order = torch.Generator().manual_seed(0)
    steps, count, epochs = 4, 50, 200
    drawn = np.zeros((steps * epochs, count))
    for epoch in range(epochs):
        for step, rows in enumerate(poisson(count, steps, order)):
            drawn[epoch * steps + step, rows.numpy()] = 1
    assert len(drawn) == steps * epochs
    deviation = math.sqrt(0.25 * 0.75 / len(drawn))
    assert np.abs(drawn.mean(axis=0) - 0.25).max() < 5 * deviation
    sizes = drawn.sum(axis=1)
    # Batches of equal size, or of a list that is gone through, do not vary like this, nor from step to step alone.
    assert sizes.var() == pytest.approx(count * 0.25 * 0.75, rel=0.25)
    by_epoch = drawn.reshape(epochs, steps, count).sum(axis=1)
    assert {0, 1, 2} <= set(by_epoch.ravel())


def test_poisson_sampling_may_draw_nobody():
    order = torch.Generator().manual_seed(1)
    assert 0 in [len(rows) for _ in range(40) for rows in poisson(2, 4, order)]


def test_all_are_drawn_where_an_epoch_has_one_step():
    (rows,) = poisson(7, 1, torch.Generator().manual_seed(0))
    assert rows.tolist() == list(range(7))


def test_what_a_network_keeps_follows_noise_and_never_records():
    network = build(quantized(4, 4, "learned"), seed=1).train()
    observing = Observing(network, (1, 8, 8), seed=3)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    quantizers = [module for module in network.modules() if isinstance(module, ActivationQuantizer)]
    assert quantizers
    assert all(bool(quantizer.seen) for quantizer in quantizers)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(float((norm.running_var - 1).abs().max()) > 1e-3 for norm in norms)
    network(1000 * records()[0].float())
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    observing.follow()
    assert any(not torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    assert all(norm.momentum == 0.1 for norm in norms)


def test_dropout_is_left_on_and_differs_from_record_to_record():
    graph = GraphBuilder((1, 8, 8))
    graph.linear(graph.flatten(0), CLASSES)
    network = build(graph.architecture("example", {}), dropout=0.5, seed=0).double().train()
    same = torch.ones(4, 1, 8, 8, dtype=torch.float64)
    found = gradients_by_record(network, loss_of(network), [same], torch.zeros(4, dtype=torch.int64))
    (gradient,) = found.values()
    assert not torch.equal(gradient[0], gradient[1])


def test_copies_that_are_shifted_are_of_the_same_record():
    features, targets = records()
    shifted = flip_crop(features, torch.Generator().manual_seed(0))
    network = ready(quantized(8, 8, "tracked"))
    assert_as_one_by_one(network, [features, shifted], targets)
