"""Samplers side by side on tables: how much of the true front each finds, in how many evaluations, and its time.

Tables: the 15,625 cells of NAS-Bench-201, with the error on CIFAR-100 after 12 epochs and the latency measured on a
Raspberry Pi 4, a Xeon, a Pixel 3 and a GPU (Titan RTX, batches of 256); and the 6,561 networks of NAS-Bench-Macro, with
three objectives: the published error, the parameters, and the latency on a Raspberry Pi 4 by our own estimate.

Samplers of `nas` run by their names. Peers: Optuna's TPE as Optuna has it, one parameter at a time (`tpe` of `nas` is
its multivariate one), its NSGA-II with a population of 50 (`nsga2` of `nas` has 20), pymoo's NSGA-II, and NNI's
regularised evolution (`RegularizedEvolutionTuner`, the one that runs without NNI's engine) on the sum of all
objectives, each scaled to the range of the table. Both have a population of 20. `gp` ends at 100 evaluations, because
its ask takes longest.

An evaluation is a network that was looked up for the first time. One that was looked up before costs nothing, for every
sampler: those of Optuna are told that it was pruned, as `nas` tells it, the others the same figures again. Whoever asks
for 500 such networks in a row has come to an end.

The hypervolume is that of all objectives, scaled to the range of the table, below the worst of each; the share is that
of the true front. Medians over the seeds; standard errors of a median are those of 500 bootstrap samples. The time of
an ask is CPU time on one thread: the median of the last 20 asks of a search of 1,000 trials on the first table.

    pip install --target peers pymoo==0.6.2          # in a folder of its own; it comes after all that is installed
    python benchmarks/search_efficiency.py --peers peers    # hours on two cores; one that was stopped goes on
    python benchmarks/search_efficiency.py --table raspi4   # one table alone
    python benchmarks/search_efficiency.py --short          # 2 seeds, 50 evaluations of 625 cells, few samplers

What was found lies in `gecko-nas-benchmarks/search_efficiency` in the folder for temporary files. Delete it when a
sampler has changed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache
from functools import partial
from pathlib import Path
from typing import Any
from typing import TypeAlias

import numpy as np
import optuna
import pandas as pd
import torch
from nb201_table import NB201
from nb201_table import write_table
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import NSGAIISampler
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from report import write_results
from shared_data import SHARED

from estimators.cost import latency_ms
from estimators.devices.files import load_device
from nas.base import files
from nas.base import plugins
from nas.base import processes
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.samplers.cost_aware import CostAwareSampler
from nas.search.sampling import make_sampler
from nas.search.sampling import suggest
from nas.search.surrogate.known import Known
from nas.search.surrogate.known import looking
from search_spaces import mobile

CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / "search_efficiency"
MACRO = SHARED / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
OF_NB201 = {"raspi4": "raspi4", "xeon": "gold_6226", "pixel3": "pixel3", "gpu": "titan_rtx_256"}
"""By table: the column of the latencies."""
MACRO_TABLE, SHORT_TABLE = "macro", "raspi4, 625 cells"
SHORT_SET = {"edge_0_2": "skip_connect", "edge_0_3": "none"}
OURS, GP = "cost_aware", "gp"
SEEDS, BUDGETS, GP_BUDGET = 10, (25, 50, 100, 200, 400), 100
TRIALS, LAST = 1000, 20
"""Trials of a search whose last asks are timed, and how many of them."""
REPEATS_IN_A_ROW = 500
POPULATION, TOURNAMENT = 20, 5
"""Of peers: as `nsga2` of `nas`, and how many of NNI's population compete."""
BOOTSTRAP = 500
GOALS = {25: 0.98, 50: 0.995, 100: 0.998}
"""Shares to reach on the Raspberry Pi, by evaluations."""
GOAL_MS = 50.0
Numbers: TypeAlias = NDArray[np.float64]
Point: TypeAlias = Mapping[str, Any]
Asking: TypeAlias = Generator[dict[str, Any], tuple[list[float], bool], None]
"""Yields points; is sent the values of each and whether they were looked up for the first time."""


