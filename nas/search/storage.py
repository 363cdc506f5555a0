"""Where a study is kept: a journal file in the run's folder, or any Optuna storage."""

from __future__ import annotations

import random
import re
import socket
import time
import uuid
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from nas.base import files
from nas.base import locks
from nas.base import plugins
from nas.base.errors import known
from nas.pricing.limits import BUDGET
from nas.pricing.limits import device_limits
from nas.pricing.limits import merged
from nas.search import journal
from nas.search import schema
from nas.search import storage_url
from nas.search.config import SearchConfig
from nas.search.config import differences
from nas.search.config import load_config
from nas.search.config import widened
from nas.search.outages import Away
from nas.search.outages import is_outage
from nas.search.storage_url import is_database
from nas.training.baselines import error_ceiling
from nas.training.baselines import train_baselines
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import OF_CLASSES
from nas.training.by_class import metric_named

if TYPE_CHECKING:
    from nas.search.plan import Plan

CONFIG, TASK, ORIGIN, DATA, CLASSES = schema.CONFIG, schema.TASK, schema.ORIGIN, schema.DATA, schema.CLASSES
JOURNAL = "journal.log"
SETTINGS = "config.toml"
"""In a run's folder: its settings."""
NNI_PAGE = Path("nni") / "page.txt"
"""In a run's folder: the address of NNI's web page while its service runs."""
# Processes that open a new database at once all try to make its tables, and one of them succeeds. The others wait for
# it, and on a busy server that takes a while.
SECONDS_TO_MAKE_TABLES = 60
SECONDS_FOR_A_PROXY = 10.0
# What PostgreSQL (a unique violation in its catalogue, too), MySQL and SQLite say to those others, beside SQLAlchemy's
# kinds of errors: MySQL and SQLite call an existing table an operational error, like a server that is not there.
MADE_AT_ONCE = re.compile(r"already exists|concurrently|deadlock|database is locked|Duplicate entry", re.IGNORECASE)
# What SQLAlchemy and Optuna raise on a database or journal that is not theirs; Optuna asserts that it knows a record.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError, OverflowError)
DATABASE_ERROR = ("sqlalchemy.exc", "SQLAlchemyError")
"""Module and name of all that SQLAlchemy raises; a journal needs none of it."""


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open the storage of a run.

    Args:
        url: An Optuna storage URL (`postgresql://...`, `mysql://...`, `sqlite:///...`), the path of a journal file, or
            None for the journal file in the run's folder.
        folder: The run's folder.

    Raises:
        ValueError: If the storage's URL is not well-formed or lacks its password, the storage cannot be read, or its
            driver is not installed.
        Away: If its server does not answer.
    """
    url = _usable(url)
    with _readable(url, folder):
        if url is not None and is_database(url):
            return _connect(url)
        path = _journal(url, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(journal.Journal(path))


def open_study(plan: Plan) -> optuna.Study:
    """Create the study of a search, or open it to go on.

    Raises:
        ValueError: If a study of this name was started with other settings (each difference is named), or was not made
            by this program.
    """
    config = plan.config
    file = _file_of(config.storage, plan.folder)
    # Before a study, or even its file, is made: what fails when it is looked up or tried out leaves none behind.
    told = _told(plan) if file is not None and not file.exists() else None
    storage = open_storage(config.storage, plan.folder)
    if isinstance(storage, JournalStorage):
        locks.folder(journal.lock_folder(_journal(config.storage, plan.folder)))
    else:
        _locks_of_databases()  # before a study is made that nobody could work on
    directions = [StudyDirection.MINIMIZE] * len(config.objectives)
    with _readable(config.storage, plan.folder):
        is_there = config.name in optuna.get_all_study_names(storage)
    told = None if is_there else told or _told(plan)
    with _readable(config.storage, plan.folder):
        if is_there:  # to create it once more would leave a line in a journal
            study = optuna.load_study(study_name=config.name, storage=storage)
        else:
            study = optuna.create_study(
                study_name=config.name, storage=storage, directions=directions, load_if_exists=True
            )
        # In this order: another process may sign the study and start a trial between the two.
        trials, attrs = study.get_trials(deepcopy=False), study.user_attrs
        is_new = CONFIG not in attrs and not trials and study.directions == directions
        if is_new:
            _sign(study, plan, told or _told(plan))
    if not is_new:
        _check_same(plan, study, trials)
    return study


def load_study(name: str, folder: Path, url: str | None) -> optuna.Study:
    """Open a study to read it.

    Raises:
        ValueError: If there is none of that name, or it was not made by this program.
    """
    url = _usable(url)
    if url is None and not (folder / JOURNAL).exists():
        raise ValueError(f"no run {name!r} in {folder.parent}; there are {run_names(folder.parent)}")
    path = _file_of(url, folder)
    if path is not None and not path.exists():  # opening would make it
        raise ValueError(f"no study {name!r} in {path}; there is no such file")
    storage = open_storage(url, folder)
    with _readable(url, folder):
        names = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=name, storage=storage) if name in names else None
        if study is not None:
            attrs, trials, objectives = study.user_attrs, study.get_trials(deepcopy=False), len(study.directions)
    if study is None:
        raise ValueError(f"no study {name!r} in the storage; there are {sorted(names)}")
    if not schema.is_signed(attrs):
        raise ValueError(f"the study {name!r} was not made by nas search")
    schema.check(name, attrs, objectives, trials)
    return study


def folder_of(run: str, runs: Path) -> Path:
    """Return the folder of a run that is given by its name, or by its folder.

    Args:
        run: Name, or path of its folder.
        runs: Folder of all runs.
    """
    return Path(run) if (Path(run) / SETTINGS).exists() else runs / run


def find_study(run: str, runs: Path, url: str | None = None) -> optuna.Study:
    """Open the study of a run to read it, from the run's own storage or the one given.

    Args:
        run: As in `folder_of`.
        runs: Folder of all runs.
        url: Optuna storage URL, where the run's folder is not here or names another one.

    Raises:
        ValueError: If there is no such run, or its study cannot be read.
    """
    folder = folder_of(run, runs)
    config = load_config(folder / SETTINGS, {}) if (folder / SETTINGS).exists() else None
    return load_study(config.name if config else run, folder, storage_of(run, runs, url))


def storage_of(run: str, runs: Path, url: str | None = None) -> str | None:
    """Return the storage of a run, as `find_study` opens it; None for the journal in its folder."""
    folder = folder_of(run, runs)
    return url or (load_config(folder / SETTINGS, {}).storage if (folder / SETTINGS).exists() else None)


def is_of_a_run(settings: Path) -> bool:
    """Tell whether a file of settings is the copy in a run's folder, which may have come from somebody else."""
    return settings.name == SETTINGS and any(
        (settings.parent / name).exists() for name in (JOURNAL, "environment.json", "models", "picks")
    )


