"""Run the start of a network on the device and the rest on an edge server: the best cut, and what it costs.

The kernels on the device are any set that needs no result of the server; what they made and others read is sent, each
tensor once and packed at its bits; the logits come back, those of early exits too. For a chain that is Neurosurgeon's
split point (Kang et al., 2017); for a graph with branches time and energy are sums over kernels and cut tensors, so a
minimum cut finds the best set exactly (DADS, Hu et al., 2019).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import hypot
from math import inf
from typing import NamedTuple
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from estimators.devices.device import Device
from estimators.devices.device import Link
from estimators.estimate import Estimate
from estimators.models.energy import together
from estimators.models.extrapolation import summed
from estimators.models.extrapolation import timed
from estimators.models.latency import around
from estimators.partition.flow import Tensor
from estimators.partition.flow import computing
from estimators.partition.flow import kernel_times_ms
from estimators.partition.flow import tensors
from search_spaces.graph.architecture import Architecture

BITS_PER_MBIT_MS = 1e3  # a megabit per second is a thousand bits per millisecond
# SciPy's flows are 32-bit integers: twice the unbreakable capacity must not overflow.
UNBREAKABLE = 2**30 - 1
SCALE = 2**29
SOURCE, SINK, DEVICE_RUNS, SERVER_RUNS, FIRST_KERNEL = range(5)

_Edge: TypeAlias = tuple[int, int, float]


@dataclass(frozen=True)
class Split:
    """A network in two parts.

    Attributes:
        on_device: Kernels that the device runs, indices into `architecture.kernels`; views are left out.
        sent: Operators whose tensors are sent to the server.
        sent_bytes: Their bytes.
        device_ms: Time the device computes.
        link_ms: Time on the link: what is sent, the round trip, and the logits on their way back.
        server_ms: Time the server computes.
        latency_ms: The three together; the interval of each part is added, the cautious way.
        energy_mj: Energy of the device; None where the power of the device or of its link is not known.
    """

    on_device: tuple[int, ...]
    sent: tuple[int, ...]
    sent_bytes: int
    device_ms: float
    link_ms: float
    server_ms: float
    latency_ms: Estimate
    energy_mj: Estimate | None


class _Rates(NamedTuple):
    """What a millisecond costs, by what the device does meanwhile: 1 for time, watts for energy in millijoules."""

    compute: float
    send: float
    wait: float
    receive: float


class _Times(NamedTuple):
    """What an inference does, one after the other, in milliseconds."""

    device: float
    up: float
    round_trip: float
    server: float
    down: float

    @property
    def on_link(self) -> float:
        return self.up + self.round_trip + self.down


class _Parts(NamedTuple):
    """The two machines' times, and the tensors between them."""

    link: Link
    device_ms: dict[int, float]
    server_ms: dict[int, float]
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    def transfer_ms(self, size: int) -> float:
        return size * 8 / (self.link.bandwidth_mbit_s * BITS_PER_MBIT_MS)


def best_split(architecture: Architecture, device: Device) -> Split:
    """Find the split that costs least of what `device.link.minimise` names, over all sets of kernels, exactly.

    The minimum cut is computed in integers, so "exactly" is to one part in a million. Among equals the device keeps
    most.

    Raises:
        ValueError: If the device has no link, the least energy is asked for where power is not known, or one of the two
            machines has no rule for an operator.
    """
    parts = _parts_of(architecture, device)
    rates = _Rates(1.0, 1.0, 1.0, 1.0)
    if parts.link.minimise == "energy_mj":
        watts = _watts(device)
        if watts is None:
            raise ValueError(
                f"the device {device.name!r} has no measured power of itself and of its link, so no energy"
            )
        rates = watts
    return _priced(_minimum_cut(parts, device, rates), parts, architecture, device)


