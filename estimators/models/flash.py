"""What a network keeps in flash: weights, scales, biases, kernel by kernel."""

from __future__ import annotations

from math import ceil

from estimators.devices.device import Device
from estimators.devices.device import stored_width
from estimators.devices.fields import no_rule
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import MAC_KINDS

BYTES_PER_KIB = 1024
BYTES_PER_BIAS = 4
BYTES_PER_NUMBER = 4


def kernel_bytes(kernel: Kernel, device: Device) -> int:
    """Count the bytes of one kernel's constants, the weights rounded up to whole bytes.

    Raises:
        ValueError: If the kernel's type has no rule, or the device stores no width wide enough.
    """
    if kernel.kind in MAC_KINDS:
        width = stored_width(kernel.weight_bits, device.weight_bits)
        shared = kernel.sparsity or kernel.shared_bits
        bits = _fewer_bits(kernel, width, device) if shared else kernel.weights * width
        per_channel = (device.memory.bytes_per_scale if width < 32 else 0) + (BYTES_PER_BIAS if kernel.bias else 0)
        return ceil(bits / 8) + kernel.channels * per_channel
    if kernel.kind not in ALL_KERNELS:
        raise no_rule(kernel.kind, "flash_kib")
    # A norm that follows no weights cannot be folded: it keeps a scale and a shift per channel, four bytes each.
    return kernel.params * BYTES_PER_NUMBER


def _fewer_bits(kernel: Kernel, width: int, device: Device) -> float:
    """Count the bits of a kernel's weights: those of few values as numbers of these, zeros left out where they are."""
    values = 0
    if kernel.shared_bits and device.shared_values:
        values, width = BYTES_PER_NUMBER * 8 * 2**kernel.shared_bits, kernel.shared_bits
    sparse = device.sparse_form(kernel)
    if sparse is None or sparse.index_bits is None:
        return values + kernel.weights * width
    kept = kernel.weights - round(kernel.sparsity * kernel.weights)
    return values + kept * (width + sparse.index_bits)
