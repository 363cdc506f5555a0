"""Feed the command line with hostile files: what ends in anything but one line or an accepted run is a bug.

    python benchmarks/hostile_inputs.py --examples 100000

Files that the product reads (settings, tables, arrays, images, devices, architectures, picks, studies) are made well,
then mutated: values by others of every kind and size, keys renamed, parts doubled, nested, torn off, bytes changed. A
command reads each in this process. Trainings, and what takes seconds, are replaced by `Accepted`: what would begin.

What must hold of each example:

- it ends with exit code 0, with exit code 2 and one line of at most 300 characters, or is accepted;
- nothing is written outside the run's folder and the outputs that the command line names;
- no module that only a file names is imported;
- what is printed holds no control characters.

An example is named by its kind and a number: `--kind studies --first 17 --examples 1` makes it again. Results are
appended to `--log` as lines of JSON; a run that was stopped goes on after the last line of it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import importlib
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
import traceback
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import optuna
import pandas as pd
import torch
from numpy.lib import format as npy
from PIL import Image

from estimators.devices.files import DEVICES
from estimators.estimate import Estimate
from nas import cli
from nas.base import files
from nas.base.plugins import TRUSTED
from nas.base.weights import write_weights
from nas.search import study as search
from nas.search.bench import Evaluated
from nas.search.config import parse_config
from nas.search.config import to_toml
from nas.search.plan import resolve
from nas.search.storage import open_study
from nas.search.storage import weights_path
from nas.spaces import space_named
from nas.training.assess import Bench
from nas.training.measures import MEASURED
from search_spaces.network import build

ONE_LINE = re.compile(r"nas: [^\n]{1,300}\n")
RUN = "small"
TRIALS = 6
TRAP = "hostile_trap"
IMAGES = 80
RECORDS = 60
IMAGE_FORMATS = ("png", "jpeg", "bmp", "gif", "tiff", "webp")
DEVICE_FILES = ("stm32l4r5", "pixel3", "eyeriss_like", "bit_serial_fpga", "coral_edgetpu")
LINK = {
    "link": {
        "server": "host",
        "bandwidth_mbit_s": 10.0,
        "round_trip_ms": 5.0,
        "interval": 0.3,
        "power": {"transmit_mw": 702.0, "receive_mw": 250.0, "idle_mw": 88.0, "interval": 0.1},
    },
    "enclave": {
        "secure_ram_kib": 128,
        "engine_ram_kib": 16.4,
        "slow_down": 1.1,
        "switch_us": 20.0,
        "copy_us_per_kib": 10.0,
        "interval": 0.5,
    },
}
SETTINGS: dict[str, Any] = {
    "name": RUN,
    "space": "mlp",
    "dataset": "npz",
    "members": 30,
    "device": "stm32l4r5",
    "objectives": ["error", "leakage", "latency_ms"],
    "budgets": {"latency_ms": 1000.0},
    "attack": "lira_fitted",
    "defences": ["none", "gecko"],
    "references": 2,
    "trials": TRIALS,
    "seed": 0,
    "sampler": "random",
    "workers": 1,
    "recipe": {"epochs": {"low": 2, "high": 3}, "learning_rate": 0.01, "dropout": [0.0, 0.1], "optimizer": "adamw"},
}


class Accepted(BaseException):
    """Stands for what would be begun: a training, an attack, a fit, a file that is written."""


# Values and mutations.


def deep(levels: int, *, table: bool = False) -> Any:
    """Return lists, or tables, in each other."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if table else [value]
    return value