def run_names(runs: Path) -> list[str]:
    """List the runs in a folder."""
    return sorted(path.parent.name for path in runs.glob(f"*/{SETTINGS}"))


def weights_path(folder: Path, key: str) -> Path:
    """File of a trained candidate's weights."""
    return folder / "models" / f"{key}.safetensors"


def here(url: str | None) -> str:
    """Name the processes that share the locks of `lock_folder` with this one: those of this machine and user.

    Containers may have one host name, and users of one name: each folder of locks of databases has a random number.

    Args:
        url: The storage. The locks of a journal lie beside it, so there the name is told to people alone.
    """
    return f"{_user_and_host()}/{_number_of(_locks_of_databases())}" if is_database(url) else _user_and_host()


def lock_folder(study: optuna.Study, url: str | None, folder: Path) -> Path:
    """Return the folder of the locks that live processes hold on a study's trials.

    A journal's lies beside it, where everyone who can write the journal finds it, from a container too. A database's
    lies in the user's cache folder under the study's own id, because processes of one machine may work from different
    folders and may spell the URL differently.

    Raises:
        OSError: If it cannot be made, is a link, or, of a database, others can write it.
    """
    if is_database(url):
        return _locks_of_databases(str(study.user_attrs[TASK]["id"]))
    return locks.folder(journal.lock_folder(_journal(url, folder)))


def _locks_of_databases(*names: str) -> Path:
    return locks.own_folder(re.sub(r"\W+", "-", _user_and_host()), *names)


def _user_and_host() -> str:
    return f"{psutil.Process().username()}@{socket.gethostname()}"


