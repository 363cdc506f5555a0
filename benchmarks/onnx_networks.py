"""What ONNX export costs and keeps: time to write, agreement with PyTorch, int8 beside float32 in ONNX Runtime.

    python benchmarks/onnx_networks.py [--points 8] [--rounds 7]

Times five networks of all spaces in both precisions on this machine. Then trains random points of two spaces on the
digits for a few epochs, as they are and as float networks, and counts on how many records ONNX Runtime and PyTorch name
the same class; calibrated on the reserve, counted on validation and test records.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from report import write_results

from nas.base import plugins
from nas.data import digits
from nas.deploy.judging import AGREEMENT
from nas.deploy.judging import agreement
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import measure
from nas.records import Source
from nas.records import Splits
from nas.records import split
from nas.spaces import sample
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build
from search_spaces.space import SearchSpace

# Both are files of every network; mixed.onnx is one of some.
PRECISIONS = ("float32", "int8")
RECIPE = Recipe(epochs=8)
INVERTED = {"kind": "inverted", "residual": True}


def space_of(name: str, shape: tuple[int, ...]) -> SearchSpace:
    """Return a search space for ten classes."""
    space: SearchSpace = plugins.load("search_spaces", name, "make_space")(shape, 10)
    return space


def networks() -> dict[str, Architecture]:
    """Return the float networks that are timed, by name."""
    conv, mlp, cells = space_of("conv", (3, 32, 32)), space_of("mlp", (784,)), space_of("nb201", (3, 32, 32))
    blocks = range(1, 5)
    wide = {"depth": 4, "stem_width": 32, "block1_stride": 1} | {f"block{n}_width": 48 for n in blocks}
    inverted = {"expansion": 4} | {f"block{n}_{key}": value for n in blocks for key, value in INVERTED.items()}
    return {
        "conv reference": conv.decode(conv.reference),
        "conv 4 plain blocks of 48": conv.decode({**conv.reference, **wide}),
        "conv 4 inverted blocks of 48": conv.decode({**conv.reference, **wide, **inverted}),
        "mlp 3 x 256": mlp.decode({**mlp.reference, "depth": 3, **{f"layer{n}_width": 256 for n in blocks}}),
        "nb201 reference": cells.decode(cells.reference),
    }


def timed(name: str, architecture: Architecture, rounds: int) -> dict[str, object]:
    """Export and time one network in both precisions."""
    network = build(architecture).eval()
    records = torch.randn(64, *architecture.input_shape, generator=torch.Generator().manual_seed(0))
    models, export_ms = [], []
    for precision in PRECISIONS:
        start = time.perf_counter()
        models.append(to_onnx(architecture, network, precision, records))
        export_ms.append((time.perf_counter() - start) * 1e3)
    plain, integer = measure(models, rounds=rounds)
    return {
        "network": name,
        "mmacs": sum(kernel.macs for kernel in architecture.kernels) / 1e6,
        "float32_ms": plain.latency_ms,
        "int8_ms": integer.latency_ms,
        "float32_over_int8": plain.latency_ms / integer.latency_ms,
        "drift": plain.drift,
        "export_float32_ms": export_ms[0],
        "export_int8_ms": export_ms[1],
    }


def agreements(architecture: Architecture, data: Splits) -> list[float]:
    """Train a network and return its agreement in float32 and int8."""
    members, reserve = torch.from_numpy(data.members.features), torch.from_numpy(data.reserve.features)
    network = train(plain_setup(architecture, members, torch.from_numpy(data.members.labels), RECIPE, seed=0))
    check = torch.from_numpy(np.concatenate([data.validation.features, data.test.features]))
    return [agreement(to_onnx(architecture, network, precision, reserve), network, check) for precision in PRECISIONS]


def summary(points: int) -> dict[str, object]:
    """Train random points and say how often each precision agrees."""
    data = split(digits.load(Source("digits")), seed=0)
    rng = np.random.default_rng(4)
    shares: dict[str, list[float]] = {}
    for name in ("conv", "mlp"):
        space = space_of(name, (1, 8, 8))
        for _ in range(points):
            architecture = space.decode(sample(space.distributions, rng))
            for kind, described in (("few_bits", architecture), ("float", architecture.as_float())):
                for precision, share in zip(PRECISIONS, agreements(described, data), strict=True):
                    shares.setdefault(f"{kind}_networks_{precision}", []).append(share)
    facts: dict[str, object] = {}
    for key, values in shares.items():
        reached = sum(value >= AGREEMENT for value in values)
        facts[key] = f"{reached} of {len(values)} agree on 99 % of records; lowest {min(values):.1%}"
    return facts


def main() -> None:
    """Time, train, compare and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--points", type=int, default=8, help="random points trained in each space")
    arguments.add_argument("--rounds", type=int, default=7, help="rounds of timing")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows = [timed(name, architecture, given.rounds) for name, architecture in networks().items()]
    write_results("onnx_networks", rows, **summary(given.points))


if __name__ == "__main__":
    main()
