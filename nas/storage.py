"""Where a study is kept: a journal file in the run's folder, or any Optuna storage."""

from __future__ import annotations

import re
import socket
import tempfile
import time
import uuid
import warnings
from pathlib import Path

import optuna
import psutil
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.exc import SQLAlchemyError

from nas import journal
from nas.config import differences
from nas.plan import Plan

CONFIG = "config"
TASK = "task"
JOURNAL = "journal.log"
# Processes that open a new database at once all try to make its tables, and one of them succeeds.
SECONDS_TO_MAKE_TABLES = 10


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open the storage of a run.

    Args:
        url: An Optuna storage URL (`postgresql://...`, `mysql://...`, `sqlite:///...`), the path of a journal file, or
            None for the journal file in the run's folder.
        folder: The run's folder.

    Raises:
        ValueError: If the storage cannot be read, or its driver is not installed.
    """
    try:
        if url is not None and is_database(url):
            return _connect(url)
        path = _journal(url, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(journal.Journal(path))
    except ImportError as error:
        raise ValueError(
            f"no driver for {_scheme(url)}: {error}; pip install 'gecko-nas[postgresql]' or [mysql]"
        ) from None
    except (SQLAlchemyError, ValueError, KeyError, TypeError, AttributeError) as error:
        where = folder / JOURNAL if url is None else _scheme(url)
        raise ValueError(f"expected an Optuna study in {where}; it cannot be read: {_first_line(error)}") from None


def open_study(plan: Plan) -> optuna.Study:
    """Create the study of a search, or open it to go on.

    Raises:
        ValueError: If a study of this name was started with other settings (each difference is named), or was not made
            by this program.
    """
    config = plan.config
    storage = open_storage(config.storage, plan.folder)
    if isinstance(storage, JournalStorage):
        journal.lock_folder(_journal(config.storage, plan.folder)).mkdir(exist_ok=True)
    try:
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            directions=["minimize"] * len(config.objectives),
            load_if_exists=True,
        )
        # In this order: another process may sign the study and start a trial between the two.
        trials = study.get_trials(deepcopy=False)
        stored = study.user_attrs.get(CONFIG)
        if stored is None:
            if trials or len(study.directions) != len(config.objectives):
                raise ValueError(f"the study {config.name!r} was not made by nas search; choose another --name")
            _sign(study, plan)
        elif changed := differences(config, stored):
            raise ValueError(
                f"the run {config.name!r} was started with other settings ({'; '.join(changed)}); "
                "go on with the old ones, or choose another --name"
            )
        elif study.user_attrs[TASK]["fingerprint"] != plan.data.fingerprint:
            raise ValueError(f"the run {config.name!r} was started with other data; choose another --name")
    except SQLAlchemyError as error:
        raise ValueError(f"the storage {_scheme(config.storage)} failed: {_first_line(error)}") from None
    return study


def load_study(name: str, folder: Path, url: str | None) -> optuna.Study:
    """Open a study to read it.

    Raises:
        ValueError: If there is none of that name, or it was not made by this program.
    """
    if url is None and not (folder / JOURNAL).exists():
        raise ValueError(f"no run {name!r} in {folder.parent}; there are {run_names(folder.parent)}")
    storage = open_storage(url, folder)
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)]
        raise ValueError(f"no study {name!r} in the storage; there are {names}") from None
    if CONFIG not in study.user_attrs:
        raise ValueError(f"the study {name!r} was not made by nas search")
    return study


def run_names(runs: Path) -> list[str]:
    """List the runs in a folder."""
    return sorted(path.parent.name for path in runs.glob("*/config.toml"))


def here() -> str:
    """Name this machine and user: processes that share the locks of `lock_folder` on a database."""
    return f"{psutil.Process().username()}@{socket.gethostname()}"


def is_database(url: str | None) -> bool:
    """Tell whether a storage is a database, which other machines reach too, or a journal file."""
    return url is not None and "://" in url


def lock_folder(study: optuna.Study, url: str | None, folder: Path) -> Path:
    """Return the folder of the locks that live processes hold on a study's trials.

    A journal's lies beside it, where everyone who can write the journal finds it, from a container too. A database's
    lies in the machine's temporary folder under the study's own id, because processes of one machine may work from
    different folders and may spell the URL differently.
    """
    if is_database(url):
        user = re.sub(r"\W+", "-", here())
        place = Path(tempfile.gettempdir()) / f"gecko-nas-{user}" / str(study.user_attrs[TASK]["id"])
    else:
        place = journal.lock_folder(_journal(url, folder))
    place.mkdir(parents=True, exist_ok=True)
    return place


def _journal(url: str | None, folder: Path) -> Path:
    return (folder / JOURNAL if url is None else Path(url)).resolve()


def _connect(url: str) -> BaseStorage:
    give_up = time.monotonic() + SECONDS_TO_MAKE_TABLES
    while True:
        try:
            return optuna.storages.get_storage(url)
        except (IntegrityError, ProgrammingError):
            if time.monotonic() > give_up:
                raise
        time.sleep(0.1)


def _sign(study: optuna.Study, plan: Plan) -> None:
    config = plan.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(config.objectives))
    # The storage's URL may hold a password and does not belong to the settings that decide the numbers.
    task = {"input_shape": list(plan.space.input_shape), "num_classes": plan.space.num_classes}
    study.set_user_attr(TASK, {**task, "fingerprint": plan.data.fingerprint, "id": uuid.uuid4().hex})
    study.set_user_attr(CONFIG, config.model_dump(mode="json", exclude={"storage"}))


def _scheme(url: str | None) -> str:
    """Name a storage without the password it may carry."""
    return "the run's journal" if url is None else url.split("://", 1)[0] + "://..."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
