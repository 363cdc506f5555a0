"""What stands beside exported files: what was measured of each, a script that checks them, and a table in the card."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from estimators.estimate import Estimate
from nas.base import files
from nas.base.text import inline
from nas.deploy.judging import STEPS
from nas.deploy.judging import answers_of_file
from nas.preprocessing.preprocessing import Preprocessing

SHIPPED, ARRAYS, SCRIPT, CARD = "shipped.json", "verify.npz", "verify.py", "card.md"
PROBES = 64
"""Random records to ask a file about."""
FAR = 3.0
"""Deviations from the mean within which random numbers lie."""
HEADING = "## As shipped"

Entry: TypeAlias = dict[str, Any]
"""What `nas export` says of a file: its name, its digest, and what was measured."""


def write(folder: Path, key: str, behind: Preprocessing, exported: Sequence[Entry]) -> None:
    """Describe the files of a folder: those just written, and earlier ones of the same network that are still there.

    Records of the data would hand out somebody's, so what the files are asked about is random: pixels, or numbers about
    the mean with the deviation, both of which the files hold anyway.

    Args:
        folder: Theirs.
        key: The network's.
        behind: What it was trained behind.
        exported: One entry for each file just written, with `name` and `sha256`.
    """
    entries = {entry["name"]: entry for entry in [*_earlier(folder, key), *exported]}
    records = probes(behind)
    answers: dict[str, Any] = {name: answers_of_file(onnx.load(folder / name), records) for name in entries}
    kept = [_passed_on(entry, answers[name]) for name, entry in entries.items()]
    files.write_json(folder / SHIPPED, {"key": key, "classes": behind.classes, "files": kept})
    files.write_arrays(folder / ARRAYS, records=records, **answers)
    files.write_text(folder / SCRIPT, _script())
    if (card := folder / CARD).is_file():
        files.write_text(card, with_table(card.read_text(encoding="utf-8"), kept))


def probes(behind: Preprocessing) -> NDArray[Any]:
    """Return random records as an exported network takes them, the same each time: `(PROBES, *shape)`."""
    rng = np.random.default_rng(0)
    shape = (PROBES, *behind.arrangement.input_shape)
    if behind.pixels:
        return behind.as_given(rng.integers(0, 256, shape, np.uint8))
    alone = (1, -1) + (1,) * (len(shape) - 2)
    around = rng.standard_normal(shape).clip(-FAR, FAR)
    return behind.as_given(behind.mean.reshape(alone) + around * behind.deviation.reshape(alone))


def with_table(card: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a card with the table of its files, in place of an earlier one."""
    before, _, after = card.partition(f"{HEADING}\n")
    _, mark, rest = after.partition("\n## ")
    text = f"{before.rstrip()}\n\n{HEADING}\n\n" + "\n".join(_table(entries)) + "\n"
    return text + (mark + rest if mark else "")


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay out what was measured of each file, in Markdown."""
    lines = [
        "| file | SHA-256 | bytes | error | leakage | loss AUC | ms where it was exported |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        measured = [_with_interval(entry, name) for name in ("error", "leakage", "loss_auc")]
        time = "-" if entry["here_ms"] is None else f"{entry['here_ms']:.4g}"
        cells = [entry["name"], f"`{entry['sha256'][:16]}`", f"{entry['bytes']:,}", *measured, time]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Measured on each file through ONNX Runtime, on the records of the search. Intervals are 95 %, for the file at",
        "hand. `python verify.py` in this folder checks that the files are these and answer as they did.",
    ]


def _with_interval(entry: Mapping[str, Any], name: str) -> str:
    if name not in entry:
        return "-"
    return inline(Estimate(entry[name], entry[f"{name}_low"], entry[f"{name}_high"]))


def _earlier(folder: Path, key: str) -> list[Entry]:
    """Return the entries of files that an earlier export of the same network left in a folder, and nobody changed."""
    path = folder / SHIPPED
    if not path.is_file():
        return []
    told = files.read_json(path)
    if not isinstance(told, dict) or told.get("key") != key:
        return []
    entries = [entry for entry in told["files"] if (folder / entry["name"]).is_file()]
    return [entry for entry in entries if files.digest_of(folder / entry["name"]) == entry["sha256"]]


def _passed_on(entry: Entry, logits: NDArray[np.float32]) -> Entry:
    """Return an entry with the step that answers may differ by, and without the place that the file has here."""
    step = float(logits.max() - logits.min()) / STEPS
    return {name: value for name, value in entry.items() if name != "path"} | {"logit_step": step}


def _script() -> str:
    return resources.files("nas").joinpath("templates", SCRIPT).read_text(encoding="utf-8")
