"""Write a chosen candidate: its architecture, the weights that were measured, and a card."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.base import files
from nas.preprocessing.stored import PREPROCESSING
from nas.preprocessing.stored import to_json
from nas.runs import on_test
from nas.runs import report
from nas.runs.front_and_knee import Choice
from nas.runs.run import Run
from nas.search.schema import COMPRESSIONS
from nas.search.schema import FLOAT_BECOMES_BITS
from nas.search.schema import TRAINED_BY
from nas.search.schema import WEIGHTS
from nas.search.schema import bits_of_float
from nas.search.schema import training_version_of
from nas.search.storage import TASK


def write(run: Run, choice: Choice) -> Path:
    """Write `architecture.json`, `weights.safetensors`, `preprocessing.json` and `card.md` under the run's folder.

    The card has the error on test records, which is measured now unless it is known.

    Weights that another machine trained may not be here; the candidate is then trained again from its own seed.

    Returns:
        The folder written.

    Raises:
        ValueError: If the weights that were measured are not here and cannot be trained again, or the data are not
            those of the search.
    """
    trial, study = choice.trial, run.study
    weights = run.weights(trial)
    behind = run.data.preprocessing
    target = run.folder / "picks" / str(trial.number)
    architecture = run.architecture(trial)
    task = {name: study.user_attrs[TASK][name] for name in ("input_shape", "num_classes")}
    task[TRAINED_BY] = training_version_of(study.user_attrs)
    if (bits := bits_of_float(study.user_attrs)) is not None:
        task[FLOAT_BECOMES_BITS] = bits
    if run.config.compressions:
        task[COMPRESSIONS] = list(run.config.compressions)
    described = {"space": run.config.space, **task, "params": dict(architecture.params), "key": architecture.key}
    defence = {"defence": report.defence_of(study, trial), "defence_parameters": report.parameters_of(trial)}
    with weights.open("rb") as stream:
        files.write(target / "weights.safetensors", lambda out: shutil.copyfileobj(stream, out))
    files.write_json(target / "architecture.json", {**described, **defence, WEIGHTS: trial.user_attrs[WEIGHTS]})
    files.write_text(target / PREPROCESSING, to_json(behind))
    on_test.measured(run, trial)
    card = report.card(study, choice, run.config.device)
    files.write_text(target / "card.md", "\n".join([card, *report.how_to_ask(behind)]))
    return target