WEIRD: tuple[Callable[[Random], Any], ...] = (
    lambda random: random.choice([0, 1, -1, 2, 3, 255, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**12, 10**30]),
    lambda random: random.choice([10**308, 10**309, 10**400, -(10**400), 10**4000]),
    lambda random: random.choice([0.0, -0.0, 0.5, 1e-300, 5e-324, 1e308, -1e308, 1.7e308]),
    lambda random: random.choice([float("nan"), float("inf"), float("-inf")]),
    lambda random: random.choice(["", " ", "x", "0", "1e5", "nan", "None", "true", "x" * 400, "\n", "a\nb", "é", "Ω"]),
    lambda random: random.choice(["[/b]", "[red]", "[bold", ":smile:", "\x1b[31mred", "\x07", "\x9b2J", "\u202eabc"]),
    lambda random: random.choice(["../../up", "/", "/dev/zero", "/dev/null", ".", "..", "~nobody/x", "a/../b", "x\\y"]),
    lambda random: random.choice([f"{TRAP}.module", f"{TRAP}", "os.path", "search_spaces.conv", "graph", "a.b"]),
    lambda random: random.choice([None, True, False, [], {}, [[]], [None], {"": None}]),
    lambda random: deep(random.choice([2, 20, 60, 200]), table=random.random() < 0.4),
    lambda random: random.choice([["x"] * 50, list(range(100)), [1, "a", None], [0.1, "b"], {"a": 1, "b": {"c": 2}}]),
    lambda random: random.choice(["mlp", "conv", "nb201", "digits", "none", "gecko", "stm32l4r5", "host", "lira"]),
)


def weird(random: Random) -> Any:
    """Return a value that nobody expects."""
    return random.choice(WEIRD)(random)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every place in nested lists and tables: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys: Any = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def mutated(random: Random, value: Any, most: int = 2) -> Any:
    """Return a copy of nested lists and tables with a few things changed."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, most)):
        there = places(value)
        if not there:
            return weird(random)
        holder, key = random.choice(there)
        change = random.randrange(10)
        if change < 5:
            holder[key] = weird(random)
        elif change == 5:
            del holder[key]
        elif change == 6:
            holder[key] = [holder[key]] if random.random() < 0.5 else {"x": holder[key]}
        elif change == 7 and isinstance(holder[key], int | float):
            with contextlib.suppress(OverflowError):  # an integer that no float holds
                holder[key] *= random.choice([-1, 0, 1e-9, 1e9, 10**20, 0.999])
        elif change == 8:
            other, name = random.choice(there)
            with contextlib.suppress(KeyError, IndexError):  # it was deleted a moment ago
                holder[key] = copy.deepcopy(other[name])
        elif isinstance(holder, dict):
            new = random.choice(["x", f"{key}s", "", "name", "[/b]", "\x1b[1m", "a b", "é", *map(str, holder)])
            holder[new] = holder.pop(key)
        else:
            holder.insert(random.randint(0, len(holder)), weird(random))
    return value


def mutated_bytes(random: Random, data: bytes, most: int = 4) -> bytes:
    """Return bytes with a few places changed, doubled, left out or torn off."""
    torn = bytearray(data)
    for _ in range(random.randint(1, most)):
        start = random.randint(0, len(torn))
        end = min(len(torn), start + random.choice([1, 1, 2, 8, 64, 1000]))
        change = random.randrange(6)
        if change == 0:
            torn[start:end] = bytes(random.randrange(256) for _ in range(end - start))
        elif change == 1:
            del torn[start:end]
        elif change == 2:
            torn[start:start] = torn[start:end] * random.choice([1, 2, 50])
        elif change == 3:
            torn[start:start] = random.choice(
                [b"\0", b"\xff", b"[" * 400, b"9" * 30, b"\x1b[", b"\n", b"{", b'"', b",,"]
            )
        elif change == 4:
            del torn[start:]
        elif digits := [place for place, byte in enumerate(torn) if chr(byte).isdigit()]:
            torn[random.choice(digits)] = random.choice(b"0123456789")
    return bytes(torn)


def toml(value: Any, *, top: bool = True) -> str:
    """Write TOML, of values too that no writer would take."""
    if isinstance(value, dict):
        if top:
            return "".join(f"{json.dumps(str(key))} = {toml(part, top=False)}\n" for key, part in value.items())
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(part, top=False)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(part, top=False) for part in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value) if not isinstance(value, int) or abs(value) < 10**4000 else "9" * 4001
    return '"none"' if value is None else json.dumps(str(value))


def written(random: Random, path: Path, text: str, share: float = 0.25) -> Path:
    """Write a text, now and then with its bytes changed."""
    data = text.encode("utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mutated_bytes(random, data) if random.random() < share else data)
    return path


# What is mutated: made well, once.


@dataclass(frozen=True)
class Base:
    """Good files that examples start from.

    Attributes:
        folder: Where they lie.
        arrays: Records to search with.
        images: Encoded images to search with, by their names below a folder.
        audit: Arrays of an audit.
    """

    folder: Path
    arrays: Mapping[str, Any]
    images: Mapping[str, bytes]
    audit: Mapping[str, Any]

    @property
    def run(self) -> Path:
        """The folder of a finished run."""
        return self.folder / "runs" / RUN


@cache
def base() -> Base:
    """Make the good files: a run of untrained networks with made-up measures, its picks, arrays."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    arrays = {"features": generator.normal(size=(200, 6)).astype(np.float32), "labels": labels}
    logits = generator.normal(size=(80, 2)).astype(np.float32)
    audit = {
        "labels": labels[:80],
        "is_member": np.arange(80) < 40,
        "logits": logits,
        "reference_logits": generator.normal(size=(4, 80, 2)).astype(np.float32),
        "trained_on": np.stack([np.roll(np.arange(80) < 40, 20 * shift) for shift in range(4)]),
    }
    np.savez(folder / "records.npz", **arrays)
    plan = resolve(parse_config({**SETTINGS, "data_path": folder / "records.npz"}), folder / "runs")
    bench = Bench(plan.data, plan.attack, None, {}, 0)
    with mock.patch.object(search, "evaluate", _made_up), mock.patch.object(search, "make_bench", return_value=bench):
        study = open_study(plan)
        search.work(plan, study)
    files.write_text(plan.folder / "config.toml", to_toml(plan.config))
    with _quiet(), mock.patch.object(sys, "argv", ["nas", "pick", RUN, "--runs", str(folder / "runs")]):
        cli.main()
    return Base(folder, arrays, _images(generator), audit)


