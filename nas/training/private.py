"""What a private training is made of: each record's own gradient, clipped and summed, and nothing else of the records.

A training keeps a promise of differential privacy only if noise is added to all that the records reach. Beside the
gradients these are the buffers: the running statistics of batch norms, the tracked ranges of quantised tensors, the
first value of a learned step. `Observing` takes them from records that are nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch import nn
from torch.func import functional_call
from torch.func import grad
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm

from nas.training.exits import Outputs
from nas.training.loop import BATCH_IN_CACHE

OneLoss: TypeAlias = Callable[[Outputs, Tensor], Tensor]
"""Takes a network's outputs for the copies of one record, and a target for each; gives the record's loss."""
# Of gradients of single records, how many numbers are held at once: 128 MiB.
NUMBERS_AT_ONCE = 2**25
# A batch is filled up to a multiple of this: libraries prepare a convolution anew for each size of a batch, and Poisson
# sampling gives another size each time.
FULL = 16


def poisson(records: int, steps: int, order: torch.Generator) -> Iterable[Tensor]:
    """Draw each record for each step with the probability 1 / steps, independently; a step may have no record at all.

    Accountants assume this sampling: batches that are cut from a shuffled list have no such guarantee.
    """
    for _ in range(steps):
        yield torch.nonzero(torch.rand(records, generator=order) < 1 / steps).flatten()


def gradients_by_record(
    network: nn.Module, loss_of: OneLoss, copies: Sequence[Tensor], targets: Tensor
) -> dict[str, Tensor]:
    """Return the gradient of each record's loss by itself, as a loop over batches of one record would give it.

    All layers that a network can have are mapped over records (`torch.func.vmap`), the quantised ones with their
    straight-through gradients. Dropout differs from record to record.

    Args:
        network: Its modules with buffers are in eval mode: in train mode they would mix the records.
        loss_of: The loss of one record.
        copies: Changed copies of the records, each `(records, ...)`; a record's loss is over all of its copies.
        targets: `(records,)` or `(records, classes)`.

    Returns:
        By parameter: `(records, *shape)`, zeros where the loss does not depend on it.
    """
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def loss(weights: dict[str, Tensor], of_record: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(network, {**weights, **buffers}, (of_record,))
        return loss_of(outputs, target.expand(len(of_record), *target.shape))

    of_each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    found: dict[str, Tensor] = of_each(parameters, torch.stack([copy.contiguous() for copy in copies], dim=1), targets)
    return found


def clipped_sum(
    network: nn.Module, loss_of: OneLoss, copies: Sequence[Tensor], targets: Tensor, longest: float
) -> dict[str, Tensor]:
    """Return the sum over records of their gradients, each shortened to a length of at most `longest`.

    A record changes the sum by at most that length, whatever its values: a gradient that is not finite counts as zero.

    Args:
        network: As `gradients_by_record`.
        loss_of: The loss of one record.
        copies: Each `(records, ...)`; there may be no record.
        targets: `(records,)` or `(records, classes)`.
        longest: The largest length of one record's gradient, over all parameters together.

    Returns:
        By parameter, of its shape.
    """
    sums = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
    numbers = sum(parameter.numel() for parameter in network.parameters())
    at_once = max(1, min(BATCH_IN_CACHE, NUMBERS_AT_ONCE // max(1, numbers)))
    for first in range(0, len(targets), at_once):
        rows = torch.arange(first, min(first + at_once, len(targets)), device=targets.device)
        filled = torch.cat([rows, rows.new_zeros(min(-len(rows) % FULL, at_once - len(rows)))])
        found = gradients_by_record(network, loss_of, [copy[filled] for copy in copies], targets[filled])
        squares = [gradient[: len(rows)].reshape(len(rows), -1).square().sum(1) for gradient in found.values()]
        lengths = torch.stack(squares).sum(0).sqrt()
        is_finite = lengths.isfinite()
        share = torch.where(is_finite, (longest / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)).clamp(max=1), 0.0)
        for name, gradient in found.items():
            # Zero times infinity is no zero.
            finite = gradient[: len(rows)] if is_finite.all() else gradient[: len(rows)].nan_to_num(0.0, 0.0, 0.0)
            sums[name] += torch.tensordot(share, finite, dims=1)
    return sums


class Observing:
    """Keeps the buffers of a network: they follow records of noise, as they would follow batches of records.

    Noise is standard normal, as the features of standardised records are on average. It goes through the network as it
    is at that moment, so statistics and ranges follow the weights. What is computed from noise and from weights that
    were trained privately tells nothing more of the records.

    Args:
        network: In train mode. Modules that keep buffers are put into eval mode, where records do not change them and
            batch norms do not mix them; the others stay as they are.
        shape: Of one record.
        seed: Of the noise.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int], seed: int) -> None:
        self._network, self._shape = network, tuple(shape)
        self._place = next(network.parameters()).device
        self._random = torch.Generator().manual_seed(seed)
        # Whatever kind a module is: one that keeps something keeps it in buffers.
        self._keepers = [module for module in network.modules() if any(True for _ in module.buffers(recurse=False))]
        self._norms = [module for module in self._keepers if isinstance(module, _BatchNorm)]
        momentum = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 1.0  # what a norm starts with stands for nothing
        self.follow()
        for norm, usual in zip(self._norms, momentum, strict=True):
            norm.momentum = usual

    @torch.no_grad()
    def follow(self) -> None:
        """Show the network one batch of noise."""
        noise = torch.randn(BATCH_IN_CACHE, *self._shape, generator=self._random).to(self._place)
        if not self._keepers:
            return
        for module in self._keepers:
            module.train()
        with torch.random.fork_rng(devices=[]):  # dropout shall not depend on whether there is something to keep
            self._network(noise)
        for module in self._keepers:
            module.eval()
