"""Searches small enough for tests, and ways to look at them."""

import hashlib
import textwrap
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch

from estimators.estimate import Estimate
from nas.search import study as search
from nas.search.bench import Evaluated
from nas.search.config import SearchConfig
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_storage
from nas.search.storage import open_study
from nas.training.measures import MEASURED

# The command line's own small search.
SMALL = (
    "--space",
    "mlp",
    "--members",
    "120",
    "--references",
    "2",
    "--trials",
    "5",
    "--epochs",
    "3",
    "--workers",
    "1",
    "--confirm",
    "0",
    "--no-error-ceiling",
)

# A space of three networks, as a module of the user's own.
TINY_SPACE = textwrap.dedent(
    '''
    """Three networks."""

    from optuna.distributions import CategoricalDistribution

    from search_spaces.graph.builder import GraphBuilder
    from search_spaces.space import SearchSpace


    def make_space(input_shape, num_classes):
        def describe(params):
            graph = GraphBuilder(input_shape)
            graph.linear(graph.activation(graph.linear(graph.flatten(0), params["width"])), num_classes)
            return graph.architecture("tiny_space", params)

        distributions = {"width": CategoricalDistribution([8, 16, 24])}
        return SearchSpace("tiny_space", input_shape, num_classes, distributions, describe, {"width": 8})
    '''
)


# What stands for a bench where nothing is trained: nothing was learned of how far trainings lie apart.
NO_BENCH = SimpleNamespace(spreads={})


def snapshot(folder):
    """Every file with its content. The folders of a run and of its locks may be there, empty."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def settings(**changes) -> SearchConfig:
    values = {
        "name": "small",
        "space": "mlp",
        "members": 120,
        "references": 2,
        "trials": 4,
        "workers": 1,
        "recipe": {"epochs": 2},
        "confirm": 0,
        "error_ceiling": False,  # two epochs train nothing well, and made-up errors follow no data
        **changes,
    }
    return parse_config(values)


def planned(runs: Path, **changes) -> Plan:
    return resolve(settings(**changes), runs)


def elsewhere(plan: Plan, folder: Path) -> Plan:
    """The same search with its files in another folder: saves loading the data again."""
    return replace(plan, folder=folder)


def with_settings(plan: Plan, **changes) -> Plan:
    return replace(plan, config=plan.config.model_copy(update=changes))


def tiny_space(folder: Path) -> str:
    """Write the space of three networks into a folder and return its dotted name; the folder must be on the path."""
    (folder / "tiny_spaces").mkdir()
    (folder / "tiny_spaces" / "three.py").write_text(TINY_SPACE)
    return "tiny_spaces.three"


def measures_of(key: str) -> dict[str, Estimate]:
    """Numbers between 0 and 1 that depend on a candidate alone, in place of a training."""
    estimates = {}
    for name in MEASURED:
        digest = hashlib.sha256(f"{name} {key}".encode()).digest()
        estimates[name] = Estimate(digest[0] / 255, 0.0, 1.0)
    return estimates


def evaluated(key: str, **measures: Estimate) -> Evaluated:
    """What a training leaves, made from the key, in place of one."""
    return Evaluated({**measures_of(key), **measures}, {"training": 0.0}, hashlib.sha256(key.encode()).hexdigest())


def without_training(monkeypatch) -> list[str]:
    """Replace trainings by numbers made from the key; returns the keys as they are asked for."""
    asked: list[str] = []

    def evaluate(_plan, _bench, candidate):
        asked.append(candidate.key)
        return evaluated(candidate.key)

    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    monkeypatch.setattr("nas.search.study.make_bench", lambda plan: NO_BENCH)
    return asked


def run_here(plan: Plan):
    """Run a search in this process, as a worker does, and return its study, freshly opened."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        search.work(plan, open_study(plan))
    finally:
        torch.set_num_threads(threads)
    return open_study(plan)


def record_of(study) -> list[dict]:
    """All that must be equal between a search that was killed and one that was not: everything but time and place."""
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "params": trial.params,
            "distributions": trial.distributions,
            "values": trial.values,
            "user_attrs": {name: value for name, value in trial.user_attrs.items() if name != "host"},
            "constraints": trial.constraints,
            "intermediate": trial.intermediate_values,
            "finished": (trial.datetime_complete or trial.datetime_start) - trial.datetime_start >= timedelta(0),
        }
        for trial in study.get_trials()
    ]


def opened_at_once(url, folder, count=8):
    """Open one storage in several threads at the same moment, and return what studies each found."""
    start, found = threading.Barrier(count), []

    def open_it():
        start.wait()
        found.append(open_storage(url, folder).get_all_studies())

    threads = [threading.Thread(target=open_it) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
