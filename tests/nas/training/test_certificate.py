import math

import pytest

from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from nas.training import certificate

MECHANISM = Mechanism(2.0, 0.25, 40)
NUMBERS = {"noise_multiplier": 2.0, "sampling_rate": 0.25, "private_steps": 40}


def guarantee(delta=1e-4, **changes):
    epsilon = epsilon_of(MECHANISM, delta)
    return {"epsilon": epsilon, "delta": delta, "epsilon_prv": epsilon, "epsilon_naive": 80.0, **NUMBERS, **changes}


def test_a_certificate_is_found_among_a_candidates_numbers():
    assert certificate.stated({**guarantee(), "error": 0.1, "name": "x", "epsilon_low": 0.0}) == guarantee()
    assert certificate.stated({"epsilon": 1.0, "error": 0.1}) == {}


def test_what_is_promised_is_said_with_what_no_attack_exceeds():
    found = guarantee()
    text = certificate.promise(found)
    assert text.startswith(f"differentially private with epsilon at most {found['epsilon']:.3g} at delta 0.0001")
    assert text.endswith(f"above {certificate.largest_advantage(found['epsilon'], 1e-4):.3f}")
    assert certificate.may_be_called_private(found)


@pytest.mark.parametrize("epsilon", [10.01, 50.0, 1e6])
def test_above_ten_nothing_is_called_private(epsilon):
    found = guarantee(epsilon=epsilon)
    assert not certificate.may_be_called_private(found)
    text = certificate.promise(found)
    assert "not to be called private" in text
    assert "differentially private" not in "\n".join([text, *certificate.markdown(found)[:6]])


def test_without_an_accountant_nothing_is_called_private():
    found = {"epsilon": 1.0, "delta": 1e-5}
    assert not certificate.may_be_called_private(found)
    assert "nothing is called private" in certificate.promise(found)
    assert "differentially private" not in certificate.promise(found)
    assert certificate.epsilon_at(found, 1e-4) is None
    assert certificate.beside(found, 0.5, 1e-3)["epsilon"].startswith("not known by the certificate, at least 0.5")
    assert certificate.refuted(found, 99.0, 1e-3) == ()


def test_both_bounds_are_told_at_the_delta_of_the_audit():
    upper = epsilon_of(MECHANISM, 1e-2)
    assert upper < guarantee()["epsilon"]
    told = certificate.beside(guarantee(), 0.75, 1e-2)["epsilon"]
    assert told == f"at most {upper:.3g} by the certificate, at least 0.75 by this audit, both at delta 0.01"


def test_an_audit_that_shows_more_than_is_allowed_is_a_warning():
    upper = epsilon_of(MECHANISM, 1e-2)
    (warning,) = certificate.refuted(guarantee(), upper + 0.5, 1e-2)
    assert "certificate is wrong" in warning
    assert certificate.refuted(guarantee(), upper, 1e-2) == ()
    assert certificate.refuted({}, 99.0, 1e-2) == ()


def test_a_section_has_every_assumption_and_every_accountant():
    text = "\n".join(certificate.markdown(guarantee()))
    assert all(sentence in text for sentence in certificate.ASSUMPTIONS)
    assert "naive composition: 80" in text
    assert "- private steps: 40" in text
    assert certificate.markdown({}) == []
    assert certificate.beside({}, 1.0, 1e-3) == {}


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.0), (2.0, 1e-3), (8.0, 1e-5), (1e4, 1e-5)])
def test_no_test_of_two_hypotheses_does_better(epsilon, delta):
    # The best point of the two constraints TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta.
    fpr = (1 - delta) / (math.exp(min(epsilon, 700)) + 1)
    tpr = min(1.0, math.exp(min(epsilon, 700)) * fpr + delta)
    assert certificate.largest_advantage(epsilon, delta) == pytest.approx(tpr - fpr, abs=1e-12)
