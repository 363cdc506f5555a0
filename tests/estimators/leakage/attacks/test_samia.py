"""SAMIA: attention over posteriors, sensitivities and the label."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from estimators.leakage.attacks import samia
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.statistics.auc_and_rates import auc

WEIGHTS = np.random.default_rng(0).normal(0, 1, (6, 3))


def linear(features):
    return features @ WEIGHTS


def network(found, slopes):
    """Answer with the found logits of the nearest record, and move away from them by a slope of its own."""

    def query(features):
        numbers = np.rint(features[:, 0]).astype(int)
        return found[numbers] + slopes[numbers, None] * ((features - np.rint(features)) @ WEIGHTS)

    return Oracle(query)


def evidence_for(seed, *, leak=0.0, steadier=0.0, records=240, references=4):
    """Draw networks that are surer of members, or whose answers about them move less."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, records)
    trained_on = np.concatenate([half ^ np.array([[False], [True]]) for half in rng.random((9, 1, records)) < 0.5])
    trained_on = trained_on[1 : references + 2]
    features = np.zeros((records, 6))
    features[:, 0] = np.arange(records)
    logits = rng.normal(0, 0.5, (references + 1, records, 3))
    logits[:, np.arange(records), labels] += 1 + leak * trained_on
    oracles = tuple(network(z, 2.0 - steadier * mask) for z, mask in zip(logits, trained_on, strict=True))
    bank = Bank(logits[1:], trained_on[1:], labels, oracles[1:])
    return Evidence(logits[0], labels, bank, features, oracles[0]), trained_on[0]


def test_sensitivity_is_the_mean_slope_over_the_noises():
    features = np.random.default_rng(1).normal(0, 1, (5, 6))
    found = samia.sensitivity(Oracle(linear), features)
    p = softmax(linear(features), axis=1)
    generator = np.random.default_rng(0)
    expected = np.zeros((5, 3))
    for _ in range(10):
        moved = generator.standard_normal(6) @ WEIGHTS
        expected += np.abs(p * (moved - (p * moved).sum(axis=1, keepdims=True))) / 10
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_rounding_to_single_precision_does_not_drown_the_difference():
    features = np.random.default_rng(2).normal(0, 3, (500, 6))
    exact = samia.sensitivity(Oracle(linear), features)
    weights = WEIGHTS.astype(np.float32)
    rounded = samia.sensitivity(Oracle(lambda x: x @ weights), features.astype(np.float32))
    p = softmax(linear(features), axis=1)
    assert (p.astype(np.float32) == 1).any()
    error = np.abs(rounded - exact) / exact
    assert np.median(error) < 1e-3
    assert error.max() < 0.05


def test_what_moves_less_is_found_although_answers_are_the_same(monkeypatch):
    monkeypatch.setattr(samia, "STEPS", 80)
    evidence, is_member = evidence_for(0, steadier=1.8)
    assert auc(samia.attack(evidence), is_member) > 0.9


def test_surer_answers_are_found(monkeypatch):
    monkeypatch.setattr(samia, "STEPS", 80)
    evidence, is_member = evidence_for(1, leak=4.0)
    assert auc(samia.attack(evidence), is_member) > 0.9


def test_nothing_is_learned_from_shuffled_membership(monkeypatch):
    monkeypatch.setattr(samia, "STEPS", 25)
    found = []
    for seed in range(3):
        evidence, is_member = evidence_for(seed, leak=3.0, records=1000)
        rng = np.random.default_rng(seed)
        bank = replace(evidence.bank, trained_on=rng.permuted(evidence.bank.trained_on, axis=0))
        scores = samia.attack(replace(evidence, bank=bank))
        found += [auc(scores, rng.permutation(is_member)) for _ in range(20)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


def test_records_that_change_places_take_their_scores_with_them(monkeypatch):
    monkeypatch.setattr(samia, "STEPS", 10)
    evidence, _ = evidence_for(3, leak=2.0)
    order = np.random.default_rng(3).permutation(240)
    bank = replace(
        evidence.bank,
        logits=evidence.bank.logits[:, order],
        trained_on=evidence.bank.trained_on[:, order],
        labels=evidence.labels[order],
    )
    moved = replace(
        evidence, logits=evidence.logits[order], labels=evidence.labels[order], bank=bank,
        features=evidence.features[order],
    )  # fmt: skip
    np.testing.assert_allclose(samia.attack(moved), samia.attack(evidence)[order], rtol=1e-6, atol=1e-6)


def test_asks_ten_copies_of_the_network_and_of_five_references(monkeypatch):
    monkeypatch.setattr(samia, "STEPS", 1)
    evidence, _ = evidence_for(4, references=6, records=60)
    asked = np.zeros(7, int)

    def counted(number, oracle):
        def query(features):
            asked[number] += len(features)
            return oracle.query(features)

        return Oracle(query)

    oracles = [counted(k, oracle) for k, oracle in enumerate((evidence.oracle, *evidence.bank.oracles))]
    samia.attack(replace(evidence, oracle=oracles[0], bank=replace(evidence.bank, oracles=tuple(oracles[1:]))))
    assert asked.tolist() == [660] * 6 + [0]


def test_each_class_is_a_token_of_three_numbers():
    network = samia.Attacker(12)
    seen = []
    del network.normalise, network.encoder, network.widen
    network.normalise, network.encoder = (lambda rows: rows), (lambda tokens: tokens)
    network.widen = lambda tokens: seen.append(tokens) or tokens.repeat(1, 1, 22)[..., :64]
    rows = np.concatenate([np.full((2, 4), name) + np.arange(4) / 10 for name in (1.0, 2.0, 3.0)], axis=1)
    network(samia.torch.tensor(rows, dtype=samia.torch.float32))
    np.testing.assert_allclose(seen[0][1, 2], [1.2, 2.2, 3.2], rtol=1e-6)


def test_refuses_references_that_answer_no_queries():
    evidence, _ = evidence_for(5, records=20)
    with pytest.raises(ValueError, match=r"'samia' asks the references: expected a bank with oracles; got none"):
        samia.attack(replace(evidence, bank=replace(evidence.bank, oracles=())))
