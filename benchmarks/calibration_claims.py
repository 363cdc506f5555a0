"""Compare what `nas calibrate` claims from few measured networks with what its device then reaches on all others.

    python benchmarks/calibration_claims.py [--short]

Reads `../shared/data/nb201/latency_ms.csv.gz` (see `latency_nb201.py`). Networks are drawn at random, a device is
fitted to them as `nas calibrate` does, without a word on what the engine runs, and predicts the networks of all other
graph classes. For each number of networks and each device, the table holds the share within 10 % by cross-validation,
the share that is claimed with 90 % confidence and the share reached, how often the claim holds and how often the
cross-validated share does, the share of measurements in the 90 % interval, and how often the engine was taken to remove
dead operators and to compute repeated ones once. No bound can promise more than 90 % of the draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from latency_nb201 import CYCLES_PER_MS
from latency_nb201 import TABLE
from latency_nb201 import TARGETS
from latency_nb201 import Tables
from latency_nb201 import read_tables
from report import write_results

from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.least_squares import close_at_least
from estimators.fitting.least_squares import close_of

SIZES = {10: 20, 30: 10, 100: 5, 300: 2}
"""How often each number of networks is drawn for each device."""
FIRST_SEED = 1000
"""Other draws than those that the rules were chosen on."""


def claim(tables: Tables, name: str, size: int, seed: int) -> dict[str, float]:
    """Calibrate on `size` cells; return what is claimed and what is reached."""
    usable = np.flatnonzero(~tables.constant)
    chosen = np.random.default_rng(seed).choice(usable, size, replace=False)
    others = usable[~np.isin(tables.classes[usable], tables.classes[chosen])]
    offered = [[tables.counts[prunes, merges][chosen] for merges in (False, True)] for prunes in (True, False)]
    cycles = tables.latency_ms[name] * CYCLES_PER_MS
    model = fit_cycle_model(offered, cycles[chosen], tables.classes[chosen], {"generic": generic_relative()})
    prunes, merges = model.counting[0] == 0, model.counting[1] == 1
    ratios = cycles[others] / model.predict(tables.counts[prunes, merges][others])
    low, reached = close_at_least(model.ratios, tables.classes[chosen]), close_of(ratios)
    return {
        "cross-validated": model.close,
        "claimed": low,
        "reached": reached,
        "claim holds": float(low <= reached),
        "cross-validated holds": float(model.close <= reached),
        "coverage": float(np.mean(np.abs(ratios - 1) <= model.interval)),
        "prunes": float(prunes),
        "merges": float(merges),
    }


def rows_of(tables: Tables, sizes: dict[int, int]) -> list[dict[str, object]]:
    """Return the means over draws, by number of networks and device, and over all devices."""
    rows: list[dict[str, object]] = []
    for size, draws in sizes.items():
        found = {name: [claim(tables, name, size, FIRST_SEED + seed) for seed in range(draws)] for name in TARGETS}
        every = [one for of_device in found.values() for one in of_device]
        for name, claims in {**found, "all": every}.items():
            means = {key: float(np.mean([one[key] for one in claims])) for key in claims[0]}
            rows.append({"device": name, "networks": size, "draws": len(claims), **means})
    return rows


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="every fifteenth cell, two draws of ten networks")
    options = parser.parse_args()
    if not TABLE.exists():
        raise SystemExit("skipped: no nb201/latency_ms.csv.gz in ../shared/data")
    rows = rows_of(read_tables(short=options.short), {10: 2} if options.short else SIZES)
    every = [row for row in rows if row["device"] == "all"]
    facts = {f"claim_holds_of_{row['networks']}_networks": row["claim holds"] for row in every}
    facts |= {f"coverage_of_{row['networks']}_networks": row["coverage"] for row in every}
    write_results(f"calibration_claims{'_short' if options.short else ''}", rows, **facts)


if __name__ == "__main__":
    main()
