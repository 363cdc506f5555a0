"""SELENA: an ensemble in which some networks have not seen a record gives its soft label; no public records.

Source: Tang et al., "Mitigating Membership Inference Attacks by Self-Distillation Through a Novel Ensemble
Architecture" (USENIX Security 2022).
Each record is left out by `left_out` of `models` teachers, drawn by lot (their Split-AI). Its soft label is the mean
answer of those. The student learns from all members by their soft labels alone (their Self-Distillation).

The paper has 25 networks and leaves each record out by 10. Smaller numbers, of the same share, are the default: an
audit trains as many for each shadow model. What holds of `cross_distillation`, of which this is the version with
several teachers for a record and no label for the student, holds here: Aerni, Zhang and Tramer, "Evaluations of Machine
Learning Privacy Defenses are Misleading" (CCS 2024), find half of the most vulnerable records again at a false positive
rate of 0.1 %, where the original evaluation found one in fifteen.

Difference from the paper: teachers are uncompressed networks, which candidates of different bits share.
"""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional

from nas.training.defence import Teach
from nas.training.distillation import clusters_in
from nas.training.distillation import soft_labels
from nas.training.distillation import subsets_of
from nas.training.loop import TrainSetup

PARAMETERS = {"models": 5, "left_out": 2}
"""`models` is how many teachers there are, a training each; `left_out` is how many of them have not seen a record: more
give a steadier soft label, of teachers that have seen less."""


def check(models: int, left_out: int) -> None:
    """Refuse an ensemble in which a record is left out by none, or by all.

    Raises:
        ValueError: If `left_out` is not from 1 to one fewer than `models`.
    """
    if not 1 <= left_out < models:
        raise ValueError(f"expected selena.left_out from 1 to one fewer than selena.models, {models}; got {left_out}")


def defend(setup: TrainSetup, teach: Teach, models: int, left_out: int) -> TrainSetup:
    """Replace the labels by the mean answers of the teachers that have not seen a record."""
    soft = soft_labels(setup, teach, subsets_of(clusters_in(setup), models, left_out))
    return replace(setup, targets=soft, loss=functional.cross_entropy)
