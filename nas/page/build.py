"""Write the page of a run: one HTML file with its data, its script and plotly.js inside, which loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from nas.base import files
from nas.base.text import printable
from nas.page import content
from nas.page.drawing import drawing_of
from nas.runs import report
from nas.runs.candidates import candidates_of
from nas.runs.run import Run
from nas.search.config import TABLE

PAGE = "report.html"


def write(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run; its owner alone may read it, as it says much of the data.

    Args:
        run: Finished or in progress; from a table or trained.
        path: The file, written completely or not at all; None: `report.html` in the run's folder.

    Returns:
        The file.
    """
    target = path or run.folder / PAGE
    files.write_text(target, html(run), files.OWNER)
    return target


def html(run: Run) -> str:
    """Return the page. The same run gives the same page.

    Nothing of a study is markup there: names come in as escaped text, as JSON in which no tag can end, or as escaped
    labels of figures. The page's policy allows its own two scripts, by their hashes, and no connection.
    """
    candidates = candidates_of(run.study)
    below, front = list(content.sections(run, candidates)), content.front_plots(candidates)
    plots = [plot for plots in (front, *(section.plots for section in below)) for plot in plots]
    own, plotly = _part("page.js"), get_plotlyjs()
    drawings = [drawing_of(row.architecture) for row in candidates.rows]
    is_table = run.config.evaluator == TABLE
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nas"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template("page.html").render(
        run=run.name,
        counts=content.counts_of(run),
        how=report.how(run.study),
        config=content.without_folders(run.config),
        candidates=candidates,
        notices=[f"{line[:1].upper()}{line[1:]}." for line in content.notices(run, candidates)],
        front=front,
        sheet=content.front_sheet(candidates),
        sections=below,
        data=_as_json(content.as_data(candidates, drawings, can_pick=not is_table)),
        figures=_as_json({plot.name: _bare(plot.figure) for plot in plots}),
        style=_part("page.css"),
        script=own,
        plotly=plotly,
        policy=_policy((plotly, own)),
    )


def _policy(scripts: Iterable[str]) -> str:
    """Return a policy that allows these scripts and no other, and no connection.

    Plotly sets styles of elements, saves an image by a `blob:`, and makes functions for WebGL out of text of its own
    (`unsafe-eval`). That lets no text of a page become a script: only the two scripts could evaluate it.
    """
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    rules = {
        "default-src": "'none'",
        "script-src": " ".join([*hashes, "'unsafe-eval'"]),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _part(name: str) -> str:
    return resources.files("nas").joinpath("templates", name).read_text(encoding="utf-8")


def _bare(figure: Any) -> dict[str, Any]:
    """Return a figure without plotly's default look, which is long: the page has its own, light and dark."""
    found: dict[str, Any] = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


def _as_json(value: object) -> str:
    """Return JSON in which nothing can end its element: each `<` is written as an escape."""
    text = json.dumps(value, cls=PlotlyJSONEncoder, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _shown(value: object) -> object:
    """Write what steers a reader's eyes as escapes: users choose names."""
    return printable(value) if type(value) is str else value
