"""Report an audit as JSON, on the terminal, and as one HTML page, with the same numbers in all three.

Each table is laid out once, as text, for terminal and page. The JSON has the numbers behind the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import Difference
from estimators.leakage.statistics.auc_and_rates import by_membership
from estimators.leakage.statistics.auc_and_rates import tpr_at_fpr
from nas.audit import epsilons
from nas.audit import figures
from nas.audit import sentences as words
from nas.audit.attack_all import LEAST_OF_A_CLASS
from nas.audit.attack_all import needed_non_members
from nas.audit.findings import Audit
from nas.audit.findings import Finding
from nas.audit.findings import People
from nas.audit.findings import RecordRisk
from nas.audit.gate import Verdict
from nas.audit.gate import as_rows
from nas.base import files
from nas.base.text import Row
from nas.base.text import fitting
from nas.base.text import percent
from nas.base.text import plain_table
from nas.base.text import printable
from nas.base.text import signed
from nas.base.text import stacked

WORST = 5
"""How many classes and records the terminal shows; the page shows all that the audit names."""
READ_OFF = (0.01, 0.1, 0.5)
"""False positive rates at which the page states the ROC curves as numbers, for those who cannot see the image."""
BOUNDS = "epsilon at least, by what is assumed of the training"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        columns: Headings; the first column is text, the others are numbers.
        rows: A cell for each column. Its first line is the value, the lines below are its interval or a p-value.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        image: A `data:` URI.
        caption: What the figure shows, in sentences that stand below it.
        alt: What can be seen in it, for those who cannot see it.
        numbers: The table behind it.
    """

    image: str
    caption: str
    alt: str
    numbers: Sheet


def as_json(audit: Audit, about: Mapping[str, str], verdicts: Sequence[Verdict] = ()) -> Row:
    """Return the report as plain numbers, texts, lists and dictionaries, for `nas.base.files.write_json`.

    An estimated number has `NAME_low` and `NAME_high` beside it. A number that could not be measured is None.

    Args:
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
        verdicts: How the audit stands against limits, if any were given.
    """
    trainings = audit.trainings
    leakage, rates = flat({"leakage": audit.leakage}), _rates("leakage_", audit.strongest)
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
        **(dict.fromkeys(leakage) if audit.is_alarming or audit.is_refused else leakage),
        **(dict.fromkeys(rates) if audit.is_alarming or audit.shifted else rates),
        "shifted": [found.attack for found in audit.shifted],
        "people": None if audit.people is None else _people(audit, audit.people),
        "limits": as_rows(verdicts),
        "reversed": [found.attack for found in audit.reversed],
        "findings": [_finding(found, audit.is_member) for found in audit.findings],
        "epsilon_caveats": list(epsilons.caveats(by_person=audit.people is not None)),
        "classes": [
            {
                "label": risk.label,
                "class_name": risk.class_name,
                "members": risk.members,
                **flat({"auc": risk.auc}),
            }
            for risk in audit.by_class
        ],
        "class_errors": [
            {"name": one.name, "records": one.records, **flat({"error": one.error})} for one in audit.class_errors
        ],
        "records_attack": audit.records.attack,
        "records": [_record(risk, audit) for risk in audit.records.riskiest],
        "shapr_mean": None if audit.records.shapr is None else float(audit.records.shapr.mean()),
        **_known("shapr_agreement", audit.records.agreement),
        "other_trainings": trainings.tolist(),
        "other_trainings_median": float(np.median(trainings)) if trainings.size else None,
        "other_trainings_min": float(trainings.min()) if trainings.size else None,
        "other_trainings_max": float(trainings.max()) if trainings.size else None,
        "released": [
            {
                "name": one.name,
                "attack": one.attack,
                "attacks": one.attacks,
                **flat({"auc": one.auc}),
                **_known("error", one.error),
                **_difference("over_best", one.over_best),
            }
            for one in audit.released
        ],
        "skipped": words.skipped(audit),
        "not_tested": words.not_tested(audit),
        "needed_non_members": {_rate_name(fpr): needed_non_members(fpr) for fpr in too_few},
    }


