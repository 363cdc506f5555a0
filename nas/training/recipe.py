"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
from typing import Any

OPTIMIZERS = ("adamw", "sgd")


AUGMENTATIONS = ("none", "flip-crop")
CLASS_WEIGHTS = ("none", "balanced")
PRUNINGS = ("retrained", "one_shot", "dynamic", "safecompress")
ZEROS_MOVE = ("dynamic", "safecompress")
"""Prunings of which the zeros are there from the start, and move."""
QUANTIZATIONS = ("trained", "afterwards")


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
        class_weights: One of `CLASS_WEIGHTS`: whether each record counts the same in the loss, or each class.
        pruning: One of `PRUNINGS`: whether a network that loses weights or channels is trained further for half as many
            epochs, is left as it is then, or has its zeros from the start and moves them: `dynamic` by their gradients
            (`nas.training.sparse`), `safecompress` in the one of several ways that a simulated attacker finds safest
            (`nas.training.safecompress`).
        quantization: One of `QUANTIZATIONS`: whether a network of few bits is trained in them, or trained in float and
            rounded.

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
    class_weights: str = "none"
    pruning: str = "retrained"
    quantization: str = "trained"

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
        if self.class_weights not in CLASS_WEIGHTS:
            raise ValueError(f"no class weights {self.class_weights!r}; there are {list(CLASS_WEIGHTS)}")
        if self.pruning not in PRUNINGS:
            raise ValueError(f"no pruning {self.pruning!r}; there are {list(PRUNINGS)}")
        if self.quantization not in QUANTIZATIONS:
            raise ValueError(f"no quantization {self.quantization!r}; there are {list(QUANTIZATIONS)}")

    @property
    def identity(self) -> dict[str, Any]:
        """What enters the keys of candidates, references and teachers.

        A setting that a later version added is left out at its default, so that no earlier key changes.
        """
        added = {"class_weights", "pruning", "quantization"}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name not in added or value != defaults[name]}
