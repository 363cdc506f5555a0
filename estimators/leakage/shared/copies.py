"""Changed copies of records, for attacks that query a network with them and read only the predicted class.

A change is the same for every record: drawn from a fixed seed, not from the records, so that neither their order nor
their number alters a score. Images are `(records, channels, height, width)`, anything else counts as columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Oracle


def is_right(oracle: Oracle, features: Floats, labels: Labels) -> Mask:
    """Ask once for each record whether the predicted class is the true one. Only its index is read.

    Args:
        oracle: Who is asked.
        features: `(records, ...)`.
        labels: `(records,)`, true classes.
    """
    return np.asarray(oracle.query(features).argmax(axis=1) == labels)


def shift(images: Floats, down: int, right: int) -> Floats:
    """Move images by whole pixels; what enters at a border repeats the border.

    Args:
        images: `(..., height, width)`.
        down: Pixels; negative is up.
        right: Pixels; negative is left.

    >>> shift(np.array([[1.0, 2.0], [3.0, 4.0]]), 1, 0).tolist(), shift(np.array([[1.0, 2.0]]), 0, -1).tolist()
    ([[1.0, 2.0], [1.0, 2.0]], [[2.0, 2.0]])
    """
    height, width = images.shape[-2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(images[..., rows[:, None], columns])


def moved(images: Floats, distances: Sequence[int]) -> Iterator[Floats]:
    """Give the mirror images, and the images moved by each distance: down, up and to both sides.

    Signals along time, images of height 1, are moved along time alone, by twice as many distances.

    Args:
        images: `(..., height, width)`.
        distances: In pixels, or steps in time; a signal is moved by these and by as many further ones.

    >>> [copy.tolist() for copy in moved(np.array([[1.0, 2.0, 3.0]]), [1])]
    [[[3.0, 2.0, 1.0]], [[2.0, 3.0, 3.0]], [[1.0, 1.0, 2.0]], [[3.0, 3.0, 3.0]], [[1.0, 1.0, 1.0]]]
    """
    yield np.ascontiguousarray(images[..., ::-1])
    if images.shape[-2] == 1:
        further = [distance + max(distances) for distance in distances]
        steps = [(0, sign * distance) for distance in (*distances, *further) for sign in (-1, 1)]
    else:
        steps = [(sign * d * axis, sign * d * (1 - axis)) for d in distances for axis in (0, 1) for sign in (-1, 1)]
    for down, right in steps:
        yield shift(images, down, right)


def bit_columns(features: Floats) -> Mask:
    """Tell which columns, of `features.shape[1:]`, hold two values at most, as standardised bits do; none of images.

    >>> bit_columns(np.array([[0.5, -1.0, 7.0], [0.1, 2.0, 7.0], [0.2, 2.0, 7.0]])).tolist()
    [False, True, True]
    """
    if features.ndim == 4:
        return np.zeros(features.shape[1:], np.bool_)
    return np.asarray(((features == features.min(axis=0)) | (features == features.max(axis=0))).all(axis=0))


def perturb(
    features: Floats, deviation: float, share: float | NDArray[np.float64], bits: Mask, generator: np.random.Generator
) -> Floats:
    """Add noise to a random share of the columns, and turn over bits there, in all records alike.

    Args:
        features: `(records, ...)`; a copy is returned.
        deviation: Standard deviation of the normal noise, in the features' units; standardised ones have units of 1.
        share: Of the columns, how many are changed on average, or the chance of each column; 1 changes all.
        bits: `features.shape[1:]`, from `bit_columns`: there one value becomes the column's other one, without noise.
        generator: Advances by the same numbers whatever the records are.

    >>> bits, generator = np.array([True, True]), np.random.default_rng(0)
    >>> perturb(np.array([[0.0, -1.0], [3.0, 2.0]]), 9.0, 1.0, bits, generator).tolist()
    [[3.0, 2.0], [0.0, -1.0]]
    """
    chosen = generator.random(bits.shape) < share
    noise = generator.normal(0.0, deviation, bits.shape)
    copies = features + np.where(chosen, noise, 0.0).astype(features.dtype)
    turned = chosen & bits  # and overwritten, noise and all
    values = features[:, turned]
    low, high = values.min(axis=0), values.max(axis=0)
    copies[:, turned] = np.where(values == low, high, low)
    return np.asarray(copies)
