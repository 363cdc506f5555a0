"""Write the references in `docs/reference/` from the code: commands, configuration keys, JSON fields, device keys.

    python docs/generate_reference.py

The texts come from the help of the commands and from the `Attributes:` of docstrings, so a text is changed in the code.
The few fields of JSON output that no class describes are described in `docs/json_fields.toml`. A test compares the
files with what this program would write.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import tomllib
import types
import typing
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from typer.models import ArgumentInfo
from typer.models import OptionInfo

from estimators.devices import corrections
from estimators.devices import device
from estimators.devices.device import Device
from estimators.models.accelerator import DATAFLOWS
from estimators.models.by_layer import Layer
from nas.base import plugins
from nas.calibration.measurements import CalibrationReport
from nas.calibration.measurements import EnergyReport
from nas.calibration.measurements import Opinion
from nas.calibration.measurements import TooFew
from nas.calibration.this_machine import Hosted
from nas.cli import app
from nas.commands import list as listing
from nas.commands.examples import EXAMPLES
from nas.deploy.exportable import Exportability
from nas.deploy.timing import Timing
from nas.pricing.by_exit import MEANS
from nas.pricing.limits import Limit
from nas.runs.confirmed import Confirmed
from nas.runs.listing import Listed
from nas.runs.progress import Counts
from nas.runs.retrained import Retrained
from nas.search.config import ENGINES
from nas.search.config import MAY_CHANGE
from nas.search.config import Range
from nas.search.config import RecipeSettings
from nas.search.config import SearchConfig
from nas.search.schema import Inherited
from nas.search.steps import LEAST_EPOCHS
from nas.search.steps import LEAST_STEPS
from nas.search.steps import MOST_EPOCHS
from nas.search.steps import MOST_STEPS
from nas.split_overview import Overview
from nas.training.baselines import Baseline
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import OF_A_CLASS
from nas.training.measures import MEASURES
from nas.training.recipe import AUGMENTATIONS
from nas.training.recipe import CLASS_WEIGHTS
from nas.training.recipe import OPTIMIZERS
from nas.training.recipe import Recipe

FOLDER = Path(__file__).parent / "reference"
NOTE = "*Written by `python docs/generate_reference.py` from the code. Change the code, then run it again.*"
# Tables of a device file in the order in which a reader needs them; the empty name is the top of the file.
DEVICE_TABLES: dict[str, type] = {
    "": Device,
    "latency": device.Latency,
    "latency.float_kernels": device.FloatKernels,
    "latency.residual": corrections.Residual,
    "latency.kernels": corrections.KernelTrees,
    "calibration": device.Calibration,
    "memory": device.Memory,
    "energy": device.Energy,
    "energy.consumption": device.Consumption,
    "energy.consumption.residual": corrections.Residual,
    "energy.hierarchy": device.Hierarchy,
    "energy.hierarchy.pj_per_bit": device.LevelEnergies,
    "link": device.Link,
    "link.power": device.LinkPower,
    "enclave": device.Enclave,
    'sparsity."2:4"': device.SparseKernels,
}
# How the types of device keys read to a person who writes TOML.
KINDS = {
    "Positive": "number above 0",
    "NotNegative": "number, 0 or more",
    "Share": "number, at least 0, at most 1",
    "Text": "text",
    "Width": "bits, 1 to 32",
    "Widths": "list of bits, ascending",
    "Kinds": "list of operator types",
    "PerMac": "table of numbers by operator type",
    "PerKind": "table of numbers by operator type",
    "PerWidths": "table of numbers by bits",
    "bool": "true or false",
}
DESCRIBED: dict[str, type] = {
    "Counts": Counts,
    "Inherited": Inherited,
    "Confirmed": Confirmed,
    "Overview": Overview,
    "Limit": Limit,
    "Baseline": Baseline,
    "Exportability": Exportability,
    "Timing": Timing,
    "Layer": Layer,
    "CalibrationReport": CalibrationReport,
    "Opinion": Opinion,
    "EnergyReport": EnergyReport,
    "TooFew": TooFew,
    "Hosted": Hosted,
    "Retrained": Retrained,
    "Listed": Listed,
}
# Constants that docstrings name, with what they hold.
CONSTANTS: dict[str, Iterable[str]] = {
    "ENGINES": ENGINES,
    "OPTIMIZERS": OPTIMIZERS,
    "AUGMENTATIONS": AUGMENTATIONS,
    "CLASS_WEIGHTS": CLASS_WEIGHTS,
    "estimators.models.accelerator.DATAFLOWS": DATAFLOWS,
}


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {
        "commands.md": commands(),
        "configuration.md": configuration(),
        "devices.md": devices(),
        "json.md": json_fields(),
    }


def attributes(described: type, absent: str = "left out") -> dict[str, str]:
    """Read the `Attributes:` of a class's docstring: the text of each name, on one line."""
    found: dict[str, str] = {}
    name = ""
    _, _, section = (inspect.getdoc(described) or "").partition("Attributes:\n")
    for line in re.split(r"\n(?=\S)", section)[0].splitlines():
        if begins := re.match(r"    (\w+): (.*)", line):
            name = begins[1]
            found[name] = begins[2]
        elif line.strip():
            found[name] += " " + line.strip()
    return {name: spelled_out(text, absent) for name, text in found.items()}


