"""State the error of energy = power x time on MLPerf Tiny, each network left out of both.

    python benchmarks/energy_mcu.py

Reads `../shared/data/mlperf_tiny`. The power is the mean of the system's other networks, the time either measured or
predicted as in `latency_mcu.py` (the network left out of this system, seen on other cores with the same engine). Where
an engine skips the dead channels of `vww` its time cannot be predicted from the graph: its power alone is judged; one
median at the end counts these energies too, at their full error.

The last figures say how many energies lie in the 90 % interval of a prediction that never saw the network: time, power
and both intervals come from the system's other networks. Once the half-widths of time and power are added, once they
add as squares, as `estimators.models.energy` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from latency_mcu import FAMILIES
from latency_mcu import SHIPPED
from latency_mcu import TASKS
from latency_mcu import Family
from latency_mcu import judge
from latency_mcu import mlperf_rows
from latency_mcu import skipped_channels
from report import write_results

from estimators.fitting.least_squares import Fit
from estimators.models.counts import Floats


def powers_mw(family: Family, system: str) -> dict[str, float]:
    """Return mean power by task, where the energy was measured: microjoules per millisecond are milliwatts."""
    rows = mlperf_rows(family, system)
    return {
        task: float(rows[task]["energy_uJ"]) / float(rows[task]["latency_ms"])
        for task in TASKS
        if rows[task]["energy_uJ"]
    }


def judge_power(power: Floats) -> Fit:
    """Return the mean power and, for each network, measured over predicted by the mean of the others."""
    others = (power.sum() - power) / (len(power) - 1)
    return Fit(np.array([power.mean()]), power / others, 0.0)


def power_of_shipped() -> dict[str, Fit]:
    """Judge the power of the systems that ship as device files, by the device's name."""
    found = {}
    for family in FAMILIES:
        for system in family.systems:
            power = powers_mw(family, system)
            if power and (family.engine, system) in SHIPPED:
                found[SHIPPED[family.engine, system]] = judge_power(np.array(list(power.values())))
    return found


def energy_ratios(family: Family, system: str) -> tuple[Floats, Floats]:
    """Return measured over predicted energy: with the time measured, and with the time predicted."""
    power = powers_mw(family, system)
    by_power = judge_power(np.array(list(power.values()))).ratios
    by_time = dict(zip(family.tasks, judge(family, system).fit.ratios, strict=True))
    both = [ratio * by_time[task] for task, ratio in zip(power, by_power, strict=True) if task in by_time]
    return by_power, np.array(both)


@dataclass(frozen=True)
class Without(Family):
    """A family as if one of its networks had not been measured.

    Attributes:
        left_out: Its task.
    """

    left_out: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The networks that are left."""
        return tuple(task for task in super().tasks if task != self.left_out)


COMBINED: dict[str, Callable[[float, float], float]] = {
    "added": lambda time, power: time + power,
    "as_squares": lambda time, power: float(np.hypot(time, power)),
}
"""How the relative half-widths of a time and a power make that of the energy."""


def covered() -> dict[str, float]:
    """Return the share of energies in the 90 % interval of a prediction without the network, by how it is combined."""
    held: dict[str, list[bool]] = {name: [] for name in COMBINED}
    for family in FAMILIES:
        for system in family.systems:
            powers = powers_mw(family, system)
            for task in set(powers) & set(family.tasks):
                rest = Without(**vars(family), left_out=task)
                others = judge_power(np.array([power for name, power in powers.items() if name != task]))
                time = judge(family, system).unseen[family.tasks.index(task)]
                ratio = time * powers[task] / others.coefficients[0]
                for name, combine in COMBINED.items():
                    half_width = combine(judge(rest, system).interval, others.interval)
                    held[name].append(bool(abs(ratio - 1) <= half_width))
    return {name: float(np.mean(of_all)) for name, of_all in held.items()}


def main() -> None:
    """Print and write the errors."""
    rows: list[dict[str, object]] = []
    errors: dict[str, list[float]] = {"measured time": [], "predicted time": []}
    full: list[float] = []
    for family in FAMILIES:
        for system in family.systems:
            power = powers_mw(family, system)
            if not power:
                continue
            row: dict[str, object] = {"device": SHIPPED.get((family.engine, system), ""), "system": system}
            row |= {"engine": family.engine, "networks": len(power), "power_mw": float(np.mean(list(power.values())))}
            for time, ratios in zip(errors, energy_ratios(family, system), strict=True):
                found = np.abs(1 / ratios - 1)
                errors[time] += list(map(float, found))
                row |= {f"{time}, median": float(np.median(found)), f"{time}, worst": float(found.max())}
            if not family.dense and "vww" in power:
                full.append(abs(1 / (skipped_channels(family, system) * energy_ratios(family, system)[0][-1]) - 1))
            rows.append(row)
    facts = {f"median_error_with_{time}".replace(" ", "_"): float(np.median(found)) for time, found in errors.items()}
    facts["median_error_with_every_vww"] = float(np.median(errors["predicted time"] + full))
    facts |= {f"in_90_percent_interval_{name}": share for name, share in covered().items()}
    write_results("energy_mcu", rows, **facts, energies=len(errors["predicted time"]), energies_of_skipped=len(full))


if __name__ == "__main__":
    main()
