"""The null of each attack in an audit: from which shadow models it comes, what it warns of, and what it corrects."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.audit import report
from nas.audit import sentences
from nas.audit.attack_all import audit
from nas.audit.shift import on_shadows
from nas.audit.shift import rounds
from nas.base import plugins
from tests.audits import halves

ATTACKS = ("gap", "loss", "rmia_online", "lira_online")


@cache
def simulated(shift=0.0, leak=0.0, references=8, records=1000, seed=0):
    """Return an audit of a network whose claimed members are easier by `shift`, and surer by `leak` if trained on."""
    rng = np.random.default_rng(seed)
    labels, is_member = rng.integers(0, 5, records), rng.permutation(records) < records // 2
    easiness = rng.normal(0, 1.5, records) + shift * is_member
    trained_on = np.concatenate([is_member[None], halves(rng, references, records)])
    logits = rng.normal(0, 1, (references + 1, records, 5))
    logits[:, np.arange(records), labels] += 2 + easiness + np.where(trained_on, 1.5, 0.0)
    logits[0, np.arange(records), labels] += (leak - 1.5) * is_member
    return Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels)), is_member


@cache
def audited(**given):
    evidence, is_member = simulated(**given)
    return audit(evidence, is_member, seed=0, attacks=ATTACKS)


def load(name):
    return plugins.load("estimators.leakage.attacks", name, "attack")


def test_a_network_that_saw_nobody_is_not_called_leaky():
    found = audited(shift=0.6)
    assert found.finding("loss").auc.low > 0.53  # what was reported as leakage before
    assert found.shifted
    assert found.leakage.low < 0.5 < found.leakage.high
    assert any("of different kinds" in line for line in found.warnings)
    assert not any("overfitting" in line for line in found.warnings)


def test_a_leak_is_still_found_beside_a_shift():
    alone, both = audited(leak=3.0), audited(shift=0.6, leak=3.0)
    assert not alone.shifted
    assert both.shifted
    assert both.leakage.low > 0.6
    assert both.leakage.value == pytest.approx(alone.leakage.value, abs=0.05)


def test_without_a_shift_nothing_is_corrected_and_nobody_is_warned():
    found = audited(leak=3.0)
    assert found.leakage.value == found.strongest.auc.value
    assert not any("kinds" in line for line in found.warnings)
    assert all(each.null.low <= 0.5 <= each.null.high for each in found.findings)


def test_members_that_are_harder_are_a_shift_and_no_inverted_membership():
    found = audited(shift=-0.6)
    assert found.shifted
    assert not found.is_alarming
    assert not found.reversed
    assert found.leakage.low < 0.5 < found.leakage.high


def test_too_large_a_shift_is_refused_everywhere():
    found = audited(shift=6.0)
    written = report.as_json(found, {})
    assert found.is_refused
    assert written["leakage"] is None
    assert "not measured" in sentences.headline(found)
    assert "non-members that were chosen at random" in " ".join(written["summary"])
    assert any("too far from 0.5" in line for line in found.warnings)


def test_the_null_stands_in_all_outputs(tmp_path):
    found = audited(shift=0.6)
    stream = io.StringIO()
    report.show(found, {}, Console(file=stream, width=200))
    report.write_html(tmp_path / "a.html", found, {})
    written = report.as_json(found, {})
    for each in written["findings"]:
        assert f"{each['null_auc']:.3f}" in stream.getvalue()
        assert f"{each['null_auc']:.3f}" in (tmp_path / "a.html").read_text()
        assert each["null_auc_low"] < each["null_auc"] < each["null_auc_high"]
    assert written["shifted"]
    for output in (stream.getvalue(), (tmp_path / "a.html").read_text(), json.dumps(written)):
        assert "different kinds" in " ".join(output.split())


def test_without_shadow_models_no_null_is_known_and_it_is_said():
    evidence, is_member = simulated()
    found = audit(replace(evidence, bank=None), is_member, seed=0, attacks=["loss"])
    assert found.strongest.null is None
    assert not found.shifted
    assert "not known: it takes shadow models" in " ".join(sentences.summary(found))


def test_pairs_are_left_out_together():
    evidence, is_member = simulated()
    assert rounds(evidence.bank, is_member) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    masks = evidence.bank.trained_on.copy()
    masks[1] = masks[0]
    bank = Bank(evidence.bank.logits, masks, evidence.bank.labels)
    assert rounds(bank, is_member) == [(0,), (1,), (2, 3), (4, 5), (6, 7)]


def test_an_attack_on_a_shadow_sees_what_it_left_out_and_neither_it_nor_its_partner_in_the_bank():
    evidence, is_member = simulated()
    seen = []

    def watched(asked):
        seen.append(asked)
        return np.zeros(len(asked.labels))

    found = on_shadows(evidence, ["loss"], is_member, lambda _: watched)
    assert [len(asked.bank.logits) for asked in seen] == [6] * 4
    for shadow, asked in enumerate(seen):
        rows = ~evidence.bank.trained_on[shadow]
        np.testing.assert_array_equal(asked.logits, evidence.bank.logits[shadow][rows])
        own = [shadow, shadow ^ 1]
        np.testing.assert_array_equal(asked.bank.logits, np.delete(evidence.bank.logits, own, axis=0)[:, rows])
    np.testing.assert_array_equal(found["loss"].left_out, ~evidence.bank.trained_on[:4])


def test_costly_attacks_run_on_one_pair():
    """With queries an attack costs seconds: on one pair the null costs as much as the attack."""
    evidence, is_member = simulated()
    features = np.zeros((len(is_member), 2), np.float32)
    oracle = Oracle(lambda rows: np.zeros((len(rows), 5)))
    bank = replace(evidence.bank, oracles=(oracle,) * 8)
    asking = replace(evidence, bank=bank, features=features, oracle=oracle)
    found = on_shadows(
        asking, ["loss", "label_augment"], is_member, lambda _: lambda asked: np.zeros(len(asked.labels))
    )
    assert {name: len(on.scores) for name, on in found.items()} == {"loss": 4, "label_augment": 2}


def test_an_attack_that_needs_more_shadows_than_are_left_has_no_null():
    evidence, is_member = simulated(references=4)
    found = on_shadows(evidence, ["loss", "lira_online"], is_member, load)
    assert set(found) == {"loss"}


def test_shadows_that_left_no_members_out_are_not_used():
    evidence, is_member = simulated()
    masks = np.where(np.arange(8)[:, None] % 2 == 0, is_member, ~is_member)
    bank = Bank(evidence.bank.logits, masks, evidence.bank.labels)
    assert rounds(bank, is_member) == []
