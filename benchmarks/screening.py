"""How fast all cost metrics price a network, beside fvcore and thop on the same networks, and over all spaces.

    python benchmarks/screening.py [--repetitions 15] [--points 12] [--networks 1000] [--looks 500]

In the table each figure is the median of one network's repetitions; ratios are taken within the network, in this one
run. The price includes everything from a fresh graph: finding the fused kernels, MACs, parameters, bit operations,
flash, peak RAM with the best order, latency and energy. Describing a point of the space is timed beside it.

Below the table stands what a search does: random networks of every space that is shipped, each described and priced
once. A figure is the number of networks by the time of all of them. A look is what the sampler `cost_aware` does for
each candidate of its pool: it describes the network, prices it by what objectives and limits ask for, and takes its
features. A quarter as many networks come before and are not counted.

The peers count operations (and parameters, thop) alone. They need a network, which a search would have to build for
each candidate: `count` is from a network that is built already, `build+count` from the graph. One thread, which is
kindest to them, and its processor time, which hardly depends on what else runs. The seven-layer network is timed with
PyTorch's default threads too, as they come out of the box, by the clock on the wall.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import thop
import torch
from fvcore.nn import FlopCountAnalysis
from report import write_results

from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from nas.base import plugins
from nas.pricing.price import cost_metrics
from nas.pricing.price import screen
from nas.search.config import SearchConfig
from nas.search.plan import resolve
from nas.search.surrogate.known import looking
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.conv import make_space
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build

Clock: TypeAlias = Callable[[], float]

INPUT_SHAPE = (3, 32, 32)
TASKS: dict[str, tuple[Shape, int]] = {"mlp": ((446,), 30)}
"""Input shape and classes of spaces that take no images."""
DEVICE = "stm32l4r5"  # the one with a power figure: every metric applies
INNER = 50
LOOKS = {"nb201": "raspi4", "conv": DEVICE}
"""Spaces whose looks are timed, with the device."""
FIGURES = ("graphs_per_second", "fvcore count", "fvcore build+count", "thop count", "thop build+count")


def seven_layers() -> Architecture:
    """Six 3x3 convolutions and a linear layer, int8: the network that issue trackers time fvcore with."""
    graph = GraphBuilder(INPUT_SHAPE, bits=8)
    x = 0
    for channels, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        x = graph.conv(x, channels, kernel=(3, 3), stride=(stride, stride), padding=(1, 1), weight_bits=8)
        x = graph.activation(graph.norm(x), bits=8)
    x = graph.pool(x, "avg", kernel=(8, 8), stride=(8, 8))
    graph.linear(graph.flatten(x), 10, bias=True, weight_bits=8)
    return graph.architecture("seven layers", {})


def median_ms(call: Callable[[], object], repetitions: int, inner: int = 1, clock: Clock = time.process_time) -> float:
    """Return the median time of one call; `inner` calls are timed together where one is too short for the clock."""
    samples = []
    call()
    for _ in range(repetitions):
        start = clock()
        for _ in range(inner):
            call()
        samples.append((clock() - start) / inner * 1e3)
    return statistics.median(samples)


def count_with_fvcore(network: torch.nn.Module, record: torch.Tensor) -> int:
    """Count operations as fvcore's users do."""
    analysis = FlopCountAnalysis(network, record)
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    return int(analysis.total())


def compare(architecture: Architecture, repetitions: int) -> dict[str, float]:
    """Time one network three ways, in milliseconds."""
    device = load_device(DEVICE)
    metrics = cost_metrics(device).values()
    twin = architecture.as_float()

    def price() -> None:
        fresh = Architecture(architecture.space, architecture.params, architecture.ops)
        for metric in metrics:
            metric(fresh, device)

    return {"priced_ms": median_ms(price, repetitions, INNER), **peers(twin, repetitions)}


def peers(twin: Architecture, repetitions: int, clock: Clock = time.process_time) -> dict[str, float]:
    """Time fvcore and thop on one network, in milliseconds."""
    network, record = build(twin).eval(), torch.randn(1, *twin.input_shape)
    return {
        "build_ms": median_ms(lambda: build(twin).eval(), repetitions, clock=clock),
        "fvcore_ms": median_ms(lambda: count_with_fvcore(network, record), repetitions, clock=clock),
        "thop_ms": median_ms(lambda: thop.profile(network, (record,), verbose=False), repetitions, clock=clock),
    }