def split_at(architecture: Architecture, device: Device, on_device: Collection[int]) -> Split:
    """Price one split.

    Args:
        architecture: The network.
        device: The device with its link.
        on_device: Indices into `architecture.kernels`.

    Raises:
        ValueError: If a kernel on the device reads what the server makes, the device has no link, or one of the two
            machines has no rule for an operator.
    """
    kept = {index for index in computing(architecture) if index in on_device}
    parts = _parts_of(architecture, device)
    for tensor in parts.tensors:
        late = [reader for reader in tensor.readers if reader in kept]
        if late and tensor.maker is not None and tensor.maker not in kept:
            raise ValueError(f"expected kernel {tensor.maker} on the device too: kernel {late[0]} reads what it makes")
    return _priced(kept, parts, architecture, device)


def prefix_splits(architecture: Architecture, device: Device) -> tuple[Split, ...]:
    """Price the cut after each computing kernel in the order listed: from all on the server to all on the device.

    Raises:
        ValueError: If the device has no link, or one of the two machines has no rule for an operator.
    """
    parts, steps = _parts_of(architecture, device), computing(architecture)
    return tuple(_priced(set(steps[:cut]), parts, architecture, device) for cut in range(len(steps) + 1))


def energy_known(device: Device) -> bool:
    """Tell whether the power of the device and of its link is known."""
    return _watts(device) is not None


def _watts(device: Device) -> _Rates | None:
    energy = device.energy
    power = None if device.link is None else device.link.power
    if energy is None or energy.active_power_mw is None or power is None:
        return None
    milliwatts = (energy.active_power_mw, power.transmit_mw, power.idle_mw, power.receive_mw)
    return _Rates(*[value / 1e3 for value in milliwatts])


