"""Which record goes into which set: whole clusters, class by class, by chance.

Works on labels and cluster numbers alone; `nas.records.split` gives the result its meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

LEAST = 2
"""Fewest records of each class in each set."""
ENOUGH = 1000
"""Records that make a validation set large enough however few the members: an error of 10 % is then known to within
two points."""


def clusters_of(features: NDArray[Any], *ties: NDArray[Any] | None) -> Ints:
    """Number the clusters, `(records,)`: records that are equal or tied, and all that hang together by them.

    Args:
        features: `(records, ...)`.
        ties: Each `(records,)`, equal for records that belong together, such as those of one person; or None.

    >>> clusters_of(np.array([[1.0], [2.0], [1.0], [3.0], [4.0]]), np.array(["a", "b", "c", "b", "d"])).tolist()
    [0, 1, 0, 1, 2]
    """
    first: dict[bytes, int] = {}
    # Adding 0 turns -0.0 into 0.0: equal features have equal bytes then.
    digests = (hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest() for row in features)
    edges = [np.array([first.setdefault(digest, row) for row, digest in enumerate(digests)])]
    for tie in ties:
        if tie is not None:
            _, start, group = np.unique(tie, return_index=True, return_inverse=True)
            edges.append(start[group])
    count = len(features)
    ends = (np.tile(np.arange(count), len(edges)), np.concatenate(edges))
    graph = scipy.sparse.coo_array((np.ones(ends[0].size, dtype=np.int8), ends), shape=(count, count))
    return np.asarray(scipy.sparse.csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)


def assign(
    clusters: Ints, labels: Ints, *, members: int | None, official: bool, rng: np.random.Generator
) -> list[Ints]:
    """Choose the rows of members, non-members, validation, reserve and test, each in random order.

    Args:
        clusters: `(records,)`; records of one cluster go into one set or into none.
        labels: `(records,)`; every class that occurs has at least `LEAST` records for each set.
        members: Exact number of members and of non-members. None: shares of all records.
        official: The test set exists already: choose the first four only.
        rng: Where chance comes from.

    Raises:
        ValueError: If that many members leave too little for the other sets, or clusters cannot be parted.
    """
    counts = np.bincount(labels)
    others = 2 if official else 3
    least = int(np.count_nonzero(counts)) * LEAST
    largest = int((np.maximum(counts - others * LEAST, 0) // 2).sum())
    if members is not None and not least <= members <= largest:
        raise ValueError(f"expected from {least} to {largest} members, so that five sets can be filled; got {members}")
    target = members or min(max(int((0.375 if official else 0.3) * labels.size), least), largest)
    best = -1
    while True:
        targets = _targets(counts, target, capped=members is not None, official=official)
        placed = [rng.permutation(rows) for rows in _place(clusters, labels, targets, rng)[:-1]]
        both = np.minimum(*(np.bincount(labels[rows], minlength=counts.size) for rows in placed[:2]))
        best = max(best, int(both.sum()))
        if members is None or both.sum() >= members:
            break
        if target == largest:
            raise ValueError(
                f"expected fewer than {members} members: groups and equal records cannot be parted; "
                f"with these {best} were reached"
            )
        # Clusters do not divide evenly: aim higher, and leave the surplus out.
        target = min(target + members - int(both.sum()), largest)
    keep = both if members is None else _apportion(members, both, np.zeros_like(both), both)
    return [rng.permutation(_first(rows, labels, keep)) for rows in placed[:2]] + placed[2:]


def _targets(counts: Ints, members: int, *, capped: bool, official: bool) -> Ints:
    """Share out the records of each class: `(sets + 1, classes)`, the last row without a role."""
    least = np.where(counts > 0, LEAST, 0)
    shares = (1, 1) if official else (1, 1, 2)
    pair = _apportion(members, counts, least, (counts - len(shares) * least) // 2)
    left = counts - 2 * pair
    rows, rest = [pair, pair], int(left.sum())
    enough = max(members // 2, ENOUGH) if capped else rest
    for place, share in enumerate(shares, start=1):
        most = left - (len(shares) - place) * least
        size = min(share * enough, share * rest // sum(shares))
        rows.append(_apportion(int(np.clip(size, least.sum(), most.sum())), left, least, most))
        left = left - rows[-1]
    return np.stack([*rows, left])


def _apportion(size: int, weights: Ints, least: Ints, most: Ints) -> Ints:
    """Divide `size` in whole numbers, as near to the weights as the limits of each part allow.

    >>> _apportion(10, np.array([50, 30, 4]), np.array([2, 2, 2]), np.array([9, 9, 9])).tolist()
    [5, 3, 2]
    """
    ideal = size * weights / max(int(weights.sum()), 1)
    parts = np.clip(np.floor(ideal).astype(np.int64), least, most)
    while gap := size - int(parts.sum()):
        step = 1 if gap > 0 else -1
        free = parts < most if gap > 0 else parts > least
        parts[np.argmax(np.where(free, step * (ideal - parts), -np.inf))] += step
    return parts


def _place(clusters: Ints, labels: Ints, targets: Ints, rng: np.random.Generator) -> list[Ints]:
    """Put whole clusters into sets, the largest first, then fill up class by class with records that stand alone."""
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    alone = sizes[cluster] == 1
    pieces = _pieces(cluster, sizes, alone, rng)
    histograms = [np.bincount(labels[piece], minlength=targets.shape[1]) for piece in pieces]
    chosen, wanted = _choose(histograms, np.bincount(labels[alone], minlength=targets.shape[1]), targets)
    rows = [[piece for piece, place in zip(pieces, chosen, strict=True) if place == row] for row in range(len(targets))]
    for label in range(targets.shape[1]):
        singles = rng.permutation(np.flatnonzero(alone & (labels == label)))
        for parts, part in zip([*rows, *rows], _shared(singles, wanted[:, label]), strict=True):
            parts.append(part)
    return [np.concatenate(parts) for parts in rows]


def _choose(histograms: Sequence[Ints], singles: Ints, targets: Ints) -> tuple[list[int], Ints]:
    """Choose a set for each cluster, given its records of each class: the sets, and what each still wants."""
    wanted, chosen = targets.copy(), list[int]()
    lacking = np.repeat([[True]] * (len(targets) - 1) + [[False]], targets.shape[1], axis=1)
    left = singles + sum((histogram > 0).astype(np.int64) for histogram in histograms)
    for histogram in histograms:
        # Growth of the squared distance from the target, relative to the target.
        cost = ((histogram**2 - 2 * histogram * wanted) / np.maximum(targets, 1)).sum(axis=1)
        # Few large clusters suit the large sets best; where they get scarce, a set without the class comes first.
        scarce = (histogram > 0) & (left <= lacking.sum(axis=0))
        needs = lacking[:, scarce].sum(axis=1)
        place = int(np.lexsort((cost, -needs))[0])
        chosen.append(place)
        wanted[place] -= histogram
        lacking[place] &= histogram == 0
        left -= histogram > 0
    return chosen, wanted


def _shared(singles: Ints, wanted: Ints) -> list[Ints]:
    """Cut the records of a class into two parts for each set: the least it needs, then what it still wants.

    Large clusters may leave fewer than wanted; the last sets go short, but not below the least.
    """
    wanted = np.maximum(wanted, 0)
    least = np.minimum(wanted, LEAST)
    least[-1] = 0
    ends = np.minimum(np.cumsum([*least, *(wanted - least)]), singles.size)
    return np.split(singles, ends)[:-1]


def _pieces(cluster: Ints, sizes: Ints, alone: NDArray[np.bool_], rng: np.random.Generator) -> list[Ints]:
    """Return the rows of each cluster of two and more, the largest first, equals in random order."""
    together = np.flatnonzero(~alone)
    together = together[np.argsort(cluster[together], kind="stable")]
    pieces = np.split(together, np.cumsum(sizes[sizes > 1])[:-1]) if together.size else []
    return sorted((pieces[index] for index in rng.permutation(len(pieces))), key=len, reverse=True)


def _first(rows: Ints, labels: Ints, keep: Ints) -> Ints:
    """Keep the first rows of each class."""
    return np.concatenate([rows[labels[rows] == label][:count] for label, count in enumerate(keep)])
