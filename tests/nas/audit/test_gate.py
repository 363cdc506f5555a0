"""Limits for a release: what they compare, what does not pass, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from estimators.estimate import Estimate
from nas.audit import report
from nas.audit import sentences
from nas.audit import statement
from nas.audit.attack_all import audit
from nas.audit.findings import Origin
from nas.audit.gate import METRICS
from nas.audit.gate import Limit
from nas.audit.gate import Verdict
from nas.audit.gate import as_rows
from nas.audit.gate import limits
from nas.audit.gate import verdicts
from tests import audits


def verdict(found, metric, most):
    (one,) = verdicts(found, [Limit(metric, most)])
    return one


def test_the_upper_end_is_compared():
    found = replace(audits.with_bank(), released=())
    assert verdict(found, "auc", found.leakage.high).passes
    assert not verdict(found, "auc", found.leakage.high - 1e-9).passes
    assert not verdict(found, "auc", found.leakage.value).passes


def test_the_auc_is_that_of_the_version_that_leaks_most():
    found = audits.with_bank()
    leaky = replace(found.released[-1], auc=Estimate(0.5, 0.5, found.leakage.high + 0.01))
    shipped = replace(found, released=(*found.released[:-1], leaky))
    assert verdict(shipped, "auc", 1.0).value == leaky.auc.high
    assert not verdict(shipped, "auc", found.leakage.high).passes


@pytest.mark.parametrize("metric", ["advantage", "balanced_accuracy"])
def test_the_highest_upper_end_of_all_attacks_counts(metric):
    found = audits.with_bank()
    ends = [getattr(each, metric).high for each in found.findings]
    assert verdict(found, metric, 1.0).value == max(ends)


def test_of_epsilon_the_largest_bound_counts():
    found = audits.with_bank()
    assert verdict(found, "epsilon", 1.0).value == max(each.epsilon.epsilon for each in found.findings) > 0
    assert not verdict(found, "epsilon", 0.0).passes


def test_what_was_not_measured_does_not_pass():
    found = audits.without_bank()
    one = verdict(found, "tpr_at_1pct_fpr", 1.0)
    assert one.value is None
    assert not one.passes
    assert one.sentence == "tpr_at_1pct_fpr of records was not measured, so it is not below 1"


def test_an_alarm_passes_nothing():
    evidence, is_member = audits.draw(0, 1.5)
    found = audit(evidence, ~is_member, seed=0, attacks=["loss", "lira_online"])
    assert found.is_alarming
    assert not any(one.passes for one in verdicts(found, [Limit(metric, 100.0) for metric in METRICS]))


@cache
def of_other_kinds(shift):
    """Return an audit of a network that saw the claimed members, which are easier by `shift`."""
    evidence, is_member = audits.draw(0, 1.5)
    logits, references = evidence.logits.copy(), evidence.bank.logits.copy()
    for each in (logits, *references):
        each[np.flatnonzero(is_member), evidence.labels[is_member]] += shift
    shifted = replace(evidence, logits=logits, bank=replace(evidence.bank, logits=references))
    return audit(shifted, is_member, seed=0, attacks=["loss", "lira_online"])


@pytest.mark.parametrize("shift", [4.0, -4.0])
def test_what_is_refused_passes_nothing(shift):
    found = of_other_kinds(shift)
    assert found.is_refused
    assert not any(one.passes for one in verdicts(found, [Limit(metric, 100.0) for metric in METRICS]))


def test_where_members_are_harder_only_the_corrected_number_can_pass():
    """What is not corrected for it is too low."""
    harder, easier = of_other_kinds(-0.6), of_other_kinds(0.6)
    assert harder.shifted
    assert easier.shifted
    assert not harder.is_refused
    assert not easier.is_refused
    assert verdict(harder, "auc", 1.0).value == harder.leakage.high
    assert [verdict(harder, metric, 100.0).value for metric in METRICS if metric != "auc"] == [None] * 5
    assert verdict(easier, "advantage", 1.0).passes


def test_sentences_say_which_end_was_compared():
    assert Verdict(Limit("epsilon", 3.0), 2.0, "people").sentence == (
        "the lower bound on epsilon of people is 2, at most 3"
    )
    assert Verdict(Limit("auc", 0.55), 0.5, "records").sentence == "auc of records is up to 0.5, at most 0.55"
    assert Verdict(Limit("auc", 0.55), 0.55001, "records").sentence == "auc of records is up to 0.55001, above 0.55"
    assert Verdict(Limit("auc", 0.55554), 0.555535, "records").sentence == (
        "auc of records is up to 0.5555, at most 0.55554"
    )


def test_of_people_the_numbers_of_people_count():
    found = audits.with_bank()
    evidence, is_member = audits.draw(0, 1.5)
    person = np.zeros(len(is_member), np.int64)
    for side in (is_member, ~is_member):
        person[side] = np.arange(side.sum()) // 4 + (0 if side is is_member else 10_000)
    grouped = audit(evidence, is_member, seed=0, attacks=["loss"], origin=Origin(groups=person))
    one = verdict(grouped, "auc", 0.5)
    assert one.unit == "people"
    assert one.value == grouped.people.leakage.high
    # Of further versions no AUC by person is known.
    shipped = verdict(replace(grouped, released=found.released), "auc", 1.0)
    assert (shipped.value, shipped.unit, shipped.passes) == (None, "people", False)
    assert verdict(found, "auc", 0.5).unit == "records"


def test_limits_are_read():
    assert limits(["auc=0.55", "epsilon=1"]) == [Limit("auc", 0.55), Limit("epsilon", 1.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auc", "expected --fail-above METRIC=NUMBER, such as auc=0.55; got 'auc'"),
        ("acu=0.5", r"no metric 'acu' for --fail-above; there are \['auc', 'tpr_at_1pct_fpr'"),
        ("auc=low", "expected a finite number for --fail-above auc; got 'low'"),
        ("auc=nan", "expected a finite number for --fail-above auc; got 'nan'"),
        ("auc=55", "expected a share from 0 to 1 for --fail-above auc; got '55'"),
        ("advantage=-0.1", "expected a share from 0 to 1 for --fail-above advantage; got '-0.1'"),
        ("epsilon=-1", "expected 0 or more for --fail-above epsilon; got '-1'"),
    ],
)
def test_limits_that_are_none_are_refused(text, said):
    with pytest.raises(ValueError, match=said):
        limits([text])


def test_rows_say_the_same():
    found = audits.with_bank()
    (row,) = as_rows(verdicts(found, [Limit("advantage", 0.0)]))
    highest = max(each.advantage.high for each in found.findings)
    assert row == {"metric": "advantage", "limit": 0.0, "unit": "records", "value": highest, "passes": False}


def test_terminal_page_and_statement_say_of_each_limit_whether_it_passes(tmp_path):
    found = audits.with_bank()
    held = verdicts(found, [Limit("auc", 0.5), Limit("advantage", 1.0), Limit("tpr_at_0_1pct_fpr", 0.5)])
    lines = sentences.of_limits(held)
    assert [line.partition(":")[0] for line in lines] == ["does not pass", "passes", "does not pass"]
    assert [line.partition(": ")[2] for line in lines] == [one.sentence for one in held]
    stream = io.StringIO()
    report.show(found, ABOUT, Console(file=stream, width=200), held)
    printed = stream.getvalue()
    assert "\nlimits\n" + "".join(f"  {line}\n" for line in lines) in printed
    report.write_html(tmp_path / "a.html", found, ABOUT, held)
    page = (tmp_path / "a.html").read_text()
    assert [line for line in lines if f"<li>{line}</li>" not in page] == []
    assert page.index("<h2>Limits</h2>") < page.index("<h2>Attacks</h2>")
    written = statement.markdown(found, ABOUT, held).replace("\\", "")
    assert [line for line in lines if f"- {line}\n" not in written] == []
    assert report.as_json(found, ABOUT, held)["limits"] == as_rows(held)


def test_without_limits_nothing_is_said_of_them(tmp_path):
    report.write_html(tmp_path / "a.html", audits.with_bank(), ABOUT)
    assert "<h2>Limits</h2>" not in (tmp_path / "a.html").read_text()
    stream = io.StringIO()
    report.show(audits.with_bank(), ABOUT, Console(file=stream, width=200))
    assert "\nlimits\n" not in stream.getvalue()
    assert report.as_json(audits.with_bank(), ABOUT)["limits"] == []


ABOUT = {"command": "nas audit run --pick 3", "made by": "gecko-nas 1, PyTorch 2", "data": "own, fingerprint 0123"}


@pytest.fixture(params=[audits.with_bank, audits.without_bank])
def page(request):
    found = request.param()
    return found, statement.markdown(found, ABOUT, verdicts(found, [Limit("auc", 0.5)]))


def test_a_statement_says_what_was_tested_who_can_repeat_it_and_what_it_does_not_show(page):
    found, text = page
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Statement on a membership-inference test",
        "## What was tested",
        "## What was found",
        "## Who can repeat it",
        "## What it does not show",
        "## Sources",
    ]
    assert [each.attack for each in found.findings if each.attack not in text] == []
    assert "- command: nas audit run --pick 3" in text
    assert "auc of records is up to" in text
    assert "epsilon is a lower bound" in text


def test_a_statement_cites_and_claims_nothing(page):
    _, text = page
    assert "Opinion 28/2024" in text
    assert "Regulation (EU) 2024/1689" in text
    assert "Article 15" in text
    assert "NIST AI 100-2 E2025" in text
    assert "is no statement of compliance" in text
    assert text.lower().count("complian") == 1
    assert "is anonymous" not in text.replace("does not show that a network is anonymous", "")


def test_a_statement_without_shadows_says_so():
    text = statement.markdown(audits.without_bank(), ABOUT)
    assert "no shadow models" in text
    assert "train networks of the same kind" not in text
    assert "train networks of the same kind" in statement.markdown(audits.with_bank(), ABOUT)


def test_a_statement_says_what_the_attacker_knows():
    evidence, is_member = audits.draw(0, 1.5)
    unlabelled = audit(evidence, is_member, seed=0, attacks=["confidence"], is_labelled=False)
    assert "about a record and train networks" in statement.markdown(unlabelled, ABOUT)
    assert "about a record whose label is known" in statement.markdown(audits.with_bank(), ABOUT)
    found = audits.without_bank()
    asks = replace(found, findings=(replace(found.findings[0], attack="label_noise"), *found.findings[1:]))
    assert "ask the network about changed copies" in statement.markdown(asks, ABOUT)
    assert "changed copies" not in statement.markdown(found, ABOUT)


def test_what_a_user_names_is_no_markup():
    found = replace(audits.without_bank(), warnings=("<b>x</b> [a](b) `c`\n# d \x1b[31m\u202e",))
    text = statement.markdown(found, ABOUT)
    assert r"- \<b\>x\</b\> \[a\](b) \`c\` \# d \\x1b\[31m\\u202e" in text
