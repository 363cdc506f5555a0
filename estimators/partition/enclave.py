"""Hide layers in a trusted-execution enclave: which fit, and what they cost.

An attacker who owns the normal world reads the weights and tensors outside, not those inside. What membership leaks
through is the last layers (Mo et al., 2020: hiding the last one defeats a white-box membership attack at 3 % more
time), so by default a tail is hidden, as long as the secure memory allows. The confidences that leave the enclave are
no secret: an attack on outputs is as good as before.

Consecutive hidden kernels are one visit: two changes of world, and a copy of every tensor that enters or leaves.
Weights are loaded once, not in every inference.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from estimators.devices.device import Device
from estimators.devices.device import Enclave
from estimators.estimate import Estimate
from estimators.models.extrapolation import summed
from estimators.models.extrapolation import timed
from estimators.models.flash import kernel_bytes
from estimators.models.latency import around
from estimators.models.memory import tensor_bytes
from estimators.partition.flow import Tensor
from estimators.partition.flow import computing
from estimators.partition.flow import kernel_times_ms
from estimators.partition.flow import tensors
from search_spaces.graph.architecture import Architecture

BYTES_PER_KIB = 1024
BYTES_PER_BIAS = 4
BYTES_PER_NORM = 8
US_PER_MS = 1e3
TOLERANCE = 1e-5  # of the largest value; HiGHS meets a rule to 1e-6 or 1e-7


@dataclass(frozen=True)
class Hidden:
    """A set of kernels in the enclave.

    Attributes:
        kernels: Those inside, indices into `architecture.kernels`; views are left out.
        visits: Times an inference enters the enclave.
        copied_bytes: Bytes of the tensors that enter or leave it.
        secure_ram_kib: Secure memory taken: engine, constants, and the tensors of the largest visit. Tensors are
            computed in the order listed, none in place.
        fits: Whether the secure memory is that large.
        exposed_percent: What remains outside, of the total of what is worth hiding (weights, unless told otherwise).
        latency_ms: Time of an inference. To the device's interval comes that of what the enclave adds.
    """

    kernels: tuple[int, ...]
    visits: int
    copied_bytes: int
    secure_ram_kib: float
    fits: bool
    exposed_percent: float
    latency_ms: Estimate


def hide(
    architecture: Architecture, device: Device, kernels: Collection[int], values: Sequence[float] | None = None
) -> Hidden:
    """Price one set of kernels in the enclave, whether or not it fits.

    Args:
        architecture: The network.
        device: The device with its enclave.
        kernels: Indices into `architecture.kernels`.
        values: What hiding each of `architecture.kernels` is worth; by default its weights.

    Raises:
        ValueError: If the device has no enclave, the values are not one finite number of at least 0 for each kernel, or
            the device has no rule for an operator.
    """
    return _World.of(architecture, device, values).hide(kernels)


def tails(architecture: Architecture, device: Device, values: Sequence[float] | None = None) -> tuple[Hidden, ...]:
    """Price the last 0, 1, 2, ... computing kernels of the order listed: time against what remains exposed.

    Raises:
        ValueError: As `hide`.
    """
    world = _World.of(architecture, device, values)
    return tuple(world.hide(world.steps[cut:]) for cut in range(len(world.steps), -1, -1))


def best_tail(architecture: Architecture, device: Device) -> Hidden:
    """Find the longest tail that fits; where not even the last kernel does, nothing is hidden.

    Raises:
        ValueError: As `hide`.
    """
    # A longer tail holds all that a shorter one does: the memory never falls, the first that fits is the longest.
    world = _World.of(architecture, device, None)
    for cut in range(len(world.steps)):
        hidden = world.hide(world.steps[cut:])
        if hidden.fits:
            return hidden
    return world.hide(())


def best_set(architecture: Architecture, device: Device, values: Sequence[float]) -> Hidden:
    """Find the set of kernels, in one visit or several, that fits and is worth most; of equals, the fastest.

    Exact: an integer program over visits (first and last kernel), which share the memory for constants and each fit
    beside it with their tensors; HiGHS solves it. Give the values a measured sensitivity of each layer.

    Raises:
        ValueError: As `hide`.
    """
    world = _World.of(architecture, device, values)
    visits = world.visits_that_fit()
    if not visits:
        return world.hide(())
    worth = np.array([visit.worth for visit in visits]) / max(world.total, 1e-300)
    rules = _rules(visits, world)
    most = worth[_solve(-worth, rules)].sum()
    # Of the sets that are worth as much, to the solver's tolerance, the fastest.
    rules.append(scipy.optimize.LinearConstraint(worth, most - TOLERANCE, np.inf))
    chosen = _solve(np.array([visit.added_ms for visit in visits]), rules)
    return world.hide({index for place in chosen for index in visits[place].kernels})


class _Visit(NamedTuple):
    """Consecutive kernels in the enclave.

    Attributes:
        kernels: Indices into `architecture.kernels`.
        first: Place of the first among those that compute.
        constants: Bytes of their weights, scales and biases.
        peak: Largest bytes of tensors at any moment.
        copied: Bytes of the tensors that enter or leave.
        worth: What hiding them is worth.
        added_ms: Time that it adds.
    """

    kernels: tuple[int, ...]
    first: int
    constants: int
    peak: int
    copied: int
    worth: float
    added_ms: float


@dataclass(frozen=True)
class _World:
    """A network on a device with an enclave; all by index into `architecture.kernels`."""

    architecture: Architecture
    device: Device
    enclave: Enclave
    steps: tuple[int, ...]
    times_ms: tuple[float, ...]
    constants: tuple[int, ...]
    values: tuple[float, ...]
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, architecture: Architecture, device: Device, values: Sequence[float] | None) -> _World:
        if device.enclave is None:
            raise ValueError(f"the device {device.name!r} has no enclave")
        kernels, found = architecture.kernels, tensors(architecture)
        if values is None:
            values = [kernel.weights for kernel in kernels]
        if len(values) != len(kernels) or not all(isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"expected a finite value of at least 0 for each of {len(kernels)} kernels; got {values}")
        made = [architecture.ops[tensor.op] for tensor in found]
        return cls(
            architecture=architecture,
            device=device,
            enclave=device.enclave,
            steps=computing(architecture),
            times_ms=kernel_times_ms(architecture, device),
            constants=tuple(kernel_bytes(kernel, device) for kernel in kernels),
            values=tuple(float(value) for value in values),
            tensors=found,
            sizes=tuple(tensor_bytes(op.size, op.bits, device) for op in made),
        )

    @cached_property
    def total(self) -> float:
        """What hiding all is worth; views are worth nothing."""
        return sum(self.values[index] for index in self.steps)

    def hide(self, kernels: Collection[int]) -> Hidden:
        visits = self._visits_of(frozenset(kernels))
        constants, peak = sum(visit.constants for visit in visits), max((visit.peak for visit in visits), default=0)
        ram_kib = self._ram_kib(constants, peak) if visits else 0.0
        worth = sum(visit.worth for visit in visits)
        latency = self.device.latency
        plain = timed(latency.overhead_ms + sum(self.times_ms), self.architecture, self.device)
        added = around(sum(visit.added_ms for visit in visits), latency.interval + self.enclave.interval)
        return Hidden(
            kernels=tuple(index for visit in visits for index in visit.kernels),
            visits=len(visits),
            copied_bytes=sum(visit.copied for visit in visits),
            secure_ram_kib=ram_kib,
            fits=ram_kib <= self.enclave.secure_ram_kib,
            exposed_percent=100 * max(0.0, 1 - worth / self.total) if self.total else 0.0,
            latency_ms=summed(plain, added),
        )

    def visits_that_fit(self) -> list[_Visit]:
        """Return every run of consecutive kernels that fits by itself."""
        found = []
        for first in range(len(self.steps)):
            for stop in range(first + 1, len(self.steps) + 1):
                visit = self._visit(first, stop)
                if self._ram_kib(visit.constants, visit.peak) > self.enclave.secure_ram_kib:
                    break  # nor does any longer one
                found.append(visit)
        return found

    def _ram_kib(self, constants: int, peak: int) -> float:
        tensors_bytes = peak * self.device.memory.arena_factor
        return self.enclave.engine_ram_kib + (constants + tensors_bytes) / BYTES_PER_KIB

    def _visits_of(self, kernels: frozenset[int]) -> list[_Visit]:
        inside = [index in kernels for index in self.steps] + [False]
        starts = [place for place, here in enumerate(inside) if here and not (place and inside[place - 1])]
        return [self._visit(start, inside.index(False, start)) for start in starts]

    def _visit(self, first: int, stop: int) -> _Visit:
        kernels = self.steps[first:stop]
        peak, copied = self._tensors_of(kernels)
        enclave = self.enclave
        added_us = 2 * enclave.switch_us + copied / BYTES_PER_KIB * enclave.copy_us_per_kib
        slower_ms = sum(self.times_ms[index] for index in kernels) * (enclave.slow_down - 1)
        constants = sum(self.constants[index] for index in kernels)
        worth = sum(self.values[index] for index in kernels)
        return _Visit(kernels, first, constants, peak, copied, worth, slower_ms + added_us / US_PER_MS)

    def _tensors_of(self, kernels: tuple[int, ...]) -> tuple[int, int]:
        """Return the peak of a visit's tensors and the bytes that enter or leave.

        What enters is there from the start to its last use; what leaves stays to the end.
        """
        inside, copied = set(kernels), 0
        live = dict.fromkeys(kernels, 0)
        for tensor, size in zip(self.tensors, self.sizes, strict=True):
            last = max((reader for reader in tensor.readers if reader in inside), default=None)
            start: int | None = kernels[0]
            if tensor.maker in inside:
                start = tensor.maker
                leaves = tensor.result or not inside.issuperset(tensor.readers)
                last = kernels[-1] if leaves else max(last or 0, tensor.maker)
                copied += size if leaves else 0
            elif last is not None:
                copied += size
            if start is not None and last is not None:
                for index in kernels:
                    live[index] += size if start <= index <= last else 0
        return max(live.values()), copied


def _rules(visits: list[_Visit], world: _World) -> list[scipy.optimize.LinearConstraint]:
    """Say which visits go together; a variable of 0 or 1 for each."""
    places = np.arange(len(world.steps))[:, None]
    first = np.array([visit.first for visit in visits])
    last = first + np.array([len(visit.kernels) for visit in visits]) - 1
    # Whichever visit an inference is in, the constants of all lie beside its tensors.
    here = (first <= places) & (places <= last)
    tensors_bytes = np.array([visit.peak for visit in visits]) * world.device.memory.arena_factor
    memory = np.array([visit.constants for visit in visits]) + here * tensors_bytes
    # One visit at a time, and a kernel outside between two, or they were one.
    apart = (first <= places) & (places <= last + 1)
    return [
        scipy.optimize.LinearConstraint(apart.astype(np.float64), -np.inf, 1),
        scipy.optimize.LinearConstraint(
            memory / BYTES_PER_KIB, -np.inf, world.enclave.secure_ram_kib - world.enclave.engine_ram_kib
        ),
    ]


def _solve(costs: NDArray[np.float64], rules: list[scipy.optimize.LinearConstraint]) -> list[int]:
    """Return which visits a cheapest choice has."""
    # Small enough without presolve, which is slower here and prints to stdout (HiGHS in SciPy 1.17).
    binary = np.ones(len(costs), dtype=np.int64)
    solved = scipy.optimize.milp(
        costs,
        constraints=rules,
        integrality=binary,
        bounds=scipy.optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "presolve": False},
    )
    if solved.x is None:
        raise AssertionError(f"nothing hidden is always a solution; HiGHS says {solved.message}")
    return [int(place) for place in np.flatnonzero(solved.x > 0.5)]