@dataclass(frozen=True, eq=False)
class Task:
    """A table to search.

    Attributes:
        name: Its name.
        plan: A search in it, of any sampler and seed.
        best: `(objectives,)`: the lowest values of the table.
        worst: `(objectives,)`: the highest.
        whole: Hypervolume of the true front, scaled.
    """

    name: str
    plan: Plan
    best: Numbers
    worst: Numbers
    whole: float

    def scaled(self, values: Numbers) -> Numbers:
        """Scale values `(..., objectives)` to the range of the table; 0 is best."""
        return (values - self.best) / (self.worst - self.best)

    def share(self, values: Numbers) -> float:
        """Return the hypervolume of values `(networks, objectives)` as a share of the true front's."""
        return volume(self.scaled(values)) / self.whole

    def with_seed(self, sampler: str, seed: int) -> Plan:
        """Return the plan of a search."""
        return replace(self.plan, config=self.plan.config.model_copy(update={"sampler": sampler, "seed": seed}))

    @property
    def free(self) -> dict[str, CategoricalDistribution]:
        """The parameters that have more than one choice."""
        found = {}
        for name, distribution in self.plan.distributions.items():
            assert isinstance(distribution, CategoricalDistribution)
            if len(distribution.choices) > 1:
                found[name] = distribution
        return found

    def point(self, chosen: Point) -> dict[str, Any]:
        """Return a point of the space from its free parameters."""
        fixed = {name: one.choices[0] for name, one in self.plan.distributions.items() if name not in chosen}  # type: ignore[attr-defined]
        return {**fixed, **chosen}


@dataclass(frozen=True, eq=False)
class Found:
    """What one search found.

    Attributes:
        values: `(evaluations, objectives)`, in order.
        ask_ms: CPU time of each ask in ms, repeated networks included.
    """

    values: Numbers
    ask_ms: Numbers


