"""ONNX Runtime does as it is told."""

from __future__ import annotations

import os
import subprocess
import sys

ASKED = """
from nas.base import onnx_runtime
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "private", ends[:1], ends[1:])
opset = [helper.make_opsetid("", onnx_runtime.OPSET)]
model = helper.make_model(graph, opset_imports=opset, ir_version=onnx_runtime.IR_VERSION)
onnx_runtime.session(model).run(None, {"x": __import__("numpy").ones(1, "float32")})
"""


def test_a_network_is_opened_without_a_word_to_anybody(tmp_path):
    # A machine that runs tests for others (CI) is not watched by default; this asks as a user's machine would.
    quiet = ("ORT_DISABLE_TELEMETRY", "CI", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    subprocess.run([sys.executable, "-c", ASKED], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
