"""The search through NNI, in this process: an NNI strategy driven by the study on NNI's sequential engine.

NNI opens no port and starts no process here.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import optuna

from nas.base import files
from nas.base.clock import Clock
from nas.base.clock import since_start
from nas.nni.check import check
from nas.nni.importing import imported
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

    Args:
        folder: Where to lock out other processes.
    """
    files.private_folder(folder)
    return imported("nas.nni.strategy", folder / "nni.lock")
