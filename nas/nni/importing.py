"""Import what needs NNI, and with it NNI, one process at a time.

NNI writes a file of layers into its own package when it is first imported beside a PyTorch that it does not know, and
warns of it. Without a framework of its own it does not ask for PyTorch Lightning, and its PyTorch layers work still.
"""

from __future__ import annotations

import getpass
import importlib
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nas.base import locks

LOCK = Path(tempfile.gettempdir()) / f"gecko-nas-nni-{getpass.getuser()}.lock"


def imported(module: str, lock: Path = LOCK) -> ModuleType:
    """Import a module that imports NNI.

    Args:
        module: Its dotted name.
        lock: A file that keeps other processes waiting; its folder must be there.
    """
    with _alone(lock), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nni = importlib.import_module("nni")
        if "nni.nas" not in sys.modules:  # whoever imported it before has chosen
            nni.set_default_framework("none")
        return importlib.import_module(module)


_here = threading.local()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the lock, unless this thread does: what imports NNI may import something else that does."""
    if getattr(_here, "holds", False):
        yield
        return
    with locks.held(lock):
        _here.holds = True
        try:
            yield
        finally:
            _here.holds = False
