"""Fit the two microcontrollers' cycles per MAC to published measurements and state the error on networks left out.

    python benchmarks/mcu_devices.py

Reads `../shared/data/stm32` (ST's model zoo: ten int8 networks on one STM32H747) and `../shared/data/mlperf_tiny` (four
networks on one STM32L4R5), prints what the device files hold.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from reference_networks import REFERENCE_NETWORKS
from report import ROOT
from report import write_results

from estimators.calibration import Fit
from estimators.calibration import Floats
from estimators.calibration import fit_cycles
from estimators.device import MAC_KINDS

DATA = ROOT.parent / "shared" / "data"
KINDS = ("conv", "depthwise", "pointwise", "linear")
H747_MHZ, H7A3_MHZ, L4R5_MHZ = 400, 280, 120


def read_rows(path: Path, **wanted: str) -> list[dict[str, str]]:
    """Return a table's rows that have the wanted values."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def mlperf_rows(system: str) -> dict[str, dict[str, str]]:
    """Return the rows of one of ST's systems with X-CUBE-AI 9.0, by task."""
    path = DATA / "mlperf_tiny" / "mlperf_tiny_v1.0-1.2.csv"
    rows = read_rows(path, round="v1.2", org="STMicroelectronics", system=system)
    return {row["benchmark"]: row for row in rows}


def reference_macs() -> dict[str, Floats]:
    """Return `(4,)` MACs by type for each reference network, in the order of `KINDS`."""
    macs = {}
    for task, network in REFERENCE_NETWORKS.items():
        kernels = [kernel for kernel in network().kernels if kernel.kind in MAC_KINDS]
        macs[task] = np.array([float(sum(k.macs for k in kernels if k.kind == kind)) for kind in KINDS])
    return macs


def fit_stm32h747() -> Fit:
    """Fit convolution, depthwise and pointwise; linear layers hold under 0.1 % of these networks' MACs."""
    rows = [row for row in read_rows(DATA / "stm32" / "stm32h747_int8_measured.csv") if row["macs_total"]]
    counts = np.array([[float(row[key]) for key in ("macs_conv", "macs_dw", "macs_pw")] for row in rows])
    return fit_cycles(counts, np.array([float(row["latency_ms"]) * H747_MHZ * 1e3 for row in rows]))


def h7a3_cycles_per_mac(task: str) -> float:
    """Cycles per MAC of a whole network on another Cortex-M7, the H7A3, with X-CUBE-AI 9.0."""
    latency_ms = float(mlperf_rows("NUCLEO_H7A3ZI_Q")[task]["latency_ms"])
    return latency_ms * H7A3_MHZ * 1e3 / float(reference_macs()[task].sum())


def fit_stm32l4r5() -> Fit:
    """Fit four types to four networks, pulled to what the same engine costs on the H7A3.

    There, too, four networks cannot tell convolution, depthwise and pointwise apart; they share the cycles of `ic`,
    which is convolutions. Linear layers have those of `ad`. Left out, `ad` is therefore predicted from itself on the
    other core: it stays out of the errors.
    """
    macs, rows = reference_macs(), mlperf_rows("NUCLEO_L4R5ZI")
    counts = np.array([macs[task] for task in rows])
    cycles = np.array([float(row["latency_ms"]) * L4R5_MHZ * 1e3 for row in rows.values()])
    conv, linear = h7a3_cycles_per_mac("ic"), h7a3_cycles_per_mac("ad")
    fit = fit_cycles(counts, cycles, np.array([conv, conv, conv, linear]))
    return replace(fit, ratios=fit.ratios[[task != "ad" for task in rows]])


def l4r5_power_mw() -> Floats:
    """Return `(4,)` mean power of each network: microjoules per millisecond are milliwatts."""
    return np.array(
        [float(row["energy_uJ"]) / float(row["latency_ms"]) for row in mlperf_rows("NUCLEO_L4R5ZI").values()]
    )


def main() -> None:
    """Print and write the fits."""
    h747, l4r5, power = fit_stm32h747(), fit_stm32l4r5(), l4r5_power_mw()
    rows: list[dict[str, object]] = []
    for name, fit in (("stm32h747", h747), ("stm32l4r5", l4r5)):
        cycles = dict(zip(KINDS, map(float, fit.coefficients), strict=False))
        errors = {"error_mean": float(abs(fit.errors).mean()), "error_max": float(abs(fit.errors).max())}
        rows.append({"device": name, **cycles, **errors, "interval": fit.interval, "strength": fit.strength})
    rows[0]["linear"] = h7a3_cycles_per_mac("ad")
    facts = {"l4r5_power_mw": float(power.mean()), "l4r5_power_spread": float(abs(power / power.mean() - 1).max())}
    write_results("mcu_devices", rows, **facts)


if __name__ == "__main__":
    main()
