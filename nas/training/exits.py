"""Early exits: how they are trained together, and which of them answers for a record.

Everything that asks a network with exits goes by the one rule of `leaving`: errors, attacks, audits, predictions and
exported files (`nas.deploy.onnx_file` writes the same computation). The rule reads what the network computes inside; a
defence's answers are put on the logits of the exit that answers.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple
from typing import TypeAlias

import torch
from torch import Tensor
from torch import nn

from nas.training.answers import answers_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.exits import up_to

Outputs: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a network gives: logits `(records, classes)`, or a tuple of them, one for each exit."""


class Answered(NamedTuple):
    """What a network says of records.

    Attributes:
        logits: `(records, classes)`, of the exit that answers.
        exits: `(records,)`, the number of that exit, from 0.
    """

    logits: Tensor
    exits: Tensor


def leaving(outputs: Sequence[Tensor], threshold: float) -> Tensor:
    """Return `(records,)`: the first exit whose largest softmax probability reaches the threshold, else the last one.

    Args:
        outputs: Logits `(records, classes)` of each exit, in the order in which they are computed.
        threshold: `Architecture.exit_threshold`.

    >>> early, late = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> leaving([early, late], 0.8).tolist(), leaving([early, late], 0.9).tolist()
    ([0, 1], [1, 1])
    """
    is_sure = [logits.softmax(dim=1).amax(dim=1) >= threshold for logits in outputs[:-1]]
    always = torch.ones(len(outputs[-1]), dtype=torch.bool, device=outputs[-1].device)
    # Of equal largest numbers `argmax` gives the first.
    return torch.stack([*is_sure, always]).byte().argmax(dim=0)


def answer(network: nn.Module, outputs: Outputs) -> Answered:
    """Return the logits of the exit that answers for each record, as the deployed network shows them, and its number.

    Args:
        network: In eval mode.
        outputs: What it gave.

    Raises:
        ValueError: If it gave several outputs and has no graph that says when an exit answers.
    """
    if not isinstance(outputs, tuple):
        return Answered(outputs, torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device))
    architecture = getattr(network, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise ValueError(
            f"expected a network with one output, or one of a graph that says which answers; got {len(outputs)} outputs"
        )
    exits = leaving(outputs, architecture.exit_threshold)
    logits = torch.stack(outputs)[exits, torch.arange(len(exits), device=exits.device)]
    answers = answers_of(network)
    return Answered(logits if answers is None else answers(logits), exits)


def loss_weights(architecture: Architecture) -> tuple[float, ...]:
    """Return what each exit counts in the joint loss: in proportion to the MACs up to it; together 1.

    These are the weights that Kaya, Hong and Dumitras (2019, "Shallow-Deep Networks") end with. Theirs grow from 0.01
    during the training and are not divided by their sum.

    >>> from search_spaces.graph.builder import GraphBuilder
    >>> graph = GraphBuilder((8,))
    >>> x = graph.linear(0, 4)
    >>> early = graph.linear(x, 2)
    >>> late = graph.linear(graph.linear(x, 18), 2)
    >>> network = graph.architecture("example", {}, outputs=(early, late))
    >>> [round(weight, 3) for weight in loss_weights(network)]  # 40 and 148 MACs
    [0.213, 0.787]
    """
    parts = [up_to(architecture, number) for number in range(len(architecture.outputs))]
    macs = [sum(kernel.macs for kernel in part.kernels) for part in parts]
    total = sum(macs)
    return tuple(count / total if total else 1 / len(macs) for count in macs)


def joint_loss(outputs: Outputs, weights: Sequence[float], loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the loss of a network's only output, or the weighted sum of the losses of its exits.

    Args:
        outputs: What the network gave.
        weights: Of `loss_weights`.
        loss_of: Takes logits `(batch, classes)`.
    """
    if not isinstance(outputs, tuple):
        return loss_of(outputs)
    return torch.stack([weight * loss_of(logits) for weight, logits in zip(weights, outputs, strict=True)]).sum()


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs for several batches as those for one."""
    first = parts[0]
    if not isinstance(first, tuple):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    by_exit = zip(*(part for part in parts if isinstance(part, tuple)), strict=True)
    return tuple(torch.cat(logits) for logits in by_exit)
