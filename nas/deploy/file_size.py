"""What an ONNX file holds: the numbers of its layers, which a device keeps in flash, and what stands around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

import onnx

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.models.flash import BYTES_PER_KIB
from estimators.models.flash import kernel_bytes
from search_spaces.graph.architecture import Architecture

STORED = (8, 32)
"""Bits in which a file stores weights; one of `nas.deploy.packed` stores those of 4 and fewer in 4."""
OWN_BYTES = 9
"""What a file in integers adds for each channel: the scale of the weights, their zero, and the scale of the bias."""
NORMS = {"norm": 2}
"""A norm that stands alone keeps four numbers for each channel in a file; a device keeps two."""
TOLERANCE = 0.05


@dataclass(frozen=True)
class FileSize:
    """The bytes of a file, and what they should be.

    Attributes:
        file_bytes: The whole file.
        container_bytes: Nodes, names, shapes, steps of tensors, preprocessing and properties: all but the numbers of
            the layers. The fixed part: it grows with the number of layers, not with their width.
        flash_bytes: What the device's flash estimate counts for the layers' numbers, without the engine's code; None of
            a file in other bits than the search priced.
        counted_bytes: The same, counted as a file stores them: in `STORED` bits, with the scales of a file, zeros and
            shared values in full.
    """

    file_bytes: int
    container_bytes: int
    flash_bytes: int | None
    counted_bytes: int

    @property
    def over_estimate(self) -> float | None:
        """The file over the flash estimate and the container, less 1; None without an estimate."""
        return None if self.flash_bytes is None else self.file_bytes / (self.flash_bytes + self.container_bytes) - 1

    @property
    def over_count(self) -> float:
        """The file over the count and the container, less 1."""
        return self.file_bytes / (self.counted_bytes + self.container_bytes) - 1


def file_size(model: onnx.ModelProto, architecture: Architecture, device: Device, *, is_priced: bool) -> FileSize:
    """Measure a file and count what it should hold.

    Args:
        model: What `nas.deploy.onnx_file.to_onnx` wrote.
        architecture: The network in the bits of the file.
        device: The device of the search.
        is_priced: Whether these are the bits that the search priced.
    """
    size = len(model.SerializeToString())
    numbers = sum(len(tensor.raw_data) for tensor in _of_layers(model))
    memory = replace(device.memory, bytes_per_scale=OWN_BYTES)
    is_packed = any(tensor.data_type == onnx.TensorProto.INT4 for tensor in model.graph.initializer)
    ours = replace(
        device, weight_bits=(4, *STORED) if is_packed else STORED, sparsity={}, shared_values=False, memory=memory
    )
    counted = sum(NORMS.get(kernel.kind, 1) * kernel_bytes(kernel, ours) for kernel in architecture.kernels)
    flash = None
    if is_priced:
        flash = sum(kernel_bytes(kernel, device) for kernel in deployed(architecture, device).kernels)
    return FileSize(size, size - numbers, flash, counted)


def check(found: FileSize, precision: str) -> None:
    """Refuse a file that holds more or less than its network has.

    Raises:
        ValueError: If it is off by more than `TOLERANCE`.
    """
    if abs(found.over_count) > TOLERANCE:
        wanted, got = (found.counted_bytes + found.container_bytes) / BYTES_PER_KIB, found.file_bytes / BYTES_PER_KIB
        raise ValueError(
            f"expected the {precision} file to have {wanted:,.1f} KiB, for its layers' numbers and what stands around "
            f"them; got {got:,.1f}: the file is not written"
        )


def _of_layers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants that layers read, once each."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    wanted: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "BatchNormalization"):
            for name in node.input[1:]:
                maker = makers.get(name)
                wanted.update(dict.fromkeys(maker.input if maker is not None else [name]))
    return (held[name] for name in wanted)
