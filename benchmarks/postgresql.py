"""A PostgreSQL server of a benchmark's own, in a temporary folder, and a proxy on loopback that can be cut."""

from __future__ import annotations

import getpass
import importlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

HOST = "127.0.0.1"
MOST_CONNECTIONS = 300
SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        root: The folder of its data, its log and its socket.
        port: On loopback.
        user: The user of this machine that it runs as.
        durable: Whether it waits for the disk at each commit, as it does unless told otherwise.
    """

    root: Path
    port: int
    user: str
    durable: bool

    def url(self, database: str, port: int | None = None) -> str:
        """Return the URL of a database, by way of another port if there is one."""
        return f"postgresql+psycopg2://nas@{HOST}:{port or self.port}/{database}?connect_timeout=10"

    def ask(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run one statement on a connection of its own; returns its rows."""
        driver = importlib.import_module("psycopg2")  # an optional dependency
        connection = driver.connect(host=HOST, port=self.port, user="nas", dbname=database, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return [] if cursor.description is None else list(cursor.fetchall())
        finally:
            connection.close()

    def control(self, *words: str) -> int:
        """Call `pg_ctl` and wait for what it does; returns its exit code."""
        options = f"-p {self.port} -c listen_addresses={HOST} -c unix_socket_directories={self.root}"
        options += f" -c max_connections={MOST_CONNECTIONS}" + ("" if self.durable else " -c fsync=off")
        command = [find("pg_ctl"), "-D", str(self.root / "data"), "-w", "-l", str(self.root / "log"), "-o", options]
        return _run([*command, *words], self.root, self.user)


@contextmanager
def server(*, durable: bool) -> Iterator[Server]:
    """Start a server with an empty cluster, and stop and delete it afterwards.

    Raises:
        RuntimeError: If PostgreSQL is not installed or does not start.
    """
    user = _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))
    if os.getuid() == 0:
        shutil.chown(root, user)
    made = [find("initdb"), "-D", str(root / "data"), "-U", "nas", "-A", "trust", "--no-sync", "--locale=C"]
    running = Server(root, free_port(), user, durable)
    try:
        if _run(made, root, user) != 0 or running.control("start") != 0:
            raise RuntimeError("PostgreSQL does not start")
        yield running
    finally:
        running.control("-m", "immediate", "stop")
        shutil.rmtree(root)


def find(name: str) -> str:
    """Return the path of a program of PostgreSQL; Debian keeps the server's out of the path.

    Raises:
        RuntimeError: If it is not installed.
    """
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or next(map(str, places), None)
    if found is None:
        raise RuntimeError(f"{name} is not installed (Debian: apt install postgresql)")
    return found


def is_installed() -> bool:
    """Tell whether there is a server to start and a driver to reach it."""
    with suppress(ImportError, RuntimeError):
        importlib.import_module("psycopg2")
        return bool(find("initdb") and find("pg_ctl") and _unprivileged())
    return False


def need_postgresql() -> None:
    """End the benchmark with a word if PostgreSQL is not there."""
    if not is_installed():
        sys.exit("skipped: no PostgreSQL (Debian: apt install postgresql; pip install 'gecko-nas[postgresql]')")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def proxy(listen: int, forward: int, cut: Event) -> None:
    """Forward connections until this process is ended; while cut, hold what comes back and let nobody notice.

    Args:
        listen: The port on loopback that it listens on.
        forward: The port on loopback that it forwards to.
        cut: Set while the network is cut.
    """
    with socket.create_server((HOST, listen), backlog=MOST_CONNECTIONS) as listener:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_join, args=(near, forward, cut), daemon=True).start()


def _join(near: socket.socket, forward: int, cut: Event) -> None:
    _wait_while(cut)
    with suppress(OSError), near, socket.create_connection((HOST, forward)) as far:
        back = threading.Thread(target=_pump, args=(far, near, cut), daemon=True)
        back.start()
        _pump(near, far, cut)
        back.join()


def _pump(source: socket.socket, sink: socket.socket, cut: Event) -> None:
    with suppress(OSError):
        while sent := source.recv(1 << 16):
            _wait_while(cut)
            sink.sendall(sent)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _wait_while(cut: Event) -> None:
    while cut.is_set():
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _unprivileged() -> str:
    """Name a user that PostgreSQL agrees to run as: it refuses root."""
    if os.getuid() != 0:
        return getpass.getuser()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _run(command: list[str], folder: Path, user: str) -> int:
    # No pipes: the server would keep them open.
    as_user = user if os.getuid() == 0 else None
    quiet = subprocess.DEVNULL
    return subprocess.run(command, check=False, stdout=quiet, stderr=quiet, cwd=folder, user=as_user).returncode
