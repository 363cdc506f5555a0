"""Gap: a record is called a member if the network classifies it correctly.

Yeom et al., 2018, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting"; named by Choquette-Choo
et al., 2021, "Label-Only Membership Inference Attacks". The baseline that uses the train-test gap alone: its
balanced accuracy, and its AUC, are 1/2 + (accuracy on members - accuracy on others) / 2. An attack that does not beat
it shows overfitting, not that single records are remembered. It reads only the predicted class, so a change of the
confidences hides nothing from it.

Scores are 1 or 0. At a false positive rate below the error on non-members it finds no member: its TPR is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence

NEEDS = ()
LABEL_ONLY = True


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by correctness: 1 where the prediction is the label, else 0.

    >>> attack(Evidence(np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))).tolist()
    [1.0, 0.0]
    """
    return np.asarray(evidence.logits.argmax(axis=1) == evidence.labels, dtype=np.float64)
