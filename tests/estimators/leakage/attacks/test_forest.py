from dataclasses import replace

import numpy as np
import pytest

from estimators.leakage.attacks import forest
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc


def draw(seed=0, *, records=600, references=8, classes=4, leak=1.0, others=None):
    """Draw networks that answer about each record in its own way, and a little surer where they were trained on it.

    With `others`, the references answer as they do about other records with the same labels.
    """
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(records) < records // 2 for _ in range(references // 2 + 1)]
    trained_on = np.stack([mask for half in halves for mask in (half, ~half)])
    labels = rng.integers(0, classes, records)
    logits = rng.normal(0, 3, (records, classes)) + rng.normal(0, 0.3, (len(trained_on), records, classes))
    if others is not None:
        strange = np.random.default_rng(others)
        logits[1:] = strange.normal(0, 3, (records, classes)) + strange.normal(0, 0.3, logits[1:].shape)
    logits[:, np.arange(records), labels] += leak * trained_on
    return Evidence(logits[0], labels, Bank(logits[2:], trained_on[2:], labels)), trained_on[0]


def test_learns_each_record_from_the_references():
    evidence, is_member = draw()
    among_strangers, same_members = draw(others=1)
    assert (same_members == is_member).all()
    by_record = auc(forest.attack(evidence), is_member)
    assert by_record > 0.7
    assert by_record > auc(forest.attack(among_strangers), is_member) + 0.1


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_how_many_references_were_trained_on_a_record_says_nothing_about_the_network(share):
    # The bank's halves follow the audited membership: members are in all references but one, others in one alone.
    evidence, is_member = draw(leak=0.0)
    rng = np.random.default_rng(2)
    trained_on = np.where(is_member, rng.random((8, 600)) < 1 - share, rng.random((8, 600)) < share)
    trained_on[0], trained_on[1] = False, True
    scores = forest.attack(replace(evidence, bank=Bank(evidence.bank.logits, trained_on, evidence.labels)))
    assert auc(scores, is_member) == pytest.approx(0.5, abs=0.095)  # four standard deviations


def test_records_with_references_on_one_side_alone_are_judged_and_not_learned_from():
    evidence, is_member = draw(leak=3.0)
    bank, one_sided = evidence.bank, np.arange(600) < 300
    trained_on = bank.trained_on & ~one_sided
    scores = forest.attack(replace(evidence, bank=Bank(bank.logits, trained_on, evidence.labels)))
    poisoned = np.where(one_sided[:, None], 99.0, bank.logits)
    again = forest.attack(replace(evidence, bank=Bank(poisoned, trained_on, evidence.labels)))
    assert auc(scores[one_sided], is_member[one_sided]) > 0.6
    assert auc(again[one_sided], is_member[one_sided]) > 0.6


def test_refuses_references_that_were_all_trained_on_nothing():
    evidence, _ = draw(records=20)
    bank = replace(evidence.bank, trained_on=np.zeros((8, 20), bool))
    with pytest.raises(ValueError, match="of 20 there is none"):
        forest.attack(replace(evidence, bank=bank))


def test_many_records_are_learned_from_fewer_references(monkeypatch):
    evidence, _ = draw(records=100)
    monkeypatch.setattr(forest, "MAX_EXAMPLES", 450)
    seen = []
    fit = forest.ExtraTreesClassifier.fit
    monkeypatch.setattr(forest.ExtraTreesClassifier, "fit", lambda own, x, y: seen.append(len(x)) or fit(own, x, y))
    forest.attack(evidence)
    assert seen == [400]  # four of eight references, in two complementary pairs
