"""The attack by exit on trained networks with early exits: it finds members, and no one where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from estimators.leakage.attacks import exit_index
from estimators.leakage.attacks import label_noise
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.audit import shadows
from nas.audit.attack_all import audit
from nas.audit.oracles import of_network
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training.assess import Candidate
from nas.training.loop import exits_of
from nas.training.recipe import Recipe

RECORDS, SHADOWS = 400, 8
POINT = {"depth": 4, "norm": False, "exits.count": 2, "exits.place": "even", "exits.threshold": 0.9}


def candidate():
    space = compressible(space_named("mlp", (20,), 4), ["exits"])
    return Candidate(space.decode({**space.reference, **POINT}), Recipe(epochs=60, batch_size=32, weight_decay=0.0))


def drawn(seed):
    """Records whose labels follow two of twenty features, with a third of them drawn anew."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(RECORDS, 20)).astype(np.float32)
    labels = (features[:, 0] > 0) + 2 * (features[:, 1] > 0)
    return features, np.where(rng.random(RECORDS) < 1 / 3, rng.integers(0, 4, RECORDS), labels)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    pool = Pool(*drawn(0), np.arange(RECORDS) < RECORDS // 2)
    made = ShadowSpec(pool, candidate(), 5, tmp_path_factory.mktemp("shadows"))
    for shadow in range(SHADOWS):
        shadows.train_shadow(made, shadow)
    return made


@pytest.fixture(scope="module")
def bank(spec):
    return shadows.bank_of(spec.pool, shadows.load(spec, SHADOWS), spec.seed)


def evidence_of(network, spec, bank):
    oracle, pool = of_network(network), spec.pool
    exits = oracle.exits(pool.features)
    return Evidence(oracle.query(pool.features), pool.labels, bank, pool.features, oracle, exits=exits)


def test_shadows_report_their_exits(spec, bank):
    assert bank.exits.shape == (SHADOWS, RECORDS)
    for shadow, network in enumerate(shadows.load(spec, SHADOWS)):
        np.testing.assert_array_equal(bank.exits[shadow], exits_of(network, torch.from_numpy(spec.pool.features)))
    assert set(np.unique(bank.exits)) == {0, 1, 2}
    # Members are learned by heart, so they leave sooner.
    assert bank.exits[bank.trained_on].mean() < bank.exits[~bank.trained_on].mean()


def test_members_are_found_by_their_exit(spec, bank):
    features, labels = spec.pool.features[: RECORDS // 2], spec.pool.labels[: RECORDS // 2]
    network = shadows.trained_on(spec, features, labels, seed=9)
    evidence = evidence_of(network, spec, bank)
    found = auc_interval(exit_index.attack(evidence), spec.pool.is_member)
    assert found.low > 0.6
    # The whole list of attacks runs on it, those that ask about changed records too.
    by_name = audit(evidence, spec.pool.is_member, seed=0, attacks=["exit_index", "label_noise", "white_box", "lira"])
    assert by_name.finding("exit_index").auc.value == pytest.approx(found.value)
    assert by_name.finding("exit_index").null is not None
    assert np.isfinite(label_noise.attack(evidence)).all()


def test_nobody_is_found_among_records_that_no_network_saw(spec, bank):
    """The null control: the network was trained on other records, so membership of these is a lot that was drawn."""
    features, labels = drawn(1)
    network = shadows.trained_on(spec, features[: RECORDS // 2], labels[: RECORDS // 2], seed=9)
    scores = exit_index.attack(evidence_of(network, spec, bank))
    found = [auc_interval(scores, np.random.default_rng(lot).permutation(spec.pool.is_member)) for lot in range(20)]
    assert np.mean([estimate.value for estimate in found]) == pytest.approx(0.5, abs=0.03)
    assert sum(estimate.low <= 0.5 <= estimate.high for estimate in found) >= 16
