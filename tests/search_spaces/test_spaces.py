"""Conformance of every search space found in its folder, on points drawn from its own distributions."""

import functools
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from estimators.cost import macs
from estimators.cost import params
from estimators.devices.files import load_device
from nas.base.plugins import available
from nas.base.plugins import load
from search_spaces import conv
from search_spaces import mlp
from search_spaces.checking import check_space
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import HALF
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import precision_of
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import half
from search_spaces.layers.quantize import quantize_weight
from search_spaces.layers.quantize import quantized
from search_spaces.network import build
from search_spaces.space import SearchSpace

CLASSES = 5
DEEP = 20
"""Layers with weights that a network of few bits learns through in a few steps."""
SHAPES = ((1, 8, 8), (3, 13, 7), (3, 1, 24), (20,))
WEIGHT_LEVELS = {8: 255, 4: 15, 3: 8, 2: 4, "ternary": 3, 1: 2}


def accepts(make_space, shape):
    try:
        make_space(shape, CLASSES)
    except ValueError:
        return False
    return True


# Beside what ships, a space of networks with several outputs.
NAMES = [*available("search_spaces", "make_space"), "tests.two_exits"]
MAKERS = {name: load("search_spaces", name, "make_space") for name in NAMES}
SPACES = [make(shape, CLASSES) for make in MAKERS.values() for shape in SHAPES if accepts(make, shape)]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{space.input_shape}")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are no faster on more threads, and much slower where those are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def examples(count, **more):
    return settings(max_examples=count, derandomize=True, deadline=None, **more)


