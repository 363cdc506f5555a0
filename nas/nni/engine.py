"""The search through NNI, in this process: an NNI strategy driven by the study on NNI's sequential engine.

NNI opens no port and starts no process here.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import ModuleType

import optuna

from nas.base import files
from nas.base import locks
from nas.base.clock import Clock
from nas.base.clock import since_start
from nas.nni.check import check
from nas.search.plan import Plan
from nas.search.study import open_bench


def work(plan: Plan, study: optuna.Study) -> None:
    """Search until the study has its trials, as `nas.search.study.work` does, each candidate trained by NNI's engine.

    Args:
        plan: The resolved settings.
        study: The study, shared with other workers.

    Raises:
        ValueError: If NNI cannot run here.
    """
    check()
    clock = Clock({"start-up": since_start()})
    bench = open_bench(plan, study)
    clock.lap("bank")
    strategy = import_strategy(plan.cache_folder)
    clock.lap("nni")
    strategy.explore(plan, study, bench, clock)


def import_strategy(folder: Path) -> ModuleType:
    """Import `nas.nni.strategy` and with it NNI, one process at a time.

    NNI writes into its own package when it is first imported, and warns of a PyTorch newer than itself. Without a
    framework of its own it does not ask for PyTorch Lightning.

    Args:
        folder: Where to lock out other processes.
    """
    files.private_folder(folder)
    with locks.held(folder / "nni.lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("nni").set_default_framework("none")
        return importlib.import_module("nas.nni.strategy")