def main() -> None:
    """Search with every sampler from every seed, compare the shares, and time the asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--table", choices=(*OF_NB201, MACRO_TABLE), help="One table; all, if left out.")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--peers", type=Path, help="Folder with pymoo (pip install --target).")
    arguments = parser.parse_args()
    if not NB201.exists() or not MACRO.exists():
        sys.exit("skipped: no tables beside the repository's parent folder")
    if arguments.peers is not None:
        sys.path.append(str(arguments.peers.resolve()))
    short = arguments.short
    tables = (SHORT_TABLE,) if short else (arguments.table,) if arguments.table else (*OF_NB201, MACRO_TABLE)
    seeds, budgets = (2, BUDGETS[:2]) if short else (arguments.seeds, BUDGETS)
    samplers, absent = there(short=short)
    asked = [
        (table, sampler, seed, budgets[-1], None) for table in tables for sampler in samplers for seed in range(seeds)
    ]
    asked += [(tables[0], sampler, 0, None, TRIALS) for sampler in samplers if not short and sampler != GP]
    with ProcessPoolExecutor(processes.cores()) as pool:
        found = dict(zip(asked, pool.map(cached, *zip(*asked, strict=True)), strict=True))
    rows: list[dict[str, object]] = []
    for table in tables:
        of = {name: [found[table, name, seed, budgets[-1], None] for seed in range(seeds)] for name in samplers}
        rows += shares(task_of(table), of, budgets)
    for sampler in samplers:
        timed = found.get((tables[0], sampler, 0, None, TRIALS)) or found[tables[0], sampler, 0, budgets[-1], None]
        ask = float(np.median(timed.ask_ms[-LAST:]))
        rows.append({"part": "ask", "table": tables[0], "sampler": sampler, "trials": len(timed.ask_ms), "ask_ms": ask})
    name = "search_efficiency" + ("_short" if short else f"_{arguments.table}" if arguments.table else "")
    write_results(name, rows, seeds=seeds, absent=absent, **({} if short else verdicts(rows)))


def there(*, short: bool) -> tuple[list[str], dict[str, str]]:
    """List the samplers that run here, and why others do not."""
    if short:
        return ["random", "nsga2", OURS], {}
    package = "nas.search.samplers"
    ours = [name for name in plugins.available(package, "make_sampler") if not plugins.find(package, name, "pick")]
    absent = {
        name: f"{package} is not installed; see `search_efficiency.py --help`"
        for name, package in (("pymoo's NSGA-II", "pymoo"), ("NNI's evolution", "nni"))
        if importlib.util.find_spec(package) is None
    }
    return [*ours, *(name for name in PEERS if name not in absent)], absent


@lru_cache(maxsize=len(OF_NB201) + 2)
def task_of(table: str) -> Task:
    """Read a table."""
    settings: dict[str, Any] = {"evaluator": "table", "device": "raspi4", "name": "table"}
    path = CACHE / f"{table.partition(',')[0]}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    if table == MACRO_TABLE:
        settings |= {"space": "mobile", "objectives": ("error", "latency_ms", "params"), "set": macro_set()}
        if not path.exists():
            files.write_text(path, macro_table())
    else:
        settings |= {"space": "nb201", "objectives": ("error", "latency_ms")}
        settings |= {"set": SHORT_SET} if table == SHORT_TABLE else {}
        write_table(path, latencies=OF_NB201[path.stem])
    plan = resolve(parse_config({**settings, "data_path": path}), CACHE)
    values = of_table(plan)
    best, worst = values.min(axis=0), values.max(axis=0)
    return Task(table, plan, best, worst, volume((values - best) / (worst - best)))


def offered(plan: Plan) -> list[dict[str, Any]]:
    """List the points of a table that may be sampled."""
    assert plan.table is not None
    points = [dict(zip(plan.table.parameters, values, strict=True)) for values in plan.table.rows]
    allowed = {name: getattr(plan.distributions[name], "choices", None) for name in plan.table.parameters}
    return [
        point for point in points if all(choices is None or point[name] in choices for name, choices in allowed.items())
    ]


def of_table(plan: Plan) -> Numbers:
    """Return the objectives of all networks that may be sampled `(networks, objectives)`."""
    assert plan.table is not None
    figures = [plan.table.figures(point) for point in offered(plan)]
    return np.array([[one[name] for name in plan.config.objectives] for one in figures])


def macro_table() -> str:
    """Write what was published of all networks, and their latency by our estimate."""
    space, device = mobile.make_space(*mobile.USUAL_TASK), load_device("raspi4")
    rows = [
        {
            "network": f"macro-{key}",
            "error": round(1 - published["mean_acc"] / 100, 6),
            "latency_ms": round(latency_ms.estimate(space.describe(space.parse(key)), device).value, 6),  # type: ignore[misc]
            "params": published["params"],
        }
        for key, published in files.read_json(MACRO).items()
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def macro_set() -> dict[str, Any]:
    """Narrow the space `mobile` to the networks of the benchmark: three choices for each of eight layers."""
    points = [mobile.parse(digit * 8) for digit in mobile.MACRO_LAYERS]
    offered = {name: list(dict.fromkeys(point[name] for point in points)) for name in points[0]}
    return {name: values if len(values) > 1 else values[0] for name, values in offered.items()}


def cached(table: str, sampler: str, seed: int, evaluations: int | None, trials: int | None) -> Found:
    """Run a search, or read what it found before."""
    path = CACHE / f"{table}-{sampler}-{seed}-{evaluations or f'{trials} trials'}.npz"
    if path.exists():
        return Found(files.read_array(path, "values"), files.read_array(path, "ask_ms"))
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    evaluations = GP_BUDGET if sampler == GP and evaluations and evaluations > GP_BUDGET else evaluations
    found = search(task_of(table), sampler, seed, evaluations, trials)
    files.write_arrays(path, values=found.values, ask_ms=found.ask_ms)
    print(f"  {table}, {sampler}, seed {seed}: {len(found.values)} networks, {len(found.ask_ms)} trials", flush=True)
    return found


def search(task: Task, sampler: str, seed: int, evaluations: int | None, trials: int | None) -> Found:
    """Search until so many networks were looked up, or so many trials were asked for."""
    table, objectives = task.plan.table, task.plan.config.objectives
    assert table is not None
    asking = PEERS[sampler](task, seed) if sampler in PEERS else by_nas(task, sampler, seed, shared=trials is None)
    seen: dict[tuple[Any, ...], list[float]] = {}
    ask_ms: list[float] = []
    answer, repeats = None, 0
    while len(seen) != evaluations and len(ask_ms) != trials and (trials or repeats < REPEATS_IN_A_ROW):
        since = time.process_time()
        point = asking.send(answer)  # type: ignore[arg-type] - nothing is sent first
        ask_ms.append(1000 * (time.process_time() - since))
        key = tuple(point[name] for name in task.free)
        is_new = key not in seen
        if is_new:
            figures = table.figures(point)
            seen[key] = [figures[name] for name in objectives]
        repeats = 0 if is_new else repeats + 1
        answer = seen[key], is_new
    return Found(np.array(list(seen.values())), np.array(ask_ms))


def by_nas(task: Task, name: str, seed: int, *, shared: bool) -> Asking:
    """Ask as `nas` does, by a sampler that is made anew for each trial.

    Args:
        task: The table.
        name: Of the sampler.
        seed: Of the search.
        shared: Whether what a sampler knows of a network before its training is kept between searches: it follows from
            the network alone, and takes longer than all else. Not where asks are timed.
    """
    plan = task.with_seed(name, seed)
    knowing = CostAwareSampler(plan.distributions, partial(remembered, task), seed=seed) if name == OURS else None
    study = optuna.create_study(directions=["minimize"] * len(plan.config.objectives))
    while True:
        number = len(study.get_trials(deepcopy=False))
        if shared and knowing is not None:
            study.sampler = knowing
            trial = study.ask(plan.distributions)
            point = trial.params
        else:
            study.sampler = make_sampler(plan, name, number)
            trial = study.ask()
            point = suggest(plan, trial)
        tell(study, trial, (yield point))


def by_optuna(make: Callable[[int], BaseSampler], task: Task, seed: int) -> Asking:
    """Ask as Optuna's users do, by one sampler for the whole study."""
    count = len(task.plan.config.objectives)
    study = optuna.create_study(directions=["minimize"] * count, sampler=make(seed))
    while True:
        trial = study.ask(task.plan.distributions)
        tell(study, trial, (yield trial.params))


