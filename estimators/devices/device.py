"""A chip with the engine that runs on it: what it stores, how long it computes, what it draws. Data, not code.

A device is one TOML file, read by `estimators.devices.files`. Latency depends on the inference engine as much as on the
core (one network on one Cortex-M7: 587 ms with TensorFlow Lite Micro's reference kernels, 25 ms with TinyEngine), so a
device names both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from functools import lru_cache
from typing import Annotated
from typing import Any
from typing import Literal
from typing import TypeAlias

from annotated_types import Ge
from annotated_types import Le
from annotated_types import MaxLen
from annotated_types import MinLen
from pydantic import StringConstraints
from pydantic.dataclasses import dataclass

from estimators.devices.corrections import KernelTrees
from estimators.devices.corrections import Residual
from estimators.devices.fields import STRICT
from estimators.devices.fields import CannotRun
from estimators.devices.fields import Kinds
from estimators.devices.fields import NotNegative
from estimators.devices.fields import PerKind
from estimators.devices.fields import PerMac
from estimators.devices.fields import PerWidths
from estimators.devices.fields import Positive
from estimators.devices.fields import Text
from estimators.devices.fields import Width
from estimators.devices.fields import Widths
from estimators.devices.fields import cheapest_holding
from estimators.estimate import Estimate
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.architecture import Pair
from search_spaces.graph.merging import merge
from search_spaces.graph.operators import ELEMENT_KINDS
from search_spaces.graph.operators import STANDS_IN
from search_spaces.graph.operators import VIEW_KINDS
from search_spaces.graph.pruning import is_only_zeros
from search_spaces.graph.pruning import prune

PLAIN = (None, True, False)
"""Nothing converted, dead operators left out, repeated ones not merged: what most engines do."""
USUAL_WINDOWS = frozenset({(1, 1), (3, 3)})
"""Windows of convolutions that engines have kernels of their own for, and that most measured networks consist of."""
WIDEST_INTEGER = 8
"""Bits of the widest integers that microcontrollers' engines compute in; wider ones they compute in floating point."""
Window: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*x[1-9]\d*$")]
UNSTRUCTURED = "unstructured"
ZeroPattern: TypeAlias = Annotated[str, StringConstraints(pattern=rf"^({UNSTRUCTURED}|[1-9]\d*:[1-9]\d*)$")]
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
CostMetric: TypeAlias = Callable[["Architecture", "Device"], Estimate]


