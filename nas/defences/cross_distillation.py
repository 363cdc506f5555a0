"""Knowledge cross-distillation: a record's soft label comes from a teacher that has never seen it; no public records.

Source: Chourasia et al., "Knowledge Cross-Distillation for Membership Privacy" (PETS 2022).
The members are shared out into folds. Each fold's teacher learns from the members outside of it, by their labels, and
gives those in the fold their soft labels. The student learns from all members: `alpha` of its loss is about the soft
labels, the rest about the labels, with the recipe's label smoothing and class weights.

What never leaks is a record's own label into its own soft label. The student still learns from the records themselves,
the more so the smaller `alpha` is, and other records' teachers have seen them. Equal records and those of one group lie
in one fold; records that are alike without being equal may not. Jagielski et al., "Students Parrot Their Teachers"
(NeurIPS 2023), show that distillation on a teacher's own records protects less than it seems to: audit with shadows,
which repeat folds and teachers.

Difference from the paper: teachers are uncompressed networks, which candidates of different bits share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor
from torch.nn import functional

from nas.training.defence import Teach
from nas.training.distillation import clusters_in
from nas.training.distillation import folds_of
from nas.training.distillation import soft_labels
from nas.training.loop import TrainSetup
from nas.training.loop import class_weights

PARAMETERS = {"folds": 5, "alpha": {"low": 0.75, "high": 1.0}}
"""`folds` is how many teachers there are: more see more records each and cost a training each. `alpha` is the share of
the loss that is about soft labels: higher leaks less; 1 hides the labels from the student, 0 is no defence. The leakage
falls the most near 1 (`benchmarks/distillation.py`)."""


def check(folds: int, alpha: float) -> None:
    """Refuse too few folds, and an `alpha` that is no share.

    Raises:
        ValueError: If there are fewer than two folds or `alpha` is not from 0 to 1.
    """
    if folds < 2:
        raise ValueError(f"expected cross_distillation.folds of 2 or more; got {folds}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected cross_distillation.alpha from 0 to 1; got {alpha}")


def defend(setup: TrainSetup, teach: Teach, folds: int, alpha: float) -> TrainSetup:
    """Replace the labels by a mixture of soft labels and labels.

    The cross-entropy is linear in its targets, so that of the mixture is the mixture of the paper's two losses, but for
    the entropy of the soft labels, which has no slope.

    Raises:
        ValueError: If there are fewer records, or groups of them, than folds, or the targets are no classes.
    """
    if setup.targets.is_floating_point():
        raise ValueError("expected classes as the targets of cross_distillation; another defence made them soft")
    fold = folds_of(clusters_in(setup), setup.targets.cpu().numpy(), folds)
    soft = soft_labels(setup, teach, fold != np.arange(folds)[:, None])
    return replace(setup, targets=alpha * soft + (1 - alpha) * hard_labels(setup), loss=functional.cross_entropy)


def hard_labels(setup: TrainSetup) -> Tensor:
    """Return targets `(records, classes)` whose cross-entropy is the loss of the plain set-up."""
    classes = setup.architecture.num_classes
    smoothing = setup.recipe.label_smoothing
    labels = (1 - smoothing) * functional.one_hot(setup.targets, classes) + smoothing / classes
    weights = class_weights(setup.recipe, setup.targets, classes)
    return labels if weights is None else weights[setup.targets][:, None] * labels
