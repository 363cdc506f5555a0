"""The audit of one network: which attacks run, what stands beside each, and what must not change it."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from estimators.leakage.attacks import gap
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.released import together
from estimators.leakage.scores import scaled_logit
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_interval
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.audit.attack_all import EFFORTS
from nas.audit.attack_all import audit
from nas.audit.attack_all import needed_non_members
from nas.audit.attack_all import other_trainings
from nas.audit.attack_all import runnable
from nas.audit.findings import ATTACKS
from nas.base import plugins
from tests.audits import coarse
from tests.audits import draw
from tests.overfit import overfit

NO_BANK = ("gap", "loss", "confidence", "entropy", "modified_entropy")
QUICK = ("gap", "loss", "lira_online", "rmia_online", "rmia", "modified_entropy_by_class")


@cache
def overfit_network():
    """A network that learned its members by heart, with four references."""
    return overfit("mlp", references=4, epochs=50)


@cache
def found_of_overfit():
    evidence, is_member = overfit_network()
    return audit(evidence, is_member, seed=0, effort="quick")


@cache
def simulated(leak=1.5, records=600, references=8):
    return draw(3, leak, records=records, references=references)


def without_bank(evidence):
    return replace(evidence, bank=None)


def rows_of(evidence, rows):
    bank = evidence.bank
    return Evidence(
        evidence.logits[rows],
        evidence.labels[rows],
        Bank(bank.logits[:, rows], bank.trained_on[:, rows], bank.labels[rows]),
    )


# Which attacks run.


def test_every_attack_runs_or_says_why_not():
    found = found_of_overfit()
    ran = {one.attack for one in found.findings}
    everything = set(plugins.available(ATTACKS, "attack"))
    assert ran | set(found.skipped) == everything
    assert not ran & set(found.skipped)
    assert len(found.findings) == len(ran)
    needs = {name: set(plugins.load(ATTACKS, name, "NEEDS")) for name in everything}
    held = overfit_network()[0].holds
    quick = {name for name in everything if plugins.find(ATTACKS, name, "EFFORT") == "quick"}
    assert ran == {name for name in quick if needs[name] <= held}
    assert found.shadows == 4
    assert (found.members, found.non_members) == (500, 500)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    "holds", [(), ("bank",), ("bank", "queries", "population"), ("bank", "queries", "activations")]
)
def test_what_runs_follows_from_what_there_is_and_the_effort(effort, holds):
    names, skipped = runnable(effort, holds, references=64)
    for name in names:
        assert set(plugins.load(ATTACKS, name, "NEEDS")) <= set(holds)
    for name, reason in skipped.items():
        lacking = [need for need in plugins.load(ATTACKS, name, "NEEDS") if need not in holds]
        asks = plugins.find(ATTACKS, name, "EFFORT")
        assert reason == (f"needs {' and '.join(lacking)}" if lacking else f"needs --effort {asks}")
    assert sorted([*names, *skipped]) == plugins.available(ATTACKS, "attack")
    if effort == "full":
        assert not any("--effort" in reason for reason in skipped.values())


def test_an_attack_that_needs_more_references_is_left_out():
    names, skipped = runnable("full", ["bank"], references=2)
    assert skipped["lira_online"] == "needs 4 shadow models"
    assert "lira_online" not in names
    assert "lira_online" in runnable("full", ["bank"], references=4)[0]


def test_attacks_asked_for_run_alone_and_once_and_are_named_before():
    evidence, is_member = simulated()
    seen = []
    found = audit(evidence, is_member, seed=0, attacks=["loss", "lira", "loss"], look=seen.append)
    assert [name for name in seen if " on " not in name] == ["loss", "lira"]
    assert set(seen) == {"loss", "lira", "loss on a shadow model", "lira on a shadow model"}
    assert {one.attack for one in found.findings} == {"loss", "lira"}
    assert not found.skipped


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"effort": "hard"}, "no effort 'hard'; there are ['quick', 'standard', 'full']"),
        ({"attacks": ["guess"]}, "no 'guess' in estimators.leakage.attacks; there are ["),
        ({"attacks": []}, "expected at least one attack; got none; those that can run here are ["),
        ({"attacks": ["loss", "label_augment"]}, "the attack 'label_augment' cannot run here: it needs queries"),
        (
            {"attacks": ["safecompress"], "effort": "standard"},
            "'safecompress' cannot run here: it needs --effort full",
        ),
    ],
)
def test_what_cannot_run_is_refused(options, refusal):
    evidence, is_member = simulated()
    seen = []
    with pytest.raises(ValueError, match=re.escape(refusal)):
        audit(evidence, is_member, seed=0, look=seen.append, **options)
    assert not seen


@pytest.mark.parametrize("is_member", [np.ones(20, bool), np.zeros(20, bool), np.arange(20) < 1, np.arange(20) > 0])
def test_fewer_than_two_members_or_others_are_refused(is_member):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected"):
        audit(Evidence(rng.normal(size=(20, 3)), np.arange(20) % 3), is_member, seed=0, attacks=["loss"])


@pytest.mark.parametrize("is_member", [np.arange(20) < 10, np.arange(600).reshape(300, 2) < 1, np.ones(600, int)])
def test_membership_of_other_records_is_refused(is_member):
    with pytest.raises(ValueError, match="is_member"):
        audit(simulated()[0], is_member, seed=0, attacks=["loss"])


# What stands beside each attack.


def test_findings_are_in_order_and_every_interval_holds_its_value():
    evidence, is_member = overfit_network()
    found = found_of_overfit()
    values = [one.auc.value for one in found.findings]
    assert values == sorted(values, reverse=True)
    assert found.strongest is found.findings[0]
    for one in found.findings:
        assert one.auc == auc_interval(one.scores, is_member)
        for estimate in (one.auc, one.over_gap.estimate, one.balanced_accuracy, one.advantage):
            assert estimate.low <= estimate.value <= estimate.high
        assert one.auc.low < one.auc.high
        assert one.scores.shape == is_member.shape
        assert one.epsilon.delta == 1 / 500
        assert one.seconds >= 0
        assert one.is_label_only == (one.attack in ("gap", "label_augment"))
    np.testing.assert_array_equal(found.finding("loss").scores, loss.attack(evidence))
    with pytest.raises(ValueError, match=r"^no attack 'white_box' in this audit; there are "):
        found.finding("white_box")


def test_the_gap_stands_beside_each_attack():
    evidence, is_member = overfit_network()
    of_gap = auc(gap.attack(evidence), is_member)
    for one in found_of_overfit().findings:
        assert one.over_gap.estimate.value == pytest.approx(one.auc.value - of_gap, abs=1e-12)
    alone = audit(evidence, is_member, seed=0, attacks=["rmia_online"]).findings[0]
    assert alone.over_gap.estimate.value == pytest.approx(alone.auc.value - of_gap, abs=1e-12)


def test_having_chosen_the_strongest_is_paid_for():
    found = found_of_overfit()
    one = found.strongest
    assert found.leakage.value == one.auc.value
    assert found.leakage.low < one.auc.low < one.auc.high < found.leakage.high
    expected = auc_interval(one.scores, found.is_member, 1 - 0.05 / len(found.findings))
    assert found.leakage == expected


@pytest.mark.parametrize(
    ("non_members", "shown"),
    [(999, (False, False)), (1000, (True, False)), (9999, (True, False)), (10_000, (True, True))],
)
def test_tpr_needs_ten_false_positives_to_be_shown(non_members, shown):
    rng = np.random.default_rng(0)
    is_member = np.arange(non_members + 50) < 50
    logits = rng.normal(size=(len(is_member), 2)) + is_member[:, None] * np.array([0, 2])
    found = audit(Evidence(logits, np.ones(len(is_member), int)), is_member, seed=0, attacks=["loss"]).findings[0]
    assert tuple(found.tpr[fpr] is not None for fpr in (0.01, 0.001)) == shown
    assert [needed_non_members(fpr) for fpr in (0.01, 0.001)] == [1000, 10_000]


def test_a_network_that_learned_by_heart_is_found_out():
    found = found_of_overfit()
    assert found.strongest.attack in ("lira_online", "rmia_online")
    assert found.leakage.low > 0.7
    assert found.finding("gap").auc.value > 0.6
    assert found.strongest.over_gap.p_value < 1e-6
    assert found.strongest.epsilon.epsilon > 0.5
    assert found.strongest.advantage.low > 0.2
    assert found.strongest.balanced_accuracy.value == pytest.approx((1 + found.strongest.advantage.value) / 2)


def test_a_membership_drawn_by_chance_is_not_found():
    evidence, is_member = overfit_network()
    held = silent = 0
    for seed in range(8):
        by_chance = np.random.default_rng(seed).permutation(is_member)
        found = audit(evidence, by_chance, seed=seed, effort="quick", attacks=QUICK)
        held += found.leakage.low <= 0.5 <= found.leakage.high
        silent += all(one.epsilon.epsilon == 0 for one in found.findings)
    # Of intervals, and of bounds for all attacks together, that hold 95 % of the time at least.
    assert min(held, silent) >= 7


def test_a_network_that_was_trained_on_other_records_is_not_found():
    evidence, is_member = simulated(leak=0.0, records=2000)
    found = audit(evidence, is_member, seed=0, effort="quick")
    assert found.leakage.low <= 0.5 <= found.leakage.high
    assert all(one.epsilon.epsilon == 0 for one in found.findings)


# What must not change it, and what must.


def test_members_and_others_changed_over_give_the_rest_to_one():
    evidence, is_member = overfit_network()
    flipped = audit(evidence, ~is_member, seed=0, effort="quick")
    assert flipped.findings[-1].attack == found_of_overfit().strongest.attack
    for one in found_of_overfit().findings:
        assert flipped.finding(one.attack).auc.value == pytest.approx(1 - one.auc.value, abs=1e-12)


def test_the_order_of_the_records_changes_nothing():
    evidence, is_member = simulated()
    order = np.random.default_rng(1).permutation(len(is_member))
    first = audit(evidence, is_member, seed=0, effort="quick")
    second = audit(rows_of(evidence, order), is_member[order], seed=0, effort="quick")
    for one in first.findings:
        assert second.finding(one.attack).auc.value == pytest.approx(one.auc.value, abs=1e-9)
    np.testing.assert_allclose(second.trainings, first.trainings, atol=1e-9)
    assert [order[risk.record] for risk in second.records.riskiest] == [risk.record for risk in first.records.riskiest]
    assert second.records.agreement.value == pytest.approx(first.records.agreement.value)
    assert [risk.auc.value for risk in second.by_class] == pytest.approx([risk.auc.value for risk in first.by_class])


def test_the_same_audit_twice_is_the_same():
    evidence, is_member = simulated()
    first, second = (audit(evidence, is_member, seed=5, attacks=QUICK) for _ in range(2))
    for one, other in zip(first.findings, second.findings, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        assert (one.auc, one.tpr, one.advantage, one.epsilon) == (other.auc, other.tpr, other.advantage, other.epsilon)


# Other trainings, classes, records, versions.


@pytest.mark.parametrize(("references", "count"), [(4, 0), (6, 0), (8, 8), (10, 10)])
def test_other_trainings_are_shown_from_eight_references_on(references, count):
    evidence, _ = simulated(references=references)
    assert other_trainings(evidence.bank, "lira_online").shape == (count,)
    assert other_trainings(None, "lira_online").shape == (0,)


def test_another_training_is_attacked_by_the_others_alone():
    bank = simulated()[0].bank
    others = ~np.isin(np.arange(8), (2, 3))  # the second was trained on what the third was not
    assert (bank.trained_on[2] ^ bank.trained_on[3]).all()
    evidence = Evidence(bank.logits[3], bank.labels, Bank(bank.logits[others], bank.trained_on[others], bank.labels))
    found = other_trainings(bank, "lira_online")
    assert found[3] == auc(lira_online.attack(evidence), bank.trained_on[3])
    assert found.min() > 0.7


@pytest.mark.parametrize("attack", ["lira_online", "rmia_online"])
def test_other_trainings_that_leak_nothing_are_at_chance(attack):
    nothing = draw(4, 0.0, records=4000, references=8)[0].bank
    found = other_trainings(nothing, attack)
    assert found.mean() == pytest.approx(0.5, abs=0.012)


def test_of_several_on_the_other_half_one_is_left_out():
    bank = simulated()[0].bank
    half = bank.trained_on[0]
    twice = Bank(bank.logits, np.stack([half, ~half] * 4), bank.labels)
    assert np.isfinite(other_trainings(twice, "lira_online")).all()


def test_classes_of_few_records_are_left_out():
    rng = np.random.default_rng(0)
    # Members and others of each class: 20 and 20, 19 and 40, 40 and 19, 60 and 20.
    sizes = [(20, 20), (19, 40), (40, 19), (60, 20)]
    labels = np.concatenate([np.full(sum(size), label) for label, size in enumerate(sizes)])
    is_member = np.concatenate([np.arange(sum(size)) < size[0] for size in sizes])
    logits = rng.normal(size=(len(labels), 4))
    logits[np.arange(len(labels)), labels] += is_member * np.where(labels == 3, 4, 1)
    found = audit(Evidence(logits, labels), is_member, seed=0, attacks=["loss"])
    assert [(risk.label, risk.members) for risk in found.by_class] == [(3, 60), (0, 20)]
    rows = labels == 0
    assert found.by_class[1].auc == auc_interval(found.strongest.scores[rows], is_member[rows])


def test_the_riskiest_are_members_in_order_by_the_attack_that_looks_at_each_record():
    evidence, is_member = simulated()
    found = audit(evidence, is_member, seed=0, attacks=["rmia_online", "lira_online", "loss"])
    assert found.records.attack == "lira_online"
    assert found.strongest.attack == "rmia_online"
    scores = found.finding("lira_online").scores
    riskiest = found.records.riskiest
    assert len(riskiest) == 20
    assert all(is_member[risk.record] for risk in riskiest)
    assert [risk.score for risk in riskiest] == sorted(scores[is_member], reverse=True)[:20]
    bank = evidence.bank
    for risk in riskiest:
        assert risk.score == scores[risk.record]
        assert risk.label == evidence.labels[risk.record]
        above = (scores[~is_member] >= risk.score).sum()
        assert risk.found_at_fpr.value == pytest.approx(above / 300)
        label = evidence.labels[[risk.record]]
        phi = np.array([scaled_logit(logits[[risk.record]], label)[0] for logits in bank.logits])
        assert risk.across_trainings.value == auc(phi, bank.trained_on[:, risk.record])


def test_without_shadows_records_are_ranked_by_the_strongest_attack():
    evidence, is_member = simulated()
    found = audit(without_bank(evidence), is_member, seed=0)
    assert {one.attack for one in found.findings} == set(NO_BANK)
    assert found.records.attack == found.strongest.attack
    assert all(risk.across_trainings is None for risk in found.records.riskiest)
    assert found.shadows == len(found.trainings) == 0


@pytest.mark.parametrize("logits", ["all right", "all equal"])
def test_members_that_are_all_alike_have_no_order(logits):
    evidence, is_member = simulated()
    given = np.eye(5)[evidence.labels] if logits == "all right" else np.zeros((600, 5))
    found = audit(Evidence(given, evidence.labels), is_member, seed=0)
    assert found.strongest.auc.value == 0.5
    agreement = found.records.agreement
    assert (agreement.value, agreement.low, agreement.high) == (0, -1, 1)


def test_few_members_are_audited():
    evidence, is_member = simulated()
    few = np.concatenate([np.flatnonzero(is_member)[:4], np.flatnonzero(~is_member)[:4]])
    found = audit(Evidence(evidence.logits[few], evidence.labels[few]), is_member[few], seed=0)
    assert (found.members, found.non_members) == (4, 4)
    assert len(found.records.riskiest) == 4
    assert found.records.agreement.low == -1


def test_versions_are_shown_alone_and_together():
    evidence, is_member = simulated()
    version = coarse(evidence)
    found = audit(evidence, is_member, seed=0, attacks=["loss"], versions={"int8": version})
    trained, int8, joint = found.released
    assert [one.name for one in found.released] == ["as trained", "int8", "all together"]
    assert [(one.attack, one.attacks) for one in found.released] == [("loss", 1), ("loss", 1), ("together", 1)]
    assert trained.over_best is int8.over_best is joint.error is None
    # Together, they are above the same attack on each alone, which finds more than the loss does.
    same = max(auc(together([one]), is_member) for one in (evidence, version))
    assert same > max(trained.auc.value, int8.auc.value)
    assert joint.over_best.estimate.value == pytest.approx(joint.auc.value - same, abs=1e-12)
    assert audit(evidence, is_member, seed=0, attacks=["loss"]).released == ()
    with pytest.raises(ValueError, match="bank"):
        audit(without_bank(evidence), is_member, seed=0, attacks=["loss"], versions={"int8": version})


def test_each_version_has_its_strongest_attack_and_its_error():
    evidence, is_member = simulated()
    version, seen = coarse(evidence), []
    found = audit(evidence, is_member, seed=0, effort="quick", versions={"int8": version}, look=seen.append)
    trained, int8, _ = found.released
    assert (trained.attack, trained.auc) == (found.strongest.attack, found.leakage)
    own = audit(version, is_member, seed=0, effort="quick")
    assert (int8.attack, int8.auc, int8.attacks) == (own.strongest.attack, own.leakage, len(own.findings))
    names = [one.attack for one in found.findings]
    said = [name for name in seen if not name.endswith("on a shadow model")]
    assert sorted(said) == sorted([*names, *(f"{name} on int8" for name in names)])
    for one, of in ((trained, evidence), (int8, version)):
        wrong = (of.logits.argmax(axis=1) != of.labels)[~is_member]
        assert one.error == proportion_interval(int(wrong.sum()), len(wrong))
    assert int8.error.value > trained.error.value


def test_slow_attacks_run_on_versions_only_where_they_were_asked_for(monkeypatch):
    monkeypatch.setattr("estimators.leakage.attacks.safecompress.STEPS", 5)
    evidence, is_member = simulated()
    seen = []
    quick = audit(evidence, is_member, seed=0, effort="full", versions={"8": coarse(evidence)}, look=seen.append)
    slow = [name for name in seen if " on " not in name and plugins.find(ATTACKS, name, "EFFORT") != "quick"]
    assert slow
    assert not {f"{name} on 8" for name in slow} & set(seen)
    assert quick.released[0].attacks == quick.released[1].attacks + len(slow)
    asked = audit(evidence, is_member, seed=0, effort="full", attacks=slow, versions={"8": coarse(evidence)})
    assert asked.released[1].attack in slow
