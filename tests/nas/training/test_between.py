"""What the bank says of how far trainings lie apart, and what becomes of intervals by it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from estimators.estimate import Estimate
from estimators.leakage.attacks import lira_fitted
from estimators.leakage.attacks import loss
from estimators.leakage.evidence import Bank
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.between_trainings import USUAL
from estimators.leakage.statistics.between_trainings import Spread
from estimators.leakage.statistics.between_trainings import spread_of_pairs
from estimators.leakage.statistics.between_trainings import widened
from nas.records import Records
from nas.training.assess import Bench
from nas.training.assess import measure
from nas.training.bank import halves
from nas.training.between import SPREAD_OF
from nas.training.between import spreads_of
from nas.training.between import with_trainings
from nas.training.measures import MEASURES

CLASSES = 5


def made_up(references, records=400, *, shared=0.0, own=0.3, seed=0):
    """References whose true class stands out more where they were trained on the record, and some trainings more."""
    rng = np.random.default_rng(seed)
    inside = np.stack([halves(records, reference, seed) for reference in range(references)])
    labels = np.arange(records) % CLASSES
    effect = 1.0 + rng.normal(0, shared, size=(references, 1)) if shared else np.ones((references, 1))
    margin = 0.5 + rng.normal(size=records) + effect * inside + rng.normal(0, own, size=inside.shape)
    logits = np.zeros((references, records, CLASSES), dtype=np.float32)
    logits[:, np.arange(records), labels] = margin
    return Bank(logits, inside, labels)


def test_each_reference_is_attacked_with_the_help_of_the_other_pairs():
    bank, seen = made_up(6), []

    def attack(evidence):
        seen.append(evidence)
        return loss.attack(evidence)

    spreads_of(bank, attack)
    assert len(seen) == 6
    for reference, evidence in enumerate(seen):
        others = [number for number in range(6) if number not in {reference, reference ^ 1}]
        np.testing.assert_array_equal(evidence.logits, bank.logits[reference])
        np.testing.assert_array_equal(evidence.bank.logits, bank.logits[others])
        np.testing.assert_array_equal(evidence.bank.trained_on, bank.trained_on[others])
        np.testing.assert_array_equal(evidence.labels, bank.labels)


def test_every_measure_is_learned_from_what_it_is():
    bank = made_up(6, shared=0.5)
    found = spreads_of(bank, loss.attack)
    assert found["leakage"] == found["loss_auc"]  # the attack is the loss here
    right = bank.logits.argmax(axis=2) == bank.labels
    errors = np.array([1 - row[~inside].mean() for row, inside in zip(right, bank.trained_on, strict=True)])
    assert found["error"] == spread_of_pairs(errors, 1.0 - right, [~bank.trained_on])
    gaps = np.array([row[inside].mean() for row, inside in zip(right, bank.trained_on, strict=True)]) - (1 - errors)
    expected = spread_of_pairs(gaps, right.astype(float), [bank.trained_on, ~bank.trained_on])
    assert found["accuracy_gap"].sd == pytest.approx(expected.sd)
    other = spreads_of(bank, lambda evidence: -loss.attack(evidence))
    assert other["leakage"].sd == pytest.approx(found["leakage"].sd)  # turned round, an AUC varies as much
    assert spreads_of(bank, lira_fitted.attack)["leakage"] != found["leakage"]


@pytest.mark.parametrize("attack", [lira_fitted.attack, loss.attack])
def test_trainings_that_differ_as_a_whole_are_found(attack):
    still, moved = (spreads_of(made_up(24, 800, shared=shared, own=1.0), attack)["leakage"] for shared in (0, 0.4))
    assert still.share < 1.5
    assert moved.sd > 2 * still.sd
    assert moved.share > 3 * still.share


@pytest.mark.parametrize(("bank", "fewest"), [(None, 0), (made_up(2), 0), (made_up(4), 3)])
def test_too_few_references_take_the_usual_share(bank, fewest):
    def attack(_evidence):
        raise AssertionError("attacked")

    assert spreads_of(bank, attack, fewest) == dict.fromkeys(("error", "leakage", "loss_auc", "accuracy_gap"), USUAL)


def test_an_attack_that_needs_four_learns_from_six():
    assert spreads_of(made_up(6), loss.attack, 4)["leakage"].pairs == 3


def test_references_that_are_no_pairs_are_refused():
    bank = made_up(4)
    shuffled = replace(bank, logits=bank.logits[[0, 2, 1, 3]], trained_on=bank.trained_on[[0, 2, 1, 3]])
    with pytest.raises(ValueError, match="expected references in pairs that were trained on complementary halves"):
        spreads_of(shuffled, loss.attack)


def test_each_measure_is_widened_by_its_own_spread():
    shares = {"error": 0.5, "leakage": 1.0, "loss_auc": 2.0, "accuracy_gap": 8.0}
    spreads = {name: Spread(share, 0.01, 4) for name, share in shares.items()}
    one = Estimate(0.5, 0.49, 0.51)
    found = with_trainings({**dict.fromkeys(MEASURES, one), "class_error_x": one, "epsilon": one}, spreads)
    widths = {name: round((estimate.high - estimate.low) / 0.02, 3) for name, estimate in found.items()}
    root = {share: round(math.sqrt(max(1, share) + share), 3) for share in shares.values()}
    of_error, of_leakage = root[0.5], root[1.0]
    assert widths == {
        "error": of_error, "balanced_error": of_error, "rarest_class_error": of_error,
        "leakage": of_leakage, "tpr_at_1pct_fpr": of_leakage, "loss_auc": 2.0, "accuracy_gap": 4.0,
        "trainings": 1.0, "class_error_x": 1.0, "epsilon": 1.0,
    }  # fmt: skip
    assert set(SPREAD_OF) == set(MEASURES) - {"trainings"}
    assert with_trainings({"leakage": one}, {}) == {"leakage": one}
    below = with_trainings({"accuracy_gap": Estimate(-0.5, -0.9, 0.0), "error": Estimate(0.1, 0.0, 0.2)}, spreads)
    assert (below["accuracy_gap"].low, below["error"].low) == (-1.0, 0.0)


def test_a_bench_that_knows_spreads_widens_what_is_measured_and_moves_no_value():
    rng = np.random.default_rng(0)
    sets = {
        name: Records(rng.normal(size=(size, 3)).astype(np.float32), np.arange(size) % 3, ("a", "b", "c"))
        for name, size in {"members": 60, "non_members": 60, "validation": 40}.items()
    }
    bench = Bench(SimpleNamespace(**sets), loss.attack, None, {}, 0)
    network = _Linear()
    spreads = dict.fromkeys(SPREAD_OF.values(), Spread(3.0, 0.1, 4))
    plain, wide = measure(network, bench), measure(network, replace(bench, spreads=spreads))
    assert plain["error"] == proportion_interval(round(plain["error"].value * 40), 40)
    scores, members = network.scores([sets["members"], sets["non_members"]]), np.arange(120) < 60
    assert plain["leakage"].low == pytest.approx(auc_interval(scores, members).low, abs=1e-6)
    for name, estimate in plain.items():
        expected = estimate if name not in SPREAD_OF else widened(estimate, 3.0, lowest=-1.0 * (name == "accuracy_gap"))
        assert wide[name] == expected


class _Linear:
    """A network that answers with its features."""

    training = False

    def __call__(self, features):
        return features

    def scores(self, parts):
        logits = np.concatenate([part.features for part in parts])
        return loss.attack(SimpleNamespace(logits=logits, labels=np.concatenate([part.labels for part in parts])))
