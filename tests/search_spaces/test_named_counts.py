"""Networks that spaces name: their graphs have the published counts, and each of them is built and answers."""

from importlib import import_module
from typing import NamedTuple

import pytest
import torch

from estimators.cost import macs
from estimators.cost import params
from estimators.devices.files import load_device
from nas.base.plugins import available
from search_spaces import resnet
from search_spaces import squeeze
from search_spaces.network import build


class Counts(NamedTuple):
    """What one network must have.

    Attributes:
        macs: Multiply-accumulates of one record.
        params: Weights, biases, and two numbers for each channel of a batch norm.
        not_counted: What the published number of parameters has beyond that: two statistics for each channel of a norm,
            and the biases that Keras puts before norms.
        published: The number of parameters that was published; 0 where the network is defined here.
    """

    macs: int
    params: int
    not_counted: int = 0
    published: int = 0


COUNTS = {
    # Dong and Yang (2020), the first of 15,625 cells.
    "nb201-0": Counts(15_647_360, 129_306, published=129_306),
    # He et al. (2016): 0.27 million parameters, shortcuts of option A. The 19 norms have 688 channels.
    "resnet20": Counts(40_551_040, 269_722, published=269_722),
    # Banbury et al. (2021). The 7 norms, over 16, 32 and 64 channels, have 240.
    "mlperf-resnet8": Counts(12_501_632, 77_946, not_counted=3 * 240, published=78_666),
    # The 9 norms have 64 channels each.
    "mlperf-ds-cnn": Counts(2_656_768, 23_180, not_counted=3 * 9 * 64, published=24_908),
    # Iandola et al. (2016), as torchvision states them: 0.35 billion MACs.
    "squeezenet-1.1": Counts(349_151_936, 1_235_496, published=1_235_496),
    # Duddu et al. (2020).
    "gecko-a1": Counts(
        288 * 26 * 26 + 288 * 64 * 24 * 24 + 64 * 12 * 12 * 128 + 128 * 10, 1_199_882, published=1_199_882
    ),
    # Layer by layer: weights times positions, then weights, norms and biases.
    "squeezenet-cifar": Counts(
        27 * 32 * 32**2
        + (32 * 16 + 16 * 32 * 10) * 16**2
        + (64 * 16 + 16 * 32 * 10) * 16**2
        + (64 * 32 + 32 * 64 * 10) * 8**2
        + (128 * 32 + 32 * 64 * 10) * 8**2
        + (128 * 48 + 48 * 96 * 10) * 4**2
        + (192 * 48 + 48 * 96 * 10) * 4**2
        + 192 * 10 * 4**2,
        (27 * 32 + 320 * 32 + 96 * 16 + 640 * 64 + 192 * 32 + 960 * 96 + 320 * 48 + 192 * 10)
        + 2 * (32 + 2 * 80 + 2 * 160 + 2 * 240)
        + 10,
    ),
    "vgg-cifar": Counts(
        27 * 16 * 32**2 + (144 * 32 + 288 * 32) * 16**2 + (288 * 64 + 576 * 64) * 8**2 + 64 * 4 * 4 * 128 + 128 * 10,
        (27 * 16 + 432 * 32 + 864 * 64 + 1024 * 128 + 128 * 10) + 2 * (16 + 2 * 32 + 2 * 64 + 128) + 10,
    ),
    "nin-cifar": Counts(
        (75 * 16 + 2 * 16 * 16) * 32**2
        + (144 * 32 + 2 * 32 * 32) * 16**2
        + (288 * 48 + 2 * 48 * 48) * 8**2
        + 48 * 10 * 8**2,
        (75 * 16 + 2 * 16 * 16 + 144 * 32 + 2 * 32 * 32 + 288 * 48 + 2 * 48 * 48 + 48 * 10)
        + 2 * (3 * 16 + 3 * 32 + 3 * 48)
        + 10,
    ),
    "alexnet-cifar": Counts(
        75 * 16 * 32**2 + 144 * 48 * 16**2 + (432 * 64 + 2 * 576 * 64) * 8**2 + 64 * 4 * 4 * 256 + 256 * 256 + 256 * 10,
        (75 * 16 + 144 * 48 + 432 * 64 + 2 * 576 * 64 + 1024 * 256 + 256 * 256 + 256 * 10)
        + (16 + 48 + 3 * 64 + 2 * 256 + 10),
    ),
}
NETWORKS = {
    name: (space, network)
    for space in available("search_spaces", "make_space")
    for name, network in getattr(import_module(f"search_spaces.{space}"), "NETWORKS", {}).items()
}
every_network = pytest.mark.parametrize("name", COUNTS)


