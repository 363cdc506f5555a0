"""A copy of a run's study for optuna-dashboard: named objectives, constraints, notes and files beside the front.

The run's own study is only read. What is shown is copied into memory, and what others wrote is cut and escaped: a study
may come from anybody, and the page renders Markdown and HTML.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts import upload_artifact
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from nas.base import files
from nas.base.text import in_markdown
from nas.base.text import printable
from nas.preprocessing.stored import PREPROCESSING
from nas.runs import report
from nas.runs.front_and_knee import Choice
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import knee_of
from nas.runs.progress import count
from nas.runs.run import Run
from nas.search.schema import limits_of

CARD, PLOT = "card.md", "roofline.png"
OF_A_PICK = ("float32.onnx", "int8.onnx", "mixed.onnx", "architecture.json", PREPROCESSING)
"""Files in a pick's folder that stand beside its candidate; its weights are read by commands, not by people."""
MOST_BYTES_OF_A_FILE = 32 * 2**20
MOST_WITH_FILES = 100
"""Candidates of a front that get files: notes stand at all of them."""
LONGEST_TEXT, LONGEST_PARAMETER, LONGEST_NOTE, MOST_ATTRIBUTES = 200, 10_000, 20_000, 300


@dataclass(frozen=True, eq=False)
class Copy:
    """What optuna-dashboard is to show.

    Attributes:
        storage: In memory, with the copy of the study and nothing else.
        study: The copy; its trials have their numbers.
        artifacts: The files that stand beside its trials.
        notes: Markdown by the number of a trial; that of the study by None.
    """

    storage: InMemoryStorage
    study: optuna.Study
    artifacts: FileSystemArtifactStore
    notes: Mapping[int | None, str]


def copied(run: Run, folder: Path) -> Copy:
    """Copy what is shown of a run.

    Args:
        run: Any run that can be opened; its study is not changed.
        folder: An empty folder, for the files beside the trials.
    """
    for part in ("artifacts", "made"):
        (folder / part).mkdir()
    artifacts = FileSystemArtifactStore(base_path=folder / "artifacts")
    storage, best = InMemoryStorage(), front(run.study)
    study = optuna.create_study(
        storage=storage,
        study_name=run.name,
        directions=run.study.directions,
        sampler=optuna.samplers.RandomSampler(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([_cut(name) for name in run.config.objectives])
    knee = knee_of(best) if best else None
    cards: dict[int | None, str] = {trial.number: _card(run, trial, is_knee=trial is knee) for trial in best}
    attached = {}
    for trial in best[:MOST_WITH_FILES]:
        found = list(_files(run, trial, cards[trial.number], folder / "made" / str(trial.number)))
        attached[trial.number] = _attached(found, artifacts)
    for trial in run.study.get_trials(deepcopy=False):
        study.add_trial(_shown(trial, attached.get(trial.number, {})))
    return Copy(storage, study, artifacts, {None: _of_the_study(run, best), **cards})


def write_notes(copy: Copy) -> None:
    """Put the notes into the copy of a study, as optuna-dashboard keeps them.

    Raises:
        ImportError: If it is not installed.
    """
    from optuna_dashboard import save_note  # noqa: PLC0415 - an extra

    study_id = copy.storage.get_study_id_from_name(copy.study.study_name)
    for number, text in copy.notes.items():
        if number is None:
            save_note(copy.study, text)
        else:  # it takes no finished trial as the study returns them
            trial = copy.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            save_note(optuna.trial.Trial(copy.study, trial), text)


def _shown(trial: FrozenTrial, attached: Mapping[str, Any]) -> FrozenTrial:
    """Return a trial as the page shows it; optuna-dashboard reads constraints as a list."""
    sampled = {
        name: value
        for name, value in trial.params.items()
        if len(f"{name}{value!r}{trial.distributions[name]!r}") <= LONGEST_PARAMETER
    }
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=sampled,
        distributions={name: trial.distributions[name] for name in sampled},
        user_attrs={_cut(name): _short(value) for name, value in list(trial.user_attrs.items())[:MOST_ATTRIBUTES]},
        system_attrs={"constraints": list(trial.constraints.values()), **attached},
        intermediate_values=trial.intermediate_values,
    )


def _short(value: Any) -> Any:
    """Return a number as it is, and anything else as a short text."""
    if isinstance(value, int | float):
        return value
    return _cut(value if isinstance(value, str) else json.dumps(value))


def _cut(text: str) -> str:
    return printable(text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}")


def _card(run: Run, trial: FrozenTrial, *, is_knee: bool) -> str:
    reason = "knee of the front" if is_knee else "on the front"
    return _note(report.card(run.study, Choice(trial, reason, limits_of(run.study.user_attrs)), run.config.device))


def _of_the_study(run: Run, best: Iterable[FrozenTrial]) -> str:
    """Say what the page shows, and what was set."""
    numbers = ", ".join(str(trial.number) for trial in best) or "none"
    names = dict.fromkeys(name for trial in run.study.get_trials(deepcopy=False) for name in trial.constraints)
    counts = count(run.study.get_trials(deepcopy=False))
    lines = [
        f"{counts.trained} {report.how(run.study)}, {counts}",
        f"on the front: {numbers}; each of these has a card and files",
        *([f"constraints, met where they are 0 or less: {', '.join(names)}"] if names else []),
        *report.settings_lines(run.study),
        *report.between_lines(run.study),
    ]
    about = "A copy of the study as it was when `nas dashboard` was started. Nothing on this page changes the run."
    return _note(
        "\n".join([f"# {in_markdown(run.name)}", "", about, "", *(f"- {in_markdown(line)}" for line in lines)])
    )


def _note(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else f"{text[:LONGEST_NOTE]}\n\n(cut here)"


def _files(run: Run, trial: FrozenTrial, card: str, made: Path) -> Iterator[Path]:
    """Write or find the files that stand beside a candidate: its card, and of a pick its plot and what was exported."""
    files.write_text(made / CARD, card)
    yield made / CARD
    pick = run.folder / "picks" / str(trial.number)
    if not pick.is_dir():
        return
    with suppress(ValueError, OSError):  # its device's file need not be here, nor have layers that take time
        _plot(run, trial, made / PLOT)
        yield made / PLOT
    for path in (pick / name for name in OF_A_PICK):
        # A link in somebody's run could name any file of this machine.
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_BYTES_OF_A_FILE:
            yield path


def _plot(run: Run, trial: FrozenTrial, path: Path) -> None:
    from estimators.devices.files import load_device  # noqa: PLC0415 - for picks alone
    from nas.pricing import roofline  # noqa: PLC0415 - as above

    roofline.of_network(path, run.architecture(trial), load_device(run.config.device), shipped=True)


def _attached(paths: Iterable[Path], artifacts: FileSystemArtifactStore) -> dict[str, Any]:
    """Take files into the store, and return the attributes that a trial has them by.

    Optuna gives files to trials that run. The trials of the copy are finished, so another study lends it one.
    """
    holder = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    trial = holder.ask()
    for path in paths:
        upload_artifact(artifact_store=artifacts, file_path=str(path), study_or_trial=trial)
    attributes: dict[str, Any] = holder.get_trials(deepcopy=False)[0].system_attrs
    return attributes
