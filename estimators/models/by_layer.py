"""One network on one device, kernel by kernel: where its time, energy, memory and flash go."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from operator import itemgetter
from typing import Literal
from typing import TypeAlias

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.models.accelerator import layer_energies
from estimators.models.energy import kernels_mj
from estimators.models.flash import kernel_bytes
from estimators.models.latency import correction
from estimators.models.latency import cycle_parts
from estimators.models.latency import learned_factors
from estimators.models.latency import moved_bytes
from estimators.models.latency import rates_of
from estimators.models.latency import streamed_cycles
from estimators.models.memory import BYTES_PER_KIB
from estimators.models.memory import Moment
from estimators.models.memory import engine_kib
from estimators.models.memory import schedule
from estimators.models.memory import tensor_bytes
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Shape
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import VIEW_KINDS

Bound: TypeAlias = Literal["compute", "memory", "overhead", "nothing"]
"""What most of a layer's time goes to: MACs, moving data, or a cost that does not depend on its size."""

INPUT = -1
"""Stands for the network's input where tensors are called by the kernel that makes them."""
ENGINE = "engine"


@dataclass(frozen=True)
class Layer:
    """What one fused kernel takes, or, in the first of them, the engine itself.

    Attributes:
        kernel: Index into the kernels of `estimators.devices.device.deployed`; None for the engine.
        op: Index of the kernel's first operator there; None for the engine.
        kind: Its type; `engine` for what is paid once, whatever the network.
        shape: Shape of its output.
        window: Height and width of its window.
        weight_bits: Bits of one weight; None without weights.
        input_bits: Bits of one input element.
        macs: Multiply-accumulates.
        weight_bytes: Weights it reads, at the width the device stores.
        tensor_bytes: Inputs it reads and outputs it writes, likewise.
        latency_ms: Time; all layers together take what `latency_ms` says.
        bound: What most of that time goes to.
        energy_mj: Energy, None where the device's power is not known; together what `energy_mj` says.
        dataflow: Which the energy stands on, on accelerators; else empty.
        flash_kib: Its constants, and the engine's code for it; together what `flash_kib` says.
        ram_kib: Memory in use while it runs, the engine's included; the largest is what `peak_ram_kib` says.
        live: The tensors in memory while it runs, each by the kernel that makes it, `INPUT` for the network's input.
        output_kib: Its output as a tensor in memory; 0 for a view.
    """

    kernel: int | None
    op: int | None
    kind: str
    shape: Shape
    window: Pair
    weight_bits: int | None
    input_bits: int | None
    macs: int
    weight_bytes: float
    tensor_bytes: float
    latency_ms: float
    bound: Bound
    energy_mj: float | None
    dataflow: str
    flash_kib: float
    ram_kib: float
    live: tuple[int, ...]
    output_kib: float


def by_layer(architecture: Architecture, device: Device) -> list[Layer]:
    """Split what a network costs on a device into the engine's share and each kernel's.

    Kernels are those that run (dead operators left out, widths as the converter gives them), in the order that needs
    least memory. A learned correction of the whole, where the device has one, is spread in proportion to time; what is
    streamed past a full weight cache, in proportion to weights.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.

    >>> from estimators.devices.files import load_device
    >>> from search_spaces.mlp import make_space
    >>> space = make_space((64,), 10)
    >>> layers = by_layer(space.decode(space.reference), load_device("stm32h747"))
    >>> [(layer.kind, layer.macs, layer.bound) for layer in layers]
    [('engine', 0, 'nothing'), ('linear', 4096, 'compute'), ('linear', 640, 'compute')]
    """
    running = deployed(architecture, device)
    moments = schedule(running, device)
    alive = _live(running, moments)
    times = _times_ms(running, device)
    energies = _energies_mj(running, device, [time_ms for time_ms, _ in times])
    engine_ram = engine_kib(running, max((moment.live for moment in moments), default=0), device)
    layers = [_engine(running, device, engine_ram)]
    for moment, live in zip(moments, alive, strict=True):
        kernel = running.kernels[moment.kernel]
        anchor = running.ops[kernel.ops[0]]
        weights, tensors = moved_bytes(kernel, device)
        is_view = kernel.kind in VIEW_KINDS
        layers.append(
            Layer(
                kernel=moment.kernel,
                op=kernel.ops[0],
                kind=kernel.kind,
                shape=running.ops[kernel.output].shape,
                window=anchor.kernel,
                weight_bits=kernel.weight_bits if kernel.weights else None,
                input_bits=kernel.input_bits,
                macs=kernel.macs,
                weight_bytes=weights,
                tensor_bytes=0.0 if is_view else tensors,
                latency_ms=times[moment.kernel][0],
                bound=times[moment.kernel][1],
                energy_mj=energies[moment.kernel][0],
                dataflow=energies[moment.kernel][1],
                flash_kib=kernel_bytes(kernel, device) / BYTES_PER_KIB + device.memory.flash_kib_per_kernel,
                ram_kib=moment.live * device.memory.arena_factor / BYTES_PER_KIB + engine_ram,
                live=live,
                output_kib=0.0
                if is_view
                else tensor_bytes(kernel.output_size, kernel.output_bits, device) / BYTES_PER_KIB,
            )
        )
    return layers


