import re

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import InternalError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import ProgrammingError

from nas.search import storage
from nas.search.storage import CONFIG
from nas.search.storage import JOURNAL
from nas.search.storage import ORIGIN
from nas.search.storage import TASK
from nas.search.storage import _number_of
from nas.search.storage import here
from nas.search.storage import load_study
from nas.search.storage import lock_folder
from nas.search.storage import open_storage
from nas.search.storage import open_study
from nas.search.storage import run_names
from tests.small_search import elsewhere
from tests.small_search import opened_at_once
from tests.small_search import planned
from tests.small_search import with_settings


@pytest.fixture(autouse=True)
def _locks_of_databases_here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def mlp_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), storage=None)


@pytest.fixture
def plan(mlp_plan, tmp_path):
    return elsewhere(mlp_plan, tmp_path / "runs" / "small")


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


def test_a_run_keeps_its_journal_in_its_folder(plan):
    open_study(plan)
    assert (plan.folder / JOURNAL).exists()
    assert isinstance(open_storage(None, plan.folder), JournalStorage)


def test_a_journal_may_lie_elsewhere(plan, tmp_path):
    path = tmp_path / "shared" / "one.log"
    open_study(with_settings(plan, storage=str(path)))
    assert path.exists()
    assert not (plan.folder / JOURNAL).exists()


def test_a_url_is_a_database(database, tmp_path):
    assert isinstance(storage.open_storage(database, tmp_path), optuna.storages._CachedStorage)
    assert isinstance(storage.open_storage(database, tmp_path)._backend, RDBStorage)


def test_a_study_carries_its_settings_and_task_and_no_url(plan, database):
    study = open_study(with_settings(plan, storage=database))
    config = study.user_attrs[CONFIG]
    assert config["space"] == "mlp"
    assert config["members"] == 120
    assert database not in str(study.user_attrs)
    task = study.user_attrs[TASK]
    assert task["input_shape"] == [1, 8, 8]
    assert task["num_classes"] == 10
    assert study.user_attrs[ORIGIN]["fingerprint"] == plan.data.fingerprint
    assert study.metric_names == list(plan.config.objectives)


@pytest.mark.parametrize("where", ["journal", "database"])
def test_a_study_is_opened_again_with_the_same_settings(plan, database, where):
    plan = plan if where == "journal" else with_settings(plan, storage=database)
    first, again = open_study(plan), open_study(plan)
    assert first.user_attrs == again.user_attrs
    more = open_study(with_settings(plan, trials=100, workers=3))
    assert more.study_name == "small"


def test_other_settings_are_refused_and_named(plan):
    open_study(plan)
    other = with_settings(plan, device="host", seed=3)
    with pytest.raises(ValueError, match=r"device: was 'stm32h747', now 'host'; seed: was 0, now 3"):
        open_study(other)


def test_other_data_are_refused(plan, tmp_path):
    open_study(plan)
    other = elsewhere(planned(tmp_path, seed=1), plan.folder)
    with pytest.raises(ValueError, match="the data: other records"):
        open_study(with_settings(other, seed=0))


