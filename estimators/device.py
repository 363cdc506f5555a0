"""A chip with the engine that runs on it: what it stores, how long it computes, what it draws. Data, not code.

A device is one TOML file. Latency depends on the inference engine as much as on the core (one network on one
Cortex-M7: 587 ms with TensorFlow Lite Micro's reference kernels, 25 ms with TinyEngine), so a device names both.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from collections.abc import Mapping
from functools import cached_property
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from typing import Any
from typing import TypeAlias

from annotated_types import Ge
from annotated_types import Gt
from annotated_types import Le
from annotated_types import MinLen
from pydantic import AfterValidator
from pydantic import ConfigDict
from pydantic import TypeAdapter
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from estimators.estimate import Estimate
from search_spaces.graph import Architecture

MAC_KINDS = frozenset({"conv", "pointwise", "depthwise", "linear"})
ELEMENT_KINDS = frozenset({"pool", "norm", "activation", "add", "concat"})
VIEW_KINDS = frozenset({"flatten"})
DEVICES = Path(__file__).parent / "devices"

CostMetric: TypeAlias = Callable[["Architecture", "Device"], Estimate]


def no_rule(kind: str, where: str) -> ValueError:
    """Return the error for a kernel that nothing prices: an unknown operator is never free."""
    return ValueError(f"no rule for the operator {kind!r} in {where}")


def _mac_kinds(table: Mapping[str, float]) -> Mapping[str, float]:
    return _only(table, MAC_KINDS)


def _known_kinds(table: Mapping[str, float]) -> Mapping[str, float]:
    return _only(table, MAC_KINDS | ELEMENT_KINDS)


def _only(table: Mapping[str, float], kinds: frozenset[str]) -> Mapping[str, float]:
    strangers = sorted(set(table) - kinds)
    if strangers:
        raise ValueError(f"no operator {strangers}; there are {sorted(kinds)}")
    return table


def _ascending(widths: tuple[int, ...]) -> tuple[int, ...]:
    if list(widths) != sorted(set(widths)):
        raise ValueError(f"expected ascending widths; got {list(widths)}")
    return widths


def _never_cheaper_wide(table: Mapping[int, float]) -> Mapping[int, float]:
    by_width = [table[width] for width in sorted(table)]
    if by_width != sorted(by_width):
        raise ValueError("expected relative cycles that do not fall as bits grow")
    return {width: table[width] for width in sorted(table)}


Positive: TypeAlias = Annotated[float, Gt(0)]
NotNegative: TypeAlias = Annotated[float, Ge(0)]
Width: TypeAlias = Annotated[int, Ge(1), Le(32)]
Widths: TypeAlias = Annotated[tuple[Width, ...], MinLen(1), AfterValidator(_ascending)]
Text: TypeAlias = Annotated[str, MinLen(1)]
PerMac: TypeAlias = Annotated[Mapping[str, NotNegative], AfterValidator(_mac_kinds)]
PerKind: TypeAlias = Annotated[Mapping[str, NotNegative], AfterValidator(_known_kinds)]
PerWidth: TypeAlias = Annotated[Mapping[Width, Positive], MinLen(1), AfterValidator(_never_cheaper_wide)]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Latency:
    """Cycles by kernel type, at the device's clock.

    A kernel costs `macs * cycles_per_mac * relative_cycles + elements * cycles_per_element + cycles_per_kernel`, where
    elements are those it reads and writes. Norms and activations folded into a kernel are in its coefficients.

    Attributes:
        cycles_per_mac: For `conv`, `pointwise`, `depthwise` and `linear`. A type left out is refused, not free.
        cycles_per_element: For `pool`, `norm`, `activation`, `add` and `concat` (left out: refused; 0.0 where the
            measured fit puts their time into the other coefficients). May also name the four types above.
        cycles_per_kernel: Fixed cost of one kernel, by type; a type left out has none.
        relative_cycles: Cycles per MAC relative to the table's own precision, by bit-width. A layer is computed at the
            narrowest width listed that holds both its weights and its input.
        overhead_ms: Fixed cost of one inference.
        interval: Relative half-width of the 90 % interval, from cross-validated errors.
    """

    cycles_per_mac: PerMac
    cycles_per_element: PerKind
    relative_cycles: PerWidth
    overhead_ms: NotNegative
    interval: NotNegative
    cycles_per_kernel: PerKind

    @cached_property
    def coefficients(self) -> Mapping[str, tuple[float, float, float]]:
        """Cycles per MAC, per element and per kernel of each type that has a rule; a view costs nothing."""
        priced = self.cycles_per_mac.keys() | self.cycles_per_element.keys() & ELEMENT_KINDS
        tables = (self.cycles_per_mac, self.cycles_per_element, self.cycles_per_kernel)
        rules = {
            kind: (tables[0].get(kind, 0.0), tables[1].get(kind, 0.0), tables[2].get(kind, 0.0)) for kind in priced
        }
        return rules | dict.fromkeys(VIEW_KINDS, (0.0, 0.0, 0.0))

    @cached_property
    def relative_by_bits(self) -> Mapping[int, float]:
        """`relative_cycles` of every bit-width that some width listed holds."""
        widths = tuple(self.relative_cycles)
        return {bits: self.relative_cycles[stored_width(bits, widths)] for bits in range(1, max(widths) + 1)}


@dataclass(frozen=True, config=_STRICT)
class Energy:
    """Power while computing.

    Attributes:
        active_power_mw: Mean power during an inference.
        interval: Relative half-width of the 90 % interval of that power.
    """

    active_power_mw: Positive
    interval: NotNegative


@dataclass(frozen=True, config=_STRICT)
class Calibration:
    """What the coefficients stand on.

    Attributes:
        source: Who measured what.
        networks: How many networks were measured.
        error_mean: Mean relative error on networks left out of the fit.
        error_max: Largest of these errors.
    """

    source: Text
    networks: Annotated[int, Ge(1)]
    error_mean: NotNegative
    error_max: NotNegative


@dataclass(frozen=True, config=_STRICT)
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
        engine_ram_kib: Memory the engine needs beside the tensors.
        engine_flash_kib: Code and tables the engine needs beside the weights.
        latency: Cycle model.
        calibration: What the cycle model stands on.
        energy: Power, None where nobody measured it.
        ram_kib: Memory of the chip, None where it is no limit.
        flash_kib: Flash of the chip, None where it is no limit.

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
    energy: Energy | None = None
    ram_kib: Positive | None = None
    flash_kib: Positive | None = None


@lru_cache(maxsize=1024)
def stored_width(bits: int, widths: tuple[int, ...]) -> int:
    """Return the narrowest width a device stores that holds `bits`.

    Raises:
        ValueError: If all its widths are narrower.

    >>> stored_width(4, (1, 8, 32)), stored_width(8, (1, 8, 32))
    (8, 8)
    """
    for width in widths:
        if width >= bits:
            return width
    raise ValueError(f"no width for {bits} bits; there are {list(widths)}")


def available_devices() -> list[str]:
    """List the devices that ship with the product."""
    return sorted(path.stem for path in DEVICES.glob("*.toml"))


def load_device(name: str) -> Device:
    """Read a device: one that ships, by its name, or a user's own by the path of its `.toml`.

    Raises:
        ValueError: If there is no such device, or its file is wrong; all problems are named together.
    """
    own = name.endswith(".toml")
    path = Path(name) if own else DEVICES / f"{name}.toml"
    if not own and name not in available_devices():
        raise ValueError(f"no device {name!r}; there are {available_devices()} (one of your own is given by its .toml)")
    return _parse(path.stem, _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"cannot read the device file {str(path)!r}: {error}") from error


def _parse(name: str, data: dict[str, Any]) -> Device:
    if "name" in data:
        raise ValueError(f"the device {name!r} is wrong: no key 'name', a device is called as its file")
    try:
        # Validated as JSON: strict about numbers and texts, yet lists are tuples and keys such as "8" are integers.
        return TypeAdapter(Device).validate_json(json.dumps({**data, "name": name}, default=str))
    except ValidationError as error:
        problems = "; ".join(_problem(dict(item)) for item in error.errors())
        raise ValueError(f"the device {name!r} is wrong: {problems}") from None


def _problem(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "missing":
        return f"{key!r} is missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"no key {key!r}"
    return f"{key!r}: {item['msg'].removeprefix('Value error, ')}, got {item['input']!r}"
