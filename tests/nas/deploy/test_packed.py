"""Weights of few bits, two to a byte: the same logits, from fewer bytes."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from estimators.devices.files import load_device
from nas.base.onnx_runtime import session
from nas.deploy.file_size import file_size
from nas.deploy.judging import answers_of_file
from nas.deploy.onnx_file import to_onnx
from nas.deploy.packed import _of_four_bits
from nas.deploy.packed import in_precision
from nas.deploy.packed import packed
from nas.spaces import as_run
from nas.spaces import space_named
from search_spaces.network import build
from tests import two_exits

RECORDS = torch.randn((32, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def network_of(bits):
    space = as_run(space_named("conv", (1, 8, 8), 10), 8)
    widths = {name: bits for name in space.distributions if name.endswith("_weight_bits")}
    network = build(space.decode({**space.reference, **widths}), seed=0)
    network(RECORDS)
    return network.eval()


def test_four_bits_are_packed_as_onnx_reads_them():
    values = np.array([[-8, 7, 0], [1, -1, 3]], np.int8)
    np.testing.assert_array_equal(numpy_helper.to_array(_of_four_bits("x", values)).astype(np.int8), values)
    odd = np.array([-7, 5, 2], np.int8)
    tensor = _of_four_bits("x", odd)
    assert len(tensor.raw_data) == 2
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int8), odd)


@pytest.mark.parametrize("bits", [4, 2])
def test_a_packed_file_answers_as_that_in_int8_and_is_smaller(bits):
    network = network_of(bits)
    wide = to_onnx(network.architecture, network, "int8", RECORDS)
    small = in_precision(network.architecture, network, "int4", RECORDS)
    np.testing.assert_array_equal(answers_of_file(small, RECORDS.numpy()), answers_of_file(wide, RECORDS.numpy()))
    assert len(small.SerializeToString()) < len(wide.SerializeToString())
    assert {entry.key: entry.value for entry in small.metadata_props}["precision"] == "int4"
    assert {entry.key: entry.value for entry in wide.metadata_props}["precision"] == "int8"
    for model, allowed in ((wide, 0.0), (small, 0.01)):
        size = file_size(model, network.architecture, load_device("host_int8"), is_priced=False)
        assert abs(size.over_count) <= allowed


def test_which_exit_answers_is_the_same_under_the_later_opset():
    space = as_run(two_exits.make_space((1, 8, 8), 3), 8)
    network = build(space.decode({**space.reference, "weight_bits": 4}), seed=0)
    network(RECORDS)
    network.eval()
    models = [in_precision(network.architecture, network, name, RECORDS) for name in ("int8", "int4")]
    given = {"records": RECORDS.numpy()}
    (wide, exits), (small, same) = (session(model).run(["logits", "exit"], given) for model in models)
    np.testing.assert_array_equal(exits, same)
    np.testing.assert_array_equal(wide, small)


def test_a_network_without_few_bits_is_refused():
    network = network_of(8)
    with pytest.raises(
        ValueError, match=r"^expected a layer with weights of 4 and fewer bits to write as int4; there is"
    ):
        packed(to_onnx(network.architecture, network, "int8", RECORDS))
