"""Does the C code compute what it promises, in the memory that was priced? Every bit-width, a network of every space.

    python benchmarks/c99.py [--records 1000] [--spaces conv,mlp,...]

Each network is trained briefly on the digits, with tensors of 8 bits and weights of one precision, and written as C99.
The code is compiled with `-std=c99 -Wall -Wextra -Werror` and the address and undefined-behaviour sanitizers, and
asked for the logits of the records. They are compared with those of the NumPy reference, bit for bit, with ONNX
Runtime's of `int8.onnx`, and with the classes that PyTorch names. Memory is read off the object files of the compiler
and divided by what `peak_ram_kib` and `flash_kib` say of the network without the engine's part: on a device that packs
weights as the code does, and on two boards as they ship. The STM32G0B1's engine stores no weight in fewer than 8 bits
and five bytes for each channel's scale; that of the STM32H747 computes in place, as these kernels do not.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from report import write_results

from estimators.cost import flash_kib
from estimators.cost import peak_ram_kib
from estimators.devices.device import Device
from estimators.devices.files import load_device
from nas.base import plugins
from nas.data import digits
from nas.deploy.c99.program import STORAGE
from nas.deploy.c99.program import Program
from nas.deploy.c99.program import to_program
from nas.deploy.c99.reference import answers
from nas.deploy.c99.writing import sources
from nas.deploy.judging import answers_of_file
from nas.deploy.onnx_file import to_onnx
from nas.records import Source
from nas.spaces import sample
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.integers import in_integers
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import bits_and_format
from search_spaces.space import SearchSpace

PRECISIONS: tuple[Precision, ...] = (1, "ternary", 2, 4, 8)
# A space of float alone, whose smallest networks take minutes with sanitizers, has no few-bit networks.
SPACES = ("conv", "ds_cnn", "mlp", "mobile", "resnet", "squeeze", "vgg")
STRICT = ("cc", "-std=c99", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MOST_MACS = 60_000
DRAWN = 200
EPOCHS = 4
KIB = 1024


def network_of(name: str) -> Architecture:
    """Return the largest of some random networks of a space that has few enough MACs."""
    shape = (64,) if name == "mlp" else (1, 8, 8)
    space: SearchSpace = plugins.load("search_spaces", name, "make_space")(shape, 10)
    rng = np.random.default_rng(0)
    drawn = [space.decode(sample(space.distributions, rng)) for _ in range(DRAWN)]
    macs = {sum(kernel.macs for kernel in one.kernels): one for one in drawn}
    return macs[max((count for count in macs if count <= MOST_MACS), default=min(macs))]


def in_precision(architecture: Architecture, precision: Precision) -> Architecture:
    """Return a network with tensors of 8 bits and all weights in one precision."""
    bits, form = bits_and_format(precision)
    ops = in_integers(architecture.as_float(), 8).ops
    kept = (op._replace(weight_bits=bits, weight_format=form) if op.kind in WEIGHTED else op for op in ops)
    return architecture.with_ops(tuple(kept))


def without_engine(device: Device) -> Device:
    """Return a device whose engine takes nothing beside the network."""
    memory = replace(device.memory, ram_kib_per_kernel=0.0, flash_kib_per_kernel=0.0, scratch_kib=0.0)
    return replace(device, engine_ram_kib=0.0, engine_flash_kib=0.0, memory=memory)


def asked(program: Program, records: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Compile the code, and return what it prints and the bytes of its memory and of its constants."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, text in sources(program).items():
            (folder / name).write_text(text, encoding="utf-8")
        parts = ("network.c", "weights.c", "kernels.c")
        subprocess.run([*STRICT, "-Os", "-c", *parts], cwd=folder, check=True)
        subprocess.run([*STRICT, *SANITIZED, "main.c", *parts, "-lm", "-o", "network"], cwd=folder, check=True)
        done = subprocess.run([folder / "network"], input=records.tobytes(), capture_output=True, check=True)
        ram, flash = _section(folder / "network.o", ".bss"), _section(folder / "weights.o", ".rodata")
    return np.array([line.split() for line in done.stdout.decode().splitlines()], np.float32), ram, flash


def _section(path: Path, name: str) -> int:
    told = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[1]) for line in told.splitlines() if line.startswith(f"{name} "))


def measured(name: str, precision: Precision, count: int) -> dict[str, object]:
    """Train, write, compile and compare one network."""
    data = digits.load(Source("digits"))
    architecture = in_precision(network_of(name), precision)
    features = data.features.reshape(-1, *architecture.input_shape).astype(np.float32)
    features = (features - features.mean()) / features.std()
    labels = torch.from_numpy(data.labels)
    network = train(plain_setup(architecture, torch.from_numpy(features), labels, Recipe(epochs=EPOCHS), seed=0))
    records, calibration = np.ascontiguousarray(features[:count]), torch.from_numpy(features[-256:])
    program = to_program(architecture, network, "int8", calibration)
    found, ram, flash = asked(program, records)
    file = answers_of_file(to_onnx(architecture, network, "int8", calibration), records)
    trained = logits_of(network, torch.from_numpy(records))
    row: dict[str, object] = {
        "space": name,
        "weights": str(precision),
        "kmacs": sum(kernel.macs for kernel in architecture.kernels) / 1e3,
        "same_as_reference": float(np.mean((found == answers(program, records)).all(1))),
        "same_as_onnx": float(np.mean((found == file).all(1))),
        "class_of_onnx": float(np.mean(found.argmax(1) == file.argmax(1))),
        "class_of_pytorch": float(np.mean(found.argmax(1) == trained.argmax(1))),
        "ram_bytes": ram,
        "flash_bytes": flash,
    }
    for key, device in (("packed", STORAGE), ("g0b1", load_device("stm32g0b1")), ("h747", load_device("stm32h747"))):
        bare = without_engine(device)
        row[f"ram_over_{key}"] = ram / KIB / peak_ram_kib.estimate(architecture, bare).value
        row[f"flash_over_{key}"] = flash / KIB / flash_kib.estimate(architecture, bare).value
    return row


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--records", type=int, default=1000)
    arguments.add_argument("--spaces", default=",".join(SPACES), help="comma-separated")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    names = given.spaces.split(",")
    rows = [measured(name, precision, given.records) for name in names for precision in PRECISIONS]
    ratios = [row[key] for row in rows for key in ("ram_over_packed", "flash_over_packed")]
    write_results(
        "c99",
        rows,
        records=given.records,
        networks=len(rows),
        bit_for_bit=sum(row["same_as_reference"] == 1 for row in rows),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
    )


if __name__ == "__main__":
    main()
