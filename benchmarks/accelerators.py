"""Fit two accelerators that compute with few bits, hold them to layers left out, and check the energy of a third.

    python benchmarks/accelerators.py

Reads `../shared/data/bitfusion` (APQ's table of 6,567 layers, Wang et al., 2020; BitFusion: Sharma et al., 2018) and
`../shared/data/haq` (HAQ's table of MobileNet v2 on a bit-serial FPGA design, Wang et al., 2019), prints what
the device files hold. Both come from simulators. Layers are left out by shape: all bit-widths of a shape together.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from coral_networks import alexnet
from coral_networks import mobilenet_v1
from coral_networks import mobilenet_v2
from coral_networks import resnet
from coral_networks import squeezenet
from coral_networks import vgg
from report import write_results
from scipy.optimize import least_squares
from scipy.optimize import nnls
from scipy.stats import spearmanr
from shared_data import SHARED

from estimators.devices.device import Device
from estimators.devices.files import load_device
from estimators.fitting.least_squares import Fit
from estimators.models.accelerator import HOROWITZ_45NM_PJ
from estimators.models.accelerator import LEVELS
from estimators.models.accelerator import LayerEnergy
from estimators.models.accelerator import Shape
from estimators.models.accelerator import accessed_bits
from estimators.models.accelerator import layer_energies
from estimators.models.accelerator import technology_scale
from estimators.models.counts import Floats
from estimators.models.latency import inference_ms
from estimators.models.latency import kernel_cycles
from estimators.models.latency import moved_bytes
from estimators.models.latency import occupied_macs
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.architecture import Pair

BITFUSION = SHARED / "bitfusion" / "bitfusion_lut.csv"
HAQ = SHARED / "haq" / "qmobilenetv2_imagenet100_batch16_latency_table.npy"
HAQ_BATCH = 16
# W4A4 is never priced below this share of W8A8: what the project asks for, not what the tables say.
FLOOR = 0.4
# Published frames per second, and milliwatts of the chip without its DRAM (Chen et al., 2017).
EYERISS = {"alexnet": (34.7, 278.0), "vgg16": (0.7, 236.0)}


@dataclass(frozen=True, eq=False)
class Table:
    """Layers of a published table.

    Attributes:
        kernels: `(layers,)`, each with its bits.
        cycles: `(layers,)`, for one record.
        fold: `(layers,)`, the group a layer is left out with.
        shapes: `(layers,)`, as loop nests; empty where no energy is known.
        energy_mj: `(layers,)`, empty where nobody published it.
    """

    kernels: list[Kernel]
    cycles: Floats
    fold: np.ndarray
    shapes: list[Shape]
    energy_mj: Floats


@dataclass(frozen=True, eq=False)
class Columns:
    """What a latency fit multiplies: `(layers,)` each, counted by the product."""

    macs: Floats
    bytes: Floats
    depthwise: np.ndarray
    pair: np.ndarray
    pairs: list[Pair]


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted latency model: arrays of two hold pointwise (and other dense) layers, then depthwise ones."""

    relative: Floats
    per_mac: Floats
    per_byte: Floats
    per_kernel: Floats

    def cycles(self, columns: Columns) -> Floats:
        """Return `(layers,)`."""
        kind = columns.depthwise.astype(int)
        compute = columns.macs * self.per_mac[kind] * self.relative.ravel()[columns.pair]
        return np.maximum(compute, columns.bytes * self.per_byte[kind]) + self.per_kernel[kind]


def bitfusion() -> Table:
    """Read APQ's table: pointwise and depthwise layers at 500 MHz; the simulator writes sums of 32 bits."""
    with BITFUSION.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [tuple(int(row[key]) for key in ("cin", "cout", "hw_in", "k", "stride", "groups")) for row in rows]
    order = {name: index for index, name in enumerate(sorted(set(names)))}
    # Neighbouring shapes differ by eight channels: they are dealt out at random.
    dealt = np.random.default_rng(0).permutation(len(order)) % 5
    layers = [_layer(name, int(row["wbit"]), int(row["abit"])) for name, row in zip(names, rows, strict=True)]
    return Table(
        kernels=[kernel for kernel, _ in layers],
        cycles=np.array([float(row["latency_ms"]) for row in rows]) * 500e3,
        fold=np.array([dealt[order[name]] for name in names]),
        shapes=[shape for _, shape in layers],
        energy_mj=np.array([float(row["energy_mJ"]) for row in rows]),
    )