def show(audit: Audit, about: Mapping[str, str], console: Console, verdicts: Sequence[Verdict] = ()) -> None:
    """Print the report.

    Args:
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
        console: Where to print; on 100 columns or more, no number is broken over two lines.
        verdicts: How the audit stands against limits, if any were given.
    """
    _say(console, words.headline(audit))
    for warning in audit.warnings:
        _say(console, f"warning: {warning}")
    if verdicts:
        _list(console, "limits", words.of_limits(verdicts))
    if (people := audit.people) is not None:
        bound = words.of_epsilon(people)
        _print(console, "attacks, by person", attacks(people), f"epsilon of all records of a person: {bound}")
        _print(console, f"{BOUNDS}, by person", bounds(people, WORST))
        title = f"the {WORST} people with the highest scores of {people.strongest.attack}"
        _print(console, title, persons(people, WORST))
    _print(console, "attacks", attacks(audit), f"epsilon: a lower bound; {words.of_epsilon(audit)}")
    _print(console, BOUNDS, bounds(audit, WORST))
    caveats = epsilons.caveats(by_person=people is not None)
    _list(console, f"about epsilon, at {words.of_epsilon(audit)}", caveats)
    _print(console, f"the {WORST} classes with the highest AUC of {audit.strongest.attack}", classes(audit, WORST))
    _print(console, f"the {WORST} classes with the highest error on records not trained on", errors(audit, WORST))
    _print(
        console,
        f"the {WORST} members with the highest scores of {audit.records.attack}",
        records(audit, WORST),
        f"{words.counted(audit)} {words.of_shapr(audit)}",
    )
    _print(console, "other trainings with the same recipe, AUC of lira_online", trainings(audit))
    _print(console, "released versions", released(audit), words.of_versions(audit))
    _list(console, "attacks that did not run", _by_reason(audit))
    _list(console, "not tested", words.not_tested(audit))
    _list(console, "about", [f"{name}: {fact}" for name, fact in about.items()])


def write_html(path: Path, audit: Audit, about: Mapping[str, str], verdicts: Sequence[Verdict] = ()) -> None:
    """Write the report as one page that needs nothing else: no script, no network access, figures within it.

    Args:
        path: The file; written completely or not at all. The same audit gives the same bytes.
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order.
        verdicts: How the audit stands against limits, if any were given.
    """
    loader = jinja2.PackageLoader("nas")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    page = environment.get_template("audit.html").render(
        audit=audit,
        about=about,
        headline=words.headline(audit),
        summary=words.summary(audit),
        limits=words.of_limits(verdicts),
        attacks=attacks(audit),
        by_person=None if audit.people is None else attacks(audit.people),
        bounds_by_person=None if audit.people is None else bounds(audit.people),
        epsilon_by_person=None if audit.people is None else words.of_epsilon(audit.people),
        persons=persons(audit.people),
        classes=classes(audit),
        errors=errors(audit),
        records=records(audit),
        shapr=words.of_shapr(audit),
        counted=words.counted(audit),
        trainings=trainings(audit),
        released=released(audit),
        of_versions=words.of_versions(audit),
        skipped=words.skipped(audit),
        not_tested=words.not_tested(audit),
        epsilon=words.of_epsilon(audit),
        bounds=bounds(audit),
        of_bounds=epsilons.caveats(by_person=audit.people is not None),
        least_of_a_class=LEAST_OF_A_CLASS,
        roc=_roc(audit),
        histogram=_histogram(audit),
        by_class=_classes(audit),
    )
    files.write_text(path, page, files.OWNER)


def attacks(audit: Audit | People) -> Sheet:
    """Lay out the attacks on records or on people, the strongest first."""
    rates = [f"TPR at\n{100 * fpr:g} % FPR" for fpr in audit.strongest.tpr]
    unit = "other people" if isinstance(audit, People) else "non-members"
    columns = (
        "attack",
        "AUC",
        "AUC, nothing\nmemorised",
        "AUC minus\ngap's",
        *rates,
        "balanced\naccuracy",
        "advantage",
        "epsilon\nat least",
    )
    rows = tuple(
        (
            f"{found.attack}\nlabels only" if found.is_label_only else found.attack,
            stacked(found.auc),
            "-" if found.null is None else stacked(found.null),
            "-" if found.attack == "gap" or found.over_gap is None else words.over(found.over_gap),
            *(words.rate(fpr, rate, unit) for fpr, rate in found.tpr.items()),
            stacked(found.balanced_accuracy),
            stacked(found.advantage, signed),
            f"{found.epsilon.epsilon:.2f}",
            f"{found.seconds:.2f}",
        )
        for found in audit.findings
    )
    return Sheet((*columns, "seconds"), rows)


def bounds(audit: Audit | People, most: int | None = None) -> Sheet:
    """Lay out the bounds on epsilon by assumption, the strongest attack first."""
    return Sheet(epsilons.COLUMNS, tuple(epsilons.cells([(one.attack, one.epsilons) for one in audit.findings[:most]])))


def persons(people: People | None, most: int | None = None) -> Sheet:
    """Lay out the people with the highest scores; no rows where records belong to nobody."""
    rows = tuple(
        (words.named(risk.person), f"{risk.records:,}", f"{risk.score:.4g}", stacked(risk.found_at_fpr, percent))
        for risk in (() if people is None else people.riskiest[:most])
    )
    return Sheet(("person", "records", "score", "non-members\nas high"), rows)


