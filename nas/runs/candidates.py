"""The trained candidates of a study as one table: what each was made of, what it measures, where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from estimators.estimate import Estimate
from estimators.estimate import number_in
from nas.base.plugins import parts_of
from nas.base.plugins import short_name
from nas.base.text import with_parameters
from nas.pricing.report import bits_of
from nas.pricing.report import compressions_of
from nas.runs import by_class
from nas.runs.confirmed import trainings_of
from nas.runs.confirmed import with_confirmed
from nas.runs.front_and_knee import front
from nas.runs.front_and_knee import is_metric
from nas.runs.front_and_knee import told
from nas.runs.report import COLUMNS
from nas.runs.report import defence_of
from nas.runs.report import parameters_of
from nas.runs.report import space_of
from nas.search.schema import limits_of
from nas.search.schema import training_version_of
from nas.search.storage import CONFIG
from nas.spaces import with_ternary
from nas.training.by_class import CLASS_ERROR
from nas.training.measures import MEASURED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.operators import WEIGHTED

MOST_METRICS = 24
"""So many metrics of a study are looked at; others may have added any number of theirs to it."""
LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class Candidate:
    """One trained candidate.

    Attributes:
        number: Of its trial.
        numbers: Its metrics by name, each with its interval.
        architecture: Its network.
        defence: Name of its defence.
        defence_parameters: The parameters that the defence had, fixed and sampled.
        params: All that was sampled for it.
        over: The limits of the search that it exceeds, a sentence each; empty if it is within all.
        is_best: Whether it is on the front.
        trainings: Over how many further trainings its numbers are means; 0: they are of the one it was chosen by.
    """

    number: int
    numbers: Mapping[str, Estimate]
    architecture: Architecture
    defence: str
    defence_parameters: Mapping[str, ParamValue]
    params: Mapping[str, ParamValue]
    over: tuple[str, ...]
    is_best: bool
    trainings: int = 0

    @property
    def bits(self) -> str:
        """The bit-widths of its weights and tensors, layer by layer."""
        return bits_of(self.architecture)

    @property
    def compressions(self) -> list[str]:
        """What was taken from its network, in a few words each."""
        return compressions_of(self.architecture)

    @property
    def short_defence(self) -> str:
        """Its defence, the parts of a combination by their last names."""
        return "+".join(map(short_name, parts_of(self.defence)))

    @property
    def whole_defence(self) -> str:
        """Its defence with its parameters."""
        return with_parameters(self.short_defence, self.defence_parameters)

    @cached_property
    def mean_weight_bits(self) -> float:
        """Bits of a weight, on average over all weights."""
        return self._mean([float(op.weight_bits) for op in self._layers])

    @cached_property
    def zeros(self) -> float:
        """Share of its weights that are zero."""
        return self._mean([op.sparsity for op in self._layers])

    @property
    def early_exits(self) -> int:
        """How many exits it has before the last."""
        return len(self.architecture.outputs) - 1

    @property
    def _layers(self) -> list[Op]:
        return [op for op in self.architecture.ops if op.kind in WEIGHTED]

    def _mean(self, values: Sequence[float]) -> float:
        """Return the mean over all weights of what their layers have."""
        ops = self.architecture.ops
        counts = [weights_of(op, ops[op.inputs[0]].shape[0]) for op in self._layers]
        return float(np.average(values, weights=counts)) if sum(counts) else 0.0


@dataclass(frozen=True, eq=False)
class Candidates:
    """All trained candidates of a study, by number.

    Attributes:
        study: Name of the study.
        objectives: What the search minimised: metrics, or ends of their intervals.
        metrics: What every one of them has, the objectives first, costs before the other measures.
        rows: The candidates.
    """

    study: str
    objectives: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Candidate, ...]

    @property
    def best(self) -> list[Candidate]:
        """Those on the front, by the first objective."""
        best = [row for row in self.rows if row.is_best]
        return sorted(best, key=lambda row: [row.numbers[name].value for name in self.objectives])

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return a metric of all candidates, `(candidates,)`."""
        return np.array([row.numbers[metric].value for row in self.rows], dtype=np.float64)


def candidates_of(study: optuna.Study) -> Candidates:
    """Read all trained candidates of a study, confirmed ones by their means; nothing is trained."""
    trials = with_confirmed(study, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    objectives = tuple(study.user_attrs[CONFIG]["objectives"])
    metrics = _metrics(trials, objectives)
    best = {trial.number for trial in front(study)}
    limits, space, version = limits_of(study.user_attrs), space_of(study), training_version_of(study.user_attrs)

    def described(trial: FrozenTrial) -> Candidate:
        params = {name: trial.params[name] for name in space.distributions if name in trial.params}
        return Candidate(
            number=trial.number,
            numbers=numbers_of(study, trial, metrics),
            architecture=space.decode(with_ternary(params, version)),
            defence=defence_of(study, trial),
            defence_parameters=parameters_of(trial),
            params=trial.params,
            over=told(study, trial, limits),
            is_best=trial.number in best,
            trainings=trainings_of(trial),
        )

    return Candidates(study.study_name, objectives, metrics, tuple(map(described, trials)))


def numbers_of(study: optuna.Study, trial: FrozenTrial, metrics: Iterable[str]) -> dict[str, Estimate]:
    """Return metrics of a candidate, each with its interval: the one place where figures and the page read them.

    An objective may be an end of an interval, which has none of its own.
    """
    known = trial.user_attrs
    return {
        name: by_class.estimate_of(study, trial, name) if name in known else Estimate.exact(number_in(known, name))
        for name in metrics
    }


def _metrics(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> tuple[str, ...]:
    """Return what all candidates have: objectives, then what tables show, then other measures and costs."""
    if not trials:
        return tuple(objectives)
    shared = set.intersection(*({*trial.user_attrs} for trial in trials))
    named = [name for name in trials[0].user_attrs if name in shared and len(name) <= LONGEST_NAME]
    known = [name for name in named if is_metric(trials[0], name)]
    first = [name for name in (*COLUMNS, *MEASURED) if name in known]
    rest = [name for name in known if not name.startswith(CLASS_ERROR)]
    return tuple(dict.fromkeys([*objectives, *first, *rest]))[:MOST_METRICS]
