"""A file in integers computes its network with the file's biases, and only those."""

import numpy as np
import pytest
import torch

from nas.deploy import judging
from nas.deploy.as_written import as_written
from nas.deploy.as_written import is_all_trained
from nas.deploy.onnx_file import to_onnx
from nas.spaces import as_run
from nas.spaces import sample
from nas.spaces import space_named
from nas.training.loop import logits_of
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.integers import in_integers
from search_spaces.network import build

RECORDS = torch.randn((64, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def trained(architecture, seed=0):
    """A network with ranges, as training leaves it: batch norms and quantisers have seen records."""
    network = build(architecture, seed=seed)
    network(RECORDS)
    return network.eval()


def in_eight_bits():
    space = as_run(space_named("conv", (1, 8, 8), 10), 8)
    rng = np.random.default_rng(3)
    return [space.decode(sample(space.distributions, rng)) for _ in range(4)]


@pytest.mark.parametrize("architecture", in_eight_bits(), ids=lambda architecture: architecture.key)
def test_a_file_computes_its_network_with_its_biases(architecture):
    network = trained(architecture)
    assert is_all_trained(architecture, network, "int8")
    model = to_onnx(architecture, network, "int8", RECORDS)
    found = judging.exactness(model, as_written(model, architecture, network), RECORDS)
    assert found.agreement == 1
    assert found.steps < 0.1
    plain = judging.exactness(model, network, RECORDS)
    assert plain.steps > found.steps
    # What it was given is as it was.
    assert torch.equal(
        torch.from_numpy(logits_of(network, RECORDS)), torch.from_numpy(logits_of(trained(architecture), RECORDS))
    )


def test_the_biases_are_whole_steps_by_hand():
    graph = GraphBuilder((2,))
    graph.linear(0, 2, bias=True)
    architecture = in_integers(graph.architecture("example", {}), 8)
    network = trained_linear(architecture)
    model = to_onnx(architecture, network, "int8", torch.ones(1, 2))
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    step = np.frombuffer(held["op1_linear_bias_scale"].raw_data, np.float32)
    bias = as_written(model, architecture, network).op1_linear.bias.detach().numpy()
    np.testing.assert_allclose(bias / step, np.rint(bias / step), atol=1e-3)
    assert np.abs(bias - network.op1_linear.bias.detach().numpy()).max() <= 0.5 * step.max() * 1.001


def trained_linear(architecture):
    network = build(architecture, seed=0)
    network(torch.randn((64, 2), generator=torch.Generator().manual_seed(0)))
    return network.eval()


def test_a_network_that_leaves_tensors_in_float_is_rounded_more_by_its_file():
    space = space_named("conv", (1, 8, 8), 10)
    architecture = space.decode(space.reference)
    network = trained(architecture)
    assert not is_all_trained(architecture, network, "int8")
    assert is_all_trained(architecture, network, "float32")
