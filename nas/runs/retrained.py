"""Train a picked candidate anew on all records but the reserve and the test records, beside the pick.

What was measured of the pick says nothing about the network that this gives: its members are other records, and there
is no record left that it was not trained on and that the search may open. So it has weights of its own, with a digest
of their own, and every place that names it says what does not hold for it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from nas.base import files
from nas.base import processes
from nas.base.weights import write_weights
from nas.preprocessing.stored import PREPROCESSING
from nas.records import groups_of
from nas.runs.run import Run
from nas.search.bench import train_line
from nas.search.parents import line_of
from nas.search.schema import WEIGHTS
from nas.training import certificate

RETRAINED_ON = "retrained_on"
"""Key of a retrained pick's `architecture.json`: the record sets it was trained on, and how many records they hold."""
TRAINED_ON = ("members", "non_members", "validation")
VOID = (
    "this network was trained anew on members, non-members and validation records: the error and the leakage of the "
    "search and every audit belong to the other network, the pick; the test records were not used"
)


@dataclass(frozen=True)
class Retrained:
    """A pick that was trained anew.

    Attributes:
        folder: Where its files are; `nas export` takes it like a pick's.
        records: Records that it was trained on.
        weights_sha256: SHA-256 of its weights' file.
        guarantee: What its defence states for this training, by name; empty if it states nothing.
        void: What does not hold for it.
    """

    folder: Path
    records: int
    weights_sha256: str
    guarantee: dict[str, float]
    void: str = VOID


def write(run: Run, trial: FrozenTrial, pick: Path) -> Retrained:
    """Train a picked candidate on members, non-members and validation records and write it beside the pick.

    The recipe, the defence and its parameters are the candidate's own; the seed comes from its key. Where it started
    from weights of other candidates, those are trained anew too, on the same records. The files are those of a pick, in
    a folder with `-all` behind the candidate's number.

    Args:
        run: The run.
        trial: The candidate.
        pick: The folder that `nas.runs.picks.write` wrote.

    Raises:
        ValueError: If the run's data, device or program are not those of the search, or the training diverged.
    """
    plan = run.plan
    parts = [getattr(plan.data, name) for name in TRAINED_ON]
    features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    line = [plan.candidate(one.params) for one in line_of(run.study, trial)]
    with processes.one_thread():
        setup, network = train_line(plan, line, features, labels, *TRAINED_ON, groups=groups_of(parts))
    target = pick.with_name(f"{pick.name}-all")
    digest = write_weights(target / "weights.safetensors", network)
    told = files.read_json(pick / "architecture.json")
    trained_on = {"sets": list(TRAINED_ON), "records": len(labels)}
    files.write_json(target / "architecture.json", {**told, WEIGHTS: digest, RETRAINED_ON: trained_on})
    shutil.copy(pick / PREPROCESSING, target / PREPROCESSING)
    found = Retrained(target, len(labels), digest, dict(setup.guarantee))
    files.write_text(target / "card.md", _card(run, trial, found))
    return found


def _card(run: Run, trial: FrozenTrial, found: Retrained) -> str:
    lines = [
        f"# Candidate {trial.number} of {run.name}, trained anew on all records",
        "",
        f"{found.void[0].upper()}{found.void[1:]}.",
        "",
        f"- candidate `{trial.user_attrs['key']}`, the same recipe and defence as the pick in `../{trial.number}`",
        f"- {found.records:,} records: {', '.join(name.replace('_', '-') for name in TRAINED_ON)}",
        f"- SHA-256 of the weights: `{found.weights_sha256}`",
        *(f"- the defence states {name} = {value:.6g} for this training" for name, value in found.guarantee.items()),
        *certificate.markdown(certificate.stated(found.guarantee)),
        "",
        "Costs are those of the pick: they depend on the architecture alone. Error and leakage are not known. To quote",
        "them, audit this network's outputs on records of your own that it was not trained on (`nas audit FILE`).",
        "",
    ]
    return "\n".join(lines)