@pytest.mark.parametrize("where", ["journal", "database"])
def test_a_study_of_somebody_else_is_left_alone(plan, database, where):
    plan = plan if where == "journal" else with_settings(plan, storage=database)
    url = plan.config.storage
    if where == "journal":
        open_study(with_settings(plan, name="other"))
    theirs = optuna.create_study(
        study_name="small", storage=open_storage(url, plan.folder), directions=["minimize"] * 3
    )
    theirs.add_trial(optuna.trial.create_trial(values=[1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="'small' was not made by nas search; choose another --name"):
        open_study(plan)
    with pytest.raises(ValueError, match="was not made by nas search"):
        load_study("small", plan.folder, url)
    assert theirs.user_attrs == {}
    assert theirs.metric_names is None


def test_a_study_of_other_directions_is_left_alone(plan, database):
    optuna.create_study(study_name="small", storage=database, directions=["minimize"])
    with pytest.raises(ValueError, match="was not made by nas search"):
        open_study(with_settings(plan, storage=database))


@pytest.mark.parametrize("first", [True, False])
def test_a_study_that_is_signed_while_it_is_opened_is_not_foreign(plan, database, monkeypatch, first):
    """Another process signs the study and starts a trial before or after this one looks for trials."""
    plan = with_settings(plan, storage=database)
    ours = optuna.create_study(
        study_name="small", storage=open_storage(database, plan.folder), directions=["minimize"] * 3
    )
    get_trials = type(ours).get_trials
    looked = []

    def slow(study, *args, **kwargs):
        found = get_trials(study, *args, **kwargs)
        if not looked:
            looked.append(True)
            open_study(plan).add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
        return get_trials(study, *args, **kwargs) if first else found

    monkeypatch.setattr(type(ours), "get_trials", slow)
    assert open_study(plan).user_attrs[ORIGIN]["fingerprint"] == plan.data.fingerprint


@pytest.mark.parametrize(
    "content", [b"not a journal\n", b'{"a": 1}\n', b"\0\1\2\xff\n", b"[1, 2]\n", b"last,line\n1,2"]
)
def test_a_file_that_is_no_journal_is_refused_in_one_line_and_left_as_it_is(plan, content):
    path = plan.folder / JOURNAL
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for use in (lambda: open_study(plan), lambda: load_study("small", plan.folder, None)):
        with pytest.raises(
            ValueError, match=r"expected an Optuna study in .*journal\.log; it cannot be read"
        ) as raised:
            use()
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


def test_an_unreachable_database_is_one_line_without_its_password(plan):
    url = "postgresql+psycopg2://me:secret@127.0.0.1:1/none"
    with pytest.raises(ValueError, match=r"expected an Optuna study in postgresql\+psycopg2://\.\.\.") as raised:
        open_study(with_settings(plan, storage=url))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_database_without_its_driver_says_what_to_install(plan):
    with pytest.raises(ValueError, match=r"no driver for .*pip install 'gecko-nas\[postgresql\]'"):
        open_study(with_settings(plan, storage="oracle+cx_oracle://me:secret@127.0.0.1/none"))


def test_a_url_that_is_none_is_refused(plan):
    with pytest.raises(ValueError, match="it cannot be read"):
        open_study(with_settings(plan, storage="nonsense://x"))


def test_tables_made_by_another_process_at_the_same_moment_are_waited_for(database, tmp_path, monkeypatch):
    tried = []

    def racing(url):
        tried.append(url)
        if len(tried) < 3:
            raise IntegrityError("CREATE TABLE studies", {}, Exception("already exists"))
        return optuna.storages.RDBStorage(url)

    monkeypatch.setattr("nas.search.storage.optuna.storages.get_storage", racing)
    assert isinstance(open_storage(database, tmp_path), RDBStorage)
    assert len(tried) == 3


def test_what_goes_on_failing_is_given_up(database, tmp_path, monkeypatch):
    def broken(url):
        raise ProgrammingError("SELECT", {}, Exception("no permission"))

    monkeypatch.setattr("nas.search.storage.optuna.storages.get_storage", broken)
    monkeypatch.setattr("nas.search.storage.SECONDS_TO_MAKE_TABLES", 0.3)
    with pytest.raises(ValueError, match="no permission"):
        open_storage(database, tmp_path)


def test_a_run_that_is_not_there_lists_those_that_are(tmp_path):
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "config.toml").touch()
    assert run_names(tmp_path) == ["known"]
    with pytest.raises(ValueError, match=r"no run 'other' in .*; there are \['known'\]"):
        load_study("other", tmp_path / "other", None)


def test_a_study_that_is_not_in_the_storage_lists_those_that_are(plan, database):
    open_study(with_settings(plan, storage=database))
    with pytest.raises(ValueError, match=r"no study 'other' in the storage; there are \['small'\]"):
        load_study("other", plan.folder, database)


def test_loading_a_study_gives_what_was_opened(plan):
    open_study(plan)
    assert load_study("small", plan.folder, None).user_attrs[CONFIG]["space"] == "mlp"


def test_locks_lie_beside_a_journal(plan, tmp_path):
    study = open_study(plan)
    folder = lock_folder(study, None, plan.folder)
    assert folder.parent == plan.folder
    (tmp_path / "link").symlink_to(plan.folder)
    assert lock_folder(study, str(tmp_path / "link" / JOURNAL), tmp_path) == folder  # by another way to the same file


def test_processes_of_one_machine_share_the_locks_of_a_database(plan, database, tmp_path):
    study = open_study(with_settings(plan, storage=database))
    again = open_study(elsewhere(with_settings(plan, storage=f"{database}?timeout=5"), tmp_path / "elsewhere"))
    folder = lock_folder(study, database, plan.folder)
    # another folder, and the URL spelled in another way
    assert lock_folder(again, f"{database}?timeout=5", tmp_path / "elsewhere") == folder
    other = open_study(with_settings(plan, storage=database, name="other"))
    assert lock_folder(other, database, plan.folder) != folder
    namesake = open_study(with_settings(plan, storage=f"{database}2"))
    assert lock_folder(namesake, f"{database}2", plan.folder) != folder


def test_two_users_do_not_share_locks(plan, database, monkeypatch):
    study = open_study(with_settings(plan, storage=database))
    mine, my_name = lock_folder(study, database, plan.folder), here(database)
    monkeypatch.setattr("psutil.Process.username", lambda self: "DOMAIN\\somebody")
    assert here(database) != my_name
    theirs = lock_folder(study, database, plan.folder)
    assert theirs != mine
    assert theirs.parent.parent == mine.parent.parent


def test_machines_of_one_name_are_told_apart_by_their_locks(database, tmp_path, monkeypatch):
    """As containers with one host name: what one holds, the other one cannot see."""
    names = []
    for folder in ("one", "two", "one"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
        _number_of.cache_clear()  # as in another process
        names.append(here(database))
    assert names[0] == names[2] != names[1]
    assert len({name.partition("/")[0] for name in names}) == 1


def test_a_machine_gets_its_number_anew_if_its_file_was_left_empty(database, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _number_of.cache_clear()
    name = here(database)
    (path,) = tmp_path.rglob("number")
    path.write_text("")
    _number_of.cache_clear()
    assert re.fullmatch(r".+@.+/[0-9a-f]{8}", here(database))
    assert here(database) != name


def test_who_works_on_a_journal_needs_no_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert "/" not in here(None)
    assert not (tmp_path / "none").exists()


# Several processes that make the tables of one new database.

MET = [
    IntegrityError("CREATE TABLE studies", {}, Exception('violates unique constraint "pg_type_typname_nsp_index"')),
    ProgrammingError("CREATE TABLE studies", {}, Exception('relation "studies" already exists')),
    InternalError("CREATE TABLE studies", {}, Exception("tuple concurrently updated")),
    OperationalError("CREATE TABLE studies", {}, Exception("(1050, \"Table 'studies' already exists\")")),
    OperationalError("CREATE TABLE studies", {}, Exception("table studies already exists")),
    OperationalError("CREATE TABLE studies", {}, Exception("deadlock detected")),
]


@pytest.mark.parametrize("error", MET, ids=lambda error: str(error.orig))
def test_who_meets_another_at_making_tables_tries_again(monkeypatch, tmp_path, error):
    errors = iter([error, error])

    def get_storage(url):
        for one in errors:
            raise one
        return url

    monkeypatch.setattr("nas.search.storage.optuna.storages.get_storage", get_storage)
    monkeypatch.setattr("nas.search.storage.time.sleep", lambda _: None)
    assert open_storage("postgresql://host/d", tmp_path) == "postgresql://host/d"


def test_a_server_that_is_not_there_is_not_waited_for(monkeypatch, tmp_path):
    def get_storage(url):
        raise OperationalError("SELECT 1", {}, Exception("could not connect to server"))

    monkeypatch.setattr("nas.search.storage.optuna.storages.get_storage", get_storage)
    monkeypatch.setattr("nas.search.storage.time.sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(ValueError, match="could not connect to server"):
        open_storage("postgresql://host/d", tmp_path)


def test_many_open_one_new_database_at_once(tmp_path):
    assert opened_at_once(f"sqlite:///{tmp_path}/new.db", tmp_path) == [[]] * 8


# Optuna's gRPC proxy; its driver is no dependency.


class Proxy(optuna.storages.InMemoryStorage):
    """Stands in for Optuna's, which needs grpcio."""

    def __init__(self, *, host, port):
        super().__init__()
        self.place = (host, port)

    def wait_server_ready(self, timeout):
        if self.place[0] == "gone":
            raise ConnectionError("GRPC connection timeout")


def test_a_grpc_url_is_optunas_proxy(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("optuna.storages.GrpcStorageProxy", Proxy)
    assert open_storage("grpc://db.local:13000", tmp_path).place == ("db.local", 13000)
    study = open_study(with_settings(plan, storage="grpc://db.local:13000"))
    assert study.user_attrs[CONFIG]["space"] == "mlp"
    with pytest.raises(ValueError, match=r"expected an Optuna study in grpc://\.\.\.; .*: no answer within 10 s"):
        open_storage("grpc://gone:13000", tmp_path)


def test_a_proxy_without_its_driver_says_what_to_install(tmp_path, monkeypatch):
    def missing(**_):
        raise ImportError("no module named 'grpc'")

    monkeypatch.setattr("optuna.storages.GrpcStorageProxy", missing)
    with pytest.raises(ValueError, match=r"no driver for the storage grpc://.*pip install grpcio protobuf"):
        open_storage("grpc://db.local:13000", tmp_path)


@pytest.mark.parametrize("url", ["grpc://db.local", "grpc://:13000", "grpc://me:secret@db:1", "grpc://db:1/studies"])
def test_a_url_of_a_proxy_is_a_host_and_a_port(url, tmp_path):
    with pytest.raises(ValueError, match=r"got a URL of a gRPC proxy that is more or less than grpc://HOST:PORT"):
        open_storage(url, tmp_path)