@dataclass(frozen=True, config=STRICT)
class FloatKernels:
    """Cycles of layers in more than 8 bits, where an engine's float kernels were measured apart from its integer ones.

    A layer costs `macs * cycles_per_mac + outputs * window * cycles_per_window_element`, where the window is its rows
    times its columns, beside what elements and other windows cost in any precision. The second part is what a float
    kernel's inner loop costs beside multiplying: it dominates where there are few input channels.

    Attributes:
        cycles_per_mac: By type; a type left out costs what `relative_cycles` says.
        cycles_per_window_element: By type; a type left out has none.
    """

    cycles_per_mac: PerMac
    cycles_per_window_element: PerMac = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Latency:
    """Cycles by kernel type, at the device's clock.

    A kernel costs `max(macs * cycles_per_mac * relative_cycles, bytes * cycles_per_byte) + elements *
    cycles_per_element + cycles_per_kernel`, where elements are those it reads and writes, and bytes are its weights and
    these elements as they are stored. Norms and activations folded into a kernel are in its coefficients.

    Attributes:
        cycles_per_mac: For `conv`, `pointwise`, `depthwise` and `linear`. A type left out is refused, not free.
        cycles_per_element: For `pool`, `norm`, `activation`, `add` and `concat` (left out: refused; 0.0 where the
            measured fit puts their time into the other coefficients), and for `scale` (left out: what `add` has, and a
            network with one is an extrapolation). May also name the four types above.
        cycles_per_kernel: Fixed cost of one kernel, by type; a type left out has none.
        relative_cycles: Cycles per MAC relative to the table's own precision, by bits: `8` means weights and input of 8
            bits, `"4/8"` weights of 4 and an input of 8. A layer is computed at the cheapest pair that holds both.
        overhead_ms: Fixed cost of one inference.
        interval: Relative half-width of the 90 % interval, from cross-validated errors.
        cycles_per_byte: The memory roof, by type; a type left out has none.
        cycles_per_weight_byte: The same for the bytes of weights, by type; a type left out has those of other bytes.
        cycles_per_other_output: Added for each element that a layer writes through a window that is neither 3x3 nor
            1x1, nor among `calibration.windows`: engines have no kernels of their own for those. By type; a type left
            out has none.
        float_kernels: What layers in floating point cost, where that was measured apart; None: `relative_cycles` says
            it.
        array: Rows and columns of a systolic or bit-serial array: a layer with a smaller fan-in than there are rows, or
            fewer output channels than columns, occupies all of them. None where MACs alone count.
        accumulator_bits: Width at which results leave the array, whatever the next layer reads; None: their own.
        weight_cache_kib: Weights beyond this memory are read anew in every inference. None: no such limit.
        cycles_per_streamed_byte: What each of these weights' bytes costs.
        other_widths: What happens to bits that are not listed: priced as the `next` that hold them, or `refuse`.
        residual: A learned correction of the whole; None where cross-validation says that it does not pay.
        kernels: A learned correction of each kernel; None where counts tell enough.
    """

    cycles_per_mac: PerMac
    cycles_per_element: PerKind
    relative_cycles: PerWidths
    overhead_ms: NotNegative
    interval: NotNegative
    cycles_per_kernel: PerKind
    cycles_per_byte: PerKind = field(default_factory=dict)
    cycles_per_weight_byte: PerMac = field(default_factory=dict)
    cycles_per_other_output: PerMac = field(default_factory=dict)
    float_kernels: FloatKernels | None = None
    array: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(2), MaxLen(2)] | None = None
    accumulator_bits: Width | None = None
    weight_cache_kib: NotNegative | None = None
    cycles_per_streamed_byte: NotNegative = 0.0
    other_widths: Literal["next", "refuse"] = "next"
    residual: Residual | None = None
    kernels: KernelTrees | None = None

    @cached_property
    def coefficients(self) -> Mapping[str, tuple[float, float, float]]:
        """Cycles per MAC, per element and per kernel of each type that has a rule; a view costs nothing."""
        priced = self.cycles_per_mac.keys() | self.cycles_per_element.keys() & ELEMENT_KINDS
        tables = (self.cycles_per_mac, self.cycles_per_element, self.cycles_per_kernel)
        rules = {
            kind: (tables[0].get(kind, 0.0), tables[1].get(kind, 0.0), tables[2].get(kind, 0.0)) for kind in priced
        }
        return rules | dict.fromkeys(VIEW_KINDS, (0.0, 0.0, 0.0))

    def priced_as(self, kind: str) -> str:
        """Return the type whose figures price a kernel: its own, or without those the one that stands in for it."""
        if kind in self.coefficients:
            return kind
        other = STANDS_IN.get(kind, kind)
        return other if other in self.coefficients else kind

    @cached_property
    def relative_by_bits(self) -> Mapping[Pair, float]:
        """`relative_cycles` of every pair of weight and input bits that can be computed."""
        return self.relative_cycles if self.other_widths == "refuse" else cheapest_holding(self.relative_cycles)


@dataclass(frozen=True, config=STRICT)
class LevelEnergies:
    """Picojoules to move one bit out of each level of an accelerator's memory (or across its array)."""

    register_file: NotNegative
    array: NotNegative
    buffer: NotNegative
    dram: NotNegative


@dataclass(frozen=True, config=STRICT)
class Hierarchy:
    """An accelerator's processing elements and memories.

    Attributes:
        pj_per_bit: Energy of one bit's access, by level.
        mac_pj: Energy of one MAC, by bits of weight and input as in `relative_cycles`.
        rows: Rows of processing elements.
        columns: Columns of processing elements.
        register_words: Weights that one processing element keeps.
        buffer_kib: The buffer that all processing elements share.
        accumulator_bits: Width of partial sums.
        static_power_mw: What it draws while it computes nothing: clock and leakage. It is multiplied by a layer's time.
        dataflows: Which of `estimators.models.accelerator.DATAFLOWS` it can run; each layer runs the cheapest.
    """

    pj_per_bit: LevelEnergies
    mac_pj: PerWidths
    rows: Annotated[int, Ge(1)]
    columns: Annotated[int, Ge(1)]
    register_words: Annotated[int, Ge(1)]
    buffer_kib: Positive
    accumulator_bits: Width
    dataflows: Annotated[tuple[Text, ...], MinLen(1)]
    static_power_mw: NotNegative = 0.0

    @cached_property
    def mac_pj_by_bits(self) -> Mapping[Pair, float]:
        """`mac_pj` of every pair of weight and input bits that can be computed."""
        return cheapest_holding(self.mac_pj)


