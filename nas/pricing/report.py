"""Report what a network costs: tables of costs, layers and devices, and where a device's numbers come from."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

from rich.table import Table

from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.estimate import extrapolated_in
from estimators.estimate import flat
from estimators.models.by_layer import Layer
from estimators.models.extrapolation import distance
from estimators.models.extrapolation import stand_ins
from estimators.models.extrapolation import unlike
from nas.base.errors import clipped
from nas.base.text import Row
from nas.base.text import at_least
from nas.base.text import heading
from nas.base.text import plain_table
from nas.base.text import runs
from nas.base.text import runs_of_widths
from nas.base.text import short
from nas.base.text import stacked
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FORMATS
from search_spaces.graph.precision import TERNARY

SHORT = {**{form: form for form in FORMATS}, TERNARY: "t"}
"""How a table writes formats of weights and tensors: its columns are narrow."""


def bits_of(architecture: Architecture) -> str:
    """Write the bit-widths of a network's weights and tensors, layer by layer: `W 8 2x2 8x3 A 8x4 1 8`.

    `2x3` stands for three layers with 2 bits one after the other. The tensor of a layer is what it reads. Formats of
    16 bits stand by their names, and `t` for ternary weights: `W tx2 8 A bf16 8x2`.
    """
    layers = [op for op in architecture.ops if op.kind in WEIGHTED]
    read = [architecture.ops[op.inputs[0]] for op in layers]
    weights = runs(SHORT.get(op.weight_format) or op.weight_bits for op in layers)
    tensors = runs(SHORT.get(op.format) or op.bits for op in read)
    return f"W {weights} A {tensors}"


def compressions_of(architecture: Architecture) -> list[str]:
    """Say in a few words each what was taken from a network: weights, channels, values of its own; and early exits.

    >>> from search_spaces.compressions import sparsity
    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> logits = graph.linear(0, 10)
    >>> compressions_of(sparsity.compress(graph.architecture("example", {}), 0.9, "2:4", "uniform"))
    ['50 % zeros (2:4)']
    """
    layers = [op for op in architecture.ops if op.kind in WEIGHTED]
    weights = [weights_of(op, architecture.ops[op.inputs[0]].shape[0]) for op in layers]
    told = []
    if early := len(architecture.outputs) - 1:
        told.append(f"{early} early exit{'s' if early > 1 else ''} at {architecture.exit_threshold:g}")
    if zeros := sum(op.sparsity * count for op, count in zip(layers, weights, strict=True)):
        patterns = sorted({op.pattern for op in layers if op.pattern})
        told.append(f"{zeros / sum(weights):.0%} zeros".replace("%", " %") + "".join(f" ({name})" for name in patterns))
    if narrowed := [op for op in layers if op.pruned_from]:
        left = sum(op.shape[0] for op in narrowed) / sum(op.pruned_from for op in narrowed)
        told.append(f"{left:.0%} of channels".replace("%", " %"))
    told += [f"{2**width} values" for width in sorted({op.shared_bits for op in layers if op.shared_bits})]
    return told


def estimate_table(title: str, by_device: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Lay out one architecture's costs, a row for each device."""
    names = list(dict.fromkeys(name for estimates in by_device.values() for name in estimates))
    table = plain_table("device", *map(heading, names), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for device, estimates in by_device.items():
        cells = [stacked(estimates[name]) if name in estimates else "-" for name in names]
        table.add_row(device, *cells)
    return table


def costs_row(estimates: Mapping[str, Estimate]) -> Row:
    """Write costs for JSON: each number with the ends of its interval, and `extrapolated`, the names of those that are.

    >>> costs_row({"macs": Estimate.exact(12), "latency_ms": Estimate(0.5, 0.1, 2.5, extrapolated=True)})
    {'macs': 12, 'latency_ms': 0.5, 'latency_ms_low': 0.1, 'latency_ms_high': 2.5, 'extrapolated': ['latency_ms']}
    """
    numbers = flat(estimates)
    plain = {name: number for name, number in numbers.items() if not isinstance(number, bool)}
    return {**plain, "extrapolated": extrapolated_in(numbers)}


def layer_table(layers: Sequence[Layer], title: str) -> Table:
    """Lay out the layers of `estimators.models.by_layer.by_layer`, a row each, with sums and the peak below."""
    total_ms = sum(layer.latency_ms for layer in layers)
    with_energy, with_dataflow = layers[0].energy_mj is not None, any(layer.dataflow for layer in layers)
    table = plain_table("op", "layer", "output", "bits\nW/A", "MACs", "latency\nms", "share", title=title)
    extra = [*["energy\nmj"] * with_energy, "flash\nkib", "live RAM\nkib", "bound by", *["dataflow"] * with_dataflow]
    for name in extra:
        table.add_column(name)
    for column in table.columns[3:]:
        column.justify = "right"
        column.no_wrap = True
    for layer in layers:
        table.add_row(*_layer_cells(layer, total_ms, with_energy=with_energy, with_dataflow=with_dataflow))
    energy = [short(sum(layer.energy_mj or 0.0 for layer in layers))] * with_energy
    macs, flash_kib = sum(layer.macs for layer in layers), sum(layer.flash_kib for layer in layers)
    peak = f"{max(layer.ram_kib for layer in layers):,.1f}"
    table.add_row("", "all", "", "", f"{macs:,}", short(total_ms), "", *energy, f"{flash_kib:,.1f}", peak)
    return table


def _layer_cells(layer: Layer, total_ms: float, *, with_energy: bool, with_dataflow: bool) -> list[str]:
    window = f" {layer.window[0]}x{layer.window[1]}" if layer.window != (1, 1) else ""
    bits = "" if layer.input_bits is None else f"{layer.weight_bits or '-'}/{layer.input_bits}"
    cells = ["" if layer.op is None else str(layer.op), layer.kind + window, "x".join(map(str, layer.shape)), bits]
    cells += [f"{layer.macs:,}" if layer.macs else "", short(layer.latency_ms)]
    cells += [f"{layer.latency_ms / total_ms:.1%}" if layer.latency_ms else ""]
    cells += [short(layer.energy_mj or 0.0)] * with_energy
    bound = "" if layer.bound == "nothing" else layer.bound
    return [*cells, f"{layer.flash_kib:,.1f}", f"{layer.ram_kib:,.1f}", bound, *[layer.dataflow] * with_dataflow]


def basis(device: Device) -> str:
    """Say where a device's latency comes from: engine, precision, measurements and their error."""
    found = device.calibration
    close = f"; within 10 %: {', '.join(told)}" if (told := _within_10_percent(found)) else ""
    return (
        f"latency on {device.name}: {device.engine}, {device.precision}, on {device.core} at {device.clock_mhz:g} MHz; "
        f"from {found.source}; {found.networks} networks, each left out of the fit: mean error {found.error_mean:.1%}, "
        f"largest {found.error_max:.1%}{close}; 90 % interval +-{device.latency.interval:.1%}"
    )


def _within_10_percent(found: Calibration) -> list[str]:
    """Say how many networks left out are predicted within 10 %, of others at least, and how many repeats agree so."""
    told = [f"{found.within_10_percent:.0%}"] if found.within_10_percent is not None else []
    if found.within_10_percent_low is not None:
        told.append(f"{at_least(found.within_10_percent_low)} of others")
    if found.repeated_within_10_percent is not None:
        told.append(f"{found.repeated_within_10_percent:.0%} of repeats")
    return told


def beyond(latency: Estimate, device: Device, network: Architecture) -> str | None:
    """Return a warning if a network's latency is an extrapolation, with what was not measured, else None."""
    if not latency.extrapolated:
        return None
    found = device.calibration
    if distance(latency.value, device) > 1:
        ends = [f"{end:.3g}" if end else "?" for end in (found.fastest_ms, found.slowest_ms)]
        why = f"{latency.value:.3g} ms lies outside the range measured on {device.name}, {ends[0]} to {ends[1]} ms"
    else:
        windows = [f"windows of {', '.join(found.windows)} and 1x1"] if found.windows else []
        bits = [f"layers of at most {found.widest_bits} bits"] if found.widest_bits else []
        measured = f"{' and '.join(windows + bits)} were"
        if unlike(network, found):
            why = f"some of its layers are of a kind that was not measured on {device.name} ({measured})"
        else:
            priced = " and ".join(f"{kind} as {other}" for kind, other in stand_ins(network, device).items())
            why = f"some of its operators were not measured on {device.name} and are priced as others: {priced}"
    return f"{why}: extrapolated, so the interval is wider, and a guess"


def extrapolated(device: Device | None) -> list[str]:
    """Explain the `*` behind the extrapolated numbers of a table, in one or two lines.

    Args:
        device: Whose numbers they are, to say what was measured there; None: several devices'.
    """
    if device is None:
        return ["* extrapolated: nothing like it was measured there, so its interval is a guess"]
    first = f"* extrapolated: nothing like it was measured on {device.name}, so its interval is a guess"
    return [first, f"  {_what_was_measured(device)}"]


def extrapolated_sums(names: Sequence[str], device: Device) -> str:
    """Say which costs of a network that is shown layer by layer are extrapolated, and what was measured."""
    return f"extrapolated: {', '.join(names)} of the network; {_what_was_measured(device)}"


def _what_was_measured(device: Device) -> str:
    found = device.calibration
    ends = [f"{end:.3g}" if end else "?" for end in (found.fastest_ms, found.slowest_ms)]
    times = f"the time of {found.networks} networks"
    if found.fastest_ms or found.slowest_ms:  # the file may not say it
        times += f", {ends[0]} to {ends[1]} ms"
    return f"measured were {times}, and the memory of {found.memory_networks or 'none'}"


def device_row(device: Device) -> Row:
    """Describe a device for JSON: what it is, its limits, and where its latency comes from."""
    return {
        "description": device.description,
        "core": device.core,
        "clock_mhz": device.clock_mhz,
        "engine": device.engine,
        "precision": device.precision,
        "weight_bits": list(device.weight_bits),
        "activation_bits": list(device.activation_bits),
        "ram_kib": device.ram_kib,
        "flash_kib": device.flash_kib,
        "energy": device.energy is not None,
        "source": device.calibration.source,
        "networks": device.calibration.networks,
        "error_mean": device.calibration.error_mean,
        "error_max": device.calibration.error_max,
        "within_10_percent": device.calibration.within_10_percent,
        "within_10_percent_low": device.calibration.within_10_percent_low,
        "repeated_within_10_percent": device.calibration.repeated_within_10_percent,
        "fastest_ms": device.calibration.fastest_ms,
        "slowest_ms": device.calibration.slowest_ms,
        "interval": device.latency.interval,
    }


DEVICE_NOTES = (
    "error: of networks that were left out of the fit, as your own are;",
    "within 10 %: so many of them are predicted so closely;",
    "  of others: of other networks of these spaces, with 90 % confidence;",
    "  of repeats: so many measurements agree with another one of the same network; expect no more at another time",
)
"""What the columns of `device_table` mean, in lines."""


def device_table(devices: Mapping[str, Device], own: Collection[str], wrong: Mapping[str, str]) -> Table:
    """Lay out devices, three lines or so each; a user's own are marked, and of a wrong file it says what is wrong."""
    columns = (
        "name",
        "core, engine, precision",
        "MHz",
        "bits\nW / A",
        "RAM, flash\nKiB",
        "calibrated on",
        "error\nmean, worst",
        "90 %\ninterval",
    )
    table = plain_table(*columns, "within\n10 %", title="devices")
    for column in (table.columns[2], *table.columns[6:8]):
        column.justify = "right"
    table.columns[0].no_wrap = True
    table.columns[5].overflow = "fold"
    for name, device in devices.items():
        found = device.calibration
        bits = f"{runs_of_widths(device.weight_bits)} / {runs_of_widths(device.activation_bits)}"
        limits = [f"{limit:,.0f}" if limit is not None else "-" for limit in (device.ram_kib, device.flash_kib)]
        table.add_row(
            f"{name}\n(own)" if name in own else name,
            f"{device.core}\n{device.engine}\n{device.precision}",
            f"{device.clock_mhz:g}",
            bits,
            "\n".join(limits),
            f"{found.networks}: {found.source}",
            f"{found.error_mean:.1%}\n{found.error_max:.1%}",
            f"+-{device.latency.interval:.1%}",
            "\n".join(_within_10_percent(found)) or "-",
            end_section=True,
        )
    for name, problem in wrong.items():
        table.add_row(f"{name}\n(own)" if name in own else name, clipped(problem), end_section=True)
    return table
