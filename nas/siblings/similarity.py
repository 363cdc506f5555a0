"""How alike two networks are to an attacker: the cosine between their gradients at the same records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t
from torch import Tensor

from estimators.estimate import Estimate
from nas.siblings.attack import Losses
from nas.siblings.attack import gradients
from nas.training.loop import BATCH_IN_CACHE


@dataclass(frozen=True)
class Similarity:
    """How far the gradients of two networks point the same way.

    Attributes:
        cosine: Mean over the records, from -1 to 1; 0: nothing in common. The interval is Student's 95 % interval.
        without_gradient: Records at which the first network has no gradient. Where one of the two has none, the cosine
            counts as 0.
    """

    cosine: Estimate
    without_gradient: int


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between two gradients of each record: `(records,)`; 0 where one has no length.

    Args:
        first: `(records, ...)`.
        second: The same shape.

    >>> cosines(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [1.0, 0.0]]))
    tensor([0.9600, 0.0000])
    """
    one, other = (_of_length_one(gradient.flatten(1)) for gradient in (first, second))
    return (one * other).sum(dim=1)


def _of_length_one(rows: Tensor) -> Tensor:
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    is_flat = largest < 100 * torch.finfo(rows.dtype).tiny
    # The largest is 1 first: squares of the gradients that a sure network has would be 0.
    scaled = rows / largest.masked_fill(is_flat, 1.0)
    return scaled / (scaled.square().sum(dim=1, keepdim=True) + is_flat).sqrt()


def similarity(first: Losses, second: Losses, features: Tensor, labels: Tensor) -> Similarity:
    """Compare the gradients of two networks at records.

    Args:
        first: Loss of one.
        second: Loss of the other.
        features: `(records, ...)`.
        labels: `(records,)` true classes.
    """
    parts: list[NDArray[np.float64]] = []
    nothing = 0
    for records, classes in zip(
        torch.split(features, BATCH_IN_CACHE), torch.split(labels, BATCH_IN_CACHE), strict=True
    ):
        pair = [gradients(losses, records, classes) for losses in (first, second)]
        parts.append(cosines(*pair).double().cpu().numpy())
        nothing += int((pair[0].flatten(1).abs().amax(dim=1) == 0).sum())
    return Similarity(mean_interval(np.concatenate(parts)), nothing)


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """Return the mean of cosines with Student's interval, kept between -1 and 1.

    Args:
        values: `(records,)`; a single one has the widest interval.
        confidence: Share of samples whose interval should hold the true mean.
    """
    mean = float(np.clip(values.mean(), -1, 1))
    if len(values) == 1:
        return Estimate(mean, -1.0, 1.0)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0))
