"""The C sources, compiled: they are strict C99, sound, and compute what the reference and ONNX Runtime compute."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from nas.base import plugins
from nas.deploy.c99.program import to_program
from nas.deploy.c99.reference import answers
from nas.deploy.c99.writing import sources
from nas.deploy.judging import answers_of_file
from nas.deploy.onnx_file import to_onnx
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.preprocessing import Preprocessing
from nas.spaces import sample
from nas.training.loop import exits_of
from nas.training.loop import logits_of
from search_spaces.graph.builder import GraphBuilder
from tests.c_sources import STRICT
from tests.c_sources import Compiled
from tests.c_sources import cc
from tests.c_sources import in_precision
from tests.c_sources import needs_cc
from tests.c_sources import printed
from tests.c_sources import write
from tests.networks import alive
from tests.networks import everything
from tests.networks import normal
from tests.networks import shaken
from tests.networks import written

pytestmark = needs_cc

PRECISIONS = (1, "ternary", 2, 4, 8)
# Points with few MACs, so that a thousand records take a second with sanitizers.
SMALL = {"conv": 126, "ds_cnn": 8, "mlp": 11, "mobile": 12, "resnet": 126, "squeeze": 29, "vgg": 65}
CASES = [
    *((name, precision) for name in ("conv", "mlp", "squeeze") for precision in PRECISIONS),
    *zip(("ds_cnn", "mobile", "resnet", "vgg"), PRECISIONS[1:], strict=True),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return Compiled(tmp_path_factory.mktemp("c99"))


def small(name, precision):
    shape = (12,) if name == "mlp" else (2, 8, 8)
    space = plugins.load("search_spaces", name, "make_space")(shape, 5)
    point = sample(space.distributions, np.random.default_rng(SMALL[name]))
    return in_precision(space.decode(point), precision)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_thousand_records_get_the_same_bits_from_c_and_numpy_and_layers_those_of_onnx_runtime(
    compiled, name, precision
):
    architecture = small(name, precision)
    calibration = normal(64, *architecture.input_shape)
    network = alive(architecture, calibration)
    program = to_program(architecture, network, "int8", calibration)
    assert {step.weights.bits for step in program.steps if step.weights} == {2 if precision == "ternary" else precision}
    records = normal(1000, *architecture.input_shape, seed=1).numpy()
    found = printed(compiled(program), records)
    assert len(np.unique(found, axis=0)) > 500
    assert_array_equal(found, answers(program, records))
    onnx = answers_of_file(to_onnx(architecture, network, "int8", calibration), records)
    if any(op.kind in ("add", "scale") or op.function == "avg" for op in architecture.ops):
        # ONNX Runtime multiplies and averages in an order of its own: it may take the other one of two levels.
        assert np.mean(found.argmax(1) == onnx.argmax(1)) > 0.95
        assert np.median(np.abs(found - onnx)) < 0.02 * onnx.std()
    else:
        assert_array_equal(found, onnx)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_operator_has_a_kernel(compiled, precision):
    architecture, calibration = written(everything), normal(64, 2, 6, 6)
    network = shaken(architecture)
    program = to_program(architecture, network, precision, calibration)
    records = normal(1000, 2, 6, 6, seed=1)
    found = printed(compiled(program), records.numpy())
    assert_array_equal(found, answers(program, records.numpy()))
    with torch.no_grad():
        wanted = network(records).numpy()
    allowed = 1e-5 if precision == "float32" else 0.35 * wanted.std()
    assert np.mean(np.abs(found - wanted).max(1) < allowed) > (1 - 1e-9 if precision == "float32" else 0.95)
    onnx = answers_of_file(to_onnx(architecture, network, precision, calibration), records.numpy())
    # ONNX Runtime adds and averages in an order of its own, so that a number may be rounded to the next step.
    np.testing.assert_allclose(found, onnx, rtol=0, atol=1e-5 if precision == "float32" else 0.05 * wanted.std())


def of_all_precisions(graph):
    """Layers in whole numbers, in float and in half precision, on inputs in whole numbers and in float."""
    x = graph.activation(graph.norm(graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=4)), "tanh")
    x = graph.activation(graph.norm(graph.conv(x, 6, weight_bits="ternary", bias=True)), bits=8)
    x = graph.concat(x, graph.activation(graph.conv(x, 2, bias=True), "hardswish", bits="fp16"))
    x = graph.activation(graph.norm(graph.conv(x, 4, weight_bits="bf16")), bits="bf16")
    x = graph.activation(graph.norm(graph.conv(x, 4, weight_bits=3)), bits=1)
    x = graph.activation(graph.norm(graph.conv(x, 4, weight_bits=1)), "relu6", bits=3)
    x = graph.pool(x, "avg", kernel=(2, 2), stride=(2, 2))
    graph.linear(graph.flatten(x), 5, bias=True, weight_bits="fp16")


def test_layers_of_all_precisions_work_together(compiled):
    architecture, calibration = written(of_all_precisions), normal(64, 2, 6, 6)
    network = alive(architecture, calibration)
    program = to_program(architecture, network, "mixed", calibration)
    assert [step.weights.bits for step in program.steps if step.weights] == [4, 2, 32, 32, 4, 1, 32]
    records = normal(1000, 2, 6, 6, seed=1)
    found = printed(compiled(program), records.numpy())
    assert_array_equal(found, answers(program, records.numpy()))
    with torch.no_grad():
        wanted = network(records).numpy()
    # A sum of floats near a tie or near zero may be rounded the other way: it depends on the order of its parts.
    assert np.mean(np.abs(found - wanted).max(1) < 0.02 * wanted.std()) > 0.95


@pytest.mark.parametrize(
    ("kind", "arrangement"),
    [
        ("uint8", Arrangement((4, 6, 2), (2, 0, 1), (2, 4, 6))),
        ("float32", Arrangement((6, 8), (1, 0), (2, 4, 6))),
        ("float64", Arrangement((2, 4, 6), (0, 1, 2), (2, 4, 6))),
    ],
)
def test_records_are_taken_as_the_data_have_them(compiled, kind, arrangement):
    rng = np.random.default_rng(0)
    mean = np.array([0.4, 0.6] if kind == "uint8" else [1e6, -3.0], "float64" if kind == "float64" else "float32")
    behind = Preprocessing(arrangement, mean, mean * 0 + [0.3, 0.7], kind == "uint8", (), ())
    middle = np.array([[[1e6]], [[-3]]])
    raw = rng.integers(0, 256, (300, 2, 4, 6)) if kind == "uint8" else rng.normal(middle, 1, (300, 2, 4, 6))
    raw = raw.astype(kind)
    architecture = written(lambda graph: graph.linear(graph.flatten(0), 3, weight_bits=8), (2, 4, 6), bits=8)
    read = torch.from_numpy(behind.standardised(raw))
    network = shaken(architecture, read)
    program = to_program(architecture, network, "int8", read, behind)
    given = behind.as_given(raw)
    found = printed(compiled(program), given)
    assert_array_equal(found, answers(program, given))
    assert_array_equal(found, answers_of_file(to_onnx(architecture, network, "int8", read, behind), given))


@pytest.mark.parametrize("threshold", [0.0, 0.35, 1.0])
def test_the_first_exit_that_is_sure_answers_and_nothing_behind_it_runs(compiled, threshold):
    graph = GraphBuilder((6,), bits=8)
    hidden = graph.activation(graph.linear(0, 8, weight_bits=4), bits=8)
    early, middle = graph.linear(0, 4, weight_bits=8), graph.linear(hidden, 4, weight_bits=8)
    wide = graph.activation(graph.linear(hidden, 64, weight_bits=2), bits=8)
    exits = (early, middle, graph.linear(wide, 4))
    architecture = replace(graph.architecture("example", {}, exits), exit_threshold=threshold)
    network = alive(architecture, normal(64, 6))
    program = to_program(architecture, network, "mixed", normal(64, 6))
    records = normal(1000, 6, seed=1)
    found = printed(compiled(program), records.numpy())
    assert_array_equal(found, answers(program, records.numpy()))
    left = exits_of(network, records)
    assert set(left) == {0.0: {0}, 0.35: {0, 1, 2}, 1.0: {2}}[threshold]
    np.testing.assert_allclose(found, logits_of(network, records), rtol=0, atol=0.05 * found.std())
    code = sources(program)["network.c"]
    assert code.index("return 0;") < code.index("return 1;") < code.index(f"&layer{wide},") < code.index("return 2;")


def sections(path):
    """Bytes of an object file's sections, by their names."""
    lines = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {parts[0]: int(parts[1]) for parts in map(str.split, lines) if len(parts) == 3 and parts[1].isdigit()}


