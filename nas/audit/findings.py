"""What an audit found: by attack, by class, by record, by released version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.epsilon import EpsilonBound

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Finding:
    """What one attack found. Intervals are 95 %.

    Attributes:
        attack: Its name.
        is_label_only: Whether it reads predicted classes alone.
        auc: Area under the ROC curve, 0.5 when nothing leaks; DeLong's interval.
        over_gap: How far that is above the gap attack's, on the same records.
        tpr: Share of members found, by the false positive rate allowed, with a bootstrap interval; None where there
            are too few non-members to show it.
        balanced_accuracy: Mean of TPR and TNR at a threshold from the other half of the records.
        advantage: TPR minus FPR at that threshold.
        epsilon: What the training is shown not to be, at delta 1 / members, the search for a threshold paid for.
        scores: `(records,)`.
        seconds: What the attack took.
    """

    attack: str
    is_label_only: bool
    auc: Estimate
    over_gap: Difference
    tpr: Mapping[float, Estimate | None]
    balanced_accuracy: Estimate
    advantage: Estimate
    epsilon: EpsilonBound
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class ClassRisk:
    """How well the strongest attack tells members of one class.

    Attributes:
        label: The class.
        members: How many members of it were attacked, and as many or other non-members.
        auc: Of the records of this class.
    """

    label: int
    members: int
    auc: Estimate


@dataclass(frozen=True)
class RecordRisk:
    """One member that is easy to find.

    Attributes:
        record: Its row among the audited records.
        label: Its class.
        score: What the attack gave it.
        found_at_fpr: Share of non-members that score as high; low means exposed.
        across_trainings: Probability that a shadow trained on it is surer of it than one that was not, with an
            interval; None without shadows.
    """

    record: int
    label: int
    score: float
    found_at_fpr: Estimate
    across_trainings: Estimate | None


@dataclass(frozen=True, eq=False)
class RecordFindings:
    """Risk record by record.

    Attributes:
        attack: The attack whose scores they are.
        riskiest: The members that stand out most, the first the most exposed.
        shapr: `(members,)`: Shapley value of each member for classifying the non-members; its mean is accuracy and no
            leakage.
        agreement: Spearman's correlation of SHAPr and the attack's scores over members; 0 (-1 to 1) where nothing is
            known of it: fewer than five members, or all of them equal.
    """

    attack: str
    riskiest: tuple[RecordRisk, ...]
    shapr: Scores
    agreement: Estimate


@dataclass(frozen=True, eq=False)
class Released:
    """What an attacker gets from one version of a network, or from all that are released together.

    Attributes:
        name: Of the version, `all together` for the set.
        auc: Of the likelihood ratio over everything that is released.
        over_best: For the set: how far that is above the best single version's; None for a version.
    """

    name: str
    auc: Estimate
    over_best: Difference | None = None


@dataclass(frozen=True, eq=False)
class Audit:
    """All that was found, and what was not looked for.

    Attributes:
        members: Members attacked.
        non_members: Records attacked that the network never saw.
        shadows: Reference networks.
        effort: One of `EFFORTS`.
        findings: One for each attack, the highest AUC first.
        by_class: The strongest attack, class by class.
        records: Risk record by record.
        trainings: `(shadows,)` AUC of online LiRA against each shadow by the others: what other trainings by the same
            recipe leak; empty with too few shadows.
        released: The versions of a released set and the set; empty for a single network.
        skipped: Attacks that did not run, and why.
        warnings: What a reader must not miss.
    """

    members: int
    non_members: int
    shadows: int
    effort: str
    findings: tuple[Finding, ...]
    by_class: tuple[ClassRisk, ...]
    records: RecordFindings
    trainings: Scores
    released: tuple[Released, ...]
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]
    is_member: Mask

    @property
    def strongest(self) -> Finding:
        """The attack with the highest AUC, chosen after all were seen."""
        return self.findings[0]

    @property
    def leakage(self) -> Estimate:
        """AUC of the strongest attack; the interval pays for having chosen it among all (Bonferroni)."""
        confidence = 1 - 0.05 / len(self.findings)
        return auc_interval(self.strongest.scores, self.is_member, confidence)

    def finding(self, attack: str) -> Finding:
        """Return what one attack found.

        Raises:
            ValueError: If it did not run.
        """
        for found in self.findings:
            if found.attack == attack:
                return found
        raise ValueError(f"no attack {attack!r} in this audit; there are {[found.attack for found in self.findings]}")
