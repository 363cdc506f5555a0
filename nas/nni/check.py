"""Tell whether NNI can run here, without importing it: with the wrong filelock the import is fine and the run hangs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

INSTALL = "pip install 'gecko-nas[nni]'"
# From this release on, NNI 3.0's own lock (a subclass of filelock's) waits for itself.
FILELOCK_TOO_NEW = (3, 12)
SERVICE_WARNING = (
    "NNI's manager opens a web page and a control interface on all network interfaces, without a password: whoever "
    "reaches this machine can watch, change and stop the search while it runs. Use it behind a firewall."
)


def check(what: str = "this engine") -> None:
    """Refuse what would fail or hang with the NNI that is here.

    Args:
        what: What needs NNI, for the message.

    Raises:
        ValueError: If NNI is not installed, or would wait for its own lock for ever.
    """
    if _version("nni") is None:
        raise ValueError(f"expected NNI for {what}; it is not installed: {INSTALL}")
    filelock = _version("filelock")
    if filelock is not None and tuple(int(part) for part in filelock.split(".")[:2]) >= FILELOCK_TOO_NEW:
        raise ValueError(f"expected filelock < 3.12, with a later one NNI never starts; got {filelock}: {INSTALL}")


def check_settings(path: Path) -> None:
    """Refuse settings of NNI's that NNI would refuse, before anything is trained for it.

    NNI is asked in a process of its own, because it stays in the one that imports it.

    Raises:
        ValueError: With what NNI says.
    """
    command = [sys.executable, "-m", "nas.nni.manager", "--check", str(path)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    if asked.returncode:
        said = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        raise ValueError(f"expected settings of NNI's in {path}; {said}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
