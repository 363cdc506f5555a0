"""A file holds the numbers of its layers, counted from the graph, and what stands around them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.devices.files import load_device
from nas.deploy import file_size as sizes
from nas.deploy.deployed import computed
from nas.deploy.file_size import FileSize
from nas.deploy.file_size import file_size
from nas.deploy.onnx_file import to_onnx
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build

HOST = load_device("host_int8")


def written(architecture, precision):
    records = torch.randn((4, *architecture.input_shape), generator=torch.Generator().manual_seed(0))
    return to_onnx(architecture, build(architecture, seed=0).eval(), precision, records)


def test_the_numbers_of_a_linear_layer_by_hand():
    graph = GraphBuilder((5,))
    graph.linear(0, 3, bias=True)
    architecture = graph.architecture("example", {})
    found = file_size(written(architecture, "float32"), architecture, HOST, is_priced=False)
    assert found.counted_bytes == found.file_bytes - found.container_bytes == 4 * (5 * 3 + 3)
    assert (found.flash_bytes, found.over_estimate) == (None, None)
    running = computed(architecture, "int8")
    found = file_size(written(architecture, "int8"), running, HOST, is_priced=True)
    # Weights in a byte, then for each channel a bias, two scales and a zero.
    assert found.counted_bytes == found.file_bytes - found.container_bytes == 5 * 3 + 3 * (4 + 4 + 4 + 1)
    # This machine's estimate is of such a file. A board keeps a scale and a zero in five bytes.
    assert (found.flash_bytes, found.over_estimate) == (found.counted_bytes, 0)
    board = file_size(written(architecture, "int8"), running, load_device("stm32h747"), is_priced=True)
    assert board.flash_bytes == 5 * 3 + 3 * (4 + 5)


@pytest.mark.parametrize("space", ["conv", "mobile", "resnet", "ds_cnn", "mlp", "squeeze", "vgg", "nb201"])
def test_the_files_of_every_space_hold_what_is_counted(space):
    found = space_named(space, (3, 16, 16), 4)
    rng = np.random.default_rng(1)
    for params in (found.reference, sample(found.distributions, rng)):
        architecture = found.decode(params)
        for precision in ("float32", "int8"):
            size = file_size(written(architecture, precision), computed(architecture, precision), HOST, is_priced=False)
            assert abs(size.over_count) < 0.01, (precision, size)
            sizes.check(size, precision)


def test_a_file_that_holds_more_is_refused():
    size = FileSize(file_bytes=1100, container_bytes=500, flash_bytes=500, counted_bytes=500)
    assert size.over_estimate == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"^expected the int8 file to have 1\.0 KiB, for its layers' numbers and"):
        sizes.check(size, "int8")
    sizes.check(replace(size, file_bytes=1049), "int8")
