"""LiRA, offline and online, and the calibrated loss: attacks that hold a record against its own references."""

import numpy as np
import pytest
from scipy.stats import norm

from estimators.leakage.attacks import calibrated_loss
from estimators.leakage.attacks import lira
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import log_probabilities
from estimators.leakage.scores import scaled_logit
from estimators.leakage.shared import online_scores
from estimators.leakage.statistics.auc_and_rates import auc

ALL = [calibrated_loss, lira, lira_online]
each = pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__.rsplit(".", 1)[1])

# Two references left each record out, two were trained on it.
OUT = [[1.0, 0.0], [3.0, 4.0]]  # means 2 and 2, squares 2 and 8: variance 10 / 2 = 5
IN = [[5.0, 4.0], [7.0, 4.0]]  # means 6 and 4, squares 2 and 0: variance 2 / 2 = 1
TRAINED_ON = [[False, False], [False, False], [True, True], [True, True]]


def evidence_for(phi, references, trained_on):
    """Two classes: the log odds of the first are the difference of the logits."""
    logits = np.stack([np.asarray(phi, float), np.zeros(len(phi))], axis=-1)
    references = np.asarray(references, float)
    labels = np.zeros(len(phi), int)
    bank = Bank(np.stack([references, np.zeros_like(references)], axis=-1), np.asarray(trained_on, bool), labels)
    return Evidence(logits, labels, bank)


def random_evidence(seed, *, references=8, records=300, classes=4, leak=2.0):
    rng = np.random.default_rng(seed)
    trained_on = (rng.random((references + 1, records)).argsort(axis=0) < (references + 1) // 2) ^ (
        rng.random(records) < 0.5
    )
    labels = rng.integers(0, classes, records)
    logits = rng.normal(0, 2, (records, classes)) + rng.normal(0, 1, (references + 1, records, classes))
    logits[:, np.arange(records), labels] += leak * trained_on
    return Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels)), trained_on[0]


def test_calibrated_loss_by_hand():
    # log p = -log(1 + exp(-phi)): own 0.9 against 0.6 and 0.2 left out; 0.99 was trained on it.
    phi = np.log([[0.6 / 0.4], [0.2 / 0.8], [99.0]])
    evidence = evidence_for([np.log(9.0)], phi, [[False], [False], [True]])
    expected = np.log(0.9) - (np.log(0.6) + np.log(0.2)) / 2
    np.testing.assert_allclose(calibrated_loss.attack(evidence), [expected], rtol=1e-12)


def test_lira_by_hand():
    evidence = evidence_for([4.0, 2.0 - np.sqrt(5.0)], OUT + IN, TRAINED_ON)
    np.testing.assert_allclose(lira.attack(evidence), [2 / np.sqrt(5.0), -1.0], rtol=1e-12)


def test_online_lira_by_hand():
    # In: 0.5 and 3 from the mean, squared, over 2. Out: 3.5 and 1, squared, over 10. Deviations 1 and root 5.
    evidence = evidence_for([5.5, 1.0], OUT + IN, TRAINED_ON)
    expected = np.array([-0.125 + 1.225, -4.5 + 0.1]) + np.log(5.0) / 2
    np.testing.assert_allclose(lira_online.attack(evidence), expected, rtol=1e-12)


@pytest.mark.parametrize("references", [8, 70])
def test_scores_equal_the_plain_formulas(references):
    evidence, _ = random_evidence(0, references=references)
    phi = np.stack([scaled_logit(logits, evidence.labels) for logits in evidence.bank.logits])
    own, mask = scaled_logit(evidence.logits, evidence.labels), evidence.bank.trained_on
    spread = {}
    for side, among in (("in", mask), ("out", ~mask)):
        spread[side] = [phi[among[:, x], x].std(ddof=1) for x in range(300)]
        if references < 64:
            residuals = [phi[among[:, x], x] - phi[among[:, x], x].mean() for x in range(300)]
            total = np.concatenate(residuals)
            spread[side] = [np.sqrt((total**2).sum() / (len(total) - 300))] * 300
    offline, online = [], []
    for x in range(300):
        inside, outside = phi[mask[:, x], x].mean(), phi[~mask[:, x], x].mean()
        offline.append(norm.cdf(own[x], outside, spread["out"][x]))
        ratio = norm.logpdf(own[x], inside, spread["in"][x]) - norm.logpdf(own[x], outside, spread["out"][x])
        online.append(ratio)
    np.testing.assert_allclose(norm.cdf(lira.attack(evidence)), offline, rtol=1e-9)
    np.testing.assert_allclose(lira_online.attack(evidence), online, rtol=1e-9, atol=1e-9)


def test_offline_lira_is_one_sided():
    # Far less sure than networks that never saw the record: improbable, and no member.
    evidence = evidence_for([-50.0, 2.0], OUT + IN, TRAINED_ON)
    assert lira.attack(evidence)[0] < lira.attack(evidence)[1] == 0


