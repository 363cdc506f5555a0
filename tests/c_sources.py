"""Compile the C sources of a network as strictly as they promise, and ask what comes out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nas.deploy.c99.writing import sources
from search_spaces.graph.integers import in_integers
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import bits_and_format

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler, cc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
SANITIZED = (*STRICT, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def cc(folder, *arguments):
    done = subprocess.run(["cc", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write(program, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources(program).items():
        (folder / name).write_text(text)


class Compiled:
    """Programs of several networks; the kernels, which are the same for all, are compiled once."""

    def __init__(self, folder: Path, flags=SANITIZED):
        self.folder, self.flags, self.count = folder, flags, 0

    def __call__(self, program):
        self.count += 1
        folder, kernels = self.folder / f"network{self.count}", self.folder / "kernels.o"
        write(program, folder)
        if not kernels.exists():
            cc(folder, *self.flags, "-c", "kernels.c", "-o", str(kernels))
        cc(folder, *self.flags, "main.c", "network.c", "weights.c", str(kernels), "-lm", "-o", "network")
        return folder / "network"


def printed(path, records):
    """The logits that a compiled network prints, `(records, classes)`."""
    given = np.ascontiguousarray(records).tobytes()
    done = subprocess.run([path], input=given, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return np.array([line.split() for line in done.stdout.decode().splitlines()], np.float32)


def in_precision(architecture, precision):
    """The network with all tensors in 8 bits and all weights in one precision."""
    bits, form = bits_and_format(precision)
    ops = in_integers(architecture.as_float(), 8).ops
    return architecture.with_ops(
        tuple(op._replace(weight_bits=bits, weight_format=form) if op.kind in WEIGHTED else op for op in ops)
    )
