"""Confidence: the highest posterior, whether the prediction is right or wrong.

Salem et al., 2019, "ML-Leaks" (NDSS), the attack without shadow networks: the highest posterior max_c p_c. It reads no
label, so it also attacks records whose label the attacker does not know. Members that the network misclassifies may get
low scores. The confidence in the *true* label ranks as the loss does: attack `loss`.

The score is the log odds of that posterior, log(p / (1 - p)). The ranking is the same, and confident records do not
tie.

What is *not* done: the threshold itself, which the authors take from the posteriors of random inputs. A ranking needs
none. With a threshold for each class, and of the true label: `confidence_by_class`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import scaled_logit

NEEDS = ()
READS_LABELS = False


def attack(evidence: Evidence) -> NDArray[np.float64]:
    """Score `(records,)` by the log odds of the predicted class, right or wrong; higher means member.

    >>> attack(Evidence(np.array([[4.0, 0.0], [0.0, 4.0], [1.0, 0.0]]), np.array([0, 0, 0]))).tolist()
    [4.0, 4.0, 1.0]
    """
    return scaled_logit(evidence.logits, evidence.logits.argmax(axis=1))
