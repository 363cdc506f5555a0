"""Networks of MobileNet's families: the counts that others published, and what the docstring of the space promises."""

import numpy as np
import pytest

from estimators.cost import flash_kib
from estimators.cost import macs
from estimators.cost import params
from estimators.cost import peak_ram_kib
from estimators.devices.files import load_device
from nas.spaces import sample
from search_spaces import mobile
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import bits_and_format

CLASSES = 5
DEVICE = load_device("stm32h747")


def named(name, classes=None):
    found = mobile.NETWORKS[name]
    space = mobile.make_space(found.input_shape, classes or found.num_classes)
    return space.decode(dict(space.reference) | dict(found.params))


def network(shape=(3, 32, 32), **changed):
    space = mobile.make_space(shape, CLASSES)
    return space.decode(dict(space.reference) | changed)


def counts(architecture):
    return macs.estimate(architecture, DEVICE).value, params.estimate(architecture, DEVICE).value


def macs_by_kind(architecture):
    found = {}
    for kernel in architecture.kernels:
        if kernel.macs:
            found[kernel.kind] = found.get(kernel.kind, 0) + kernel.macs
    return found


def int8_kib(architecture):
    """Weights of one byte and biases of four, as TensorFlow Lite stores them."""
    return sum(kernel.weights + 4 * kernel.channels for kernel in architecture.kernels) / 1024


# --- published counts ------------------------------------------------------------------------------------------------


def test_mobilenet_v1_of_mlperf_tiny():
    # The inference rules of MLPerf Tiny give the MACs. ST's zoo has the network with five classes: 214.69 KiB.
    assert counts(named("mlperf-mobilenet-v1-025"))[0] == 7_489_664
    assert int8_kib(named("mlperf-mobilenet-v1-025", classes=5)) == pytest.approx(214.69, abs=0.005)


def test_mobilenet_v2():
    # ST's table of the STM32H747, row mobilenet_v2_0.35_128.
    narrow = named("mobilenet-v2-035")
    expected = {"conv": 1_769_472, "depthwise": 2_808_576, "pointwise": 14_362_624, "linear": 6_400}
    assert macs_by_kind(narrow) == expected
    assert int8_kib(narrow) == pytest.approx(406.86, abs=0.005)
    # PyTorch's torchvision.
    assert counts(named("mobilenet-v2")) == (300_774_272, 3_504_872)


def test_mobilenet_v3():
    found_macs, found_params = counts(named("mobilenet-v3-small"))
    assert found_params == 2_542_856
    assert found_macs == pytest.approx(56.5e6, abs=0.05e6)
    # By the paper's table, squeeze-and-excitation in nine of eleven layers, and hard swishes from the fourth on.
    ops = named("mobilenet-v3-small").ops
    assert sum(op.kind == "scale" for op in ops) == 9
    assert [op.function for op in ops if op.kind == "activation"].count("hardswish") == 1 + 2 * 8 + 2


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mcunet-in0", ("6.4", "0.75")),
        ("mcunet-in1", ("12.8", "0.64")),
        ("mcunet-in2", ("67.3", "0.73")),
        ("mcunet-in3", ("81.8", "0.74")),
        ("mcunet-in4", ("125.9", "1.73")),
    ],
)
def test_mcunet_has_the_macs_and_parameters_of_its_model_zoo(name, millions):
    found_macs, found_params = counts(named(name))
    assert (f"{found_macs / 1e6:.1f}", f"{found_params / 1e6:.2f}") == millions


# --- what the docstring promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "resolution", "reduced"),
    [
        ((3, 32, 32), 1, None),
        ((3, 32, 32), 0.5, (3, 16, 16)),
        ((3, 32, 32), 0.25, (3, 8, 8)),
        ((1, 28, 28), 0.5, (1, 14, 14)),
        ((3, 15, 17), 0.5, (3, 15, 8)),
        ((9, 1, 128), 0.25, (9, 1, 32)),
    ],
)
def test_the_resolution_averages_records_on_every_side_that_stays_long_enough(shape, resolution, reduced):
    first = network(shape, resolution=resolution).ops[1]
    assert (first.kind, first.shape) == (("conv", first.shape) if reduced is None else ("pool", reduced))
    if reduced:
        assert first.function == "avg"
        assert first.kernel == first.stride


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 8, 8), (1,)),
        ((3, 1, 24), (1, 0.5)),
        ((1, 28, 28), (1, 0.5)),
        ((3, 31, 9), (1, 0.5)),
        ((3, 96, 96), (1, 0.5, 0.25)),
    ],
)
def test_only_resolutions_that_differ_are_choices(shape, expected):
    assert mobile.make_space(shape, CLASSES).distributions["resolution"].choices == expected