def tell(study: optuna.Study, trial: optuna.Trial, answer: tuple[list[float], bool]) -> None:
    """Tell a trial's values, or that it was pruned because another one had them before."""
    values, is_new = answer
    if is_new:
        study.tell(trial, values)
    else:
        study.tell(trial, state=TrialState.PRUNED)


def by_pymoo(task: Task, seed: int) -> Asking:
    """Ask pymoo's NSGA-II, with the operators that its pages have for discrete variables."""
    # Not at the top: it need not be installed.
    nsga2 = importlib.import_module("pymoo.algorithms.moo.nsga2")
    problems = importlib.import_module("pymoo.core.problem")
    termination = importlib.import_module("pymoo.core.termination").NoTermination()
    crossover = importlib.import_module("pymoo.operators.crossover.sbx")
    mutation = importlib.import_module("pymoo.operators.mutation.pm")
    sampling = importlib.import_module("pymoo.operators.sampling.rnd").IntegerRandomSampling()
    repair = importlib.import_module("pymoo.operators.repair.rounding").RoundingRepair()
    free = task.free
    most = np.array([len(one.choices) - 1 for one in free.values()])
    how = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": repair}
    algorithm = nsga2.NSGA2(
        pop_size=POPULATION, sampling=sampling, crossover=crossover.SBX(**how), mutation=mutation.PM(**how)
    )
    problem = problems.Problem(n_var=len(free), n_obj=len(task.best), xl=np.zeros_like(most), xu=most, vtype=int)
    algorithm.setup(problem, termination=termination, seed=seed)
    while True:
        asked = algorithm.ask()
        told = []
        for row in asked.get("X"):
            values, _ = yield task.point(
                {name: one.choices[int(index)] for (name, one), index in zip(free.items(), row, strict=True)}
            )
            told.append(values)
        asked.set("F", np.array(told))
        algorithm.tell(infills=asked)


