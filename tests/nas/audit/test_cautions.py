"""Warnings of an audit: each where it belongs, and nowhere else."""

import re
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from estimators.estimate import Estimate
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.statistics.auc_and_rates import auc_difference
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.audit import cautions
from nas.audit.attack_all import audit
from nas.audit.findings import Released
from nas.audit.findings import reversed_of
from tests.audits import draw
from tests.overfit import overfit

RECORDS = 2000
IS_MEMBER = np.arange(RECORDS) < RECORDS // 2


@cache
def overfit_network():
    return overfit("mlp", references=0, epochs=50)


def flattened(logits):
    """What a defence of MemGuard's kind leaves: the same class, always as sure."""
    return 3.0 * (np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def scores_with(value):
    """Scores of just this AUC: so many members stand above all others, or so many others above all members."""
    apart = round(abs(2 * value - 1) * RECORDS / 2)
    scores = np.zeros(RECORDS)
    scores[:apart] = 1.0
    return scores if value >= 0.5 else scores[::-1].copy()


def finding(attack, scores, *, is_label_only=False, of_gap=None):
    return SimpleNamespace(
        attack=attack,
        is_label_only=is_label_only,
        auc=auc_interval(scores, IS_MEMBER),
        over_gap=auc_difference(scores, scores_with(0.5) if of_gap is None else of_gap, IS_MEMBER),
        scores=scores,
        null=None,
        on_shadows=None,
    )


def masking(findings, is_member=IS_MEMBER):
    ranked = sorted(findings, key=lambda found: -found.auc.value)
    return [line for line in cautions.all_of(ranked, (), is_member) if line.startswith("masking")]


# Masking.


def test_flattened_confidences_are_flagged_while_labels_betray_the_members():
    evidence, is_member = overfit_network()
    hidden = Evidence(
        flattened(evidence.logits),
        evidence.labels,
        features=evidence.features,
        oracle=Oracle(lambda features: flattened(evidence.oracle.query(features))),
    )
    np.testing.assert_array_equal(hidden.logits.argmax(axis=1), evidence.logits.argmax(axis=1))
    attacks = ["confidence", "entropy", "gap", "label_augment"]
    found = audit(hidden, is_member, seed=0, effort="quick", attacks=attacks)
    assert found.finding("confidence").auc.value == found.finding("entropy").auc.value == 0.5
    assert found.strongest.is_label_only
    assert found.strongest.auc.value >= 0.6
    (line,) = [line for line in found.warnings if line.startswith("masking")]
    assert line.startswith(f"masking: the label-only attack {found.strongest.attack} reaches AUC 0.")
    assert "the best attack on confidences (confidence) 0.500" in line
    # Every attack finds the same of labels as before.
    plain = audit(evidence, is_member, seed=0, effort="quick", attacks=attacks)
    for name in ("gap", "label_augment"):
        assert found.finding(name).auc == plain.finding(name).auc


def test_an_undefended_network_is_not_flagged():
    evidence, is_member = overfit_network()
    found = audit(evidence, is_member, seed=0, effort="quick")
    assert found.finding("gap").auc.value >= cautions.UNMASKED
    assert not found.strongest.is_label_only
    assert not [line for line in found.warnings if line.startswith("masking")]


@pytest.mark.parametrize(
    ("by_confidence", "by_label", "flagged"),
    [(0.5, 0.58, True), (0.65, 0.7, True), (0.6, 0.6, False), (0.7, 0.65, False), (0.5, 0.5, False)],
)
def test_what_labels_surely_betray_beyond_confidences_is_flagged(by_confidence, by_label, flagged):
    found = [finding("loss", scores_with(by_confidence)), finding("gap", scores_with(by_label), is_label_only=True)]
    assert bool(masking(found)) is flagged


@pytest.mark.parametrize(
    ("by_confidence", "by_label", "flagged"),
    [(0.55, 0.6, True), (0.56, 0.6, False), (0.55, 0.59, False), (0.5, 0.6, True), (0.4, 0.7, True)],
)
def test_the_rule_decides_where_chance_could_have_done_it(by_confidence, by_label, flagged, monkeypatch):
    unsure = SimpleNamespace(estimate=Estimate(0.05, -0.1, 0.2), p_value=0.5)
    monkeypatch.setattr(cautions, "auc_difference", lambda *_: unsure)
    found = [
        SimpleNamespace(
            attack=name,
            is_label_only=name == "gap",
            auc=Estimate(value, 0.3, 0.8),
            scores=scores_with(value),
            null=None,
            on_shadows=None,
        )
        for name, value in (("loss", by_confidence), ("gap", by_label))
    ]
    ranked = sorted(found, key=lambda one: -one.auc.value)
    monkeypatch.setattr(cautions, "_no_better_than_gap", lambda _sides: ())
    assert bool(masking(ranked)) is flagged


def test_the_best_of_each_kind_are_compared():
    low, high = scores_with(0.52), scores_with(0.7)
    labels = finding("gap", scores_with(0.65), is_label_only=True)
    assert masking([finding("entropy", low), labels])
    assert not masking([finding("entropy", low), finding("loss", high), labels])
    assert masking([finding("loss", low), finding("label_noise", low, is_label_only=True), labels])


def test_one_kind_alone_cannot_be_masked():
    assert not masking([finding("gap", scores_with(0.8), is_label_only=True)])
    assert not masking([finding("loss", scores_with(0.8))])


# No better than the gap.


def no_better(findings):
    gap = finding("gap", scores_with(0.5), is_label_only=True)
    ran = findings if findings[0].attack == "gap" else [*findings, gap]
    return [line for line in cautions.all_of(ran, (), IS_MEMBER) if "is significantly better" in line]


def test_what_the_gap_finds_too_is_called_overfitting():
    rng = np.random.default_rng(0)
    same = rng.normal(size=RECORDS)
    found = same + IS_MEMBER
    (line,) = no_better([finding("loss", found, of_gap=found)])
    assert "(p < 0.01; best: loss, AUC 0." in line
    assert no_better([finding("loss", found, of_gap=rng.normal(size=RECORDS) + 2 * IS_MEMBER)])
    # At chance, nothing is shown.
    assert not no_better([finding("loss", same, of_gap=same)])
    assert not no_better([finding("loss", scores_with(0.8), of_gap=scores_with(0.6))])
    assert not no_better([finding("gap", scores_with(0.8), is_label_only=True)])
    # Of a single attack that somebody chose, nothing follows about the others.
    assert not cautions.all_of([finding("loss", found, of_gap=rng.normal(size=RECORDS) + IS_MEMBER)], (), IS_MEMBER)


def test_what_people_show_beyond_the_gap_is_not_called_overfitting():
    rng = np.random.default_rng(0)
    same = rng.normal(size=RECORDS) + IS_MEMBER
    gap = finding("gap", scores_with(0.5), is_label_only=True)
    weak = [finding("loss", same, of_gap=same), gap]
    strong = [finding("loss", scores_with(0.8), of_gap=scores_with(0.6)), gap]
    none = [finding("loss", rng.normal(size=RECORDS), of_gap=rng.normal(size=RECORDS)), gap]

    def told(of_records, of_people):
        people = SimpleNamespace(findings=of_people, is_member=IS_MEMBER, is_null_known=False)
        return [line for line in cautions.all_of(of_records, (), IS_MEMBER, people) if "accuracy gap" in line]

    assert [line.partition(":")[0] for line in told(weak, weak)] == [
        "no attack is significantly better than the accuracy gap (p < 0.01; best",
        "people",
    ]
    assert told(none, weak)[0].startswith("people: no attack is significantly better than the accuracy gap")
    assert told(none, weak)[0].endswith("the audit shows overfitting, not that single people are remembered")
    assert told(weak, strong) == told(strong, weak) == told(none, none) == []


def test_people_whom_labels_betray_are_flagged_where_records_are_not():
    labels = finding("gap", scores_with(0.7), is_label_only=True)
    people = SimpleNamespace(
        findings=[labels, finding("loss", scores_with(0.5))], is_member=IS_MEMBER, is_null_known=False
    )
    (line,) = cautions.all_of([finding("loss", scores_with(0.8))], (), IS_MEMBER, people)
    assert line.startswith("people: masking: the label-only attack gap reaches AUC 0.700")


# Below the gap.


def below_gap(findings, is_member=IS_MEMBER):
    return [line for line in cautions.all_of(findings, (), is_member) if "below the accuracy gap" in line]


def test_what_is_surely_below_the_gap_is_told_with_both_figures():
    found = finding("entropy", scores_with(0.52), of_gap=scores_with(0.65))
    (line,) = below_gap([found])
    assert line.startswith("below the accuracy gap: entropy, the strongest attack that was asked for, has AUC 0.520, ")
    assert "tells members with AUC 0.650: the leakage is no less than that" in line
    people = SimpleNamespace(findings=[found], is_member=IS_MEMBER, is_null_known=False)
    above = finding("loss", scores_with(0.8), of_gap=scores_with(0.65))
    (line,) = [one for one in cautions.all_of([above], (), IS_MEMBER, people) if "below the accuracy gap" in one]
    assert line.startswith("people: below the accuracy gap: entropy")


def test_what_is_above_the_gap_or_below_it_by_chance_is_not_told():
    gap = scores_with(0.65)
    assert not below_gap([finding("loss", scores_with(0.8), of_gap=gap)])
    assert not below_gap([finding("loss", gap, of_gap=gap)])
    noisy = np.random.default_rng(0).normal(size=RECORDS)
    assert not below_gap([finding("loss", noisy, of_gap=np.roll(noisy, 1))])
    # A stronger one that ran beside it is the one that counts.
    weak = finding("entropy", scores_with(0.52), of_gap=gap)
    assert not below_gap([finding("loss", scores_with(0.7), of_gap=gap), weak])
    unlabelled = SimpleNamespace(**{**vars(weak), "over_gap": None})
    assert not below_gap([unlabelled])


@pytest.mark.parametrize("beside", [(), ("gap",)], ids=["alone", "beside the gap"])
@pytest.mark.parametrize("attack", ["loss", "confidence", "entropy", "modified_entropy"])
def test_no_attack_on_metrics_is_below_the_gap_without_a_warning(attack, beside):
    """N3 of the published defences: where confidences are hidden, right predictions betray what metrics do not."""
    evidence, is_member = overfit_network()
    quiet = Evidence(np.round(flattened(evidence.logits)), evidence.labels)
    found = audit(quiet, is_member, seed=0, effort="quick", attacks=[attack, *beside])
    one = found.finding(attack)
    is_below = one.over_gap.estimate.high < 0
    assert is_below is (attack in ("confidence", "entropy"))  # those that know the label find the gap behind the mask
    told = [line for line in found.warnings if line.startswith(("below the accuracy gap", "masking"))]
    assert bool(told) is is_below


# The wrong way round.


def wrong_way(findings):
    ranked = sorted(findings, key=lambda found: -found.auc.value)
    return [line for line in cautions.all_of(ranked, (), IS_MEMBER) if line.startswith("wrong way round")]


def test_an_inverted_membership_is_an_alarm_before_all_others():
    evidence, is_member = draw(0, 1.5)
    found = audit(evidence, ~is_member, seed=0, effort="quick", attacks=["loss", "lira_online", "gap", "rmia"])
    assert found.is_alarming
    first = found.warnings[0]
    assert re.match(
        r"wrong way round: members score significantly below non-members by (\w+) AUC 0\.[0-4]\d\d \(", first
    )
    assert "Most likely 'is_member' is inverted; else the labels are not in the order of" in first
    assert not any("is significantly better than the accuracy gap" in line for line in found.warnings)
    assert not audit(evidence, is_member, seed=0, effort="quick", attacks=["loss", "lira_online"]).reversed


def test_attacks_that_point_the_wrong_way_beside_a_stronger_one_are_named():
    (line,) = wrong_way([finding("loss", scores_with(0.8)), finding("lira", scores_with(0.4))])
    assert "by lira AUC 0.400 (" in line
    assert line.endswith(
        "disregard these attacks ('trained_on' may be the wrong way round); others find more in the right direction"
    )
    (line,) = wrong_way([finding("lira", scores_with(0.8)), finding("loss", scores_with(0.4))])
    assert "trained_on" not in line
    low = [finding(name, scores_with(0.3)) for name in ("loss", "lira", "rmia", "entropy")]
    assert " and 1 more. This is no sign of safety." in wrong_way(low)[0]


@pytest.mark.parametrize("value", [0.5, 0.51, 0.7])
def test_what_chance_can_do_is_no_alarm(value):
    noisy = np.random.default_rng(0).normal(size=RECORDS)
    assert not wrong_way([finding("entropy", noisy), finding("loss", scores_with(value))])


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize("shape", ["normal", "labels"])
def test_where_nothing_leaks_an_alarm_is_as_rare_as_stated(count, shape):
    rng = np.random.default_rng(count)
    is_member, alarms = np.arange(2 * count) < count, 0
    for _ in range(400):
        scores = [rng.normal(size=2 * count) for _ in range(10)]
        scores = [one > 0.8 for one in scores] if shape == "labels" else scores
        found = [
            SimpleNamespace(scores=1.0 * one, auc=auc_interval(1.0 * one, is_member), on_shadows=None) for one in scores
        ]
        alarms += bool(reversed_of(sorted(found, key=lambda one: -one.auc.value), is_member))
    assert alarms <= 18  # of 400 with a chance of 2.5 % each, more are a matter of 1 %


# The set.


def released(value, p_value):
    over = SimpleNamespace(estimate=Estimate(value, value - 0.01, value + 0.01), p_value=p_value)
    alone = Released("as trained", "loss", 3, Estimate(0.7, 0.6, 0.8))
    return (
        alone,
        Released("8 bits", "loss", 3, Estimate(0.69, 0.6, 0.8)),
        Released("all together", "together", 1, Estimate(0.75, 0.7, 0.8), None, over),
    )


@pytest.mark.parametrize(
    ("value", "p_value", "warned"), [(0.05, 0.001, True), (0.05, 0.02, False), (-0.05, 0.001, False), (0.0, 1.0, False)]
)
def test_a_set_that_surely_leaks_more_is_flagged(value, p_value, warned):
    found = [finding("loss", scores_with(0.8))]
    lines = [
        line for line in cautions.all_of(found, released(value, p_value), IS_MEMBER) if "released versions" in line
    ]
    assert bool(lines) is warned
    if warned:
        (line,) = lines
        assert line.startswith("the released versions leak more together than each alone: AUC 0.750, ")
        assert line.endswith("above the best single version by 0.050 (0.040 to 0.060)")


def noisy(evidence, seed):
    """A version of a network, and of its shadows, that errs on its own."""
    rng = np.random.default_rng(seed)
    bank = replace(evidence.bank, logits=evidence.bank.logits + rng.normal(0, 2, evidence.bank.logits.shape))
    return replace(evidence, logits=evidence.logits + rng.normal(0, 2, evidence.logits.shape), bank=bank)


def test_versions_that_err_apart_are_flagged_in_an_audit_and_a_copy_is_not():
    evidence, is_member = draw(0, 3.5)
    first, second = noisy(evidence, 1), noisy(evidence, 2)
    leaks = audit(first, is_member, seed=0, attacks=["loss"], versions={"other": second})
    assert any(line.startswith("the released versions leak more") for line in leaks.warnings)
    copied = audit(first, is_member, seed=0, attacks=["loss"], versions={"copy": first})
    assert not any("released versions" in line for line in copied.warnings)


# The proxy, and test records.


@pytest.mark.parametrize(
    ("proxy", "audited", "warned"),
    [
        ((0.6, 0.58, 0.62), (0.7, 0.68, 0.72), True),
        ((0.6, 0.58, 0.66), (0.7, 0.64, 0.72), False),  # intervals overlap
        ((0.6, 0.58, 0.68), (0.7, 0.68, 0.72), False),  # they touch
        ((0.8, 0.78, 0.82), (0.7, 0.68, 0.72), False),  # the proxy saw more
    ],
)
def test_a_proxy_disagrees_beyond_both_intervals_only(proxy, audited, warned):
    lines = cautions.proxy_disagrees(Estimate(*proxy), Estimate(*audited))
    assert bool(lines) is warned
    if warned:
        assert lines == (
            "the search's proxy is below the audit: proxy AUC 0.600 (0.580 to 0.620), audit AUC 0.700 (0.680 to 0.720)",
        )


def test_test_records_opened_before_are_told():
    assert cautions.test_was_open([]) == ()
    (line,) = cautions.test_was_open([12, 3])
    assert line.startswith("the test records were used before, in audits of candidates 3, 12 of this run: ")


def test_errors_on_test_records_that_somebody_saw_are_told():
    assert cautions.errors_were_seen([]) == ()
    (line,) = cautions.errors_were_seen([12, 3])
    assert line.startswith("the error on test records was looked at before, of candidates 3, 12 of this run: ")


def test_nothing_to_warn_of_is_nothing():
    assert cautions.all_of([finding("loss", scores_with(0.8))], (), IS_MEMBER) == ()
