"""How fluid the page of a long run is: writing it, its first paint, and a slider, in a headless Chromium.

The study has random candidates of a real space with their real prices; error and leakage are made up. *Slider* is the
time from an event of a slider until the next frame shows the count and the table; of many events in a row, between
which the figures are drawn again, the median and the slowest. *Slider, processor* is what one event costs the thread of
the page, figures included. What draws WebGL is a processor here, for want of a graphics card. Times are seconds on the
clock, the least of several rounds: other work on the machine only adds to them.

    python benchmarks/page.py [--trials 5000] [--rounds 3]
    python benchmarks/page.py --short
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import create_trial
from report import write_results

from estimators.devices.fields import CannotRun
from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.page import build
from nas.pricing.price import cost_metrics
from nas.pricing.price import screen
from nas.runs.run import Run
from nas.search.config import parse_config
from nas.search.plan import Plan
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.spaces import sample
from nas.training.measures import MEASURED

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests import browser

SETTINGS = {
    "name": "long",
    "space": "conv",
    "compressions": ["sparsity", "exits"],
    "members": 120,
    "references": 2,
    "workers": 1,
    "error_ceiling": False,
    "device_limits": False,
    "defences": ["none", "relaxloss", "mixup"],
}
EVENTS = 30
# Move a slider to one place after the other; each time ends where the next frame begins to be drawn.
SLIDE = """(async (metric, events) => {
  const slider = document.querySelector(`#sliders input[data-metric="${metric}"]`);
  const times = [];
  for (let event = 0; event < events; event += 1) {
    slider.value = Math.round(slider.max * (0.9 - 0.8 * event / events));
    const begin = performance.now();
    slider.dispatchEvent(new Event("input"));
    await new Promise((next) => requestAnimationFrame(next));
    times.push(performance.now() - begin);
    await new Promise((next) => setTimeout(next, 40));
  }
  return times;
})"""


def main(*, trials: int, rounds: int) -> None:
    """Make the study, write its page, open it, move a slider."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if browser.found() is None:
        raise SystemExit("needs Chromium: apt-get install chromium, or its path in CHROMIUM")
    with tempfile.TemporaryDirectory(prefix="nas-page-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        run = long_run(Path(folder) / "runs", trials)
        begin = time.perf_counter()
        page = build.write(run)
        wrote = time.perf_counter() - begin
        found = [measured(page, Path(folder) / f"browser-{number}") for number in range(rounds)]
        best = {name: min(one[name] for one in found) for name in found[0]}
        row = {"trials": trials, "write_s": wrote, "page_mib": page.stat().st_size / 2**20, **best}
    write_results("page_short" if trials < 1000 else "page", [row], browser=browser.version(), rounds=rounds)


def measured(page: Path, folder: Path) -> dict[str, float]:
    """Open a page in a new browser and return seconds."""
    with browser.opened(folder) as chromium:
        chromium.size(1280, 900)
        begin = time.perf_counter()
        chromium.open(page)
        drawn = time.perf_counter() - begin
        paint = chromium.do("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        before = chromium.seconds()
        times = chromium.do(f"{SLIDE}('error', {EVENTS})")
        cpu = chromium.seconds() - before
        return {
            "first_paint_s": paint / 1e3,
            "all_drawn_s": drawn,
            "slider_median_s": float(np.median(times)) / 1e3,
            "slider_slowest_s": max(times) / 1e3,
            "slider_cpu_s": cpu / EVENTS,
        }


def long_run(runs: Path, trials: int) -> Run:
    """Make a study of so many trained candidates in a folder of runs."""
    plan = resolve(parse_config({**SETTINGS, "trials": trials}), runs)
    study = open_study(plan)
    rng = np.random.default_rng(0)
    study.add_trials([_made_up(plan, rng) for _ in range(trials)])
    return Run(plan.folder, study)


def _made_up(plan: Plan, rng: np.random.Generator) -> FrozenTrial:
    metrics = cost_metrics(plan.device)
    while True:
        params = sample(plan.distributions, rng)
        candidate = plan.candidate(params)
        try:
            estimates = screen(candidate.architecture, plan.device, metrics)
            break
        except CannotRun:
            continue
    error = float(np.clip(0.9 / np.log10(estimates["macs"].value + 10) + rng.normal(0, 0.05), 0.01, 0.9))
    leakage = float(np.clip(0.75 - 0.3 * error + rng.normal(0, 0.03), 0.5, 1.0))
    values = {"error": error, "leakage": leakage}
    for name in MEASURED:
        value = values.get(name, float(rng.uniform(0.1, 0.9)))
        estimates[name] = Estimate(value, max(0.0, value - 0.03), value + 0.03)
    attrs = {"key": rng.bytes(8).hex(), **flat(estimates)}
    return create_trial(
        params=params,
        distributions=dict(plan.distributions),
        values=[float(attrs[name]) for name in plan.config.objectives],
        user_attrs=attrs,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    main(trials=60 if given.short else given.trials, rounds=1 if given.short else given.rounds)
