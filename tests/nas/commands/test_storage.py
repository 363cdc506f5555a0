"""The command line on a storage that is broken, somebody else's, or not there."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas.search.storage import load_study
from nas.search.storage_url import VARIABLE
from tests.small_search import SMALL

# Storage.

RECORD = b'{"op_code":0,"worker_id":"w","study_name":"small","directions":[1,1,1]}\n'
CORRUPT = {
    "text": b"dear diary\n",
    "text without an end": b"dear diary",
    "binary": b"\xff\xfe\x00\x01" * 9,
    "a list": b"[1]\n",
    "a number": b"3\n",
    "JSON of another shape": b'{"study": 1}\n',
    "an unknown record": b'{"op_code":99,"worker_id":"w"}\n',
    "half a record": b'{"op_code":0,"worker_id":"w"}\n',
    "a bad record in the middle": RECORD + b"x\n" + RECORD,
    "a bad record at the end": RECORD + b"x\n",
    "two torn lines that grew together": RECORD + RECORD[:30] + RECORD,
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_journal_that_is_none_is_refused_and_left_alone(refused, tmp_path, kind):
    path = tmp_path / "runs" / "small" / "journal.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(CORRUPT[kind])
    (path.parent / "config.toml").write_text('name = "small"\n')
    for command in (
        ("search", *SMALL, "--name", "small"),
        ("show", "small"),
        ("pick", "small"),
        ("estimate", "small:0"),
    ):
        line = refused(*command)
        assert line.startswith(f"expected an Optuna study in {path}; it cannot be read: ")


def foreign_studies(storage):
    """Studies that somebody else made under names of ours."""
    trained = optuna.create_study(study_name="trained", storage=storage, directions=["minimize"] * 3)
    trained.tell(trained.ask(), [0.0, 0.0, 0.0])
    optuna.create_study(study_name="upwards", storage=storage, directions=["maximize"] * 3)
    optuna.create_study(study_name="flat", storage=storage)
    signed = optuna.create_study(study_name="signed", storage=storage, directions=["minimize"] * 3)
    signed.set_user_attr("config", "mine")
    halfway = optuna.create_study(study_name="halfway", storage=storage, directions=["minimize"] * 3)
    halfway.set_user_attr("config", {"space": "conv"})


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_that_somebody_else_made_is_refused(nas, tmp_path, no_training, kind):
    path = tmp_path / "studies"
    if kind == "sqlite":
        url = storage = f"sqlite:///{path}"
    else:
        url, storage = str(path), JournalStorage(JournalFileBackend(str(path)))
    foreign_studies(storage)
    runs = ("--storage", url, "--runs", tmp_path / "runs")
    for name in ("trained", "upwards", "flat", "signed", "halfway"):
        result = nas("search", *SMALL, "--name", name, *runs)
        message = f"nas: the study '{name}' was not made by nas search"
        assert (result.code, result.out, result.err) == (2, "", f"{message}; choose another --name\n")
        for command in ("show", "pick"):
            assert nas(command, name, *runs).err == f"{message}\n"
        study = optuna.load_study(study_name=name, storage=url if kind == "sqlite" else storage)
        assert len(study.trials) == (name == "trained")
    assert not list((tmp_path / "runs").rglob("*.toml"))


def test_a_storage_is_not_made_by_looking_at_it(refused, tmp_path):
    for url in (tmp_path / "none.log", f"sqlite:///{tmp_path / 'none.log'}"):
        assert (
            refused("show", "x", "--storage", url) == f"no study 'x' in {tmp_path / 'none.log'}; there is no such file"
        )


def test_a_database_of_something_else(refused, tmp_path):
    (tmp_path / "notes.db").write_text("dear diary" * 100)
    for command in (("search", *SMALL), ("show", "x")):
        assert refused(*command, "--storage", f"sqlite:///{tmp_path / 'notes.db'}").endswith("file is not a database")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://user:hunter2@127.0.0.1:1/db",  # nobody listens
        "postgresql+psycopg2://user:hunt%65r2@127.0.0.1:1/db",
        "postgresql+nosuchdriver://user:hunter2@127.0.0.1:1/db",
        "oracle+oracledb://user:hunter2@127.0.0.1:1/db",
        "nosuchscheme://user:hunter2@host/db",
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line_without_the_password(refused, url):
    for command in (("search", *SMALL), ("show", "x"), ("pick", "x")):
        line = refused(*command, "--storage", url)
        assert line.startswith(
            (
                f"expected an Optuna study in {url.split(':')[0]}://...; ",
                f"no driver for the storage {url.split(':')[0]}:",
            )
        )
        assert "er2" not in line


BROKEN_URLS = [
    "postgresql+psycopg2://user:hunt@er2@127.0.0.1:1/db",  # an @ that should be %40
    "postgresql+psycopg2://user:hunter2:@127.0.0.1:x/db?password=hunter2",
    "postgresql:/user:hunter2@host/db",
    "postgresql:user:hunter2@host/db",
    "postgresql//user:hunter2@host/db",
    "postgresql;//user:hunter2@host/db",
    "postgresql ://user:hunter2@host/db",
    " postgresql://user:hunter2@host/db",
    "postgresql://user:hunter2@host/db\n",
    "postgresql://user:hun ter2@host/db",
    "postgresql://user:hunt%er2@host/db",
    "postgresql://user:hunter2",
    "postgresql:///user:hunter2@host/db",
    "postgresql%3A%2F%2Fuser%3Ahunter2%40host%2Fdb",
    "mysql//user:hunter2@host/db",
    "htp//user:hunter2@host/db",
    "//user:hunter2@host/db",
    "user:hunter2@host/db",
    "://user:hunter2@host/db",
    "host=127.0.0.1 user=me password=hunter2",
    "jdbc:postgresql://host/db?password=hunter2",
    "sqlite://user:hunter2@host/db",
]


@pytest.mark.parametrize("url", BROKEN_URLS)
def test_a_broken_url_is_refused_without_its_password_and_makes_no_folder(refused, tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    for command in (("search", *SMALL), ("show", "x"), ("pick", "x"), ("audit", "x")):
        line = refused(*command, "--storage", url)
        assert line.startswith("expected the path of a journal file, or a storage URL: ")
        assert "er2" not in line
    (tmp_path / "mine.toml").write_text(f"storage = {json.dumps(url)}\n")
    assert "er2" not in refused("search", tmp_path / "mine.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("value", ['["postgresql://user:hunter2@host/db"]', '{url = "postgresql://u:hunter2@h/d"}'])
def test_a_storage_of_another_kind_is_not_shown_either(refused, tmp_path, value):
    (tmp_path / "mine.toml").write_text(f"storage = {value}\n")
    line = refused("search", tmp_path / "mine.toml")
    assert line.startswith("storage: ")
    assert "hunter2" not in line


@pytest.mark.parametrize("command", ["show", "pick", "search", "audit", "estimate"])
def test_a_url_in_place_of_a_name_is_shown_without_its_login(refused, command):
    assert "hunter2" not in refused(command, "postgresql://user:hunter2@host/db")


def test_a_run_in_a_database_keeps_the_url_without_its_password(nas, tmp_path, interrupted, monkeypatch):
    """SQLite takes no password, so a parameter of the URL stands in for it."""
    url = f"sqlite:///{tmp_path / 'study.db'}?password=hunter2"
    monkeypatch.setattr("nas.search.storage._connect", lambda _: optuna.storages.RDBStorage(url.partition("?")[0]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runs = ("--runs", tmp_path / "runs")
    monkeypatch.setenv(VARIABLE, url)
    assert nas("search", *SMALL, "--name", "small", *runs).code == 130
    assert interrupted[0].storage == url
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [path for path, content in held.items() if b"hunter2" in content] == []
    assert nas("show", "small", *runs).code == 0
    settings = tmp_path / "runs" / "small" / "config.toml"
    assert nas("search", settings, *runs).code == 130
    monkeypatch.delenv(VARIABLE)
    for command in (("show", "small"), ("search", settings), ("estimate", "small:0")):
        result = nas(*command, *runs)
        assert result.code == 2
        assert "expected the secrets of the storage sqlite:///" in result.err
        assert f"give its URL by --storage, or in {VARIABLE}" in result.err
    assert nas("show", "small", *runs, "--storage", url).code == 0


def test_a_journal_with_a_torn_last_line_is_mended_and_goes_on(nas, own_run, no_training, interrupted):
    journal = own_run.folder / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:25])
    assert nas("show", "small", "--runs", own_run.runs).out == nas("show", "small", "--runs", own_run.runs).out
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + b'{"op_')
    assert nas("search", *SMALL, "--name", "small", "--runs", own_run.runs).code == 130
    study = load_study("small", own_run.folder, None)
    study.set_user_attr("mended", value=True)
    assert len(load_study("small", own_run.folder, None).trials) == 5