def spelled_out(text: str, absent: str = "left out") -> str:
    """Put the names that a constant holds, and the word for a missing value, in the place of Python's."""
    for constant, names in CONSTANTS.items():
        text = text.replace(code(constant), ", ".join(map(code, names)))
    at_start = re.sub(r"(^|\. )None\b", lambda found: found[1] + absent[0].upper() + absent[1:], text)
    return re.sub(r"\bNone\b", absent, at_start)


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lay out a Markdown table."""
    lines = [list(heads)]
    lines += [[str(cell).replace("|", r"\|") for cell in row] for row in rows]
    written = [f"| {' | '.join(line)} |" for line in lines]
    return [written[0], "|" + "---|" * len(lines[0]), *written[1:], ""]


def code(text: object) -> str:
    """Write something as code."""
    return f"`{text}`"


def page(title: str, *parts: str) -> str:
    """Join the parts of a page, blank lines between paragraphs are the parts' own."""
    return "\n".join([f"# {title}", "", NOTE, "", *parts]).rstrip() + "\n"


# Commands


def commands() -> str:
    """Write all commands with their arguments and options."""
    lines = [
        "A mistake of the user ends in one line and exit code 2. Ctrl-C ends a command with exit code 130.",
        "An audit above a limit of `--fail-above` ends with exit code 3, after its report is written.",
        "`nas COMMAND --help` prints what stands here. `nas --version` prints the version.",
        "`nas --install-completion` lets the shell complete commands, options, names and runs.",
        "",
    ]
    for info in app.registered_commands:
        run = typing.cast("Callable[..., Any]", info.callback)
        lines += command(info.name or run.__name__, run)
    return page("Commands", *lines)


