"""Run one NNI experiment: `python -m nas.nni.manager FOLDER`, until the process that started it ends it or ends.

`python -m nas.nni.manager --check FILE` only tells what NNI thinks of a user's settings.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from nni.experiment import CustomAlgorithmConfig
from nni.experiment import Experiment
from nni.experiment import ExperimentConfig
from nni.experiment.config.utils import is_missing
from yaml import YAMLError

from nas.base import files
from nas.nni import job

FIRST_PORT = 8080
# NNI has nothing running and the tuner proposes nothing: longer than any screening takes.
SECONDS_WITHOUT_WORK = 300
SECONDS_WITHOUT_ANSWER = 60
SECONDS_TO_STOP = 45
SECONDS_BETWEEN_LOOKS = 1.0


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]))
    else:
        run(Path(sys.argv[1]))


def check(path: Path) -> None:
    """End this process with one line if NNI does not take a user's settings."""
    request = {"nni_config": str(path), "name": "x", "search_space": {}, "trial_command": "python", "concurrency": 1}
    try:
        with TemporaryDirectory() as folder:
            (Path(folder) / job.CODE).mkdir()
            configure(request, Path(folder))
    except OSError as error:
        sys.exit(f"cannot read them: {error.strerror}")
    except (ValueError, TypeError, AttributeError, KeyError, AssertionError, RecursionError, YAMLError) as error:
        sys.exit(f"NNI does not take them: {' '.join(str(error).split()) or type(error).__name__}")


def run(folder: Path) -> None:
    """Start the experiment, wait for its end or for that of the process that asked for it, and leave nothing behind."""
    experiment = Experiment(configure(json.loads((folder / job.REQUEST).read_text()), folder))
    orphaned = threading.Event()
    threading.Thread(target=_watch_pipe, args=(orphaned,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: orphaned.set())
    port = free_port(FIRST_PORT)
    try:
        experiment.start(port)
        files.write_text(folder / job.PAGE, f"http://localhost:{port}\n")
        complaint = wait(experiment, folder / job.ENDED, orphaned)
        if complaint:
            files.write_text(folder / job.ENDED, complaint)
    finally:
        (folder / job.PAGE).unlink(missing_ok=True)
        stop(experiment)


def configure(request: Mapping[str, Any], folder: Path) -> ExperimentConfig:
    """Put together NNI's settings: the user's own file where there is one, and what the search decides.

    Args:
        request: What `nas.nni.service` wrote.
        folder: Where NNI keeps its files.

    Returns:
        The settings as NNI takes them, with absolute paths.

    Raises:
        ValueError: If NNI does not take them; NNI raises other errors too.
    """
    path = request["nni_config"]
    config = ExperimentConfig("local") if path is None else ExperimentConfig.load(path)
    if is_missing(config.training_service):
        raise ValueError("there is no trainingService among them")
    config.experiment_name = request["name"]
    config.experiment_working_directory = str(folder)
    config.search_space = request["search_space"]
    config.trial_code_directory = str(folder / job.CODE)
    config.tuner = CustomAlgorithmConfig(
        class_name="nas.nni.tuner.StudyTuner",
        code_directory=str(folder / job.CODE),
        class_args={"folder": str(folder), "optimize_mode": "minimize"},
    )
    if config.trial_command is None:
        config.trial_command = request["trial_command"]
    if is_missing(config.trial_concurrency):
        config.trial_concurrency = request["concurrency"]
    with _at_home():
        return config.canonical_copy()


@contextmanager
def _at_home() -> Iterator[None]:
    """Let ~ mean the user's home, where the keys to other machines are, and not the one lent to NNI."""
    lent = os.environ["HOME"]
    os.environ["HOME"] = os.environ.get(job.HOME, lent)
    try:
        yield
    finally:
        os.environ["HOME"] = lent


def wait(experiment: Experiment, ended: Path, orphaned: threading.Event) -> str:
    """Wait until the tuner says that nothing is left, or something is wrong; returns what.

    NNI's own DONE does not come when it is the tuner that has no more.
    """
    answered = worked = time.monotonic()
    while not orphaned.wait(SECONDS_BETWEEN_LOOKS):
        if ended.exists():
            return ""
        now = time.monotonic()
        try:
            status = experiment.get_status()
            jobs = {item["trialJobStatus"] for item in experiment.get_job_statistics()}
        except OSError:
            if now - answered > SECONDS_WITHOUT_ANSWER:
                return "its manager does not answer"
            continue
        answered = now
        if status in ("ERROR", "STOPPED"):
            return f"its experiment ended with {status}; see the logs of {experiment.id}"
        if jobs & {"WAITING", "RUNNING", "UNKNOWN"}:
            worked = now
        if now - worked > SECONDS_WITHOUT_WORK:
            return f"nothing ran for {SECONDS_WITHOUT_WORK} s"
    return "it was told to"


def stop(experiment: Experiment) -> None:
    """End the experiment in NNI's way, and whatever does not end in time the hard way."""
    children = psutil.Process().children(recursive=True)
    last_resort = threading.Timer(SECONDS_TO_STOP, _kill, args=(children,))
    last_resort.daemon = True
    last_resort.start()
    experiment.stop()
    last_resort.cancel()
    _kill(children)


def free_port(first: int) -> int:
    """Find a port that is free with the next one, which NNI uses for trials on other machines."""
    return next(port for port in range(first, 2**16 - 1) if _is_free(port) and _is_free(port + 1))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _watch_pipe(orphaned: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    orphaned.set()


if __name__ == "__main__":
    main()
