"""Measure how intervals must grow for networks unlike those that a device was calibrated on.

    python benchmarks/extrapolation.py

*Sizes*: a cycle model is fitted to the slower networks of a data set and predicts the faster ones, and the other way
round. Counted are the networks that it predicts outside the range of the fit, their interval included. The table takes
their distance (by which factor they lie outside) and how much wider than the fit's own 90 % interval an interval would
have to be. `growth` is the exponent of the distance that holds 90 % of them. `GROWTH` of
`estimators.models.extrapolation` is chosen from it.

*Kinds*: on a Cortex-M33 each kind of network is predicted by a fit without it, in int8 and in float, and float networks
of another engine and core too. *Memory*: the rules of the STM32H747 predict the networks on the STM32U585, and three
engines hold one network.

Reads `../shared/data/stm32`, `mlperf_tiny` and `nb201`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace

import latency_nb201
import numpy as np
from latency_mcu import FAMILIES
from latency_mcu import H747_TERMS
from latency_mcu import WEAK_PRIOR
from latency_mcu import Rows
from latency_mcu import counts_for
from latency_mcu import fit_float
from latency_mcu import fit_m33
from latency_mcu import fit_shares
from latency_mcu import float_rows
from latency_mcu import h747_prior
from latency_mcu import judge
from latency_mcu import m33_rows
from latency_mcu import measured_cycles
from latency_mcu import without_each_kind
from latency_mcu import zoo
from numpy.typing import NDArray
from report import write_results
from small_networks import IN_FLOAT
from small_networks import IN_INT8
from small_networks import ON_CORTEX_M4

from estimators.cost import flash_kib
from estimators.cost import peak_ram_kib
from estimators.devices.files import load_device
from estimators.fitting.cycle_model import fit_cycle_model
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.least_squares import fit_cycles
from estimators.fitting.least_squares import interval_of
from estimators.models.counts import Floats
from estimators.models.extrapolation import GROWTH
from estimators.models.extrapolation import OTHER_CODE
from estimators.models.extrapolation import OTHER_KIND
from estimators.models.extrapolation import OTHER_RAM

SHARE = 0.9
CELLS, FITTED, SEEDS = 600, 90, 3
ENGINES_KIB = (161.0, 69.0, 49.0)
"""RAM of `mcunet-in0` with TensorFlow Lite Micro, X-CUBE-AI and TinyEngine (the README of the TinyEngine project)."""

Predict = Callable[[NDArray[np.bool_]], tuple[Floats, float]]
"""Fits the networks of a mask; returns what it predicts of all networks, and its interval."""


def outside(cycles: Floats, seen: NDArray[np.bool_], predict: Predict) -> tuple[Floats, Floats]:
    """Return distance and needed widening of the networks that a fit to some predicts outside their range."""
    predicted, interval = predict(seen)
    distance = np.maximum(cycles[seen].min() / predicted, predicted / cycles[seen].max()) / (1 + interval)
    chosen = ~seen & (distance > 1)
    return distance[chosen], needed(cycles[chosen] / predicted[chosen], interval)


def needed(ratios: Floats, interval: float) -> Floats:
    """Return by which factor each interval would have to be wider to hold measured over predicted; 1: it does."""
    return np.maximum(1.0, np.maximum(ratios / (1 + interval), max(1e-9, 1 - interval) / ratios))


def halves(cycles: Floats) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the slower half and the faster half, each to be fitted."""
    slow = cycles >= np.median(cycles)
    yield "fitted to the slower half", slow
    yield "fitted to the faster half", ~slow


def stm32h747(cycles: Floats) -> Predict:
    """Fit ST's networks by the terms that ship."""
    counts = counts_for(zoo()[1], H747_TERMS)

    def predict(seen: NDArray[np.bool_]) -> tuple[Floats, float]:
        found = fit_cycles(counts[seen], cycles[seen])
        return counts @ found.coefficients, found.interval

    return predict


def cortex_m33(rows: Rows) -> Predict:
    """Fit the int8 networks on the Cortex-M33 by the terms that ship, pulled to the STM32H747's, scaled to them."""
    h747, pulls = h747_prior(FAMILIES[0]), np.array([0.1] * 4 + [1e-3] * 2)

    def predict(seen: NDArray[np.bool_]) -> tuple[Floats, float]:
        ratios = []
        scale = np.exp(np.median(np.log(rows.cycles[seen] / (rows.counts[seen, :4] @ h747))))
        prior = np.array([*h747 * scale, *WEAK_PRIOR])
        for index in np.flatnonzero(seen):
            one = np.arange(len(seen)) == index
            ratios.append(rows.cycles[index] / (rows.counts[index] @ fit_shares(rows, seen & ~one, prior, pulls)))
        return rows.counts @ fit_shares(rows, seen, prior, pulls), interval_of(np.array(ratios))

    return predict


def sizes_of_boards() -> Iterator[tuple[str, str, Floats, Floats]]:
    """Yield board, what was fitted, distances and needed widening."""
    cycles = zoo()[2]
    for what, seen in halves(cycles):
        yield ("STM32H747", what, *outside(cycles, seen, stm32h747(cycles)))
    rows = m33_rows()
    for what, seen in halves(rows.cycles):
        yield ("Cortex-M33", what, *outside(rows.cycles, seen, cortex_m33(rows)))