def test_layers_by_hand():
    # The stem's 16 channels at 16x16 become 24, half as wide and high: 4.5 * 16 = 72 expanded, 3.5 * 24 = 84, rounded
    # to 88.
    changed = {"width_multiplier": 1, "stages": 1, "stage1_growth": 1.5, "stage1_layers": 3}
    found = network(**changed, stage1_layer1="e4.5k3", stage1_layer2="e1k7", stage1_layer3="e3.5k3")
    weighted = [(kernel.kind, kernel.weights) for kernel in found.kernels if kernel.macs][1:-1]
    assert weighted == [
        *[("pointwise", 72 * 16), ("depthwise", 72 * 9), ("pointwise", 24 * 72)],
        *[("depthwise", 24 * 49), ("pointwise", 24 * 24)],
        *[("pointwise", 88 * 24), ("depthwise", 88 * 9), ("pointwise", 24 * 88)],
    ]
    assert [op.shape for op in found.ops if op.kind == "add"] == [(24, 8, 8)] * 2


def test_a_separable_network_has_an_activation_where_an_inverted_one_has_a_sum():
    kinds = {}
    for block in ("inverted", "separable"):
        ops = network(block=block, stage1_layers=2, stage1_stride=1, stages=1, stage1_growth=1).ops
        kinds[block] = [op.kind for op in ops]
    assert (kinds["inverted"].count("add"), kinds["separable"].count("add")) == (2, 0)
    assert kinds["separable"].count("activation") == kinds["inverted"].count("activation") + 2


def test_what_is_skipped_is_nothing_or_one_pointwise_layer():
    stage = {"stages": 1, "stage1_layers": 4, **{f"stage1_layer{layer}": "skip" for layer in range(1, 5)}}
    same = network(**stage, stage1_growth=1, stage1_stride=1)
    assert [kernel.kind for kernel in same.kernels] == ["conv", "pool", "flatten", "linear"]
    changing = network(**stage)
    assert [kernel.kind for kernel in changing.kernels] == ["conv", "pointwise", "pool", "flatten", "linear"]
    assert changing.ops[changing.kernels[1].output].shape == (16, 8, 8)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 31), (3, 96, 96), (2, 1, 200)])
def test_strides_never_halve_an_axis_below_two(shape):
    strides = {f"stage{stage}_stride": 2 for stage in range(1, 8)}
    ops = network(shape, stages=7, **strides).ops
    for axis in (1, 2):
        lengths = [op.shape[axis] for op in ops if op.kind in ("conv", "depthwise")]
        assert min(lengths) == min(2, shape[axis])


def test_windows_on_a_signal_run_along_time_alone():
    ops = network((9, 1, 128), stages=1, stage1_layer1="e3k7", stage1_squeeze=True, resolution=0.5).ops
    windows = [(op.kind, op.kernel, op.padding) for op in ops if op.kernel != (1, 1)]
    assert windows == [
        ("pool", (1, 2), (0, 0)),
        ("conv", (1, 3), (0, 1)),
        ("depthwise", (1, 7), (0, 3)),
        ("pool", (1, 16), (0, 0)),  # of squeeze-and-excitation, then of the head
        ("pool", (1, 16), (0, 0)),
    ]


def test_squeeze_scales_the_filtered_channels_by_what_follows_from_a_quarter_as_many_features():
    # 8 channels, 48 expanded; a quarter, 12, rounded to 16.
    bits = {"stage1_weight_bits": "ternary", "stage1_activation_bits": 4}
    ops = network(stages=1, stage1_layer1="e6k3", stage1_squeeze=True, range="learned", **bits).ops
    (scale,) = (op for op in ops if op.kind == "scale")
    source, factors = (ops[index] for index in scale.inputs)
    assert (source.kind, source.shape, source.bits) == ("activation", (48, 8, 8), 8)
    assert (factors.function, factors.shape, factors.bits) == ("hardsigmoid", (48, 1, 1), 8)
    assert (scale.bits, scale.range) == (4, "learned")
    reducing, expanding = (op for op in ops if op.kind == "conv" and op.bias)
    assert (reducing.shape, expanding.shape) == ((16, 1, 1), (48, 1, 1))
    assert {(op.weight_bits, op.weight_format) for op in (reducing, expanding)} == {(2, "ternary")}


def test_factors_do_not_change_signs_so_squeeze_is_ignored_there():
    keys = {squeeze: network(stage1_activation_bits=1, stage1_squeeze=squeeze).key for squeeze in (False, True)}
    assert keys[False] == keys[True]


