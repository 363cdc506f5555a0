"""What a cycle model's coefficients are multiplied by: MACs, elements and kernels of each type in a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from estimators.devices.fields import no_rule
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.operators import VIEW_KINDS

Floats: TypeAlias = NDArray[np.float64]

COLUMNS = (
    *(("cycles_per_mac", kind) for kind in sorted(MAC_KINDS)),
    *(("cycles_per_element", kind) for kind in sorted(KERNEL_KINDS)),
    *(("cycles_per_kernel", kind) for kind in sorted(KERNEL_KINDS)),
)


def check_kinds(architecture: Architecture, where: str) -> None:
    """Refuse a network with a kernel that nothing has a rule for: it is never free.

    Args:
        architecture: The network.
        where: What has no rule for it.

    Raises:
        ValueError: With the type of such a kernel.
    """
    if not architecture.kernel_kinds <= ALL_KERNELS:
        raise no_rule(min(architecture.kernel_kinds - ALL_KERNELS), where)


def counts_of(architecture: Architecture, relative: Mapping[Pair, float] | None = None) -> Floats:
    """Return `(columns,)`: what each coefficient of `COLUMNS` is multiplied by in a network's cycles.

    Args:
        architecture: The network as it runs (`estimators.devices.device.deployed`).
        relative: Cycles of a MAC by bits of weight and input, relative to the coefficients' own precision; None: all
            the same.

    Raises:
        ValueError: If an operator has no rule, or its bits have none.
    """
    totals = dict.fromkeys(COLUMNS, 0.0)
    for kernel in architecture.kernels:
        if kernel.kind in VIEW_KINDS:
            continue
        if ("cycles_per_kernel", kernel.kind) not in totals:
            raise no_rule(kernel.kind, "calibration")
        if kernel.kind in MAC_KINDS:
            bits = (kernel.weight_bits, kernel.input_bits)
            if relative is not None and bits not in relative:
                raise ValueError(f"no rule for {bits[0]}/{bits[1]} bits; there are {sorted(relative)}")
            totals["cycles_per_mac", kernel.kind] += kernel.macs * (1.0 if relative is None else relative[bits])
        totals["cycles_per_element", kernel.kind] += kernel.input_size + kernel.output_size
        totals["cycles_per_kernel", kernel.kind] += 1
    return np.array(list(totals.values()))
