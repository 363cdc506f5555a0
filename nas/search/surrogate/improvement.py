"""The hypervolume that a candidate is expected to add to a front, exactly.

Objectives whose value is known before a training are constants, the others independent Gaussians. The region that no
point of the front dominates, below a reference point, is cut into boxes. In each box the expected volume is a product
over the objectives, so that the whole is a sum of products: nothing is sampled (Emmerich et al., 2011; Yang et al.,
2019). All objectives are lower-is-better.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Numbers = NDArray[np.float64]
BOXES_AT_ONCE = 512
"""Boxes whose volumes are held at once: with 2,000 candidates 8 MiB for each objective."""


def is_front(points: Numbers) -> NDArray[np.bool_]:
    """Tell which points `(points, objectives)` no other dominates; of equal ones the first alone.

    >>> is_front(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]]))
    array([ True,  True, False, False])
    """
    found = np.zeros(len(points), dtype=bool)
    # The first of what is left in lexicographic order is dominated by nothing.
    left = np.lexsort(points.T[::-1])
    while len(left):
        found[left[0]] = True
        left = left[(points[left] < points[left[0]]).any(axis=1)]
    return found


def boxes(front: Numbers, reference: Numbers) -> tuple[Numbers, Numbers]:
    """Cut what a front leaves below a reference point into boxes that do not overlap.

    Args:
        front: `(points, objectives)`.
        reference: `(objectives,)`: the worst that counts.

    Returns:
        Lower and upper corners, each `(boxes, objectives)`; lower ones may be minus infinity.

    >>> lower, upper = boxes(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    >>> lower.tolist(), upper.tolist()
    ([[-inf, -inf], [-inf, 1.0], [-inf, 2.0]], [[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    """
    if front.shape[1] == 1:
        best = min(reference[0], front.min(initial=np.inf))
        return np.array([[-np.inf]]), np.array([[best]])
    below = front[front[:, -1] < reference[-1]]
    below = below[np.argsort(below[:, -1], kind="stable")]
    levels = np.unique(below[:, -1])
    edges = np.concatenate([[-np.inf], levels, reference[-1:]])
    lower, upper = [], []
    for start, end in itertools.pairwise(edges):
        rest = below[below[:, -1] <= start, :-1]
        low, high = boxes(rest[is_front(rest)], reference[:-1])
        lower.append(np.column_stack([low, np.full(len(low), start)]))
        upper.append(np.column_stack([high, np.full(len(high), end)]))
    return np.concatenate(lower), np.concatenate(upper)


def expected_improvement(means: Numbers, deviations: Numbers, front: Numbers, reference: Numbers) -> Numbers:
    """Return the hypervolume that each candidate is expected to add to a front.

    Args:
        means: `(candidates, objectives)`.
        deviations: The same of standard deviations; 0 where a value is known.
        front: `(points, objectives)`.
        reference: `(objectives,)`: the worst that counts.

    Returns:
        `(candidates,)`; higher is better.

    >>> known = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> expected_improvement(known, np.zeros((2, 2)), np.array([[2.0, 1.0]]), np.array([3.0, 3.0]))
    array([2., 0.])
    """
    lower, upper = boxes(front, reference)
    found = np.zeros(len(means))
    for first in range(0, len(lower), BOXES_AT_ONCE):
        part = slice(first, first + BOXES_AT_ONCE)
        volumes = np.ones((len(means), len(lower[part])))
        for of in range(means.shape[1]):
            edges, places = np.unique(np.concatenate([lower[part, of], upper[part, of]]), return_inverse=True)
            below = _below(edges, means[:, of], deviations[:, of])
            starts, ends = np.split(places, 2)
            volumes *= below[:, ends] - below[:, starts]
        found += volumes.sum(axis=1)
    return found


def _below(edges: Numbers, means: Numbers, deviations: Numbers) -> Numbers:
    """Return by how much values lie below edges on average: E max(0, edge - value), `(values, edges)`."""
    distance = edges[None] - means[:, None]
    known = np.maximum(distance, 0.0)
    spread = np.maximum(deviations, 1e-300)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        z = distance / spread
        uncertain = distance * ndtr(z) + spread * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found = np.where(deviations[:, None] > 0, uncertain, known)
    return np.where(np.isneginf(edges)[None], 0.0, found)