@dataclass(frozen=True, config=STRICT)
class Consumption:
    """Nanojoules by kernel type, in place of power times time: for a device whose power differs between networks.

    A kernel takes `macs * nj_per_mac * relative_cycles + elements * nj_per_element + nj_per_kernel`, where elements and
    `relative_cycles` are those of its time. A type left out takes nothing: whether it has a rule at all, the table of
    its time says.

    Attributes:
        nj_per_mac: For `conv`, `pointwise`, `depthwise` and `linear`.
        nj_per_element: Of what a kernel reads and writes, by type.
        nj_per_kernel: Fixed energy of one kernel, by type.
        overhead_mj: Fixed energy of one inference.
        residual: A learned correction of the whole; None where cross-validation says that it does not pay.
    """

    nj_per_mac: PerMac
    nj_per_element: PerKind
    nj_per_kernel: PerKind
    overhead_mj: NotNegative
    residual: Residual | None = None


@dataclass(frozen=True, config=STRICT)
class Energy:
    """Power while computing, or a hierarchy of memories: one of the two.

    Attributes:
        interval: Relative half-width of the 90 % interval: of the power, or of a hierarchy's energy itself.
        active_power_mw: Mean power during an inference.
        hierarchy: What an accelerator's accesses and MACs cost.
        energy_interval: Relative half-width of the 90 % interval of the energy itself, from networks left out; None: it
            follows from those of power and time.
        consumption: The energy by what kernels do, beside the power; None where power times time predicts it as well.

    Raises:
        ValueError: If it has both or neither, or what belongs to a power without one.
    """

    interval: NotNegative
    active_power_mw: Positive | None = None
    hierarchy: Hierarchy | None = None
    energy_interval: NotNegative | None = None
    consumption: Consumption | None = None

    def __post_init__(self) -> None:
        if (self.active_power_mw is None) == (self.hierarchy is None):
            raise ValueError("expected either 'active_power_mw' or 'hierarchy'")
        if self.hierarchy is not None and (self.energy_interval, self.consumption) != (None, None):
            raise ValueError("expected 'energy_interval' and 'consumption' with 'active_power_mw' only")


@dataclass(frozen=True, config=STRICT)
class Memory:
    """How the engine uses memory and flash. What is left out costs nothing, save a scale: four bytes.

    Attributes:
        in_place: Types whose output takes the place of an input at its last use: of the two, the larger counts.
        arena_factor: Memory the engine reserves for tensors, relative to the smallest that holds them.
        bytes_per_scale: Bytes of one output channel's scale (and zero point) where weights are integers.
        ram_kib_per_kernel: Memory for the description of one kernel, views counted.
        flash_kib_per_kernel: Flash for it, and for code that comes with kernels.
        scratch_kib: Memory that kernels in integers work in, beside the tensors, at most.
        scratch_per_tensor: It is at most this many times the peak of the tensors, too.
        ram_interval: Relative half-width of the 90 % interval of peak RAM, where it was measured.
        flash_interval: The same for flash.
        ram_interval_kib: The same in KiB; of the two, the wider counts. It matters where the engine takes more than the
            network.
        flash_interval_kib: The same for flash.
    """

    in_place: Kinds = ()
    arena_factor: Annotated[float, Ge(1)] = 1.0
    bytes_per_scale: Annotated[int, Ge(0)] = 4
    ram_kib_per_kernel: NotNegative = 0.0
    flash_kib_per_kernel: NotNegative = 0.0
    scratch_kib: NotNegative = 0.0
    scratch_per_tensor: NotNegative = 0.0
    ram_interval: NotNegative = 0.0
    flash_interval: NotNegative = 0.0
    ram_interval_kib: NotNegative = 0.0
    flash_interval_kib: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT)
