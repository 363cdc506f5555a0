"""Report an audit: as JSON, on the terminal, as one HTML file. All three have the same figures from the same audit.

Tables are laid out once, in words, and shown twice; the JSON holds the numbers behind them.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import Difference
from nas.audit import figures
from nas.audit import sentences as words
from nas.audit.attack_all import LEAST_OF_A_CLASS
from nas.audit.attack_all import needed_non_members
from nas.audit.findings import Audit
from nas.audit.findings import Finding
from nas.audit.findings import RecordRisk
from nas.base import files
from nas.base.text import Row
from nas.base.text import flat
from nas.base.text import plain_table
from nas.base.text import printable

WORST = 5
"""Classes and records that the terminal shows; the page shows all that the audit names."""


@dataclass(frozen=True)
class Sheet:
    """A table in words.

    Attributes:
        columns: Headings; the first column is text, the others are numbers.
        rows: A cell for each column. Its first line is the value, the lines below say how far it can be trusted.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def as_json(audit: Audit, about: Mapping[str, str]) -> Row:
    """Return the report as plain numbers, texts, lists and dictionaries, fit for `nas.base.files.write_json`.

    A number that is estimated has `NAME_low` and `NAME_high` beside it; one that could not be had is None.

    Args:
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
    """
    trainings = audit.trainings
    too_few = [fpr for fpr, rate in audit.strongest.tpr.items() if rate is None]
    return {
        "about": dict(about),
        "summary": words.summary(audit),
        "warnings": list(audit.warnings),
        "members": audit.members,
        "non_members": audit.non_members,
        "shadows": audit.shadows,
        "effort": audit.effort,
        "strongest": audit.strongest.attack,
        **flat({"leakage": audit.leakage}),
        "findings": [_finding(found, audit) for found in audit.findings],
        "classes": [
            {"label": risk.label, "members": risk.members, **flat({"auc": risk.auc})} for risk in audit.by_class
        ],
        "records_attack": audit.records.attack,
        "records": [_record(risk, audit) for risk in audit.records.riskiest],
        "shapr_mean": float(audit.records.shapr.mean()),
        **flat({"shapr_agreement": audit.records.agreement}),
        "other_trainings": trainings.tolist(),
        "other_trainings_median": float(np.median(trainings)) if trainings.size else None,
        "other_trainings_min": float(trainings.min()) if trainings.size else None,
        "other_trainings_max": float(trainings.max()) if trainings.size else None,
        "released": [
            {"name": one.name, **flat({"auc": one.auc}), **_difference("over_best", one.over_best)}
            for one in audit.released
        ],
        "skipped": words.skipped(audit),
        "not_tested": words.not_tested(audit),
        "needed_non_members": {_rate_name(fpr): needed_non_members(fpr) for fpr in too_few},
    }


def show(audit: Audit, about: Mapping[str, str], console: Console) -> None:
    """Print the report.

    Args:
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
        console: Where to; from 100 columns on, no number is broken.
    """
    _say(console, words.headline(audit))
    for warning in audit.warnings:
        _say(console, f"warning: {warning}")
    _print(console, "attacks", attacks(audit), f"epsilon: lower bound, {words.of_epsilon(audit)}")
    _print(console, f"classes, the {WORST} worst for {audit.strongest.attack}", classes(audit, WORST))
    _print(
        console,
        f"members, the {WORST} riskiest for {audit.records.attack}",
        records(audit, WORST),
        words.of_shapr(audit),
    )
    _print(console, "other trainings by the same recipe, AUC of lira_online", trainings(audit))
    _print(console, "released versions", released(audit))
    _list(console, "attacks that did not run", _by_reason(audit))
    _list(console, "not tested", words.not_tested(audit))
    _list(console, "about", [f"{name}: {fact}" for name, fact in about.items()])


def write_html(path: Path, audit: Audit, about: Mapping[str, str]) -> None:
    """Write the report as one page that needs nothing else: no script, no network, figures inside.

    Args:
        path: The file; written whole or not at all. The same audit gives the same bytes.
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
    """
    loader = jinja2.PackageLoader("nas")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("audit.html").render(
        audit=audit,
        about=about,
        headline=words.headline(audit),
        summary=words.summary(audit),
        attacks=attacks(audit),
        classes=classes(audit),
        records=records(audit),
        shapr=words.of_shapr(audit),
        trainings=trainings(audit),
        released=released(audit),
        skipped=words.skipped(audit),
        not_tested=words.not_tested(audit),
        epsilon=words.of_epsilon(audit),
        least_of_a_class=LEAST_OF_A_CLASS,
        drawn_classes=figures.CLASSES,
        curves=figures.CURVES,
        figures={
            "roc": figures.roc(audit),
            "histogram": figures.histogram(audit),
            "classes": figures.classes(audit),
        },
    )
    files.write_text(path, page, files.OWNER)


