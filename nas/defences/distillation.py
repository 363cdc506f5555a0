"""Distillation for membership privacy (DMP): the network learns a teacher's answers about other records, no member.

Source: Shejwalkar and Houmansadr, "Membership Privacy for Machine Learning Models Through Knowledge Transfer" (AAAI
2021).
A teacher learns from the members. The student learns from the part of the reserve that a defence is given, by the
teacher's soft answers alone: it sees no member, no label, and no label of the reserve. What a member changes about the
student goes through the teacher's answers about other records; the surer those are, the less one member can change
them, so that only the records with the lowest entropy may be kept.

What membership means here: the members are those of the teacher, and the search and the audit attack them. The records
of the reserve that the student learns from have no membership in any measure, although the student may give them away.
Let no reserve be private.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.loop import TrainSetup
from nas.training.stages import uncompressed

NEEDS = ("reserve",)
PARAMETERS = {"temperature": {"low": 1.0, "high": 4.0, "log": True}, "share": 1.0}
"""`temperature` divides the teacher's logits: higher tells less of what it learned. `share` of the reserve's records,
those that the teacher is surest of, are learned from: fewer leak less, and teach less."""
FEWEST = 2  # batch norms learn nothing from a single record


def check(temperature: float, share: float) -> None:
    """Refuse a temperature that is none, and a share that leaves nothing.

    Raises:
        ValueError: If the temperature is not above 0, or the share not above 0 and at most 1.
    """
    if temperature <= 0:
        raise ValueError(f"expected distillation.temperature above 0; got {temperature}")
    if not 0 < share <= 1:
        raise ValueError(f"expected distillation.share above 0 and at most 1; got {share}")


def defend(setup: TrainSetup, teach: Teach, temperature: float, share: float) -> TrainSetup:
    """Replace the members by records of the reserve and the labels by a teacher's answers about them.

    Raises:
        ValueError: If there is no reserve.
    """
    if setup.reserve is None:
        raise ValueError("expected records beside the members for the defence 'distillation'; got none")
    beside = setup.reserve.features
    logits = teach(replace(setup, architecture=uncompressed(setup.architecture)), about=beside)
    kept = surest(logits, share)
    soft = (logits[kept] / temperature).softmax(dim=1)
    return replace(setup, features=beside[kept], targets=soft, loss=functional.cross_entropy)


def surest(logits: Tensor, share: float) -> Tensor:
    """Return the rows of the share of records whose answers have the lowest entropy, in ascending order.

    >>> import torch
    >>> surest(torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), 0.5).tolist()
    [1, 3]
    """
    log_answers = logits.log_softmax(dim=1)
    entropy = -(log_answers.exp() * log_answers).sum(dim=1)
    count = min(len(logits), max(FEWEST, math.ceil(share * len(logits))))
    return entropy.argsort(stable=True)[:count].sort().values
