"""Start a training from the weights of a trained network that is narrower, shallower or of other bits.

- A layer that is as wide in both takes the weights as they are.
- In a wider layer further channels repeat channels of the parent; whatever reads a repeated channel shares its weights
  out among the copies, so that the sum stays the same (Chen, Goodfellow and Shlens, 2016, "Net2Net"). The shares are
  random, for each reader anew: copies that are read alike would get equal gradients, and stay copies for ever. So would
  those whose gradients are proportional, because AdamW does not heed their length.
- A larger window has the parent's weights in its middle and zeros around them.
- A further layer passes its input on where it can: the middle of its window is one for the channel itself, and its norm
  changes nothing in eval mode. Where its output is added to its input it begins at zero instead. Where its activation
  or its stride allows neither, it has fresh weights.
- Bits make no difference: weights in training are in float, and are rounded anew. Ranges of tensors and steps that are
  learned come from the parent where the bits are the same.

What is narrower than in the parent has fresh weights, and so has what reads it. A network that is only wider, has
larger windows, or has further layers that pass on, computes in float what its parent computes, until it is trained.
That holds if the further layers are found where they were added: two graphs can be matched in several ways
(`search_spaces.graph.descent`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from nas.training.loop import TrainSetup
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.descent import Descent
from search_spaces.graph.descent import descent_of
from search_spaces.graph.operators import SCALED
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import TERNARY
from search_spaces.layers.quantize import LEARNED_WEIGHTS
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import fit_step
from search_spaces.network import build

LEAST, MOST = 0.5, 1.5
"""Between these lie the random parts of the copies of a channel, before they are made to sum up to one."""
EPS = 1e-5
"""What a batch norm adds to a variance."""
TENSORS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(WEIGHTED, ("weight", "bias")),
    **dict.fromkeys(SCALED, ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
}
"""What layers and norms have that can come from others, by the kind of their operator."""


def why_fresh(setup: TrainSetup, members: int) -> str | None:
    """Say why a training must not start from weights that have learned from the members; None where it may.

    Args:
        setup: The training, with its defence.
        members: How many records those weights have learned from.
    """
    if setup.guarantee:
        return "the guarantee of its defence is for weights that no member has touched before"
    if len(setup.features) < members:
        return "its defence keeps members aside, and other weights have learned from them"
    return None


def started(setup: TrainSetup, parent: Architecture, weights: Mapping[str, Tensor]) -> TrainSetup:
    """Return a training that starts from the weights of another network.

    Args:
        setup: The training.
        parent: The other network.
        weights: Its weights and buffers, by name.
    """
    return replace(setup, start=inherited(setup.architecture, parent, weights, setup.seed))


def inherited(child: Architecture, parent: Architecture, weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return the weights and buffers that a network starts with, by name, on the CPU.

    Args:
        child: The network.
        parent: The one it starts from.
        weights: The parent's, by name; answers of a defence among them are left out.
        seed: Of fresh weights, of which channels are repeated, and of what copies share.

    Raises:
        ValueError: If the two are not of one space, one shape of records and one number of classes.
    """
    network, descent = build(child, seed=seed), descent_of(child, parent)
    copies = _Copies(descent, torch.Generator().manual_seed(seed))
    found, kept = dict(network.state_dict()), set()
    for index, op in enumerate(child.ops):
        layer, origin = f"op{index}_{op.kind}", descent.matched.get(index)
        fresh = {name: value for name, value in _of(found, f"{layer}.").items() if name in TENSORS.get(op.kind, ())}
        new: dict[str, Tensor] = {}
        if index in descent.taken and origin is not None:
            theirs = _of(weights, f"op{origin}_{op.kind}.")
            new = {name: _in_middle(copies.taken(index, name, theirs[name]), fresh[name]) for name in fresh}
            if _is_stepped_alike(op, parent.ops[origin]) and theirs["weight"].shape == fresh["weight"].shape:
                new["log_step"] = theirs["log_step"]
                kept.add(layer)
        elif index in descent.silent:
            new = {name: torch.zeros_like(fresh[name]) for name in ("weight", "bias") if name in fresh}
        elif index in descent.passing:
            new = {name: copies.passing(index, name, value) for name, value in fresh.items()}
        found |= {f"{layer}.{name}": value for name, value in new.items()}
        if origin is not None and _is_ranged_alike(op, parent.ops[origin]):
            ranges = _of(weights, f"op{origin}_quantizer.").items()
            found |= {full: value for name, value in ranges if (full := f"op{index}_quantizer.{name}") in found}
    network.load_state_dict(found)
    for name, module in network.named_modules():
        if isinstance(module, QuantConv2d | QuantLinear) and name not in kept:
            fit_step(module)
    return {name: value.detach() for name, value in network.state_dict().items()}


