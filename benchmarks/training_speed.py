"""How much longer a network trains in few bits than the same one in plain PyTorch, and where the time goes.

A convolutional network of three blocks on images of 16 x 16, and a perceptron for the 446 features of Location-30:
the same batches, AdamW, one thread. Each precision is timed in turns with the plain network, written by hand from
PyTorch's own layers. A ratio is the median over pairs; times are those of the processor, so that other processes on
the same core count little. "Weights alone" and "tensors alone" leave the other in float: they tell which part costs.

    python benchmarks/training_speed.py             # three minutes
    python benchmarks/training_speed.py --short     # one pair of each
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from report import write_results
from torch import Tensor
from torch import nn
from torch.nn import functional

from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import Precision
from search_spaces.network import build
from search_spaces.space import SearchSpace

PAIRS, STEPS, BATCH, CLASSES = 9, 8, 64, 10
Steps = Callable[[], None]


def main(*, short: bool = False) -> None:
    """Time every precision and report."""
    torch.set_num_threads(1)
    pairs = 1 if short else PAIRS
    rows = [row for made in (convolutional, perceptron) for row in rows_of(*made(), pairs)]
    write_results("training_speed_short" if short else "training_speed", rows)


def convolutional() -> tuple[str, Callable[[Precision, Precision], Architecture], nn.Module, Tensor]:
    """A network of the space `conv`, the same by hand, and a batch."""
    space = conv.make_space((3, 16, 16), CLASSES)
    blocks = {f"block{block}_width": 32 for block in (1, 2, 3)} | {f"block{block}_stride": 1 for block in (1, 2, 3)}
    point = {**space.reference, "depth": 3, "stem_width": 32, **blocks}
    widths = [(3, 32), (32, 32), (32, 32), (32, 32)]
    layers = [
        part
        for read, written in widths
        for part in (nn.Conv2d(read, written, 3, padding=1, bias=False), nn.BatchNorm2d(written), nn.ReLU())
    ]
    plain = nn.Sequential(*layers, nn.AvgPool2d(16), nn.Flatten(), nn.Linear(32, CLASSES))
    return "conv, 3 blocks of 32", partial(at, space, point), plain, batch_of(3, 16, 16)


def perceptron() -> tuple[str, Callable[[Precision, Precision], Architecture], nn.Module, Tensor]:
    """A network of the space `mlp`, the same by hand, and a batch."""
    space = mlp.make_space((446,), CLASSES)
    point = {**space.reference, "depth": 2, "layer1_width": 128, "layer2_width": 64}
    layers = [
        part
        for read, written in ((446, 128), (128, 64))
        for part in (nn.Linear(read, written, bias=False), nn.BatchNorm1d(written), nn.ReLU())
    ]
    plain = nn.Sequential(*layers, nn.Linear(64, CLASSES))
    return "mlp, 128 and 64", partial(at, space, point), plain, batch_of(446)


def batch_of(*shape: int) -> Tensor:
    """Make records up, images with their channels last."""
    records = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    return records.contiguous(memory_format=torch.channels_last) if len(shape) == 3 else records


def at(space: SearchSpace, point: dict[str, object], weights: Precision, tensors: Precision) -> Architecture:
    """Describe the network with a precision of its weights and one of its tensors, as far as the space has them."""
    bits = {}
    for name, distribution in space.distributions.items():
        if name.endswith("_bits"):
            wanted = tensors if name.endswith("activation_bits") else weights
            bits[name] = wanted if wanted in distribution.choices else 8
    return space.decode({**point, **bits})


def rows_of(
    name: str, network_at: Callable[[Precision, Precision], Architecture], plain: nn.Module, batch: Tensor, pairs: int
) -> list[dict[str, object]]:
    """One row for each precision: ratios to the plain network's time."""
    labels = torch.arange(BATCH) % CLASSES
    last = {"memory_format": torch.channels_last} if batch.ndim == 4 else {}
    reference = partial(train_steps, copy.deepcopy(plain).to(**last), batch, labels)

    def ratio(weights: Precision, tensors: Precision) -> float:
        network = build(network_at(weights, tensors), seed=0).to(**last)
        return compared(reference, partial(train_steps, network, batch, labels), pairs)

    rows = []
    for precision in WEIGHTS:
        tensors = precision if precision in TENSORS else 8
        row = {"network": name, "precision": str(precision), "ratio": ratio(precision, tensors)}
        row |= {"weights_alone": ratio(precision, 32), "tensors_alone": ratio(32, tensors)}
        rows.append(row)
        print(f"  {name}: {precision}", flush=True)
    return rows


def train_steps(network: nn.Module, records: Tensor, labels: Tensor) -> None:
    """Take some steps of AdamW."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network.train()
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(records), labels).backward()
        optimizer.step()


def compared(first: Steps, second: Steps, pairs: int) -> float:
    """Return the median ratio of the second's time to the first's, taken in turns after one of each."""
    first(), second()
    ratios = []
    for _ in range(pairs):
        took = []
        for steps in (first, second):
            before = time.process_time()
            steps()
            took.append(time.process_time() - before)
        ratios.append(took[1] / took[0])
    return float(np.median(ratios))


if __name__ == "__main__":
    main(short="--short" in sys.argv[1:])
