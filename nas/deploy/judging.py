"""Whether a written file may stand for the network it was written from: by what changes for those who rely on it.

A float32 file computes what the network computes, so it must name the same classes; anything else is a mistake of the
writer. An int8 file rounds: near a tie between two classes it names the other one, half of the time the right one. What
counts is whether it errs more, and whether it tells members from non-members better, on the same records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from estimators.estimate import Estimate
from estimators.leakage.scores import log_probabilities
from estimators.leakage.statistics.auc_and_rates import auc_difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.shares import paired_difference
from nas.base.onnx_runtime import session
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged
from nas.training.loop import Labelled
from nas.training.loop import logits_of

Logits: TypeAlias = NDArray[np.float32]
Answer: TypeAlias = Callable[[NDArray[Any]], Logits]
"""Returns logits `(records, classes)` about records as an exported network takes them."""

AGREEMENT = 0.99
"""Share of the records for which a float32 file must name the network's class; one record may always differ."""
TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Witnesses:
    """Records with labels to judge a file of a trained network by.

    Attributes:
        check: Validation records: they show the error.
        members: What the network was trained on.
        non_members: As many others; with the members they show the leakage.
    """

    check: Labelled
    members: Labelled
    non_members: Labelled


@dataclass(frozen=True)
class Tolerances:
    """How much worse than its network a file may be.

    Attributes:
        error: Largest accepted rise of the error, as a share of the check records.
        leakage: Largest accepted rise of the loss threshold's AUC.

    Raises:
        ValueError: If one is not between 0 and 1.
    """

    error: float = TOLERANCE
    leakage: float = TOLERANCE

    def __post_init__(self) -> None:
        for flag, value in (("--max-error-increase", self.error), ("--max-leakage-increase", self.leakage)):
            if not 0 <= value <= 1:  # false for NaN, which no rise would be above
                raise ValueError(f"expected {flag} from 0 to 1; got {value}")


@dataclass(frozen=True)
class Judgement:
    """A file held against the network it was written from, on the same records; intervals are 95 %.

    Attributes:
        agreement: Share of the check records for which both name the same class.
        error: The file's error on the check records; None of a network without data.
        error_increase: That minus the network's, with Tango's interval for pairs.
        loss_auc: AUC of the loss threshold on the file's answers.
        loss_auc_increase: That minus the network's, with DeLong's interval for pairs.
    """

    agreement: float
    error: Estimate | None = None
    error_increase: Estimate | None = None
    loss_auc: Estimate | None = None
    loss_auc_increase: Estimate | None = None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """What was measured with labels, by name; empty of a network without data."""
        named = {
            "error": self.error,
            "error_increase": self.error_increase,
            "loss_auc": self.loss_auc,
            "loss_auc_increase": self.loss_auc_increase,
        }
        return {name: estimate for name, estimate in named.items() if estimate is not None}


def judge(
    model: onnx.ModelProto | Answer,
    network: nn.Module,
    asked: Tensor,
    witnesses: Witnesses | None,
    behind: Preprocessing | None = None,
) -> Judgement:
    """Hold a file against its network: the file is asked as its user asks, the network as it was trained.

    Args:
        model: What `nas.deploy.onnx_file.to_onnx` wrote, or what answers in the place of such a file.
        network: The network it was written from, in eval mode.
        asked: `(records, *input_shape)`, in the user's unit, to compare classes on; at least one.
        witnesses: Records with labels, of which the check records are these; None of a network without data.
        behind: What the network was trained behind, and what the file does first; None: nothing.

    Raises:
        ValueError: If an answer of the file is not finite.
    """
    if witnesses is None:
        return Judgement(agreement(model, network, asked, behind))
    answers = _both(model, network, witnesses.check.features, behind)
    ours, theirs = (_wrong(logits, witnesses.check) for logits in answers)
    is_member = np.repeat([True, False], [len(witnesses.members.labels), len(witnesses.non_members.labels)])
    attacked = (witnesses.members, witnesses.non_members)
    parts = [(part, _both(model, network, part.features, behind)) for part in attacked]
    scores = [
        np.concatenate([log_probabilities(logits[side], part.labels.cpu().numpy()) for part, logits in parts])
        for side in (0, 1)
    ]
    return Judgement(
        agreement=float(np.mean(answers[0].argmax(1) == answers[1].argmax(1))),
        error=proportion_interval(int(ours.sum()), len(ours)),
        error_increase=paired_difference(ours, theirs),
        loss_auc=auc_interval(scores[0], is_member),
        loss_auc_increase=auc_difference(scores[0], scores[1], is_member).estimate,
    )


