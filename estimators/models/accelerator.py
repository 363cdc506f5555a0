"""Energy on an accelerator: what each layer's MACs cost, and each access to each level of its memory.

Moving data costs more than computing: one read of DRAM is worth 200 MACs of 16 bits (Chen et al., 2016). How often a
value is read again from each level depends on the dataflow, so a layer's dataflow is part of its price. Accesses follow
Sze et al. (2017): a value fetched `a` times from DRAM, from there `b` times from the buffer, `c` times across the array
and `d` times from a register file costs `a E_dram + a b E_buffer + a b c E_array + a b c d E_register`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import NamedTuple
from typing import TypeAlias

from estimators.devices.device import Device
from estimators.devices.device import Hierarchy
from estimators.devices.device import stored_width
from estimators.devices.fields import CannotRun
from estimators.devices.fields import no_rule
from estimators.models.latency import kernel_cycles
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.architecture import groups_of
from search_spaces.graph.operators import ELEMENT_KINDS
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.operators import VIEW_KINDS

LEVELS = ("register_file", "array", "buffer", "dram")
PICOJOULES_PER_MILLIJOULE = 1e9
BITS_PER_KIB = 8 * 1024

# Energy of one operation is a V^2 + b V + c at supply V, relative within the table (Stillmaker and Baas, 2017).
NODES: Mapping[int, tuple[float, float, float]] = MappingProxyType(
    {
        65: (3.755, -4.398, 1.975),
        45: (1.103, -0.362, 0.2767),
        32: (0.9559, -0.7823, 0.471),
        20: (0.373, -0.1582, 0.04104),
        16: (0.2958, -0.1241, 0.03024),
        7: (0.1776, -0.09097, 0.02447),
    }
)
# Picojoules of one operation in 45 nm at 0.9 V (Horowitz, 2014). A product's energy is quadratic in its bits
# (8 to 32 bits: 15.5 times), so that of 16 bits is the geometric mean of its neighbours.
HOROWITZ_45NM_PJ: Mapping[str, float] = MappingProxyType(
    {
        "int8_add": 0.03,
        "int16_add": 0.05,
        "int32_add": 0.1,
        "int8_multiply": 0.2,
        "int16_multiply": (0.2 * 3.1) ** 0.5,
        "int32_multiply": 3.1,
        "fp16_add": 0.4,
        "fp16_multiply": 1.1,
        "fp32_add": 0.9,
        "fp32_multiply": 3.7,
    }
)


def technology_scale(nanometres: int, volts: float, *, from_nanometres: int = 45, from_volts: float = 0.9) -> float:
    """Return what an operation's energy in one technology is multiplied by to have it in another.

    From Stillmaker and Baas (2017), whose polynomials were fitted to simulated inverters. Logic scales this way; wires,
    and so memories, scale less.

    Raises:
        ValueError: If the table has no such technology, or a supply is not within 0.5 to 1.3 volts.

    >>> round(technology_scale(65, 0.8, from_volts=0.8), 2), round(technology_scale(7, 0.8, from_volts=0.8), 3)
    (1.24, 0.094)
    """
    return _relative_energy(nanometres, volts) / _relative_energy(from_nanometres, from_volts)


def _relative_energy(nanometres: int, volts: float) -> float:
    if nanometres not in NODES:
        raise ValueError(f"no technology of {nanometres} nm; there are {list(NODES)}")
    if not 0.5 <= volts <= 1.3:
        raise ValueError(f"expected a supply from 0.5 to 1.3 volts; got {volts}")
    square, linear, constant = NODES[nanometres]
    return square * volts**2 + linear * volts + constant


class Shape(NamedTuple):
    """A layer as a loop nest.

    Attributes:
        filters: Output channels of one group.
        fan_in: Products summed into one output.
        channels: Input channels of one group.
        window: Rows and columns of the filter.
        pixels: Rows and columns of the output.
        groups: Channel groups.
    """

    filters: int
    fan_in: int
    channels: int
    window: tuple[int, int]
    pixels: tuple[int, int]
    groups: int


class Reuse(NamedTuple):
    """How often a value is used in each place before it has to come from the level above.

    Attributes:
        register_file: Uses of a value while it stays in one processing element.
        array: Processing elements that share one read of the buffer.
    """

    register_file: float
    array: float


class Mapped(NamedTuple):
    """The reuse a dataflow gives to each kind of data."""

    weights: Reuse
    inputs: Reuse
    sums: Reuse


Dataflow: TypeAlias = Callable[[Shape, Hierarchy], Mapped]


def row_stationary(shape: Shape, chip: Hierarchy) -> Mapped:
    """Keep a row of the filter in each processing element, for several filters and channels (Chen et al., 2016).

    A filter's row slides along a row of the image, so weights are used once for each output column, inputs once for
    each filter kept, sums once for each weight of the row and channel kept. Columns of the array hold rows of the
    output, its rows those of the filter; spare rows take further channels.
    """
    kept = max(1, chip.register_words // shape.window[1])
    filters = min(shape.filters, max(1, kept // min(shape.channels, 4)))
    channels = min(shape.channels, max(1, kept // filters))
    rows = min(shape.window[0], chip.rows)
    sets = min(max(1, chip.rows // rows), ceil(shape.channels / channels))
    window_uses = min(shape.window[1], shape.pixels[1])
    return Mapped(
        weights=Reuse(shape.pixels[1], min(shape.pixels[0], chip.columns)),
        inputs=Reuse(window_uses * filters, min(rows, shape.pixels[0])),
        sums=Reuse(shape.window[1] * channels, rows * sets),
    )


def weight_stationary(shape: Shape, chip: Hierarchy) -> Mapped:
    """Keep weights; inputs pass along a row of filters, sums down a column of the fan-in, as in a systolic array."""
    return Mapped(
        weights=Reuse(shape.pixels[0] * shape.pixels[1], 1),
        inputs=Reuse(1, min(shape.filters, chip.columns)),
        sums=Reuse(1, min(shape.fan_in, chip.rows)),
    )


def output_stationary(shape: Shape, chip: Hierarchy) -> Mapped:
    """Keep sums; an input serves a column of filters, a weight a row of pixels."""
    return Mapped(
        weights=Reuse(1, min(shape.pixels[0] * shape.pixels[1], chip.rows)),
        inputs=Reuse(1, min(shape.filters, chip.columns)),
        sums=Reuse(shape.fan_in, 1),
    )


DATAFLOWS: Mapping[str, Dataflow] = MappingProxyType(
    {
        "row_stationary": row_stationary,
        "weight_stationary": weight_stationary,
        "output_stationary": output_stationary,
    }
)


@dataclass(frozen=True)
class LayerEnergy:
    """What one kernel costs.

    Attributes:
        kernel: Index into `architecture.kernels`.
        energy_mj: All of it.
        dataflow: The dataflow it runs, the cheapest that the device offers; empty where nothing is multiplied.
        mac_mj: Multiply-accumulates.
        static_mj: Clock and leakage while it runs.
        level_mj: Accesses to each of `LEVELS`.
        by_dataflow: What each dataflow that the device offers would cost, in millijoules: why this one was chosen.
    """

    kernel: int
    energy_mj: float
    dataflow: str
    mac_mj: float
    static_mj: float
    level_mj: Mapping[str, float]
    by_dataflow: Mapping[str, float]


def layer_energies(architecture: Architecture, device: Device) -> list[LayerEnergy]:
    """Price each kernel on a device with a memory hierarchy.

    Layer by layer: inputs come from DRAM and outputs go there, as on Eyeriss. Where neither weights nor inputs fit into
    half the buffer, the cheaper of the two is read again for each part of the other.

    Returns:
        One for each of `architecture.kernels`, in their order; views cost nothing.

    Raises:
        ValueError: If the device has no hierarchy, no rule for a kernel, or none for its bits.
    """
    chip = None if device.energy is None else device.energy.hierarchy
    if chip is None:
        raise ValueError(f"the device {device.name!r} has no memory hierarchy, so no energy by level")
    return [_layer(index, kernel, architecture, device, chip) for index, kernel in enumerate(architecture.kernels)]


def accessed_bits(kernel: Kernel, shape: Shape, dataflow: str, device: Device, chip: Hierarchy) -> dict[str, float]:
    """Count the bits that a layer's data move at each level under one dataflow.

    Raises:
        ValueError: If there is no such dataflow, or the device stores no width wide enough.
    """
    if dataflow not in DATAFLOWS:
        raise ValueError(f"no dataflow {dataflow!r}; there are {list(DATAFLOWS)}")
    mapped = DATAFLOWS[dataflow](shape, chip)
    weight_bits = kernel.weights * stored_width(kernel.weight_bits, device.weight_bits)
    input_bits = kernel.input_size * stored_width(kernel.input_bits, device.activation_bits)
    times_weights, times_inputs = _dram_reads(weight_bits, input_bits, chip.buffer_kib * BITS_PER_KIB / 2)
    weights = _reads(kernel.macs / kernel.weights, times_weights, mapped.weights)
    inputs = _reads(kernel.macs / kernel.input_size, times_inputs, mapped.inputs)
    sums = _accumulations(shape.fan_in, mapped.sums)
    sum_bits = kernel.output_size * chip.accumulator_bits
    moved = {
        level: weight_bits * weights[level] + input_bits * inputs[level] + sum_bits * sums[level] for level in LEVELS
    }
    moved["dram"] += kernel.output_size * stored_width(kernel.output_bits, device.activation_bits)
    return moved


def _layer(index: int, kernel: Kernel, architecture: Architecture, device: Device, chip: Hierarchy) -> LayerEnergy:
    if kernel.kind in VIEW_KINDS:
        return LayerEnergy(index, 0.0, "", 0.0, 0.0, dict.fromkeys(LEVELS, 0.0), {})
    # Milliwatts times milliseconds are microjoules.
    static_mj = chip.static_power_mw * kernel_cycles(kernel, device) / (device.clock_mhz * 1e3) * 1e-3
    if kernel.kind in ELEMENT_KINDS:
        levels = _level_mj(_passed_bits(kernel, device), chip)
        return LayerEnergy(index, static_mj + sum(levels.values()), "", 0.0, static_mj, levels, {})
    if kernel.kind not in MAC_KINDS:
        raise no_rule(kernel.kind, f"the energy of {device.name!r}")
    mac_mj = kernel.macs * _mac_pj(kernel, device, chip) / PICOJOULES_PER_MILLIJOULE
    shape = shape_of(kernel, architecture)
    levels_by = {flow: _level_mj(accessed_bits(kernel, shape, flow, device, chip), chip) for flow in chip.dataflows}
    totals = {flow: mac_mj + static_mj + sum(levels.values()) for flow, levels in levels_by.items()}
    best = min(totals, key=lambda flow: totals[flow])
    return LayerEnergy(index, totals[best], best, mac_mj, static_mj, levels_by[best], totals)


def _mac_pj(kernel: Kernel, device: Device, chip: Hierarchy) -> float:
    pj = chip.mac_pj_by_bits.get((kernel.weight_bits, kernel.input_bits))
    if pj is None:
        raise CannotRun(f"no rule for {kernel.weight_bits}/{kernel.input_bits} bits in the energy of {device.name!r}")
    return pj


def _level_mj(bits: Mapping[str, float], chip: Hierarchy) -> dict[str, float]:
    return {level: bits[level] * getattr(chip.pj_per_bit, level) / PICOJOULES_PER_MILLIJOULE for level in LEVELS}


def _passed_bits(kernel: Kernel, device: Device) -> dict[str, float]:
    """Bits of a kernel without MACs: everything it reads and writes passes the buffer once."""
    bits = kernel.input_size * stored_width(kernel.input_bits, device.activation_bits)
    bits += kernel.output_size * stored_width(kernel.output_bits, device.activation_bits)
    return {"register_file": 0.0, "array": 0.0, "buffer": float(bits), "dram": float(bits)}


def shape_of(kernel: Kernel, architecture: Architecture) -> Shape:
    """Read a layer's loop nest off the graph. A fully connected layer has one pixel and a window of one."""
    anchor = architecture.ops[kernel.ops[0]]
    fan_in = kernel.weights // kernel.channels
    groups = groups_of(anchor)
    pixels = anchor.shape[1:] if len(anchor.shape) == 3 else (1, 1)
    window = anchor.kernel
    channels = fan_in // (window[0] * window[1])
    return Shape(kernel.channels // groups, fan_in, channels, window, (pixels[0], pixels[1]), groups)


def _dram_reads(weight_bits: int, input_bits: int, half_buffer: float) -> tuple[int, int]:
    """How often weights and inputs are read from DRAM: once, if one of them fits into half the buffer."""
    parts_of_weights, parts_of_inputs = ceil(weight_bits / half_buffer), ceil(input_bits / half_buffer)
    if weight_bits * (parts_of_inputs - 1) <= input_bits * (parts_of_weights - 1):
        return parts_of_inputs, 1
    return 1, parts_of_weights


def _reads(uses: float, dram: int, reuse: Reuse) -> dict[str, float]:
    """Reads of one value at each level, of `uses` in all; none is read less often than from the level above."""
    crossings = max(dram, uses / reuse.register_file)
    from_buffer = max(dram, crossings / reuse.array)
    return {"register_file": max(uses, crossings), "array": crossings, "buffer": from_buffer, "dram": float(dram)}


def _accumulations(fan_in: int, reuse: Reuse) -> dict[str, float]:
    """Reads and writes of one partial sum at each level (Sze et al., 2017): the DRAM sees finished outputs only."""
    inside = min(float(fan_in), reuse.register_file)
    across = max(1.0, min(fan_in / inside, reuse.array))
    spilled = max(1.0, fan_in / (inside * across))
    return {
        "register_file": 2 * spilled * across * (inside - 1),
        "array": spilled * (across - 1),
        "buffer": 2 * (spilled - 1),
        "dram": 0.0,
    }
