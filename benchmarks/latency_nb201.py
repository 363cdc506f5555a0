"""Predict measured latencies of NAS-Bench-201 cells on nine devices from few calibration networks.

    python benchmarks/latency_nb201.py [--short] [--write]

Reads `../shared/data/nb201/latency_ms.csv.gz` (raspi4 and pixel3 from HW-NAS-Bench, Li et al., 2021; the others from
HELP, Lee et al., 2021). Calibration and test networks never share a graph class. Prints, for 10 to 900 calibration
networks and each device, the share of test networks within 10 %, the mean relative error, Spearman's rho and the
coverage of the 90 % interval, beside what a plain regression reaches and the share at which measurements of one network
agree with each other. `--write` renews the device files that stand on these tables.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import ROOT
from report import write_results
from scipy.stats import spearmanr
from shared_data import SHARED

from estimators.fitting.cycle_model import CycleModel
from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import with_overhead
from estimators.models.counts import Floats
from estimators.models.counts import counts_of
from nas.calibration import fit as calibrating
from nas.calibration.device_file import write
from nas.calibration.measurements import About
from nas.calibration.measurements import noise_ceiling
from nas.runs.tables import TableRow
from search_spaces.graph.architecture import Params
from search_spaces.graph.merging import merge
from search_spaces.graph.pruning import prune
from search_spaces.nb201 import EDGES
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import make_space

TABLE = SHARED / "nb201" / "latency_ms.csv.gz"
CACHE = Path(tempfile.gettempdir()) / "gecko-nas-benchmarks"
SPACE = make_space((3, 32, 32), 10)
TEST_SHARE = 0.23
"""Of the graph classes."""
SHORT_STEP = 15
SIZES = {10: 20, 30: 20, 100: 10, 300: 5, 900: 3}
"""How often each number of calibration networks is drawn."""
WRITTEN_NETWORKS = 900
FORMS = {
    (True, False): "pruned",
    (False, False): "whole",
    (True, True): "pruned_merged",
    (False, True): "whole_merged",
}
"""Counts by whether dead operators are left out, and whether repeated ones are computed once."""
CYCLES_PER_MS = 1e6
"""A clock of 1 GHz: predictions do not depend on it."""


@dataclass(frozen=True)
class Target:
    """One column of the table.

    Attributes:
        description: What was measured.
        core: Processor core.
        clock_mhz: Its clock.
        engine: Inference engine, as far as its authors say.
        prunes: Whether dead operators of a cell cost nothing (found by cross-validation, see `nas calibrate`). By
            cross-validation none of these engines computes repeated operators once.
        quoted_ceiling: Share of identical networks within 10 % of their median, as published with the task.
        baselines: Published results by number of networks: share within 10 % and rho, None where unknown.
    """

    description: str
    core: str
    clock_mhz: float
    engine: str
    prunes: bool
    quoted_ceiling: float | None
    baselines: dict[int, tuple[float | None, float | None]]


HELP_ENGINE = "unknown engine (HELP; every edge runs, as in eager PyTorch)"
TARGETS = {
    "raspi4": Target(
        "Raspberry Pi 4", "Arm Cortex-A72", 1500, "TensorFlow Lite (HW-NAS-Bench)", True, 0.80,
        {10: (None, 0.890), 900: (0.60, 0.946)},
    ),
    "pixel3": Target(
        "Google Pixel 3", "Qualcomm Kryo 385", 2500, "TensorFlow Lite (HW-NAS-Bench)", True, 0.76, {900: (0.63, 0.908)}
    ),
    "pixel2": Target(
        "Google Pixel 2", "Qualcomm Kryo 280", 2350, HELP_ENGINE, False, 0.64, {10: (None, 0.802), 900: (0.49, None)}
    ),
    "samsung_a50": Target("Samsung A50", "Arm Cortex-A73", 2300, HELP_ENGINE, False, None, {900: (0.95, None)}),
    "samsung_s7": Target("Samsung S7", "Exynos M1", 2300, HELP_ENGINE, False, None, {}),
    "essential_ph_1": Target(
        "Essential PH-1", "Qualcomm Kryo 280", 2450, HELP_ENGINE, False, None, {900: (0.60, None)}
    ),
    "gold_6226": Target(
        "Intel Xeon Gold 6226", "Intel Cascade Lake", 2700, HELP_ENGINE, False, 0.94,
        {10: (0.91, 0.989), 900: (0.95, 0.989)},
    ),
    "titan_rtx_1": Target(
        "Nvidia Titan RTX, batch 1", "Nvidia Turing", 1770, HELP_ENGINE, False, None, {10: (0.87, 0.987)}
    ),
    "titan_rtx_256": Target(
        "Nvidia Titan RTX, batch 256", "Nvidia Turing", 1770, HELP_ENGINE, False, 1.00, {10: (1.00, None)}
    ),
}  # fmt: skip
# What is written to estimators/devices: one file for each processor that runs one record at a time.
DEVICES = {
    "raspi4": "raspi4",
    "pixel3": "pixel3",
    "pixel2": "pixel2",
    "samsung_a50": "samsung_a50",
    "samsung_s7": "samsung_s7",
    "essential_ph_1": "essential_ph_1",
    "gold_6226": "xeon_gold_6226",
}


@dataclass(frozen=True, eq=False)
class Tables:
    """All 15,625 cells.

    Attributes:
        cells: Their text.
        classes: `(cells,)` graph class.
        latency_ms: `(cells,)` by device.
        counts: `(cells, columns)` of the cycle model, by whether dead operators are left out, and whether repeated ones
            are computed once.
        live: The same with nothing but what lies on a path from a cell's input to its output.
        constant: `(cells,)` whether the output ignores the input.
    """

    cells: list[str]
    classes: NDArray[np.int_]
    latency_ms: dict[str, Floats]
    counts: dict[tuple[bool, bool], Floats]
    live: Floats
    constant: NDArray[np.bool_]


def read_tables(*, short: bool = False) -> Tables:
    """Read the measurements and describe every cell, once: the counts are kept in the temporary folder.

    Args:
        short: Every fifteenth cell only, nothing kept.
    """
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:: SHORT_STEP if short else 1]
    cells = [row["cell"] for row in rows]
    counts = _described(cells) if short else _kept(cells)
    return Tables(
        cells,
        np.array([int(row["graph_class"]) for row in rows]),
        {name: np.array([float(row[name]) for row in rows]) for name in TARGETS},
        {form: with_overhead(counts[name]) for form, name in FORMS.items()},
        with_overhead(counts["live"]),
        counts["pruned"][:, :4].sum(axis=1) == 0,
    )


def _kept(cells: list[str]) -> dict[str, Floats]:
    path = CACHE / "nb201-counts-by-form.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **_described(cells))  # type: ignore[arg-type]
    with np.load(path) as stored:
        return dict(stored)


def _described(cells: list[str]) -> dict[str, Floats]:
    found: dict[str, list[Floats]] = {name: [] for name in (*FORMS.values(), "live")}
    for cell in cells:
        network = SPACE.decode(SPACE.parse(cell))
        pruned = prune(network)
        forms = (pruned, network, merge(pruned), merge(network), prune(SPACE.decode(_live(SPACE.parse(cell)))))
        for name, form in zip(found, forms, strict=True):
            found[name].append(counts_of(form))
    return {name: np.array(counts) for name, counts in found.items()}


def _live(params: Params) -> Params:
    """Empty the edges of a cell that lie on no path from its first node to its last."""
    full = [edge for edge, name in zip(EDGES, NAMES, strict=True) if params[name] != "none"]
    reached, needed = {0}, {3}
    for source, target in full:
        reached |= {target} if source in reached else set()
    for source, target in reversed(full):
        needed |= {source} if target in needed else set()
    ends = dict(zip(NAMES, EDGES, strict=True))
    return {name: op if ends[name][0] in reached and ends[name][1] in needed else "none" for name, op in params.items()}


def draw(tables: Tables, size: int, seed: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return calibration and test cells, of different graph classes; constants are in neither."""
    generator = np.random.default_rng(seed)
    classes = generator.permutation(np.unique(tables.classes))
    is_test = np.isin(tables.classes, classes[: round(TEST_SHARE * len(classes))])
    pool = np.flatnonzero(~is_test & ~tables.constant)
    return generator.choice(pool, size, replace=False), np.flatnonzero(is_test & ~tables.constant)


