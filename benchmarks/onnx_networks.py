"""What ONNX export costs and keeps: time to write, agreement with PyTorch, int8 beside float32 in ONNX Runtime.

    python benchmarks/onnx_networks.py [--points 8] [--rounds 7]

Times five networks of all spaces in both precisions on this machine. Then trains random points of two spaces on the
digits for two and for eight epochs, as they are and as float networks, and counts on how many records ONNX Runtime and
PyTorch name the same class, and how many files `nas export` refuses; calibrated on the reserve, counted on validation
and test records.
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
from nas.deploy.judging import TOLERANCE
from nas.deploy.judging import Judgement
from nas.deploy.judging import Witnesses
from nas.deploy.judging import judge
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import time_models
from nas.records import Source
from nas.records import Splits
from nas.records import split
from nas.spaces import sample
from nas.training.loop import Labelled
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build
from search_spaces.space import SearchSpace

EPOCHS = (2, 8)
"""Trainings of each network: an inaccurate one and one for use."""
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
    plain, integer = time_models(models, rounds=rounds)
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


def judged(architecture: Architecture, data: Splits, epochs: int) -> list[Judgement]:
    """Train a network and hold its float32 and int8 files against it."""
    parts = (data.members, data.non_members, data.validation, data.test)
    members, others, check, test = (Labelled(*map(torch.from_numpy, (part.features, part.labels))) for part in parts)
    network = train(plain_setup(architecture, members.features, members.labels, Recipe(epochs=epochs), seed=0))
    both = Labelled(torch.cat([check.features, test.features]), torch.cat([check.labels, test.labels]))
    witnesses = Witnesses(both, members, others)
    reserve = torch.from_numpy(data.reserve.features)
    models = [to_onnx(architecture, network, precision, reserve) for precision in PRECISIONS]
    return [judge(model, network, both.features, witnesses) for model in models]


def summary(points: int) -> dict[str, object]:
    """Train random points and say how often each precision agrees, and which files are refused."""
    data = split(digits.load(Source("digits")), seed=0)
    rng = np.random.default_rng(4)
    found: dict[str, list[Judgement]] = {}
    for name in ("conv", "mlp"):
        space = space_of(name, (1, 8, 8))
        for _ in range(points):
            architecture = space.decode(sample(space.distributions, rng))
            for kind, described in (("few_bits", architecture), ("float", architecture.as_float())):
                for epochs in EPOCHS:
                    for precision, judgement in zip(PRECISIONS, judged(described, data, epochs), strict=True):
                        found.setdefault(f"{kind}_networks_{precision}", []).append(judgement)
    facts: dict[str, object] = {}
    for key, judgements in found.items():
        shares = [one.agreement for one in judgements]
        reached = sum(share >= AGREEMENT for share in shares)
        facts[key] = (
            f"{reached} of {len(shares)} agree on 99 % of records; lowest {min(shares):.1%}; {_worse(judgements)}"
        )
    return facts


def _worse(judgements: list[Judgement]) -> str:
    """Say how many files each way to judge them refuses."""
    rises = [one.error_increase for one in judgements if one.error_increase is not None]
    higher = sum(rise.value > TOLERANCE for rise in rises)
    surely = sum(rise.value > TOLERANCE and rise.low > 0 for rise in rises)
    lowest, highest = min(rise.value for rise in rises), max(rise.value for rise in rises)
    return (
        f"error {lowest:+.3f} to {highest:+.3f}: {higher} rise by more than {TOLERANCE:g}, {surely} of them surely and "
        "are refused"
    )


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