def attacks(audit: Audit) -> Sheet:
    """Lay out attacks, the strongest first."""
    rates = [f"TPR at\n{100 * fpr:g} % FPR" for fpr in audit.strongest.tpr]
    columns = ("attack", "AUC", "AUC over\ngap's", *rates, "balanced\naccuracy", "advantage", "epsilon\nat least")
    rows = tuple(
        (
            f"{found.attack}\nlabels only" if found.is_label_only else found.attack,
            words.cell(found.auc),
            "-" if found.attack == "gap" else words.over(found.over_gap),
            *(words.rate(fpr, rate) for fpr, rate in found.tpr.items()),
            words.cell(found.balanced_accuracy),
            words.cell(found.advantage, "+"),
            f"{found.epsilon.epsilon:.2f}",
            f"{found.seconds:.2f}",
        )
        for found in audit.findings
    )
    return Sheet((*columns, "seconds"), rows)


def classes(audit: Audit, most: int | None = None) -> Sheet:
    """Lay out classes, the most exposed first."""
    rows = tuple((str(risk.label), f"{risk.members:,}", words.cell(risk.auc)) for risk in audit.by_class[:most])
    return Sheet(("class", "members", "AUC"), rows)


def records(audit: Audit, most: int | None = None) -> Sheet:
    """Lay out the members that stand out most."""
    rows = tuple(
        (
            str(risk.record),
            str(risk.label),
            f"{risk.score:.4g}",
            words.percent(risk.found_at_fpr),
            "-" if risk.across_trainings is None else words.cell(risk.across_trainings),
            f"{_shapr_of(risk, audit):+.3f}",
        )
        for risk in audit.records.riskiest[:most]
    )
    return Sheet(("record", "class", "score", "non-members\nas high", "AUC across\ntrainings", "SHAPr"), rows)


def trainings(audit: Audit) -> Sheet:
    """Lay out what other trainings leak, beside this one; no rows where there were too few shadows to tell."""
    aucs = audit.trainings
    columns = ("trainings", "median", "lowest", "highest", "this network")
    if not aucs.size:
        return Sheet(columns, ())
    own = [words.cell(found.auc) for found in audit.findings if found.attack == "lira_online"] or ["-"]
    return Sheet(columns, ((str(len(aucs)), *(f"{x:.3f}" for x in (np.median(aucs), aucs.min(), aucs.max())), *own),))


def released(audit: Audit) -> Sheet:
    """Lay out the versions of a released set, and the set; no rows for a single network."""
    rows = tuple(
        (one.name, words.cell(one.auc), "" if one.over_best is None else words.over(one.over_best))
        for one in audit.released
    )
    return Sheet(("version", "AUC", "AUC over\nbest single's"), rows)


def _finding(found: Finding, audit: Audit) -> Row:
    rates: Row = {}
    for fpr, rate in found.tpr.items():
        rates |= _known(_rate_name(fpr), rate)
    return {
        "attack": found.attack,
        "label_only": found.is_label_only,
        **flat({"auc": found.auc}),
        **_difference("over_gap", None if found.attack == "gap" else found.over_gap),
        **rates,
        **flat({"balanced_accuracy": found.balanced_accuracy, "advantage": found.advantage}),
        "epsilon_bound": found.epsilon.epsilon,
        "epsilon_delta": found.epsilon.delta,
        "epsilon_confidence": found.epsilon.confidence,
        "seconds": found.seconds,
        "roc": figures.roc_points(found.scores, audit.is_member).round(9).tolist(),
    }


def _record(risk: RecordRisk, audit: Audit) -> Row:
    return {
        "record": risk.record,
        "label": risk.label,
        "score": risk.score,
        **flat({"found_at_fpr": risk.found_at_fpr}),
        **_known("across_trainings", risk.across_trainings),
        "shapr": _shapr_of(risk, audit),
    }


def _shapr_of(risk: RecordRisk, audit: Audit) -> float:
    """Return a member's SHAPr, which the audit holds by members."""
    return float(audit.records.shapr[int(audit.is_member[: risk.record].sum())])


def _known(name: str, estimate: Estimate | None) -> Row:
    return {name: None} if estimate is None else flat({name: estimate})


def _difference(name: str, apart: Difference | None) -> Row:
    return {name: None} if apart is None else {**flat({name: apart.estimate}), f"{name}_p": apart.p_value}


def _rate_name(fpr: float) -> str:
    return f"tpr_at_{100 * fpr:g}pct_fpr".replace(".", "_")


def _say(console: Console, text: str) -> None:
    """Print text as it is, broken on a terminal only. Names are a user's: nothing in them is markup."""
    console.print(Text(printable(text)), soft_wrap=not console.is_terminal)


def _list(console: Console, title: str, lines: Iterable[str]) -> None:
    _say(console, f"\n{title}")
    for line in lines:
        console.print(Padding(Text(printable(line)), (0, 0, 0, 2), expand=False))


def _by_reason(audit: Audit) -> list[str]:
    """Write attacks that did not run, those with one reason in one line."""
    names: dict[str, list[str]] = {}
    for name, reason in words.skipped(audit).items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(together)}: {reason}" for reason, together in names.items()] or ["none"]


def _print(console: Console, title: str, sheet: Sheet, note: str = "") -> None:
    """Print a table where it has rows."""
    if not sheet.rows:
        return
    table = plain_table(*sheet.columns)
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _say(console, f"\n{title}")
    console.print(table)
    if note:
        _say(console, note)
