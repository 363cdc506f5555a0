"""Put a study into words: rows for JSON, tables for people, a card for the chosen network."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from typing import Any
from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial
from rich.box import SIMPLE_HEAD
from rich.table import Table

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.models.by_layer import Layer
from nas.base import plugins
from nas.runs.pareto import is_metric
from nas.search.config import parse_config
from nas.search.storage import CONFIG
from nas.search.storage import TASK
from nas.training.assess import MEASURED
from search_spaces.graph.architecture import WEIGHTED
from search_spaces.graph.architecture import Architecture
from search_spaces.space import SearchSpace

Row: TypeAlias = dict[str, Any]
# Columns of the front's table, in this order, where the study has them; everything else is in the JSON.
COLUMNS = ("params", "error", "leakage", "latency_ms", "peak_ram_kib", "flash_kib", "macs", "energy_mj")
# The search minimises what it estimates from a sample: the interval belongs beside it wherever it is shown.
WITH_INTERVAL = ("error", "leakage", "tpr_at_1pct_fpr", "loss_auc")


def space_of(study: optuna.Study) -> SearchSpace:
    """Return the space a study searched."""
    task = study.user_attrs[TASK]
    return space_named(study.user_attrs[CONFIG]["space"], tuple(task["input_shape"]), int(task["num_classes"]))


@lru_cache
def space_named(name: str, input_shape: tuple[int, ...] | None = None, num_classes: int | None = None) -> SearchSpace:
    """Return a space for a task; what is left out is the space's usual task, small grey images where it has none."""
    usual_shape, usual_classes = plugins.find("search_spaces", name, "USUAL_TASK") or ((1, 8, 8), 10)
    make_space = plugins.load("search_spaces", name, "make_space")
    space: SearchSpace = make_space(
        usual_shape if input_shape is None else input_shape, usual_classes if num_classes is None else num_classes
    )
    return space


def architecture_of(study: optuna.Study, trial: FrozenTrial) -> Architecture:
    """Return the network a trial stands for."""
    space = space_of(study)
    return space.decode({name: trial.params[name] for name in space.distributions})


def defence_of(study: optuna.Study, trial: FrozenTrial) -> str:
    """Return the defence a trial was trained with."""
    return str(trial.params.get("defence", study.user_attrs[CONFIG]["defences"][0]))


def bits_of(architecture: Architecture) -> str:
    """Write the bit-widths of a network's weights and tensors, layer by layer: `W 8 2x2 8x3 A 8x4 1 8`.

    `2x3` stands for three layers with 2 bits one after the other. The tensor of a layer is what it reads.
    """
    layers = [op for op in architecture.ops if op.kind in WEIGHTED]
    weights = runs(op.weight_bits for op in layers)
    tensors = runs(architecture.ops[op.inputs[0]].bits for op in layers)
    return f"W {weights} A {tensors}"


def runs(values: Iterable[int]) -> str:
    """Write equal neighbours as one.

    >>> runs([8, 2, 2, 8, 8, 8])
    '8 2x2 8x3'
    """
    lengths = [(value, len(list(group))) for value, group in groupby(values)]
    return " ".join(str(value) if length == 1 else f"{value}x{length}" for value, length in lengths)


def row(study: optuna.Study, trial: FrozenTrial) -> Row:
    """Describe a trained candidate: its number, architecture, bits, and every measured number with its interval."""
    architecture = architecture_of(study, trial)
    recipe = parse_config(study.user_attrs[CONFIG]).recipe.recipe(trial.params)
    return {
        "number": trial.number,
        "key": trial.user_attrs["key"],
        "architecture": dict(architecture.params),
        "bits": bits_of(architecture),
        "recipe": asdict(recipe),
        "defence": defence_of(study, trial),
        **{name: _plain(value) for name, value in trial.user_attrs.items() if _is_number(value)},
    }