@pytest.mark.parametrize("name", ["conv", "mobile"])
def test_static_memory_is_what_was_planned_and_constants_are_what_flash_counts(name, tmp_path):
    architecture = small(name, 4)
    calibration = normal(8, *architecture.input_shape)
    program = to_program(architecture, alive(architecture, calibration), "int8", calibration)
    write(program, tmp_path)
    cc(tmp_path, *STRICT, "-Os", "-c", "network.c", "weights.c", "kernels.c")
    network, weights, kernels = (sections(tmp_path / f"{part}.o") for part in ("network", "weights", "kernels"))
    assert program.ram_bytes == program.planned_bytes
    assert network[".bss"] == pytest.approx(program.planned_bytes, abs=32)
    assert program.flash_bytes <= weights[".rodata"] < program.flash_bytes + 4
    for one in (network, weights, kernels):
        assert one.get(".data", 0) == 0
    assert kernels.get(".bss", 0) == weights.get(".bss", 0) == 0


def test_nothing_is_allocated(tmp_path):
    architecture = small("mlp", 8)
    calibration = normal(8, *architecture.input_shape)
    write(to_program(architecture, alive(architecture, calibration), "int8", calibration), tmp_path)
    for name in ("network.c", "weights.c", "kernels.c"):
        assert not re.search(r"alloc|\bfree\b|stdlib", (tmp_path / name).read_text())


def test_a_record_that_ends_early_is_an_error(compiled):
    architecture = small("mlp", 8)
    calibration = normal(8, *architecture.input_shape)
    path = compiled(to_program(architecture, alive(architecture, calibration), "int8", calibration))
    done = subprocess.run([path], input=b"\0" * (12 * 4 + 8), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"expected records of 12 values; the last one has 2\n")
    assert len(done.stdout.splitlines()) == 1


def test_a_layer_of_one_bit_on_signs_counts_what_agrees(compiled):
    """A sum of products of signs is a count, and its sign is that of the network: a bias of half a unit counts too."""
    graph = GraphBuilder((16,), bits=1)
    x = graph.activation(graph.norm(graph.linear(0, 8, weight_bits=1)), bits=1)
    graph.linear(x, 3, weight_bits=1, bias=True)
    architecture = graph.architecture("example", {})
    network = shaken(architecture, normal(64, 16))
    program = to_program(architecture, network, "int8", normal(64, 16))
    records = normal(500, 16, seed=1)
    with torch.no_grad():
        wanted = network(records).numpy()
    np.testing.assert_allclose(printed(compiled(program), records.numpy()), wanted, rtol=0, atol=0.01)
