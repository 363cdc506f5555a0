"""Networks that tests of what is written from a network share."""

import torch
from torch import nn

from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build


def normal(*shape, seed=0):
    """Normal numbers of a shape, the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(architecture, records=None):
    """A network whose norms have learned something, tiny variances included, with its quantisers set by records."""
    network = build(architecture)
    for seed, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data = normal(module.num_features, seed=seed) + 0.5
            module.bias.data = normal(module.num_features, seed=seed + 1) * 0.3
    if records is not None:
        with torch.no_grad():
            network.train()(records)
    for seed, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean = normal(module.num_features, seed=seed) * 0.1
            module.running_var = torch.full_like(module.running_var, 0.5)
            module.running_var[0] = 1e-6  # far below eps: a norm without it is three times as steep
            module.weight.data[0] = 0.005
    return network.eval()


def written(write, shape=(2, 6, 6), bits=32):
    """The graph that a function writes."""
    graph = GraphBuilder(shape, bits=bits)
    write(graph)
    return graph.architecture("example", {})


def everything(graph):
    """Every kind of operator; windows, strides and paddings that differ between the axes."""
    x = graph.conv(0, 4, kernel=(3, 2), stride=(1, 2), padding=(1, 0), groups=2, bias=True)
    x = graph.activation(graph.norm(x), "relu6")
    y = graph.activation(graph.norm(graph.depthwise(x, kernel=(3, 3), padding=(1, 1), bias=True)), "hardswish")
    y = graph.add(y, graph.zero(graph.activation(graph.norm(graph.conv(x, 4)), "tanh")))
    x = graph.activation(graph.add(x, y), "relu")
    x = graph.concat(x, graph.pool(x, "max", kernel=(3, 3), stride=(1, 1), padding=(1, 1)))
    x = graph.norm(graph.pool(x, "avg", kernel=(3, 2), stride=(1, 1), padding=(1, 0)))
    _, height, width = graph.ops[x].shape
    factors = graph.conv(graph.pool(x, "max", kernel=(height, width), stride=(height, width)), 8, bias=True)
    x = graph.scale(x, graph.activation(factors, "hardsigmoid"))
    x = graph.activation(graph.norm(graph.linear(graph.flatten(x), 12)), "identity")
    graph.linear(graph.activation(x, "relu"), 5, bias=True)


def alive(architecture, records):
    """A network whose norms and quantisers fit these records, so that few of its numbers are zero for all of them."""
    network = build(architecture)
    for seed, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data = normal(module.num_features, seed=seed) + 0.5
            module.bias.data = normal(module.num_features, seed=seed + 1) * 0.3
            module.momentum = 1.0
    with torch.no_grad():
        for _ in range(2):  # a second time, behind norms and quantisers that have seen the records
            network.train()(records)
    return network.eval()