def _images(generator: np.random.Generator) -> dict[str, bytes]:
    """Encode small images of two classes in all formats."""
    found = {}
    for number in range(IMAGES):
        suffix = IMAGE_FORMATS[number % len(IMAGE_FORMATS)]
        stream = io.BytesIO()
        pixels = generator.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, suffix)
        found[f"{'ab'[number // 2 % 2]}/{number}.{suffix}"] = stream.getvalue()
    return found


def _made_up(plan: Any, _bench: Any, candidate: Any) -> Evaluated:
    random = Random(candidate.key)
    digest = write_weights(weights_path(plan.folder, candidate.key), build(candidate.architecture))
    measures = {name: Estimate(random.random(), 0.0, 1.0) for name in MEASURED}
    return Evaluated(measures, {"training": 0.0}, digest)


# The kinds of examples: each writes its files into a folder and returns the command line.


def settings(random: Random, folder: Path) -> list[object]:
    """A search file, its records whole."""
    values = mutated(random, {**SETTINGS, "data_path": str(base().folder / "records.npz")})
    path = written(random, folder / "search.toml", toml(values) if isinstance(values, dict) else toml({"a": values}))
    return ["search", path, "--name", "hostile"] if random.random() < 0.5 else ["search", path]


def tables(random: Random, folder: Path) -> list[object]:
    """A table of architectures to price, or of measurements to calibrate with."""
    header = ["space", "architecture", "latency_ms", "energy_mj", "engine"]
    names = ["mlp", "conv", "nb201"]
    rows = [[name, json.dumps({}), "1.5", "", "e 1"] for name in random.choices(names, k=random.randint(1, 5))]
    if random.random() < 0.5:
        reference = dict(space_named("mlp", (4,), 3).reference)
        described = {"space": "mlp", "input_shape": [4], "num_classes": 3, "params": reference}
        rows.append(["mlp", json.dumps(mutated(random, described)), "2", "1", "e 1"])
    cells = mutated(random, [header, *rows], 4)
    cells = cells if isinstance(cells, list) else [[cells]]
    lines = [
        ",".join('"' + _text(cell).replace('"', '""') + '"' for cell in (row if isinstance(row, list) else [row]))
        for row in cells
    ]
    path = written(random, folder / "table.csv", "\n".join(lines) + "\n")
    if random.random() < 0.5:
        return ["calibrate", "--device", "made", "--from", path, "--clock-mhz", "100"]
    return ["estimate", "--from", path, "--output", folder / "out" / "priced.csv"]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        return json.dumps(value)
    return "9" * 5000


