"""Small networks that learn from posterior vectors whether a record was a member: one hidden layer, log odds out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.shared.learned import Judge
from estimators.leakage.shared.learned import Learner

UNITS = 64
"""Of the hidden layer, as Shokri et al. (2017) and Salem et al. (2019) have it."""
BATCH = 100


def learner(steps: int) -> Learner:
    """Return what trains such a network for so many batches of 100 rows, by Adam with a rate of 3e-3.

    Args:
        steps: Batches, rounded up to whole passes over the rows.
    """

    def fit(features: Floats, _labels: Labels, is_member: Mask) -> Judge:
        network = MLPClassifier(
            (UNITS,), batch_size=min(BATCH, len(features)), learning_rate_init=0.003, random_state=0
        )
        # Epoch by epoch: their number is fixed, and no warning that it ended before it converged.
        for _ in range(-(-steps * BATCH // len(features))):
            network.partial_fit(features, is_member, classes=[False, True])
        (hidden, out), (hidden_bias, out_bias) = network.coefs_, network.intercepts_

        def judge(attacked: Floats, _: Labels) -> NDArray[np.float64]:
            # Log odds, not the probabilities that scikit-learn gives: those round to 1.
            return np.asarray((np.maximum(attacked @ hidden + hidden_bias, 0.0) @ out + out_bias)[:, 0])

        return judge

    return fit
