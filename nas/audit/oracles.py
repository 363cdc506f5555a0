"""Oracles of trained networks, which answer an attack's queries and show activations."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import nn

from estimators.leakage.evidence import Floats
from estimators.leakage.evidence import Oracle
from estimators.leakage.shared.exit_times import last_exit_by
from nas.pricing.exit_delays import delayed_ms
from nas.training.answers import answers_of
from nas.training.answers import delay_of
from nas.training.loop import compute_device
from nas.training.loop import exits_of
from nas.training.loop import logits_of
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.exits import classifier
from search_spaces.graph.exits import up_to


def of_network(network: nn.Module) -> Oracle:
    """Make an oracle of a trained network; it answers in float32, on `compute_device`, to which the network moves.

    A network with convolutions is laid out in memory with channels last, as in its training: an attack may ask half a
    million times.

    Its activations are what the last `nn.Linear` (`QuantLinear` is one) to run reads, after whatever rounds it: the
    numbers that the deployed layer multiplies with. Where that layer's output is the logits, as in every network of the
    search spaces that has one, they give the gradient of the loss by its deployed weights. A network without a linear
    layer, which a convolution classifies, has no activations. With early exits they are what the last layer of the exit
    that answers reads, and zeros where another exit reads more units; all exits need to have a linear one.

    Which exit answers is what the time of an answer tells: the exit itself, unless the network's defence holds early
    answers back (`_told_by_time`). Activations are those of the exit itself: who looks inside needs no clock.

    Args:
        network: In eval mode, with all its parts, when the oracle is made and whenever it is asked.

    Raises:
        ValueError: If the network or a part of it is in train mode. The oracle raises it too, also of a network with
            several outputs and no graph, and `nas.training.loop.Diverged` if a logit is not finite.
    """
    _check_eval(network)
    network.to(compute_device())
    if any(parameter.ndim == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def query(features: Floats) -> NDArray[np.float32]:
        _check_eval(network)
        return logits_of(network, _tensor(features))

    def activations(features: Floats) -> NDArray[np.float32]:
        _check_eval(network)
        return _read_by_last_linear(network, _tensor(features))

    def exits(features: Floats) -> NDArray[np.int64]:
        _check_eval(network)
        found = exits_of(network, _tensor(features))
        return _told_by_time(network, features, found) if delay_of(network) else found

    def by_exit(features: Floats) -> NDArray[np.float32]:
        _check_eval(network)
        return _read_by_exits(network, _tensor(features))

    architecture = getattr(network, "architecture", None)
    if isinstance(architecture, Architecture) and len(architecture.outputs) > 1:
        last = [architecture.ops[classifier(architecture, output) or 0].kind for output in architecture.outputs]
        return Oracle(query, by_exit if set(last) == {"linear"} else None, exits)
    return Oracle(query, activations if _linears(network) else None)


def _check_eval(network: nn.Module) -> None:
    training = [name or "the network" for name, module in network.named_modules() if module.training]
    if training:
        raise ValueError(f"expected a network in eval mode; {training[0]} is in train mode: call .eval() first")


def _tensor(features: Floats) -> Tensor:
    layout = torch.channels_last if features.ndim == 4 else torch.contiguous_format
    return torch.tensor(features, dtype=torch.float32, device=compute_device()).contiguous(memory_format=layout)


def _linears(network: nn.Module) -> list[nn.Linear]:
    """List the network's own linear layers; those of its answers stand behind the logits."""
    behind = set() if (answers := answers_of(network)) is None else set(answers.modules())
    return [module for module in network.modules() if isinstance(module, nn.Linear) and module not in behind]


def _read_by_last_linear(network: nn.Module, features: Tensor) -> NDArray[np.float32]:
    """Return `(records, units)`; whichever layer runs last in a pass is the last one."""
    parts: list[NDArray[np.float32]] = []
    read: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read[:] = inputs[:1]

    def keep(*_: object) -> None:
        if not read or read[0].ndim != 2:
            got = [tuple(values.shape) for values in read]
            raise ValueError(f"expected the last linear layer to read (records, units); it read {got or 'nothing'}")
        parts.append(read.pop().float().cpu().numpy())

    hooks = [module.register_forward_pre_hook(note) for module in _linears(network)]
    hooks.append(network.register_forward_hook(keep))
    try:
        logits_of(network, features)
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(parts)


def _told_by_time(network: nn.Module, features: Floats, exits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `(records,)`: what the time of an answer tells of the exit, where early answers are held back.

    The attacker measures exactly, knows the rule and when each exit answers, and takes the likeliest exit; the device's
    secret stays unknown. The time of an exit is the work up to it, in MACs: no device is known here, and delays are a
    share of the time between exits. A digest of the weights stands for the secret: it is the same whenever the network
    is asked, and another one for each shadow model.

    Args:
        network: With several exits, and a delay.
        features: `(records, ...)`.
        exits: `(records,)`, those that answer.
    """
    architecture = network.architecture
    assert isinstance(architecture, Architecture)
    parts = [up_to(architecture, number) for number in range(len(architecture.outputs))]
    # What has no MACs takes time too: of two exits the later one is never as quick.
    work = np.array([sum(max(kernel.macs, 1) for kernel in part.kernels) for part in parts], dtype=np.float64)
    deviation, secret = delay_of(network) * float(work[-1] - work[0]), _secret(network)
    times = [
        delayed_ms(record, float(work[number]), slowest_ms=float(work[-1]), deviation_ms=deviation, secret=secret)
        for record, number in zip(np.asarray(features, dtype=np.float32), exits, strict=True)
    ]
    return last_exit_by(np.array(times), work)


def _secret(network: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _read_by_exits(network: nn.Module, features: Tensor) -> NDArray[np.float32]:
    """Return `(records, units)`: what the last linear layer of the exit that answers reads, zeros behind it."""
    architecture = network.architecture
    assert isinstance(architecture, Architecture)
    last = [classifier(architecture, output) for output in architecture.outputs]
    read: dict[int, list[Tensor]] = {index: [] for index in last if index is not None}
    hooks = []
    for index, parts in read.items():
        layer = network.get_submodule(f"op{index}_linear")
        hooks.append(layer.register_forward_pre_hook(lambda _layer, inputs, parts=parts: parts.append(inputs[0].cpu())))
    try:
        exits = exits_of(network, features)
    finally:
        for hook in hooks:
            hook.remove()
    by_layer = {index: torch.cat(parts).float().numpy() for index, parts in read.items()}
    units = max(values.shape[1] for values in by_layer.values())
    found = np.zeros((len(features), units), np.float32)
    for number, layer_index in enumerate(last):
        if layer_index is not None:
            leave, values = exits == number, by_layer[layer_index]
            found[leave, : values.shape[1]] = values[leave]
    return found
