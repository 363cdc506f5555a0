"""Remove whole channels of every layer: the network that is left is a smaller one, fast on any engine.

The network is trained in its full width. Then the channels whose filters have the smallest mean magnitude are removed
(Li et al., 2017, "Pruning Filters for Efficient ConvNets"), and what is left is trained further, unless the recipe's
`pruning` is `one_shot`. Layers whose channels are added to each other, or filtered one by one, lose the same ones.
Records, logits and the channels of grouped convolutions stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.narrowing import narrowed

PARAMETERS: Mapping[str, tuple[ParamValue, ...]] = {"kept": (1.0, 0.75, 0.5, 0.25)}


def compress(architecture: Architecture, kept: float) -> Architecture:
    """Return the network with a share of the channels of each layer, one at least.

    Args:
        architecture: The network as it is trained first.
        kept: Share of the channels that stay, above 0; 1 leaves the network as it is.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((1, 8, 8))
    >>> x = graph.linear(graph.flatten(graph.conv(0, 8)), 10)
    >>> [op.shape for op in compress(graph.architecture("example", {}), kept=0.25).ops]
    [(1, 8, 8), (2, 8, 8), (128,), (10,)]
    """
    return narrowed(architecture, kept)
