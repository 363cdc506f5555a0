"""Whose weights a candidate starts from (`--inherit parents`), and the line of its forebears.

A candidate's parent is the trained candidate of the same run, with the same defence, that has most to give: whose
weights make the largest share of its own (`search_spaces.graph.descent`), at least `LEAST`. Of equals it is the one
whose weights have seen the members for fewer epochs, then the earlier one. Both must be trained in one stage.

Which candidates are there depends on how fast other workers are, so the parent is written down in the trial before the
training begins, and whoever trains the candidate again follows that. Inherited weights have learned from the members
for longer than the recipe says. The trial counts these epochs, and an audit trains the shadow models of the whole line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.base import files
from nas.base.weights import read_weights
from nas.search.plan import Plan
from nas.search.schema import WEIGHTS
from nas.search.schema import Inherited
from nas.search.schema import inherited_in
from nas.search.storage import weights_path
from nas.training.assess import Begin
from nas.training.assess import Candidate
from nas.training.assess import may_inherit
from nas.training.inheritance import started
from nas.training.inheritance import why_fresh
from nas.training.loop import TrainSetup
from nas.training.stages import epochs_of
from search_spaces.graph.descent import descent_of

LEAST = 0.5
"""The share of a candidate's weights that a parent has to give: for less, an audit of another training is too much."""


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        row: What its trial keeps of that.
        begin: Gives it the weights; None: it has fresh ones.
    """

    row: Inherited
    begin: Begin | None


def start_of(
    plan: Plan, study: optuna.Study, candidate: Candidate, setup: TrainSetup, known: Inherited | None
) -> Start:
    """Decide whose weights a candidate starts from.

    Args:
        plan: The search.
        study: Its study.
        candidate: What is to be trained.
        setup: Its training, with its defence.
        known: What was decided before its training broke off; it stays, unless the weights are on another machine.
    """
    epochs = epochs_of(candidate.architecture, candidate.recipe)
    reason = why_fresh(setup, len(plan.data.members))
    if not may_inherit(candidate):
        reason = "its network is trained in several stages"
    if reason is not None:
        return _fresh(reason, epochs)
    if known is not None and known.parent is None:
        return Start(known, None)
    could = _by_share(plan, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), candidate)
    if known is not None:
        could.sort(key=lambda one: one[1].number != known.parent)
    for share, trial, parent in could:
        path = weights_path(plan.folder, parent.key)
        if path.exists() and files.digest_of(path) == trial.user_attrs.get(WEIGHTS):  # else on another machine
            row = Inherited(parent=trial.number, because=None, share=share, epochs_seen=epochs + _seen(trial, parent))
            return Start(row, partial(started, parent=parent.architecture, weights=read_weights(path)))
    return _fresh(f"no earlier candidate could give {LEAST:.0%} of its weights", epochs)


def line_of(study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Return a candidate and those whose weights it started from, the oldest first.

    Raises:
        ValueError: If the study names a parent that was not trained before, or that comes twice.
    """
    trials, line = study.get_trials(deepcopy=False), [trial]
    while (found := inherited_in(line[0].user_attrs)) is not None and found.parent is not None:
        parent = trials[found.parent] if found.parent < len(trials) else None
        if parent is None or parent.state != TrialState.COMPLETE or parent.number in {one.number for one in line}:
            raise ValueError(
                f"expected a trained candidate as the parent of candidate {line[0].number} of {study.study_name!r}; "
                f"got {found.parent}"
            )
        line.insert(0, parent)
    return line


def _fresh(reason: str, epochs: int) -> Start:
    return Start(Inherited(parent=None, because=reason, share=0.0, epochs_seen=epochs), None)


def _seen(trial: FrozenTrial, parent: Candidate) -> int:
    """Return for how many epochs a candidate's weights have learned from the members."""
    found = inherited_in(trial.user_attrs)
    return epochs_of(parent.architecture, parent.recipe) if found is None else found.epochs_seen


def _by_share(
    plan: Plan, trials: list[FrozenTrial], candidate: Candidate
) -> list[tuple[float, FrozenTrial, Candidate]]:
    """List the candidates that could be a parent, and the share of the weights that each gives; the best first."""
    found = []
    for trial in trials:
        parent = plan.candidate(trial.params)
        if parent.defence == candidate.defence and may_inherit(parent):
            share = descent_of(candidate.architecture, parent.architecture).share
            found.append((share, trial, parent))
    could = [one for one in found if one[0] >= LEAST]
    return sorted(could, key=lambda one: (-one[0], _seen(one[1], one[2]), one[1].number))
