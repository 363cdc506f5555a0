"""Gecko's second phase: the low-bit network learns only from the outputs of a float teacher.

Source: Duddu, Boutet and Shejwalkar, "Reconciling Privacy, Accuracy and Efficiency in Embedded Deep Learning" (2022).
Differences from the code published with the paper, which does not do what the paper says: the student's weights are
really quantised, it sees the teacher's full-precision soft outputs (not the class of truncated logits), the
cross-entropies carry their minus sign, and no true label enters the student's loss. Class weights of the recipe hold in
the teacher's training; the student, which sees no label, learns what they did to it.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from nas.training.defence import Teach
from nas.training.loop import TrainSetup
from nas.training.stages import uncompressed


def defend(setup: TrainSetup, teach: Teach) -> TrainSetup:
    """Replace the labels by a float teacher's logits and the loss by the paper's symmetric cross-entropy.

    Args:
        setup: The plain training of the student.
        teach: Trains the teacher that a set-up describes, or fetches it, and returns its logits `(records, classes)`
            on the set-up's records.
    """
    logits = teach(replace(setup, architecture=uncompressed(setup.architecture)))
    return replace(setup, targets=logits, loss=symmetric_cross_entropy)


def symmetric_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the batch mean of -sum_k [f_s log f_t + f_t log f_s], with f the softmax outputs.

    >>> import torch
    >>> uniform = torch.zeros(1, 4)
    >>> round(symmetric_cross_entropy(uniform, uniform).item(), 4)  # 2 log 4
    2.7726
    """
    student, teacher = student_logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1)
    return -(student.exp() * teacher + teacher.exp() * student).sum(dim=1).mean()
