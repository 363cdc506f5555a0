"""Channels that contribute nothing can be cut out: the narrow network answers as the wide one."""

import pytest
import torch

from nas.training.narrow import narrow_weights
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.narrowing import narrowed
from search_spaces.network import build


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wide(bits=32):
    graph = GraphBuilder((3, 6, 6), bits=32 if bits == 32 else 8)
    stem = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3), padding=(1, 1), weight_bits=bits)), bits=bits)
    inner = graph.depthwise(stem, kernel=(3, 3), padding=(1, 1), weight_bits=bits)
    inner = graph.norm(graph.conv(graph.activation(graph.norm(inner), bits=bits), 8, weight_bits=bits))
    block = graph.activation(graph.add(inner, stem), bits=bits)
    both = graph.concat(block, graph.conv(block, 4, weight_bits=bits))
    hidden = graph.activation(graph.linear(graph.flatten(both), 6, bias=True, weight_bits=bits))
    graph.linear(hidden, 5, bias=True, weight_bits=bits)
    return graph.architecture("example", {})


def silenced(network, index, kind, channels, norm):
    """Take from channels all that they say: their filters, and what their norm adds."""
    with torch.no_grad():
        network.get_parameter(f"op{index}_{kind}.weight")[channels] = 0
        if norm is None:
            bias = getattr(network.get_submodule(f"op{index}_{kind}"), "bias", None)
            if bias is not None:
                bias[channels] = 0
        else:
            network.get_parameter(f"op{norm}_norm.bias")[channels] = 0


@pytest.mark.parametrize("bits", [32, 8, 3])
def test_silent_channels_are_the_ones_that_go(bits):
    architecture = wide(bits)
    assert [op.kind for op in architecture.ops[:8]] == [
        "input",
        "conv",
        "norm",
        "activation",
        "depthwise",
        "norm",
        "activation",
        "conv",
    ]
    network = build(architecture, seed=1).train()
    silent = [0, 3, 4, 6]
    silenced(network, 1, "conv", silent, norm=2)
    silenced(network, 4, "depthwise", silent, norm=5)
    silenced(network, 7, "conv", silent, norm=8)
    silenced(network, 11, "conv", [1, 2], norm=None)
    silenced(network, 14, "linear", [0, 2, 5], norm=None)
    network(normal(32, 3, 6, 6, seed=5))  # ranges and norms see records
    network.eval()
    small = narrowed(architecture, 0.5)
    cut = build(small)
    cut.load_state_dict(narrow_weights(small, network.state_dict()))
    records = normal(16, 3, 6, 6, seed=9)
    # With few bits, a sum in another order may fall to the other side of a rounding's border.
    close = {"rtol": 1e-4, "atol": 1e-5} if bits == 32 else {"rtol": 0, "atol": 0.01 * network(records).std().item()}
    torch.testing.assert_close(cut.eval()(records), network(records), **close)
