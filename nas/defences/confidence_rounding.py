"""Confidence rounding: the deployed network says its class and coarse confidences; it is trained as ever.

A mask: it changes what is shown, not what the network remembers. Attacks that read confidences lose what was rounded
away; attacks that read the predicted class alone (`label_noise`, `label_augment`, `label_boundary`, `gap`) find what
they found before (Choquette-Choo et al., 2021). It is here so that an audit can show this; do not count it as privacy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.loop import TrainSetup

PARAMETERS = {"digits": [3, 2, 1, 0]}
"""`digits` after the point that are shown of each confidence; 0 shows the class alone."""
MOST_DIGITS = 3
# Confidences within this part of a level above it count as that level: float32 does not tell them apart.
SLACK = 1e-3
NOTHING = float(np.finfo(np.float32).tiny)


def check(digits: int) -> None:
    """Refuse digits that float32 confidences do not have.

    Raises:
        ValueError: If there are none or more than `MOST_DIGITS`.
    """
    if not 0 <= digits <= MOST_DIGITS:
        raise ValueError(f"expected confidence_rounding.digits from 0 to {MOST_DIGITS}; got {digits}")


def defend(setup: TrainSetup, _teach: Teach, digits: int) -> TrainSetup:  # noqa: ARG001 - read by `answers`
    """Return the set-up as it is: the answers that `answers` makes are all there is."""
    return setup


def answers(digits: int) -> nn.Module:
    """Return what the deployed network's logits pass through."""
    return RoundedConfidences(digits)


class RoundedConfidences(nn.Module):
    """Logits `(records, classes)` to the logarithms of confidences rounded to so many digits.

    Confidences are rounded down to a level below, and what is left goes to the predicted class: they still sum to 1,
    and the predicted class stays, which rounding to the nearest does not promise. A confidence of 0 becomes the
    smallest normal float32, as in an exported file.

    >>> rounded = RoundedConfidences(1)(torch.tensor([[0.62, 0.27, 0.11]]).log()).exp()
    >>> [round(confidence, 3) for confidence in rounded[0].tolist()]
    [0.7, 0.2, 0.1]
    """

    def __init__(self, digits: int) -> None:
        super().__init__()
        self.levels = float(10**digits)

    def forward(self, logits: Tensor) -> Tensor:
        """Return the answers `(records, classes)`."""
        is_top = functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
        counts = (torch.ceil(logits.softmax(dim=1) * self.levels - SLACK) - 1).clamp(min=0) * (1 - is_top)
        counts = counts + is_top * (self.levels - counts.sum(dim=1, keepdim=True))
        return (counts / self.levels).clamp(min=NOTHING).log()

    def write_onnx(self, write: Callable[..., str], constant: Callable[..., str], logits: str) -> str:
        """Write the same as ONNX operators; see `nas.training.answers`."""
        levels, one = constant("answers_levels", np.float32(self.levels)), constant("answers_one", np.float32(1))
        zero, nothing = constant("answers_zero", np.float32(0)), constant("answers_nothing", np.float32(NOTHING))
        axis = constant("answers_axis", np.array([1], np.int64))
        # Of equal logits the first is on top, as in PyTorch.
        top = write("ArgMax", [logits], "answers_top", axis=1, keepdims=0)
        classes = write("Gather", [write("Shape", [logits], "answers_shape"), axis], "answers_classes", axis=0)
        ends = constant("answers_ends", np.array([0, 1], np.float32))
        is_top = write("OneHot", [top, classes, ends], "answers_is_top", axis=1)
        scaled = write("Mul", [write("Softmax", [logits], "answers_softmax", axis=1), levels], "answers_scaled")
        shifted = write("Sub", [scaled, constant("answers_slack", np.float32(SLACK))], "answers_shifted")
        below = write("Sub", [write("Ceil", [shifted], "answers_ceil"), one], "answers_below")
        is_other = write("Sub", [one, is_top], "answers_is_other")
        others = write("Mul", [write("Max", [below, zero], "answers_floor"), is_other], "answers_others")
        taken = write("ReduceSum", [others, axis], "answers_taken", keepdims=1)
        left = write("Mul", [is_top, write("Sub", [levels, taken], "answers_left")], "answers_rest")
        counts = write("Add", [others, left], "answers_counts")
        shares = write("Div", [counts, levels], "answers_shares")
        return write("Log", [write("Max", [shares, nothing], "answers_positive")], "answers_log")
