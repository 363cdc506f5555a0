from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from estimators.cost import flash_kib
from estimators.cost import peak_ram_kib
from estimators.devices.files import load_device
from nas.base import plugins
from nas.defences.confidence_rounding import RoundedConfidences
from nas.deploy.c99.program import STORAGE
from nas.deploy.c99.program import to_program
from nas.deploy.c99.reference import answers
from nas.deploy.c99.writing import sources
from nas.deploy.deployed import computed
from nas.deploy.judging import agreement
from nas.deploy.onnx_file import own_precision
from nas.spaces import sample
from nas.training.answers import answering
from search_spaces.graph import operators
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.c_sources import in_precision
from tests.networks import alive
from tests.networks import everything
from tests.networks import normal
from tests.networks import written

SPACES = plugins.available("search_spaces", "make_space")
KIB = 1024


def random_point(name, seed):
    shape = (20,) if name == "mlp" else (3, 8, 8)
    space = plugins.load("search_spaces", name, "make_space")(shape, 10)
    return space.decode(sample(space.distributions, np.random.default_rng(seed)))


def programmed(architecture, precision="int8", records=8):
    calibration = normal(records, *architecture.input_shape)
    return to_program(architecture, build(architecture).eval(), precision, calibration)


def overlapping(program):
    """Pairs of tensors that share a byte although one is written while the other is still to be read."""
    first, last = {0: 0}, {0: 0}
    for number, step in enumerate(program.steps):
        first[step.output] = number
        for tensor in (step.output, *(program.tensors[one].holder for one in step.inputs)):
            last[tensor] = number
    last[program.tensors[program.outputs[-1]].holder] = len(program.steps)
    ends = {one: program.tensors[one].offset + program.tensors[one].size for one in first}
    return [
        (one, other)
        for one in first
        for other in first
        if one < other
        and first[one] <= last[other]
        and first[other] <= last[one]
        and program.tensors[one].offset < ends[other]
        and program.tensors[other].offset < ends[one]
    ]


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=5, derandomize=True, deadline=None)
@given(seed=st.integers(0, 1000))
def test_random_points_of_every_space_take_the_memory_that_is_priced(name, seed):
    architecture = random_point(name, seed)
    own = own_precision(architecture)
    for precision in {own, "int8"}:
        program = programmed(architecture, precision)
        assert overlapping(program) == []
        assert (
            program.ram_bytes
            == program.planned_bytes
            == max(tensor.offset + tensor.size for tensor in program.tensors.values())
        )
        priced = computed(architecture, precision)
        # A price counts 8 bits for all that was in float; logits stay in float.
        more = 3 * architecture.num_classes if precision != own else 0
        assert 0 <= program.ram_bytes - peak_ram_kib.estimate(priced, STORAGE).value * KIB <= more
        assert program.flash_bytes == pytest.approx(flash_kib.estimate(priced, STORAGE).value * KIB)


@pytest.mark.parametrize("name", SPACES)
def test_what_is_stored_of_the_weights_is_what_is_counted(name):
    program = programmed(random_point(name, 3), "int8")
    stored = 0
    for step in program.steps:
        weights = step.weights
        arrays = [] if weights is None else [weights.packed, weights.multiplier, weights.whole_bias, weights.bias]
        arrays += [one for stage in step.stages for one in (stage.gain, stage.shift)]
        stored += sum(array.nbytes for array in arrays if array is not None)
    assert stored == program.flash_bytes


def without_engine(device):
    """A device whose engine takes nothing beside the network."""
    memory = replace(device.memory, ram_kib_per_kernel=0.0, flash_kib_per_kernel=0.0, scratch_kib=0.0)
    return replace(device, engine_ram_kib=0.0, engine_flash_kib=0.0, memory=memory)


