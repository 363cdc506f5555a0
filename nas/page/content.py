"""What the page of a run says: sections of sentences, figures and tables, each with a reason where it has none."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.models.by_layer import by_layer
from estimators.models.by_layer import roofs
from nas.base.text import inline
from nas.base.text import three_places
from nas.base.text import two_places
from nas.pricing import report as prices
from nas.pricing.price import as_shipped
from nas.runs import audits
from nas.runs import by_class
from nas.runs import report
from nas.runs.candidates import Candidate
from nas.runs.candidates import Candidates
from nas.runs.confirmed import with_confirmed
from nas.runs.figures import choices as by_choice
from nas.runs.figures.choices import choices
from nas.runs.figures.hypervolume import hypervolume
from nas.runs.figures.importance import importance
from nas.runs.figures.latency_by_layer import latency_by_layer
from nas.runs.figures.parallel_coordinates import MOST_LINES
from nas.runs.figures.parallel_coordinates import parallel_coordinates
from nas.runs.figures.projections import projections
from nas.runs.figures.proxy_agreement import proxy_agreement
from nas.runs.figures.roc import roc
from nas.runs.figures.roofline import roofline
from nas.runs.figures.style import axes_of
from nas.runs.figures.three_objectives import three_objectives
from nas.runs.progress import Counts
from nas.runs.progress import count
from nas.runs.run import Run
from nas.search.config import TABLE
from nas.search.config import SearchConfig
from nas.search.config import to_toml
from nas.search.storage import ORIGIN
from nas.search.storage import TASK

MOST_NETWORKS = 12
"""So many networks of the front are shown layer by layer."""
LONGEST = 300
"""Characters of somebody's text that the page shows."""
LONGEST_LISTING = 20_000


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        columns: Headings; the first column is text, the others are numbers.
        rows: A cell for each column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        name: Of its element, unique on the page.
        figure: The figure.
        alt: What it shows, for those who cannot see it.
        of: Of the plots of a section with different texts here, one is shown at a time; empty: always.
    """

    name: str
    figure: go.Figure
    alt: str
    of: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Of its element, unique on the page.
        title: Its heading.
        lines: Sentences below the heading.
        plots: Figures.
        sheets: Tables, by their captions.
        commands: What to type for more.
        text: A listing, such as settings.
    """

    name: str
    title: str
    lines: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    sheets: tuple[tuple[str, Sheet], ...] = ()
    commands: tuple[str, ...] = ()
    text: str = ""

    @property
    def switch(self) -> tuple[str, ...]:
        """What can be chosen among."""
        return tuple(dict.fromkeys(plot.of for plot in self.plots if plot.of))


def counts_of(run: Run) -> Counts:
    """Count what became of the candidates."""
    return count(run.study.get_trials(deepcopy=False))


def notices(run: Run, candidates: Candidates) -> list[str]:
    """Say what to know before reading: what is still in progress, what is missing, what limits the numbers."""
    study, counts = run.study, counts_of(run)
    found = []
    if counts.running:
        plural = "candidates are" if counts.running > 1 else "candidate is"
        found.append(f"{counts.running} {plural} in progress: this page shows the run as it was when it was written")
    if not candidates.rows:
        found.append("no candidate has finished training yet")
    elif not candidates.best:
        found.append("no candidate is within the limits of the search, so there is no front")
    if run.config.evaluator == TABLE:
        found.append("the figures were looked up in a table: nothing was trained, and there is nothing to audit")
    else:
        found.append(
            "the leakage here is that of the attack that guided the search: it ranks candidates and is no audit; the "
            "lowest of many noisy numbers is too low on average"
        )
    trials = study.get_trials(deepcopy=False)
    best = with_confirmed(study, [trials[row.number] for row in candidates.best])
    found += [*report.confirmed_lines(study, best), *report.left_lines(study)]
    stars = "; ".join(line.strip() for line in report.extrapolated_lines(study, study.best_trials))
    return [*found, *by_class.cautions(study), *([stars] if stars else [])]


