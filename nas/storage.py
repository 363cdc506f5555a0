"""Where a study is kept: a journal file in the run's folder, or any Optuna storage."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal import JournalFileSymlinkLock
from sqlalchemy.exc import SQLAlchemyError

from nas.config import differences
from nas.plan import Plan

CONFIG = "config"
TASK = "task"
JOURNAL = "journal.log"


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
        if url is None or "://" not in url:
            path = folder / JOURNAL if url is None else Path(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)
            return JournalStorage(JournalFileBackend(str(path)))
        return optuna.storages.get_storage(url)
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
    try:
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            directions=["minimize"] * len(config.objectives),
            load_if_exists=True,
        )
        stored = study.user_attrs.get(CONFIG)
        if stored is None:
            if study.get_trials(deepcopy=False) or len(study.directions) != len(config.objectives):
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


def identity(url: str | None, folder: Path) -> str:
    """Name a storage so that every process of this machine that uses it gives the same name."""
    if url is not None and "://" in url:
        return url
    path = folder / JOURNAL if url is None else Path(url)
    return f"{socket.gethostname()}:{path.resolve()}"


def _sign(study: optuna.Study, plan: Plan) -> None:
    config = plan.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(config.objectives))
    # The storage's URL may hold a password and does not belong to the settings that decide the numbers.
    task = {"input_shape": list(plan.space.input_shape), "num_classes": plan.space.num_classes}
    study.set_user_attr(TASK, {**task, "fingerprint": plan.data.fingerprint})
    study.set_user_attr(CONFIG, config.model_dump(mode="json", exclude={"storage"}))


def _drop_torn_line(path: Path) -> None:
    """Cut what a writer killed in the middle of a line left at a journal's end.

    Optuna would skip it now and append to it next, which makes the file unreadable for good.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("rb+") as journal:
            journal.seek(-1, 2)
            if journal.read(1) != b"\n":
                journal.seek(0)
                journal.truncate(journal.read().rfind(b"\n") + 1)
    finally:
        lock.release()


def _scheme(url: str | None) -> str:
    """Name a storage without the password it may carry."""
    return "the run's journal" if url is None else url.split("://", 1)[0] + "://..."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
