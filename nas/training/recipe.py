"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

OPTIMIZERS = ("adamw", "sgd")


AUGMENTATIONS = ("none", "flip-crop")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the members.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Decoupled weight decay (AdamW) or L2 penalty (SGD).
        dropout: Share of features dropped before the last layer.
        label_smoothing: Share of the target spread over all classes; has no effect on soft targets.
        batch_size: Records in one step; batches are evened out so that none holds a single record, which batch norms
            cannot learn from.
        optimizer: One of `OPTIMIZERS`.
        augment: One of `AUGMENTATIONS`; the second needs images, of more than one row: signals are none.

    Raises:
        ValueError: If a number is out of range or a name unknown.
    """

    epochs: int = 30
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    dropout: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 64
    optimizer: str = "adamw"
    augment: str = "none"

    def __post_init__(self) -> None:
        in_range = 0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf  # false for NaN
        if self.epochs < 1 or self.batch_size < 2 or not in_range:
            raise ValueError(f"expected epochs >= 1, batch_size >= 2, learning_rate > 0, weight_decay >= 0; got {self}")
        if not 0 <= self.dropout < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"expected dropout and label_smoothing in [0, 1); got {self.dropout} and {self.label_smoothing}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"no optimizer {self.optimizer!r}; there are {list(OPTIMIZERS)}")
        if self.augment not in AUGMENTATIONS:
            raise ValueError(f"no augmentation {self.augment!r}; there are {list(AUGMENTATIONS)}")