def sections(run: Run, candidates: Candidates) -> Iterator[Section]:
    """Make the sections below the front, in order."""
    if candidates.rows:
        yield _in_parallel(candidates)
    yield _growth(run)
    yield _importance(run)
    if candidates.rows:
        yield _chosen(candidates)
    yield _proxy(run)
    yield _roc(run, candidates)
    yield _by_layer(run, candidates)
    yield _reproduce(run, candidates)


def front_plots(candidates: Candidates) -> tuple[Plot, ...]:
    """Draw the front in the plane and in space; nothing without candidates."""
    if not candidates.rows:
        return ()
    return (
        Plot("projections", projections(candidates), "candidates by each pair of objectives"),
        Plot("space", three_objectives(candidates), "candidates by three objectives"),
    )


def front_sheet(candidates: Candidates) -> Sheet:
    """Lay out the front, or all candidates where there is none; the page's script shows what remains in its place."""
    names = axes_of(candidates, len(candidates.metrics), least=4)
    rows = candidates.best or candidates.rows[:MOST_NETWORKS]
    cells = tuple(
        (str(row.number), *(inline(row.numbers[name]) for name in names), row.bits, row.whole_defence) for row in rows
    )
    return Sheet(("candidate", *names, "bits", "defence"), cells)


def _in_parallel(candidates: Candidates) -> Section:
    about = (
        "Each line is a candidate; those of the front are orange. Drag along an axis to keep the candidates that pass "
        "there, and click beside the mark to let go. What remains is shown everywhere on the page."
    )
    if len(candidates.rows) > MOST_LINES:
        about += " Of this many candidates some are drawn; a mark holds for all."
    plot = Plot("parallel-plot", parallel_coordinates(candidates), "candidates over parallel axes")
    return Section("parallel", "All at once", (about,), (plot,))


def _growth(run: Run) -> Section:
    about = (
        "The hypervolume is the part of the space of objectives that the front beats, each objective on the scale of "
        "the candidates. Where the line has been flat for long, more candidates may find little."
    )
    plot = Plot("hypervolume-plot", hypervolume(run.study), "hypervolume of the front by candidate")
    return Section("hypervolume", "How the front grew", (about,), (plot,))


def _importance(run: Run) -> Section:
    about = (
        "How much a parameter tells the best tenth of the candidates in an objective from the others (PED-ANOVA). The "
        "mark shows the largest value in 20 random orders of the candidates: a bar that does not pass it is no "
        "finding. A search looks where it expects good candidates, so it shows less of the rest."
    )
    plot = Plot("importance-plot", importance(run.study), "importance of the parameters for each objective")
    return Section("importance", "Which parameters matter", (about,), (plot,))


def _chosen(candidates: Candidates) -> Section:
    names = axes_of(candidates, by_choice.MOST_METRICS)
    plots, sheets, same = [], [], []
    for place, kind in enumerate(by_choice.KINDS):
        groups = by_choice.table(candidates, kind)
        if len(groups) < 2:
            same.append(f"all candidates have the same {kind}: {groups[0].name}")
            continue
        plots.append(Plot(f"choice-{place}", choices(candidates, kind), f"objectives by {kind}"))
        rows = tuple(
            (group.name, str(group.count), *(inline(group.medians[name]) for name in names)) for group in groups
        )
        sheets.append((f"Medians by {kind}, with quartiles", Sheet((kind, "candidates", *names), rows)))
    about = (
        "Each box holds the middle half of the candidates of one choice. They differ in all else, too: a box shows "
        "what went with a choice in this search, and not the effect of the choice alone."
    )
    return Section("choices", "What each choice costs and buys", (about, *same), tuple(plots), tuple(sheets))


