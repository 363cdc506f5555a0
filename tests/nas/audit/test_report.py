"""The report of an audit: the same numbers on the terminal, on a page and as JSON, each with its interval."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from estimators.leakage.statistics.epsilon import over_thresholds
from estimators.leakage.statistics.gaussian_epsilon import gaussian_epsilon
from nas.audit import epsilons
from nas.audit import figures
from nas.audit import report as audit_report
from nas.audit import sentences
from nas.audit.attack_all import audit as make_audit
from nas.audit.findings import ClassError
from nas.audit.findings import ClassRisk
from nas.audit.findings import Origin
from nas.audit.findings import errors_by_class
from nas.base import files
from nas.base.text import percent
from tests import audits

HOSTILE = "<script>alert(1)</script> [red]x[/red] :smile: {{ 7 * 7 }} & \"'"
ABOUT = {"network": "candidate 7", "seeds": "0, 1", HOSTILE: HOSTILE}
RARE = Estimate(1.0, 0.292, 1.0)
AUDITS = (audits.with_bank, audits.without_bank)
EMPTY = {"meta", "br", "img"}


class Page(HTMLParser):
    """Reads a page: its text, its cells, its images, and what it would load."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.images, self.loads, self.text, self.rows = [], [], [], [], [], []
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "br":
            self.handle_data("\n")
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action") or "url(" in (value or ""):
                self.loads.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module", params=AUDITS, ids=lambda make: make.__name__)
def audit(request):
    return request.param()


@pytest.fixture(scope="module")
def written(audit, tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "audit.html"
    audit_report.write_html(path, audit, ABOUT)
    return path


@pytest.fixture(scope="module")
def page(written):
    return Page(written)


def shown(audit, width=200, about=ABOUT):
    stream = io.StringIO()
    audit_report.show(audit, about, Console(file=stream, width=width))
    return stream.getvalue()


def drawing(uri):
    """The root element of an image in a `data:` URI."""
    head, content = uri.split(",")
    assert head == "data:image/svg+xml;base64"
    return ET.fromstring(base64.b64decode(content, validate=True))


def named_in(uri):
    """What is written in an image: the letters are outlines, and matplotlib keeps the text in a comment."""
    _, content = uri.split(",")
    return set(re.findall("<!-- (.*?) -->", base64.b64decode(content).decode()))


def words_of(text):
    return " ".join(text.split())


def numbers_in(text):
    return set(re.findall(r"\d[\d.,]*\d|\d", text))


def estimates_of(audit):
    """Every estimate of an audit, by what it is."""
    yield audit.leakage
    for found in audit.findings:
        yield from (found.auc, found.balanced_accuracy, found.advantage)
        if found.attack != "gap":
            yield found.over_gap.estimate
    yield from (one.auc for one in (*audit.by_class[:5], *audit.released))
    yield audit.records.agreement
    yield from (risk.across_trainings for risk in audit.records.riskiest[:5] if risk.across_trainings)


def every(value):
    """Every leaf of JSON."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from every(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner)
    else:
        yield value


def test_every_estimate_stands_on_terminal_and_page_with_its_interval(audit, page):
    texts = numbers_in(shown(audit)), numbers_in(" ".join(page.text))
    for estimate in estimates_of(audit):
        for number in (estimate.value, estimate.low, estimate.high):
            assert all(f"{abs(number):.3f}" in text for text in texts)
    rates = [rate for found in audit.findings for rate in found.tpr.values() if rate]
    for rate in [*rates, *(risk.found_at_fpr for risk in audit.records.riskiest[:5])]:
        for number in (rate.value, rate.low, rate.high):
            assert all(f"{100 * number:.3g}" in text for text in texts)


def test_json_holds_what_was_found(audit):
    report = audit_report.as_json(audit, ABOUT)
    leakage = Estimate(report["leakage"], report["leakage_low"], report["leakage_high"])
    assert (report["strongest"], leakage) == (audit.strongest.attack, audit.leakage)
    for row, found in zip(report["findings"], audit.findings, strict=True):
        assert row["attack"] == found.attack
        for name in ("auc", "balanced_accuracy", "advantage"):
            estimate = getattr(found, name)
            assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (
                estimate.value,
                estimate.low,
                estimate.high,
            )
        assert row["epsilon_bound"] == found.epsilon.epsilon
        assert row["over_gap"] == (None if found.attack == "gap" else found.over_gap.estimate.value)
    assert [row["label"] for row in report["classes"]] == [risk.label for risk in audit.by_class]
    assert [row["record"] for row in report["records"]] == [risk.record for risk in audit.records.riskiest]
    assert report["other_trainings"] == audit.trainings.tolist()
    assert report["about"] == ABOUT
    assert list(report["about"]) == list(ABOUT)


def test_every_bound_on_epsilon_stands_with_its_assumption_and_its_caveats_in_all_three(audit, page):
    report = audit_report.as_json(audit, ABOUT)
    texts = words_of(shown(audit)), words_of("".join(page.text))
    for caveat in report["epsilon_caveats"]:
        assert all(caveat in text for text in texts)
    head = next(place for place, row in enumerate(page.rows) if row[1:2] == ["nothing"])
    assert [words_of(cell) for cell in page.rows[head][2:]] == [
        "Gaussian trade-off, from all thresholds",
        "Gaussian trade-off, from the AUC",
    ]
    rows = {row[0]: row for row in page.rows[head + 1 : head + 1 + len(audit.findings)]}
    for found in report["findings"]:
        any_training, thresholds, from_auc = found["epsilon_bounds"]
        assumed = [one["assumes"] for one in found["epsilon_bounds"]]
        assert assumed == [epsilons.ANY, epsilons.GAUSSIAN, epsilons.GAUSSIAN]
        assert [one["from"] for one in found["epsilon_bounds"]] == ["all thresholds", "all thresholds", "AUC"]
        assert (any_training["epsilon"], any_training["delta"], any_training["mu"]) == (
            found["epsilon_bound"],
            1 / audit.members,
            None,
        )
        for bound in (thresholds, from_auc):
            assert bound["epsilon"] == gaussian_epsilon(bound["mu"], bound["delta"])
        cells = [f"{one['epsilon']:.2f}" for one in found["epsilon_bounds"]]
        assert [cell.strip() for cell in rows[found["attack"]][1:]] == cells
        if found in report["findings"][: audit_report.WORST]:
            assert f"{found['attack']} {' '.join(cells)}" in texts[0]


def test_bounds_on_epsilon_hold_for_all_attacks_together(audit):
    for found in audit.findings:
        error = 0.05 / len(audit.findings)
        alone = over_thresholds(found.scores, audit.is_member, delta=1 / audit.members, confidence=1 - error)
        assert found.epsilon.epsilon == alone.epsilon
        assert found.epsilon.confidence == 0.95


def test_the_table_says_what_the_json_says(audit, page):
    report = audit_report.as_json(audit, ABOUT)
    rows = {row[0].split()[0]: row for row in page.rows if len(row) in (6, 10)}
    for found in report["findings"]:
        row = rows[found["attack"]]
        ends = [] if found["null_auc"] is None else [found["null_auc_low"], "to", found["null_auc_high"]]
        expected = ["-"] if found["null_auc"] is None else [found["null_auc"], *ends]
        assert row[2].split() == [text if isinstance(text, str) else f"{text:.3f}" for text in expected]
        assert row[1].split() == [f"{found['auc']:.3f}", f"{found['auc_low']:.3f}", "to", f"{found['auc_high']:.3f}"]
        assert row[7].split()[0] == f"{found['advantage']:+.3f}"
        assert row[8].split() == [f"{found['epsilon_bound']:.2f}"]
    for record in report["records"]:
        row = rows[str(record["record"])]
        assert row[2].split() == [f"{record['score']:.4g}"]
        assert row[5].split() == [f"{record['shapr']:+.3f}"]


def test_json_is_plain_and_round_trips(audit, tmp_path):
    report = audit_report.as_json(audit, ABOUT)
    files.write_json(tmp_path / "audit.json", report)
    assert files.read_json(tmp_path / "audit.json") == report
    assert {type(leaf) for leaf in every(report)} <= {str, int, float, bool, type(None)}
    assert report == audit_report.as_json(audit, ABOUT)


def test_shapr_of_a_record_is_its_own():
    audit = audits.with_bank()
    values = np.full(len(audit.is_member), np.nan)
    values[audit.is_member] = audit.records.shapr
    report = audit_report.as_json(audit, {})
    assert [row["shapr"] for row in report["records"]] == [values[row["record"]] for row in report["records"]]
    assert report["shapr_mean"] == pytest.approx(np.nanmean(values))


def test_page_is_whole_and_needs_nothing_else(page):
    assert page.open == []
    assert page.loads == [image["src"] for image in page.images]
    assert not {"script", "link", "iframe", "object", "a", "form", "base", "svg"} & set(page.tags)


def test_page_names_no_address(written):
    assert not re.search(
        r"@import|https?:|//[a-z]", re.sub(r'"data:image/svg\+xml;base64,[\w+/=]*"', "", written.read_text())
    )


def test_every_figure_is_an_image_with_words_and_numbers_for_it(audit, page):
    assert len(page.images) == (3 if audit.by_class else 2)
    for image in page.images:
        assert drawing(image["src"]).tag.endswith("svg")
        assert len(image["alt"].split()) > 5
    # A TPR that ten non-members do not stand behind is not reported.
    fprs = (0.01, 0.1, 0.5) if audit.non_members >= 1000 else (0.5,)
    rows = {row[0].strip(): row for row in page.rows if len(row) == 1 + len(fprs)}
    for found in figures.drawn(audit.findings):
        expected = [f"{100 * tpr_at_fpr(found.scores, audit.is_member, fpr):.3g} %" for fpr in fprs]
        assert [cell.strip() for cell in rows[found.attack][1:]] == expected


def test_what_a_user_names_is_text_and_nothing_else(audit, page):
    named = replace(audit, warnings=(HOSTILE,), skipped={"own": HOSTILE})
    assert "script" not in page.tags
    assert "".join(page.text).count(HOSTILE) == 2
    assert words_of(shown(named)).count(HOSTILE) == 4


def test_hostile_warnings_and_names_of_versions_are_escaped(tmp_path):
    audit = audits.with_bank()
    renamed = (replace(audit.released[0], name=HOSTILE), *audit.released[1:])
    audit_report.write_html(tmp_path / "a.html", replace(audit, released=renamed, warnings=(HOSTILE,)), {})
    found = Page(tmp_path / "a.html")
    assert "script" not in found.tags
    assert "".join(found.text).count(HOSTILE) == 2
    assert shown(replace(audit, released=renamed), about={}).count(HOSTILE) == 1


def test_what_steers_a_reader_is_an_escape_on_the_page_too(tmp_path):
    audit = replace(audits.with_bank(), warnings=("a\x1b[31m \u202eb",))
    audit_report.write_html(tmp_path / "a.html", audit, {})
    assert r"a\x1b[31m \u202eb" in (tmp_path / "a.html").read_text()


def test_everything_is_named_in_all_three(audit, page):
    warned = replace(audit, warnings=("masking: first", "second & last"))
    report, text = audit_report.as_json(audit, ABOUT), words_of("".join(page.text))
    expected = [found.attack for found in audit.findings] + list(sentences.skipped(audit))
    expected += [*sentences.not_tested(audit), *(one.name for one in audit.released)]
    printed = words_of(shown(audit))
    assert [name for name in expected if name not in text] == []
    assert [name for name in expected if name not in printed] == []
    assert [name for name in expected if name not in json.dumps(report)] == []
    lines = shown(warned).splitlines()
    assert [line for line in lines if line.startswith("warning")] == [
        "warning: masking: first",
        "warning: second & last",
    ]
    assert lines.index("warning: masking: first") < lines.index("attacks")
    assert audit_report.as_json(warned, {})["warnings"] == list(warned.warnings)


def test_warnings_stand_on_the_page_before_the_attacks(tmp_path):
    audit_report.write_html(
        tmp_path / "a.html", replace(audits.without_bank(), warnings=("first", "second & last")), {}
    )
    text = words_of("".join(Page(tmp_path / "a.html").text))
    assert "Warnings first second & last Attacks" in text


def test_attacks_that_nobody_asked_for_are_listed():
    skipped = sentences.skipped(audits.with_bank())
    assert skipped["shokri"] == "was not requested"
    assert not set(skipped) & set(audits.OF_A_BANK)
    reasons = sentences.skipped(audits.without_bank())
    assert reasons["lira_online"] == "needs bank"
    assert "was not requested" not in reasons.values()


def test_where_records_are_too_few_the_report_says_how_many_it_takes(audit, page):
    report, text = audit_report.as_json(audit, {}), words_of("".join(page.text))
    few = audit.non_members < 1000
    assert report["needed_non_members"] == ({"tpr_at_1pct_fpr": 1000} if few else {}) | {"tpr_at_0_1pct_fpr": 10_000}
    for found in report["findings"]:
        assert (found["tpr_at_1pct_fpr"] is None) == few
        assert found["tpr_at_0_1pct_fpr"] is None
    for shown_text in (text, shown(audit)):
        assert "needs 10,000" in shown_text
        assert ("needs 1,000" in shown_text) == few


def test_without_shadows_nothing_is_said_about_other_trainings(tmp_path):
    audit = audits.without_bank()
    report = audit_report.as_json(audit, {})
    assert report["other_trainings"] == []
    assert [report[f"other_trainings_{name}"] for name in ("median", "min", "max")] == [None] * 3
    assert {row["across_trainings"] for row in report["records"]} == {None}
    assert report["classes"] == report["released"] == []
    assert "other trainings" not in shown(audit)
    audit_report.write_html(tmp_path / "a.html", audit, {})
    text = words_of("".join(Page(tmp_path / "a.html").text))
    assert "Not known: there were too few shadow models" in text
    assert "No class has 20 members" in text
    assert "One version was audited" in text


def test_other_trainings_are_summed_up():
    audit = audits.with_bank()
    report = audit_report.as_json(audit, {})
    assert len(report["other_trainings"]) == 8
    assert report["other_trainings_median"] == pytest.approx(np.median(audit.trainings))
    own = audit.finding("lira_online").auc.value
    cells = [f"{x:.3f}" for x in (np.median(audit.trainings), audit.trainings.min(), audit.trainings.max(), own)]
    assert re.search(r"8\s+" + r"\s+".join(map(re.escape, cells)), shown(audit))


def test_released_set_stands_beside_its_versions():
    audit = audits.with_bank()
    released = audit_report.as_json(audit, {})["released"]
    assert [one["name"] for one in released] == ["as trained", "int8", "all together"]
    assert [one["over_best"] is None for one in released] == [True, True, False]
    for one, row in zip(audit.released, released, strict=True):
        assert (row["attack"], row["attacks"], row["auc"]) == (one.attack, one.attacks, one.auc.value)
        assert row["error"] == (None if one.error is None else one.error.value)
    told = sentences.of_versions(audit)
    assert "other than the network as trained 9 attacks ran, the quick ones or those asked for" in told
    assert told in words_of(shown(audit))
    assert f"{audit.released[1].error.value:.3f}" in shown(audit)
    assert released[-1]["over_best"] == audit.released[-1].over_best.estimate.value
    assert released[-1]["over_best_p"] == audit.released[-1].over_best.p_value


def test_the_same_audit_gives_the_same_bytes(audit, written, tmp_path):
    audit_report.write_html(tmp_path / "again.html", audit, ABOUT)
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_the_headline_is_corrected_for_the_choice():
    audit = audits.with_bank()
    found = audit.leakage
    first = words_of(shown(audit)[:200])
    assert first.startswith(f"leakage: AUC {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), TPR ")
    assert f"by {audit.strongest.attack}, the strongest of" in first
    assert found.low < audit.strongest.auc.low


def test_the_tpr_at_low_fpr_stands_beside_the_auc_on_terminal_page_and_in_json(page, audit):
    headline, report = sentences.headline(audit), audit_report.as_json(audit, ABOUT)
    rate = audit.strongest.tpr[0.01]
    assert headline in words_of(shown(audit, width=1000))
    assert headline in words_of("".join(page.text))
    if rate is None:  # too few non-members
        assert "TPR" not in headline
        assert report["leakage_tpr_at_1pct_fpr"] is None
        return
    assert f"TPR {percent(rate.value)} ({percent(rate.low)} to {percent(rate.high)}) at 1 % FPR, by" in headline
    names = ("", "_low", "_high")
    assert [report[f"leakage_tpr_at_1pct_fpr{name}"] for name in names] == [rate.value, rate.low, rate.high]
    assert report["leakage_tpr_at_0_1pct_fpr"] is None  # 2,000 records are too few


def test_the_summary_says_whether_anything_was_found():
    found, nothing = (" ".join(sentences.summary(make())) for make in AUDITS)
    assert found.startswith("Members can be told from non-members. The strongest attack, rmia_online, scores")
    assert "significantly above that of the accuracy gap" in found
    assert "not significantly" not in found
    assert "At 1 % FPR, rmia_online finds" in found
    assert nothing.startswith("No attack separated members from non-members significantly")
    assert "overfitting" not in nothing
    assert "The TPR at 1 % FPR is not reported: it needs 1,000 non-members" in nothing


def test_a_gap_that_won_is_overfitting_only_where_something_was_found():
    audit = audits.with_bank()
    only = replace(audit, findings=(audit.finding("gap"),))
    assert "the audit shows overfitting and no more" in " ".join(sentences.summary(only))


def test_what_is_no_better_than_the_gap_is_said_so():
    audit = audits.with_bank()
    close = replace(audit.strongest.over_gap, p_value=0.2)
    weak = replace(audit, findings=(replace(audit.strongest, over_gap=close), *audit.findings[1:]))
    assert "not significantly above" in " ".join(sentences.summary(weak))
    assert "p 0.200" in shown(weak)


def test_exits_that_were_audited_are_no_untested_side_channel(monkeypatch):
    audit = audits.without_bank()
    assert sentences.SIDE_CHANNELS in sentences.not_tested(audit)
    monkeypatch.setattr("estimators.leakage.attacks.gap.NEEDS", ("exits",))
    assert sentences.not_tested(audit)[-1] == sentences.BEYOND_EXITS


def test_narrow_terminals_break_no_number():
    stream = io.StringIO()
    audit_report.show(audits.with_bank(), ABOUT, Console(file=stream, width=100, force_terminal=True, no_color=True))
    text = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    row = audits.with_bank().strongest
    assert {f"{row.auc.low:.3f}", f"{row.over_gap.estimate.high:.3f}", f"{row.advantage.low:.3f}"} <= numbers_in(text)


def roc_of(seed, ties):
    rng = np.random.default_rng(seed)
    is_member = rng.random(3000) < 0.5
    scores = rng.normal(is_member, 1)
    return (np.round(scores) if ties else scores), is_member


@pytest.mark.parametrize("ties", [False, True])
def test_roc_points_are_what_a_threshold_reaches(ties):
    scores, is_member = roc_of(0, ties)
    points = figures.roc_points(scores, is_member)
    assert len(points) <= 200
    assert points[0, 0] == 0
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    for fpr, tpr in points:
        assert tpr == pytest.approx(tpr_at_fpr(scores, is_member, min(fpr + 1e-12, 1.0)))


def test_roc_points_hold_the_area_between_them():
    scores, is_member = roc_of(1, ties=False)
    points = figures.roc_points(scores, is_member)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(auc(scores, is_member), abs=0.002)
    # Half of them lie where few non-members are called members.
    assert (points[:, 0] < 0.1).mean() > 0.4


def test_roc_points_of_few_records_are_all_there():
    scores, is_member = np.array([4.0, 2.0, 3.0, 1.0, 0.0]), np.array([True, True, False, False, False])
    points = figures.roc_points(scores, is_member)
    np.testing.assert_allclose(points, [[0, 0.5], [1 / 3, 1], [2 / 3, 1], [1, 1]])


def test_json_thins_a_curve_and_draws_the_same(audit):
    for row, found in zip(audit_report.as_json(audit, {})["findings"], audit.findings, strict=True):
        assert len(row["roc"]) <= 200
        np.testing.assert_allclose(row["roc"], figures.roc_points(found.scores, audit.is_member), atol=1e-9)


def test_roc_plot_names_the_strongest_and_what_everybody_knows():
    audit = audits.with_bank()
    names = [found.attack for found in audit.findings]
    assert attacks_in(figures.roc(audit)) == {*names[:6], "loss", "gap"}
    last = replace(
        audit, findings=(*(found for found in audit.findings if found.attack != "loss"), audit.finding("loss"))
    )
    names.remove("loss")
    assert attacks_in(figures.roc(last)) == {*names[:6], "loss", "gap"}


def attacks_in(image):
    """The attacks in the legend of a ROC plot, which has the AUC of each."""
    return {text.split(",")[0] for text in named_in(image) if ", AUC " in text}


def test_figures_show_hostile_names_as_they_are():
    audit = audits.with_bank()
    named = replace(audit, findings=(replace(audit.strongest, attack="$x^$ <b>"), *audit.findings[1:]))
    assert "$x^$ &lt;b&gt;" in attacks_in(figures.roc(named))
    drawing(figures.histogram(named))
    drawing(figures.classes(named))


@pytest.mark.parametrize("scores", [np.zeros(60), np.arange(60.0), np.repeat([0.0, 1.0], 30)])
def test_figures_stand_scores_of_any_shape(scores):
    audit = audits.without_bank()
    odd = replace(audit, findings=(replace(audit.strongest, attack="own", scores=scores), *audit.findings))
    for draw in (figures.roc, figures.histogram):
        drawing(draw(odd))


def test_many_classes_are_all_in_the_table_and_the_worst_in_the_figure(tmp_path):
    audit = audits.with_bank()
    many = tuple(ClassRisk(label, str(label), 30, Estimate(0.9 - label / 500, 0.4, 0.95)) for label in range(100))
    crowded = replace(audit, by_class=many)
    audit_report.write_html(tmp_path / "a.html", crowded, {})
    text = words_of("".join(Page(tmp_path / "a.html").text))
    assert "the 30 classes with the highest AUC of 100" in text
    assert text.count("0.400 to 0.950") == 100
    assert shown(crowded).count("0.400 to 0.950") == 5


# What points the wrong way, and what users call their records.


def inverted():
    evidence, is_member = audits.draw(0, 1.5)
    return make_audit(evidence, ~is_member, seed=0, effort="quick", attacks=["loss", "lira_online", "gap"])


def test_an_alarm_is_no_number_on_terminal_page_and_in_json(tmp_path):
    audit = inverted()
    low = audit.findings[-1]
    report = audit_report.as_json(audit, ABOUT)
    assert [report[name] for name in ("leakage", "leakage_low", "leakage_high")] == [None] * 3
    assert {report[name] for name in report if name.startswith("leakage_tpr")} == {None}
    assert report["reversed"] == [found.attack for found in audit.findings[::-1] if found in audit.reversed]
    assert report["summary"][0] == "The leakage was not measured, because the data are most likely wrong."
    audit_report.write_html(tmp_path / "a.html", audit, ABOUT)
    page, printed = words_of("".join(Page(tmp_path / "a.html").text)), words_of(shown(audit))
    for text in (page, printed):
        assert "leakage: not measured, because the data are most likely wrong: " in text
        assert f"{low.attack} scores members below non-members, AUC {low.auc.value:.3f} (" in text
        assert "Most likely 'is_member' is inverted" in text
        assert "No attack separated" not in text
        assert "leakage: AUC" not in text
    assert audit_report.as_json(audits.with_bank(), {})["reversed"] == []


def test_records_and_classes_have_the_users_names_everywhere(tmp_path):
    evidence, is_member = audits.draw(0, 1.5)
    origin = Origin(
        ("ant", "bee", HOSTILE, "dog\nor cat", "e$l"),
        np.arange(len(is_member)) + 781,
        np.array([f"img/{number}.png" for number in range(len(is_member))]),
    )
    audit = make_audit(evidence, is_member, seed=0, attacks=["loss"], origin=origin)
    report = audit_report.as_json(audit, ABOUT)
    for row in report["records"]:
        assert (row["row"], row["file"]) == (row["record"] + 781, f"img/{row['record']}.png")
        assert row["class_name"] == origin.classes[row["label"]] == origin.class_name(evidence.labels[row["record"]])
    assert {row["class_name"] for row in report["classes"]} == set(origin.classes)
    audit_report.write_html(tmp_path / "a.html", audit, ABOUT)
    page = Page(tmp_path / "a.html")
    assert "script" not in page.tags
    texts = words_of(shown(audit)), words_of("".join(page.text))
    first = audit.records.riskiest[0]
    for text in texts:
        assert f"img/{first.record}.png" in text
        assert f"{first.record + 781}" in text
        assert "Row is the record's place in its file, where the first record is 1" in text
        assert {"dog or cat", "e$l", HOSTILE} <= {name for name in ("dog or cat", "e$l", HOSTILE) if name in text}
    drawn = named_in(page.images[-1]["src"])
    assert {"ant", "bee", "e$l"} <= drawn


def test_without_names_the_place_in_the_arrays_is_told(audit, page):
    assert "Record is the record's place in the audited arrays, where the first is 0." in words_of("".join(page.text))
    for row in audit_report.as_json(audit, {})["records"]:
        assert (row["row"], row["file"], row["class_name"]) == (None, None, str(row["label"]))


def test_the_error_of_each_class_is_in_all_three(audit, page):
    named = replace(audit, class_errors=(ClassError(HOSTILE, 40, Estimate(0.05, 0.01, 0.17)), ClassError("b", 3, RARE)))
    rows = audit_report.as_json(named, ABOUT)["class_errors"]
    assert [(row["name"], row["records"], row["error"], row["error_high"]) for row in rows] == [
        (HOSTILE, 40, 0.05, 0.17),
        ("b", 3, 1, 1),
    ]
    text = words_of(shown(named))
    # The worst first.
    assert text.index("b 3 1.000 0.292 to 1.000") < text.index(f"{HOSTILE} 40 0.050 0.010 to 0.170")
    assert audit_report.errors(named, 1).rows == (("b", "3", "1.000\n0.292 to 1.000"),)
    assert [row[:2] for row in page.rows if row[:2] == ["class", "records"]]
    for one in audit.class_errors:
        assert [one.name, str(one.records)] in [row[:2] for row in page.rows]


def test_the_errors_are_those_on_records_not_trained_on(audit):
    assert sum(one.records for one in audit.class_errors) == audit.non_members


def test_errors_are_counted_class_by_class():
    predicted, labels = np.array([0, 0, 1, 0, 2, 2]), np.array([0, 0, 0, 2, 2, 2])
    found = errors_by_class(predicted, labels, ("a", "b", "c"))
    assert [(one.name, one.records, one.error.value) for one in found] == [("a", 3, 1 / 3), ("c", 3, 1 / 3)]
    assert [one.name for one in errors_by_class(predicted, labels)] == ["0", "2"]
    assert found[0].error == proportion_interval(1, 3)
