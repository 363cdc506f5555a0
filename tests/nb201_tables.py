"""The measured tables of NAS-Bench-201 for the tests that need them."""

import csv
import gzip
from pathlib import Path

import pytest

TABLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "nb201"


def rows(name):
    """Return the rows of `name`.csv.gz as dictionaries of text; skip where the tables are absent."""
    path = TABLES / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"no {name}.csv.gz in ../shared/data/nb201")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))
