"""A network as kernels that compute and tensors between them: what a partition cuts."""

from __future__ import annotations

from typing import NamedTuple

from estimators.devices.device import Device
from estimators.models.latency import cycles_of_kernels
from estimators.models.latency import streamed_cycles
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.operators import VIEW_KINDS


class Tensor(NamedTuple):
    """A tensor that kernels read, whatever views look at it.

    Attributes:
        op: Index of the operator that makes it.
        maker: Index into `architecture.kernels`; None for the network's input.
        readers: Indices of the kernels that read it, each once, views left out.
        result: Whether it holds an output, the logits of an exit: it leaves the server, and the enclave.
    """

    op: int
    maker: int | None
    readers: tuple[int, ...]
    result: bool


def computing(architecture: Architecture) -> tuple[int, ...]:
    """Return the indices into `architecture.kernels` of those that compute: all but views, which only look."""
    return tuple(index for index, kernel in enumerate(architecture.kernels) if kernel.kind not in VIEW_KINDS)


def tensors(architecture: Architecture) -> tuple[Tensor, ...]:
    """Return the input and what each computing kernel makes, in the order they are made.

    A tensor that several kernels read, directly or through views, is one tensor: it is sent or copied once.
    """
    looks_at = {0: 0}
    makers: dict[int, int | None] = {0: None}
    readers: dict[int, dict[int, None]] = {0: {}}
    for index, kernel in enumerate(architecture.kernels):
        if kernel.kind in VIEW_KINDS:
            looks_at[kernel.output] = looks_at[kernel.inputs[0]]
            continue
        for op in kernel.inputs:
            readers[looks_at[op]][index] = None
        looks_at[kernel.output] = kernel.output
        makers[kernel.output], readers[kernel.output] = index, {}
    results = {looks_at[output] for output in architecture.outputs}
    return tuple(Tensor(op, maker, tuple(readers[op]), op in results) for op, maker in makers.items())


def kernel_times_ms(architecture: Architecture, device: Device) -> tuple[float, ...]:
    """Time each kernel in milliseconds, the overhead of an inference left out.

    Weights that do not fit the device's cache are charged to kernels by their share of the weights, also where the
    other kernels run elsewhere: a part of a network is never promised a cache that only the whole one fills.

    Raises:
        ValueError: If the device has no rule for an operator or its bits.
    """
    weights = sum(kernel.weights for kernel in architecture.kernels)
    per_weight = streamed_cycles(architecture, device) / weights if weights else 0.0
    # A megahertz is a thousand cycles per millisecond.
    cycles_per_ms = device.clock_mhz * 1e3
    return tuple(
        (cycles + kernel.weights * per_weight) / cycles_per_ms
        for kernel, cycles in zip(architecture.kernels, cycles_of_kernels(architecture, device), strict=True)
    )
