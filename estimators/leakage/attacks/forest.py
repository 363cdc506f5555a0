"""A forest on the network's answers that may know each record from the references.

The learned attackers of TensorFlow Privacy and ART are classifiers on a network's answers, a random forest among them
(Salem et al., 2019, "ML-Leaks", use several). Here extremely randomised trees (Geurts et al., 2006) learn from the
references, each of which gives one example for each record: the log odds of all classes, the label's first, and the
label. The score is the share of the trees' leaves that are members'.

`shokri` learns from other records than it judges. This attack learns from *all* records, those it judges included: how
references answered about a record when they were trained on it, and when they were not, is what tells most about that
record, and it does not contain whether the *audited* network was trained on it. Each record is learned from as many
references that were trained on it as that were not, so that recognising the record alone says nothing; a record whose
references are all on one side is not learned from.

When to use: beside the likelihood ratios, which see the label's confidence alone. Prefer it to `shokri` and
`safecompress` where networks fit their members closely (Location-30: AUC .974, `shokri` .947). Where they fit them
loosely it finds no more (CIFAR-10, augmented: .586, `shokri` .596; `benchmarks/peers.py`). It finds less than
`lira_online` at low false positive rates. References must be of the network's architecture and recipe.

What is *not* done: a choice of the forest's settings on the data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.scores import bank_of
from estimators.leakage.scores import log_odds
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.learned import split

NEEDS = ("bank",)
MIN_REFERENCES = 4
TREES, LEAST_IN_LEAF = 50, 5
MAX_EXAMPLES = 200_000
"""From here on fewer references teach."""
# Trees give few distinct numbers. Records that tie in them are ordered by the log odds of their label.
TIE = 1e-6


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the share of members in the trees' leaves, 0 to 1; higher means member.

    Whatever depends on the bank alone is learned once per bank.

    Raises:
        ValueError: If the evidence has no bank, or no record has both references trained on it and others.
    """
    forest = _learned(bank_of(evidence, "forest"))
    share = forest.predict_proba(_features(evidence.logits, evidence.labels))[:, 1]
    phi = scaled_logit(evidence.logits, evidence.labels)
    return np.asarray(share + TIE * phi / (1 + np.abs(phi)))


# Banks compare by identity: one bank's result serves all candidates. Only a few, as each key keeps its bank alive.
@lru_cache(maxsize=4)
def _learned(bank: Bank) -> ExtraTreesClassifier:
    """Learn from the same number of references on either side of each record, in an order that content decides."""
    taught_by = min(len(bank.logits), max(2, MAX_EXAMPLES // len(bank.labels)))
    order = np.concatenate(split(bank))
    is_member = bank.trained_on[:taught_by, order]
    inside, outside = is_member.cumsum(axis=0), (~is_member).cumsum(axis=0)
    kept = np.where(is_member, inside, outside) <= np.minimum(inside[-1], outside[-1])
    if not kept.any():
        raise ValueError(
            "attack 'forest' expected records that some references were trained on and others not; of "
            f"{len(bank.labels)} there is none"
        )
    logits = bank.logits[:taught_by, order][kept]
    labels = np.broadcast_to(bank.labels[order], kept.shape)[kept]
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=LEAST_IN_LEAF, max_features="sqrt", random_state=0)
    return forest.fit(_features(logits, labels), is_member[kept])


def _features(logits: Floats, labels: Labels) -> NDArray[np.float32]:
    """Return `(records, classes + 1)`: the label's log odds, those of the classes after it in turn, and the label."""
    classes = logits.shape[1]
    turned = (labels[:, None] + np.arange(classes)) % classes
    odds = np.take_along_axis(log_odds(logits), turned, axis=1)
    return np.column_stack([odds, labels]).astype(np.float32)