@cache
def _number_of(folder: Path) -> str:
    """Return the random number of a folder of locks, in hex; whoever asks first writes it down."""
    path = folder / "number"
    with locks.held(folder / "number.lock"):
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        if not known:  # a disk that lost power leaves an empty file
            known = uuid.uuid4().hex[:8]
            files.write_text(path, known)
    return known


def _usable(url: str | None) -> str | None:
    url = None if url is None else storage_url.checked(url)
    if url is not None and storage_url.is_redacted(url):
        raise ValueError(
            f"expected the secrets of the storage {url}, which are not kept with a run: give its URL by --storage, or "
            f"in {storage_url.VARIABLE}"
        )
    return url


def _journal(url: str | None, folder: Path) -> Path:
    return (folder / JOURNAL if url is None else Path(url)).resolve()


def _connect(url: str) -> BaseStorage:
    if place := storage_url.proxy_of(url):
        return _proxy(*place)
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - a journal does without

    give_up = time.monotonic() + SECONDS_TO_MAKE_TABLES
    while True:
        try:
            return optuna.storages.get_storage(url)
        except (DBAPIError, StorageInternalError) as error:
            if not _is_made_at_once(error) or time.monotonic() > give_up:
                raise
        time.sleep(random.uniform(0.05, 0.3))  # noqa: S311 - processes that met once should not meet again


def _proxy(host: str, port: int) -> BaseStorage:
    """Open Optuna's gRPC proxy.

    Raises:
        ImportError: If grpcio is not installed.
        ValueError: If it does not answer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=port)
    try:
        proxy.wait_server_ready(SECONDS_FOR_A_PROXY)
    except ConnectionError:
        raise ValueError(f"no answer within {SECONDS_FOR_A_PROXY:.0f} s") from None
    return proxy


def _is_made_at_once(error: Exception) -> bool:
    """Tell whether a database failed to open because another process makes its tables at the same time."""
    from sqlalchemy.exc import IntegrityError  # noqa: PLC0415 - as in `_connect`
    from sqlalchemy.exc import ProgrammingError  # noqa: PLC0415

    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, IntegrityError | ProgrammingError) or MADE_AT_ONCE.search(str(cause)) is not None


def _check_same(plan: Plan, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Refuse to go on with a study of somebody else's, of other settings, of other data or by another version."""
    config, attrs = plan.config, study.user_attrs
    if not schema.is_signed(attrs):
        raise ValueError(f"the study {config.name!r} was not made by nas search; choose another --name")
    schema.check(config.name, attrs, len(study.directions), trials)
    if ORIGIN in attrs and (changed := differences(config, attrs[CONFIG])):
        wider = widened(config, attrs[CONFIG])
        # Candidates of the narrower choice would count as if they had been sampled from the wider one.
        how = f"a wider choice of {', '.join(wider)} needs a study of its own: " if wider else ""
        raise ValueError(
            f"the run {config.name!r} was started with other settings ({'; '.join(changed)}); {how}"
            "go on with the old ones, or choose another --name"
        )
    check_origin(plan, attrs)


def check_origin(plan: Plan, attrs: Mapping[str, Any]) -> None:
    """Refuse what would mix numbers of two kinds in one study: other data, another device, attack, defence or version.

    Args:
        plan: What is to train, attack or price for the study.
        attrs: The study's user attributes.

    Raises:
        ValueError: If something that decides a study's numbers is not what it was when the study started; each
            difference is named.
    """
    from nas.search.origin import changes  # noqa: PLC0415 - it trains; to read a study is to train nothing

    if ORIGIN not in attrs:
        raise ValueError(
            f"the run {plan.config.name!r} was started by a gecko-nas before training versions and does not say what "
            "decided its numbers: nas show reads it; for all else use the gecko-nas that started it, or search again "
            "under another --name"
        )
    if changed := changes(attrs[ORIGIN], plan):
        raise ValueError(
            f"the run {plan.config.name!r} was started with other things that decide its numbers "
            f"({'; '.join(changed)}); go on with what it was started with, or search under another --name"
        )


