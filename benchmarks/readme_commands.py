"""Run the commands of the README, and keep what they print.

    python benchmarks/readme_commands.py [--folder FOLDER]

The README shows some lines of what each command prints. A test looks for them in the result of this program. `--folder`
keeps the run, from which `docs/front_picture.py` draws the picture.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import ROOT
from report import write_results

README = ROOT / "README.md"
HEADING = "## Six commands"
COLUMNS = "200"


def main() -> None:
    """Run every command in one folder, in order, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to run; else a temporary folder")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        printed, rows = {}, []
        for command in examples(README.read_text(encoding="utf-8")):
            since = time.perf_counter()
            printed[command] = run(command, place)
            rows.append({"command": command, "seconds": round(time.perf_counter() - since, 1)})
            print(f"{command}: {rows[-1]['seconds']} s", flush=True)
    write_results("readme_commands", rows, printed=printed)


def examples(text: str) -> dict[str, list[str]]:
    """Return the commands of the README, and the lines that it shows of each."""
    section = text.split(HEADING)[1].split("\n## ", maxsplit=1)[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line.startswith("    nas "):
            command = line.split("  #")[0].strip()
            found[command] = []
        elif line.startswith("    "):
            found[command].append(line.strip())
    return found


def run(command: str, folder: Path) -> list[str]:
    """Return what a command printed, in lines with single spaces.

    Raises:
        subprocess.CalledProcessError: If it failed.
    """
    program = Path(sys.executable).with_name("nas")
    words = [str(program), *shlex.split(command)[1:]]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "COLUMNS": COLUMNS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]


if __name__ == "__main__":
    main()
