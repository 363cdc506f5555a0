"""Gecko's second phase: the low-bit network learns only from the outputs of a float teacher.

Source: Duddu, Boutet and Shejwalkar, "Reconciling Privacy, Accuracy and Efficiency in Embedded Deep Learning" (2022).
Its first phase, a network of few bits that learns from the labels, is the defence `none` with such a network.
Differences from the code published with the paper, which does not do what the paper says: the student's weights are
really quantised, it sees the teacher's full-precision soft outputs (not the class of truncated logits), the
cross-entropies carry their minus sign, and no true label enters the student's loss. Class weights of the recipe hold in
the teacher's training; the student, which sees no label, learns what they did to it. The divergence with a temperature
is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from nas.training.defence import Teach
from nas.training.distillation import divergence
from nas.training.loop import Loss
from nas.training.loop import TrainSetup
from nas.training.stages import uncompressed

PARAMETERS = {"loss": "symmetric", "temperature": 1.0}
"""`loss` is the paper's symmetric cross-entropy or the divergence `kl`; both softmaxes are of logits divided by the
`temperature`: above 1 the student learns more of how the teacher ranks the classes it thinks wrong."""


def check(loss: str = "symmetric", temperature: float = 1.0) -> None:
    """Refuse a loss that there is not, and temperatures that are none.

    Raises:
        ValueError: If the loss is unknown or the temperature not above 0.
    """
    if loss not in LOSSES:
        raise ValueError(f"expected gecko.loss in {list(LOSSES)}; got {loss!r}")
    if temperature <= 0:
        raise ValueError(f"expected gecko.temperature above 0; got {temperature}")


def defend(setup: TrainSetup, teach: Teach, loss: str = "symmetric", temperature: float = 1.0) -> TrainSetup:
    """Replace the labels by a float teacher's logits and the loss by one that compares logits with them.

    Args:
        setup: The plain training of the student.
        teach: Trains the teacher that a set-up describes, or fetches it, and returns its logits `(records, classes)`
            on the set-up's records.
        loss: A name in `LOSSES`.
        temperature: What logits are divided by; 1 leaves them.
    """
    logits = teach(replace(setup, architecture=uncompressed(setup.architecture)))
    return replace(setup, targets=logits, loss=partial(softened, loss=LOSSES[loss], temperature=temperature))


def softened(student_logits: Tensor, teacher_logits: Tensor, *, loss: Loss, temperature: float) -> Tensor:
    """Return a loss at a temperature, times its square: the slopes are then as large as at 1 (Hinton et al., 2015).

    Args:
        student_logits: `(batch, classes)`.
        teacher_logits: `(batch, classes)`.
        loss: Compares the two.
        temperature: What both are divided by.
    """
    return temperature**2 * loss(student_logits / temperature, teacher_logits / temperature)


def symmetric_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the batch mean of -sum_k [f_s log f_t + f_t log f_s], with f the softmax outputs.

    >>> import torch
    >>> uniform = torch.zeros(1, 4)
    >>> round(symmetric_cross_entropy(uniform, uniform).item(), 4)  # 2 log 4
    2.7726
    """
    student, teacher = student_logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1)
    return -(student.exp() * teacher + teacher.exp() * student).sum(dim=1).mean()


LOSSES: Mapping[str, Loss] = {"symmetric": symmetric_cross_entropy, "kl": divergence}