@pytest.mark.parametrize("bits", TENSORS)
@pytest.mark.parametrize("block", ["inverted", "separable"])
def test_what_is_added_or_scaled_keeps_eight_bits(bits, block):
    stages = {f"stage{stage}_activation_bits": bits for stage in (1, 2)}
    ops = network(block=block, stage1_layers=3, stage1_squeeze=True, **stages, first_bits=8).ops
    expected = max(bits_and_format(bits)[0], 8)
    for op in ops:
        if op.kind in ("add", "scale"):
            assert {ops[source].bits for source in op.inputs} == {expected}
    # What a layer reads through its window or projects has the stage's own width.
    read = {ops[op.inputs[0]].bits for op in ops if op.kind == "depthwise"}
    assert read == {bits_and_format(bits)[0]}


def test_the_swish_starts_at_its_stage_and_stands_at_both_ends():
    def functions(start):
        ops = network(stages=3, hardswish_from=start, head_width=64, activation="relu6").ops
        return [op.function for op in ops if op.kind == "activation"]

    # The stem, two of each of three stages, the head.
    assert functions(2) == ["hardswish", *["relu6"] * 2, *["hardswish"] * 5]
    assert functions(4) == ["relu6"] * 8


def test_first_and_last_layer_keep_their_own_bits_and_the_head_has_those_of_the_last_stage():
    few = {f"stage{stage}_{what}": 2 for stage in (1, 2) for what in ("weight_bits", "activation_bits")}
    ops = network(first_bits=8, last_bits=8, head_width=64, hidden_width=128, **few).ops
    assert ops[0].bits == 8
    weights = [op.weight_bits for op in ops if op.kind in ("conv", "depthwise", "linear")]
    assert weights == [8, *[2] * 6, 2, 2, 8]


@pytest.mark.parametrize("shape", [(20,), (3, 7, 32), (3, 32, 7), (3, 1, 7), (3, 2, 40)])
def test_vectors_and_small_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"sides of 8 or more, or signals .* for the space 'mobile'; got shape"):
        mobile.make_space(shape, CLASSES)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_half_of_all_points_fit_a_microcontroller(shape):
    space, generator = mobile.make_space(shape, 10), np.random.default_rng(0)
    points = [space.describe(sample(space.distributions, generator)) for _ in range(200)]
    fitting = [
        peak_ram_kib.estimate(point, DEVICE).value <= 256 and flash_kib.estimate(point, DEVICE).value <= 1024
        for point in points
    ]
    assert sum(fitting) >= len(points) / 2


# --- names of layers, by which networks share weights ----------------------------------------------------------------


def names_of(**changed):
    return mobile.layer_names(network(**changed))


def test_a_layer_is_named_after_its_place_and_what_it_does():
    assert names_of(stages=1, stage1_layers=2, stage1_squeeze=True, stage1_layer2="e1k5", head_width=64) == (
        "inverted.stem.conv",
        *(f"inverted.stage1.layer1.{role}" for role in ("expand", "filter", "squeeze", "factor", "project")),
        *(f"inverted.stage1.layer2.{role}" for role in ("filter", "squeeze", "factor", "project")),
        "head top.conv",
        "head classifier of top.linear",
    )


def test_a_layer_that_is_left_out_takes_no_name_from_others():
    common = {"stages": 2, "stage2_layers": 3, "stage1_layers": 1}
    whole, less = names_of(**common), names_of(**common, stage2_layer2="skip", stage1_layer1="skip")
    assert [name for name in whole if name not in less] == [
        *(f"inverted.stage1.layer1.{role}" for role in ("expand", "filter", "project")),
        *(f"inverted.stage2.layer2.{role}" for role in ("expand", "filter", "project")),
    ]
    assert [name for name in less if name not in whole] == ["inverted.stage1.layer1.conv"]  # its shape changes


def test_what_reads_another_kind_of_layer_has_another_name_and_so_has_another_block():
    ends = [
        names_of(stages=stages, head_width=head, hidden_width=hidden)[-1]
        for stages, head, hidden in ((1, 0, 0), (2, 0, 0), (2, 64, 0), (3, 64, 0), (3, 64, 128))
    ]
    read = ["stages", "stages", "top", "top", "hidden"]
    assert ends == [f"head classifier of {one}.linear" for one in read]
    assert names_of(hidden_width=128)[-2] == "head hidden of stages.linear"
    assert names_of(hidden_width=128, head_width=64)[-2] == "head hidden of top.linear"
    assert set(names_of()) & set(names_of(block="separable")) == {"head classifier of stages.linear"}


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 64)])
def test_every_layer_of_a_network_has_one_name(shape):
    space, rng = mobile.make_space(shape, CLASSES), np.random.default_rng(0)
    for _ in range(100):
        architecture = space.decode(sample(space.distributions, rng))
        names = mobile.layer_names(architecture)
        assert len(names) == len(set(names)) == sum(op.kind in WEIGHTED for op in architecture.ops)
