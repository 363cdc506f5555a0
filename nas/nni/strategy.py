"""The search as an NNI strategy on an NNI model space. Imports NNI: only `nas.nni.engine` imports this."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import nni
import optuna
from nni.mutable import MutableDict
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from nni.nas.strategy import Strategy

from nas.base import files
from nas.base import memory
from nas.base.clock import Clock
from nas.nni.measure import evaluated_in
from nas.nni.measure import result_of
from nas.nni.measure import seconds_in
from nas.nni.mutables import mutables
from nas.search.plan import Plan
from nas.search.study import OutOfMemory
from nas.search.study import failing
from nas.search.study import proposals
from nas.search.study import record
from nas.search.study import reject
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.loop import Diverged


class CandidateSpace(MutableDict):  # type: ignore[misc] # NNI has no types
    """The plan's space as an NNI model space: freezing it at a sample gives the candidate."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(mutables(plan.distributions))
        self._plan = plan

    def freeze(self, sample: Mapping[str, Any]) -> Candidate:
        """Return the candidate at a sample, which NNI validates."""
        return self._plan.candidate(super().freeze(sample))


class StudyStrategy(Strategy):  # type: ignore[misc] # NNI has no types
    """Explore a model space as an Optuna study says, and tell the study what NNI's engine measured."""

    def __init__(self, plan: Plan, study: optuna.Study, clock: Clock) -> None:
        super().__init__()
        self._plan = plan
        self._study = study
        self._clock = clock

    def list_models(self, sort: bool = True, limit: int | None = None) -> Iterator[RawFormatModelSpace]:
        """List the models; sorted: those with a result, the lowest `default` first. NNI would take the highest."""
        models = list(super().list_models(sort=False))
        if sort:
            models = sorted((model for model in models if model.metric), key=lambda model: model.metric["default"])
        yield from models[:limit]

    def _run(self) -> None:
        for proposal in proposals(self._plan, self._study):
            self._clock.lap("sampling and screening")
            model = self.model_space.freeze(proposal.trial.params)
            model.metrics.strict = False  # keep every number of the result, not only `default`
            try:
                with failing(self._study, proposal):
                    self.engine.submit_models(model)
            except Diverged as error:
                self._clock.lap("training")
                reject(self._study, proposal, f"diverged: {error}")
            except OutOfMemory:
                self._clock.lap("training")
                memory.free()
            else:
                self._clock.lap("nni", seconds_in(model.metric))
                record(self._plan, self._study, proposal, evaluated_in(model.metric))
                self._clock.lap("storage")
            files.append_json(self._plan.timings, self._clock.line(proposal.trial.number))
        self._clock.lap("sampling and screening")
        files.append_json(self._plan.timings, self._clock.line(None))


def explore(plan: Plan, study: optuna.Study, bench: Bench, clock: Clock) -> StudyStrategy:
    """Let NNI's sequential engine train what the study proposes, in this process.

    Returns:
        The strategy, which lists the models NNI trained with their samples and metrics.
    """
    nni.silence_stdout()

    def evaluate(candidate: Candidate) -> None:
        nni.report_final_result(result_of(plan, bench, candidate))

    strategy = StudyStrategy(plan, study, clock)
    strategy(RawFormatModelSpace(CandidateSpace(plan), FunctionalEvaluator(evaluate)), SequentialExecutionEngine())
    return strategy