def _parts_of(architecture: Architecture, device: Device) -> _Parts:
    if device.link is None:
        raise ValueError(f"the device {device.name!r} has no link to a server, so no split")
    steps = computing(architecture)
    times = [kernel_times_ms(architecture, machine) for machine in (device, device.link.server)]
    device_ms, server_ms = ({index: of[index] for index in steps} for of in times)
    found = tensors(architecture)
    sizes = tuple((architecture.ops[tensor.op].size * architecture.ops[tensor.op].bits + 7) // 8 for tensor in found)
    return _Parts(device.link, device_ms, server_ms, found, sizes)


def _priced(kept: set[int], parts: _Parts, architecture: Architecture, device: Device) -> Split:
    link, server = parts.link, parts.link.server
    sent, sent_bytes, back_bytes = _crossing(kept, parts)
    away = [ms for index, ms in parts.server_ms.items() if index not in kept]
    device_ms = sum(parts.device_ms[index] for index in sorted(kept))
    times = _Times(
        # A machine that runs nothing has no overhead; a network of nothing but views stays on the device.
        device=device_ms + (device.latency.overhead_ms if kept or not away else 0.0),
        up=parts.transfer_ms(sent_bytes),
        round_trip=link.round_trip_ms if away else 0.0,
        server=sum(away) + (server.latency.overhead_ms if away else 0.0),
        down=parts.transfer_ms(back_bytes),
    )
    return Split(
        on_device=tuple(sorted(kept)),
        sent=sent,
        sent_bytes=sent_bytes,
        device_ms=times.device,
        link_ms=times.on_link,
        server_ms=times.server,
        latency_ms=_latency(times, architecture, device, link),
        energy_mj=_energy(times, architecture, device, link),
    )


def _crossing(kept: set[int], parts: _Parts) -> tuple[tuple[int, ...], int, int]:
    """Return the operators whose tensors are sent, their bytes, and the bytes that come back."""
    sent: list[int] = []
    sent_bytes = back_bytes = 0
    for tensor, size in zip(parts.tensors, parts.sizes, strict=True):
        if tensor.maker is not None and tensor.maker not in kept:
            back_bytes += size if tensor.result else 0
        elif not kept.issuperset(tensor.readers):
            sent.append(tensor.op)
            sent_bytes += size
    return tuple(sent), sent_bytes, back_bytes


def _latency(times: _Times, architecture: Architecture, device: Device, link: Link) -> Estimate:
    return summed(
        timed(times.device, architecture, device),
        around(times.on_link, link.interval),
        timed(times.server, architecture, link.server),
    )


def _energy(times: _Times, architecture: Architecture, device: Device, link: Link) -> Estimate | None:
    watts = _watts(device)
    if watts is None or device.energy is None or link.power is None:
        return None
    on_link = watts.send * times.up + watts.wait * times.round_trip + watts.receive * times.down
    # Errors of a time and of the power drawn in it are independent (`estimators.models.energy.together`).
    return summed(
        together(watts.compute * times.device, timed(times.device, architecture, device), device.energy.interval),
        around(on_link, hypot(link.interval, link.power.interval)),
        together(watts.wait * times.server, timed(times.server, architecture, link.server), link.power.interval),
    )


def _minimum_cut(parts: _Parts, device: Device, rates: _Rates) -> set[int]:
    """Return the kernels on the source's side of a minimum cut: the source is the device, the sink the server."""
    node = {index: FIRST_KERNEL + place for place, index in enumerate(parts.device_ms)}
    server_ms = parts.link.server.latency.overhead_ms + parts.link.round_trip_ms
    edges: list[_Edge] = [
        (DEVICE_RUNS, SINK, device.latency.overhead_ms * rates.compute),
        (SOURCE, SERVER_RUNS, server_ms * rates.wait),
    ]
    for index, place in node.items():
        edges += [
            (place, SINK, parts.device_ms[index] * rates.compute),
            (SOURCE, place, parts.server_ms[index] * rates.wait),
            (place, DEVICE_RUNS, inf),
            (SERVER_RUNS, place, inf),
        ]
    for place, (tensor, size) in enumerate(
        zip(parts.tensors, parts.sizes, strict=True), start=FIRST_KERNEL + len(node)
    ):
        maker = SOURCE if tensor.maker is None else node[tensor.maker]
        edges.append((maker, place, parts.transfer_ms(size) * rates.send))
        # Sent once if any reader is away ...
        edges += [(place, node[reader], inf) for reader in tensor.readers]
        if tensor.maker is not None:
            # ... and nothing comes back for a reader on the device, save the logits for whoever asked.
            edges += [(node[reader], maker, inf) for reader in tensor.readers]
            edges.append((SOURCE, maker, parts.transfer_ms(size) * rates.receive * tensor.result))
    device_side = _source_side(edges, FIRST_KERNEL + len(node) + len(parts.tensors))
    return {index for index, place in node.items() if device_side[place]}


def _source_side(edges: list[_Edge], nodes: int) -> NDArray[np.bool_]:
    """Return `(nodes,)`: the largest source side of a minimum cut.

    Capacities are rounded to integers, finest where they are at most the cut's own; anything above cannot be in it.
    """
    tails, heads = (np.array([edge[end] for edge in edges]) for end in (0, 1))
    capacities = np.array([edge[2] for edge in edges])
    bound = min(capacities[heads == SINK].sum(), capacities[tails == SOURCE].sum())
    while True:
        scale = SCALE / bound if bound > 0 else 1.0
        whole = np.minimum(np.rint(capacities * scale), UNBREAKABLE)
        side = _cut(scipy.sparse.csr_array((whole.astype(np.int32), (tails, heads)), shape=(nodes, nodes)))
        value = capacities[side[tails] & ~side[heads]].sum()
        if value >= bound / 2:
            return side
        bound = value


def _cut(network: scipy.sparse.csr_array[np.int32]) -> NDArray[np.bool_]:
    """Return `(nodes,)`: all but the nodes that reach the sink over what a maximum flow leaves."""
    left = scipy.sparse.csr_array(network - scipy.sparse.csgraph.maximum_flow(network, SOURCE, SINK).flow)
    side = np.ones(network.shape[0], dtype=np.bool_)
    side[scipy.sparse.csgraph.breadth_first_order(scipy.sparse.csr_array(left.T), SINK, return_predecessors=False)] = (
        False
    )
    return side
