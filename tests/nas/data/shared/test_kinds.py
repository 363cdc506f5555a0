"""What a column is, by its cells."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from nas.data.shared.kinds import MOST_LEVELS
from nas.data.shared.kinds import Findings
from nas.data.shared.kinds import column_of
from nas.data.shared.kinds import sentences
from nas.preprocessing.columns import MISSING_LEVEL
from nas.preprocessing.columns import OTHER_LEVEL
from nas.preprocessing.columns import Column


def kind(cells, name="x"):
    findings = Findings()
    return column_of(name, pd.Series(cells), lambda row: f"row {row + 1} of x.csv", findings), findings


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ([1, 2, 3], Column("x")),
        ([1.5, None, 3], Column("x", indicator=True)),
        (["1", " 2.5", "1e3"], Column("x")),
        (["1", "?", "3", "NA"], Column("x", indicator=True)),
        ([Decimal("1.5"), Decimal(2)], Column("x")),
        ([True, False], Column("x", "boolean")),
        (["yes", "no", "No"], Column("x", "boolean")),
        (["t", "f", ""], Column("x", "boolean", indicator=True)),
        (["red", "blue", " red"], Column("x", "category", ("blue", "red"))),
        (["red", "blue", None, "red"], Column("x", "category", ("blue", "red", MISSING_LEVEL))),
        (["yes", "no", "maybe"] * 2, Column("x", "category", ("maybe", "no", "yes"))),
        (["2024-01-31", "2024-02-28"], Column("x", "date", date_format="year-month-day", origin=0.0)),
        (["31.01.2024", "01.02.2025"], Column("x", "date", date_format="day.month.year")),
        (["01/31/2024", "01/02/2025"], Column("x", "date", date_format="month/day/year")),
        (["01/02/2024 10:30", "03/04/2025 08:00"], Column("x", "date", date_format="day/month/year")),
        (pd.to_datetime(["2024-01-31", None, "2025-01-01"]), Column("x", "date", (), "year-month-day", indicator=True)),
        ([1.7e9 + 0.25, 1.7e9 + 0.75], Column("x", origin=1.7e9 + 0.5)),
    ],
)
def test_a_column_is_what_its_cells_are(cells, column):
    assert kind(cells)[0] == column


@pytest.mark.parametrize("cells", [[3, 3, 3], ["a", "a "], [None, None], ["?", ""], [np.nan, np.nan]])
def test_a_column_of_one_value_is_left_out_and_said(cells):
    column, findings = kind(cells)
    assert column is None
    assert "hold one value: 'x'" in " ".join(sentences(findings, 3, ()))


def test_a_number_that_is_there_or_not_is_kept():
    assert kind([3, None, 3])[0] == Column("x", indicator=True)


def test_names_and_free_text_are_left_out_and_said():
    column, findings = kind([f"Mr. {number}" for number in range(40)] + [None])
    assert column is None
    assert sentences(findings, 41, ()) == ["left out as names or free text, of which most occur once: 'x'"]


@pytest.mark.parametrize("form", ["{}%", "${},000", "{} kg", "{}.5 €"])
def test_numbers_with_units_are_left_out_with_the_remedy(form):
    column, findings = kind([form.format(number) for number in range(40)])
    assert column is None
    (said,) = sentences(findings, 40, ())
    assert said.startswith(f"left out as numbers with units: 'x', such as '{form.format(0)}'; write them bare")


def test_the_rarest_of_many_levels_share_one():
    cells = [f"town {number % 150}" for number in range(600)] + ["town 149", "town 148"]
    column, findings = kind(cells)
    assert len(column.levels) == MOST_LEVELS + 1
    assert column.levels[-1] == OTHER_LEVEL
    assert {"town 149", "town 148"} <= set(column.levels)
    assert "the 50 rarest texts of column 'x' share the level 'other'" in sentences(findings, 602, ())


def test_a_level_that_is_called_other_is_the_shared_one():
    cells = [*(f"town {number % 150}" for number in range(600)), *["other"] * 9]
    assert kind(cells)[0].levels.count(OTHER_LEVEL) == 1


@pytest.mark.parametrize("cells", [["1", "2", "x", "4", "5"], [*map(str, range(95)), *"abcdefg"], [1, 2, "x", 4]])
def test_a_text_among_numbers_is_refused_with_its_row_and_the_remedy(cells):
    strange = next(cell for cell in cells if isinstance(cell, str) and cell.isalpha())
    row = cells.index(strange) + 1
    with pytest.raises(
        ValueError, match=rf"column 'my x' in row {row} of x.csv; got '{strange}' .*--drop-column 'my x'"
    ):
        kind(cells, "my x")


def test_many_texts_among_numbers_are_names():
    # Tickets of the Titanic: three of four are numbers.
    cells = [f"A/5 {number}" if number % 4 == 0 else str(number) for number in range(100)]
    assert kind(cells)[1].free_text == ["x"]


@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, np.zeros(3)])
def test_lists_in_cells_are_refused(cell):
    with pytest.raises(ValueError, match=r"a text or a number in column 'x' in row 2 .*--drop-column x"):
        kind([None, cell, None])


def test_what_is_left_out_for_another_reason_is_not_spoken_of():
    _, findings = kind(["2024-01-31", "2024-02-28", None])
    assert len(sentences(findings, 3, ())) == 2
    assert sentences(findings, 3, ("x",)) == []


def test_many_columns_with_missing_values_are_one_sentence():
    findings = Findings(missing={f"c{number}": number + 1 for number in range(9)})
    (said,) = sentences(findings, 50, ())
    assert said.startswith("missing values of 50 records: 'c0' 1, 'c1' 2, 'c2' 3, 'c3' 4, 'c4' 5 and 4 more columns;")
