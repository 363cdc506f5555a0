import getpass
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
import tomlkit
from optuna.trial import TrialState

from nas.base import locks
from nas.search import study as search
from nas.search.storage import open_study
from tests.small_search import elsewhere
from tests.small_search import opened_at_once
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import settings
from tests.small_search import with_settings
from tests.small_search import without_training

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="starts a PostgreSQL server the Unix way")
NAS = [sys.executable, "-c", "from nas.cli import main; main()"]
PATIENCE = 240


def program(name):
    """Find a program of PostgreSQL; Debian keeps the server's out of the path."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name) or next((str(place / name) for place in places if (place / name).exists()), None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt install postgresql)")
    return found


def unprivileged():
    """Name a user that PostgreSQL agrees to run as: it refuses root."""
    if os.getuid() != 0:
        return getpass.getuser()
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server():
    """A server of its own in a temporary folder; gives the URL of its database, without the database's name."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install 'gecko-nas[postgresql]'")
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    user = unprivileged()
    root = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))  # pytest's own folder is closed to other users
    if os.getuid() == 0:
        shutil.chown(root, user)

    def run(*command):
        as_user = {"user": user} if os.getuid() == 0 else {}
        # no pipes: the server would keep them open
        with (root.parent / f"{root.name}.out").open("w") as out:
            return subprocess.run(command, check=False, stdout=out, stderr=out, cwd=root, **as_user).returncode

    data = root / "data"
    try:
        assert run(initdb, "-D", data, "-U", "nas", "-A", "trust", "--no-sync", "--locale=C") == 0
        for _ in range(5):  # another program may take the port first
            port = free_port()
            options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c fsync=off"
            if run(pg_ctl, "-D", data, "-w", "-l", root / "log", "-o", options, "start") == 0:
                break
        else:
            pytest.fail(f"PostgreSQL does not start: {(root / 'log').read_text()}")
        try:
            yield f"postgresql+psycopg2://nas@127.0.0.1:{port}"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(root)
        root.with_name(f"{root.name}.out").unlink()


@pytest.fixture
def database(server):
    """The URL of a new, empty database."""
    psycopg2 = pytest.importorskip("psycopg2")
    name = f"d{os.urandom(6).hex()}"
    connection = psycopg2.connect(f"{server.replace('+psycopg2', '')}/postgres")
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{server}/{name}"


@pytest.fixture
def start(tmp_path):
    """Start `nas search` on a database, each time from another folder; what is left of them is killed."""
    started = []

    def run(url, folder, **changes):
        runs = tmp_path / folder
        runs.mkdir(exist_ok=True)
        config = settings(name="shared", **changes).model_dump(mode="json", exclude_none=True)
        (runs / "shared.toml").write_text(tomlkit.dumps(config))
        command = [*NAS, "search", str(runs / "shared.toml"), "--runs", str(runs), "--storage", url]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def study_in(url):
    return optuna.load_study(study_name="shared", storage=url)


def states(study):
    return Counter(trial.state.name for trial in study.get_trials())


def test_many_open_an_empty_database_at_once(database, tmp_path):
    """All but one get a unique violation while the tables are made."""
    assert opened_at_once(database, tmp_path) == [[]] * 8


def test_two_searches_from_two_folders_work_on_one_study(database, start, nas, tmp_path):
    # both begin on an empty database, with one worker each, and share neither runs nor bank
    changes = {"trials": 7, "recipe": {"epochs": 20}}
    banks = [planned(tmp_path / folder, **changes) for folder in ("one", "two")]
    references = [plan.bank.paths(plan.cache_folder) for plan in banks]
    with ExitStack() as held:  # the first reference of each, so that both come out of the bank at once
        for first, _ in references:
            first.parent.mkdir(parents=True)
            held.enter_context(locks.held(first.with_suffix(".lock")))
        both = [start(database, folder, **changes) for folder in ("one", "two")]
        while not all(second.exists() for _, second in references):
            assert [process.poll() for process in both] == [None, None], [process.communicate() for process in both]
            time.sleep(0.05)
    for process in both:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    study = study_in(database)
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 7
    assert len({trial.user_attrs["key"] for trial in trained}) == 7
    assert states(study).keys() <= {"COMPLETE", "PRUNED"}
    weights = [sorted((tmp_path / folder).glob("shared/models/*.safetensors")) for folder in ("one", "two")]
    made = [path.stem for paths in weights for path in paths]
    assert sorted(made) == sorted(trial.user_attrs["key"] for trial in trained)  # each in one of the folders
    assert all(weights)  # both took part
    shown = nas("show", "shared", "--storage", database, "--runs", tmp_path / "three", "--json")
    assert shown.code == 0, shown.err
    answer = json.loads(shown.out)
    assert answer["counts"]["trained"] == 7
    assert {row["number"] for row in answer["front"]} == {trial.number for trial in study.best_trials}


def test_an_interrupted_search_on_a_database_equals_an_uninterrupted_one_in_a_journal(database, tmp_path, monkeypatch):
    plan = with_settings(planned(tmp_path / "runs"), trials=3, budgets={"leakage": 0.5, "flash_kib": 100.0})
    without_training(monkeypatch)
    expected = record_of(run_here(plan))
    made_up = search.evaluate
    interrupts = iter([True, False, True, True, False, False])

    def interrupted(plan, bench, candidate):
        if next(interrupts):
            raise KeyboardInterrupt
        return made_up(plan, bench, candidate)

    monkeypatch.setattr(search, "evaluate", interrupted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for folder in ("one", "two", "three"):  # and each time from another
        with pytest.raises(KeyboardInterrupt):
            run_here(with_settings(elsewhere(plan, tmp_path / folder / "small"), storage=database))
    study = run_here(with_settings(elsewhere(plan, tmp_path / "four" / "small"), storage=database))
    assert record_of(study) == expected


def test_a_database_that_is_not_there_is_one_line_without_its_password(server, tmp_path):
    url = server.replace("nas@", "nas:secret@") + "/nowhere"
    with pytest.raises(ValueError, match='database "nowhere" does not exist') as raised:
        open_study(planned(tmp_path, storage=url))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
