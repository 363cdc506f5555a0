"""What a search on PostgreSQL loses when processes, machines, the server or the network fail: it should be nothing.

Trials sleep instead of train (`asleep.py`); all else is a search as users run it: eight workers, each a machine of its
own, on a PostgreSQL server that this program starts. Each row is one search, and one kind of fault is brought upon it:

- *processes killed*: every so often one gets SIGKILL, and another one starts on the same machine;
- *machines lost*: the same, but the machine never comes back; another one joins;
- *server restarted*: three times, the last time without a shutdown (`pg_ctl -m immediate`);
- *network cut*: a proxy on loopback between the server and all machines forwards nothing for a while;
- *one machine cut off*: the same for one machine, for longer than the time after which it counts as lost;
- *machine stopped*: one gets SIGSTOP for longer than that time, and then SIGCONT.

Columns: *asked* trials, *finished* ones, and *rejected* ones (lost or killed twice). *Lost* are results that no trial
holds: of candidates whose evaluation came to its end, and of trials that were seen to be complete. *Begun again* are
evaluations of a candidate beyond its first, *ended twice* candidates with two that came to their end (a stopped machine
goes on with what another one was given), *told twice* candidates of which two trials hold a result. *Ended* says
whether all workers that were left ended by themselves, without an error.

    python benchmarks/faults.py            # some two hours, most of it asleep; a row that is done is kept
    python benchmarks/faults.py --short    # under a minute: seconds in place of minutes
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from multiprocessing.synchronize import Event
from pathlib import Path

import optuna
import postgresql
from asleep import NAME
from asleep import SETTINGS
from asleep import Crew
from asleep import Task
from asleep import events
from optuna.trial import TrialState
from postgresql import Server
from report import write_results

from nas.base import files
from nas.search.plan import resolve
from nas.search.storage import open_study

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "faults"
SECONDS_BETWEEN_LOOKS = 0.1
SEED = 1


@dataclass(frozen=True)
class Pace:
    """How long everything takes.

    Attributes:
        workers: At a time.
        trials: Asked for.
        seconds: A trial sleeps, at the mean.
        between_signs: Seconds between two signs of life; None: as users have it.
        silence: Seconds after which a silent machine loses its trial; None: as users have it.
        quiet: Seconds before the fault, and between faults of one row.
        faults: How often a row repeats its fault, where it does.
        cut: Seconds of the cut network.
        stopped: Seconds for which one machine is cut off or stopped.
        patience: Seconds after which a search counts as one that does not end.
    """

    workers: int = 8
    trials: int = 320
    seconds: float = 20.0
    between_signs: float | None = None
    silence: float | None = None
    quiet: float = 60.0
    faults: int = 8
    cut: float = 60.0
    stopped: float = 600.0
    patience: float = 3600.0


SHORT = Pace(3, 12, 0.5, 0.5, 4.0, quiet=0.5, faults=2, cut=2.0, stopped=6.0, patience=60.0)


@dataclass(frozen=True)
class Scene:
    """A search that runs, and what a fault may be brought upon.

    Attributes:
        server: The database's server.
        crew: The workers.
        task: What they work on.
        pace: How long everything takes.
        cuts: Set while the network is cut: of machine 0, and of all others.
        killed: Processes that were killed on purpose.
        seen: Trials that were seen to be complete.
    """

    server: Server
    crew: Crew
    task: Task
    aside: Task
    pace: Pace
    cuts: tuple[Event, Event]
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    killed: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)

    def wait(self, seconds: float) -> bool:
        """Wait and look on; tell whether the search is still at work."""
        until = time.monotonic() + seconds
        while self.crew.at_work() and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return bool(self.crew.at_work())

    def look(self) -> None:
        """Note which trials are complete now."""
        rows = self.server.ask(NAME, "SELECT number FROM trials WHERE state = 'COMPLETE'")
        self.seen.update(int(str(number)) for (number,) in rows)

    def kill(self, *, same_machine: bool) -> None:
        """Kill a worker and let another one start."""
        machine, process = self.rng.choice(self.crew.at_work())
        process.kill()
        process.join()
        self.killed.add(id(process))
        self.look()
        self.crew.start(machine if same_machine else f"{machine}+", self.task)

    def wait_for_the_first(self) -> None:
        """Wait until a worker is in the middle of a trial: what comes before is the start of programs."""
        while self.crew.at_work() and not events(self.task.log):
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def wait_for_a_trial(self, machine: str) -> bool:
        """Wait until a machine is in the middle of a trial; tell whether the search is still at work."""
        while self.crew.at_work():
            mine = [event for event in events(self.task.log) if event["machine"] == machine]
            if mine and mine[-1]["event"] == "begin":
                return True
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return False


def nothing(scene: Scene) -> None:
    """Let the search run."""
    scene.wait(scene.pace.quiet)


def processes_killed(scene: Scene) -> None:
    """Kill processes, each replaced on its machine."""
    for _ in range(scene.pace.faults):
        if scene.wait(scene.pace.quiet):
            scene.kill(same_machine=True)


def machines_lost(scene: Scene) -> None:
    """Kill processes whose machines never come back."""
    for _ in range(scene.pace.faults):
        if scene.wait(scene.pace.quiet):
            scene.kill(same_machine=False)


def server_restarted(scene: Scene) -> None:
    """Restart the server, orderly and not."""
    for how in ("fast", "fast", "immediate"):
        if scene.wait(scene.pace.quiet):
            scene.look()
            scene.server.control("-m", how, "restart")


def network_cut(scene: Scene) -> None:
    """Cut off all machines."""
    if scene.wait(scene.pace.quiet):
        _cut(scene, scene.cuts, scene.pace.cut)


def one_cut_off(scene: Scene) -> None:
    """Cut off one machine, for too long."""
    if scene.wait_for_a_trial("0"):
        _cut(scene, scene.cuts[:1], scene.pace.stopped)


def machine_stopped(scene: Scene) -> None:
    """Stop one machine in the middle of a trial, for too long."""
    if not scene.wait_for_a_trial("0"):
        return
    process = next(process for machine, process in scene.crew.members if machine == "0")
    os.kill(process.pid or 0, signal.SIGSTOP)
    time.sleep(scene.pace.stopped)
    scene.look()
    os.kill(process.pid or 0, signal.SIGCONT)


def _cut(scene: Scene, cuts: tuple[Event, ...], seconds: float) -> None:
    scene.look()
    for cut in cuts:
        cut.set()
    scene.wait(seconds)
    for cut in cuts:
        cut.clear()


FAULTS: dict[str, Callable[[Scene], None]] = {
    "nothing": nothing,
    "processes killed": processes_killed,
    "machines lost": machines_lost,
    "server restarted": server_restarted,
    "network cut": network_cut,
    "one machine cut off": one_cut_off,
    "machine stopped": machine_stopped,
}


def main(*, short: bool, only: tuple[str, ...] = tuple(FAULTS)) -> None:
    """Run a search for each fault and print what became of its trials."""
    postgresql.need_postgresql()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pace = SHORT if short else Pace()
    rows = []
    for name in only:
        what = json.dumps([name, dataclasses.astuple(pace), str(SETTINGS)])
        kept = CACHE / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
        if short or not kept.exists():
            row = searched(name, pace)
            print(f"  {row}", flush=True)
            if short:
                rows.append(row)
                continue
            files.private_folder(CACHE)
            files.write_json(kept, row)
        rows.append(files.read_json(kept))
    write_results("faults_short" if short else "faults", rows, workers=pace.workers, seconds_per_trial=pace.seconds)


def searched(name: str, pace: Pace) -> dict[str, object]:
    """Run one search with one kind of fault."""
    with (
        tempfile.TemporaryDirectory(prefix="nas-faults-") as folder,
        postgresql.server(durable=pace != SHORT) as server,
    ):
        server.ask("postgres", f"CREATE DATABASE {NAME}")
        for scene in _scene(server, Path(folder), pace):
            scene.wait_for_the_first()
            begin = time.monotonic()
            FAULTS[name](scene)
            scene.wait(pace.patience)
            seconds = time.monotonic() - begin
            ended = [process.exitcode == 0 for _, process in scene.crew.members if id(process) not in scene.killed]
            row = {"fault": name, "asked": pace.trials, **counted(scene), "ended": all(ended), "seconds": seconds}
            for path in sorted(Path(folder).glob("*.err")):
                print(path.read_text(encoding="utf-8"), end="")
    return row


def _scene(server: Server, folder: Path, pace: Pace) -> Iterator[Scene]:
    """Make a study, start the proxies and the workers, and end all of them afterwards."""
    crew = Crew()
    cuts, ports = (crew.context.Event(), crew.context.Event()), (postgresql.free_port(), postgresql.free_port())
    proxies = [
        crew.context.Process(target=postgresql.proxy, args=(port, server.port, cut), daemon=True)
        for port, cut in zip(ports, cuts, strict=True)
    ]
    asked = {"trials": pace.trials, "sampler": "random", "seed": SEED}
    aside, task = (
        Task(folder, asked | {"storage": server.url(NAME, port)}, pace.seconds, pace.between_signs, pace.silence)
        for port in ports
    )
    prepared = resolve(Task(folder, asked | {"storage": server.url(NAME)}, pace.seconds).config, folder / "runs")
    open_study(prepared)
    try:
        for one in proxies:
            one.start()
        for number in range(pace.workers):
            crew.start(str(number), task if number else aside)
        yield Scene(server, crew, task, aside, pace, cuts)
    finally:
        crew.stop()
        for one in proxies:
            one.kill()
            one.join()


def counted(scene: Scene) -> dict[str, object]:
    """Compare what the evaluations noted with what the study holds."""
    study = optuna.load_study(study_name=NAME, storage=scene.server.url(NAME))
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    told = Counter(trial.user_attrs["key"] for trial in complete)
    begun, ended = (
        Counter(event["key"] for event in events(scene.task.log) if event["event"] == what) for what in ("begin", "end")
    )
    reasons = [str(trial.user_attrs.get("rejected", "")) for trial in trials]
    return {
        "finished": len(complete),
        "rejected": sum(reason.startswith(("lost", "died")) for reason in reasons),
        "lost": len(ended.keys() - told.keys()) + len(scene.seen - {trial.number for trial in complete}),
        "begun_again": begun.total() - len(begun),
        "ended_twice": sum(count > 1 for count in ended.values()),
        "told_twice": sum(count > 1 for count in told.values()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="One kind of fault; all, if left out.")
    arguments = parser.parse_args()
    main(short=arguments.short, only=tuple(arguments.fault or FAULTS))
