"""Predict memory and flash of ST's fifteen networks, each from the others, and compare rules for computing in place.

    python benchmarks/peak_ram.py

Reads `../shared/data/stm32` (int8, STM32H747, STM32Cube.AI 9.1). First what needs no fit: MACs by type and bytes of
weights and biases of the graphs in `reference_networks.py`, against the table. Then the tensors' peak in the best order
under each rule for computing in place; what the engine adds to it (an offset, or a factor) is fitted to the networks
left in. Errors are means over networks left out one by one, and by families: the same network at another width or
resolution is no stranger. Memory beside the activation buffer, and flash beside constants, are lines over the number of
kernels. Prints what the device file holds.

Last the thirteen small networks of `small_networks.py` on the STM32U585, in int8 and in float, each kind predicted from
the other kinds and ST's fifteen networks together: what the file of the STM32U575 holds.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from reference_networks import ST_NETWORKS
from report import write_results
from scipy.optimize import nnls
from shared_data import SHARED
from small_networks import IN_FLOAT
from small_networks import IN_INT8
from small_networks import ON_CORTEX_M4

from estimators.cost import flash_kib
from estimators.cost import peak_ram_kib
from estimators.devices.device import Device
from estimators.devices.device import Memory
from estimators.devices.files import load_device
from estimators.fitting.least_squares import interval_of
from estimators.models.counts import Floats
from estimators.models.extrapolation import is_float
from estimators.models.memory import best_order
from search_spaces.graph.architecture import Architecture

KIB = 1024
DEVICE = "stm32h747"
TABLE = SHARED / "stm32" / "stm32h747_int8_measured.csv"
MACS = {"conv": "macs_conv", "depthwise": "macs_dw", "pointwise": "macs_pw", "linear": "macs_fc"}
RULES: dict[str, tuple[str, ...]] = {
    "nothing in place": (),
    "add": ("add",),
    "add, depthwise": ("add", "depthwise"),
    "depthwise, pool": ("depthwise", "pool"),
    "conv": ("conv",),
    "conv, pool": ("conv", "pool"),
    "conv, depthwise, pool": ("conv", "depthwise", "pool"),
    "conv, depthwise, pool, add": ("conv", "depthwise", "pool", "add"),
    "conv, depthwise, pool, pointwise": ("conv", "depthwise", "pool", "pointwise"),
}
TOTALS = ("total_ram_kib", "total_flash_kib")
SHIPPED = "conv, depthwise, pool"
BYTES_PER_SCALE = 5
SMALL = (*IN_FLOAT, ON_CORTEX_M4, *IN_INT8)
BEFORE_KIB = 13.4
"""Engine and scratch together, the rule for networks of all sizes before small ones were measured."""
PER_TENSOR = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Above 3 a float network would take less memory than its int8 form."""
WIDTHS = (("mobilenet_v1_0.25_224", "mobilenet_v1_0.5_224"), ("fdmobilenet_0.25_224", "st_fdmobilenet_v1_224"))

Fit = Callable[[Floats, Floats], Callable[[Floats], Floats]]


def read_table() -> list[dict[str, str]]:
    """Return the rows that have a graph; leaves with a reason where the data are absent."""
    if not TABLE.exists():
        sys.exit("skipped: no ST table in shared/data/stm32 beside the repository's folder")
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["model"] in ST_NETWORKS]


def constants_bytes(network: Architecture) -> int:
    """Bytes of int8 weights and 32-bit biases."""
    return sum(kernel.weights + 4 * kernel.channels * kernel.bias for kernel in network.kernels)


def same_macs(network: Architecture, row: dict[str, str]) -> bool | None:
    """Tell whether MACs of all four types equal the table's; None where it has none."""
    if not row["macs_total"]:
        return None
    found = {kind: sum(k.macs for k in network.kernels if k.kind == kind) for kind in MACS}
    return all(found[kind] == float(row[name]) for kind, name in MACS.items())


def with_rule(in_place: tuple[str, ...]) -> Device:
    """Return the device with nothing but a rule for computing in place."""
    return replace(load_device(DEVICE), memory=Memory(in_place=in_place))