def _proxy(run: Run) -> Section:
    title, ask = "Does the search's leakage agree with audits?", f"nas audit {shlex.quote(run.name)}"
    if run.config.evaluator == TABLE:
        return Section("proxy", title, ("A table gave the figures: there is nothing to audit.",))
    try:
        found = audits.agreement_in(run.folder)
    except ValueError as error:
        return Section("proxy", title, (str(error),))
    if found is None:
        told = "Not known yet. This audits ten candidates and compares them with what guided the search:"
        return Section("proxy", title, (told,), commands=(ask,))
    ends = [found.spearman_low, found.spearman_high]
    interval = "" if None in ends else f" ({' to '.join(two_places(end) for end in ends if end is not None)})"
    told = (
        f"Rank correlation over {len(found.candidates)} candidates: Spearman {two_places(found.spearman)}{interval}. "
        f"Mean absolute error of the proxy {three_places(found.mean_absolute_error)}, bias {found.bias:+.3f} "
        "(negative: the proxy is too low)."
    )
    rows = tuple(
        (str(line.number), inline(line.estimate("proxy")), inline(line.estimate("audited")))
        for line in found.candidates
    )
    sheet = Sheet(("candidate", "proxy AUC", "audited AUC"), rows)
    plot = Plot("proxy-plot", proxy_agreement(found), "leakage by the proxy and by audits")
    return Section("proxy", title, (told, *found.warnings), (plot,), (("Proxy and audits", sheet),))


def _roc(run: Run, candidates: Candidates) -> Section:
    title = "ROC curves of audits"
    if run.config.evaluator == TABLE:
        return Section("roc", title, ("A table gave the figures: there is nothing to audit.",))
    try:
        found = audits.audits_in(run.folder)
    except ValueError as error:
        return Section("roc", title, (str(error),))
    if not found:
        first = _first(candidates)
        command = f"nas audit {shlex.quote(run.name)} --pick {'NUMBER' if first is None else first}"
        told = "No candidate has been audited yet. This attacks one with all attacks that can run:"
        return Section("roc", title, (told,), commands=(command,))
    about = (
        "Both axes are logarithmic: the few most exposed records are at the left. Below ten non-members a curve is "
        "mostly noise."
    )
    plots = tuple(
        Plot(
            f"roc-{number}",
            roc(audited),
            f"ROC curves of candidate {number}",
            of=f"candidate {number} (effort {_clipped(audited.effort)}, {audited.non_members:,} non-members)",
        )
        for number, audited in found.items()
    )
    return Section("roc", title, (about,), plots)


def _by_layer(run: Run, candidates: Candidates) -> Section:
    title = "Where the time goes"
    shown = _spread(candidates.best or list(candidates.rows), MOST_NETWORKS)
    try:
        device = load_device(run.config.device)
    except (ValueError, OSError) as error:
        return Section("layers", title, (f"The device of this run cannot be read here: {_clipped(str(error))}",))
    plots = [plot for row in shown for plot in _layers_of(row, device)]
    about = (
        f"{prices.basis(device)}. Latency of each layer is an estimate of the device's model. Under the roof, the area "
        "of a point is its share of the time."
    )
    if not plots:
        return Section("layers", title, ("There is no network to show.",))
    return Section("layers", title, (about,), tuple(plots))


def _layers_of(row: Candidate, device: Device) -> Iterator[Plot]:
    shown = as_shipped(row.architecture, device)
    try:
        layers, limits = by_layer(shown, device), roofs(shown, device)
    except CannotRun:
        return
    of = f"candidate {row.number}: {sum(layer.latency_ms for layer in layers):.3g} ms"
    yield Plot(f"layers-{row.number}", latency_by_layer(layers), f"latency by layer of candidate {row.number}", of)
    yield Plot(f"roofline-{row.number}", roofline(layers, limits), f"roofline of candidate {row.number}", of)


