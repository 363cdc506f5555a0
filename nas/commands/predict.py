"""nas predict: the classes that a trained network names for the records of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from rich.table import Table

    from nas.deploy.predicting import Answer
    from nas.deploy.predicting import Predictions
    from nas.preprocessing.preprocessing import Preprocessing
    from nas.records import Source

SHOWN = 20
OWN = "these are the run's own records, members among them: expect a higher error on new ones"


def predict(
    network: Annotated[Path, typer.Argument(help="Folder that nas pick wrote, or an ONNX file that nas export wrote.")],
    *,
    data_path: Annotated[
        Path | None, typer.Option(help="File or folder with the records (default for a pick: the run's own).")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="What reads it (see nas list datasets; default: the run's, or by the end of its name)."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the class, if there is one (default: the run's, or label).")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="CSV file to write, a row for each record.")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Name the class of each record of a raw file, and the error if the file holds the classes."""
    from dataclasses import replace

    from nas.deploy import predicting
    from nas.runs.tables import write_table

    trust(plugin, dataset)
    behind, answer, source = _network(network, data_path, dataset, label_column)
    records = predicting.read_records(source, behind)
    if label_column is not None and records.labels is None and not any(label_column in note for note in records.notes):
        raise ValueError(f"expected a column {label_column!r} in {source.path}, as --label-column says; there is none")
    if data_path is None:
        records = replace(records, notes=(*records.notes, OWN))
    found = predicting.predict(records, behind, answer)
    if output is not None:
        write_table(output, found.rows())
    if as_json:
        typer.echo(json.dumps(_told(found, output)))
        return
    _print(found, output)


def _network(
    network: Path, data_path: Path | None, dataset: str | None, label_column: str | None
) -> tuple[Preprocessing, Answer, Source]:
    """Return what the network was trained behind, what asks it, and where the records are."""
    from dataclasses import replace

    from nas.deploy.predicting import kind_of
    from nas.records import Source

    if network.is_dir():
        from nas.runs.networks import open_pick

        behind, answer, usual = open_pick(network)
        if usual is not None:
            usual = replace(usual, name=dataset or usual.name, label_column=label_column or usual.label_column)
            return behind, answer, usual if data_path is None else replace(usual, path=data_path, test_path=None)
    else:
        behind, answer = _file(network)
    return behind, answer, Source(dataset or kind_of(data_path), data_path, label_column or "label")


def _file(path: Path) -> tuple[Preprocessing, Answer]:
    """Open an ONNX file that holds what its network was trained behind."""
    from nas.audit.onnx_oracle import OnnxNetwork
    from nas.base.reading import existing
    from nas.preprocessing.stored import from_json

    opened = OnnxNetwork(existing(path, "an ONNX file or a folder that nas pick wrote"))
    text = opened.metadata.get("preprocessing")
    if text is None:
        raise ValueError(
            f"expected an ONNX file that nas export wrote of a pick, with its preprocessing; {path} holds none"
        )
    return from_json(text, f"the metadata of {path}"), opened.query


def _told(found: Predictions, output: Path | None) -> dict[str, Any]:
    """Return what is printed as JSON."""
    from dataclasses import asdict

    told: dict[str, Any] = {"records": len(found.chosen), "notes": list(found.records.notes)}
    told |= {"predictions": found.rows()} if output is None else {"output": str(output)}
    if found.error is not None:
        by_class = [
            {"class": name, "records": count, "error": asdict(error)}
            for name, (count, error) in found.errors_by_class.items()
        ]
        told |= {"error": asdict(found.error), "by_class": by_class}
    return told


def _print(found: Predictions, output: Path | None) -> None:
    """Print notes, some predictions, and the errors."""
    from nas.base.text import inline

    for note in found.records.notes:
        say(f"note: {note}")
    if output is not None:
        say(f"{len(found.chosen)} records, written to {output}")
    else:
        show_table(_rows(found))
        if len(found.chosen) > SHOWN:
            say(f"{len(found.chosen) - SHOWN} more records; --output FILE.csv writes all")
    if found.error is not None:
        say(f"error {inline(found.error)} on {len(found.chosen)} records")
        show_table(_errors(found))


def _rows(found: Predictions) -> Table:
    from nas.base.text import plain_table

    rows = found.rows()[:SHOWN]
    table = plain_table("record", "class", "probability", *(["label"] if "label" in rows[0] else []))
    table.columns[2].justify = "right"
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def _errors(found: Predictions) -> Table:
    from nas.base.text import plain_table
    from nas.base.text import stacked

    table = plain_table("class", "records", "error")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (count, error) in found.errors_by_class.items():
        table.add_row(name, f"{count:,}", stacked(error))
    return table