def flat(estimates: Mapping[str, Estimate]) -> Row:
    """Write estimates as plain numbers; one with an interval has `NAME_low` and `NAME_high` beside it."""
    numbers: Row = {}
    for name, estimate in estimates.items():
        numbers[name] = _plain(estimate.value)
        if estimate.low < estimate.high:
            numbers |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return numbers


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table without frames, as narrow as its columns allow."""
    look: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    return Table(*columns, title=title, title_justify="left", **look)


def front_table(study: optuna.Study, trials: Iterable[FrozenTrial]) -> Table:
    """Lay out candidates, two lines each: an interval stands under its value, the tensors' bits under the weights'."""
    trials = list(trials)
    measured = [name for name in COLUMNS if trials and name in trials[0].user_attrs]
    config = study.user_attrs[CONFIG]
    wanted = dict.fromkeys([*config["objectives"], *config["budgets"]])
    extra = [name for name in wanted if name not in measured]
    names = [*measured, *extra]
    table = plain_table("no.", *map(_heading, names), "bits", "defence")
    for column in table.columns[: len(names) + 1]:
        column.justify = "right"
        column.no_wrap = True
    for trial in trials:
        cells = [_cell(trial, name) for name in names]
        bits = bits_of(architecture_of(study, trial)).replace(" A ", "\nA ")
        table.add_row(str(trial.number), *cells, bits, defence_of(study, trial))
    return table


def estimate_table(title: str, by_device: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Lay out one architecture's costs, a row for each device."""
    names = list(dict.fromkeys(name for estimates in by_device.values() for name in estimates))
    table = plain_table("device", *map(_heading, names), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for device, estimates in by_device.items():
        cells = [interval_text(estimates[name]) if name in estimates else "-" for name in names]
        table.add_row(device, *cells)
    return table


def layer_table(layers: Sequence[Layer], title: str) -> Table:
    """Lay out what `estimators.models.by_layer.by_layer` gave, a row for each layer, sums and the peak below."""
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
    energy = [_short(sum(layer.energy_mj or 0.0 for layer in layers))] * with_energy
    macs, flash_kib = sum(layer.macs for layer in layers), sum(layer.flash_kib for layer in layers)
    peak = f"{max(layer.ram_kib for layer in layers):,.1f}"
    table.add_row("", "all", "", "", f"{macs:,}", _short(total_ms), "", *energy, f"{flash_kib:,.1f}", peak)
    return table


def _layer_cells(layer: Layer, total_ms: float, *, with_energy: bool, with_dataflow: bool) -> list[str]:
    window = f" {layer.window[0]}x{layer.window[1]}" if layer.window != (1, 1) else ""
    bits = "" if layer.input_bits is None else f"{layer.weight_bits or '-'}/{layer.input_bits}"
    cells = ["" if layer.op is None else str(layer.op), layer.kind + window, "x".join(map(str, layer.shape)), bits]
    cells += [f"{layer.macs:,}" if layer.macs else "", _short(layer.latency_ms)]
    cells += [f"{layer.latency_ms / total_ms:.1%}" if layer.latency_ms else ""]
    cells += [_short(layer.energy_mj or 0.0)] * with_energy
    bound = "" if layer.bound == "nothing" else layer.bound
    return [*cells, f"{layer.flash_kib:,.1f}", f"{layer.ram_kib:,.1f}", bound, *[layer.dataflow] * with_dataflow]


def _short(value: float) -> str:
    return f"{value:.3g}" if value else ""


def basis(device: Device) -> str:
    """Say what a device's latency stands on: engine, precision, measurements and their error."""
    found = device.calibration
    return (
        f"latency on {device.name}: {device.engine}, {device.precision}, on {device.core} at {device.clock_mhz:g} MHz; "
        f"from {found.source}; {found.networks} left out in turn err by {found.error_mean:.1%} on average, "
        f"{found.error_max:.1%} at worst; 90 % interval {device.latency.interval:.1%} either way"
    )


def beyond(latency_ms: float, device: Device) -> str | None:
    """Say that a time lies beyond all that were measured, None where it does not."""
    found = device.calibration
    if found.covers(latency_ms):
        return None
    ends = [f"{end:.3g}" if end else "?" for end in (found.fastest_ms, found.slowest_ms)]
    return (
        f"{latency_ms:.3g} ms lies far from what was measured on {device.name}, {ends[0]} to {ends[1]} ms: "
        "the interval may not hold"
    )


def device_row(device: Device) -> Row:
    """Describe a device for JSON: what it is, what it stores, and what its latency stands on."""
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
        "fastest_ms": device.calibration.fastest_ms,
        "slowest_ms": device.calibration.slowest_ms,
        "interval": device.latency.interval,
    }