def by_nni(task: Task, seed: int) -> Asking:
    """Ask NNI's regularised evolution, which minimises the sum of the scaled objectives."""
    evolution = importlib.import_module("nni.algorithms.hpo.regularized_evolution_tuner")
    evolution.logger.setLevel("WARNING")
    random.seed(seed)  # it has no seed of its own
    tuner = evolution.RegularizedEvolutionTuner("minimize", POPULATION, TOURNAMENT)
    tuner.update_search_space(
        {name: {"_type": "layer_choice", "_value": list(one.choices)} for name, one in task.free.items()}
    )
    for number in itertools.count():
        asked = tuner.generate_parameters(number)
        values, _ = yield task.point({name: chosen["_value"] for name, chosen in asked.items()})
        tuner.receive_trial_result(number, asked, float(task.scaled(np.array(values)).sum()))


PEERS: Mapping[str, Callable[[Task, int], Asking]] = {
    "TPE, univariate": partial(by_optuna, lambda seed: TPESampler(seed=seed)),
    "NSGA-II, 50": partial(by_optuna, lambda seed: NSGAIISampler(seed=seed, population_size=50)),
    "pymoo's NSGA-II": by_pymoo,
    "NNI's evolution": by_nni,
}

_LOOKS: dict[str, dict[tuple[Any, ...], Known | None]] = {}
"""By space: what is known of its networks; all but the costs is the same on each table."""


def remembered(task: Task, point: Point) -> Known | None:
    """Look at a network as a search does, once for all searches of this process."""
    table, objectives = task.plan.table, task.plan.config.objectives
    assert table is not None
    looks = _LOOKS.setdefault(task.plan.space.name, {})
    key = tuple(point[name] for name in table.parameters)
    if key not in looks:
        looks[key] = looking(task.plan)(point)
    known, figures = looks[key], table.figures(point)
    if known is None:
        return None
    costs = (None if cost is None else figures[name] for cost, name in zip(known.costs, objectives, strict=True))
    return replace(known, costs=tuple(costs))


def volume(scaled: Numbers) -> float:
    """Return the hypervolume of values `(networks, objectives)` below 1."""
    return float(compute_hypervolume(scaled, np.ones(scaled.shape[1])))


def shares(task: Task, found: Mapping[str, Sequence[Found]], budgets: Sequence[int]) -> list[dict[str, object]]:
    """One line for each sampler and budget: the median share over the seeds and its standard error."""
    rows: list[dict[str, object]] = []
    for sampler, budget in itertools.product(found, budgets):
        if sampler == GP and budget > GP_BUDGET:
            continue
        reached = [task.share(one.values[:budget]) for one in found[sampler]]  # noqa: PD011 - no frame
        row = {"part": "share", "table": task.name, "sampler": sampler, "evaluations": budget}
        rows.append(row | {"share": float(np.median(reached)), "se": error_of_median(reached)})
    return rows


def error_of_median(values: Sequence[float]) -> float:
    """Return the standard error of a median by the bootstrap.

    >>> error_of_median([0.5] * 10)
    0.0
    """
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.array(values), size=(BOOTSTRAP, len(values)))
    return float(np.median(drawn, axis=1).std())


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Say of each goal whether it is met."""
    told: dict[str, str] = {}
    of_shares = [row for row in rows if row["part"] == "share"]
    for table, budget in dict.fromkeys((row["table"], row["evaluations"]) for row in of_shares):
        lines = {row["sampler"]: row for row in of_shares if (row["table"], row["evaluations"]) == (table, budget)}
        own = lines.pop(OURS)
        if table == "raspi4" and budget in GOALS:
            met = "met" if own["share"] >= GOALS[budget] else "not met"
            told[f"{table}, {budget} evaluations: a share of {GOALS[budget]}"] = f"{met}: {own['share']:.4f}"
        best = max(lines.values(), key=lambda row: row["share"])
        ahead, by = own["share"] - best["share"], float(np.hypot(own["se"], best["se"]))
        met = "met" if ahead > by else "not met"
        told[f"{table}, {budget} evaluations: above the best other by more than the standard error"] = (
            f"{met}: {ahead:+.4f} against {best['sampler']}, standard error {by:.4f}"
        )
    for row in rows:
        if row["part"] == "ask" and row["sampler"] == OURS:
            met = "met" if row["ask_ms"] < GOAL_MS else "not met"
            told[f"an ask after {row['trials']} trials: below {GOAL_MS:g} ms"] = f"{met}: {row['ask_ms']:.1f} ms"
    return told


if __name__ == "__main__":
    main()