@pytest.mark.parametrize("name", ["conv", "ds_cnn", "mobile", "resnet"])
def test_a_shipped_board_that_stores_alike_predicts_the_memory_within_five_percent(name):
    space = plugins.load("search_spaces", name, "make_space")((3, 32, 32), 10)
    architecture = in_precision(space.decode(space.reference), 8)
    program, board = programmed(architecture, records=1), without_engine(load_device("stm32g0b1"))
    assert program.ram_bytes == pytest.approx(peak_ram_kib.estimate(architecture, board).value * KIB, rel=0.05)
    assert program.flash_bytes == pytest.approx(flash_kib.estimate(architecture, board).value * KIB, rel=0.05)


@pytest.mark.parametrize("zeros", ["first", "second", "both"])
def test_sums_with_zeros_take_no_memory_and_no_time(zeros):
    graph = GraphBuilder((4, 6, 6))
    x = graph.activation(graph.norm(graph.conv(0, 4)))
    nothing = graph.zero(graph.activation(graph.conv(x, 4)))
    pair = {"first": (nothing, x), "second": (x, nothing), "both": (nothing, nothing)}[zeros]
    graph.linear(graph.flatten(graph.activation(graph.add(*pair), "hardswish")), 3, bias=True)
    architecture, records = graph.architecture("example", {}), normal(40, 4, 6, 6)
    network = build(architecture).eval()
    for precision in ("float32", "int8"):
        program = to_program(architecture, network, precision, records)
        kinds = [step.op.kind for step in program.steps]
        assert kinds == ["zero" if zeros == "both" else "conv", "linear"]
        assert agreement(lambda given, program=program: answers(program, given), network, records) == 1


def test_the_reference_answers_in_the_place_of_a_file():
    architecture, records = written(everything), normal(64, 2, 6, 6)
    network = alive(architecture, records)
    program = to_program(architecture, network, "int8", records)
    assert agreement(lambda given: answers(program, given), network, records) > 0.9
    assert_array_equal(answers(program, records.numpy())[3:5], answers(program, records.numpy()[3:5]))


def test_what_has_no_rule_is_refused_in_one_line(monkeypatch):
    records = normal(4, 2, 6, 6)
    architecture = written(everything)
    with pytest.raises(
        ValueError, match=r"^expected a network in eval mode; got one in train mode: call \.eval\(\) first$"
    ):
        to_program(architecture, build(architecture), "int8", records)
    coarse = answering(build(architecture).eval(), RoundedConfidences(2))
    with pytest.raises(
        ValueError, match=r"^the answers of this network's defence cannot be written in C99: RoundedConf"
    ):
        to_program(architecture, coarse, "int8", records)
    rules = dict(operators.OPERATORS) | {"shuffle": operators.Kind("elements")}
    monkeypatch.setattr(operators, "OPERATORS", rules)
    odd = architecture.rewired((*architecture.ops[:-1], architecture.ops[-1]._replace(kind="shuffle")), (0,))
    with pytest.raises(ValueError, match=r"^no rule for the operator 'shuffle' in C99; there are "):
        to_program(odd, build(architecture).eval(), "int8", records)


def test_sums_beyond_32_bits_are_refused():
    architecture = written(lambda graph: graph.linear(0, 1, weight_bits=8), (150_000,), bits=8)
    network = build(architecture).eval()
    with torch.no_grad():
        network.op1_linear.weight.fill_(1.0)
    with pytest.raises(
        ValueError, match=r"^expected sums of 32 bits for C99; those of op1_linear may reach 2,438,400,000$"
    ):
        to_program(architecture, network, "int8", torch.ones(2, 150_000))


def test_weights_that_are_not_finite_are_refused():
    architecture = written(lambda graph: graph.linear(graph.flatten(0), 3, bias=True))
    network = build(architecture).eval()
    with torch.no_grad():
        network.op2_linear.bias[0] = torch.inf
    with pytest.raises(ValueError, match=r"^expected finite weights and steps to write as C99; got inf$"):
        sources(to_program(architecture, network, "float32", normal(4, 2, 6, 6)))
