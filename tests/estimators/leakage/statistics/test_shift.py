"""What an attack would find had nothing been memorised: by hand, without a shift, with one, and with a leak."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import logit

from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.shift import OnReferences
from estimators.leakage.statistics.shift import corrected_auc
from estimators.leakage.statistics.shift import null_auc

RECORDS = 400
IS_MEMBER = np.arange(RECORDS) < RECORDS // 2


def pair(rng, records=RECORDS):
    """Two references, each of which left out the half that the other was trained on."""
    first = rng.permutation(records) < records // 2
    return np.stack([first, ~first])


def drawn(seed, shift=0.0, leak=0.0, memorised=5.0):
    """Scores of a network and of two references: hardness of the record, the members easier, and noise of the training.

    What a reference was trained on scores far higher: it must not count.
    """
    rng = np.random.default_rng(seed)
    left_out = pair(rng)
    hardness = rng.logistic(size=RECORDS) + shift * IS_MEMBER
    on = np.stack([hardness + 0.1 * rng.normal(size=RECORDS) for _ in left_out]) + memorised * ~left_out
    return hardness + 0.1 * rng.normal(size=RECORDS) + leak * IS_MEMBER, OnReferences(on, left_out)


def test_the_null_is_the_mean_auc_of_what_each_reference_left_out():
    rng = np.random.default_rng(0)
    scores, left_out = rng.normal(size=(2, RECORDS)), pair(rng)
    by_hand = [auc(own[rows], IS_MEMBER[rows]) for own, rows in zip(scores, left_out, strict=True)]
    assert null_auc(OnReferences(scores, left_out), IS_MEMBER).value == pytest.approx(np.mean(by_hand), abs=1e-3)


def test_what_references_memorised_does_not_count():
    quiet, loud = (null_auc(drawn(1, memorised=memorised)[1], IS_MEMBER) for memorised in (0.0, 50.0))
    assert loud == quiet


def test_a_null_without_a_shift_holds_a_half_as_often_as_it_says():
    nulls = [null_auc(drawn(seed)[1], IS_MEMBER) for seed in range(200)]
    assert 0.91 <= np.mean([null.low <= 0.5 <= null.high for null in nulls]) <= 0.99


def test_a_shift_is_found_and_is_no_leak():
    corrected = []
    for seed in range(100):
        found, on = drawn(seed, shift=1.0)
        assert null_auc(on, IS_MEMBER).low > 0.5
        corrected.append(corrected_auc(found, on, IS_MEMBER))
    assert np.mean([one.low <= 0.5 <= one.high for one in corrected]) >= 0.9
    assert np.mean([one.value for one in corrected]) == pytest.approx(0.5, abs=0.005)


def test_of_a_shift_and_a_leak_the_leak_is_left():
    alone = np.mean([corrected_auc(*drawn(seed, leak=1.0), IS_MEMBER).value for seed in range(50)])
    both = np.mean([corrected_auc(*drawn(seed, shift=1.0, leak=1.0), IS_MEMBER).value for seed in range(50)])
    raw = np.mean([auc(drawn(seed, shift=1.0, leak=1.0)[0], IS_MEMBER) for seed in range(50)])
    assert both == pytest.approx(alone, abs=0.02)
    assert raw > alone + 0.1


def test_the_correction_is_a_difference_of_log_odds():
    found, on = drawn(3, shift=0.5, leak=0.5)
    expected = expit(logit(auc(found, IS_MEMBER)) - logit(null_auc(on, IS_MEMBER).value))
    assert corrected_auc(found, on, IS_MEMBER).value == pytest.approx(expected)


def test_members_that_are_harder_hide_a_leak():
    found, on = drawn(4, shift=-1.0, leak=1.0)
    assert corrected_auc(found, on, IS_MEMBER).value > auc(found, IS_MEMBER) + 0.1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_that_separate_all_have_ends(value):
    perfect = np.where(IS_MEMBER, value, 1 - value)
    on = OnReferences(np.stack([perfect, perfect]), pair(np.random.default_rng(0)))
    for one in (null_auc(on, IS_MEMBER), corrected_auc(perfect, on, IS_MEMBER)):
        assert 0 <= one.low <= one.value <= one.high <= 1
        assert one.high - one.low > 0.05


def test_references_that_left_out_too_few_are_refused():
    left_out = np.zeros((1, RECORDS), bool)
    left_out[0, :9] = True
    with pytest.raises(ValueError, match="left out at least 10 members and 10 non-members"):
        null_auc(OnReferences(np.zeros((1, RECORDS)), left_out), IS_MEMBER)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected scores and left_out \(references, records\)"):
        null_auc(OnReferences(np.zeros((2, 5)), np.ones((2, RECORDS), bool)), IS_MEMBER)