def throughput(name: str, count: int) -> dict[str, float]:
    """Describe and price random networks of a space once; return the seconds that each takes, on average."""
    shape, classes = TASKS.get(name, (INPUT_SHAPE, 10))
    space, device = space_named(name, shape, classes), load_device(DEVICE)
    metrics, rng = cost_metrics(device), np.random.default_rng(0)

    def price_all(architectures: list[Architecture]) -> None:
        for architecture in architectures:
            with suppress(CannotRun):  # a network that is a constant
                screen(architecture, device, metrics)

    def describe_all(points: list[Params]) -> list[Architecture]:
        return [space.decode(point) for point in points]

    price_all(describe_all([sample(space.distributions, rng) for _ in range(count // 4)]))
    points = [sample(space.distributions, rng) for _ in range(count)]
    gc.collect()
    gc.freeze()  # what other parts of this program left is not looked through again
    start = time.process_time()
    architectures = describe_all(points)
    described = time.process_time()
    price_all(architectures)
    priced = time.process_time()
    return {"describe": (described - start) / count, "price": (priced - described) / count}


def look_ms(name: str, device: str, count: int) -> float:
    """Return the mean time of one look of the sampler `cost_aware`, on the handwritten digits."""
    config = SearchConfig(name="screening", space=name, device=device, sampler="cost_aware", dataset="digits")
    with tempfile.TemporaryDirectory() as folder:
        plan = resolve(config, Path(folder))
    look, rng = looking(plan), np.random.default_rng(0)
    points = [sample(plan.distributions, rng) for _ in range(count + count // 4)]
    for point in points[count:]:
        look(point)
    start = time.process_time()
    for point in points[:count]:
        look(point)
    return (time.process_time() - start) / count * 1e3


def main() -> None:
    """Time, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--points", type=int, default=12, help="how many points of the space `conv`")
    parser.add_argument("--networks", type=int, default=1000, help="how many networks of every space")
    parser.add_argument("--looks", type=int, default=500, help="how many looks of the sampler, of each of two spaces")
    arguments = parser.parse_args()
    default_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers', about operators they do not count
    space = make_space(INPUT_SHAPE, 10)
    rng = np.random.default_rng(0)
    points = [sample(space.distributions, rng) for _ in range(arguments.points)]
    networks = {"seven layers": seven_layers()}
    networks |= {f"conv point {index}": space.decode(point) for index, point in enumerate(points)}
    rows = [_row(name, network, arguments.repetitions) for name, network in networks.items()]
    describe_ms = [median_ms(partial(space.decode, point), arguments.repetitions, INNER) for point in points]
    spaces = {name: throughput(name, arguments.networks) for name in plugins.available("search_spaces", "make_space")}
    priced = {name: 1 / seconds["price"] for name, seconds in spaces.items()}
    described = {name: 1 / sum(seconds.values()) for name, seconds in spaces.items()}
    looks = {f"{name} on {device}": look_ms(name, device, arguments.looks) for name, device in LOOKS.items()}
    torch.set_num_threads(default_threads)
    out_of_the_box = peers(networks["seven layers"].as_float(), arguments.repetitions, time.perf_counter)
    write_results(
        "screening",
        rows,
        device=DEVICE,
        metrics=sorted(cost_metrics(load_device(DEVICE))),
        **{f"median_{key}": statistics.median(float(str(row[key])) for row in rows) for key in FIGURES},
        median_describe_ms=statistics.median(describe_ms),
        seven_layers_default_threads={"threads": default_threads, **out_of_the_box},
        seven_layers_times_fvcore_default_threads=out_of_the_box["fvcore_ms"] / float(str(rows[0]["priced_ms"])),
        repetitions=arguments.repetitions,
        networks_of_each_space=arguments.networks,
        priced_per_second={name: round(rate) for name, rate in priced.items()},
        described_and_priced_per_second={name: round(rate) for name, rate in described.items()},
        median_priced_per_second=statistics.median(priced.values()),
        median_described_and_priced_per_second=statistics.median(described.values()),
        look_ms={name: round(ms, 4) for name, ms in looks.items()},
        seven_layers_times_fvcore=rows[0]["fvcore count"],
    )


def _row(name: str, architecture: Architecture, repetitions: int) -> dict[str, object]:
    times = compare(architecture, repetitions)
    return {
        "network": name,
        "kernels": len(architecture.kernels),
        **times,
        "graphs_per_second": 1e3 / times["priced_ms"],
        "fvcore count": times["fvcore_ms"] / times["priced_ms"],
        "fvcore build+count": (times["build_ms"] + times["fvcore_ms"]) / times["priced_ms"],
        "thop count": times["thop_ms"] / times["priced_ms"],
        "thop build+count": (times["build_ms"] + times["thop_ms"]) / times["priced_ms"],
    }


if __name__ == "__main__":
    main()
