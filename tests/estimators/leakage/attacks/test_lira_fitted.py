"""LiRA across architectures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.estimate import Estimate
from estimators.leakage.attacks import lira_fitted
from estimators.leakage.attacks import rmia
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc

RECORDS, CLASSES, REFERENCES = 3000, 6, 8


def logits_with(phi, labels, rng):
    """Logits of two steps: the true label's log odds are `phi`."""
    logits = rng.normal(0, 0.01, (len(phi), CLASSES))
    rows = np.arange(len(phi))
    logits[rows, labels] = 0
    others = np.exp(logits).sum(axis=1) - 1
    logits[rows, labels] = phi + np.log(others)
    return logits


def world(seed=0, scale=1.0, shift=0.0, leak=1.5, by_class=0.0):
    """A candidate whose log odds are those of the bank's architecture, stretched and moved; and who is a member."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, RECORDS)
    easy = rng.normal(0, 2, RECORDS)
    gap = leak * np.exp(-easy / 4)  # knowing shows most where it is hard
    order = [rng.permutation(RECORDS) for _ in range(REFERENCES // 2 + 1)]
    masks = np.stack([half for one in order for half in (one < RECORDS // 2, one >= RECORDS // 2)])
    phi = easy + gap * masks + rng.normal(0, 0.5, masks.shape)
    own = scale * phi[0] + shift + by_class * labels
    bank = Bank(np.stack([logits_with(each, labels, rng) for each in phi[2:]]), masks[2:], labels)
    return Evidence(logits_with(own, labels, rng), labels, bank), masks[0], easy + gap / 2, gap


def test_the_score_is_the_distance_above_the_true_midpoint_times_the_gap():
    evidence, _, midpoint, gap = world()
    ideal = gap * (scaled_logit(evidence.logits, evidence.labels) - midpoint)
    assert np.corrcoef(lira_fitted.attack(evidence), ideal)[0, 1] > 0.97


@pytest.mark.parametrize(("scale", "shift", "by_class"), [(1.0, 3.0, 0.0), (0.3, -2.0, 0.0), (3.0, 0.0, 2.0)])
def test_how_sure_a_candidate_is_does_not_move_its_auc(scale, shift, by_class):
    plain, is_member, *_ = world()
    moved, _, *_ = world(scale=scale, shift=shift, by_class=by_class)
    aucs = [auc(lira_fitted.attack(evidence), is_member) for evidence in (plain, moved)]
    assert aucs[1] == pytest.approx(aucs[0], abs=0.005)
    others = [auc(rmia.attack(evidence), is_member) for evidence in (plain, moved)]
    assert abs(others[1] - others[0]) > 0.01  # offline RMIA measures the candidate's scale, too


def test_leaks_rank_in_their_order_and_none_is_none():
    aucs = []
    for leak in (0.0, 0.3, 0.8, 2.0):
        evidence, is_member, *_ = world(seed=3, leak=leak)
        aucs.append(auc(lira_fitted.attack(evidence), is_member))
    assert aucs[0] == pytest.approx(0.5, abs=0.03)
    assert aucs == sorted(aucs)
    assert aucs[-1] > 0.95


def test_nobody_says_who_is_a_member_so_halves_of_one_pair_are_mirrored():
    evidence, is_member, *_ = world(seed=4)
    scores = lira_fitted.attack(evidence)
    assert auc(scores, ~is_member) == pytest.approx(1 - auc(scores, is_member))


def test_a_class_of_few_records_leans_to_all_others():
    evidence, *_ = world(seed=5)
    labels = evidence.labels.copy()
    labels[0] = CLASSES  # a class of its own would fit itself, and score 0
    pad = np.full((RECORDS, 1), -3.0)
    logits = np.concatenate([evidence.logits, pad], axis=1)
    references = np.concatenate([evidence.bank.logits, np.full((REFERENCES, RECORDS, 1), -3.0)], axis=2)
    logits[0, CLASSES], references[:, 0, CLASSES] = 8.0, 0.0
    scores = lira_fitted.attack(Evidence(logits, labels, Bank(references, evidence.bank.trained_on, labels)))
    assert scores[0] > np.quantile(scores, 0.99)


def test_a_bank_that_says_nothing_leaves_the_distance():
    evidence, *_ = world(seed=6)
    same = Bank(np.repeat(evidence.logits[None], 2, axis=0), evidence.bank.trained_on[:2], evidence.labels)
    scores = lira_fitted.attack(Evidence(evidence.logits, evidence.labels, same))
    assert np.isfinite(scores).all()


def test_every_record_needs_a_reference_trained_on_it():
    labels = np.zeros(4, int)
    bank = Bank(np.zeros((2, 4, 2)), np.array([[True, True, False, False], [False] * 4]), labels)
    with pytest.raises(ValueError, match=r"'lira_fitted' expected every record .* 2 of 4 have none"):
        lira_fitted.attack(Evidence(np.zeros((4, 2)), labels, bank))


def known_to_the_bank(share, seed=0):
    """A candidate of whose log odds the bank knows that share of the variance; the rest is noise."""
    rng = np.random.default_rng(seed)
    evidence, *_ = world(seed=seed)
    phi = np.stack([scaled_logit(logits, evidence.labels) for logits in evidence.bank.logits])
    mean_out = phi.mean(axis=0, where=~evidence.bank.trained_on)
    own = np.sqrt(share) * mean_out / mean_out.std() + np.sqrt(1 - share) * rng.normal(size=RECORDS)
    return Evidence(logits_with(own, evidence.labels, rng), evidence.labels, evidence.bank)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_what_the_bank_knows_of_a_candidate_is_the_share_that_it_explains(share):
    # The fit has ten coefficients on 3,000 records, and the clipping of the tails takes a little.
    assert lira_fitted.explained(known_to_the_bank(share)) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    # Phi(1.2 * .84162) and Phi(1.5 * .84162), with .84162 = Phi^-1(.8); half the way between, the factor is 1.35.
    ("share", "high"),
    [(0.2, 0.8437), (0.525, 0.8721), (0.9, 0.8966)],
)
def test_the_upper_end_rises_with_what_the_bank_explains(monkeypatch, share, high):
    monkeypatch.setattr(lira_fitted, "explained", lambda _evidence: share)
    raised = lira_fitted.widen(Estimate(0.77, 0.74, 0.8), None)
    assert (raised.value, raised.low) == (0.77, 0.74)
    assert raised.high == pytest.approx(high, abs=1e-4)


@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_an_upper_end_is_never_lowered_and_stays_an_auc(less, more, ends):
    low, value, high = sorted(ends)
    interval = Estimate(value, low, high)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for share in sorted([less, more]):
            patch.setattr(lira_fitted, "explained", lambda _evidence, share=share: share)
            found.append(lira_fitted.widen(interval, None).high)
    assert high <= found[0] <= found[1] <= 1
    assert found[1] == high or high > 0.5


def test_a_candidate_that_answers_all_alike_is_explained():
    evidence, *_ = world()
    same = Evidence(np.zeros((RECORDS, CLASSES)), evidence.labels, evidence.bank)
    assert lira_fitted.explained(same) == 1