def command(name: str, run: Callable[..., Any]) -> list[str]:
    """Write one command."""
    hints = typing.get_type_hints(run, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(run).parameters.values():
        hint, told = unwrapped(hints[parameter.name])
        default = parameter.default
        text = (told.help if told else "") or ""
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options.append((code(flag_of(parameter.name, told)), value_kind(hint), default_of(default), text))
        else:
            arguments.append((code(parameter.name.upper()), "required" if default is parameter.empty else "", text))
    usage = " ".join(f"[{row[0].strip('`')}]" if not row[1] else row[0].strip("`") for row in arguments)
    lines = [f"## nas {name}", "", f"    nas {name} {usage}".rstrip() + " [OPTIONS]", ""]
    lines += [(inspect.getdoc(run) or "").strip(), ""]
    lines += table(("argument", "", "meaning"), arguments) if arguments else []
    lines += table(("option", "value", "default", "meaning"), options)
    return [*lines, "Examples:", "", *(f"    {example}" for example in EXAMPLES[name]), ""]


def unwrapped(hint: Any) -> tuple[Any, ArgumentInfo | OptionInfo | None]:
    """Part `Annotated[type, typer.Option(...)]`."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, *told = typing.get_args(hint)
        return kind, next((one for one in told if isinstance(one, ArgumentInfo | OptionInfo)), None)
    return hint, None


def flag_of(name: str, told: ArgumentInfo | OptionInfo | None) -> str:
    """Return the flag of an option: the one it declares (typer keeps the first in `default`), or its name."""
    declared = [str(text) for text in (told.default, *(told.param_decls or ()))] if told else []
    flags = [text for text in declared if text.startswith("--")]
    return flags[0] if flags else "--" + name.replace("_", "-")


def value_kind(hint: Any) -> str:
    """Say what an option takes."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return value_kind(next(part for part in typing.get_args(hint) if part is not type(None)))
    if typing.get_origin(hint) is list:
        return f"{value_kind(typing.get_args(hint)[0])}, may be repeated"
    return {bool: "", int: "whole number", float: "number", str: "text", Path: "path"}[hint]


def default_of(value: object) -> str:
    """Write a default; none where the option is simply not given."""
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value in (None, False) else code(value)


# Configuration


def configuration() -> str:
    """Write the keys of a search's TOML file."""
    recipe = attributes(Recipe)
    lines = [
        "A search reads its settings from a TOML file, from flags, or from both. A flag overrides the file.",
        "`nas search` writes the settings of a run to `runs/NAME/config.toml`; that file is a good start for your own.",
        "An unknown key is an error that lists the known ones.",
        "",
        "When a run continues, only the keys marked *yes* may differ from those it started with.",
        "",
    ]
    texts = attributes(SearchConfig)
    rows = [
        (code(name), field_default(field), "yes" if name in MAY_CHANGE else "", texts[name])
        for name, field in SearchConfig.model_fields.items()
    ]
    lines += table(("key", "default", "may change", "meaning"), rows)
    lines += [
        "## [recipe]",
        "",
        "How candidates are trained. Each key takes one value, a list to choose from, or a range to search:",
        "",
        "    [recipe]",
        "    epochs = 20                                  # one value",
        '    optimizer = ["adamw", "sgd"]                 # a list to choose from',
        "    weight_decay = { low = 1e-5, high = 1e-1, log = true }   # a range, searched on a log scale",
        "",
        f"Where `epochs` is not set, the range grows as the members become fewer: from {LEAST_EPOCHS} epochs, or as",
        f"many as make {LEAST_STEPS} steps, to {MOST_EPOCHS}, or as many as make {MOST_STEPS} steps.",
        "",
    ]
    rows = [(code(name), field_default(field), recipe[name]) for name, field in RecipeSettings.model_fields.items()]
    lines += table(("key", "default", "meaning"), rows)
    lines += [
        "## [budgets]",
        "",
        "Upper limits by the name of a metric (`nas list metrics`). A candidate whose predicted cost exceeds a limit",
        "is not trained. The memory that the device has is such a limit without being named here (`device_limits`),",
        "and the error has a ceiling (`error_ceiling`).",
        "",
        "    [budgets]",
        "    latency_ms = 20",
        "    flash_kib = 256",
    ]
    lines += [
        "",
        "## [set]",
        "",
        "What the space is narrowed to, by the names of its parameters, patterns over them, or their endings; see",
        "[Search](../search.md#narrow-the-space). Ranges have no `log` here: the space says the scale.",
        "",
        "    [set]",
        "    bits = 8                                     # every parameter that ends in _bits",
        '    "block*_weight_bits" = [4, 2]                # a list to choose from; the later one wins',
        "    depth = { low = 1, high = 3 }                # a range",
    ]
    return page("Configuration keys", *lines)


def field_default(field: Any) -> str:
    """Write the default of a setting as TOML would."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Range):
        return code(f"{{ low = {value.low}, high = {value.high}{', log = true' if value.log else ''} }}")
    if isinstance(value, RecipeSettings):
        return "see below"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code("[" + ", ".join(f'"{name}"' for name in value) + "]")
    if isinstance(value, str):
        return code(f'"{value}"')
    return "" if value in (None, {}, PydanticUndefined) else code(value)


# Devices


def devices() -> str:
    """Write the keys of a device file."""
    lines = [
        "A device is one TOML file. The shipped ones are in `estimators/devices/`. Your own are in `devices/` in the",
        "current folder, where `nas calibrate` writes them. The name of the file is the name of the device.",
        "",
        'A file may start with `base = "stm32l4r5"` and then write only what differs from that device.',
        "Operator types are `conv`, `pointwise`, `depthwise`, `linear`, `pool`, `norm`, `activation`, `add`, `concat`,",
        "and `zero`. A key without a default is required.",
        "",
    ]
    for name, described in DEVICE_TABLES.items():
        lines += [f"## [{name}]" if name else "## Top of the file", ""]
        lines += [(inspect.getdoc(described) or "").split("\n\nAttributes:")[0], ""]
        lines += table(("key", "value", "default", "meaning"), device_rows(described))
    return page("Device keys", *lines)


def device_rows(described: type) -> list[tuple[str, str, str, str]]:
    """Return key, kind, default and meaning of each key of one table."""
    texts = attributes(described)
    return [
        (code(field.name), device_kind(str(field.type)), device_default(field), texts.get(field.name, ""))
        for field in dataclasses.fields(described)
        if field.name != "name"
    ]


def device_kind(written: str) -> str:
    """Put the type of a key into words."""
    bare = written.removesuffix(" | None")
    if bare in KINDS:
        return KINDS[bare]
    if choices := re.fullmatch(r"Literal\[(.*)\]", bare):
        return choices[1].replace(", ", " or ")
    if "Mapping" in bare or bare in {kind.__name__ for kind in DEVICE_TABLES.values()}:
        return "table"
    if "tuple" in bare:
        return "list"
    limits = ", ".join(f"{name.lower()} {end}" for name, end in re.findall(r"(Ge|Le|Gt)\((\d+)\)", bare))
    kind = "whole number" if re.search(r"\bint\b", bare) else "number"
    limits = limits.replace("ge ", "at least ").replace("le ", "at most ").replace("gt ", "above ")
    return f"{kind}, {limits}" if limits else kind


def device_default(field: dataclasses.Field[Any]) -> str:
    """Write the default of a key; none where it is required or may be left out."""
    if field.default_factory is not dataclasses.MISSING:
        return "empty"
    if field.default is dataclasses.MISSING:
        return ""
    return "left out" if field.default is None else code(str(field.default).lower())


# JSON


def json_fields() -> str:
    """Write the fields of every command's JSON, and the numbers that all share."""
    written = tomllib.loads((Path(__file__).parent / "json_fields.toml").read_text(encoding="utf-8"))
    lines = [
        "Every command prints one JSON object with `--json`. Progress and warnings go to the error stream.",
        "A number that is estimated has its interval beside it: `leakage`, `leakage_low`, `leakage_high`.",
        "A counted number stands alone. `null` means that there is no such number.",
        "A limit or an objective may name an end: `leakage_high`.",
        "The list `extrapolated` beside costs names those that lie outside what was measured; see [Cost](../cost.md).",
        "",
        "## Measures",
        "",
        "These names are the same in JSON, in the Optuna study, in `--max`, in `--budget` and in tables.",
        "The intervals of costs are 90 % intervals, those of measured numbers 95 % intervals.",
        "",
    ]
    lines += table(("name", "meaning"), ((code(name), text) for name, text in metrics().items()))
    for title, section in written.items():
        lines += [f"## {title}", "", *([section["about"], ""] if "about" in section else [])]
        rows = [(code(name), text) for name, text in section.get("fields", {}).items()]
        if described := section.get("class"):
            rows += [(code(name), text) for name, text in attributes(DESCRIBED[described], "`null`").items()]
        lines += table(("field", "meaning"), rows) if rows else []
    return page("JSON fields", *lines)


def metrics() -> dict[str, str]:
    """Return what each measure means: the first line of each cost metric's module, then what a search measures."""
    package, attribute = listing.PACKAGES["metrics"]
    modules = {name: importlib.import_module(f"{package}.{name}") for name in plugins.available(package, attribute)}
    return (
        {name: (module.__doc__ or "").splitlines()[0] for name, module in modules.items()}
        | MEANS
        | MEASURES
        | {f"{CLASS_ERROR}NAME": OF_A_CLASS}
    )


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"written to docs/reference/{name}")


if __name__ == "__main__":
    main()
