"""Transforms of a skewed number: what bends its scale before it is standardised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import ConfigDict

TRANSFORMS = ("none", "log", "quantile")
KNOTS = 64
"""Most points of a quantile transform."""


@dataclass(frozen=True, slots=True)
class Transform:
    """What bends the scale of one number, by constants of the members.

    Attributes:
        name: `log`: sign(x) log(1 + |x| / scale). `quantile`: linear between the knots, constant beyond them.
        scale: Of `log`: the median absolute value of the members, in the unit of the number.
        knots: Of `quantile`: values of the number, rising.
        heights: Of `quantile`: what they become, of a standard normal distribution.

    Raises:
        ValueError: If the constants are none of the transform.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    scale: float = 1.0
    knots: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in TRANSFORMS[1:]:
            raise ValueError(f"no transform {self.name!r}; there are {list(TRANSFORMS[1:])}")
        rising = all(low < high for low, high in zip(self.knots, self.knots[1:], strict=False))
        if not (self.scale > 0 and rising and len(self.knots) == len(self.heights)):
            raise ValueError(f"expected a positive scale, rising knots and as many heights; got {self}")
        if (self.name == "quantile") != bool(self.knots):
            raise ValueError(f"expected knots of a quantile transform and of nothing else; got {self}")

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return numbers `(records,)` on the bent scale; NaN stays NaN.

        >>> Transform("log", scale=2.0).apply(np.array([0.0, 2.0, -2.0])).round(3).tolist()
        [0.0, 0.693, -0.693]
        """
        values = np.asarray(values, dtype=np.float64)
        if self.name == "log":
            return np.asarray(np.sign(values) * np.log1p(np.abs(values) / self.scale))
        return np.asarray(np.interp(values, self.knots, self.heights))


def fit_transform(values: NDArray[Any], name: str) -> Transform | None:
    """Return the transform of one number that suits the members; None where there is nothing to bend.

    Args:
        values: `(members,)`, NaN where the number is missing.
        name: One of `TRANSFORMS`.
    """
    known = values[~np.isnan(values)].astype(np.float64)
    if name == "none" or np.unique(known).size < 3:
        return None
    if name == "log":
        sizes = np.abs(known)
        # More than half may be 0: the others say then what is large.
        return Transform("log", scale=float(np.median(sizes) or np.median(sizes[sizes > 0])))
    shares = np.linspace(0, 1, KNOTS)
    knots, which = np.unique(np.quantile(known, shares), return_inverse=True)
    # Equal values have the middle of their shares. The ends would be at infinity.
    middle = np.bincount(which, weights=shares) / np.bincount(which)
    heights = scipy.special.ndtri(np.clip(middle, 0.5 / KNOTS, 1 - 0.5 / KNOTS))
    return Transform("quantile", knots=tuple(knots.tolist()), heights=tuple(heights.tolist()))


def skewness(values: NDArray[Any]) -> float:
    """Return the third moment of the standardised numbers, NaN left out: 0 if they are symmetric or all equal.

    >>> round(skewness(np.array([0.0, 0.0, 0.0, 4.0, np.nan])), 6)
    1.154701
    """
    known = values[~np.isnan(values)].astype(np.float64)
    deviation = known.std() if known.size else 0.0
    return float((((known - known.mean()) / deviation) ** 3).mean()) if deviation > 0 else 0.0
