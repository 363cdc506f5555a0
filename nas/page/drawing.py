"""A network as a few numbers, from which the page draws it."""

from __future__ import annotations

from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import WEIGHTED

MOST_BOXES = 48
"""So many layers of a network are drawn; of more, the page says how many are left out."""
JOINING = ("add", "concat")
DRAWN = (*WEIGHTED, "pool", *JOINING)


def drawing_of(architecture: Architecture) -> dict[str, Any]:
    """Return what the page needs to draw a network.

    Returns:
        `boxes`: for each layer its type, the channels and the height of its output, bits of its weights (0 without),
        bits of what it reads, and its zeros in percent. `skips`: pairs of boxes that an edge joins across others.
        `exits`: boxes that early exits answer after. `more`: layers that are not among the boxes.

    >>> from search_spaces.mlp import make_space
    >>> space = make_space((64,), 10)
    >>> drawing_of(space.decode(space.reference))["boxes"]
    [['linear', 64, 1, 32, 32, 0], ['linear', 10, 1, 32, 32, 0]]
    """
    boxes: list[list[Any]] = []
    skips: list[list[int]] = []
    box_of: dict[int, int] = {}
    for kernel in architecture.kernels:
        sources = [box_of.get(index, -1) for index in kernel.inputs]
        anchor = architecture.ops[kernel.ops[0]]
        if anchor.kind in DRAWN:
            place, shape = len(boxes), architecture.ops[kernel.output].shape
            side = shape[1] if len(shape) > 1 else 1
            bits = kernel.weight_bits if kernel.weights else 0
            boxes.append([kernel.kind, shape[0], side, bits, kernel.input_bits, round(100 * kernel.sparsity)])
            skips += [[source, place] for source in sources if 0 <= source < place - 1]
        else:
            place = max(sources, default=-1)
        box_of[kernel.output] = place
    early = [box_of.get(index, -1) for index in architecture.outputs[:-1]]
    return {
        "boxes": boxes[:MOST_BOXES],
        "skips": [pair for pair in skips if max(pair) < MOST_BOXES],
        "exits": [place for place in early if 0 <= place < MOST_BOXES],
        "more": max(0, len(boxes) - MOST_BOXES),
    }