def arrays(random: Random, folder: Path) -> list[object]:
    """Records to search with, or what an audit is to attack, as .npz."""
    for_audit = random.random() < 0.5
    found = dict(base().audit if for_audit else base().arrays)
    name = random.choice(list(found))
    if random.random() < 0.5:
        found[name] = _other_array(random, found[name])
    path = folder / "arrays.npz"
    with zipfile.ZipFile(path, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for one, values in found.items():
            archive.writestr(f"{one}.npy", _npy(random, values, torn=one == name and random.random() < 0.7))
    if random.random() < 0.25:
        path.write_bytes(mutated_bytes(random, path.read_bytes()))
    if for_audit:
        attack = random.choice(["loss", "gap", "rmia", "lira_online"])
        return ["audit", path, "--attack", attack, "--output", folder / "out"]
    given = ["--members", "30", "--references", "2", "--name", "hostile"]
    return ["search", "--dataset", random.choice(["npz", "npz", "location30"]), "--data-path", path, *given]


def records(random: Random, folder: Path) -> list[object]:
    """A table of records to search with, as text or as Parquet: strange cells, columns, separators and bytes."""
    generator = np.random.default_rng(random.randrange(2**32))
    columns: dict[str, list[Any]] = {
        "number": [f"{value:.3f}" for value in generator.normal(size=RECORDS)],
        "count": [str(value) for value in generator.integers(0, 9, RECORDS)],
        "kind": random.choices(["red", "blue", ""], k=RECORDS),
        "day": [f"2024-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(RECORDS)],
        "label": [str(row % 2) for row in range(RECORDS)],
    }
    for _ in range(random.choice([0, 1, 2, 5])):
        column = columns[random.choice(list(columns))]
        many = random.choice([1, 1, 3, RECORDS])
        for row in random.sample(range(RECORDS), many):
            column[row] = _text(weird(random)) if random.random() < 0.5 else random.choice(STRANGE_CELLS)
    if random.random() < 0.2:
        name = random.choice(list(columns))
        columns[random.choice(["", "x" * 300, "\x1b[31m", "a,b", '"', "../up", "__class__"])] = columns.pop(name)
    chosen = random.sample(list(columns), random.choice([2, len(columns), len(columns), len(columns)]))
    given: list[object] = ["--members", "20", "--references", "2", "--name", "hostile", "--space", "mlp"]
    given += random.choice([[], [], ["--drop-column", "day"], ["--group-column", "kind"], ["--transform", "quantile"]])
    if random.random() < 0.2:
        path = folder / "records.parquet"
        frame = pd.DataFrame({name: columns[name] for name in chosen})
        frame.map(lambda cell: cell.encode("utf-8", "replace").decode()).to_parquet(path)
        if random.random() < 0.5:
            path.write_bytes(mutated_bytes(random, path.read_bytes()))
        return ["search", "--dataset", "parquet", "--data-path", path, *given]
    text = io.StringIO(newline="")
    quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, delimiter=random.choice([",", ",", ",", ";", "\t", "|"]), quoting=quoting)
    writer.writerows([chosen, *zip(*(columns[name] for name in chosen), strict=True)])
    path = written(random, folder / "records.csv", text.getvalue(), share=0.1)
    return ["search", "--dataset", "csv", "--data-path", path, *given]


STRANGE_CELLS = (
    "", " ", "nan", "NA", "-9999", "1e999", "-1e308", "1,5", "1.234.567,8", "0x10", "9" * 400, "1_000", "\u0661\u0662",
    "True", "yes", "2024-02-30", "0001-01-01", "99999-01-01", "12:00", "x" * 70_000, "\x1b[31m", "[/b]", '"', "=1+1",
    "\ufeff", "\u2028", "a\nb", "1e-320",
)  # fmt: skip


def images(random: Random, folder: Path) -> list[object]:
    """A folder of images: of damaged ones, ones that claim any size, and with others in it."""
    made = dict(base().images)
    for name in random.sample(list(made), random.choice([1, 1, 3, 40])):
        made[name] = random.choice([_torn_image, _claiming_image, _claiming_image])(random, made[name])
    names = [
        "../up",
        ".hidden.png",
        "Thumbs.db",
        "a/x",
        "a/b/c/x.png",
        "x.png",
        "train/x.png",
        "train/a/x.png",
        "\x1b[31m",
    ]
    for name in random.sample(names, random.choice([0, 1, 2])):
        made[name] = random.choice([b"", b"x", made["a/0.png"]])
    if random.random() < 0.2:
        made = {f"{random.choice(['train', 'test', 'val', 'x'])}/{name}": data for name, data in made.items()}
    for name, data in made.items():
        path = folder / "images" / name
        with contextlib.suppress(OSError):  # one is a file and the folder of another
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if random.random() < 0.1:
        (folder / "images" / "a").mkdir(exist_ok=True)
        (folder / "images" / "a" / "link.png").symlink_to(random.choice(["/dev/zero", "..", "nowhere", "/"]))
    size = random.choice([[], [], ["--image-size", random.choice(["6,6", "1,1", "100000,100000", "4096,4096", "0,4"])]])
    given = ["--members", "10", "--references", "2", "--name", "hostile", "--space", random.choice(["mlp", "conv"])]
    return ["search", "--dataset", "images", "--data-path", folder / "images", *size, *given]


def _torn_image(random: Random, data: bytes) -> bytes:
    return mutated_bytes(random, data)


def _claiming_image(random: Random, data: bytes) -> bytes:
    """Change an image's header alone, where its size and its type of pixels stand."""
    torn = bytearray(data)
    for _ in range(random.randint(1, 4)):
        torn[random.randrange(min(len(torn), 60))] = random.choice([0, 1, 2, 0x7F, 0xFF, random.randrange(256)])
    return bytes(torn)


def _other_array(random: Random, values: Any) -> Any:
    """Return another array than a good one: of another type, shape, length or content."""
    kinds = ["f8", "f2", "i1", "u8", "c8", "U5", "S3", "?", "M8[s]", "O"]
    changes: list[Callable[[], Any]] = [
        lambda: np.array(values).astype(random.choice(kinds)),
        lambda: np.reshape(values, random.choice([(-1,), (1, -1), (-1, 1), (2, -1), (1, 1, 1, -1)])),
        lambda: values[: random.randint(0, 3)],
        lambda: np.array(random.choice([1, "x", True, 2**63, 1e300])),
        lambda: np.zeros((0, *np.shape(values)[1:]), values.dtype),
        lambda: np.full(np.shape(values), random.choice([np.nan, np.inf, 1e300, -1e38, 1e-320])),
        lambda: np.full(np.shape(values), random.choice([2**62, -(2**62), 0, 255])),
        lambda: np.full(np.shape(values), random.choice(["[/b]", "\x1b[31m", "a", "é", "x" * 100])),
    ]
    return random.choice(changes)()


def _npy(random: Random, values: Any, *, torn: bool) -> bytes:
    """Write an array in NumPy's format, its header changed where it is torn."""
    stream = io.BytesIO()
    npy.write_array(stream, values, allow_pickle=True)
    data = stream.getvalue()
    if not torn:
        return data
    start = 10
    length = int.from_bytes(data[8:start], "little")
    header, body = data[start : start + length].decode("latin-1"), data[start + length :]
    for _ in range(random.randint(1, 2)):
        change = random.randrange(6)
        huge = random.choice(["10000000000", "99999999999999999999", "-1", "0", "1e5", "9" * 5000, "True", "2**70"])
        if change == 0:
            header = re.sub(r"\(\d+", f"({huge}", header, count=1)
        elif change == 1:
            header = re.sub(r"'descr': '[^']*'", f"'descr': {random.choice(DESCRIPTIONS)}", header)
        elif change == 2:
            header = header.replace("False", random.choice(["True", "None", "0", "x", "'a'"]))
        elif change == 3:
            header = random.choice(
                ["", "{", "{}", "[]", "(" * 300, "{'a': 1}", "\0", header * 2, "1+1", "-" * 900 + "1"]
            )
        elif change == 4:
            header = mutated_bytes(random, header.encode("latin-1")).decode("latin-1")
        else:
            body = body[: random.randint(0, len(body))] + bytes(random.choice([0, 0, 100]))
    told = len(header) if random.random() < 0.8 else random.choice([0, 5, 60_000])
    version = random.choice([1, 1, 1, 1, 2, 3, 9])
    size = (told & 0xFFFF).to_bytes(2, "little") if version == 1 else (told & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin-1", "replace") + body


DESCRIPTIONS = (
    "'<f4'", "'|O'", "'<U1000000000'", "'<V0'", "'|S0'", "'<f999'", "''", "'x'", "None", "1", "[('a', '<f4')]",
    "[('a', 'O')]", "('<f4', (1000000, 1000000))", "{'names': [], 'formats': []}", "'<M8[s]'", "'<c16'",
)  # fmt: skip


@cache
def _device(name: str) -> dict[str, Any]:
    return tomllib.loads((DEVICES / f"{name}.toml").read_text())


def devices(random: Random, folder: Path) -> list[object]:
    """A device file."""
    values = _device(random.choice(DEVICE_FILES))
    if random.random() < 0.3:
        values = {**values, **LINK}
    if random.random() < 0.2:
        values = {"base": "stm32l4r5", **LINK}
    values = mutated(random, values)
    text = toml(values) if isinstance(values, dict) else toml({"a": values})
    if random.random() < 0.1:  # reading all devices takes as long as ten other examples
        name = random.choice(["mine", "stm32l4r5", "[b]", "\x1b[1m", "a b", ".toml"])
        written(random, folder / "here" / "devices" / f"{name}.toml", text)
        return random.choice([["list", "devices"], ["list", "devices", "--json"], ["estimate", "--device", "all"]])
    path = written(random, folder / "mine.toml", text)
    more: list[object] = random.choice([[], [], ["--by-layer"], ["--engine", "x"], ["--space", "mlp"], ["--json"]])
    return ["estimate", "--device", path, *more]


def architectures(random: Random, folder: Path) -> list[object]:
    """An architecture, in a file or on the command line, or sizes given by options."""
    space, shape = random.choice([("mlp", (4,)), ("conv", (1, 8, 8)), ("nb201", (3, 8, 8))])
    params = dict(space_named(space, shape, 3).reference)
    described = {"space": space, "input_shape": list(shape), "num_classes": 3, "params": params}
    text = _text(mutated(random, random.choice([described, params])))
    sizes = [
        str(random.choice([0, 1, 3, 8, 224, 4096, 10**6, 10**12, 10**30, -1, "x"]))
        for _ in range(random.choice([1, 3]))
    ]
    flags = ["--input-shape", ",".join(sizes)] if random.random() < 0.3 else []
    flags += ["--classes", str(random.choice([0, 1, 2, 10**5, 10**12, -3]))] if random.random() < 0.2 else []
    command = random.choice(["estimate", "estimate", "export", "measure"])
    if random.random() < 0.2:
        return [command, "--space", space, *flags]
    if random.random() < 0.2 and "\0" not in text and not text.startswith("-") and len(text) < 10_000:
        return [command, *flags, text]
    return [command, *flags, written(random, folder / "architecture.json", text)]


def picks(random: Random, folder: Path) -> list[object]:
    """A folder that `nas pick` wrote."""
    runs = _copied(folder)
    (pick,) = (runs / RUN / "picks").iterdir()
    for path, share in ((pick / "architecture.json", 0.5), (pick / "weights.safetensors", 0.3)):
        if random.random() < share:
            if path.suffix == ".json" and random.random() < 0.7:
                path.write_text(_text(mutated(random, json.loads(path.read_text()))))
            else:
                path.write_bytes(mutated_bytes(random, path.read_bytes()))
    if random.random() < 0.3:
        settings_of = runs / RUN / "config.toml"
        values = mutated(random, tomllib.loads(settings_of.read_text()))
        written(random, settings_of, toml(values) if isinstance(values, dict) else "x")
    return [
        random.choice(["export", "measure", "estimate"]),
        pick if random.random() < 0.8 else pick / "architecture.json",
    ]


def studies(random: Random, folder: Path) -> list[object]:
    """A run's folder: its journal, its settings, its notes of audits."""
    runs = _copied(folder)
    run = runs / RUN
    if random.random() < 0.9:
        journal = run / "journal.log"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        for _ in range(random.randint(1, 3)):
            place = _interesting(random, lines)
            change = random.randrange(8)
            if change < 5:
                lines[place] = mutated(random, lines[place], 2)
            elif change == 5:
                del lines[place]
            elif change == 6:
                lines.insert(place, copy.deepcopy(random.choice(lines)))
            else:
                lines[place] = weird(random)
        written(random, journal, "".join(f"{_text(line)}\n" for line in lines), share=0.15)
    if random.random() < 0.15:
        values = mutated(random, tomllib.loads((run / "config.toml").read_text()))
        written(random, run / "config.toml", toml(values) if isinstance(values, dict) else "x")
    if random.random() < 0.1:
        (run / "audits.jsonl").write_text(_text(mutated(random, {"candidate": 1, "effort": "quick"})) + "\n")
    if random.random() < 0.1:
        for weights in (run / "models").iterdir():
            weights.write_bytes(mutated_bytes(random, weights.read_bytes()))
    return random.choice(
        [
            ["show", RUN],
            ["show", RUN, "--json"],
            ["pick", RUN],
            ["compare", RUN, "0", "1"],
            ["pick", RUN, "--prefer", "macs"],
            ["pick", RUN, "--weights", "error=2,leakage=1"],
            ["pick", RUN, "--order", "leakage,error,macs"],
            ["pick", RUN, "--max", "error=0.5", "--max", "macs=1000000"],
            ["audit", RUN, "--pick", str(random.randrange(TRIALS))],
            ["estimate", f"{RUN}:{random.randrange(TRIALS)}"],
            ["search", run / "config.toml"],
        ]
    )


def _interesting(random: Random, lines: list[Any]) -> int:
    """Choose a line: those with settings and task more often than they are many."""
    signed = [
        place
        for place, line in enumerate(lines)
        if isinstance(line, dict) and "user_attr" in line and "study_id" in line
    ]
    return random.choice(signed) if signed and random.random() < 0.3 else random.randrange(len(lines))


def _copied(folder: Path) -> Path:
    """Copy the good run into an example's folder, so that all its paths hold."""
    runs = shutil.copytree(base().folder / "runs", folder / "runs", ignore=shutil.ignore_patterns("*.lock", ".cache"))
    return Path(runs)


KINDS: Mapping[str, Callable[[Random, Path], list[object]]] = {
    "settings": settings,
    "tables": tables,
    "arrays": arrays,
    "images": images,
    "records": records,
    "devices": devices,
    "architectures": architectures,
    "picks": picks,
    "studies": studies,
}


# One example.


@dataclass(frozen=True)
class Outcome:
    """What became of an example.

    Attributes:
        command: The command line.
        end: `done`, `accepted`, `refused`, or `bug`.
        problems: What must not be; empty where all is well.
        line: What was printed last.
        seconds: How long it took.
    """

    command: str
    end: str
    problems: tuple[str, ...]
    line: str
    seconds: float


def example(kind: str, number: int) -> Outcome:
    """Make an example and run its command."""
    base()
    folder = Path(tempfile.mkdtemp(prefix="example-"))
    try:
        (folder / "here").mkdir()
        arguments = KINDS[kind](Random(f"{kind} {number}"), folder)
        if arguments[0] not in ("list", "calibrate") and "--from" not in arguments and not _is_file(arguments):
            arguments += ["--runs", folder / "runs"]
        return _outcome(list(map(str, arguments)), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_file(arguments: list[object]) -> bool:
    return arguments[0] == "audit" and str(arguments[1]).endswith(".npz")


def _outcome(arguments: list[str], folder: Path) -> Outcome:
    allowed = [folder / "runs", folder / "out", folder / "here" / "devices"]
    out, err, end = io.StringIO(), io.StringIO(), "done"
    started = time.perf_counter()
    problems: list[str] = []
    with (
        _watched() as touched,
        _stand_ins(),
        contextlib.chdir(folder / "here"),
        _quiet(out, err),
        mock.patch.object(sys, "argv", ["nas", *arguments]),
        mock.patch.dict(os.environ, {TRUSTED: ""}),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            end = "refused" if ended.code == 2 else "bug"
        except Accepted:
            end = "accepted"
        except BaseException:  # noqa: BLE001 - every traceback is what is looked for
            end, problems = "bug", [traceback.format_exc(limit=-4)]
    if end == "refused" and not ONE_LINE.fullmatch(err.getvalue()):
        problems.append(f"expected one line; got {err.getvalue()[:600]!r}")
    if TRAP in sys.modules:
        if Path(arguments[1]).name != "search.toml":  # a search file of the user's own may name their modules
            problems.append("a module that a file names was imported")
        for name in [name for name in sys.modules if name.partition(".")[0] == TRAP]:
            del sys.modules[name]
    outside = [path for path in touched if not any(Path(path).is_relative_to(root) for root in allowed)]
    if outside:
        problems.append(f"written outside: {outside[:3]}")
    if strange := {letter for letter in out.getvalue() + err.getvalue() if _steers(letter)}:
        problems.append(f"control characters printed: {sorted(strange)}")
    last = (err.getvalue() or out.getvalue()).strip().splitlines()[-1:] or [""]
    end = "bug" if problems else end
    return Outcome(" ".join(arguments)[:300], end, tuple(problems), last[0][:300], time.perf_counter() - started)


def _steers(letter: str) -> bool:
    return letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _begin(*_: object, **__: object) -> None:
    raise Accepted


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Let nothing be trained, attacked for long, fitted or timed."""
    with contextlib.ExitStack() as stack:
        for place in (
            "nas.search.workers.run",
            "nas.search.bench.evaluate",
            "nas.search.bench.make_bench",
            "nas.commands.audit._train",
            "nas.deploy.deployed.write",
            "nas.deploy.deployed.compare",
            "nas.calibration.fit.fit_cycle_model",
        ):
            stack.enter_context(mock.patch(place, _begin))
        yield


@contextlib.contextmanager
def _quiet(out: io.StringIO | None = None, err: io.StringIO | None = None) -> Iterator[None]:
    streams = contextlib.redirect_stdout(out or io.StringIO()), contextlib.redirect_stderr(err or io.StringIO())
    with streams[0], streams[1], warnings.catch_warnings():
        try:
            yield
        finally:
            logging.captureWarnings(capture=False)


# What is written where.

_touched: list[str] | None = None
_hooked = False
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OTHERS = ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.rename", "os.chmod")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & WRITING:
        _note(arguments[0])
    elif event in OTHERS:
        for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, str | bytes):
                _note(path)


def _note(path: str | bytes) -> None:
    path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the last part may be a link
    if _touched is not None and not path.startswith("/dev/"):
        _touched.append(path)


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Note every path that Python opens to write, makes, moves or removes."""
    global _touched, _hooked  # noqa: PLW0603 - an audit hook stays for good
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _touched = found = []
    try:
        yield found
    finally:
        _touched = None


def setting_up() -> None:
    """Prepare this process: one thread, a module that must not be imported."""
    torch.set_num_threads(1)
    importlib.import_module("matplotlib.pyplot")  # which makes folders of its own when it is first imported
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="trap-"))
    (folder / TRAP).mkdir()
    (folder / TRAP / "__init__.py").touch()
    (folder / TRAP / "module.py").write_text("make_space = load = attack = defend = print\n")
    sys.path.append(str(folder))


def peak_mib() -> float:
    """Return the most memory this process has had since `forget_peak`, in MiB; not a number where nobody counts."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def forget_peak() -> None:
    """Let the peak of this process's memory be what it has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Run examples of all kinds in turn and count what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first example of each kind")
    parser.add_argument("--kind", choices=list(KINDS), help="examples of this kind alone")
    parser.add_argument("--log", type=Path, help="lines of JSON; examples that it has are not run again")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    setting_up()
    base()
    forget_peak()
    before = peak_mib()
    done = _known(options.log)
    counts = Counter((kind, end) for (kind, _), end in done.items())
    for index in range(options.examples):
        kind, number = kinds[index % len(kinds)], options.first + index // len(kinds)
        if (kind, number) in done:
            continue
        found = example(kind, number)
        counts[kind, found.end] += 1
        if found.problems:
            print(f"{kind} {number}: nas {found.command}", *found.problems, sep="\n", flush=True)
        if options.log:
            with options.log.open("a", encoding="utf-8") as stream:
                line = {"kind": kind, "number": number, "end": found.end, "seconds": round(found.seconds, 3)}
                stream.write(json.dumps(line) + "\n")
        if options.examples <= 5:
            print(found)
    for kind in kinds:
        print(kind, {end: count for (of, end), count in sorted(counts.items()) if of == kind})
    print(f"memory: {before:,.0f} MiB before, {peak_mib():,.0f} MiB at most")
    shutil.rmtree(base().folder)
    sys.exit(1 if any(end == "bug" for _, end in counts) else 0)


def _known(log: Path | None) -> dict[tuple[str, int], str]:
    """Read which examples were run already; a line torn by a kill is none."""
    if log is None or not log.exists():
        return {}
    found = {}
    for text in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            found[line["kind"], line["number"]] = line["end"]
    return found


if __name__ == "__main__":
    main()
