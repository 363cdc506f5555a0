"""A float file as a program for ExecuTorch: the same operators, so the same logits."""

import importlib.util

import numpy as np
import pytest
import torch

from nas.deploy.executorch_file import AsModule
from nas.deploy.executorch_file import answers_of_program
from nas.deploy.executorch_file import to_executorch
from nas.deploy.judging import answers_of_file
from nas.deploy.onnx_file import to_onnx
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.preprocessing import Preprocessing
from nas.spaces import as_run
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.network import build
from tests import two_exits

SPACES = ["conv", "mobile", "resnet", "ds_cnn", "mlp", "squeeze", "vgg", "nb201"]


def written(architecture, behind=None):
    records = torch.randn((8, *architecture.input_shape), generator=torch.Generator().manual_seed(0))
    network = build(architecture, seed=0)
    network(records)
    return to_onnx(architecture, network.eval(), "float32", records, behind), records.numpy()


def asked(module, records):
    with torch.no_grad():
        rows = [module(torch.from_numpy(records[row : row + 1])).numpy() for row in range(len(records))]
    return np.concatenate(rows)


@pytest.mark.parametrize("space", SPACES)
def test_a_module_of_a_file_answers_as_the_file(space):
    found = as_run(space_named(space, (3, 16, 16), 4), 8)
    model, records = written(found.decode(sample(found.distributions, np.random.default_rng(5))))
    np.testing.assert_allclose(asked(AsModule(model), records), answers_of_file(model, records), rtol=1e-3, atol=1e-4)


def test_layers_of_half_precision_are_rounded_too():
    found = space_named("conv", (3, 16, 16), 4)
    halves = {name: "fp16" for name in found.distributions if name.endswith("activation_bits")}
    model, records = written(found.decode({**found.reference, **halves}))
    assert "Cast" in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(asked(AsModule(model), records), answers_of_file(model, records), rtol=1e-2, atol=1e-2)


def test_pixels_are_taken_as_the_user_has_them():
    behind = Preprocessing(
        Arrangement((16, 16, 3), (2, 0, 1), (3, 16, 16)),
        np.full(3, 0.4, np.float32),
        np.full(3, 0.2, np.float32),
        True,
        (),
        tuple("abcd"),
    )
    found = space_named("conv", (3, 16, 16), 4)
    model, _ = written(found.decode(found.reference), behind)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    module = AsModule(model)
    assert (module.example.shape, module.example.dtype) == ((1, 16, 16, 3), torch.uint8)
    np.testing.assert_allclose(asked(module, pixels), answers_of_file(model, pixels), rtol=1e-3, atol=1e-4)


def test_what_has_no_rule_is_refused():
    space = two_exits.make_space((1, 8, 8), 3)
    model, _ = written(space.decode(space.reference))
    with pytest.raises(
        ValueError, match=r"^expected a network with one exit to write for ExecuTorch; got one with early"
    ):
        AsModule(model)
    found = space_named("mlp", (4,), 2)
    model, _ = written(found.decode(found.reference))
    model.graph.node[0].op_type = "Einsum"
    with pytest.raises(ValueError, match=r"^no rule for 'Einsum' in the export for ExecuTorch; there are \['Add', "):
        AsModule(model)


@pytest.mark.skipif(importlib.util.find_spec("executorch") is None, reason="needs ExecuTorch: gecko-nas[edge]")
def test_the_program_answers_as_the_file():
    found = as_run(space_named("conv", (1, 8, 8), 10), 8)
    model, records = written(found.decode(found.reference))
    answers = answers_of_program(to_executorch(model), records)
    np.testing.assert_allclose(answers, answers_of_file(model, records), rtol=1e-3, atol=1e-3)
