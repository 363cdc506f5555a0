"""Write a chosen candidate, its architecture, its weights and a card, and read it again."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from nas.base import files
from nas.runs import report
from nas.runs.pareto import Choice
from nas.search.bench import evaluate
from nas.search.bench import make_bench
from nas.search.bench import weights_path
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import CONFIG
from nas.search.storage import TASK


def write(study: optuna.Study, choice: Choice, folder: Path) -> Path:
    """Write `architecture.json`, `weights.safetensors` and `card.md` under the run's folder.

    Weights that another machine trained are not here; the candidate is then trained again from its own seed.

    Returns:
        The folder written.

    Raises:
        ValueError: If the weights are not here and the data or the program are no longer those of the search.
    """
    trial = choice.trial
    config = parse_config(study.user_attrs[CONFIG])
    target = folder / "picks" / str(trial.number)
    architecture = report.architecture_of(study, trial)
    weights = weights_of(study, trial, folder)
    task = {name: study.user_attrs[TASK][name] for name in ("input_shape", "num_classes")}
    described = {"space": config.space, **task, "params": dict(architecture.params)}
    defence = {"defence": report.defence_of(study, trial), "defence_parameters": report.parameters_of(trial)}
    with weights.open("rb") as stream:
        files.write(target / "weights.safetensors", lambda out: shutil.copyfileobj(stream, out))
    files.write_json(target / "architecture.json", {**described, "key": architecture.key, **defence})
    files.write_text(target / "card.md", report.card(study, trial, choice.reason, config.device))
    return target


def weights_of(study: optuna.Study, trial: FrozenTrial, folder: Path) -> Path:
    """Return the file of a trained candidate's weights; where another machine trained it, train it again.

    Args:
        study: The run's.
        trial: The candidate's.
        folder: The run's.

    Raises:
        ValueError: If the weights are not here and the data or the program are no longer those of the search.
    """
    key = trial.user_attrs["key"]
    path = weights_path(folder, key)
    if path.exists():
        return path
    plan = resolve(parse_config(study.user_attrs[CONFIG]), folder.parent)
    candidate = plan.candidate(trial.params)
    if plan.data.fingerprint != study.user_attrs[TASK]["fingerprint"] or candidate.key != key:
        raise ValueError(f"expected the weights in {path}; they cannot be trained again: other data or another version")
    evaluate(plan, make_bench(plan), candidate)
    return weights_path(plan.folder, key)
