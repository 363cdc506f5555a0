"""One peer's attack on stored arrays, in the peer's own environment: called by `peers.py`, one process for each.

It needs numpy and the peer, and nothing of gecko-nas: peers pin other versions of most packages.

    PEERS_PYTHON benchmarks/peer_attacks.py ARRAYS.npz ATTACK SCORES.npz
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib import metadata

import numpy as np

MIA = "tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.advanced_mia"


def lira(phi: np.ndarray, references: np.ndarray, trained_on: np.ndarray, **options: object) -> np.ndarray:
    """Score by TensorFlow Privacy's LiRA, which gives members small values."""
    score = import_module(MIA).compute_score_lira
    records = range(len(phi))
    with_it, without = ([references[side[:, x], x, None] for x in records] for side in (trained_on, ~trained_on))
    return -score(phi[:, None], with_it, without, **options)


def offset(phi: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Score by TensorFlow Privacy's difference to the median of both sides."""
    score = import_module(MIA).compute_score_offset
    records = range(len(phi))
    with_it, without = ([references[side[:, x], x, None] for x in records] for side in (trained_on, ~trained_on))
    return np.asarray(score(phi[:, None], with_it, without))


def reference(phi: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Score by Privacy Meter's Attack-R: at how many of its quantiles a loss lies below those of references without."""
    threshold = import_module("privacy_meter.hypothesis_test").linear_itp_threshold_func
    quantiles = import_module("privacy_meter.utils").default_quantile()
    losses, own = np.logaddexp(0, -references), np.logaddexp(0, -phi)
    fewest = (~trained_on).sum(axis=0).min()
    without = np.stack([losses[~trained_on[:, x], x][:fewest] for x in range(len(own))])
    return np.asarray((own < threshold(without, quantiles)).sum(axis=0), np.float64)


ATTACKS: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "LiRA online, own variances": ("tensorflow-privacy", lira),
    "LiRA online, fixed variance": ("tensorflow-privacy", lambda *arrays: lira(*arrays, fix_variance=True)),
    "LiRA offline, fixed variance": (
        "tensorflow-privacy",
        # log Pr(out) is small for members: of the two sides this one alone
        lambda *arrays: lira(*arrays, fix_variance=True, option="out"),
    ),
    "offset to the median": ("tensorflow-privacy", offset),
    "Attack-R (reference)": ("Privacy-Meter", reference),
}


def main() -> None:
    """Score, and write scores, seconds, peak memory and the peer's version."""
    arrays, name, target = sys.argv[1:]
    peer, attack = ATTACKS[name]
    with np.load(arrays, allow_pickle=False) as stored:
        given = [stored[key] for key in ("phi", "references", "trained_on")]
    attack(*(part[..., :50] for part in given))  # imports what it needs
    since = time.perf_counter(), time.process_time()
    scores = attack(*given)
    seconds, cpu = time.perf_counter() - since[0], time.process_time() - since[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    np.savez(target, scores=scores, seconds=seconds, cpu=cpu, peak=peak, peer=f"{peer} {metadata.version(peer)}")


if __name__ == "__main__":
    main()