def classes(audit: Audit, most: int | None = None) -> Sheet:
    """Lay out the classes, the highest AUC first."""
    rows = tuple(
        (words.named(risk.class_name), f"{risk.members:,}", stacked(risk.auc)) for risk in audit.by_class[:most]
    )
    return Sheet(("class", "members", "AUC"), rows)


def errors(audit: Audit, most: int | None = None) -> Sheet:
    """Lay out the error of each class on records that the network was not trained on, the highest first."""
    ordered = sorted(audit.class_errors, key=lambda one: -one.error.value)
    rows = tuple((words.named(one.name), f"{one.records:,}", stacked(one.error)) for one in ordered[:most])
    return Sheet(("class", "records", "error"), rows)


def records(audit: Audit, most: int | None = None) -> Sheet:
    """Lay out the members with the highest scores, each as the user finds it again."""
    heading = "record" if any(risk.row is None for risk in audit.records.riskiest) else "row of\nthe data"
    rows = tuple(
        (
            words.of_record(risk),
            words.named(risk.class_name),
            f"{risk.score:.4g}",
            stacked(risk.found_at_fpr, percent),
            "-" if risk.across_trainings is None else stacked(risk.across_trainings),
            "-" if (shapr := _shapr_of(risk, audit)) is None else f"{shapr:+.3f}",
        )
        for risk in audit.records.riskiest[:most]
    )
    return Sheet((heading, "class", "score", "non-members\nas high", "AUC across\ntrainings", "SHAPr"), rows)


def trainings(audit: Audit) -> Sheet:
    """Lay out the AUC of other trainings beside this network's; no rows if there were too few shadow models."""
    aucs = audit.trainings
    columns = ("trainings", "median", "lowest", "highest", "this network")
    if not aucs.size:
        return Sheet(columns, ())
    own = [stacked(found.auc) for found in audit.findings if found.attack == "lira_online"] or ["-"]
    return Sheet(columns, ((str(len(aucs)), *(f"{x:.3f}" for x in (np.median(aucs), aucs.min(), aucs.max())), *own),))


def released(audit: Audit) -> Sheet:
    """Lay out the versions of a released set and all together; no rows for a single network."""
    rows = tuple(
        (
            one.name,
            f"{one.attack}\nof {one.attacks}",
            stacked(one.auc),
            "" if one.error is None else stacked(one.error),
            "" if one.over_best is None else words.over(one.over_best),
        )
        for one in audit.released
    )
    return Sheet(("version", "strongest\nattack", "AUC", "error on\nnon-members", "AUC minus\nbest single's"), rows)


def _roc(audit: Audit) -> Picture:
    drawn = figures.drawn(audit.findings)
    first, tenth = 1 / audit.non_members, min(10 / audit.non_members, 1)
    fprs = [fpr for fpr in READ_OFF if needed_non_members(fpr) <= audit.non_members]
    rows = tuple(
        (found.attack, *(percent(tpr_at_fpr(found.scores, audit.is_member, fpr)) for fpr in fprs)) for found in drawn
    )
    return Picture(
        image=figures.roc(audit),
        caption=(
            f"ROC curves of the {figures.CURVES} strongest attacks and of loss. Both axes are logarithmic, from one "
            f"non-member ({first:.2g}) to all. The diamond is the gap attack, which has one threshold only. Below ten "
            f"non-members ({tenth:.2g}) a curve is mostly noise."
        ),
        alt=f"ROC curves of {', '.join(found.attack for found in drawn)}. The table below has their TPR.",
        numbers=Sheet(("attack", *(f"TPR at\n{100 * fpr:g} % FPR" for fpr in fprs)), rows),
    )


def _histogram(audit: Audit) -> Picture:
    strongest = audit.strongest
    groups = zip(("members", "non-members"), by_membership(strongest.scores, audit.is_member), strict=True)
    rows = tuple((name, *(f"{score:.4g}" for score in np.quantile(scores, QUANTILES))) for name, scores in groups)
    return Picture(
        image=figures.histogram(audit),
        caption=(
            f"Scores of {strongest.attack}, the strongest attack. The outermost bins hold all scores beyond them. The "
            "less the two histograms overlap, the more the network leaks."
        ),
        alt=f"Histograms of the scores of members and of non-members by {strongest.attack}. The table below has their "
        "quantiles.",
        numbers=Sheet(("group", *(f"{100 * share:g} %\nbelow" for share in QUANTILES)), rows),
    )


