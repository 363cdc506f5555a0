import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.audit.attack_all import audit
from nas.defences import confidence_rounding
from nas.defences.confidence_rounding import RoundedConfidences
from tests.overfit import overfit

few = settings(max_examples=300, deadline=None, derandomize=True)
ORDINARY = st.floats(-30, 30, width=32)
CLOSE = st.sampled_from([0.0, 1e-7, -1e-7, 1e-6, 1.0])


@few
@given(st.integers(0, 3), st.lists(st.one_of(ORDINARY, CLOSE), min_size=2, max_size=12))
def test_the_class_stays_and_confidences_are_coarse_and_sum_to_one(digits, values):
    logits = torch.tensor([values])
    answers = RoundedConfidences(digits)(logits)
    assert answers.argmax(dim=1).tolist() == logits.argmax(dim=1).tolist()
    counts = answers.exp().double() * 10**digits
    assert torch.isfinite(answers).all()
    torch.testing.assert_close(counts, counts.round(), atol=2e-3, rtol=0)
    assert counts.sum().item() == pytest.approx(10**digits, rel=1e-5)
    # nobody is moved by more than a level, but for the class on top, which gets what the others lose
    lost = logits.double().softmax(dim=1) * 10**digits - counts
    others = [index for index in range(len(values)) if index != int(logits.argmax())]
    assert all(-2e-3 <= lost[0, index] <= 1 + 4e-3 for index in others)


def test_no_digits_are_the_class_alone():
    answers = RoundedConfidences(0)(torch.tensor([[0.1, 0.3, 0.2], [9.0, 1.0, 1.0]]))
    assert answers.exp().round(decimals=3).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("digits", [-1, 4])
def test_digits_that_float32_does_not_have_are_refused(digits):
    with pytest.raises(ValueError, match=f"expected confidence_rounding.digits from 0 to 3; got {digits}"):
        confidence_rounding.check(digits)


# What an audit shows of it.


@pytest.fixture(scope="module")
def audits():
    """Audits of one network that knows its members by heart: as trained, and with its confidences hidden."""
    evidence, is_member = overfit("conv", references=0, epochs=40)

    def behind(answers):
        def query(features):
            logits = torch.from_numpy(np.asarray(evidence.oracle.query(features)))
            return np.asarray(answers(logits).numpy())

        return Evidence(query(evidence.features), evidence.labels, features=evidence.features, oracle=Oracle(query))

    attacks = ["loss", "confidence", "entropy", "modified_entropy", "gap", "label_noise"]
    return [
        audit(behind(answers), is_member, seed=0, effort="full", attacks=attacks)
        for answers in (torch.nn.Identity(), RoundedConfidences(2), RoundedConfidences(0))
    ]


def test_attacks_by_confidences_lose_what_is_rounded_away(audits):
    plain, coarse, hidden = audits
    for name in ("loss", "confidence", "entropy", "modified_entropy"):
        before, between, after = (found.finding(name).auc for found in (plain, coarse, hidden))
        assert before.value > after.high, name
        assert before.value + 0.02 >= between.value, name
    assert hidden.finding("entropy").auc.low <= 0.5 <= hidden.finding("entropy").auc.high
    # the class on top is all they have left: they find what the accuracy gap finds
    assert hidden.finding("loss").auc.value == pytest.approx(hidden.finding("gap").auc.value)


def test_attacks_by_labels_alone_see_through_it(audits):
    plain, _, hidden = audits
    for name in ("gap", "label_noise"):
        for found in audits:
            np.testing.assert_array_equal(found.finding(name).scores, plain.finding(name).scores, err_msg=name)
    assert plain.strongest.attack == "loss"
    assert hidden.strongest.attack == "label_noise"


def test_the_audit_says_that_confidences_are_hidden(audits):
    plain, _, hidden = audits
    assert any(warning.startswith("masking: the label-only attack label_noise") for warning in hidden.warnings)
    assert not any(warning.startswith("masking") for warning in plain.warnings)