def fit(tables: Tables, name: str, chosen: NDArray[np.int_]) -> CycleModel:
    """Calibrate one device on the chosen cells."""
    counts = tables.counts[TARGETS[name].prunes, False][chosen]
    cycles = tables.latency_ms[name][chosen] * CYCLES_PER_MS
    return fit_cycle_model([[counts]], cycles, tables.classes[chosen], {"generic": generic_relative()})


def judge(tables: Tables, name: str, size: int, seed: int) -> dict[str, float]:
    """Calibrate on `size` cells and predict the test cells."""
    chosen, test = draw(tables, size, seed)
    model = fit(tables, name, chosen)
    predicted_ms = model.predict(tables.counts[TARGETS[name].prunes, False][test]) / CYCLES_PER_MS
    measured_ms = tables.latency_ms[name][test]
    errors = np.abs(predicted_ms / measured_ms - 1)
    macs = tables.counts[False, False][:, :4].sum(axis=1)
    line = np.polyfit(macs[chosen], tables.latency_ms[name][chosen], 1)
    return {
        "within 10 %": float(np.mean(errors <= 0.1)),
        "mean error": float(errors.mean()),
        "rho": float(spearmanr(predicted_ms, measured_ms).statistic),
        "coverage": float(np.mean(np.abs(measured_ms / predicted_ms - 1) <= model.interval)),
        "FLOPs line within 10 %": float(np.mean(np.abs(np.polyval(line, macs[test]) / measured_ms - 1) <= 0.1)),
        "trees": float(len(model.trees) > 0),
    }


