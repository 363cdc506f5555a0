"""Give a network early exits: records that it is sure about leave before the last layer, and the rest is not computed.

An exit reads a tensor of the main path (`search_spaces.graph.exits.places`): its global average where it is a map, a
hidden layer if chosen, then the logits. A record leaves at the first exit whose largest softmax probability reaches the
threshold, else at the last one (Kaya, Hong and Dumitras, 2019, "Shallow-Deep Networks"). A network with fewer places
than exits gets fewer exits. The layers of an exit have 8 bits, or float, as the network's last layer.

Which exit answers shows in the latency, and it tells more of a record than the answer does: `nas audit` attacks by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.exits import classifier
from search_spaces.graph.exits import places
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import HALF
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import precision_of

PLACES = ("even", "early", "late")
PARAMETERS: Mapping[str, tuple[ParamValue, ...]] = {
    "count": (0, 1, 2, 3, 4),
    "place": PLACES,
    "width": (0, 16, 64),
    "threshold": (0.9, 0.5, 0.7, 0.8, 0.95, 0.99),
}


def compress(architecture: Architecture, count: int, place: str, width: int, threshold: float) -> Architecture:
    """Return the network with early exits before its own outputs.

    Args:
        architecture: The network.
        count: Exits to add; fewer where there are fewer places, and 0 leaves the network as it is.
        place: Where they stand, of all places: `even` spreads them, `early` and `late` take the first or last ones.
        width: Features of each exit's hidden layer; 0 for none.
        threshold: Confidence at which an exit answers.

    Raises:
        ValueError: If there is no such way to place exits, or the threshold is not from 0 to 1.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((1, 8, 8))
    >>> x = graph.linear(graph.flatten(graph.conv(graph.conv(0, 4), 8)), 10)
    >>> network = compress(graph.architecture("example", {}), count=1, place="even", width=0, threshold=0.9)
    >>> [op.kind for op in network.ops]
    ['input', 'conv', 'pool', 'flatten', 'linear', 'conv', 'flatten', 'linear']
    >>> network.outputs, network.exit_threshold
    ((4, 7), 0.9)
    """
    if place not in PLACES:
        raise ValueError(f"no place {place!r} of exits; there are {list(PLACES)}")
    chosen = _chosen(places(architecture), count, place)
    if not chosen:
        return architecture
    graph = GraphBuilder(architecture.input_shape)
    weights = _precision(architecture)
    moved = [0]
    graph.ops[0] = architecture.ops[0]
    exits = []
    for index, op in enumerate(architecture.ops[1:], start=1):
        graph.ops.append(op._replace(inputs=tuple(moved[source] for source in op.inputs)))
        moved.append(len(graph.ops) - 1)
        if index in chosen:
            exits.append(_exit(graph, moved[index], width, architecture.num_classes, weights))
    outputs = sorted([*exits, *(moved[index] for index in architecture.outputs)])
    found = architecture.with_ops(tuple(graph.ops), tuple(outputs))
    return replace(found, exit_threshold=threshold)


def _chosen(there_are: Sequence[int], count: int, place: str) -> set[int]:
    count = min(count, len(there_are))
    if place == "early":
        return set(there_are[:count])
    if place == "late":
        return set(there_are[len(there_are) - count :])
    steps = len(there_are) + 1
    return {there_are[(number + 1) * steps // (count + 1) - 1] for number in range(count)}


def _precision(architecture: Architecture) -> Precision:
    """Return the precision of an exit's layers: 8 bits, or what the network's last layer has where that is wider."""
    index = classifier(architecture, architecture.outputs[-1])
    if index is None:
        return FLOAT
    last = architecture.ops[index]
    return precision_of(last.weight_bits, last.weight_format) if last.weight_bits >= HALF else 8


def _exit(graph: GraphBuilder, source: int, width: int, classes: int, weights: Precision) -> int:
    """Write an exit behind a tensor and return the operator that gives its logits."""
    x, shape = source, graph.ops[source].shape
    if shape[1:] and shape[1:] != (1, 1):
        window = (shape[1], shape[2])
        x = graph.pool(x, "avg", kernel=window, stride=window)
    if len(shape) > 1:
        x = graph.flatten(x)
    if width:
        x = graph.linear(x, width, bias=True, weight_bits=weights)
        x = graph.activation(x, bits=weights)
    return graph.linear(x, classes, bias=True, weight_bits=weights)
