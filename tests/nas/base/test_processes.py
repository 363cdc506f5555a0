"""Sharing work out to processes: all of it, errors told, and nobody left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import torch

from nas.base import processes
from nas.base.processes import share_out

# A busy machine takes minutes for what takes seconds; whatever should be ended sleeps longer than anybody waits.
PATIENCE = 240
FOR_EVER = 3600
pytestmark = pytest.mark.timeout(3 * PATIENCE)


def write_square(folder, number):
    beside = folder.parent / f"beside-{os.getpid()}"
    beside.write_text(f"{number**2} {torch.get_num_threads()} {os.getpid()}")
    beside.replace(folder / str(number))  # whole or not at all, for who watches the folder


def fail_at_three(folder, number):
    if number == 3:
        raise ValueError(f"expected no {number}")
    write_square(folder, number)
    if number > 3:
        time.sleep(FOR_EVER)


def sleep_after_the_first(folder, number):
    write_square(folder, number)
    if number:
        time.sleep(FOR_EVER)


def done(folder):
    return {int(path.name): path.read_text().split() for path in folder.iterdir()}


def gone(pid):
    """Whether a process has ended, waiting for it if need be."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_every_item_is_worked_through_once_on_one_thread_in_other_processes(tmp_path):
    items = list(range(9))
    found = list(share_out(write_square, tmp_path, items, workers=2))
    assert sorted(found) == items
    assert {number: int(square) for number, (square, _, _) in done(tmp_path).items()} == {n: n**2 for n in items}
    assert {threads for _, threads, _ in done(tmp_path).values()} == {"1"}
    pids = {int(pid) for _, _, pid in done(tmp_path).values()}
    assert os.getpid() not in pids
    assert all(gone(pid) for pid in pids)


def test_what_work_raises_is_raised_and_the_rest_is_dropped(tmp_path):
    found = []
    with pytest.raises(ValueError, match=r"^expected no 3$"):
        found.extend(share_out(fail_at_three, tmp_path, range(200), workers=1))
    assert 3 not in done(tmp_path)
    # The process goes on until this one hears of the error: with an item that it does not finish by itself.
    assert max(done(tmp_path)) <= 4
    assert multiprocessing.active_children() == []


def test_who_stops_listening_ends_the_processes_at_once(tmp_path):
    work = share_out(sleep_after_the_first, tmp_path, range(3), workers=1)
    assert next(work) == 0
    work.close()  # comes back, though the second item takes for ever
    assert multiprocessing.active_children() == []
    assert all(gone(int(pid)) for _, _, pid in done(tmp_path).values())


@pytest.mark.skipif(sys.platform != "linux", reason="sends POSIX signals and looks for processes")
def test_no_process_outlives_a_parent_that_was_killed(tmp_path):
    folder = tmp_path / "done"
    folder.mkdir()
    script = """
        import sys
        from pathlib import Path
        from nas.base.processes import share_out
        from tests.nas.base.test_processes import sleep_after_the_first
        if __name__ == "__main__":
            list(share_out(sleep_after_the_first, Path(sys.argv[1]), [1, 2], workers=2))
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(script))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(folder)], env=env)
    try:
        deadline = time.monotonic() + PATIENCE
        while len(done(folder)) < 2 and time.monotonic() < deadline and parent.poll() is None:
            time.sleep(0.05)
        children = psutil.Process(parent.pid).children(recursive=True)
        pids = [int(pid) for _, _, pid in done(folder).values()]
        assert len(pids) == 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE)
    left = [child for child in children if not gone(child.pid)]
    for child in left:
        child.kill()
    assert set(pids) <= {child.pid for child in children}
    assert left == []


def test_there_is_a_core_at_least():
    assert 1 <= processes.cores() <= (os.cpu_count() or 1)
