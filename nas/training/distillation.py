"""Soft labels from teachers that have not seen the records they speak of, and losses to learn from a teacher.

A defence says which teacher learns from which records (`folds_of`, `subsets_of`), and `soft_labels` trains them and
refuses any that would speak of a record it has seen. Equal records, and records of one group, are one cluster: a
teacher sees all of it or nothing of it. What the teachers learn from depends on the records alone and not on a
candidate's seed, so that all candidates of a study share them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.assignment import Ints
from nas.assignment import clusters_of
from nas.training.defence import Teach
from nas.training.loop import TrainSetup
from nas.training.stages import uncompressed

Mask = NDArray[np.bool_]


def clusters_in(setup: TrainSetup) -> Ints:
    """Number the clusters of a set-up's records, `(records,)`, from 0: equal ones and those of one group."""
    groups = None if setup.members is None else setup.members.groups
    return clusters_of(setup.features.cpu().numpy(), None if groups is None else groups.cpu().numpy())


def folds_of(clusters: Ints, labels: Ints, folds: int) -> Ints:
    """Share the records out into folds, `(records,)` from 0, whole clusters and each class evenly.

    Args:
        clusters: `(records,)`: the cluster of each.
        labels: `(records,)`.
        folds: How many.

    Raises:
        ValueError: If there are fewer clusters than folds.

    >>> folds_of(np.array([0, 0, 1, 2, 3, 4]), np.array([0, 0, 0, 1, 1, 1]), 2).tolist()
    [0, 0, 1, 1, 1, 0]
    """
    _, first, number, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    if len(first) < folds:
        raise ValueError(
            f"expected at least {folds} records or groups that differ, for so many folds; got {len(first)}"
        )
    order = np.random.default_rng(0).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]
    fold, filled = np.zeros(len(first), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for cluster in order:
        fold[cluster] = filled.argmin()
        filled[fold[cluster]] += sizes[cluster]
    return np.asarray(fold[number])


def subsets_of(clusters: Ints, teachers: int, left_out: int) -> Mask:
    """Draw which records each teacher learns from, `(teachers, records)`: each cluster is left out by `left_out`.

    Args:
        clusters: `(records,)`: the cluster of each.
        teachers: How many.
        left_out: By how many of them.

    >>> sees = subsets_of(np.array([0, 1, 2, 2]), teachers=5, left_out=2)
    >>> sees.sum(axis=0).tolist(), (sees[:, 2] == sees[:, 3]).all()
    ([3, 3, 3, 3], np.True_)
    """
    _, number = np.unique(clusters, return_inverse=True)
    drawn = np.random.default_rng(0).random((teachers, number.max() + 1)).argsort(axis=0)
    return np.asarray(drawn[:, number] >= left_out)


def soft_labels(setup: TrainSetup, teach: Teach, sees: Mask) -> Tensor:
    """Return for each record the mean softmax answer of the teachers that have not seen it, `(records, classes)`.

    The teachers are the network uncompressed (`nas.training.stages.uncompressed`), trained on the labels.

    Args:
        setup: The plain training of the student.
        teach: Trains a teacher, or fetches it.
        sees: `(teachers, records)`: what each learns from.

    Raises:
        ValueError: If a record is seen by all teachers, a teacher sees nothing, or one has seen a record that equals,
            or is of one group with, one that it would speak of.
    """
    check_unseen(clusters_in(setup), sees)
    place = setup.features.device
    described = replace(setup, architecture=uncompressed(setup.architecture))
    answers = torch.stack(
        [teach(described, rows=torch.from_numpy(np.flatnonzero(seen)).to(place)).softmax(dim=1) for seen in sees]
    )
    speaks = torch.from_numpy(~sees).to(place, answers.dtype)[:, :, None]
    return (answers * speaks).sum(dim=0) / speaks.sum(dim=0)


def check_unseen(clusters: Ints, sees: Mask) -> None:
    """Refuse teachers that have seen what they speak of.

    Args:
        clusters: `(records,)`: the cluster of each.
        sees: `(teachers, records)`: what each teacher learns from; it speaks of the others.

    Raises:
        ValueError: As `soft_labels`.
    """
    if sees.all(axis=0).any() or not sees.any(axis=1).all():
        raise ValueError(
            f"expected teachers that each see some records, and for each record one that has not seen it; got "
            f"{int(sees.all(axis=0).sum())} records that all have seen, {int((~sees.any(axis=1)).sum())} that see none"
        )
    for teacher, seen in enumerate(sees):
        if (known := np.isin(clusters[~seen], clusters[seen])).any():
            raise ValueError(
                f"expected soft labels from teachers that have seen neither a record nor one equal to it or of its "
                f"group; teacher {teacher} has seen such of {int(known.sum())} records"
            )


def divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the batch mean of the Kullback-Leibler divergence of a student's answers from a teacher's; 0 if equal.

    Args:
        student_logits: `(batch, classes)`.
        teacher_logits: `(batch, classes)`.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> divergence(logits, logits).item()
    0.0
    """
    student, teacher = student_logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