def tensors_kib(networks: Sequence[Architecture], in_place: tuple[str, ...]) -> Floats:
    """Return `(networks,)` peaks of the best order, without the engine's memory."""
    return np.array([best_order(network, with_rule(in_place))[1] / KIB for network in networks])


def offset(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Fit y = x + a, with the smallest mean relative error: a median weighted by 1 / y."""
    order = np.argsort(y - x)
    share = np.cumsum(1 / y[order])
    added = float((y - x)[order][np.searchsorted(share, share[-1] / 2)])
    return lambda new: new + added


def factor(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Fit y = a x by the median ratio."""
    ratio = float(np.median(y / x))
    return lambda new: new * ratio


def line(x: Floats, y: Floats) -> Callable[[Floats], Floats]:
    """Fit y = a + b x by least squares."""
    slope, start = np.polyfit(x, y, 1)
    return lambda new: start + slope * new


def left_out(fit: Fit, x: Floats, y: Floats, groups: Sequence[str]) -> Floats:
    """Predict each group from a fit to the others: `(networks,)`."""
    predicted = np.empty_like(y)
    labels = np.array(groups)
    for group in set(groups):
        out = labels == group
        predicted[out] = fit(x[~out], y[~out])(x[out])
    return predicted


def error(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Mean and largest relative error."""
    relative = np.abs(predicted / measured - 1)
    return {"mean": float(relative.mean()), "max": float(relative.max())}


@dataclass(frozen=True)
class Measured:
    """ST's table beside what the graphs say, one figure for each network, in KiB."""

    names: list[str]
    networks: list[Architecture]
    rows: list[dict[str, str]]

    @classmethod
    def read(cls) -> Measured:
        """Read the table."""
        rows = read_table()
        names = [row["model"] for row in rows]
        return cls(names, [ST_NETWORKS[name]() for name in names], rows)

    def column(self, key: str) -> Floats:
        """Return a column of the table."""
        return np.array([float(row[key]) for row in self.rows])

    @property
    def groupings(self) -> dict[str, list[str]]:
        """What is left out at a time."""
        return {"network": self.names, "family": [network.space for network in self.networks]}

    @property
    def kernels(self) -> Floats:
        """How many kernels run, views counted."""
        return np.array([float(len(network.kernels)) for network in self.networks])

    @property
    def channels(self) -> Floats:
        """Output channels with a scale."""
        return np.array([float(sum(kernel.channels for kernel in network.kernels)) for network in self.networks])

    @property
    def constants(self) -> Floats:
        """Weights of one byte and biases of four."""
        return np.array([constants_bytes(network) / KIB for network in self.networks])

    @property
    def runtime(self) -> Floats:
        """Memory beside the activation buffer."""
        return self.column("total_ram_kib") - self.column("activation_ram_kib")


def compare_rules(measured: Measured) -> list[dict[str, object]]:
    """Return one line for each rule and each way from the tensors to the activation buffer: mean errors left out."""
    lines: list[dict[str, object]] = []
    activations = measured.column("activation_ram_kib")
    for name, kinds in RULES.items():
        tensors = tensors_kib(measured.networks, kinds)
        for fit in (factor, offset):
            means = {
                key: error(left_out(fit, tensors, activations, groups), activations)["mean"]
                for key, groups in measured.groupings.items()
            }
            lines.append({"in_place": name, "fitted": fit.__name__, **means})
    return lines


def predict(measured: Measured, groups: Sequence[str]) -> dict[str, Floats]:
    """Predict each group's activation buffer, memory and flash from the other groups."""
    tensors = tensors_kib(measured.networks, RULES[SHIPPED])
    activations = left_out(offset, tensors, measured.column("activation_ram_kib"), groups)
    known = measured.constants + measured.channels * BYTES_PER_SCALE / KIB
    code = left_out(line, measured.kernels, measured.column("total_flash_kib") - known, groups)
    runtime = left_out(line, measured.kernels, measured.runtime, groups)
    return {"activation_ram_kib": activations, "total_ram_kib": activations + runtime, "total_flash_kib": known + code}


def fit_engine(measured: Measured) -> dict[str, float]:
    """Fit what a device file holds to all networks. The offset stands for the scratch of kernels."""
    nothing, one = np.zeros(1), np.ones(1)
    tensors = tensors_kib(measured.networks, RULES[SHIPPED])
    scratch = offset(tensors, measured.column("activation_ram_kib"))
    runtime = line(measured.kernels, measured.runtime)
    known = measured.constants + measured.channels * BYTES_PER_SCALE / KIB
    code = line(measured.kernels, measured.column("total_flash_kib") - known)
    return {
        "scratch_kib": float(scratch(nothing)[0]),
        "engine_ram_kib": float(runtime(nothing)[0]),
        "ram_kib_per_kernel": float((runtime(one) - runtime(nothing))[0]),
        "engine_flash_kib": float(code(nothing)[0]),
        "flash_kib_per_kernel": float((code(one) - code(nothing))[0]),
    }


def bytes_per_scale(measured: Measured) -> dict[str, float]:
    """Bytes of flash that one more channel takes beside weights and bias, from networks that differ in width alone."""
    beside = (measured.column("total_flash_kib") - measured.constants) * KIB
    found = {}
    for narrow, wide in WIDTHS:
        first, second = measured.names.index(narrow), measured.names.index(wide)
        more = measured.channels[second] - measured.channels[first]
        found[f"{narrow} to {wide}"] = float((beside[second] - beside[first]) / more)
    return found


@dataclass(frozen=True)
class Board:
    """Networks on two boards with one engine, in KiB; the small ones come first.

    Attributes:
        kinds: What each is left out with.
        tensors: Peak of its tensors.
        in_float: Whether it computes in floating point.
        kernels: How many run.
        ram: All RAM, measured.
        flash: All flash, measured.
    """

    kinds: NDArray[np.str_]
    tensors: Floats
    in_float: NDArray[np.bool_]
    kernels: Floats
    ram: Floats
    flash: Floats

    @classmethod
    def of(cls, measured: Measured) -> Board:
        """Describe the small networks and ST's."""
        small = [row.build() for row in SMALL]
        networks = [*small, *measured.networks]
        in_float = [all(is_float(kernel) for kernel in network.kernels if kernel.macs) for network in networks]
        return cls(
            np.array([network.space for network in networks]),
            tensors_kib(networks, RULES[SHIPPED]),
            np.array(in_float),
            np.array([float(len(network.kernels)) for network in networks]),
            np.array([*(row.ram_kib for row in SMALL), *measured.column("total_ram_kib")]),
            np.array([*(row.flash_kib for row in SMALL), *measured.column("total_flash_kib")]),
        )

    def with_scratch(self, most: float, per_tensor: float) -> Floats:
        """Return tensors with the memory that integer kernels work in."""
        return self.tensors + np.where(self.in_float, 0.0, np.minimum(most, per_tensor * self.tensors))


def fit_board(board: Board, measured: Measured, seen: NDArray[np.bool_]) -> dict[str, float]:
    """Fit engine and scratch by relative least squares; of the factors in `PER_TENSOR`, the best."""
    nothing = np.zeros(1)
    tensors = tensors_kib(measured.networks, RULES[SHIPPED])
    most = float(offset(tensors, measured.column("activation_ram_kib"))(nothing)[0])
    found = []
    for per_tensor in PER_TENSOR:
        start, slope, left = beside(board.ram - board.with_scratch(most, per_tensor), board.kernels, board.ram, seen)
        found.append((left, per_tensor, start, slope))
    _, per_tensor, start, slope = min(found)
    return {
        "scratch_kib": most,
        "scratch_per_tensor": per_tensor,
        "engine_ram_kib": start,
        "ram_kib_per_kernel": slope,
    }


def beside(rest: Floats, kernels: Floats, whole: Floats, seen: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Fit rest = a + b kernels with the smallest error relative to the whole; return a, b and what is left."""
    shares = np.column_stack([np.ones(len(kernels)), kernels])[seen] / whole[seen, None]
    (start, slope), left = nnls(shares, rest[seen] / whole[seen])
    return float(start), float(slope), float(left)


def price_board(board: Board, fitted: dict[str, float]) -> Floats:
    """Return `(networks,)` RAM."""
    tensors = board.with_scratch(fitted["scratch_kib"], fitted["scratch_per_tensor"])
    return tensors + fitted["engine_ram_kib"] + fitted["ram_kib_per_kernel"] * board.kernels


def half_width(measured: Floats, predicted: Floats) -> float:
    """Return the half-width in KiB that holds 90 % of networks left out: the conformal quantile."""
    errors = np.sort(np.abs(measured - predicted))
    return float(errors[min(len(errors), int(np.ceil(0.9 * (len(errors) + 1)))) - 1])


def judge_board(measured: Measured) -> dict[str, object]:
    """Fit the STM32U575's memory, and predict each kind of its networks without it."""
    board = Board.of(measured)
    own = np.arange(len(board.kinds)) < len(SMALL)
    ram = np.empty(len(own))
    for kind in dict.fromkeys(board.kinds[own]):
        out = board.kinds == kind
        ram[out] = price_board(board, fit_board(board, measured, ~out))[out]
    lender, networks = load_device(DEVICE), [row.build() for row in SMALL]
    plain = replace(lender, engine_ram_kib=BEFORE_KIB, memory=replace(lender.memory, scratch_kib=0.0))
    rows = [
        {
            "network": row.name,
            "ram_kib": row.ram_kib,
            "ram, kind left out": float(ram[index]),
            "ram, by the STM32H747's rules": peak_ram_kib.estimate(networks[index], lender).value,
            "ram, these rules without a limit of the scratch": peak_ram_kib.estimate(networks[index], plain).value,
            "flash_kib": row.flash_kib,
            "flash, by the STM32H747's rules": flash_kib.estimate(networks[index], lender).value,
        }
        for index, row in enumerate(SMALL)
    ]
    return {
        "networks": rows,
        "fitted": fit_board(board, measured, np.ones(len(own), dtype=np.bool_)),
        # In KiB: an error of the engine's share, which is most of a small network.
        "intervals_kib": {
            "ram": half_width(board.ram[own], ram[own]),
            "flash": half_width(
                board.flash[own], np.array([flash_kib.estimate(one, lender).value for one in networks])
            ),
        },
    }


def compare(measured: Measured, found: dict[str, Floats], index: int) -> dict[str, object]:
    """Return one network's line of the table; errors are relative, all networks of its kind left out."""
    row = measured.rows[index]
    tensors = best_order(measured.networks[index], with_rule(RULES[SHIPPED]))[1] / KIB
    return {
        "network": measured.names[index],
        "macs_equal": same_macs(measured.networks[index], row),
        "weights_error_kib": float(measured.constants[index]) - float(row["weights_flash_kib"]),
        "tensors_kib": tensors,
        **{key.removeprefix("total_"): float(row[key]) for key in found},
        **{f"{key.split('_')[-2]} error": float(found[key][index]) / float(row[key]) - 1 for key in TOTALS},
    }


def main() -> None:
    """Print and write the comparison, the fits and the errors."""
    measured = Measured.read()
    found = {key: predict(measured, groups) for key, groups in measured.groupings.items()}
    device = load_device(DEVICE)
    prices = {"total_ram_kib": peak_ram_kib.estimate, "total_flash_kib": flash_kib.estimate}
    in_file = {
        key: error(np.array([metric(network, device).value for network in measured.networks]), measured.column(key))
        for key, metric in prices.items()
    }
    unseen = found["family"]
    write_results(
        "peak_ram",
        [compare(measured, unseen, index) for index in range(len(measured.rows))],
        **{f"mean_{key}_error": error(unseen[key], measured.column(key))["mean"] for key in TOTALS},
        rules=compare_rules(measured),
        left_out={
            grouping: {key: error(figures, measured.column(key)) for key, figures in predicted.items()}
            for grouping, predicted in found.items()
        },
        # What the device files state: the larger of the two ways of leaving out.
        intervals={key: max(interval_of(measured.column(key) / one[key]) for one in found.values()) for key in TOTALS},
        device_file=in_file,
        fitted=fit_engine(measured),
        bytes_per_scale=bytes_per_scale(measured),
        stm32u575=judge_board(measured),
    )


if __name__ == "__main__":
    main()
