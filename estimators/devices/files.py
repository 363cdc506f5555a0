"""Device files: which there are, what they take from each other, and what is refused.

Two folders hold them: the shipped ones, and `devices/` below the current folder, where `nas calibrate` writes a user's
own. Of two with one name the user's counts.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic import ValidationError

from estimators.devices.device import Device

DEVICES = Path(__file__).parent
OWN_DEVICES = Path("devices")
MOST_BYTES = 2**26
"""Of a device file; the largest that ships has a hundredth of it."""


def available_devices() -> list[str]:
    """List the devices that ship with the product, and the user's own in `devices/` below the current folder."""
    return sorted({path.stem for path in DEVICES.glob("*.toml")} | set(own_devices()))


def own_devices() -> list[str]:
    """List the user's own devices."""
    return sorted(path.stem for path in OWN_DEVICES.glob("*.toml"))


def readable_devices() -> tuple[dict[str, Device], dict[str, str]]:
    """Read all devices: those that can be read by name, and of each other one what is wrong with its file."""
    devices, wrong = {}, {}
    for name in available_devices():
        try:
            devices[name] = load_device(name)
        except ValueError as error:
            wrong[name] = str(error)
    return devices, wrong


def load_device(name: str) -> Device:
    """Read a device: by its name, a user's own before one that ships, or by the path of its `.toml`.

    A file may start from another device, `base = "stm32l4r5"`, and write only the keys and tables that differ, such as
    `[link]` or `[enclave]`.

    Raises:
        ValueError: If there is no such device, or its file is wrong; all problems are named together.
    """
    path = _path_of(name, Path())
    return parse_device(path.stem, _filled(_read(path), path))


def _path_of(name: str, folder: Path) -> Path:
    if name.endswith(".toml"):
        return folder / name
    if name not in available_devices():
        raise ValueError(f"no device {name!r}; there are {available_devices()} (one of your own is given by its .toml)")
    return (OWN_DEVICES if name in own_devices() else DEVICES) / f"{name}.toml"


def _filled(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Fill in what a file takes from others: the keys of its `base` that it does not write anew, and its server.

    A user's own file names another one relative to the folder it lies in.
    """
    data = _with_base(data, path)
    link = data.get("link")
    if not isinstance(link, dict) or "server" not in link:
        return data
    name = str(link["server"])
    path = _path_of(name, path.parent)
    # A server's own link is left out: a network is cut once.
    server = {key: value for key, value in _with_base(_read(path), path).items() if key != "link"}
    return data | {"link": link | {"server": server | {"name": path.stem}}}


def _with_base(data: dict[str, Any], path: Path) -> dict[str, Any]:
    if "base" not in data:
        return data
    name = str(data["base"])
    # A user's own `devices/NAME.toml` that starts from NAME means the shipped one.
    base = DEVICES / f"{name}.toml" if path == OWN_DEVICES / f"{name}.toml" else _path_of(name, path.parent)
    return _read(base) | {key: value for key, value in data.items() if key != "base"}


def parse_device(name: str, data: dict[str, Any]) -> Device:
    """Make a device of what its file holds, without a `base` or a server's name in it.

    Raises:
        ValueError: If it is wrong; all problems are named together.
    """
    if "name" in data:
        raise ValueError(f"the device {name!r} is wrong: no key 'name', a device is called as its file")
    try:
        # Validated as JSON: strict about numbers and texts, yet lists are tuples and keys such as "8" are integers.
        return TypeAdapter(Device).validate_json(json.dumps({**data, "name": name}, default=str))
    except ValidationError as error:
        problems = "; ".join(_problem(dict(item)) for item in error.errors())
        raise ValueError(f"the device {name!r} is wrong: {problems}") from None
    except (RecursionError, ValueError) as error:  # nested deeper than JSON can be written, or an integer as long
        raise ValueError(f"the device {name!r} is wrong: {error}") from None


def same_engine(device: Device, engine: str) -> bool:
    """Tell whether a device was measured with an engine: `X-CUBE-AI`, or with as much of its version as matters.

    >>> [same_engine(load_device("stm32l4r5"), name) for name in ("x-cube-ai", "X-CUBE-AI 9.0", "X-CUBE-AI 8.1.0")]
    [True, True, False]
    """
    measured, asked = device.engine.casefold(), engine.strip().casefold()
    return measured == asked or (bool(asked) and measured.startswith((f"{asked} ", f"{asked}.")))


def require_engine(device: Device, engine: str) -> None:
    """Refuse to price an engine on figures measured with another one, or with another version of it.

    The latencies that the refusal quotes are of one network (`mcunet-in0`) on one STM32H743, with TensorFlow Lite
    Micro's reference kernels, CMSIS-NN, X-CUBE-AI and TinyEngine: the README of the MCUNet and TinyEngine project.

    Raises:
        ValueError: If the device was measured with another engine.
    """
    if same_engine(device, engine):
        return
    others, _ = readable_devices()
    having = [name for name, other in others.items() if same_engine(other, engine)]
    known = having or f"none (there are {sorted({other.engine for other in others.values()})})"
    raise ValueError(
        f"the device {device.name!r} was measured with {device.engine!r}, and that says nothing about {engine!r}: one "
        f"network on one Cortex-M7 takes 587, 53, 35 or 25 ms with four engines; devices with that engine: {known}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES)  # more is torn off, and no TOML any more
        return tomllib.loads(data.decode())
    except (OSError, ValueError, RecursionError) as error:  # a ValueError is no TOML, no UTF-8 or an endless integer
        raise ValueError(f"cannot read the device file {str(path)!r}: {error}") from error


def _problem(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "missing":
        return f"{key!r} is missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"no key {key!r}"
    return f"{key!r}: {item['msg'].removeprefix('Value error, ')}, got {item['input']!r}"