def smallest_of_mlperf() -> tuple[Floats, Floats]:
    """Return distance and needed widening of the fastest network, left out of every system of its engine."""
    distances, wider = [], []
    for family in FAMILIES:
        cycles = measured_cycles(family)
        for index, system in enumerate(family.systems):
            found, own = judge(family, system), cycles[index]
            fastest = int(np.argmin(own))
            predicted = own[fastest] / found.unseen[fastest]
            others = interval_of(np.delete(found.unseen, fastest))
            distance = np.delete(own, fastest).min() / predicted / (1 + others)
            if distance > 1:
                distances.append(distance)
                wider.append(needed(found.unseen[[fastest]], others)[0])
    return np.array(distances), np.array(wider)


def sizes_of_cells() -> Iterator[tuple[str, str, Floats, Floats]]:
    """Yield the same for NAS-Bench-201 on phones, a Raspberry Pi and a server: slowest and fastest thirds."""
    tables = latency_nb201.read_tables()
    for name, device in latency_nb201.DEVICES.items():
        found: dict[str, list[tuple[Floats, Floats]]] = {"slower": [], "faster": []}
        for seed in range(SEEDS):
            chosen = latency_nb201.draw(tables, CELLS, seed)[0]
            counts = tables.counts[latency_nb201.TARGETS[name].prunes, False][chosen]
            cycles = tables.latency_ms[name][chosen] * latency_nb201.CYCLES_PER_MS
            order = np.argsort(cycles)
            for what, third in (("faster", order[: CELLS // 3]), ("slower", order[-(CELLS // 3) :])):
                fitted = np.random.default_rng(seed).choice(third, FITTED, replace=False)
                model = fit_cycle_model(
                    [[counts[fitted]]], cycles[fitted], tables.classes[chosen][fitted], {"generic": generic_relative()}
                )
                seen = np.isin(np.arange(CELLS), fitted)
                found[what].append(outside(cycles, seen, lambda _, m=model, c=counts: (m.predict(c), m.interval)))
        for what, parts in found.items():
            distances, wider = (np.concatenate(part) for part in zip(*parts, strict=True))
            yield device, f"fitted to the {what} third", distances, wider


def growth_of(distances: Floats, wider: Floats) -> float:
    """Return the smallest exponent of the distance that holds 90 % of the networks."""
    exponents = np.sort(np.log(wider) / np.log(distances))
    return float(exponents[min(len(exponents), int(np.ceil(SHARE * len(exponents)))) - 1])


def size_row(device: str, what: str, distances: Floats, wider: Floats) -> dict[str, object]:
    """Describe one data set; `near` are networks at most a factor of two outside the range."""
    near = distances <= 2
    row: dict[str, object] = {"device": device, "fit": what, "networks outside": len(distances)}
    if not len(distances):
        return row
    return row | {
        "farthest": float(distances.max()),
        "near, in the plain interval": float(np.mean(wider[near] <= 1)) if near.any() else "",
        "in the plain interval": float(np.mean(wider <= 1)),
        "in the wider interval": float(np.mean(wider <= distances**GROWTH)),
        "growth": growth_of(distances, wider),
    }


def kinds() -> dict[str, float]:
    """Return how far off kinds of networks are that no fit has seen, as factors that hold 90 % and all of them."""
    factors = []
    for rows, fit in ((m33_rows(), fit_m33), (float_rows(), fit_float)):
        factors += list(np.exp(np.abs(np.log(without_each_kind(rows, fit)))))
    ordered = np.sort(factors)
    return {
        "networks": float(len(ordered)),
        "factor of 90 %": float(ordered[int(np.ceil(SHARE * len(ordered))) - 1]),
        "factor of all": float(ordered[-1]),
        "OTHER_KIND": OTHER_KIND,
    }


def memory() -> dict[str, float]:
    """Return how far off another board's memory and code are, with a related engine, and memory between engines."""
    lender, found = load_device("stm32h747"), {}
    rows = (*IN_FLOAT, ON_CORTEX_M4, *IN_INT8)
    networks = [row.build() for row in rows]
    bare = replace(lender, engine_flash_kib=0.0, memory=replace(lender.memory, flash_kib_per_kernel=0.0))
    weights = np.array([flash_kib.estimate(network, bare).value for network in networks])
    code = np.array([flash_kib.estimate(network, lender).value for network in networks]) - weights
    ram = np.array([peak_ram_kib.estimate(network, lender).value for network in networks])
    measured = {"RAM": np.array([row.ram_kib for row in rows]) / ram}
    measured["code"] = (np.array([row.flash_kib for row in rows]) - weights) / code
    for name, ratios in measured.items():
        factors = np.sort(np.exp(np.abs(np.log(ratios))))
        found[f"{name} of another board, factor of 90 %"] = float(factors[int(np.ceil(SHARE * len(factors))) - 1])
        found[f"{name} of another board, factor of all"] = float(factors[-1])
    found["RAM between engines, largest factor"] = max(ENGINES_KIB[0] / ENGINES_KIB[1], ENGINES_KIB[1] / ENGINES_KIB[2])
    return found | {"OTHER_RAM": OTHER_RAM, "OTHER_CODE": OTHER_CODE}


def main() -> None:
    """Print and write what intervals outside the measured range need."""
    rows = [size_row(*found) for found in (*sizes_of_boards(), *sizes_of_cells())]
    fastest = smallest_of_mlperf()
    rows.append(size_row(f"{len(fastest[0])} systems of MLPerf Tiny", "fitted without the fastest network", *fastest))
    growths = [row["growth"] for row in rows if "growth" in row]
    write_results(
        "extrapolation",
        rows,
        growth_median=float(np.median(growths)),
        growth_used=GROWTH,
        kinds=kinds(),
        memory=memory(),
    )


if __name__ == "__main__":
    main()