class Calibration:
    """What the coefficients stand on.

    Attributes:
        source: Who measured what.
        networks: How many networks were measured.
        error_mean: Mean relative error on networks left out of the fit, as a user's own are: of all boards whose
            measurements it uses, not of this one alone.
        error_max: Largest of these errors.
        within_10_percent: Share of networks left out that are predicted within 10 %; None where nobody counted.
        within_10_percent_low: With 90 % confidence at least this share of other networks is; None where nobody counted.
        repeated_within_10_percent: Share of repeated measurements that agree within 10 % with another one of the same
            network: expect no more of a prediction at another time. None where too few were repeated.
        fastest_ms: Time of the fastest network measured; a prediction below it is an extrapolation.
        slowest_ms: The same for the slowest and above.
        windows: Windows of the layers that were measured, such as `3x3`: a network with another one is an
            extrapolation, however long it takes. 1x1 always counts. Empty: of all kinds.
        widest_bits: Bits of the widest weights and tensors that were measured, in the same way: layers in floating
            point may be priced by another board's figures. None: all that are priced.
        memory_networks: How many networks' RAM and flash were measured on this device. 0: the rules are another
            device's, or count tensors and weights alone, and every estimate of memory is an extrapolation.
    """

    source: Text
    networks: Annotated[int, Ge(1)]
    error_mean: NotNegative
    error_max: NotNegative
    within_10_percent: Annotated[float, Ge(0), Le(1)] | None = None
    within_10_percent_low: Annotated[float, Ge(0), Le(1)] | None = None
    repeated_within_10_percent: Annotated[float, Ge(0), Le(1)] | None = None
    fastest_ms: Positive | None = None
    slowest_ms: Positive | None = None
    windows: tuple[Window, ...] = field(default_factory=tuple)
    widest_bits: Width | None = None
    memory_networks: Annotated[int, Ge(0)] = 0

    def distance(self, latency_ms: float) -> float:
        """Return by which factor a time lies outside the range that was measured: 1 within it.

        >>> measured = Calibration("a table", 9, 0.05, 0.1, fastest_ms=2.0, slowest_ms=80.0)
        >>> measured.distance(0.5), measured.distance(2.0), measured.distance(240.0)
        (4.0, 1.0, 3.0)
        """
        return max(1.0, (self.fastest_ms or 0.0) / latency_ms, latency_ms / (self.slowest_ms or math.inf))


@dataclass(frozen=True, config=STRICT)
class LinkPower:
    """Power of the whole device while its link is in use.

    Attributes:
        transmit_mw: While it sends.
        receive_mw: While it receives.
        idle_mw: While it waits for the server.
        interval: Relative half-width of the 90 % interval of these three.
    """

    transmit_mw: NotNegative
    receive_mw: NotNegative
    idle_mw: NotNegative
    interval: NotNegative


@dataclass(frozen=True, config=STRICT)
class Link:
    """An edge server and the way to it.

    Attributes:
        server: The other end; in a file, the name of a shipped device or the path of a `.toml` beside it.
        bandwidth_mbit_s: Payload in 10^6 bits per second, the same in both directions.
        round_trip_ms: Paid once by an inference that sends anything.
        interval: Relative half-width of the 90 % interval of the time on the link.
        minimise: What a split is chosen for, time or the device's energy. All metrics tell of that one split.
        power: None where nobody measured it.
    """

    server: Device
    bandwidth_mbit_s: Positive
    round_trip_ms: NotNegative
    interval: NotNegative
    minimise: Literal["latency_ms", "energy_mj"] = "latency_ms"
    power: LinkPower | None = None


@dataclass(frozen=True, config=STRICT)
class Enclave:
    """A trusted world beside the normal one.

    Attributes:
        secure_ram_kib: Memory of the trusted world: its engine, the weights and the tensors of the layers inside.
        engine_ram_kib: What the engine needs of it; nothing where no layer is hidden.
        slow_down: Time of a kernel inside over its time outside.
        switch_us: One change of world; a visit takes two.
        copy_us_per_kib: Copying tensors between the worlds.
        interval: Relative half-width of the 90 % interval of what the enclave adds.
    """

    secure_ram_kib: Positive
    engine_ram_kib: NotNegative
    slow_down: Annotated[float, Ge(1)]
    switch_us: NotNegative
    copy_us_per_kib: NotNegative
    interval: NotNegative


@dataclass(frozen=True, config=STRICT)
class SparseKernels:
    """What an engine makes of zeros that lie in one pattern among a layer's weights.

    Attributes:
        kinds: Types of kernels that it has a sparse form of.
        least: Smallest share of zeros for which it takes that form.
        time_saved: Share of the time of a zero's MACs that it saves: 1 where zeros take none.
        index_bits: Bits that it stores beside each weight that is not zero; None where it stores zeros like others.
    """

    kinds: Kinds
    least: Share
    time_saved: Share
    index_bits: NotNegative | None = None


