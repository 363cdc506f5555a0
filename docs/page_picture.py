"""Draw the picture of the page of a run, `docs/page.png`, in a headless Chromium.

python docs/page_picture.py runs/NAME [OUTPUT]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nas.page import build  # noqa: E402 - the tests' driver of a browser is found by the path above
from nas.runs.run import open_run  # noqa: E402
from tests import browser  # noqa: E402

WIDTH, HEIGHT = 1000, 1000


def main(run: Path, output: Path = ROOT / "docs" / "page.png") -> None:
    """Open the page of a run, point at a candidate of the front, and take the picture."""
    with tempfile.TemporaryDirectory() as folder, browser.opened(Path(folder) / "browser") as chromium:
        chromium.size(WIDTH, HEIGHT)
        chromium.open(build.write(open_run(run.name, run.parent), Path(folder) / "report.html"))
        x, y = chromium.do(
            "(() => { document.getElementById('front').scrollIntoView();"
            "const points = [...document.querySelectorAll('#projections .trace:last-child .point')];"
            "const box = points[Math.floor(points.length / 2)].getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        chromium.mouse("mouseMoved", x - 4, y)
        chromium.mouse("mouseMoved", x, y)
        chromium.wait("!document.getElementById('card').hidden")
        chromium.picture(output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