def values_of(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


def points_of(space):
    return st.fixed_dictionaries({name: st.sampled_from(values_of(d)) for name, d in space.distributions.items()})


def records(space, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *space.input_shape, generator=generator)


def labels(count):
    return torch.arange(count) % CLASSES


@functools.cache
def device():
    return load_device("stm32h747")


def parameters_by_operator(network):
    """Count parameters of each operator; a quantiser's step is no weight of the deployed network."""
    counts = {}
    for name, parameter in network.named_parameters():
        if not name.endswith("log_step"):
            index = int(name.split("_")[0].removeprefix("op"))
            counts[index] = counts.get(index, 0) + parameter.numel()
    return counts


def described_by_operator(architecture):
    """The same from the graph, written out without the library's own counting."""
    counts = {}
    for index, op in enumerate(architecture.ops):
        window = op.kernel[0] * op.kernel[1]
        if op.kind == "conv":
            counts[index] = op.shape[0] * architecture.ops[op.inputs[0]].shape[0] // op.groups * window
        elif op.kind == "depthwise":
            counts[index] = op.shape[0] * window
        elif op.kind == "linear":
            counts[index] = op.shape[0] * architecture.ops[op.inputs[0]].shape[0]
        elif op.kind == "norm":
            counts[index] = 2 * op.shape[0]
        if op.bias:
            counts[index] += op.shape[0]
    return counts


def exits_of(network, batch):
    """The logits of each output."""
    answers = network(batch)
    return answers if isinstance(answers, tuple) else (answers,)


def counted_macs(network, batch):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(batch)
    flops, odd = divmod(counter.get_total_flops(), 2 * len(batch))
    assert not odd
    return flops


def test_spaces_are_found():
    assert set(MAKERS) >= {"conv", "mlp"}
    assert {space.name for space in SPACES} == set(MAKERS)


@every_space
@examples(25)
@given(data=st.data())
def test_description_and_network_agree(space, data):
    architecture = space.decode(data.draw(points_of(space)))
    batch = records(space, 2)
    for described in (architecture, architecture.as_float()):
        network = build(described).eval()
        assert parameters_by_operator(network) == described_by_operator(described)
        assert counted_macs(network, batch) == macs.estimate(described, device()).value
        assert sum(described_by_operator(described).values()) == params.estimate(described, device()).value
        answers = exits_of(network, batch)
        assert len(answers) == len(described.outputs)
        for logits, output in zip(answers, described.outputs, strict=True):
            assert logits.shape == (2, CLASSES) == (2, described.num_classes) == (2, *described.ops[output].shape)
            assert logits.isfinite().all()
    assert (architecture.space, architecture.input_shape) == (space.name, space.input_shape)


@every_space
@examples(10)
@given(data=st.data())
def test_every_tensor_and_weight_has_the_levels_of_its_bits(space, data):
    architecture = space.decode(data.draw(points_of(space)))
    network, tensors = build(architecture), {}
    for name, module in network.named_children():  # an operator's last module, its quantiser, is noted last
        index = int(name.split("_")[0].removeprefix("op"))
        module.register_forward_hook(lambda _module, _inputs, output, index=index: tensors.update({index: output}))
        if getattr(module, "weight_bits", 32) < 32:
            assert module.weight_bits == architecture.ops[index].weight_bits
            if module.weight_bits == HALF:
                assert architecture.ops[index].weight_format == module.weight_format
                rounded = half(module.weight, module.weight_format)
                assert torch.equal(rounded, half(rounded, module.weight_format))
                continue
            levels, scale = quantized(module)
            channels = levels.flatten(1)
            precision = precision_of(module.weight_bits, module.weight_format)
            assert max(len(channel.unique()) for channel in channels) <= WEIGHT_LEVELS[precision]
            weight = (levels * scale).detach()
            again, scale_again = quantize_weight(weight, module.weight_bits, module.weight_format)
            torch.testing.assert_close(again * scale_again, weight)  # quantising is idempotent
    network(records(space, 16))
    for index, op in enumerate(architecture.ops):
        assert tensors[index].shape[1:] == op.shape
        if op.bits < 32:
            assert len(tensors[index].unique()) <= 2**op.bits
        if op.weight_bits < 32:
            assert network.get_submodule(f"op{index}_{op.kind}").weight_bits == op.weight_bits


@every_space
# Three in four cells of NAS-Bench-201 have an edge of zeros.
@examples(10, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_training_reaches_every_parameter_and_lowers_the_loss(space, data):
    architecture = space.decode(data.draw(points_of(space)))
    # Zeros let no gradient through, and what nobody reads gets none.
    assume(not architecture.has_dead_ops)
    network = build(architecture, seed=1)
    batch, classes = records(space, 32), labels(32)

    def loss_of(network):
        return sum(functional.cross_entropy(logits, classes) for logits in exits_of(network, batch))

    loss_of(network).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    # Fifteen steps on noise teach nothing to dozens of layers that all round to few bits: there the float form learns.
    is_deep = sum(op.kind in WEIGHTED for op in architecture.ops) > DEEP
    if is_deep:
        network = build(architecture.as_float(), seed=1)
    is_normed = any(op.kind == "norm" for op in architecture.ops)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01 if is_normed and not is_deep else 0.002)
    losses = []
    for _ in range(15):
        loss = loss_of(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@every_space
@examples(5)
@given(data=st.data())
def test_same_seed_same_network(space, data):
    point = data.draw(points_of(space))
    first, second = (build(space.decode(point), seed=3).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_space
def test_it_passes_the_check_that_users_run(space):
    check_space(space)


@every_space
def test_every_precision_appears(space):
    weights, tensors = set(), set()

    @examples(60)
    @given(points_of(space))
    def collect(point):
        ops = space.decode(point).ops
        weights.update(precision_of(op.weight_bits, op.weight_format) for op in ops)
        tensors.update(precision_of(op.bits, op.format) for op in ops if op.kind == "activation")

    collect()
    has_bits = any(name.endswith("_bits") for name in space.distributions)
    assert weights == (set(WEIGHTS) if has_bits else {32})
    assert tensors == (set(TENSORS) if has_bits else {32})


@every_space
@examples(40)
@given(data=st.data())
def test_a_sum_reads_one_tensor_of_few_bits_at_most(space, data):
    # The input of a residual block may have few; two on different scales would be lost in their rounding.
    ops = space.decode(data.draw(points_of(space))).ops
    for op in ops:
        if op.kind == "add":
            assert max(ops[source].bits for source in op.inputs) >= 8


@pytest.mark.parametrize("name", available("search_spaces", "make_space"))
def test_windows_on_a_signal_are_one_high(name):
    if not accepts(MAKERS[name], (3, 1, 24)):
        pytest.skip("takes no signals")
    space = MAKERS[name]((3, 1, 24), CLASSES)

    @examples(40)
    @given(points_of(space))
    def check(point):
        for op in space.decode(point).ops:
            assert (op.kernel[0], op.stride[0], op.padding[0]) == (1, 1, 0)

    check()


@every_space
def test_strangers_are_refused_all_named_together(space):
    name, other, *_ = sorted(space.distributions)
    point = dict(space.reference) | {"stranger": 1, other: "unheard of"}
    del point[name]
    with pytest.raises(ValueError, match="not a point of the space") as caught:
        space.decode(point)
    for part in ("no parameter 'stranger'", f"{name!r} is missing", f"{other}='unheard of', expected"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@every_space
def test_a_number_of_another_type_is_refused(space):
    for name, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            continue
        low, high = distribution.low, distribution.high
        for wrong in (True, 1.0, None, 2.5, "1", low - 1, high + 1):
            with pytest.raises(ValueError, match=rf"{name}={wrong!r}, expected {low} to {high}"):
                space.decode(dict(space.reference) | {name: wrong})


@every_space
def test_equal_choices_of_another_type_are_refused(space):
    # 1 == 1.0 == True, but a study would record another value than the one it sampled.
    choices = {name: d.choices[0] for name, d in space.distributions.items() if isinstance(d, CategoricalDistribution)}
    for name, choice in choices.items():
        if not isinstance(choice, str):
            other = int(choice) if isinstance(choice, bool) else float(choice)
            with pytest.raises(ValueError, match=f"{name}={other!r}, expected one of"):
                space.decode(dict(space.reference) | {name: other})


@every_space
def test_a_value_without_a_hash_is_refused(space):
    name = next(iter(space.distributions))
    with pytest.raises(ValueError, match=rf"{name}=\[1\], expected"):
        space.decode(dict(space.reference) | {name: [1]})


def test_values_too_many_to_be_listed_are_compared_with_their_range():
    space = mlp.make_space((8,), 3)
    ranges = {"rate": FloatDistribution(0.0, 1.0), "count": IntDistribution(0, 10**9, step=10)}
    wide = replace(space, distributions={**space.distributions, **ranges})
    point = {**space.reference, "rate": 0.5, "count": 10**9}
    assert wide.decode(point).ops == space.decode(space.reference).ops
    for wrong in ({"rate": 1.5}, {"count": 10**9 - 1}, {"count": 20.0}):
        with pytest.raises(ValueError, match="not a point of the space"):
            wide.decode(point | wrong)


@every_space
def test_the_reference_is_a_float_point_no_dearer_than_most(space):
    reference = space.decode(space.reference)
    assert reference.as_float().key == reference.key
    costs = []

    @examples(40)
    @given(points_of(space))
    def collect(point):
        costs.append(macs.estimate(space.decode(point), device()).value)

    collect()
    assert 0 < macs.estimate(reference, device()).value < sum(costs) / len(costs)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (1, 0, 4), (1, 2, 3, 4)])
def test_shapes_that_no_space_takes_are_refused(name, shape):
    with pytest.raises(ValueError, match=rf"for the space '{name}'; got shape \({', '.join(map(str, shape))}"):
        MAKERS[name](shape, CLASSES)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{space.input_shape}")
def test_one_class_is_refused(space):
    with pytest.raises(ValueError, match="expected two classes or more; got 1"):
        MAKERS[space.name](space.input_shape, 1)


def test_conv_refuses_vectors():
    with pytest.raises(
        ValueError, match=r"expected images \(channels, height, width\) for the space 'conv'; got shape \(9,\)"
    ):
        conv.make_space((9,), CLASSES)


# --- what the conv space promises in its docstring -------------------------------------------------------------------


def conv_network(shape=(3, 16, 16), **changed):
    space = conv.make_space(shape, CLASSES)
    return space.decode(dict(space.reference) | changed)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 40), (1, 8, 8), (3, 64, 64)])