@dataclass(frozen=True, config=STRICT)
class Device:
    """One chip, one engine, one precision.

    Attributes:
        name: File name without its ending.
        description: One line for people.
        core: Processor core.
        clock_mhz: Clock that the cycles are counted at.
        engine: Inference engine with its version. Figures do not carry over to another one.
        precision: Arithmetic that was measured.
        weight_bits: Widths at which it stores weights packed, ascending. Others are stored at the next wider one.
        activation_bits: The same for tensors.
        engine_ram_kib: Memory the engine needs beside the tensors, whatever the network.
        engine_flash_kib: Code and tables the engine needs beside the weights, whatever the network.
        latency: Cycle model.
        calibration: What the cycle model stands on.
        prune_dead_ops: Whether the engine leaves out operators whose result nobody needs, as converters do and eager
            execution does not.
        merge_repeated_ops: Whether it computes once what the graph has twice.
        float_becomes_bits: Width that the engine's converter gives to what is in float; None: it stays float.
        energy: Power, None where nobody measured it.
        memory: How the engine uses memory and flash.
        ram_kib: Memory of the chip, None where it is no limit.
        flash_kib: Flash of the chip, None where it is no limit.
        link: An edge server that may run the end of a network, None where there is none.
        enclave: A trusted world that may hide layers, None where there is none.
        sparsity: What it makes of zeros, by pattern: `unstructured`, `2:4`; others it computes and stores like weights.
        shared_values: Whether it stores the weights of a layer that share few values as numbers of these.

    Raises:
        ValueError: If a number is negative or not finite, a type is wrong, or widths are not ascending.
    """

    name: Text
    description: Text
    core: Text
    clock_mhz: Positive
    engine: Text
    precision: Text
    weight_bits: Widths
    activation_bits: Widths
    engine_ram_kib: NotNegative
    engine_flash_kib: NotNegative
    latency: Latency
    calibration: Calibration
    prune_dead_ops: bool = True
    merge_repeated_ops: bool = False
    float_becomes_bits: Width | None = None
    energy: Energy | None = None
    memory: Memory = field(default_factory=Memory)
    ram_kib: Positive | None = None
    flash_kib: Positive | None = None
    link: Link | None = None
    enclave: Enclave | None = None
    sparsity: Mapping[ZeroPattern, SparseKernels] = field(default_factory=dict)
    shared_values: bool = False

    @cached_property
    def rates(self) -> dict[object, Any]:
        """What types of kernels cost at their bits, of those priced so far (`estimators.models.latency.rates_of`)."""
        return {}

    def sparse_form(self, kernel: Kernel) -> SparseKernels | None:
        """Return the sparse form in which the engine runs a kernel, None where it runs it like a dense one."""
        if not kernel.sparsity:
            return None
        found = self.sparsity.get(kernel.pattern or UNSTRUCTURED)
        takes = found is not None and kernel.kind in found.kinds and kernel.sparsity >= found.least
        return found if takes else None


def deployed(architecture: Architecture, device: Device) -> Architecture:
    """Return the network as it runs on a device: what its converter leaves of it, in the widths it gives.

    Every metric asks for it, so an architecture keeps its forms; what runs on a device runs there as it is.

    Raises:
        CannotRun: If nothing would be left of it.
    """
    form = (device.float_becomes_bits, device.prune_dead_ops, device.merge_repeated_ops)
    if form == PLAIN and not architecture.has_dead_ops:
        return architecture
    running = architecture.forms.get(form)
    if running is None:
        running = architecture.forms[form] = _deployed(architecture, device)
        running.forms[form] = running
    return running


def _deployed(architecture: Architecture, device: Device) -> Architecture:
    if device.float_becomes_bits is not None:
        architecture = architecture.without_float(device.float_becomes_bits)
    if device.prune_dead_ops:
        architecture = prune(architecture)
        if is_only_zeros(architecture):
            raise CannotRun("its output does not depend on its input, so nothing of it would run")
    return merge(architecture) if device.merge_repeated_ops else architecture


@lru_cache(maxsize=1024)
def stored_width(bits: int, widths: tuple[int, ...]) -> int:
    """Return the narrowest width a device stores that holds `bits`.

    Raises:
        CannotRun: If all its widths are narrower.

    >>> stored_width(4, (1, 8, 32)), stored_width(8, (1, 8, 32))
    (8, 8)
    """
    for width in widths:
        if width >= bits:
            return width
    raise CannotRun(f"no width for {bits} bits; there are {list(widths)}")