@dataclass(frozen=True)
class Roofs:
    """The most that a device's cycle model allows the layers of a network.

    Attributes:
        macs_per_s: At the fastest of its types and bits; None where MACs take no time.
        bytes_per_s: Moving data; None where that takes no time.
        memory_kinds: The types of layers that the memory's roof holds for.
        counts_weights: Whether the bytes include weights: a model that prices elements does not see theirs.
    """

    macs_per_s: float | None
    bytes_per_s: float | None
    memory_kinds: frozenset[str]
    counts_weights: bool


def roofs(architecture: Architecture, device: Device) -> Roofs:
    """Return the roofs (Williams et al., 2009) above the layers of a network that multiply.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    running, latency = deployed(architecture, device), device.latency
    kernels = [kernel for kernel in running.kernels if kernel.macs]
    per_mac = [rates_of(kernel, device).per_mac for kernel in kernels]
    per_byte = {
        kernel.kind: min(latency.cycles_per_byte[kernel.kind], latency.cycles_per_weight_byte.get(kernel.kind, inf))
        for kernel in kernels
        if kernel.kind in latency.cycles_per_byte
    }
    if not per_byte:
        moved = [(kernel, cycle_parts(kernel, device)[1] / moved_bytes(kernel, device)[1]) for kernel in kernels]
        per_byte = {kernel.kind: cycles for kernel, cycles in sorted(moved, key=itemgetter(1), reverse=True) if cycles}
    per_second = device.clock_mhz * 1e6 / _correction(running, device)
    fastest = min(filter(None, per_mac), default=None)
    return Roofs(
        macs_per_s=per_second / fastest if fastest else None,
        bytes_per_s=per_second / min(per_byte.values()) if per_byte else None,
        memory_kinds=frozenset(per_byte),
        counts_weights=bool(latency.cycles_per_byte),
    )


def _engine(running: Architecture, device: Device, ram_kib: float) -> Layer:
    """What is paid once: the fixed time, and the engine's own code and memory."""
    time_ms = device.latency.overhead_ms * _correction(running, device)
    return Layer(
        kernel=None,
        op=None,
        kind=ENGINE,
        shape=(),
        window=(1, 1),
        weight_bits=None,
        input_bits=None,
        macs=0,
        weight_bytes=0.0,
        tensor_bytes=0.0,
        latency_ms=time_ms,
        bound="overhead" if time_ms else "nothing",
        energy_mj=_paid_once_mj(running, device, time_ms),
        dataflow="",
        flash_kib=device.engine_flash_kib,
        ram_kib=ram_kib,
        live=(),
        output_kib=0.0,
    )


def _paid_once_mj(running: Architecture, device: Device, time_ms: float) -> float | None:
    if device.energy is None:
        return None
    if device.energy.consumption is not None:
        return kernels_mj(running, device.energy.consumption, device)[0]
    return (device.energy.active_power_mw or 0.0) * time_ms * 1e-3


def _times_ms(running: Architecture, device: Device) -> list[tuple[float, Bound]]:
    """Time of each kernel, and what most of it goes to."""
    streamed = streamed_cycles(running, device)
    stored = [moved_bytes(kernel, device)[0] for kernel in running.kernels]
    per_byte = streamed / sum(stored) if streamed else 0.0
    ms_per_cycle = _correction(running, device) / (device.clock_mhz * 1e3)
    times: list[tuple[float, Bound]] = []
    factors = learned_factors(running, device)
    for kernel, weights, factor in zip(running.kernels, stored, factors, strict=True):
        compute, memory, overhead = (part * factor for part in cycle_parts(kernel, device))
        parts: dict[Bound, float] = {"compute": compute, "memory": memory + weights * per_byte, "overhead": overhead}
        cycles = sum(parts.values())
        times.append((cycles * ms_per_cycle, max(parts, key=lambda part: parts[part]) if cycles else "nothing"))
    return times


def _correction(running: Architecture, device: Device) -> float:
    return 1.0 if device.latency.residual is None else correction(running, device.latency.residual)


def _energies_mj(running: Architecture, device: Device, times_ms: list[float]) -> list[tuple[float | None, str]]:
    """Energy of each kernel, and the dataflow it stands on."""
    if device.energy is None:
        return [(None, "")] * len(times_ms)
    if device.energy.consumption is not None:
        return [(energy_mj, "") for energy_mj in kernels_mj(running, device.energy.consumption, device)[1]]
    power_mw = device.energy.active_power_mw
    if power_mw is None:
        return [(layer.energy_mj, layer.dataflow) for layer in layer_energies(running, device)]
    # Milliwatts times milliseconds are microjoules.
    return [(power_mw * time_ms * 1e-3, "") for time_ms in times_ms]


def _live(running: Architecture, moments: tuple[Moment, ...]) -> list[tuple[int, ...]]:
    """Say which tensors each step of a schedule holds, each by the kernel that makes it."""
    makers = {0: INPUT}
    for index, kernel in enumerate(running.kernels):
        # A view is the tensor that it looks at.
        makers[kernel.output] = makers[kernel.inputs[0]] if kernel.kind in VIEW_KINDS else index
    last_use = {makers[output]: len(moments) for output in running.outputs}
    for step, moment in enumerate(moments):
        kernel = running.kernels[moment.kernel]
        # What pruning leaves of a zero reads nothing.
        for op in (*(kernel.inputs if kernel.kind not in CONSTANT else ()), kernel.output):
            last_use[makers[op]] = max(step, last_use.get(makers[op], 0))
    held = {INPUT}
    found = []
    for step, moment in enumerate(moments):
        held = {tensor for tensor in held if last_use[tensor] >= step}
        held.add(makers[running.kernels[moment.kernel].output])
        found.append(tuple(sorted(held)))
    return found
