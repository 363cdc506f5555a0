"""The attacks with a threshold for each class, and how the threshold is found."""

from dataclasses import replace

import numpy as np
import pytest

from estimators.leakage.attacks import confidence_by_class
from estimators.leakage.attacks import entropy_by_class
from estimators.leakage.attacks import modified_entropy_by_class
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import entropy
from estimators.leakage.scores import modified_entropy
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared.learned import class_thresholds
from estimators.leakage.statistics.auc_and_rates import auc

ATTACKS = [confidence_by_class, entropy_by_class, modified_entropy_by_class]
each = pytest.mark.parametrize("module", ATTACKS, ids=lambda module: module.__name__.rsplit(".", 1)[1])
WHOLE = {confidence_by_class: scaled_logit, modified_entropy_by_class: lambda *seen: -modified_entropy(*seen)}


def bank_for(signals, trained_on, labels):
    classes = max(labels) + 1
    logits = np.zeros((*np.shape(signals), classes))
    return Bank(logits, np.array(trained_on, bool), np.array(labels))


def uneven(seed, records=3000, references=4, leak=1.5):
    """Draw networks to which the second class is far easier than the first, for members and others alike."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, records)
    trained_on = np.concatenate([half ^ np.array([[False], [True]]) for half in rng.random((9, 1, records)) < 0.5])
    trained_on = trained_on[: references + 1]
    margin = rng.normal(0, 0.7, trained_on.shape) + leak * trained_on + 4 * labels
    logits = np.zeros((*trained_on.shape, 2))
    logits[:, np.arange(records), labels] = margin
    return Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels)), trained_on[0]


def test_each_class_has_its_own_threshold_by_hand():
    # Class 0: members 4 and 3, others 1 and 2, best above 2. Class 1: members 40 and 30, others 20 and 10: above 20.
    signals = [[4.0, 1.0, 40.0, 20.0], [2.0, 3.0, 10.0, 30.0]]
    trained_on = [[True, False, True, False], [False, True, False, True]]
    bank = bank_for(signals, trained_on, [0, 0, 1, 1])
    np.testing.assert_array_equal(class_thresholds(bank, np.array(signals), fewest=2), [2.0, 20.0])


@pytest.mark.parametrize("kind", [True, False])
def test_a_class_with_too_few_of_a_kind_uses_the_threshold_of_all(kind):
    # Four of each kind in classes 0 and 1, best parted above 2 and above 4; in class 2 a single one of one kind.
    members, others = [9.0, 8.0, 7.0, 6.0], [1.0, 1.2, 1.5, 2.0]
    signals = np.array([[*members, *others, *members, 1.0, 1.2, 1.5, 4.0, 100.0, 50.0, 50.0, 50.0]])
    trained_on = np.array([[True] * 4 + [False] * 4 + [True] * 4 + [False] * 4 + [kind, not kind, not kind, not kind]])
    labels = np.repeat([0, 1, 2], [8, 8, 4])
    bank = Bank(np.zeros((2, 20, 3)), np.concatenate([trained_on, np.zeros_like(trained_on)]), labels)
    signals = np.concatenate([signals, np.full((1, 20), 0.5)])  # a reference that was trained on none of them
    pooled = class_thresholds(bank, signals, fewest=100)
    assert pooled.tolist() == [4.0, 4.0, 4.0]
    assert class_thresholds(bank, signals, fewest=4).tolist() == [2.0, 4.0, 4.0]
    assert class_thresholds(bank, signals, fewest=1)[2] == (50.0 if kind else 0.5)


@each
def test_the_score_is_above_zero_where_the_published_attack_says_member(module):
    evidence, is_member = uneven(0)
    says = module.attack(evidence) > 0
    for label in (0, 1):
        among = evidence.labels == label
        if module is entropy_by_class and not label:
            continue  # it takes the sure mistakes of class 0 for members
        gain = says[among & is_member].mean() - says[among & ~is_member].mean()
        # Two normal distributions 1.5 apart, of deviation .7: the best threshold is right about 86 % of either.
        assert gain == pytest.approx(0.72, abs=0.06)


@each
def test_easy_classes_no_longer_hide_hard_ones(module):
    evidence, is_member = uneven(1)
    alone = auc(WHOLE.get(module, lambda logits, _: -entropy(logits))(evidence.logits, evidence.labels), is_member)
    assert alone < 0.75
    assert auc(module.attack(evidence), is_member) > alone + 0.1


@each
def test_knows_nothing_from_shuffled_membership(module):
    found = []
    for seed in range(8):
        evidence, is_member = uneven(seed)
        rng = np.random.default_rng(seed)
        bank = replace(evidence.bank, trained_on=rng.permuted(evidence.bank.trained_on, axis=0))
        found.append(auc(module.attack(replace(evidence, bank=bank)), rng.permutation(is_member)))
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


@each
def test_sure_records_do_not_tie(module):
    evidence, _ = uneven(2)
    logits = evidence.logits + 60.0 * np.eye(2)[evidence.labels]  # posteriors that are 1 even in float64
    assert len(np.unique(module.attack(replace(evidence, logits=logits)))) == 3000


@each
def test_the_bank_is_read_once_for_all_candidates(module, monkeypatch):
    read = []
    found = module.class_thresholds
    monkeypatch.setattr(module, "class_thresholds", lambda *given: read.append(1) or found(*given))
    evidence, _ = uneven(3)
    for factor in (1, 2, 3):
        module.attack(replace(evidence, logits=factor * evidence.logits))
    assert len(read) == 1
    module.attack(replace(evidence, bank=replace(evidence.bank)))
    assert len(read) == 2


@each
def test_refuses_references_that_saw_nothing(module):
    evidence, _ = uneven(4)
    bank = replace(evidence.bank, trained_on=np.zeros_like(evidence.bank.trained_on))
    with pytest.raises(ValueError, match="member"):
        module.attack(replace(evidence, bank=bank))
