"""Any CSV file: a row is a record, one column is the class; if need be another one is the group."""

from __future__ import annotations

from nas.data.shared.new_rows import new_rows
from nas.data.shared.tables import load_tables
from nas.data.shared.text_table import read_text_table
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True


def load(source: Source) -> Records:
    """Load a CSV: every column but the label and the group, as `docs/data.md` says.

    The label may be text; the classes are those that occur, sorted, whole numbers by value.

    Raises:
        ValueError: If the file is missing or no CSV, has no such column, or a value is not what its column holds; the
            message names the column, the row (the first record is row 1) and the value.
    """
    names = [source.label_column, *([source.group_column] if source.group_column else [])]
    return load_tables(source, lambda path: read_text_table(path, wanted=names, text=names))


def new_records(source: Source, behind: Preprocessing) -> NewRecords:
    """Read records for a network that was trained on a table; they need no label.

    Raises:
        ValueError: If the file is missing or no CSV, lacks a column, or a cell is not what its column holds.
    """
    names = [*(column.name for column in behind.columns), source.label_column]
    texts = [column.name for column in behind.columns if column.kind == "category"]
    return new_rows(source, behind, read_text_table(source.path, names, [*texts, source.label_column]))
