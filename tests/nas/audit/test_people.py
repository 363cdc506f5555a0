"""People with several records: their scores, what is found of them, and the shadow models that such an audit needs."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from estimators.estimate import Estimate
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.audit import cautions
from nas.audit import epsilons
from nas.audit import report
from nas.audit import sentences
from nas.audit.attack_all import audit
from nas.audit.candidate import pool_of
from nas.audit.candidate import whole_groups
from nas.audit.findings import Origin
from nas.audit.gate import METRICS
from nas.audit.gate import Limit
from nas.audit.gate import verdicts
from nas.audit.people import divided
from nas.audit.people import summed
from nas.audit.shadows import Pool
from nas.records import Records
from nas.training.bank import halves

PEOPLE, EACH, REFERENCES = 200, 4, 8
ATTACKS = ("gap", "loss", "rmia_online", "lira_online")


@cache
def simulated(leak=0.8, *, whole=True, shift=0.0, seed=0):
    """Return evidence of a network that knows people: surer of each record of theirs by `leak`, for having seen them.

    With `whole` the shadow models are halved by person, else by record, and know a person of whom they saw a part.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(PEOPLE), EACH)
    is_member = np.isin(person, rng.permutation(PEOPLE)[: PEOPLE // 2])
    labels = rng.integers(0, 4, len(person))
    easiness = rng.normal(0, 1, PEOPLE)[person] + rng.normal(0, 1, len(person)) + shift * is_member
    trained_on = np.stack([halves(len(person), n, 3, person if whole else None) for n in range(REFERENCES)])
    trained_on = np.concatenate([is_member[None], trained_on])
    seen = np.stack([np.bincount(person, weights=row)[person] / EACH for row in trained_on])
    logits = rng.normal(0, 1, (REFERENCES + 1, len(person), 4))
    logits[:, np.arange(len(person)), labels] += 1 + easiness + leak * seen
    return Evidence(logits[0], labels, Bank(logits[1:], trained_on[1:], labels)), is_member, person


@cache
def audited(**given):
    evidence, is_member, person = simulated(**given)
    names = np.array([f"person {number:03d}" for number in range(PEOPLE)])[person]
    return audit(evidence, is_member, seed=0, attacks=ATTACKS, origin=Origin(groups=names))


def test_the_score_of_a_person_is_the_sum_of_what_is_above_the_mean():
    # The mean is 2: person 0 has (1 - 2) + (4 - 2), person 1 has (1 - 2), person 2 has 2 - 2.
    assert summed(np.array([1.0, 4.0, 1.0, 2.0]), np.array([0, 0, 1, 2])).tolist() == [1.0, -1.0, 0.0]


def test_infinite_scores_count_as_the_outermost_finite_ones():
    assert summed(np.array([np.inf, 1.0, -np.inf, 3.0]), np.array([0, 1, 2, 3])).tolist() == [1.0, -1.0, -1.0, 1.0]


def test_several_records_together_find_more_than_one():
    found = audited()
    assert found.people.strongest.auc.low > found.strongest.auc.high
    assert found.people.leakage.value == found.people.strongest.auc.value


def test_people_of_whom_nobody_was_trained_on_are_not_found():
    found = audited(leak=0.0)
    assert found.people.leakage.low < 0.5 < found.people.leakage.high


def test_numbers_of_records_alone_find_nobody():
    """Members with many records and others with few, all alike: sums of what is not centred would part them."""
    rng = np.random.default_rng(0)
    sizes = np.where(np.arange(PEOPLE) < PEOPLE // 2, 8, 2)
    which = np.repeat(np.arange(PEOPLE), sizes)
    scores = rng.normal(3, 1, len(which))
    is_in = np.arange(PEOPLE) < PEOPLE // 2
    assert auc(np.bincount(which, weights=scores), is_in) == 1.0
    assert 0.35 < auc(summed(scores, which), is_in) < 0.65


def test_delta_is_that_of_people():
    found = audited()
    assert found.people.strongest.epsilon.delta == pytest.approx(1 / (PEOPLE // 2))
    assert found.strongest.epsilon.delta == pytest.approx(1 / (PEOPLE * EACH // 2))


def test_people_that_are_merely_easier_are_a_shift():
    found = audited(leak=0.0, shift=1.0)
    assert found.people.shifted
    assert found.people.leakage.low < 0.5 < found.people.leakage.high
    assert any(
        line.startswith("people: members and non-members are people of different kinds") for line in found.warnings
    )


def test_shadows_that_saw_a_part_of_people_find_less_and_are_warned_of():
    def auc_of(found):
        return next(each.auc.value for each in found.people.findings if each.attack == "lira_online")

    by_person, by_record = (
        np.mean([auc_of(audited(whole=whole, seed=seed)) for seed in range(3)]) for whole in (True, False)
    )
    assert by_record < by_person
    warned = [line for line in audited(whole=False).warnings if "trained on a part of the records" in line]
    assert len(warned) == 1
    assert not [line for line in audited().warnings if "trained on a part" in line]
    bank, person = simulated(whole=False)[0].bank, simulated(whole=False)[2]
    assert divided(bank, person) > 0.7  # 1 - 2 / 2^4 = .875 of people with four records


def test_the_riskiest_people_have_their_names_and_are_members():
    found = audited()
    is_member, names = found.people.is_member, found.people.names
    risky = found.people.riskiest
    assert [risk.score for risk in risky] == sorted((risk.score for risk in risky), reverse=True)
    assert {risk.person for risk in risky} <= set(names[is_member])
    assert {risk.records for risk in risky} == {EACH}


def shown(found, folder, limits=()):
    """Return the text on the terminal and on the page, each in one line."""
    stream = io.StringIO()
    report.show(found, {}, Console(file=stream, width=1000), limits)
    report.write_html(folder / "shown.html", found, {}, limits)
    page = html.unescape(re.sub(r"<[^>]*>", " ", (folder / "shown.html").read_text()))
    return " ".join(stream.getvalue().split()), " ".join(page.split())


def with_rate(found):
    """Return an audit that found 30 % of the people at 1 % FPR, by its strongest attack."""
    people = found.people
    strongest = replace(people.strongest, tpr={0.01: Estimate(0.3, 0.2, 0.4), 0.001: None})
    return replace(found, people=replace(people, findings=(strongest, *people.findings[1:])))


def test_the_tpr_of_people_stands_beside_their_auc_in_all_outputs(tmp_path):
    found = with_rate(audited())
    headline = sentences.headline(found)
    name, best = found.people.strongest.attack, found.people.leakage
    assert headline.startswith(
        f"leakage by person: AUC {best.value:.3f} ({best.low:.3f} to {best.high:.3f}), TPR 30 % (20 % to 40 %) at 1 % "
        f"FPR, by {name}, the strongest of 4 attacks; "
    )
    assert f"At 1 % FPR, {name} finds 30 % (20 % to 40 %) of the people who were trained on." in sentences.summary(
        found
    )
    assert all(headline in text for text in shown(found, tmp_path))
    written = report.as_json(found, {})["people"]
    assert [written[f"leakage_tpr_at_1pct_fpr{end}"] for end in ("", "_low", "_high")] == [0.3, 0.2, 0.4]
    assert written["leakage_tpr_at_0_1pct_fpr"] is None


def test_where_people_are_too_few_for_a_tpr_the_summary_says_how_many_it_takes():
    found = audited()
    assert "TPR" not in sentences.headline(found).split("by record")[0]
    assert (
        "The TPR at 1 % FPR is not reported: it needs 1,000 people who were not trained on, and there are 100."
        in sentences.summary(found)
    )
    assert report.as_json(found, {})["people"]["leakage_tpr_at_1pct_fpr"] is None


def test_bounds_on_epsilon_by_person_stand_in_all_outputs(tmp_path):
    found = audited()
    texts, written = shown(found, tmp_path), report.as_json(found, {})
    for one in written["people"]["findings"]:
        row = " ".join([one["attack"], *(f"{bound['epsilon']:.2f}" for bound in one["epsilon_bounds"])])
        assert all(row in text for text in texts)
    assert written["people"]["findings"][0]["epsilon_bounds"][1]["epsilon"] > 0
    assert written["epsilon_caveats"][-1] == epsilons.OF_PEOPLE
    assert all(epsilons.OF_PEOPLE in text for text in texts)
    alone = audit(*simulated()[:2], seed=0, attacks=["loss"])
    assert not any(epsilons.OF_PEOPLE in text for text in shown(alone, tmp_path))
    assert epsilons.OF_PEOPLE not in report.as_json(alone, {})["epsilon_caveats"]


def turned_round(found):
    """Return an audit whose attacks score people who were trained on below the others."""
    people = found.people
    turned = [
        replace(each, scores=-each.scores, auc=auc_interval(-each.scores, people.is_member), on_shadows=None, null=None)
        for each in people.findings[::-1]
    ]
    return replace(found, people=replace(people, findings=tuple(turned)))


def test_people_who_score_the_wrong_way_round_are_an_alarm_where_records_show_nothing(tmp_path):
    records, people = audited(leak=0.0), turned_round(audited()).people
    assert not records.is_alarming
    found = replace(records, people=people)
    assert found.alarm is people
    assert found.is_alarming
    said = f"{people.findings[-1].attack} scores people who were trained on below others, AUC 0."
    assert said in sentences.headline(found)
    assert said in " ".join(sentences.summary(found))
    assert all(said in text for text in shown(found, tmp_path))
    written = report.as_json(found, {})
    assert (written["leakage"], written["people"]["leakage"]) == (None, None)
    assert written["people"]["reversed"][0] == people.findings[-1].attack
    assert not any(one.passes for one in verdicts(found, [Limit(metric, 1.0) for metric in METRICS]))
    first = cautions.all_of(found.findings, (), found.is_member, people)[0]
    assert first.startswith("people: wrong way round: members score significantly below non-members by ")


def test_where_records_are_of_different_kinds_and_of_people_this_is_not_known_nothing_is_reported_of_them(tmp_path):
    """Shadow models that saw a part of each person left nobody out whole, so that they say nothing of people."""
    found = audited(leak=0.0, whole=False, shift=0.4)
    assert found.shifted
    assert not found.is_refused
    assert not found.people.is_null_known
    assert found.people.leakage.low > 0.5
    said = "not measured: records are of different kinds, and whether people are is not known"
    assert sentences.headline(found).startswith(f"leakage by person: {said}; ")
    assert all(said in text for text in shown(found, tmp_path))
    written = report.as_json(found, {})["people"]
    assert (written["leakage"], written["leakage_tpr_at_1pct_fpr"], written["reversed"]) == (None, None, [])
    assert not any(one.passes for one in verdicts(found, [Limit(metric, 1.0) for metric in METRICS]))
    assert not any("accuracy gap" in line for line in found.warnings)
    assert any("as their records are, is not known, so no leakage of people is" in line for line in found.warnings)
    assert replace(found, people=turned_round(found).people).alarm is None
    assert not audited(leak=0.0, shift=0.4).are_people_refused


def test_a_leak_of_people_is_said_where_records_are_refused(tmp_path):
    refused, leaking = audited(leak=0.0, whole=False, shift=1.0), audited()
    assert refused.is_refused
    found = replace(refused, people=leaking.people)
    assert sentences.summary(found)[0].startswith("By person, people who were trained on can be told from others: AUC")
    assert "The leakage was not measured, because members and non-members are of different kinds." in sentences.summary(
        found
    )


def test_people_stand_first_in_all_outputs(tmp_path):
    found = audited()
    stream = io.StringIO()
    report.show(found, {}, Console(file=stream, width=200))
    printed = stream.getvalue()
    assert printed.startswith("leakage by person: AUC")
    assert printed.index("attacks, by person") < printed.index("\nattacks\n")
    report.write_html(tmp_path / "a.html", found, {})
    page = (tmp_path / "a.html").read_text()
    assert page.index("<h2>By person</h2>") < page.index("<h2>Attacks</h2>")
    written = report.as_json(found, {})["people"]
    assert written["leakage"] == found.people.leakage.value
    assert written["riskiest"][0]["person"] in printed
    assert written["riskiest"][0]["person"] in page
    assert "By person, people who were trained on can be told from others: AUC" in " ".join(sentences.summary(found))


def test_an_alarm_is_no_number_of_people_either():
    evidence, is_member, person = simulated()
    found = audit(evidence, ~is_member, seed=0, attacks=["loss"], origin=Origin(groups=person))
    assert found.is_alarming
    assert report.as_json(found, {})["people"]["leakage"] is None


def test_without_people_nothing_is_said_of_them():
    evidence, is_member, _ = simulated()
    found = audit(evidence, is_member, seed=0, attacks=["loss"])
    assert found.people is None
    assert report.as_json(found, {})["people"] is None


def test_a_person_on_both_sides_is_refused():
    evidence, is_member, person = simulated()
    torn = person.copy()
    torn[np.flatnonzero(~is_member)[0]] = person[np.flatnonzero(is_member)[0]]
    with pytest.raises(ValueError, match=r"each group among members or among non-members; 1 are among both"):
        audit(evidence, is_member, seed=0, attacks=["loss"], origin=Origin(groups=torn))


def test_one_person_is_too_few_and_all_outputs_say_what_limits_are_of(tmp_path):
    evidence, is_member, _ = simulated()
    found = audit(evidence, is_member, seed=0, attacks=["loss"], origin=Origin(groups=is_member.astype(int)))
    assert found.people is None
    limits = verdicts(found, [Limit("auc", 0.55)])
    assert [one.unit for one in limits] == ["records"]
    said = (
        "people: there are fewer than two among members or non-members, so no number is given of people, and limits "
        "are held against the numbers of records"
    )
    assert said in report.as_json(found, {}, limits)["warnings"]
    assert all(said in text for text in shown(found, tmp_path, limits))


def records_of(people, each, *, first=0, seed=0):
    rng = np.random.default_rng([seed, first])
    count = people * each
    labels = np.arange(count) % 3
    groups = np.repeat(np.arange(first, first + people), each)
    return Records(rng.normal(size=(count, 2)).astype(np.float32), labels, ("a", "b", "c"), groups)


def test_a_pool_takes_people_whole_where_it_can():
    pool = pool_of(records_of(30, 6), records_of(10, 6, first=100), seed=0)
    assert len(pool.is_member) == 120
    members, others = pool.groups[:60], pool.groups[60:120]
    assert set(np.bincount(members)[np.unique(members)]) == {6}
    assert len(np.unique(others)) == 10
    np.testing.assert_array_equal(pool.origin.groups, pool.groups[:120])


def test_records_that_are_not_attacked_go_with_their_person():
    """Of people of seven records and three classes some are attacked in part; a shadow sees all of them or none."""
    pool = pool_of(records_of(30, 7), records_of(10, 7, first=100), seed=0)
    for shadow in range(4):
        rows = pool.rows(shadow, seed=1)
        half = pool.trained_on(shadow, seed=1)
        left_out = pool.groups[: len(half)][~half]
        assert not set(pool.groups[rows]) & set(left_out)
        np.testing.assert_array_equal(np.sort(rows[rows < len(half)]), np.flatnonzero(half))


def test_partners_share_nobody_and_are_halves_but_for_one_person():
    pool = pool_of(records_of(30, 6), records_of(10, 6, first=100), seed=0)
    first, second = pool.trained_on(0, seed=1), pool.trained_on(1, seed=1)
    assert (first ^ second).all()
    assert not set(pool.groups[:120][first]) & set(pool.groups[:120][second])
    assert abs(int(first.sum()) - 60) < 6


def test_groups_change_the_key_and_their_names_do_not():
    plain = pool_of(records_of(30, 6), records_of(10, 6, first=100), seed=0)
    assert replace(plain, groups=None).fingerprint != plain.fingerprint
    assert replace(plain, groups=plain.groups * 7 + 1).fingerprint == plain.fingerprint


def test_groups_must_fit_the_records():
    with pytest.raises(ValueError, match=r"expected groups \(4,\); got \(3,\)"):
        Pool(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), np.array([True, False]), groups=np.zeros(3))


def test_whole_groups_give_the_counts_that_were_asked_for():
    records = records_of(20, 5)
    counts = np.array([11, 7, 0])
    rows = whole_groups(records, counts, np.random.default_rng(0))
    assert np.bincount(records.labels[rows], minlength=3).tolist() == counts.tolist()
    assert len(np.unique(rows)) == len(rows)