def judge_rules(tables: Tables) -> dict[str, dict[str, float]]:
    """Return the share within 10 %, of 900 networks, by what is taken to run."""
    found: dict[str, dict[str, float]] = {}
    for name in ("raspi4", "pixel3", "gold_6226"):
        chosen, test = draw(tables, 900, 0)
        measured_ms, found[name] = tables.latency_ms[name], {}
        for rule, counts in (
            ("all", tables.counts[False, False]),
            ("live paths", tables.live),
            ("prune", tables.counts[True, False]),
            ("prune and merge", tables.counts[True, True]),
        ):
            cycles = measured_ms[chosen] * CYCLES_PER_MS
            model = fit_cycle_model([[counts[chosen]]], cycles, tables.classes[chosen], {"generic": generic_relative()})
            errors = model.predict(counts[test]) / CYCLES_PER_MS / measured_ms[test] - 1
            found[name][rule] = float(np.mean(np.abs(errors) <= 0.1))
    return found


def ceilings(tables: Tables, name: str) -> tuple[float, float]:
    """Return how often measurements of identical networks agree within 10 %.

    Identical is what has one graph class and the same operators on all edges. The first share compares each with the
    median of its group, itself included, and is flattering in small groups; the second with the median of the others.
    """
    operators = tables.counts[False, False]
    keys = np.column_stack([tables.classes, operators])[~tables.constant]
    groups = np.unique(keys, axis=0, return_inverse=True)[1]
    latency_ms = tables.latency_ms[name][~tables.constant]
    medians = {group: np.median(latency_ms[groups == group]) for group, n in _sizes(groups) if n > 1}
    repeated = np.isin(groups, list(medians))
    own = np.array([medians[group] for group in groups[repeated]])
    share = float(np.mean(np.abs(own / latency_ms[repeated] - 1) <= 0.1))
    return share, noise_ceiling(latency_ms, groups)[0] or 0.0


def _sizes(groups: NDArray[np.int_]) -> list[tuple[int, int]]:
    found, sizes = np.unique(groups, return_counts=True)
    return list(zip(found.tolist(), sizes.tolist(), strict=True))


def rows_of(tables: Tables, sizes: dict[int, int]) -> list[dict[str, object]]:
    """Judge every device at every size; medians over draws."""
    rows: list[dict[str, object]] = []
    for name, target in TARGETS.items():
        ceiling, others = ceilings(tables, name)
        for size, draws in sizes.items():
            judged = [judge(tables, name, size, seed) for seed in range(draws)]
            figures = {key: float(np.median([one[key] for one in judged])) for key in judged[0]}
            figures["coverage"] = float(np.mean([one["coverage"] for one in judged]))
            share, rho = target.baselines.get(size, (None, None))
            rows.append(
                {
                    "device": name,
                    "networks": size,
                    "draws": draws,
                    **figures,
                    "noise ceiling": ceiling,
                    "of the others": others,
                    "of ceiling": figures["within 10 %"] / (target.quoted_ceiling or ceiling),
                    "known within 10 %": share if share is not None else "",
                    "known rho": rho if rho is not None else "",
                }
            )
    return rows


def write_devices(tables: Tables) -> None:
    """Write the device files from cells drawn once; the error they state is cross-validated."""
    chosen = np.random.default_rng(0).choice(np.flatnonzero(~tables.constant), WRITTEN_NETWORKS, replace=False)
    for name, device in DEVICES.items():
        target = TARGETS[name]
        networks = [SPACE.decode(SPACE.parse(tables.cells[index])) for index in chosen]
        rows = [
            TableRow(line, network, {"latency_ms": str(tables.latency_ms[name][index])})
            for line, (index, network) in enumerate(zip(chosen, networks, strict=True), start=2)
        ]
        source = "HW-NAS-Bench (Li et al., 2021)" if target.prunes else "HELP (Lee et al., 2021)"
        about = About(
            device,
            description=f"{target.description} ({target.core}), {target.engine} float32",
            core=target.core,
            clock_mhz=target.clock_mhz,
            engine=target.engine,
            source=f"{source}, NAS-Bench-201 cells, batch 1",
            written_by="benchmarks/latency_nb201.py --write",
        )
        text, findings = calibrating.calibrate(rows, about)
        # Cells have no other window: what has one is an extrapolation.
        text = text.replace("[calibration]\n", '[calibration]\nwindows = ["3x3"]\n')
        if (findings.prunes, findings.merges) != (target.prunes, False):
            raise ValueError(f"{name}: cross-validation says {findings.prunes=}, {findings.merges=}")
        write(text, ROOT / "estimators" / "devices" / f"{device}.toml")


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one draw of 30 networks")
    parser.add_argument("--write", action="store_true", help="renew the device files")
    options = parser.parse_args()
    if not TABLE.exists():
        raise SystemExit("skipped: no nb201/latency_ms.csv.gz in ../shared/data")
    tables = read_tables(short=options.short)
    rows = rows_of(tables, {30: 1} if options.short else SIZES)
    if options.short:
        write_results("latency_nb201_short", rows)
    else:
        write_results("latency_nb201", rows, within_10_percent_by_what_runs=judge_rules(tables))
    if options.write:
        write_devices(tables)


if __name__ == "__main__":
    main()
