"""One training under NNI: `python -m nas.nni.trial`, started by NNI in the folder that holds the settings.

The modules of the user's own that it may import are its arguments: on another machine it has no environment of theirs.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nni
import psutil
import torch

from nas.base import memory
from nas.base import plugins
from nas.base import processes
from nas.nni import job
from nas.nni.measure import DIED
from nas.nni.measure import DIVERGED
from nas.nni.measure import FAILED
from nas.nni.measure import OUT_OF_MEMORY
from nas.nni.measure import SECONDS
from nas.nni.measure import result_of
from nas.search.bench import make_bench
from nas.search.plan import Plan
from nas.training.loop import Diverged
from search_spaces.graph.architecture import Params


def main() -> None:
    """Train what NNI hands over, and report every number to it, or why there is none.

    What is not the machine's fault would happen again, so it is reported too, before it ends this process. So is a
    shortage of memory: the search counts them.
    """
    torch.set_num_threads(1)
    plugins.trust(*sys.argv[1:])
    plan = job.read(Path(job.SETTINGS))
    params = nni.get_next_parameter()
    try:
        numbers = result(plan, params)
    except BaseException as error:
        if memory.is_shortage(error):
            nni.report_final_result({OUT_OF_MEMORY: memory.reason(error)})
        elif not isinstance(error, OSError | KeyboardInterrupt | SystemExit):
            nni.report_final_result({FAILED: f"{type(error).__name__}: {error}"})
        raise
    nni.report_final_result(numbers)


def result(plan: Plan, params: Params) -> Mapping[str, Any]:
    """Return all numbers of a candidate, or why its training broke off."""
    bench = make_bench(plan)
    start_up = time.time() - psutil.Process().create_time()
    try:
        return {**result_of(plan, bench, plan.candidate(params)), f"{SECONDS}start-up": start_up}
    except Diverged as error:
        return {DIVERGED: str(error)}


def watch() -> None:
    """Run `main` in a process of its own, and report the signal that it dies of: the search counts these, too."""
    if not hasattr(os, "fork"):
        main()
        return
    child = multiprocessing.get_context("fork").Process(target=_main_in_child)
    child.start()
    child.join()
    if (name := processes.signal_of(child.exitcode)) not in processes.DEADLY:
        sys.exit(1 if child.exitcode else 0)
    nni.get_next_parameter()  # the child's own, which NNI wants to be asked for before a report
    nni.report_final_result({DIED: name})


def _main_in_child() -> None:
    processes.begin()
    main()


if __name__ == "__main__":
    watch()
