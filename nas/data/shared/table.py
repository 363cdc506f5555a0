"""A table as a file holds it, before it is decided what its columns mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

LIKELY = (
    "label", "class", "target", "y", "species", "quality", "survived", "income", "outcome", "diagnosis", "num",
    "variety", "category", "labels", "result", "churn", "type", "status",
)  # fmt: skip
"""What columns with the class are often called."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The cells of a file.

    Attributes:
        path: The file.
        frame: A column for each of the file's, named differently; texts as they stand there.
        place: Says where in the file the record of an index, from 0, stands.
        twice: Names that several columns of the file have.
        header: Whether the file names its columns; otherwise they are called by their place, the first is `1`.
        notes: What was decided when it was read.
    """

    path: Path
    frame: pd.DataFrame
    place: Callable[[int], str]
    twice: frozenset[str] = frozenset()
    header: bool = True
    notes: tuple[str, ...] = ()

    def check_column(self, name: str, option: str = "") -> None:
        """Refuse a name that is not that of one column.

        Args:
            name: The name.
            option: The option that would name another, where one can be suggested.

        Raises:
            ValueError: If no column or several have the name; the message lists the columns.
        """
        if name in self.twice:
            raise ValueError(f"expected one column {name!r} in {self.path}; there are several")
        if name in self.frame.columns:
            return
        found = f"there are {[one[:40] for one in self.frame.columns][:20]}"
        if not self.header:
            first = [str(value)[:20] for value in self.frame.iloc[0]][:20] if len(self.frame) else []
            found = f"without a header its columns are '1' to '{self.frame.shape[1]}', and the first record is {first}"
        advice = f"perhaps {option} {self._likely()!r}; " if option and self.frame.shape[1] else ""
        raise ValueError(f"expected one column {name!r} in {self.path}; {advice}{found}")

    def _likely(self) -> str:
        by_name = {name.lower(): name for name in reversed(self.frame.columns)}
        return next((by_name[name] for name in LIKELY if name in by_name), str(self.frame.columns[-1]))


def unique_names(names: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Name columns differently, as pandas does, and return the names that were there twice.

    >>> unique_names(["", "a", "a"])
    (['Unnamed: 0', 'a', 'a.1'], frozenset({'a'}))
    """
    given = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(names)]
    counts, taken, used, found = Counter(given), set(given), Counter[str](), list[str]()
    for name in given:
        other = name if not used[name] else f"{name}.{used[name]}"
        while other != name and other in taken:
            used[name] += 1
            other = f"{name}.{used[name]}"
        used[name] += 1
        taken.add(other)
        found.append(other)
    return found, frozenset(name for name, count in counts.items() if count > 1)
