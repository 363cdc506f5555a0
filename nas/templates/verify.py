"""Check that the exported files in this folder are what was measured, and answer here as they did there.

    python verify.py

It needs NumPy and ONNX Runtime, and nothing else: not the program that wrote the files. The records in verify.npz are
random numbers. The exit code is 0 if all is well, 1 if a file differs, and 2 if this folder cannot be checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from typing import TypeAlias

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports the models it opens unless told not to

import numpy as np
import onnxruntime

Array: TypeAlias = "np.ndarray[Any, Any]"
FOLDER = Path(__file__).resolve().parent
LEAST_SHARE = 0.9
"""Share of the records whose answers must be the same: a number near a tie may be rounded otherwise elsewhere."""


def main() -> int:
    """Check every file that shipped.json names and return the exit code."""
    try:
        shipped = json.loads((FOLDER / "shipped.json").read_text(encoding="utf-8"))
        with np.load(FOLDER / "verify.npz", allow_pickle=False) as arrays:
            expected = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        print(f"cannot check this folder: {error}", file=sys.stderr)
        return 2
    differing = 0
    for file in shipped["files"]:
        fault = fault_of(file, expected["records"], expected[file["name"]])
        print(f"{file['name']}: {fault or 'ok'}")
        differing += fault is not None
    return 1 if differing else 0


def fault_of(file: dict[str, Any], records: Array, answers: Array) -> str | None:
    """Say what is wrong with a file; None where nothing is."""
    path = FOLDER / file["name"]
    if not path.is_file():
        return "missing"
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != file["sha256"]:
        return f"another file: SHA-256 is {digest[:16]}..., expected {file['sha256'][:16]}..."
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    engine = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (logits,) = engine.run(["logits"], {"records": records})
    if logits.shape != answers.shape:
        return f"answers of shape {logits.shape}, expected {answers.shape}"
    share = float((np.abs(logits - answers).max(axis=1) <= file["logit_step"]).mean())
    if share < LEAST_SHARE:
        return (
            f"the same file, but ONNX Runtime {onnxruntime.__version__} gives other answers here for {1 - share:.0%} "
            f"of {len(records)} records; on x86 without VNNI set session.x64quantprecision to 1"
        )
    return None


if __name__ == "__main__":
    sys.exit(main())
