"""Cells of a table, as any file gives them: texts, numbers, truths and dates.

Pandas is imported where cells are read: settings and reports name columns without reading any.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

NO_VALUE = frozenset({
    "", "?", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NaT", "NULL", "Null",
    "null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
})  # fmt: skip
"""Texts that stand for a missing value: those of pandas, and the question mark of the UCI repository."""
TRUTHS = {"false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0, "f": 0.0, "t": 1.0, "n": 0.0, "y": 1.0, "0": 0.0, "1": 1.0}
"""Numbers of the texts of a boolean, in small letters."""
DATE_FORMATS = {
    "year-month-day": ("ISO8601",),
    "day.month.year": ("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    "day/month/year": ("%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
    "month/day/year": ("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
}
"""How a date may be written, and the formats of pandas for it, without and with the time of day."""


def texts(cells: Any) -> tuple[NDArray[np.intp], list[str | None]]:
    """Return cells as texts without spaces around: `(records,)` indices into the texts that occur, and those.

    None is the text of a missing cell. A whole number is written without a point, whatever its type.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    codes, values = pd.factorize(pd.Series(cells), use_na_sentinel=False)
    found: dict[str | None, int] = {}
    place = np.array([found.setdefault(as_text(value), len(found)) for value in values], dtype=np.intp)
    return (place[codes] if len(values) else codes), list(found)


def numbers(cells: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return cells as numbers, NaN where a cell is missing, and which cells are no numbers: both `(records,)`."""
    import pandas as pd  # noqa: PLC0415 - see above

    series = pd.Series(cells)
    if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_complex_dtype(series.dtype):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return values, np.zeros(len(values), dtype=bool)
    codes, names = texts(series)
    parsed = [math.nan if name is None else as_number(name) for name in names]
    known = np.array([math.nan if number is None else number for number in parsed])
    return known[codes], np.array([number is None for number in parsed], dtype=bool)[codes]


def dates(cells: Any, date_format: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return cells as days since 1970, NaN where a cell is missing, and which are no dates so written."""
    import pandas as pd  # noqa: PLC0415 - see above

    series = pd.Series(cells)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return _days(pd.to_datetime(series, utc=True)), np.zeros(len(series), dtype=bool)
    codes, names = texts(series)
    days = np.full(len(names), np.nan)
    for one in DATE_FORMATS[date_format]:
        parsed = _days(pd.Series(pd.to_datetime(pd.Series(names, dtype=object), format=one, errors="coerce", utc=True)))
        days = np.where(np.isnan(days), parsed, days)
    strange = np.isnan(days) & np.array([name is not None for name in names], dtype=bool)
    return days[codes], strange[codes]


def truths(cells: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return cells as 0 or 1, NaN where a cell is missing, and which are neither: both `(records,)`."""
    codes, names = texts(cells)
    parsed = np.array([math.nan if name is None else TRUTHS.get(name.lower(), math.inf) for name in names])
    return parsed[codes], np.isinf(parsed)[codes]


def as_text(value: Any) -> str | None:
    """Return one cell as a text without spaces around; None if it is missing."""
    import pandas as pd  # noqa: PLC0415 - see above

    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        if value is None or value is pd.NA or value is pd.NaT or value != value:  # noqa: PLR0124 - only NaN differs
            return None
        whole = isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 1e15
        value = str(int(value)) if whole else str(value)
    value = value.strip()
    return None if value in NO_VALUE else value


def as_number(text: str) -> float | None:
    """Return the number that a text is; None if it is none. Python's own 1_000 is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _days(moments: pd.Series[Any]) -> NDArray[np.float64]:
    import pandas as pd  # noqa: PLC0415 - see above

    # In microseconds: nanoseconds reach from 1677 to 2262 alone.
    since = moments.astype("datetime64[us, UTC]") - pd.Timestamp(0, tz="UTC").as_unit("us")
    return np.asarray((since / pd.Timedelta(days=1)).to_numpy(dtype=np.float64, na_value=np.nan))
