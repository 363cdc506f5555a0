"""What two ways of training small networks on a CPU are worth, each as a ratio of times taken in turns in one run.

- *channels_last*: the training of small convolutional networks of the space `conv` on images of 16 x 16 and 32 x 32
  pixels, with images and weights laid out channel by channel, over the same with channels last (what a search does).
- *stacked*: networks of one architecture trained one after the other on one thread, over all of them at once with
  `torch.func.vmap` on one thread. A search trains one network a process. Plain stochastic gradient descent, without
  batch norms and dropout, which `vmap` takes with more effort.

Above 1 the second way is faster. Each ratio is the median over pairs of short trainings in turns. Times are those of
the processor, so that other processes on the same core count little.

    python benchmarks/training_layout.py             # two minutes
    python benchmarks/training_layout.py --short     # one pair of each
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_results
from torch import Tensor
from torch import nn
from torch.nn import functional

from nas.spaces import sample
from search_spaces import conv
from search_spaces.network import build

PAIRS, STEPS, BATCH, CLASSES = 5, 6, 64, 10
NETWORKS, SIDES = 4, (16, 32)
LEARNING_RATE = 0.01
STACKS = ((8, 64), (32, 64), (32, 16))
"""How many networks are trained at once, and how many records are in a batch."""


def main(*, short: bool = False) -> None:
    """Time every pair and report."""
    torch.set_num_threads(1)
    pairs = 1 if short else PAIRS
    count, sides, stacks = (1, SIDES[:1], STACKS[:1]) if short else (NETWORKS, SIDES, STACKS)
    rows = [layout_row(side, number, pairs) for side in sides for number in range(count)]
    rows += [stacked_row(name, *stack, pairs) for name in MADE for stack in stacks]
    ratios = {way: [float(row["ratio"]) for row in rows if row["way"] == way] for way in ("channels_last", "stacked")}
    facts = {f"{way}_{what}": of(found) for way, found in ratios.items() for what, of in STATED.items()}
    write_results("training_layout_short" if short else "training_layout", rows, **facts)


STATED: dict[str, Callable[[list[float]], float]] = {
    "lowest": min,
    "median": lambda found: float(np.median(found)),
    "highest": max,
}


def layout_row(side: int, number: int, pairs: int) -> dict[str, object]:
    """Compare the two layouts on one random network of the space, as a search builds it."""
    space = conv.make_space((3, side, side), CLASSES)
    architecture = space.decode(sample(space.distributions, np.random.default_rng(number)))
    network = build(architecture, seed=0)
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % CLASSES
    ways = [
        partial(
            train_steps, copy.deepcopy(network).to(memory_format=form), images.contiguous(memory_format=form), labels
        )
        for form in (torch.contiguous_format, torch.channels_last)
    ]
    macs = sum(kernel.macs for kernel in architecture.kernels)
    return described("channels_last", f"conv point {number}, {side} x {side}", macs, compared(*ways, pairs))


def train_steps(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Take some steps of AdamW."""
    optimizer = torch.optim.AdamW(network.parameters())
    network.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()


def perceptron() -> tuple[nn.Module, tuple[int, ...]]:
    """Make a network for the 446 features of Location-30."""
    return nn.Sequential(nn.Linear(446, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)), (446,)


def wide_perceptron() -> tuple[nn.Module, tuple[int, ...]]:
    """Make a wider one."""
    return nn.Sequential(nn.Linear(446, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)), (
        446,
    )


def small_cnn() -> tuple[nn.Module, tuple[int, ...]]:
    """Make a convolutional network for images of 16 x 16 pixels."""
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)), (3, 16, 16)


MADE: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "perceptron 446-64-64": perceptron,
    "perceptron 446-256-256": wide_perceptron,
    "two convolutions, 16 x 16": small_cnn,
}


def stacked_row(name: str, count: int, batch: int, pairs: int) -> dict[str, object]:
    """Compare networks trained one after the other with all of them at once."""
    torch.manual_seed(0)
    networks = [MADE[name]()[0] for _ in range(count)]
    shape = MADE[name]()[1]
    records, labels = torch.randn(count, batch, *shape), torch.arange(batch).repeat(count, 1) % CLASSES
    ways = partial(train_in_turn, networks, records, labels), partial(train_stacked, networks, records, labels)
    return described("stacked", f"{name}, {count} networks, batches of {batch}", None, compared(*ways, pairs))


def train_in_turn(networks: list[nn.Module], records: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """Take some steps with one network after the other; returns their weights."""
    trained = []
    for original, of_network, of_label in zip(networks, records, labels, strict=True):
        network = copy.deepcopy(original)
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(network(of_network), of_label).backward()
            optimizer.step()
        trained.append({name: weight.detach() for name, weight in network.named_parameters()})
    return trained


def train_stacked(networks: list[nn.Module], records: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """Take the same steps with all networks at once; returns their weights."""
    weights, _ = torch.func.stack_module_state(networks)
    weights = {name: weight.detach() for name, weight in weights.items()}
    step = torch.func.vmap(torch.func.grad(partial(loss_of, networks[0])))
    for _ in range(STEPS):
        slopes = step(weights, records, labels)
        weights = {name: weight - LEARNING_RATE * slopes[name] for name, weight in weights.items()}
    return [{name: weight[number] for name, weight in weights.items()} for number in range(len(networks))]


def loss_of(network: nn.Module, weights: dict[str, Tensor], records: Tensor, labels: Tensor) -> Tensor:
    """Return the loss with these weights in place of the network's own."""
    return functional.cross_entropy(torch.func.functional_call(network, weights, (records,)), labels)


def compared(first: Callable[[], object], second: Callable[[], object], pairs: int) -> NDArray[np.float64]:
    """Time two ways in turns: `(pairs, 2)` seconds of the processor."""
    first(), second()  # the first of each allocates
    return np.array([[seconds(first), seconds(second)] for _ in range(pairs)])


def seconds(way: Callable[[], object]) -> float:
    """Time one way by the processor."""
    since = time.process_time()
    way()
    return time.process_time() - since


def described(way: str, network: str, macs: int | None, took: NDArray[np.float64]) -> dict[str, object]:
    """Make the row of one comparison."""
    ratios = took[:, 0] / took[:, 1]
    return {
        "way": way,
        "network": network,
        "mmacs": None if macs is None else macs / 1e6,
        "ratio": float(np.median(ratios)),
        "ratio_low": float(ratios.min()),
        "ratio_high": float(ratios.max()),
        "first_ms": 1000 * float(np.median(took[:, 0])),
        "second_ms": 1000 * float(np.median(took[:, 1])),
    }


if __name__ == "__main__":
    main(short="--short" in sys.argv)