@pytest.mark.parametrize("head", ["avg", "max", "flatten"])
def test_strides_never_halve_an_axis_below_two(shape, head):
    changed = {f"block{block}_stride": 2 for block in range(1, 5)}
    ops = conv_network(shape, depth=4, stem_stride=2, head=head, **changed).ops
    for axis in (1, 2):
        lengths = [op.shape[axis] for op in ops if op.kind in ("input", "conv")]
        assert min(lengths) >= min(2, shape[axis])
        expected = shape[axis]
        for _ in range(5):
            expected = (expected + 1) // 2 if expected >= 4 else expected
        assert lengths[-1] == expected
    assert ops[-2].size <= 16 * 16


MIXED = {"depth": 3, "block1_kind": "separable", "block2_kind": "inverted", "block3_kernel": 5}
KEYS = {
    (1, 8, 8): ("8f10378b5b525d26", "1b2d7da7ec740788"),
    (3, 32, 32): ("bf1537f68db9c031", "50313799bff625a1"),
    (3, 2, 40): ("577b8c6d0e03597a", "e847c4764c528a4f"),
    (2, 2, 1): ("f57172b6d154d484", "0c3d3af7df73058d"),
}


@pytest.mark.parametrize("shape", KEYS)
def test_networks_for_images_keep_their_keys(shape):
    # Runs of earlier versions find their weights by them.
    assert (conv_network(shape).key, conv_network(shape, **MIXED).key) == KEYS[shape]


def test_windows_on_a_signal_run_along_time_alone():
    for kind in ("plain", "separable", "inverted"):
        blocks = {f"block{block}_{name}": value for block in (1, 2) for name, value in (("kind", kind), ("kernel", 5))}
        network = conv_network((9, 1, 128), stem_width=8, stem_stride=2, block1_residual=True, **blocks)
        windows = [op for op in network.ops if op.kind in ("conv", "depthwise") and op.kernel != (1, 1)]
        assert [(op.kernel, op.padding) for op in windows] == [((1, 3), (0, 1)), *[((1, 5), (0, 2))] * 2]
        assert [op.stride for op in windows] == [(1, 2)] * 3
        assert [op.shape[1:] for op in windows] == [(1, 64), (1, 32), (1, 16)]
    # Nine channels to eight, three steps: a square window would hold three times as many weights, of which two thirds
    # would only ever see padding.
    assert network.kernels[0].weights == 9 * 8 * 3