def check(found: Judgement, precision: str, records: int, tolerances: Tolerances) -> None:
    """Refuse a file that is worse than its network.

    A rise is held against a file if it is above the tolerance and its interval above 0: on few records a single one
    that falls to the other side of a tie is a rise above any tolerance, and says nothing. Of a network without data
    nothing is judged but what no rounding explains.

    Args:
        found: What `judge` found.
        precision: Of the file.
        records: How many check records there are.
        tolerances: What is accepted.

    Raises:
        ValueError: With what was measured, and the flag that accepts it.
    """
    differing = round((1 - found.agreement) * records)
    if precision == "float32" and found.error is not None and differing > max(1, (1 - AGREEMENT) * records):
        raise ValueError(
            f"expected the float32 file to name PyTorch's class for {AGREEMENT:.0%} of {records} records, because it "
            f"computes the same; got {found.agreement:.1%}: the file is not written"
        )
    if _is_worse(found.error_increase, tolerances.error):
        raise ValueError(
            f"expected the {precision} file to err on at most {tolerances.error:g} more of {records} validation "
            f"records than the network (--max-error-increase); got {_told(found.error_increase)}: the file is not "
            "written"
        )
    if _is_worse(found.loss_auc_increase, tolerances.leakage):
        raise ValueError(
            f"expected the {precision} file to raise the loss AUC of the network by at most {tolerances.leakage:g} "
            f"(--max-leakage-increase); got {_told(found.loss_auc_increase)}: the file is not written"
        )


def agreement(
    model: onnx.ModelProto | Answer, network: nn.Module, records: Tensor, behind: Preprocessing | None = None
) -> float:
    """Return the share of records for which ONNX Runtime and PyTorch name the same class.

    Args:
        model: What `nas.deploy.onnx_file.to_onnx` wrote.
        network: The network it was written from, in eval mode.
        records: `(records, *input_shape)`, in the user's unit; at least one.
        behind: What the network was trained behind, and what the file does first; None: nothing.
    """
    ours, theirs = _answers(model, network, records, behind)
    return float(np.mean(ours.argmax(1) == theirs.argmax(1)))


def answers_of_file(model: onnx.ModelProto, records: NDArray[Any], batch_size: int = 64) -> Logits:
    """Return what ONNX Runtime answers to records as the file takes them: `(records, classes)`."""
    engine = session(model)
    starts = range(0, len(records), batch_size)
    return np.concatenate(
        [engine.run(["logits"], {"records": records[start : start + batch_size]})[0] for start in starts]
    )


def _answers(
    model: onnx.ModelProto | Answer, network: nn.Module, records: Tensor, behind: Preprocessing | None
) -> tuple[Logits, Logits]:
    """Return the logits of a file and of its network about records in the user's unit, of the exits that answer."""
    behind, features = behind or unchanged(tuple(records.shape[1:])), records.cpu().numpy()
    standardised = torch.from_numpy(behind.standardised(features))
    given = behind.as_given(features)
    ours = model(given) if callable(model) else answers_of_file(model, given)
    return ours, logits_of(network, standardised)


def _both(
    model: onnx.ModelProto | Answer, network: nn.Module, records: Tensor, behind: Preprocessing | None
) -> tuple[Logits, Logits]:
    """Return the same, all of it finite."""
    ours, theirs = _answers(model, network, records, behind)
    if not np.isfinite(ours).all():
        raise ValueError("expected finite answers of the written file; got NaN or infinity: the file is not written")
    return ours, theirs


def _wrong(logits: Logits, records: Labelled) -> NDArray[np.bool_]:
    return np.asarray(logits.argmax(1) != records.labels.cpu().numpy())


def _is_worse(increase: Estimate | None, tolerance: float) -> bool:
    return increase is not None and increase.value > tolerance and increase.low > 0


def _told(increase: Any) -> str:
    return f"{increase.value:.3f} ({increase.low:.3f} to {increase.high:.3f})"
