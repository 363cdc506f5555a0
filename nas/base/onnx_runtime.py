"""ONNX Runtime sessions that do as they are told: one thread, no optimisation of their own unless asked."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx

# From 1.29 on ONNX Runtime tells its maker which models are opened, with hashes of their weights, unless this is set
# before it is imported. Networks trained on people's data are nobody else's business. Whoever wants it sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
from onnxruntime import InferenceSession as InferenceSession  # noqa: PLC0414 - for those who must not import it first

OPSET = 17  # HardSwish needs 14; 17 is read by every engine of the last four years


IR_VERSION = 8


def session(model: onnx.ModelProto, **options: Any) -> InferenceSession:
    """Open a model in ONNX Runtime on one thread of the CPU.

    Args:
        model: The model.
        options: Further attributes of `onnxruntime.SessionOptions`, such as `optimized_model_filepath`.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    if _saturates():
        settings.add_session_config_entry("session.x64quantprecision", "1")
    for name, value in options.items():
        setattr(settings, name, value)
    return InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _saturates() -> bool:
    """Tell whether this processor may add pairs of 8-bit products in 16 bits: x86 without VNNI does.

    ONNX Runtime then needs its exact kernels, which take a third longer (0.054 against 0.041 ms for the `conv` space's
    reference on an AVX-512 server, where they are not needed).
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = Path("/proc/cpuinfo")
    return not flags.exists() or "vnni" not in flags.read_text()