def network_of(name, num_classes=None, **changed):
    space, named = NETWORKS[name]
    made = import_module(f"search_spaces.{space}").make_space(named.input_shape, num_classes or named.num_classes)
    return made.decode({**made.reference, **named.params, **changed})


def weights_kib(architecture):
    """Weights of one byte, and a bias of four bytes for each channel, as STM32Cube.AI stores them."""
    return sum(kernel.weights + 4 * kernel.channels for kernel in architecture.kernels) / 1024


@every_network
def test_named_networks_have_their_counts(name):
    architecture, counts = network_of(name), COUNTS[name]
    device = load_device("stm32h747")
    assert macs.estimate(architecture, device).value == counts.macs
    assert params.estimate(architecture, device).value == counts.params
    if counts.published:
        assert counts.params + counts.not_counted == counts.published
    assert architecture.as_float().key == architecture.key


@every_network
def test_named_networks_say_what_differs_from_the_reference_and_are_built(name):
    space, named = NETWORKS[name]
    made = import_module(f"search_spaces.{space}").make_space(named.input_shape, named.num_classes)
    assert named.params.keys() <= made.distributions.keys()
    assert named.source
    network = build(network_of(name), dropout=0.5).eval()
    with torch.inference_mode():
        logits = network(torch.randn(2, *named.input_shape, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, named.num_classes)
    assert logits.isfinite().all()


def test_int8_weights_take_the_flash_that_was_published():
    # STM32Cube.AI 9.1 reports for the networks of ST's model zoo, in KiB; its SqueezeNet has five classes.
    assert weights_kib(network_of("mlperf-resnet8")) == pytest.approx(76.90, abs=0.005)
    assert weights_kib(network_of("squeezenet-1.1", num_classes=5)) == pytest.approx(716.71, abs=0.005)


def test_squeezenet_with_padded_windows_has_the_operations_of_st():
    # MACs of 3x3 and of 1x1 windows in ST's network of five classes, whose maps are halved exactly.
    kernels = network_of("squeezenet-1.1", num_classes=5, padded=True).kernels
    found = [sum(kernel.macs for kernel in kernels if kernel.kind == kind) for kind in ("conv", "pointwise")]
    assert found == [227_598_336, 59_910_144]


def test_shortcuts_differ_by_what_they_hold():
    # Two projections, 16 to 32 channels and 32 to 64: 512 and 2,048 weights at 16x16 and 8x8 positions.
    device = load_device("stm32h747")
    expected = {"identity": (0, 0), "bare_projection": (2560, 32 + 64), "projection": (2560, 2 * (32 + 64))}
    for shortcut, (weights, others) in expected.items():
        network = network_of("resnet20", shortcut=shortcut)
        assert params.estimate(network, device).value == 269_722 + weights + others
        assert macs.estimate(network, device).value == 40_551_040 + (weights and 2 * 131_072)


def test_a_shortcut_without_weights_adds_zeros_to_the_channels_that_the_input_lacks():
    # The widening block, written with one convolution and zeros, gives what the graph with two gives.
    space = resnet.make_space((2, 8, 8), 3)
    point = {**space.reference, "stages": 2, "stem_width": 8, "stage1_stride": 1, "shortcut": "identity"}
    network = build(space.decode(point)).eval()
    ops = network.architecture.ops
    (joined,) = (index for index, op in enumerate(ops) if op.kind == "concat")
    added, alone = ops[joined].inputs
    tensors = {}
    for name, module in network.named_children():
        index = int(name.split("_")[0].removeprefix("op"))
        module.register_forward_hook(lambda _module, _inputs, output, index=index: tensors.update({index: output}))
    with torch.inference_mode():
        network(torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1)))
    norm, shortcut = ops[ops[added].inputs[0]].inputs
    other_norm = ops[alone].inputs[0]
    hidden = torch.cat([tensors[norm], tensors[other_norm]], dim=1)
    source = tensors[ops[shortcut].inputs[0]][:, :, ::2, ::2]
    padded = torch.cat([source, torch.zeros_like(source)], dim=1)
    torch.testing.assert_close(tensors[joined], (hidden + padded).relu())


def test_fire_modules_by_hand():
    space = squeeze.make_space((3, 32, 32), 10)
    network = space.decode({**space.reference, "modules": 3, "percent_3x3": 75, "squeeze_divisor": 2})
    widths = [op.shape[0] for op in network.ops if op.kind == "conv"]
    # A stem of 16, then squeeze, 1x1 and 3x3 of 32, 32 and 64 channels.
    assert widths == [16, *[16, 8, 24] * 2, 32, 16, 48]
    assert [op.shape[1:] for op in network.ops if op.kind == "concat"] == [(16, 16), (16, 16), (8, 8)]
