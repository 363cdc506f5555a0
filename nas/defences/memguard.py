"""A mask as MemGuard's: the deployed network says its class, and confidences that tell little; it is trained as ever.

Sources: Jia, Salem, Backes, Zhang and Gong, "MemGuard: Defending against Black-Box Membership Inference Attacks via
Adversarial Examples" (CCS 2019) adds noise to the confidences that keeps the class, is small, and leaves an attacker
which reads confidences undecided. Choquette-Choo, Tramer, Carlini and Papernot, "Label-Only Membership Inference
Attacks" (ICML 2021) put the best that it can do in its place: equal confidences, but for the class, which has 1e-3 more
than its equal share. Confidences move towards these by at most `distortion`, the sum of the absolute changes; 2 reaches
them always, and shows what `confidence_rounding` with no digits shows: the class.

Differences from MemGuard: no attacker is trained that the noise would be fitted to, so none can be trained to see
through it; the bound on the noise holds for every answer, where MemGuard's holds on average; nothing is random. An
answer repeats, and asking again averages nothing out.

It changes what is shown, not what the network remembers. Attacks that read the predicted class alone (`label_noise`,
`label_augment`, `label_boundary`, `gap`) find what they found before. Do not count it as privacy. With less than 2 the
order of confidences stays, and attacks that calibrate or rank find most of what they found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.loop import TrainSetup

PARAMETERS = {"distortion": [0.5, 1.0, 1.5, 2.0]}
"""`distortion` is the largest sum of absolute changes of a record's confidences; 2 shows the class alone."""
LEAST_DISTORTION, MOST_DISTORTION = 0.01, 2.0
AHEAD = 1e-3
"""By how much the class on top is ahead of an equal share."""
NOTHING = float(np.finfo(np.float32).tiny)


def check(distortion: float) -> None:
    """Refuse a distortion that float32 would lose, or that no confidences have.

    Raises:
        ValueError: If it is not from `LEAST_DISTORTION` to `MOST_DISTORTION`.
    """
    if not LEAST_DISTORTION <= distortion <= MOST_DISTORTION:
        raise ValueError(
            f"expected memguard.distortion from {LEAST_DISTORTION:g} to {MOST_DISTORTION:g}; got {distortion}"
        )


def defend(setup: TrainSetup, _teach: Teach, distortion: float) -> TrainSetup:  # noqa: ARG001 - read by `answers`
    """Return the set-up as it is: the answers that `answers` makes are all there is."""
    return setup


def answers(distortion: float) -> nn.Module:
    """Return what the deployed network's logits pass through."""
    return MaskedConfidences(distortion)


class MaskedConfidences(nn.Module):
    """Logits `(records, classes)` to the logarithms of confidences moved towards equal ones.

    >>> import torch
    >>> confident = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    >>> MaskedConfidences(2.0)(confident).exp().round(decimals=3).tolist()
    [[0.5009999871253967, 0.49900001287460327], [0.49900001287460327, 0.5009999871253967]]
    >>> MaskedConfidences(0.2)(confident).exp().round(decimals=1).tolist()  # a tenth from one to the other
    [[0.800000011920929, 0.20000000298023224], [0.30000001192092896, 0.699999988079071]]
    """

    def __init__(self, distortion: float) -> None:
        super().__init__()
        self.distortion = distortion

    def forward(self, logits: Tensor) -> Tensor:
        """Return the answers `(records, classes)`."""
        classes = logits.shape[1]
        is_top = functional.one_hot(logits.argmax(dim=1), classes).to(logits.dtype)
        # Equal for all records of a class to the last bit: what is left of a confidence could be ranked.
        equal = (1 - is_top) * ((1 - 1 / classes - AHEAD) / max(classes - 1, 1)) + is_top * (1 / classes + AHEAD)
        shares = logits.softmax(dim=1)
        distance = (equal - shares).abs().sum(dim=1, keepdim=True)
        moved = (self.distortion / distance.clamp(min=NOTHING)).clamp(max=1.0)
        return ((1 - moved) * shares + moved * equal).clamp(min=NOTHING).log()

    def write_onnx(self, write: Callable[..., str], constant: Callable[..., str], logits: str) -> str:
        """Write the same as ONNX operators; see `nas.training.answers`."""
        one, ahead = constant("answers_one", np.float32(1)), constant("answers_ahead", np.float32(AHEAD))
        axis, nothing = (
            constant("answers_axis", np.array([1], np.int64)),
            constant("answers_nothing", np.float32(NOTHING)),
        )
        top = write("ArgMax", [logits], "answers_top", axis=1, keepdims=0)
        count = write("Gather", [write("Shape", [logits], "answers_shape"), axis], "answers_count", axis=0)
        ends = constant("answers_ends", np.array([0, 1], np.float32))
        is_top = write("OneHot", [top, count, ends], "answers_is_top", axis=1)
        is_other = write("Sub", [one, is_top], "answers_is_other")
        classes = write("Cast", [count], "answers_classes", to=1)
        largest = write("Add", [write("Div", [one, classes], "answers_share"), ahead], "answers_largest")
        left = write("Sub", [one, largest], "answers_left")
        rest = write("Div", [left, write("Sub", [classes, one], "answers_others")], "answers_rest")
        equal = write(
            "Add",
            [write("Mul", [is_other, rest], "answers_low"), write("Mul", [is_top, largest], "answers_high")],
            "answers_equal",
        )
        shares = write("Softmax", [logits], "answers_softmax", axis=1)
        apart = write("Abs", [write("Sub", [equal, shares], "answers_apart")], "answers_absolute")
        distance = write("Max", [write("ReduceSum", [apart, axis], "answers_sum", keepdims=1), nothing], "answers_far")
        reach = write("Div", [constant("answers_distortion", np.float32(self.distortion)), distance], "answers_reach")
        moved = write("Min", [reach, one], "answers_moved")
        kept = write("Mul", [write("Sub", [one, moved], "answers_kept"), shares], "answers_kept_shares")
        masked = write("Add", [kept, write("Mul", [moved, equal], "answers_moved_shares")], "answers_masked")
        return write("Log", [write("Max", [masked, nothing], "answers_positive")], "answers_log")
