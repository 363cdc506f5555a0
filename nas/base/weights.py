"""Write and read the weights of a network, as safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor
from torch import nn

from nas.base import files


def write_weights(path: Path, network: nn.Module, mode: int = files.EVERYBODY) -> str:
    """Write a network's weights and buffers as safetensors.

    Returns:
        The file's SHA-256 in hex, as `nas.base.files.digest_of` gives it.
    """
    return write_tensors(path, network.state_dict(), mode)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], mode: int = files.EVERYBODY) -> str:
    """Write tensors by name, as `write_weights` does."""
    data = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    files.write(path, lambda stream: stream.write(data), mode)
    return hashlib.sha256(data).hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights and buffers by name.

    Raises:
        ValueError: If the file is no safetensors file.
    """
    try:
        return dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected safetensors in {path}: {error}") from None