def _classes(audit: Audit) -> Picture:
    count, shown = len(audit.by_class), min(len(audit.by_class), figures.CLASSES)
    of = f", the {shown} classes with the highest AUC of {count}" if shown < count else ""
    return Picture(
        image=figures.classes(audit),
        caption=f"AUC of {audit.strongest.attack} by class with 95 % intervals{of}.",
        alt=f"Bars of the AUC of {shown} classes. The table below has the numbers.",
        numbers=classes(audit),
    )


def _people(audit: Audit, people: People) -> Row:
    leakage, rates = flat({"leakage": people.leakage}), _rates("leakage_", people.strongest)
    return {
        "members": int(people.is_member.sum()),
        "non_members": int((~people.is_member).sum()),
        "strongest": people.strongest.attack,
        **(dict.fromkeys(leakage) if audit.is_alarming or audit.are_people_refused else leakage),
        **(dict.fromkeys(rates) if audit.is_alarming or audit.are_people_refused or people.shifted else rates),
        "shifted": [found.attack for found in people.shifted],
        "reversed": [] if audit.are_people_refused else [found.attack for found in people.reversed],
        "findings": [_finding(found, people.is_member) for found in people.findings],
        "riskiest": [
            {
                "person": risk.person,
                "records": risk.records,
                "score": risk.score,
                **flat({"found_at_fpr": risk.found_at_fpr}),
            }
            for risk in people.riskiest
        ],
    }


def _finding(found: Finding, is_member: Mask) -> Row:
    return {
        "attack": found.attack,
        "label_only": found.is_label_only,
        **flat({"auc": found.auc}),
        **_known("null_auc", found.null),
        **_known("auc_less_null", found.less_null),
        **_difference("over_gap", None if found.attack == "gap" else found.over_gap),
        **_rates("", found),
        **flat({"balanced_accuracy": found.balanced_accuracy, "advantage": found.advantage}),
        "epsilon_bound": found.epsilon.epsilon,
        "epsilon_delta": found.epsilon.delta,
        "epsilon_confidence": found.epsilon.confidence,
        "epsilon_bounds": epsilons.as_json(found.epsilons),
        "seconds": found.seconds,
        "roc": figures.roc_points(found.scores, is_member).round(9).tolist(),
    }


def _rates(prefix: str, found: Finding) -> Row:
    rates: Row = {}
    for fpr, rate in found.tpr.items():
        rates |= _known(f"{prefix}{_rate_name(fpr)}", rate)
    return rates


def _record(risk: RecordRisk, audit: Audit) -> Row:
    return {
        "record": risk.record,
        "row": risk.row,
        "file": risk.file,
        "label": risk.label,
        "class_name": risk.class_name,
        "score": risk.score,
        **flat({"found_at_fpr": risk.found_at_fpr}),
        **_known("across_trainings", risk.across_trainings),
        "shapr": _shapr_of(risk, audit),
    }


def _shapr_of(risk: RecordRisk, audit: Audit) -> float | None:
    """Return a member's SHAPr; the audit has it by members, not by records."""
    if audit.records.shapr is None:
        return None
    return float(audit.records.shapr[int(audit.is_member[: risk.record].sum())])


def _known(name: str, estimate: Estimate | None) -> Row:
    return {name: None} if estimate is None else flat({name: estimate})


def _difference(name: str, apart: Difference | None) -> Row:
    return {name: None} if apart is None else {**flat({name: apart.estimate}), f"{name}_p": apart.p_value}


def _rate_name(fpr: float) -> str:
    return f"tpr_at_{100 * fpr:g}pct_fpr".replace(".", "_")


def _shown(value: object) -> object:
    """Write what steers a reader's eyes or terminal as escapes, also on the page: users choose names."""
    return printable(value) if type(value) is str else value


def _say(console: Console, text: str) -> None:
    """Print text as it is, with line breaks on a terminal only. Users choose names: nothing in them is markup."""
    console.print(Text(printable(text)), soft_wrap=not console.is_terminal)


def _list(console: Console, title: str, lines: Iterable[str]) -> None:
    _say(console, f"\n{title}")
    for line in lines:
        console.print(Padding(Text(printable(line)), (0, 0, 0, 2), expand=False))


def _by_reason(audit: Audit) -> list[str]:
    """Write the attacks that did not run, a line for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in words.skipped(audit).items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(together)}: {reason}" for reason, together in names.items()] or ["none"]


def _print(console: Console, title: str, sheet: Sheet, note: str = "") -> None:
    """Print a table if it has rows."""
    if not sheet.rows:
        return
    table = plain_table(*sheet.columns)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True  # an interval in one line is easier to read than in three
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _say(console, f"\n{title}")
    for part in fitting(table, console.width):
        console.print(part, crop=False)
    if note:
        _say(console, note)