def _told(plan: Plan) -> dict[str, Any]:
    """Return what a study says of itself beside its settings: what decides its numbers, its limits, its baselines."""
    from nas.search.origin import origin_of  # noqa: PLC0415 - as in `check_origin`

    beginning = _beginning(plan)
    limits = {schema.MEMORY: [limit.row for limit in device_limits(plan.device)]}
    if plan.table:
        return {ORIGIN: origin_of(plan), schema.LIMITS: [limit.row for limit in plan.limits], **limits, **beginning}
    members = plan.data.members
    baselines = train_baselines(plan.data, plan.config.seed)
    ceiling = error_ceiling(baselines) if plan.config.error_ceiling and not _counts_classes(plan.config) else None
    budgets = [limit for limit in plan.limits if limit.kind == BUDGET]
    others = [limit for limit in plan.limits if limit.kind != BUDGET]
    return {
        ORIGIN: origin_of(plan),
        DATA: plan.data.overview.plain,
        CLASSES: {
            "names": list(members.classes),
            "members": members.class_counts.tolist(),
            "validation": plan.data.validation.class_counts.tolist(),
        },
        schema.BASELINES: [baseline.row for baseline in baselines],
        schema.LIMITS: [limit.row for limit in merged(budgets, [*others, *([ceiling] if ceiling else [])])],
        **limits,
        **beginning,
    }


def _beginning(plan: Plan) -> dict[str, Any]:
    """Return what is looked up when a study begins and stays so: a sampler to pick, and points of earlier runs.

    What it depends on may change later: the number of trials, the earlier runs.
    """
    from nas.search.like import liked  # noqa: PLC0415 - it opens studies

    told: dict[str, Any] = {}
    if pick := plugins.find("nas.search.samplers", plan.config.sampler, "pick"):
        sampler, reason = pick(plan)
        told[schema.SAMPLER] = {"by": plan.config.sampler, "sampler": sampler, "reason": reason}
    if plan.config.like:
        found = liked(plan)
        told[schema.LIKE] = {"given": len(found.given), "lines": list(found.lines)}
        told |= {f"{schema.GIVEN}{number}": one.model_dump() for number, one in enumerate(found.given)}
    return told


def _counts_classes(config: SearchConfig) -> bool:
    """Tell whether errors of classes are asked for: a ceiling of the plain error would work against them."""
    asked = (*config.objectives, *config.budgets)
    weighted = config.recipe.class_weights != "none"
    return weighted or any(metric_named(name, OF_CLASSES) or name.startswith(CLASS_ERROR) for name in asked)


def _sign(study: optuna.Study, plan: Plan, told: Mapping[str, Any]) -> None:
    config = plan.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(config.objectives))
    # The storage's URL may hold a password and does not belong to the settings that decide the numbers.
    shape, classes = list(plan.space.input_shape), plan.space.num_classes
    members = None if plan.splits is None else len(plan.splits.members)
    task = {"input_shape": shape, "num_classes": classes, "members": members}
    for name, value in told.items():
        study.set_user_attr(name, value)
    study.set_user_attr(TASK, {**task, "id": uuid.uuid4().hex})
    study.set_user_attr(CONFIG, config.model_dump(mode="json", exclude={"storage"}))


def _file_of(url: str | None, folder: Path) -> Path | None:
    """Return the file a storage lives in, None for a server."""
    if not is_database(url):
        return _journal(url, folder)
    scheme, _, place = str(url).partition("://")
    return Path(place.removeprefix("/").partition("?")[0]) if scheme.startswith("sqlite") else None


@contextmanager
def _readable(url: str | None, folder: Path) -> Iterator[None]:
    """Turn what goes wrong with a storage into one line that names it and holds no password."""
    where = _file_of(url, folder) or f"{str(url).partition('://')[0]}://..."
    try:
        yield
    except ImportError as error:
        is_proxy = storage_url.proxy_of(url) if url and is_database(url) else None
        hint = (
            "pip install grpcio protobuf" if is_proxy else "pip install 'gecko-nas[postgresql]' or 'gecko-nas[mysql]'"
        )
        raise ValueError(f"no driver for the storage {where}: {_brief(error, url)}; {hint}") from None
    except _unreadable() as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        what = f"expected an Optuna study in {where}; it cannot be read: {_brief(cause, url)}"
        raise (Away if is_outage(error) else ValueError)(what) from None


def _unreadable() -> tuple[type[Exception], ...]:
    return (*UNREADABLE, StorageInternalError, *known(DATABASE_ERROR))


def _brief(error: BaseException, url: str | None) -> str:
    """Return an error's first line, less the URL's secrets."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return storage_url.without_secrets(line, url)
