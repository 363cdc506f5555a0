"""Give all weights of a layer a few values in common, and store each as the number of its value.

After training, and after weights were set to zero, the weights of each layer are divided by k-means into 2^width
groups, and each becomes the mean of its group (Han et al., 2016, "Deep Compression"). Zeros of a sparse layer stay.
Layers in float are shared; layers of fewer bits have few values already. Nothing is computed faster. A device's flash
shrinks only where its file says that the engine looks values up.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT

PARAMETERS: Mapping[str, tuple[ParamValue, ...]] = {"width": (FLOAT, 8, 4, 3, 2)}


def compress(architecture: Architecture, width: int) -> Architecture:
    """Return the network with the weights of its layers in float as numbers of shared values.

    Args:
        architecture: The network.
        width: Bits of the number of a value; 32 leaves the network as it is.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> x = graph.linear(graph.linear(0, 4), 10, weight_bits=8)
    >>> [op.shared_bits for op in compress(graph.architecture("example", {}), 4).ops]
    [0, 4, 0]
    """
    if width == FLOAT:
        return architecture
    return architecture.with_ops(
        tuple(
            op._replace(shared_bits=width) if op.kind in WEIGHTED and op.weight_bits == FLOAT else op
            for op in architecture.ops
        )
    )
