"""Attack networks in torch: trained for a fixed number of steps, the same whenever they see the same rows."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Labels
from estimators.leakage.evidence import Mask
from estimators.leakage.shared.learned import Judge
from estimators.leakage.shared.learned import Learner

MakeOptimizer: TypeAlias = Callable[[Iterator[nn.Parameter]], Optimizer]

BATCH = 128
ROWS_AT_ONCE = 4096


def fit_network(
    make: Callable[[int], nn.Module],
    optimizer: MakeOptimizer,
    steps: int,
    schedule: Callable[[Optimizer], LRScheduler] | None = None,
) -> Learner:
    """Return what trains a new network to tell members from others, with the binary cross-entropy.

    Args:
        make: Number of columns to a network that turns `(rows, columns)` into `(rows,)` log odds of membership.
        optimizer: Of the network's parameters.
        steps: Batches of 128 rows; every row is seen once before any is seen again.
        schedule: Of the learning rate, a step of it for each batch; None keeps it constant.

    Returns:
        A function as `estimators.leakage.shared.learned.cross_fit` takes. Networks learn in float32 and judge in
        float64, in which confident scores do not tie.
    """

    def fit(features: Floats, _labels: Labels, is_member: Mask) -> Judge:
        with torch.random.fork_rng(devices=[]):  # the weights, the batches and dropout; the caller's state stays
            torch.manual_seed(0)
            network = make(features.shape[1])
            _train(network, _tensor(features, torch.float32), _tensor(is_member, torch.float32))
        network.eval().double()

        def judge(attacked: Floats, _: Labels) -> NDArray[np.float64]:
            with torch.no_grad():
                parts = torch.split(_tensor(attacked, torch.float64), ROWS_AT_ONCE)
                return np.concatenate([network(part).numpy() for part in parts])

        return judge

    def _train(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        changes = optimizer(network.parameters())
        rate = schedule(changes) if schedule else None
        for rows in _batches(len(inputs), steps):
            changes.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(network(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            changes.step()
            if rate:
                rate.step()

    return fit


def _batches(rows: int, steps: int) -> torch.Tensor:
    """Return `(steps, batch)` row numbers, one random order of all rows after the other."""
    batch = min(BATCH, rows)
    orders = [torch.randperm(rows) for _ in range(-(-steps * batch // rows))]
    return torch.cat(orders)[: steps * batch].view(steps, batch)


def _tensor(values: Floats | Mask, dtype: torch.dtype) -> torch.Tensor:
    return torch.as_tensor(values).to(dtype)