@pytest.mark.parametrize("kind", ["plain", "separable", "inverted"])
@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_a_sum_reads_eight_bits_and_what_follows_it_has_few(kind, bits):
    block = {"block1_kind": kind, "block1_residual": True, "block1_activation_bits": bits}
    ops = conv_network(depth=1, **block).ops
    (addition,) = (index for index, op in enumerate(ops) if op.kind == "add")
    assert [ops[source].bits for source in ops[addition].inputs] == [8, 8]
    assert (ops[addition + 1].kind, ops[addition + 1].bits) == ("activation", bits)


def test_a_residual_block_of_equal_shapes_adds_its_input_itself():
    same = {"block1_stride": 1, "block1_width": 16}
    plain, residual = (conv_network(depth=1, block1_residual=flag, **same) for flag in (False, True))
    assert sum(op.kind == "conv" for op in plain.ops) == sum(op.kind == "conv" for op in residual.ops) == 2
    (addition,) = (op for op in residual.ops if op.kind == "add")
    assert residual.ops[addition.inputs[1]].kind == "activation"


def test_block_kinds_by_hand():
    # From 16 channels at 16x16 to 24 at 8x8, kernel 5, expansion 4.
    changed = {"depth": 1, "expansion": 4, "block1_width": 24, "block1_kernel": 5}
    expected = {
        "plain": [("conv", 24 * 16 * 25)],
        "separable": [("depthwise", 16 * 25), ("pointwise", 24 * 16)],
        "inverted": [("pointwise", 64 * 16), ("depthwise", 64 * 25), ("pointwise", 24 * 64)],
    }
    for kind, weighted in expected.items():
        network = conv_network(block1_kind=kind, **changed)
        kernels = network.kernels[1:-3]
        assert [(kernel.kind, kernel.weights) for kernel in kernels] == weighted
        functions = [network.ops[kernel.output].function for kernel in kernels]
        assert (
            functions == {"plain": ["relu"], "separable": ["relu"] * 2, "inverted": ["relu", "relu", "identity"]}[kind]
        )


def test_first_and_last_layer_keep_their_own_bits():
    few = {f"block{block}_{what}": 1 for block in range(1, 5) for what in ("weight_bits", "activation_bits")}
    ops = conv_network(depth=2, first_bits=8, last_bits=8, **few).ops
    weighted = [op.weight_bits for op in ops if op.kind in ("conv", "linear")]
    assert (ops[0].bits, weighted) == (8, [8, 1, 1, 8])
    float_ends = conv_network(depth=2, **few).ops
    assert (float_ends[0].bits, float_ends[1].weight_bits, float_ends[-1].weight_bits) == (32, 32, 32)


@pytest.mark.parametrize("first_bits", WEIGHTS)
def test_an_mlps_first_layer_has_its_own_bits_and_reads_eight(first_bits):
    space = mlp.make_space((20,), CLASSES)
    few = {name: 2 for name in space.distributions if name.endswith(("_weight_bits", "_activation_bits"))}
    ops = space.decode(dict(space.reference) | few | {"first_bits": first_bits, "depth": 2, "last_bits": 8}).ops
    weights = [precision_of(op.weight_bits, op.weight_format) for op in ops if op.kind == "linear"]
    assert weights == [first_bits, 2, 8]
    assert ops[0].bits == (32 if first_bits in (32, "bf16", "fp16") else 8)


@pytest.mark.parametrize("norm", [False, True])
def test_an_mlps_norm_takes_the_place_of_biases(norm):
    space = mlp.make_space((20,), CLASSES)
    ops = space.decode(dict(space.reference) | {"norm": norm}).ops
    assert [op.bias for op in ops if op.kind == "linear"] == [not norm, True]
    assert any(op.kind == "norm" for op in ops) == norm


def test_the_range_reaches_every_quantiser():
    bits = {f"block1_{what}": 4 for what in ("weight_bits", "activation_bits")}
    block = {"block1_kind": "inverted", "block1_residual": True, **bits}
    network = build(conv_network(depth=1, range="learned", first_bits=8, **block))
    ranges = [module.range for module in network.modules() if isinstance(module, ActivationQuantizer)]
    # The records; then the stem, two inside the block, the branch, its projection, the sum, the average.
    assert ranges == ["tracked", *["learned"] * 7]


def test_spaces_can_travel_to_a_worker():
    for space in SPACES:
        copy = pickle.loads(pickle.dumps(space))
        assert isinstance(copy, SearchSpace)
        assert copy.decode(space.reference).key == space.decode(space.reference).key
