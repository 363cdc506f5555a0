"""What audits of a run left is read as they wrote it, or refused in one line."""

from __future__ import annotations

import json

import pytest

from estimators.estimate import Estimate
from nas.audit.proxy_check import Line
from nas.audit.proxy_check import ProxyCheck
from nas.audit.proxy_check import as_json
from nas.audit.report import as_json as report_as_json
from nas.base import files
from nas.runs.audits import MOST_AUDITS
from nas.runs.audits import agreement_in
from nas.runs.audits import audits_in
from tests import audits

CHECK = ProxyCheck(
    lines=(
        Line(3, Estimate(0.5, 0.45, 0.55), Estimate(0.52, 0.5, 0.54)),
        Line(1, Estimate.exact(0.6), Estimate(0.7, 0.65, 0.75)),
    ),
    spearman=Estimate(1.0, 0.1, 1.0),
    kendall=Estimate(1.0, 0.1, 1.0),
    bias=-0.06,
    error=0.06,
    leave=(),
    enter=(),
)


def test_nothing_is_there_before_an_audit(tmp_path):
    assert agreement_in(tmp_path) is None
    assert audits_in(tmp_path) == {}


def test_a_proxy_check_is_read_as_it_was_written(tmp_path):
    files.write_json(tmp_path / "audits" / "proxy.json", as_json(CHECK))
    found = agreement_in(tmp_path)
    assert [line.number for line in found.candidates] == [3, 1]
    assert [line.estimate("proxy") for line in found.candidates] == [line.proxy for line in CHECK.lines]
    assert [line.estimate("audited") for line in found.candidates] == [line.audited for line in CHECK.lines]
    assert (found.spearman, found.spearman_low, found.bias, found.mean_absolute_error) == (1.0, 0.1, -0.06, 0.06)


def test_reports_are_read_by_the_number_of_their_candidate(tmp_path):
    audit = audits.with_bank()
    written = report_as_json(audit, {})
    for number in range(MOST_AUDITS + 2):
        files.write_json(tmp_path / "audits" / str(number) / "audit.json", written)
    files.write_json(tmp_path / "audits" / "7-quick-3-attacks" / "audit.json", {})
    found = audits_in(tmp_path)
    assert list(found) == list(range(MOST_AUDITS))
    assert [curve.attack for curve in found[3].findings] == [finding.attack for finding in audit.findings]
    assert [list(map(list, curve.roc)) for curve in found[3].findings] == [one["roc"] for one in written["findings"]]
    assert (found[3].members, found[3].non_members) == (audit.members, audit.non_members)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"spearman": "1"}, "spearman"),
        ({"bias": None}, "bias"),
        ({"candidates": []}, "candidates"),
        ({"candidates": [{"number": 1, "proxy": 0.5, "proxy_low": 0.6, "audited": 0.5}]}, "candidates.0"),
        ({"warnings": ["x" * 3000]}, "warnings.0"),
    ],
)
def test_another_proxy_check_is_refused(tmp_path, change, part):
    path = tmp_path / "audits" / "proxy.json"
    files.write_json(path, {**as_json(CHECK), **change})
    with pytest.raises(ValueError, match=r"^expected the proxy check of nas audit in ") as error:
        agreement_in(tmp_path)
    assert f"{path}; {part}" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", '{"effort": 3}', "[" * 100_000, json.dumps({"findings": [{"roc": 1}]})])
def test_another_report_is_refused(tmp_path, text):
    files.write_text(tmp_path / "audits" / "1" / "audit.json", text)
    with pytest.raises(ValueError, match=r"^expected a report of nas audit in "):
        audits_in(tmp_path)
