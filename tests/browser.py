"""A headless Chromium, driven by its own protocol: opens a page, runs scripts in it, moves the mouse."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# WebGL without a graphics card; no request of the browser's own.
FLAGS = (
    "--headless=new", "--no-first-run", "--hide-scrollbars", "--mute-audio", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-quic",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)  # fmt: skip
SECONDS = 300


def found() -> str | None:
    """Path of a Chromium of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


def version() -> str:
    """Name and version of that Chromium."""
    return subprocess.run([str(found()), "--version"], capture_output=True, text=True, check=True).stdout.strip()


class Browser:
    """One page of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.requests: list[str] = []
        self.console: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser, and note what it tells on the way."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=SECONDS))
            if told.get("id") == self._number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return told["result"]
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        method, params = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console.append(f"{params['entry']['source']}: {params['entry']['text']}")

    def size(self, width: int, height: int = 900, *, is_phone: bool = False) -> None:
        """Set the size of the window, in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )

    def dark(self, *, is_dark: bool) -> None:
        """Ask for dark or light."""
        value = "dark" if is_dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def open(self, path: Path) -> None:
        """Open a file and wait until all its figures are drawn."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def seconds(self) -> float:
        """Processor time of the page's thread so far; what draws WebGL is not in it."""
        self.call("Performance.enable", timeDomain="threadTicks")
        metrics = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"])

    def do(self, script: str) -> Any:
        """Run a script and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + SECONDS
        while not self.do(condition):
            if time.monotonic() > end:
                raise AssertionError(f"waited {SECONDS} s for {condition}; console: {self.console}")
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, button: str = "none") -> None:
        """Move the mouse (`mouseMoved`), or press or release a button."""
        held = {"left": 1}.get(button, 0) if kind != "mouseReleased" else 0
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=held,
            clickCount=int(button != "none"),
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of the window to another."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, button="left")
        for part in (0.3, 0.6, 1.0):
            x, y = (first + part * (last - first) for first, last in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left")

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def paper(self, path: Path) -> None:
        """Write the page as a PDF."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """Start a browser that keeps its files in a folder, and end it afterwards."""
    program = found()
    assert program is not None
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process = subprocess.Popen(
        [program, *flags, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_address(folder, process), max_size=None, open_timeout=SECONDS) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(SECONDS)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address of the browser's first page, when it is there."""
    told, end = folder / "DevToolsActivePort", time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        if told.exists() and len(lines := told.read_text().splitlines()) == 2:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(f"the browser did not start; exit code {process.poll()}")