def _layer(name: tuple[int, ...], weight_bits: int, input_bits: int) -> tuple[Kernel, Shape]:
    cin, cout, size, window, stride, groups = name
    out = (size + 2 * (window // 2) - window) // stride + 1
    fan_in = cin // groups * window**2
    kind = "pointwise" if groups == 1 else "depthwise"
    sizes = (cin * size**2, cout * out**2)
    kernel = Kernel(
        kind,
        (),
        (),
        cout * fan_in * out**2,
        cout * fan_in,
        cout,
        True,
        weight_bits,
        input_bits,
        32,
        *sizes,
    )
    return kernel, Shape(cout // groups, fan_in, cin // groups, (window, window), (out, out), groups)


def haq() -> Table:
    """Read HAQ's table: the 53 layers of MobileNet v2 with 100 classes, 1 to 8 bits, a batch of 16."""
    table = np.load(HAQ, allow_pickle=False)
    network = [kernel for kernel in mobilenet_v2(classes=100).kernels if kernel.macs]
    dealt = np.random.default_rng(0).permutation(len(network)) % 10
    cells = [(layer, weight, data) for layer, weight, data in np.ndindex(table.shape)]
    return Table(
        kernels=[
            network[layer]._replace(ops=(layer,), weight_bits=weight + 1, input_bits=data + 1, output_bits=data + 1)
            for layer, weight, data in cells
        ],
        cycles=table.ravel() / HAQ_BATCH,
        fold=np.array([dealt[layer] for layer, _, _ in cells]),
        shapes=[],
        energy_mj=np.empty(0),
    )


def columns_of(table: Table, device: Device) -> Columns:
    """Count what the device's model multiplies; the array and the widths it stores are the device file's."""
    array = device.latency.array
    pairs = sorted({(kernel.weight_bits, kernel.input_bits) for kernel in table.kernels})
    index = {pair: position for position, pair in enumerate(pairs)}
    return Columns(
        macs=np.array([float(occupied_macs(k, array) if array else k.macs) for k in table.kernels]),
        bytes=np.array([sum(moved_bytes(kernel, device)) for kernel in table.kernels]),
        depthwise=np.array([kernel.kind == "depthwise" for kernel in table.kernels]),
        pair=np.array([index[kernel.weight_bits, kernel.input_bits] for kernel in table.kernels]),
        pairs=pairs,
    )


def fit_model(columns: Columns, cycles: Floats) -> Model:
    """Fit by least squares on the relative error; relative cycles neither fall as bits grow nor break the floor."""
    widths = sorted({pair[0] for pair in columns.pairs})
    side = len(widths)
    free = side**2 - 1
    wide = np.array(widths) >= 4
    per_mac = [float(np.median((cycles / columns.macs)[columns.depthwise == kind])) for kind in (False, True)]
    per_byte = float(np.median(cycles / columns.bytes))
    products = np.outer(widths, widths).ravel()[:-1] / widths[-1] ** 2
    start = np.log([*products, *per_mac, per_byte, per_byte, 100.0, 100.0])
    low, high = np.full(len(start), -20.0), np.full(len(start), 20.0)
    # No pair is dearer than the widest, W4A4 and wider ones not cheaper than the floor.
    low[:free][np.outer(wide, wide).ravel()[:-1]], high[:free] = np.log(FLOOR), 0.0

    def unpack(logs: Floats) -> Model:
        values = np.exp(logs)
        relative = np.append(values[:free], 1.0).reshape(side, side)
        return Model(relative, values[free : free + 2], values[free + 2 : free + 4], values[free + 4 :])

    def errors(logs: Floats) -> Floats:
        return unpack(logs).cycles(columns) / cycles - 1

    start = np.clip(start, low + 1e-3, high - 1e-3)
    model = unpack(least_squares(errors, start, bounds=(low, high), max_nfev=60).x)
    rising = np.maximum.accumulate(np.maximum.accumulate(model.relative, axis=0), axis=1)
    return replace(model, relative=rising)


def select(columns: Columns, rows: np.ndarray) -> Columns:
    """Keep some of the layers."""
    kept = (getattr(columns, name)[rows] for name in ("macs", "bytes", "depthwise", "pair"))
    return Columns(*kept, columns.pairs)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of all layers, and what models without each layer's fold predict for it."""

    model: Model
    without: list[Model]
    predicted: Floats


def cross_validate(table: Table, device: Device) -> Fitted:
    """Fit to all layers, and once without each fold."""
    columns = columns_of(table, device)
    without, predicted = [], np.empty(len(table.cycles))
    for fold in range(table.fold.max() + 1):
        out = table.fold == fold
        without.append(fit_model(select(columns, ~out), table.cycles[~out]))
        predicted[out] = without[-1].cycles(select(columns, out))
    return Fitted(fit_model(columns, table.cycles), without, predicted)


def energy_columns(table: Table, device: Device) -> Floats:
    """Return `(layers, 5)`: bits moved at each of `LEVELS`, then MACs weighted by both bit-widths."""
    chip = device.energy.hierarchy
    flow = chip.dataflows[0]
    moved = [accessed_bits(k, s, flow, device, chip) for k, s in zip(table.kernels, table.shapes, strict=True)]
    levels = np.array([[bits[level] for level in LEVELS] for bits in moved])
    products = np.array([k.macs * k.weight_bits * k.input_bits / 64 for k in table.kernels])
    return np.column_stack([levels, products])


def fit_energy(columns: Floats, cycles: Floats, energy_mj: Floats) -> Floats:
    """Return `(6,)`: picojoules of each column and of a cycle, not negative, by least squares on the relative error."""
    shares = np.column_stack([columns, cycles]) / energy_mj[:, None] / 1e9
    scale = shares.mean(axis=0)
    return nnls(shares / scale, np.ones(len(shares)))[0] / scale


def cross_validate_energy(table: Table, device: Device, fitted: Fitted) -> tuple[Floats, Floats]:
    """Return the fit to all layers, and `(layers,)` energies predicted without each layer's fold, latency included."""
    counts, columns = energy_columns(table, device), columns_of(table, device)
    predicted = np.empty(len(table.cycles))
    for fold, model in enumerate(fitted.without):
        out, cycles = table.fold == fold, model.cycles(columns)
        picojoules = fit_energy(counts[~out], cycles[~out], table.energy_mj[~out])
        predicted[out] = np.column_stack([counts, cycles])[out] @ picojoules / 1e9
    return fit_energy(counts, fitted.model.cycles(columns), table.energy_mj), predicted


def judged(name: str, predicted: Floats, true: Floats) -> dict[str, object]:
    """Return a row of the table: rank correlation and errors on layers left out, and the interval."""
    errors = abs(predicted / true - 1)
    return {
        "table": name,
        "layers": len(true),
        "spearman": float(spearmanr(predicted, true).statistic),
        "error_mean": float(errors.mean()),
        "error_max": float(errors.max()),
        "interval": Fit(np.empty(0), true / predicted, 0.0).interval,
    }


def figures_of(model: Model, pairs: list[Pair]) -> dict[str, object]:
    """Return what the device file holds, rounded as there."""
    names = {name: list(map(_rounded, getattr(model, name))) for name in ("per_mac", "per_byte", "per_kernel")}
    relative = zip(pairs, model.relative.ravel(), strict=True)
    return {
        **{f"cycles_{name} of pointwise, depthwise": values for name, values in names.items()},
        "relative_cycles": {"/".join(map(str, pair)): _rounded(value) for pair, value in relative},
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if value > 1e-6 else 0.0


def narrowest_share(table: Table, device: Device) -> dict[str, float]:
    """W4A4 over W8A8: the table's layers and their sum, and the device's layers and whole networks, the smallest."""
    cells: dict[tuple[object, ...], dict[Pair, int]] = {}
    for index, kernel in enumerate(table.kernels):
        # A network repeats layers; all rows of one layer stand together.
        shape = (kernel.kind, kernel.weights, kernel.input_size, kernel.output_size, kernel.ops)
        cells.setdefault(shape, {})[kernel.weight_bits, kernel.input_bits] = index
    both = [(cell[4, 4], cell[8, 8]) for cell in cells.values() if (4, 4) in cell]
    measured = np.array([[table.cycles[row] for row in pair] for pair in both])
    priced = np.array([[kernel_cycles(table.kernels[row], device) for row in pair] for pair in both])
    networks = [inference_ms(net(4), device).value / inference_ms(net(8), device).value for net in NETWORKS]
    return {
        "table_layer": float((measured[:, 0] / measured[:, 1]).min()),
        "table_sum": float(measured[:, 0].sum() / measured[:, 1].sum()),
        "device_layer": float((priced[:, 0] / priced[:, 1]).min()),
        "device_sum": float(priced[:, 0].sum() / priced[:, 1].sum()),
        "device_network": min(networks),
    }


def _resnet50(bits: int) -> Architecture:
    return resnet((3, 4, 6, 3), before=False, bits=bits)


NETWORKS = (mobilenet_v1, mobilenet_v2, squeezenet, _resnet50)


def eyeriss() -> list[dict[str, object]]:
    """Hold the device built from published constants to the chip: convolutions of AlexNet and VGG-16, DRAM apart."""
    device = load_device("eyeriss_like")
    rows = []
    for network in (alexnet(16), vgg(bits=16)):
        layers = [(network.kernels[layer.kernel], layer) for layer in layer_energies(network, device)]
        conv = [layer for kernel, layer in layers if kernel.kind == "conv"]
        macs = sum(kernel.macs for kernel, _ in layers if kernel.kind == "conv")
        per_second, power_mw = EYERISS[network.space]
        moving_mj = sum(layer.energy_mj - layer.level_mj["dram"] - layer.static_mj for layer in conv)
        rows.append(
            {
                "network": network.space,
                "measured_cycles_per_mac": device.clock_mhz * 1e6 / per_second / macs,
                "measured_chip_mj": power_mw / per_second,
                "predicted_chip_mj": moving_mj + sum(layer.static_mj for layer in conv),
                "predicted_moving_mj": moving_mj,
                "unexplained_mw": power_mw - moving_mj * per_second,
                "conv_register_share": _share(conv, "register_file"),
                "conv_dram_share": _share(conv, "dram"),
                "linear_dram_share": _share([layer for kernel, layer in layers if kernel.kind == "linear"], "dram"),
            }
        )
    return rows


def eyeriss_left_out(rows: list[dict[str, object]]) -> dict[str, float]:
    """Predict each network's time and chip energy with the other's cycles per MAC and unexplained power."""
    time, energy = [], []
    for row, other in (rows, rows[::-1]):
        time.append(row["measured_cycles_per_mac"] / other["measured_cycles_per_mac"])
        seconds = row["measured_chip_mj"] / EYERISS[row["network"]][1] / time[-1]
        predicted_mj = row["predicted_moving_mj"] + other["unexplained_mw"] * seconds
        energy.append(row["measured_chip_mj"] / predicted_mj)
    figures = {}
    for name, ratios in (("time", time), ("energy", energy)):
        fit = Fit(np.empty(0), np.array(ratios), 0.0)
        figures |= {f"{name}_error_mean": abs(fit.errors).mean(), f"{name}_error_max": abs(fit.errors).max()}
        figures[f"{name}_interval"] = fit.interval
    return {name: float(value) for name, value in figures.items()}


def _share(layers: list[LayerEnergy], level: str) -> float:
    """Return a level's part of what MACs and accesses cost, the static part left out as in Chen et al. (2016)."""
    return sum(layer.level_mj[level] for layer in layers) / sum(layer.energy_mj - layer.static_mj for layer in layers)


def mac_pj_65nm() -> float:
    """Return the picojoules of a 16-bit MAC with 32-bit sums at 65 nm and 1.0 V, which Eyeriss was made in."""
    return (HOROWITZ_45NM_PJ["int16_multiply"] + HOROWITZ_45NM_PJ["int32_add"]) * technology_scale(65, 1.0)


def main() -> None:
    """Fit, print and write."""
    if not (BITFUSION.exists() and HAQ.exists()):
        sys.exit("skipped: no bitfusion/ and haq/ in the shared data beside the repository")
    facts: dict[str, object] = {}
    rows = []
    for name, table in (("bitfusion_like", bitfusion()), ("bit_serial_fpga", haq())):
        device = load_device(name)
        fitted = cross_validate(table, device)
        rows.append({"device": name, **judged("cycles", fitted.predicted, table.cycles)})
        facts[name] = figures_of(fitted.model, columns_of(table, device).pairs)
        facts[f"{name} W4A4/W8A8"] = narrowest_share(table, device)
        if len(table.energy_mj):
            picojoules, predicted = cross_validate_energy(table, device, fitted)
            rows.append({"device": name, **judged("energy", predicted, table.energy_mj)})
            facts["picojoules"] = dict(zip((*LEVELS, "mac_8_8", "cycle"), map(_rounded, picojoules), strict=True))
    chip = eyeriss()
    facts |= {"eyeriss": chip, "eyeriss left out": eyeriss_left_out(chip), "mac_pj_65nm": mac_pj_65nm()}
    write_results("accelerators", rows, **facts)


if __name__ == "__main__":
    main()