def device_table(devices: Mapping[str, Device], own: Collection[str]) -> Table:
    """Lay out devices, three lines or so each; a user's own are marked."""
    columns = (
        "name",
        "core, engine, precision",
        "MHz",
        "bits\nW / A",
        "RAM, flash\nKiB",
        "calibrated on",
        "error\nmean, worst",
    )
    table = plain_table(*columns, "90 %", title="devices")
    for column in (table.columns[2], *table.columns[6:]):
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
            f"{device.latency.interval:.1%}",
            end_section=True,
        )
    return table


def runs_of_widths(widths: Sequence[int]) -> str:
    """Write ascending widths, three or more neighbours as a range.

    >>> runs_of_widths((1, 2, 3, 4, 8, 32)), runs_of_widths((1, 8))
    ('1-4 8 32', '1 8')
    """
    numbered = enumerate(widths)
    spans = [[width for _, width in group] for _, group in groupby(numbered, key=lambda pair: pair[1] - pair[0])]
    texts = [f"{span[0]}-{span[-1]}" if len(span) > 2 else " ".join(map(str, span)) for span in spans]
    return " ".join(texts)


def card(study: optuna.Study, trial: FrozenTrial, reason: str, device: str) -> str:
    """Write the short card that travels with a chosen network, in Markdown."""
    config = study.user_attrs[CONFIG]
    described = row(study, trial)
    lines = [
        f"# Candidate {trial.number} of {study.study_name}",
        "",
        f"Chosen because: {reason}.",
        "",
        f"- candidate `{described['key']}` of the space `{config['space']}`, bits {described['bits']}",
        f"- trained on `{config['dataset']}` with the defence `{described['defence']}`, seed {config['seed']}",
        f"- costs are for `{device}`",
        "",
        "| number | value | interval |",
        "|---|---|---|",
    ]
    for name in [*MEASURED, *(name for name in described if name not in MEASURED)]:
        if name in trial.user_attrs and is_metric(trial, name):
            low, high = described.get(f"{name}_low"), described.get(f"{name}_high")
            interval = "counted" if low is None else f"{low:.4g} to {high:.4g}"
            lines.append(f"| {name} | {described[name]:.6g} | {interval} |")
    lines += [
        "",
        "`leakage` is the AUC of a quick membership attack that guided the search: it ranks candidates, and the",
        "search picked among many, so it is optimistic. It is no audit; do not quote it as the leakage of a release.",
        "`error` is measured on validation records; the test records have not been touched.",
        "",
    ]
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: float) -> int | float:
    """Return a whole number as one."""
    return int(value) if float(value).is_integer() else value


def _heading(name: str) -> str:
    """Put a metric's unit on a second line."""
    return name.replace("_", "\n", 1) if name.count("_") == 1 else "\n".join(name.rsplit("_", 1))


def _cell(trial: FrozenTrial, name: str) -> str:
    value, attrs = trial.user_attrs[name], trial.user_attrs
    if name not in WITH_INTERVAL:
        return interval_text(Estimate.exact(value))
    return interval_text(Estimate(value, attrs.get(f"{name}_low", value), attrs.get(f"{name}_high", value)))


def interval_text(estimate: Estimate) -> str:
    """Write a value, and under it its interval where it has one.

    >>> print(interval_text(Estimate.exact(1234567)), interval_text(Estimate(0.5123, 0.45, 0.57)))
    1,234,567 0.512
    0.450-0.570
    """
    if estimate.low == estimate.high:
        return f"{estimate.value:,.0f}" if estimate.value.is_integer() else f"{estimate.value:,.3g}"
    digits = ".3f" if estimate.high < 10 else ".1f"
    return f"{estimate.value:{digits}}\n{estimate.low:{digits}}-{estimate.high:{digits}}"
