"""Any Parquet file: a row is a record, one column is the class; needs the extra `parquet`."""

from __future__ import annotations

import io
from pathlib import Path

from nas.base import sizes
from nas.base.reading import BROKEN
from nas.base.reading import existing
from nas.base.reading import read_bytes
from nas.base.reading import unreadable
from nas.data.shared.new_rows import new_rows
from nas.data.shared.table import Table
from nas.data.shared.table import unique_names
from nas.data.shared.tables import load_tables
from nas.preprocessing.preprocessing import Preprocessing
from nas.records import NewRecords
from nas.records import Records
from nas.records import Source

NEEDS_PATH = True
EXPECTED = "a Parquet file"
MOST_CELL = 64
"""Bytes that a cell may take in memory, texts of usual length included."""


def load(source: Source) -> Records:
    """Load a Parquet file: every column but the label and the group, as `docs/data.md` says.

    Raises:
        ValueError: If pyarrow is not installed, the file is missing or no Parquet, has no such column, or a value is
            not what its column holds.
    """
    return load_tables(source, _read)


def new_records(source: Source, behind: Preprocessing) -> NewRecords:
    """Read records for a network that was trained on a table; they need no label.

    Raises:
        ValueError: If pyarrow is not installed, the file is missing or no Parquet, lacks a column, or a cell is not
            what its column holds.
    """
    return new_rows(source, behind, _read(source.path))


def _read(path: Path | None) -> Table:
    path = existing(path, EXPECTED)
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ValueError("Parquet files need pyarrow: pip install 'gecko-nas[parquet]'") from None
    data = read_bytes(path, EXPECTED)
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        cells = file.metadata.num_rows * file.metadata.num_columns
        sizes.check_memory(max(cells * MOST_CELL if cells * 8 > sizes.ALWAYS else 0, cells * 8), str(path))
        table = file.read()
        # The names that pandas left in the file would make an index of a column.
        names, twice = unique_names(table.column_names)
        frame = table.rename_columns(names).to_pandas(ignore_metadata=True)
    except (*BROKEN, pa.ArrowException) as error:
        raise unreadable(path, EXPECTED, error) from None
    return Table(path, frame, lambda row: f"row {row + 1} of {path}", twice)