def _reproduce(run: Run, candidates: Candidates) -> Section:
    first = _first(candidates)
    name = shlex.quote(run.name)
    commands = [f"nas search runs/{name}/config.toml", f"nas show {name}", f"nas report {name}"]
    if first is not None and run.config.evaluator != TABLE:
        commands += [f"nas pick {name} --number {first}", f"nas audit {name} --pick {first}"]
    origin = run.study.user_attrs.get(ORIGIN, {})
    named = ("version", "fingerprint", "space", "device")
    rows = [(name, _clipped(str(origin[name]))) for name in named if origin.get(name)]
    rows.append(("task", _clipped(str(run.study.user_attrs[TASK].get("id", "")))))
    about = (
        "The settings below, the same data and the same training version give the same candidates on the same machine, "
        "if one worker trains. Of files, only the names are written here."
    )
    return Section(
        "reproduce",
        "How to reproduce",
        (about, *(_clipped(_nameless(line, run.config)) for line in report.settings_lines(run.study))),
        sheets=(("What decided the numbers beside the settings", Sheet(("origin", "value"), tuple(rows))),),
        commands=tuple(commands),
        text=_clipped(to_toml(without_folders(run.config)), LONGEST_LISTING),
    )


def _first(candidates: Candidates) -> int | None:
    """Return the number of a candidate for an example: the first of the front."""
    rows = [*candidates.best, *candidates.rows]
    return rows[0].number if rows else None


def without_folders(config: SearchConfig) -> SearchConfig:
    """Return settings in which files of one machine have their names alone: a page is passed on."""
    return config.model_copy(update={name: _bare(value) for name, value in config})


def _bare(value: Any) -> Any:
    if isinstance(value, str | Path):
        return type(value)(Path(value).name) if Path(value).is_absolute() else value
    if isinstance(value, list | tuple):
        return type(value)(map(_bare, value))
    if isinstance(value, Mapping):
        return {_bare(name): _bare(part) for name, part in value.items()}
    return value


def _nameless(line: str, config: SearchConfig) -> str:
    """Return a sentence in which the files of the settings have their names alone."""
    for _, value in config:
        if isinstance(value, str | Path) and Path(value).is_absolute():
            line = line.replace(str(value), Path(value).name)
    return line


def _spread(rows: list[Candidate], most: int) -> list[Candidate]:
    """Return at most so many rows, spread evenly."""
    step = max(1, -(-len(rows) // most))
    return rows[::step]


def _clipped(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_data(candidates: Candidates, shown: Iterable[Mapping[str, Any]], *, can_pick: bool) -> dict[str, Any]:
    """Return the candidates as columns, for the script of the page.

    Args:
        candidates: The candidates.
        shown: For each a drawing (`nas.page.drawing`).
        can_pick: Whether `nas pick` takes one of them; it takes none whose figures a table gave.
    """
    rows = candidates.rows
    numbers = {name: [row.numbers[name] for row in rows] for name in candidates.metrics}
    drawings: dict[str, int] = {}
    networks: list[Mapping[str, Any]] = []
    places: list[int] = []
    for row, drawing in zip(rows, shown, strict=True):
        key = row.architecture.key
        if key not in drawings:
            drawings[key] = len(networks)
            networks.append(drawing)
        places.append(drawings[key])
    return {
        "study": candidates.study,
        "can_pick": can_pick,
        "objectives": list(candidates.objectives),
        "metrics": list(candidates.metrics),
        "number": [row.number for row in rows],
        "value": {name: [_short(one.value) for one in column] for name, column in numbers.items()},
        "low": _ends(numbers, "low"),
        "high": _ends(numbers, "high"),
        "far": {
            name: [int(one.extrapolated) for one in column]
            for name, column in numbers.items()
            if any(one.extrapolated for one in column)
        },
        "best": [int(row.is_best) for row in rows],
        "trainings": [row.trainings for row in rows],
        "over": [_clipped("; ".join(row.over)) for row in rows],
        "bits": [_clipped(", ".join([row.bits, *row.compressions])) for row in rows],
        "defence": [_clipped(row.whole_defence) for row in rows],
        "network": places,
        "networks": networks,
    }


def _ends(numbers: Mapping[str, list[Any]], end: str) -> dict[str, list[float]]:
    """Return the ends of those metrics that have any."""
    return {
        name: [_short(getattr(one, end)) for one in column]
        for name, column in numbers.items()
        if any(one.low < one.high for one in column)
    }


def _short(number: float) -> float:
    """Return a number with seven digits: the page shows four."""
    short = float(f"{number:.7g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
