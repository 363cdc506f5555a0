"""Whether the exported files of a search are what the search said: answers, leakage, bytes and time on this machine.

A search of 30 candidates of the conv space on CIFAR-10, 2,000 members, for this machine in int8. Every network of its
front is written in the precision that the search priced, and in float32. Each file is asked through ONNX Runtime.
Asked for: the class of the fake-quantised network for 99.5 % of the validation records and logits within a step of the
output (its range over 255), once with the network's biases as trained and once with those of the file, which counts
them in whole steps of the accumulator; the AUC of the search's attack within .01 of the study's; bytes within 5 % of
the flash estimate and what stands around the numbers; a time within the predicted 90 % interval for 85 % of the files.

The search is kept in the folder of `--runs`; the program goes on where it was stopped. `--short` shows all of it on the
digits in seconds.

    python benchmarks/exported_front.py [--short] [--runs FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import onnx
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from report import write_results
from rich.console import Console
from shared_data import cifar10

from nas.base.onnx_runtime import onnxruntime
from nas.deploy import judging
from nas.deploy.deployed import Exported
from nas.deploy.deployed import priced_as
from nas.deploy.deployed import proxy_on
from nas.deploy.deployed import write
from nas.deploy.judging import Tolerances
from nas.deploy.proxy import Proxy
from nas.runs.front_and_knee import front
from nas.runs.networks import UserNetwork
from nas.runs.networks import network_of_run
from nas.runs.progress import Display
from nas.runs.run import Run
from nas.runs.run import open_run
from nas.search import workers
from nas.search.config import SearchConfig
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study

ANY = Tolerances(error=1, leakage=1)
"""What a file is worse by is measured here, not refused."""
DEVICE, NAME = "host_int8", "exported"
SAME, STEP, AUC, BYTES, INSIDE = 0.995, 1.0, 0.01, 0.05, 0.85
"""What is asked for."""


def main(*, short: bool = False, runs: Path | None = None) -> None:
    """Search, or go on with the search, write all files and report."""
    if short:
        settings = {"members": 150, "references": 2, "trials": 3, "recipe": {"epochs": 3}, "workers": 1}
        settings |= {"error_ceiling": False}
    else:
        settings = {"dataset": "npz", "data_path": cifar10(10_000), "members": 2_000, "trials": 30}
    config = parse_config({"name": NAME, "device": DEVICE, **settings})
    folder = runs or Path(tempfile.gettempdir()) / "gecko-nas-benchmarks" / f"runs{'-short' if short else ''}"
    search(config, folder)
    run = open_run(NAME, folder)
    proxy = proxy_on(found_of(run, front(run.study)[0]))
    assert not isinstance(proxy, str), proxy
    rows = [row for trial in front(run.study) for row in rows_of(run, trial, proxy)]
    trained = run.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    inside = [timed(run, trial) for trial in trained]
    write_results(
        "exported_front_short" if short else "exported_front",
        rows,
        records=len(run.data.validation),
        **verdicts(rows),
        all_inside=f"{inside.count(True)} of {len(inside) - inside.count(None)} that could be timed",
        onnx_runtime=onnxruntime.__version__,
    )


def search(config: SearchConfig, runs: Path) -> None:
    """Run the search in worker processes until it has its trials."""
    plan = resolve(config, runs)
    study = open_study(plan)
    if len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])) < config.trials:
        with Display(plan, study, Console()) as display:
            workers.run(config, runs, display.look)


def found_of(run: Run, trial: FrozenTrial) -> UserNetwork:
    """Return a candidate with its run's records."""
    return network_of_run(run, run.architecture(trial), run.network(trial), run.data.preprocessing)


def rows_of(run: Run, trial: FrozenTrial, proxy: Proxy) -> list[dict[str, object]]:
    """Write the files of one candidate and hold each against what the study says."""
    found = found_of(run, trial)
    names = dict.fromkeys((priced_as(found.architecture, run.plan.device), "float32"))
    return [row_of(run, trial, found, name, proxy) for name in names]


def row_of(run: Run, trial: FrozenTrial, found: UserNetwork, precision: str, proxy: Proxy) -> dict[str, object]:
    """Write one file and measure it."""
    path = run.folder / "exported" / f"{trial.number}-{precision}.onnx"
    about: dict[str, object] = {"candidate": trial.number, "file": precision}
    try:
        exported = write(found, precision, path, ANY, proxy)
    except ValueError as error:
        return {**about, "refused": str(error)}
    plain = judging.exactness(onnx.load(path), found.network, found.check, found.preprocessing)
    judgement = exported.judgement
    assert judgement.leakage is not None
    assert judgement.error is not None
    return {
        **about,
        "agreement": plain.agreement,
        "steps": plain.steps,
        **exact_of(exported),
        "error": judgement.error.value,
        "error_difference": judgement.error.value - trial.user_attrs["error"],
        "leakage": judgement.leakage.value,
        "auc_difference": judgement.leakage.value - trial.user_attrs["leakage"],
        **sizes_of(exported),
        **times_of(exported),
    }


def exact_of(exported: Exported) -> dict[str, object]:
    """Return how the file answers beside the network with the file's biases."""
    exact = exported.judgement.exactness
    return {} if exact is None else {"exact_agreement": exact.agreement, "exact_steps": exact.steps}


def sizes_of(exported: Exported) -> dict[str, object]:
    """Return the bytes of a file, and how far they are off what was estimated, and off what was counted."""
    size = exported.size
    assert size is not None
    over = {} if size.over_estimate is None else {"over_estimate": size.over_estimate}
    return {"bytes": size.file_bytes, "container_bytes": size.container_bytes, **over, "over_count": size.over_count}


def times_of(exported: Exported) -> dict[str, object]:
    """Return the time of a file here beside the predicted interval."""
    here = exported.here
    assert here is not None
    if here.latency_ms is None or here.predicted is None:
        return {} if here.latency_ms is None else {"here_ms": here.latency_ms}
    predicted = {"predicted_ms": here.predicted.value, "low_ms": here.predicted.low, "high_ms": here.predicted.high}
    return {"here_ms": here.latency_ms, **predicted, "inside": here.is_inside}


def timed(run: Run, trial: FrozenTrial) -> bool | None:
    """Tell whether the time of a candidate's priced file lies in the predicted interval; None where it is not known."""
    found = found_of(run, trial)
    precision = priced_as(found.architecture, run.plan.device)
    try:
        exported = write(found, precision, run.folder / "exported" / f"{trial.number}-{precision}.onnx", ANY)
    except ValueError:
        return None
    return None if exported.here is None else exported.here.is_inside


def verdicts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Count on how many files each thing that was asked for holds."""

    def count(name: str, holds: Any) -> str:
        known = [row for row in rows if row.get(name) is not None]
        return f"{sum(bool(holds(row[name])) for row in known)} of {len(known)}"

    return {
        "files": f"{len(rows)}, {sum('refused' in row for row in rows)} of them refused",
        "same_class": count("agreement", lambda share: share >= SAME),
        "within_a_step": count("steps", lambda steps: steps <= STEP),
        "same_class_exact": count("exact_agreement", lambda share: share >= SAME),
        "within_a_step_exact": count("exact_steps", lambda steps: steps <= STEP),
        "auc_within": count("auc_difference", lambda far: abs(far) <= AUC),
        "bytes_within": count("over_estimate", lambda over: abs(over) <= BYTES),
        "bytes_as_counted": count("over_count", lambda over: abs(over) <= BYTES),
        "inside": count("inside", bool),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--runs", type=Path)
    main(**vars(parser.parse_args()))
