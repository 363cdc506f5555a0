"""Name the options that leave columns out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def drop(names: Sequence[str]) -> str:
    """Name the options that leave columns out.

    >>> drop(["a", "b c"])
    "--drop-column a --drop-column 'b c'"
    """
    more = " and so on" if len(names) > 5 else ""
    return " ".join(f"--drop-column {shlex.quote(name)}" for name in names[:5]) + more
