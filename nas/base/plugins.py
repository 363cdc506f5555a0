"""A folder is its own registry: a file added is a plug-in added."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import Any


def available(package: str, attribute: str) -> list[str]:
    """List the plug-ins in a package: its modules that define `attribute`.

    >>> "conv" in available("search_spaces", "make_space")
    True
    """
    root = importlib.import_module(package)
    names = (info.name for info in pkgutil.iter_modules(root.__path__) if not info.ispkg)
    return sorted(name for name in names if hasattr(importlib.import_module(f"{package}.{name}"), attribute))


def load(package: str, name: str, attribute: str) -> Any:
    """Return `attribute` of a plug-in: a file of `package`, or a user's own module by its dotted name.

    Raises:
        ValueError: If there is no such plug-in; the message lists what exists.
    """
    found = find(package, name, attribute)
    if found is None:
        raise ValueError(
            f"no {name!r} in {package}; there are {available(package, attribute)} "
            f"(a module of your own is given by its dotted name and defines {attribute!r})"
        )
    return found


def find(package: str, name: str, attribute: str) -> Any:
    """Return an optional attribute of a plug-in, None where there is none."""
    return getattr(_module(package, name), attribute, None)


def _module(package: str, name: str) -> ModuleType | None:
    dotted = name if "." in name else f"{package}.{name}"
    if not all(part.isidentifier() for part in dotted.split(".")):  # the import system also takes relative names, paths
        return None
    try:
        found = importlib.util.find_spec(dotted)
    except (ModuleNotFoundError, ValueError):
        found = None
    return importlib.import_module(dotted) if found else None
