"""A network small enough to be compared number by number, and records for it."""

from __future__ import annotations

import numpy as np
import torch

from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build

RECORDS = np.random.default_rng(0).normal(0, 1, (70, 6)).astype(np.float32)


def small(bits=32):
    """A network of two linear layers whose hidden numbers are rounded to `bits` bits, and its description."""
    graph = GraphBuilder((6,))
    x = graph.activation(graph.linear(0, 8, bias=True), "relu", bits=bits)
    graph.linear(x, 3, bias=True, weight_bits=bits)
    architecture = graph.architecture("example", {})
    network = build(architecture, dropout=0.5)
    with torch.no_grad():
        network.train()(torch.from_numpy(RECORDS))
    return architecture, network.eval()


def at_most(network, bits):
    """The same network, what has more bits narrowed to so many whole ones."""
    ops = []
    for op in network.ops:
        changes = {"weight_bits": bits, "weight_format": ""} if op.weight_bits > bits else {}
        changes |= {"bits": bits, "format": ""} if op.bits > bits else {}
        ops.append(op._replace(**changes))
    return network.with_ops(tuple(ops))
