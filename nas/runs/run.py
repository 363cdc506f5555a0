"""A run as one object: its folder, its settings, its study, and the one way to open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from functools import cached_property
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from nas.base import files
from nas.base import plugins
from nas.base import processes
from nas.preprocessing.columns import transformed
from nas.records import SETS
from nas.records import Records
from nas.records import Splits
from nas.records import load_records
from nas.records import places
from nas.records import split
from nas.runs.report import architecture_of
from nas.runs.report import defence_of
from nas.runs.report import parameters_of
from nas.runs.report import space_of
from nas.search.config import TABLE
from nas.search.config import SearchConfig
from nas.search.config import modules_in
from nas.search.config import nothing_trained
from nas.search.config import stored_config
from nas.search.schema import WEIGHTS
from nas.search.storage import CONFIG
from nas.search.storage import ORIGIN
from nas.search.storage import check_origin
from nas.search.storage import find_study
from nas.search.storage import folder_of
from nas.search.storage import weights_path
from search_spaces.graph.architecture import Architecture

if TYPE_CHECKING:
    from nas.search.plan import Plan
    from nas.training.assess import Begin
    from search_spaces.network import Network


@dataclass(frozen=True, eq=False)
class Run:
    """A run that `open_run` opened.

    Reading its numbers needs no more than the study. Whatever trains, attacks or ships for it needs its `plan` or its
    `weights`, and these refuse a program, a device or data that are not those of the search, and weights that are not
    those that were measured. What trains is imported by these alone, so that a run is read without PyTorch.

    Attributes:
        folder: Where the run leaves its files.
        study: The Optuna study.
    """

    folder: Path
    study: optuna.Study

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @cached_property
    def config(self) -> SearchConfig:
        """The settings that the study was started with."""
        return stored_config(self.study.user_attrs[CONFIG])

    @cached_property
    def plan(self) -> Plan:
        """The run's data, loaded again, and all that its settings name.

        Raises:
            ValueError: If what decides the study's numbers is no longer what it was; each difference is named.
        """
        from nas.search.plan import resolve  # noqa: PLC0415 - as in the docstring of the class

        plugins.check_allowed(f"the study {self.name!r}", *modules_in(self.config.model_dump()))
        plan = replace(resolve(self.config, self.folder.parent), folder=self.folder)
        check_origin(plan, self.study.user_attrs)
        return plan

    @cached_property
    def data(self) -> Splits:
        """The run's five record sets, loaded again.

        Raises:
            ValueError: If they are not those that the search had.
        """
        config = self.config
        data = split(self.records, seed=config.seed, members=config.members, transform=config.transform)
        if data.fingerprint != self.study.user_attrs.get(ORIGIN, {}).get("fingerprint"):
            raise ValueError(f"expected the data of the run {self.name!r}; {config.dataset!r} now gives other records")
        return data

    @cached_property
    def records(self) -> Records:
        """The run's records, loaded again, as its user has them: not divided and not standardised."""
        plugins.check_allowed(f"the study {self.name!r}", self.config.dataset)
        return load_records(self.config.source)

    @cached_property
    def sets(self) -> Mapping[str, Records]:
        """The records of each of `nas.records.SETS`, in their order there, but not standardised.

        Numbers of a table are bent by the transforms that the members gave: as a user's table is encoded.
        """
        records, columns = self.records, self.data.preprocessing.columns
        if columns:
            records = replace(records, columns=columns, features=transformed(columns, records.features))
        chosen = places(self.records, seed=self.config.seed, members=self.config.members)
        return {name: records.select(part) for name, part in zip(SETS, chosen, strict=True)}

    def sampled(self, number: int) -> FrozenTrial:
        """Return a trial that has an architecture, trained or not.

        Raises:
            ValueError: If there is none of that number, or it was not sampled to the end.
        """
        trials = self.study.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise ValueError(f"no trial {number} in {self.name!r}; there are 0 to {len(trials) - 1}")
        if not trials[number].params.keys() >= space_of(self.study).distributions.keys():
            raise ValueError(f"trial {number} of {self.name!r} has no architecture: it was not sampled to the end")
        return trials[number]

    def trained(self, number: int) -> FrozenTrial:
        """Return the trial of a candidate that was trained to the end.

        Raises:
            ValueError: If there is none of that number.
        """
        trials = self.study.get_trials(deepcopy=False)
        there_are = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
        if number not in there_are:
            raise ValueError(f"no trained candidate {number} in {self.name!r}; there are {there_are}")
        return trials[number]

    def architecture(self, trial: FrozenTrial) -> Architecture:
        """Return the network that a trial stands for."""
        return architecture_of(self.study, trial)

    def weights(self, trial: FrozenTrial) -> Path:
        """Return the file of the weights that were measured; where it is missing, train the candidate again.

        A training repeats to the bit on the same machine, and not always on another one: the weights are taken only if
        they are those that were measured.

        Raises:
            ValueError: If the study does not know which weights were measured, the file holds others, or the candidate
                cannot be trained again to the same weights.
        """
        measured = trial.user_attrs.get(WEIGHTS)
        if measured is None:
            raise ValueError(
                f"candidate {trial.number} of {self.name!r} has no digest of the weights that were measured: it was "
                "trained by a gecko-nas before training versions; use that one, or search again under another --name"
            )
        path = weights_path(self.folder, trial.user_attrs["key"])
        if path.exists():
            if (found := files.digest_of(path)) != measured:
                raise ValueError(
                    f"expected the weights that were measured, SHA-256 {measured[:16]}, in {path}; got {found[:16]}: "
                    "put the file back, or delete it to have the candidate trained again"
                )
            return path
        from nas.search.bench import evaluate  # noqa: PLC0415 - as in `plan`
        from nas.search.bench import make_bench  # noqa: PLC0415

        candidate, begin = self.plan.candidate(trial.params), self._begin(trial)
        with processes.one_thread():
            trained = evaluate(self.plan, make_bench(self.plan), candidate, begin=begin)
        if trained.weights != measured:
            path.unlink()
            raise ValueError(
                f"the weights of candidate {trial.number} are not in {path}, and trained again they are not those that "
                "were measured: fetch the file from the machine that trained it"
            )
        return path

    def _begin(self, trial: FrozenTrial) -> Begin | None:
        """Return what gives a candidate the weights that it started from, trained again where they are missing."""
        from nas.base.weights import read_weights  # noqa: PLC0415 - as in `plan`
        from nas.search.parents import line_of  # noqa: PLC0415
        from nas.training.inheritance import started  # noqa: PLC0415

        *forebears, _ = line_of(self.study, trial)
        if not forebears:
            return None
        architecture = self.plan.candidate(forebears[-1].params).architecture
        return partial(started, parent=architecture, weights=read_weights(self.weights(forebears[-1])))

    def network(self, trial: FrozenTrial) -> Network:
        """Return a trained candidate with the weights that were measured, in eval mode.

        Raises:
            ValueError: As `weights`.
        """
        from nas.base.weights import read_weights  # noqa: PLC0415 - as in `plan`
        from nas.training.defence import deployed_network  # noqa: PLC0415

        architecture = self.architecture(trial)
        network = deployed_network(architecture, defence_of(self.study, trial), parameters_of(trial))
        weights = self.weights(trial)
        try:
            network.load_state_dict(read_weights(weights))
        except RuntimeError:
            raise ValueError(f"expected the weights of candidate {trial.number} in {weights}; got others") from None
        return network.eval()


def open_trained(run: str, runs: Path, storage: str | None = None) -> Run:
    """Open a run, as `open_run`, for what needs its records or its weights.

    Raises:
        ValueError: As `open_run`, and if a table gave the run's figures.
    """
    opened = open_run(run, runs, storage)
    if opened.config.evaluator == TABLE:
        raise nothing_trained(opened.config)
    return opened


def open_run(run: str, runs: Path, storage: str | None = None) -> Run:
    """Open a run by its name or its folder, from its own storage or the one given.

    Args:
        run: Name, or path of its folder.
        runs: Folder of all runs.
        storage: Optuna storage URL, where the run's folder is not here or names another one.

    Raises:
        ValueError: If there is no such run, or its study cannot be read.
    """
    return Run(folder_of(run, runs), find_study(run, runs, storage))