def _of(weights: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """Return what belongs to one module, by the rest of its name."""
    return {name.removeprefix(start): value.cpu() for name, value in weights.items() if name.startswith(start)}


def _is_stepped_alike(op: Op, other: Op) -> bool:
    """Tell whether both layers learn a step, for the same levels."""
    is_same = (op.weight_bits, op.weight_format) == (other.weight_bits, other.weight_format)
    return is_same and op.kind in WEIGHTED and op.weight_bits in LEARNED_WEIGHTS and op.weight_format != TERNARY


def _is_ranged_alike(op: Op, other: Op) -> bool:
    """Tell whether the outputs of both are rounded to the same levels."""
    return (op.bits, op.format, op.range, op.function) == (other.bits, other.format, other.range, other.function)


def _in_middle(weight: Tensor, fresh: Tensor) -> Tensor:
    """Put windows into the middle of larger ones, of zeros."""
    if weight.ndim < 3:
        return weight
    high, wide = ((one - two) // 2 for one, two in zip(fresh.shape[2:], weight.shape[2:], strict=True))
    return functional.pad(weight, (wide, wide, high, high))


class _Copies:
    """Which of the parent's channels each channel of the child repeats."""

    def __init__(self, descent: Descent, random: torch.Generator) -> None:
        self._descent, self._random = descent, random
        self._sources: dict[int, Tensor] = {}
        ours, theirs = descent.channels
        for group, other in sorted(descent.groups.items()):
            known = theirs.widths[other]
            further = torch.randint(known, (ours.widths[group] - known,), generator=random)
            self._sources[group] = torch.cat([torch.arange(known), further])

    def taken(self, index: int, name: str, value: Tensor) -> Tensor:
        """Return a tensor of a layer or norm of the child, made of the one of its match."""
        if not value.ndim:
            return value
        op, origin = self._descent.child.ops[index], self._descent.matched[index]
        value = value[self._features(index, origin)]
        if name == "weight" and op.kind in ("conv", "linear") and op.groups == 1:
            read = self._features(op.inputs[0], self._descent.parent.ops[origin].inputs[0])
            shares = self._shares(len(value), read)
            value = value[:, read] * shares.view(*shares.shape, *(1 for _ in value.shape[2:]))
        return value

    def passing(self, index: int, name: str, fresh: Tensor) -> Tensor:
        """Return a tensor of a layer or norm of the child that passes its input on."""
        op, origin = self._descent.child.ops[index], self._descent.origins[index]
        if name == "weight" and op.kind in ("conv", "linear"):
            written, read = self._features(index, origin), self._features(op.inputs[0], origin)
            middle = (written[:, None] == read) * self._shares(len(written), read)
            return _in_middle(middle.view(*middle.shape, *(1 for _ in fresh.shape[2:])), fresh)
        if name == "weight":
            return _in_middle(torch.ones_like(fresh[:, :, :1, :1]), fresh) if fresh.ndim > 1 else torch.ones_like(fresh)
        return torch.full_like(fresh, 1 - EPS) if name == "running_var" else torch.zeros_like(fresh)

    def _features(self, index: int, origin: int | None) -> Tensor:
        """Return for each feature of a tensor the parent's feature that it repeats."""
        assert origin is not None  # as of all that stand for something
        ours, theirs = self._descent.channels
        found, offset = [], 0
        for segment, other in zip(ours.layouts[index], theirs.layouts[origin], strict=True):
            places = self._sources[segment.group][:, None] * segment.repeat + torch.arange(segment.repeat)
            found.append((offset + places).flatten())
            offset += theirs.widths[other.group] * segment.repeat
        return torch.cat(found)

    def _shares(self, outputs: int, read: Tensor) -> Tensor:
        """Share out among copies, for each output anew, what reads them: `(outputs, features)`."""
        parts = torch.empty(outputs, len(read)).uniform_(LEAST, MOST, generator=self._random)
        sums = torch.zeros(outputs, int(read.max()) + 1).index_add(1, read, parts)
        return parts / sums[:, read]