def test_the_probability_of_lira_would_tie_and_its_score_does_not():
    evidence = evidence_for([200.0, 300.0], OUT + IN, TRAINED_ON)
    scores = lira.attack(evidence)
    assert norm.cdf(scores).tolist() == [1.0, 1.0]
    assert scores[0] < scores[1]


def test_below_64_references_lira_ranks_as_the_difference_of_log_odds():
    evidence, _ = random_evidence(1)
    phi = np.stack([scaled_logit(logits, evidence.labels) for logits in evidence.bank.logits])
    difference = scaled_logit(evidence.logits, evidence.labels) - phi.mean(axis=0, where=~evidence.bank.trained_on)
    assert np.array_equal(np.argsort(lira.attack(evidence)), np.argsort(difference))


@each
def test_offline_attacks_ignore_references_trained_on_the_record_and_online_reads_them(module):
    evidence, _ = random_evidence(2)
    trained_on = evidence.bank.trained_on
    logits = np.where(trained_on[:, :, None], -3 * evidence.bank.logits, evidence.bank.logits)
    changed = Evidence(evidence.logits, evidence.labels, Bank(logits, trained_on, evidence.labels))
    if module is lira_online:
        assert (module.attack(changed) != module.attack(evidence)).all()
    else:
        np.testing.assert_array_equal(module.attack(changed), module.attack(evidence))
    logits = np.where(trained_on[:, :, None], evidence.bank.logits, -3 * evidence.bank.logits)
    changed = Evidence(evidence.logits, evidence.labels, Bank(logits, trained_on, evidence.labels))
    assert (module.attack(changed) != module.attack(evidence)).all()


@each
def test_the_order_of_references_does_not_matter(module):
    evidence, _ = random_evidence(3)
    order = np.random.default_rng(3).permutation(8)
    bank = Bank(evidence.bank.logits[order], evidence.bank.trained_on[order], evidence.labels)
    shuffled = Evidence(evidence.logits, evidence.labels, bank)
    np.testing.assert_allclose(module.attack(shuffled), module.attack(evidence), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("module", [*ALL, rmia_online], ids=lambda module: module.__name__.rsplit(".", 1)[1])
def test_the_bank_is_read_once_for_all_candidates(module, monkeypatch):
    reads = "scaled_logit" if "lira" in module.__name__ else "log_probabilities"
    computes = online_scores if module in (lira_online, rmia_online) else module
    calls, read = [], getattr(computes, reads)
    monkeypatch.setattr(computes, reads, lambda *network: calls.append(1) or read(*network))
    evidence, _ = random_evidence(4)
    for k in range(1, 11):
        module.attack(Evidence(k * evidence.logits, evidence.labels, evidence.bank))
    # Eight references once, ten candidates.
    assert len(calls) == 18
    # Another bank with other numbers is another bank.
    bank = Bank(evidence.bank.logits / 2, evidence.bank.trained_on, evidence.labels)
    other = module.attack(Evidence(evidence.logits, evidence.labels, bank))
    assert (other != module.attack(evidence)).all()


@pytest.mark.parametrize("module", [calibrated_loss, lira])
def test_one_reference_that_saw_nothing_is_enough_offline(module):
    evidence = evidence_for([4.0, 1.0], [[1.0, 2.0]], [[False, False]])
    scores = module.attack(evidence)
    assert scores[0] > 0 > scores[1]


@pytest.mark.parametrize("missing", [True, False])
def test_online_refuses_a_record_with_one_reference_on_a_side(missing):
    trained_on = np.array(TRAINED_ON)
    trained_on[0 if missing else 2, 1] = missing
    with pytest.raises(ValueError, match=r"'lira_online' expected two references or more .* 1 of 2 records have fewer"):
        lira_online.attack(evidence_for([4.0, 1.0], OUT + IN, trained_on))


@pytest.mark.parametrize("module", ALL)
def test_references_that_all_agree_give_finite_scores(module):
    evidence = evidence_for([1e4, -1e4, 0.0], np.zeros((4, 3)), [[k < 2] * 3 for k in range(4)])
    scores = module.attack(evidence)
    assert np.isfinite(scores).all()


@each
def test_beats_the_loss_threshold_where_records_differ_in_difficulty(module):
    evidence, is_member = random_evidence(6, records=4000, leak=1.5)
    loss = auc(log_probabilities(evidence.logits, evidence.labels), is_member)
    assert auc(module.attack(evidence), is_member) > loss + 0.03


def test_online_uses_what_offline_cannot():
    # Some records stick and some do not: only references trained on them can tell.
    rng = np.random.default_rng(8)
    records, references = 4000, 20
    trained_on = rng.random((references + 1, records)).argsort(axis=0) < references // 2
    trained_on ^= rng.random(records) < 0.5
    sticks = rng.choice([0.0, 6.0], records)
    phi = rng.normal(0, 1.5, (references + 1, records)) + sticks * trained_on
    evidence = evidence_for(phi[0], phi[1:], trained_on[1:])
    online, offline = (auc(module.attack(evidence), trained_on[0]) for module in (lira_online, lira))
    assert online > offline + 0.005
