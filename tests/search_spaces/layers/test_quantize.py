import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import functional

from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.layers.quantize import HalfRounding
from search_spaces.layers.quantize import QuantConv2d
from search_spaces.layers.quantize import QuantLinear
from search_spaces.layers.quantize import fit_step
from search_spaces.layers.quantize import half
from search_spaces.layers.quantize import quantize_weight
from search_spaces.layers.quantize import quantized
from search_spaces.layers.quantize import sign
from tests.xnor_popcount import xnor_popcount_conv2d
from tests.xnor_popcount import xnor_popcount_linear

WEIGHT_LEVELS = {(8, ""): 255, (4, ""): 15, (3, ""): 8, (2, ""): 4, (2, "ternary"): 3, (1, ""): 2}
FEW = settings(max_examples=25, derandomize=True, deadline=None)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "most"), WEIGHT_LEVELS.items())
def test_weight_levels_are_few_whole_numbers(precision, most):
    levels, scale = quantize_weight(normal(3, 5000), *precision)
    assert scale.shape == (3, 1)
    for channel in levels:
        values = channel.unique()
        assert torch.equal(values, values.round())
        assert len(values) <= most
        assert len(values) > most // 2
        assert values.abs().max() <= max(1, most // 2)


@pytest.mark.parametrize("precision", WEIGHT_LEVELS)
@FEW
@given(seed=st.integers(0, 10_000), width=st.sampled_from([1, 2, 9, 144]))
def test_what_was_quantised_is_left_as_it_is_when_it_is_quantised_again(precision, seed, width):
    weight = normal(4, width, seed=seed)
    levels, scale = quantize_weight(weight, *precision)
    again, same = quantize_weight(levels * scale, *precision)
    torch.testing.assert_close(again * same, levels * scale)


# Least squared error of a uniform quantiser on a standard normal, levels -2..1 and -4..3: integrated numerically.
@pytest.mark.parametrize(("bits", "least", "step"), [(2, 0.1494, 1.048), (3, 0.0406, 0.602)])
def test_a_step_for_few_levels_is_close_to_the_best_for_normal_weights(bits, least, step):
    weight = normal(1, 20_000)
    levels, scale = quantize_weight(weight, bits)
    assert (levels * scale - weight).square().mean().item() < 1.1 * least
    assert scale.item() == pytest.approx(step, rel=0.1)


def test_two_and_three_bits_learn_their_step_by_the_published_gradient():
    # One channel, step 1: 0.4 rounds to 0, -1.6 to -2, 5.0 is clipped at 1. Esser et al.: the rounding error inside
    # (0 - 0.4, -2 + 1.6), the level outside (1), times the incoming gradient (1, 2, 3): -0.4 - 0.8 + 3 = 1.8; the
    # step's logarithm gets that times the step, over sqrt(3 weights times last level 1).
    layer = QuantLinear(3, 1, weight_bits=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.4, -1.6, 5.0]]))
        layer.log_step.zero_()
    layer(torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert layer.log_step.grad.item() == pytest.approx(1.8 / math.sqrt(3), rel=1e-5)
    assert layer.weight.grad.tolist() == [[1.0, 2.0, 0.0]]


def test_a_step_can_be_fitted_to_the_weights_that_are_there():
    layer = QuantConv2d(2, 3, (1, 1), weight_bits=3)
    with torch.no_grad():
        layer.weight.copy_(10 * normal(3, 2, 1, 1))
    fit_step(layer)
    levels, scale = quantized(layer)
    best, step = quantize_weight(layer.weight, 3)
    torch.testing.assert_close((levels * scale), (best * step))


@pytest.mark.parametrize(("form", "exact", "near"), [("bf16", 1.0078125, 1.0001), ("fp16", 1.0009765625, 1.0001)])
def test_sixteen_bits_round_as_their_format_does(form, exact, near):
    # The first number after 1: 2^-7 further in bfloat16, 2^-10 in half precision.
    values = torch.tensor([exact, near], requires_grad=True)
    rounded = half(values, form)
    assert rounded.tolist() == [exact, 1.0]
    rounded.sum().backward()
    assert values.grad.tolist() == [1.0, 1.0]
    layer = QuantLinear(2, 1, weight_bits=16, weight_format=form)
    inputs = normal(4, 2)
    assert torch.equal(layer(inputs), functional.linear(inputs, half(layer.weight, form)))


def test_one_bit_has_exactly_two_values_even_for_zero_weights():
    levels, scale = quantize_weight(torch.tensor([[0.0, 0.0], [0.0, -0.5]]), 1)
    assert torch.equal(levels, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    assert torch.equal(scale, torch.tensor([[0.0], [0.25]]))


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_is_off_by_half_a_level_at_most_and_keeps_the_largest_weight(bits):
    weight = normal(4, 3, 3, 3)
    levels, scale = quantize_weight(weight, bits)
    assert scale.shape == (4, 1, 1, 1)
    assert ((weight - levels * scale).abs() <= 0.5001 * scale).all()
    assert torch.equal(levels.abs().amax((1, 2, 3)), torch.full((4,), 2.0 ** (bits - 1) - 1))


def test_ternary_has_the_published_threshold():
    # mean|w| = 0.55, threshold 0.385: 0.4, -0.6 and 0.9 stay, at their mean magnitude 1.9 / 3.
    levels, scale = quantize_weight(torch.tensor([[0.4, -0.6, 0.9, 0.3]]), 2, "ternary")
    assert torch.equal(levels, torch.tensor([[1.0, -1.0, 1.0, 0.0]]))
    assert scale.item() == pytest.approx(1.9 / 3)


@pytest.mark.parametrize("precision", WEIGHT_LEVELS)
def test_an_empty_channel_gives_zero_and_finite_gradients(precision):
    layer = QuantLinear(3, 2, weight_bits=precision[0], weight_format=precision[1])
    with torch.no_grad():
        layer.weight[0] = 0.0
    output = layer(normal(4, 3))
    output.sum().backward()
    assert torch.equal(output[:, 0], torch.zeros(4))
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("precision", [(8, ""), (4, ""), (2, "ternary")])
def test_gradient_passes_straight_through_rounding(precision):
    inputs, gradient = normal(5, 6, seed=1), normal(5, 3, seed=2)
    layer = QuantLinear(6, 3, weight_bits=precision[0], weight_format=precision[1])
    layer(inputs).backward(gradient)
    torch.testing.assert_close(layer.weight.grad, gradient.T @ inputs)


def test_one_bit_gradient_is_the_exact_chain_rule():
    # w = [0.5, -1.5], g = dL/dWb = [2, 3], scale = 1. Through the mean: sum(g sign(w)) / 2 = -0.5, times sign(w).
    # Through the sign: scale * g, where |w| < 1.
    layer = QuantLinear(2, 1, weight_bits=1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.5]]))
    layer(torch.tensor([[2.0, 3.0]])).sum().backward()
    assert torch.equal(layer.weight.grad, torch.tensor([[-0.5 + 2.0, 0.5]]))


def test_gradient_of_the_one_bit_scale_equals_finite_differences():
    weight = (2 + normal(2, 7).abs()).double().requires_grad_()  # beyond 1 the sign passes nothing

    def output(values):
        levels, scale = quantize_weight(values, 1)
        return functional.linear(normal(3, 7, seed=4).double(), levels) * scale.view(1, -1)

    assert torch.autograd.gradcheck(output, (weight,))


def test_layers_at_32_bits_are_torchs_own():
    image, vector = normal(2, 3, 5, 5), normal(2, 4)
    conv, linear = QuantConv2d(3, 4, (3, 3), bias=True, weight_bits=32), QuantLinear(4, 2, bias=True, weight_bits=32)
    assert torch.equal(conv(image), functional.conv2d(image, conv.weight, conv.bias))
    assert torch.equal(linear(vector), functional.linear(vector, linear.weight, linear.bias))


@pytest.mark.parametrize("precision", WEIGHT_LEVELS)
def test_a_layer_computes_with_its_quantised_weights(precision):
    width, form = precision
    shape = {"stride": (2, 1), "padding": (1, 2), "groups": 2}
    conv = QuantConv2d(4, 6, (3, 5), **shape, bias=True, weight_bits=width, weight_format=form)
    image = normal(2, 4, 7, 6)
    levels, scale = quantized(conv)
    expected = functional.conv2d(image, levels * scale, conv.bias, stride=(2, 1), padding=(1, 2), groups=2)
    torch.testing.assert_close(conv(image), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantLinear(2, 2, weight_bits=5),
        lambda: QuantLinear(2, 2, weight_bits=16),
        lambda: HalfRounding(""),
        lambda: QuantConv2d(2, 2, (1, 1), weight_bits=0),
    ],
)
def test_other_widths_are_refused(make):
    with pytest.raises(ValueError, match=r"expected a precision of \[32, 'bf16', 'fp16', 8, .*; got (0|5|16)$"):
        make()


def test_a_quantiser_without_work_is_refused():
    with pytest.raises(ValueError, match="got 32"):
        ActivationQuantizer(32, signed=True)
    with pytest.raises(ValueError, match=r"expected one of .8, 4, 3, 2, 1. bits for a quantised weight; got 32"):
        quantize_weight(normal(2, 2), 32)
    with pytest.raises(ValueError, match=r"no range 'guessed'; there are \['tracked', 'learned'\]"):
        ActivationQuantizer(8, signed=True, range="guessed")


# --- one bit: the integer reference ----------------------------------------------------------------------------------


def signs(*shape, seed):
    return sign(normal(*shape, seed=seed))


@FEW
@given(data=st.data())
def test_one_bit_convolution_equals_xnor_popcount_bit_for_bit(data):
    groups = data.draw(st.sampled_from([1, 1, 2, 3]), "groups")
    in_channels = groups * data.draw(st.integers(1, 5), "in_channels / groups")
    channels = groups * data.draw(st.integers(1, 4), "channels / groups")
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)), "kernel")
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), "stride")
    padding = data.draw(st.tuples(st.integers(0, kernel[0] // 2), st.integers(0, kernel[1] // 2)), "padding")
    height, width = data.draw(st.tuples(st.integers(kernel[0], 9), st.integers(kernel[1], 9)), "image")
    bias, seed = data.draw(st.booleans(), "bias"), data.draw(st.integers(0, 99), "seed")
    layer = QuantConv2d(
        in_channels, channels, kernel, stride=stride, padding=padding, groups=groups, bias=bias, weight_bits=1
    )
    images = signs(2, in_channels, height, width, seed=seed)
    levels, scale = quantize_weight(layer.weight.detach(), 1)
    reference = xnor_popcount_conv2d(
        images.numpy(),
        levels.numpy(),
        scale.flatten().numpy(),
        layer.bias.detach().numpy() if bias else None,
        stride=stride,
        padding=padding,
        groups=groups,
    )
    for memory in (torch.contiguous_format, torch.channels_last):
        output = layer.to(memory_format=memory)(images.contiguous(memory_format=memory))
        assert np.array_equal(output.detach().numpy(), reference)


@pytest.mark.parametrize("weight_bits", [32, 4])
@pytest.mark.parametrize(("kernel", "is_copied"), [((1, 1), True), ((1, 3), True), ((3, 3), False)])
def test_a_kernel_smaller_than_its_step_computes_channel_by_channel(monkeypatch, weight_bits, kernel, is_copied):
    """With either tensor in `channels_last` the backward pass may write beyond its memory."""
    layer = QuantConv2d(8, 8, kernel, stride=(2, 2), weight_bits=weight_bits).to(memory_format=torch.channels_last)
    images = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    plain = functional.conv2d
    seen = []

    def watched(input, weight, *rest):
        seen.append((input.stride(), weight.stride()))
        return plain(input, weight, *rest)

    monkeypatch.setattr(functional, "conv2d", watched)
    layer(images).sum().backward()
    rows = images.contiguous().stride(), torch.empty(8, 8, *kernel).stride()
    assert (seen == [rows]) == is_copied
    assert layer.weight.grad.abs().sum() > 0


@FEW
@given(features=st.integers(1, 70), outputs=st.integers(1, 9), bias=st.booleans(), seed=st.integers(0, 99))
def test_one_bit_linear_equals_xnor_popcount_bit_for_bit(features, outputs, bias, seed):
    layer = QuantLinear(features, outputs, bias=bias, weight_bits=1)
    vectors = signs(3, features, seed=seed)
    levels, scale = quantize_weight(layer.weight.detach(), 1)
    added = layer.bias.detach().numpy() if bias else None
    reference = xnor_popcount_linear(vectors.numpy(), levels.numpy(), scale.flatten().numpy(), added)
    assert np.array_equal(layer(vectors).detach().numpy(), reference)


def test_the_reference_by_hand():
    # Agree in 2 of 3 positions: 2 * 2 - 3 = 1, times 0.5. Agree in none: -3, times 2.
    inputs = np.array([[1, -1, 1]], np.float32)
    weights = np.array([[1, 1, 1], [-1, 1, -1]], np.float32)
    output = xnor_popcount_linear(inputs, weights, np.array([0.5, 2], np.float32))
    assert output.tolist() == [[0.5, -6.0]]


def test_padding_adds_nothing_in_the_reference():
    # A 3x3 kernel of ones on a 2x2 image of ones sees 4 real positions everywhere, never 9.
    image = np.ones((1, 1, 2, 2), np.float32)
    output = xnor_popcount_conv2d(image, np.ones((1, 1, 3, 3), np.float32), np.ones(1, np.float32), padding=(1, 1))
    assert output.tolist() == [[[[4, 4], [4, 4]]]]


def test_the_reference_refuses_what_is_no_sign():
    zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    for inputs, weights in ((zero, one), (one, zero)):
        with pytest.raises(ValueError, match=r"exactly \+1 and -1"):
            xnor_popcount_conv2d(inputs, weights, np.ones(1, np.float32))
        with pytest.raises(ValueError, match=r"exactly \+1 and -1"):
            xnor_popcount_linear(inputs[0, 0], weights[0, 0], np.ones(1, np.float32))


def test_sign_passes_gradients_within_one():
    values = torch.tensor([-2.0, -0.5, 0.0, 0.9, 1.1], requires_grad=True)
    output = sign(values)
    output.backward(torch.arange(1.0, 6.0))
    assert output.tolist() == [-1, -1, 1, 1, 1]
    assert values.grad.tolist() == [0, 2, 3, 4, 0]


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("range", ["tracked", "learned"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_quantised_tensors_have_at_most_the_levels_of_their_bits(bits, signed, range):
    quantizer = ActivationQuantizer(bits, signed=signed, range=range)
    values = normal(20_000) if signed else normal(20_000).relu()
    for output in (quantizer(values), quantizer.eval()(3 * values)):
        distinct = output.unique()
        assert len(distinct) <= 2**bits
        # A signed tracked range meets its lowest level on an outlier only; LSQ starts with a quarter of 8 bits.
        assert len(distinct) >= {8: 45, 4: 15, 2: 3, 1: 2 if signed else 1}[bits]
        if bits > 1:
            assert (distinct >= 0).all() != signed
            assert (distinct == 0).any()


def test_tracked_range_is_a_running_average_of_the_largest_magnitude():
    quantizer = ActivationQuantizer(8, signed=False)
    quantizer(torch.tensor([0.5, 2.0]))
    assert quantizer.magnitude.item() == pytest.approx(2.0)
    quantizer(torch.tensor([4.0, 1.0]))
    assert quantizer.magnitude.item() == pytest.approx(0.9 * 2.0 + 0.1 * 4.0)
    quantizer.eval()(torch.tensor([100.0]))
    assert quantizer.magnitude.item() == pytest.approx(2.2)


def test_tracked_levels_by_hand():
    unsigned, signed = ActivationQuantizer(2, signed=False), ActivationQuantizer(8, signed=True)
    # Nothing is off with 3 as the last level: steps of 1. Largest 127: steps of 1 from -128 to 127.
    assert unsigned(torch.tensor([3.0, 2.0, 1.0, 0.0])).tolist() == [3, 2, 1, 0]
    assert signed(torch.tensor([-127.0, 3.4, -0.6])).tolist() == [-127, 3, -1]
    assert signed.eval()(torch.tensor([-200.0, 200.0])).tolist() == [-128, 127]


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_few_levels_do_not_follow_one_large_value(bits):
    values = torch.cat([normal(50_000).abs(), torch.tensor([100.0])])
    quantizer = ActivationQuantizer(bits, signed=False)
    error = (quantizer(values) - values).square().mean()
    by_largest = values.amax() / (2**bits - 1)
    assert error < 0.5 * ((values / by_largest).round() * by_largest - values).square().mean()


# The best of 400 ranges, tried by hand.
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_a_tracked_range_is_close_to_the_best_for_a_half_normal_tensor(bits):
    values = normal(20_000).abs()
    last = 2**bits - 1

    def error(reach):
        return ((values / reach * last).round().clamp(0, last) / last * reach - values).square().mean().item()

    quantizer = ActivationQuantizer(bits, signed=False)
    quantizer(values)
    best = min(error(reach) for reach in torch.linspace(0.5, 4.5, 400).tolist())
    assert error(quantizer.magnitude.item()) < 1.15 * best


@pytest.mark.parametrize("range", ["tracked", "learned"])
def test_gradient_passes_inside_the_range_only(range):
    quantizer = ActivationQuantizer(2, signed=True, range=range)
    with torch.no_grad():  # steps of 3 from -6 to 3
        quantizer.log_step.fill_(math.log(3)) if range == "learned" else quantizer.magnitude.fill_(3)
    values = torch.tensor([-7.5, -5.7, 0.9, 2.7, 3.6], requires_grad=True)
    quantizer.eval()(values).backward(torch.arange(1.0, 6.0))
    assert values.grad.tolist() == [0, 2, 3, 4, 0]


def test_learned_step_starts_from_the_first_batch_alone():
    quantizer = ActivationQuantizer(4, signed=False, range="learned")
    quantizer(torch.tensor([1.0, 3.0]))
    assert quantizer.log_step.exp().item() == pytest.approx(2 * 2.0 / math.sqrt(15))
    quantizer(torch.tensor([100.0, 300.0]))
    assert quantizer.log_step.exp().item() == pytest.approx(2 * 2.0 / math.sqrt(15))


def test_gradient_of_the_learned_step_is_that_of_lsq():
    # Step 0.5, levels -2..1. Per element (Esser et al., 2020, eq. 3): -2 below, round(v) - v inside, 1 above.
    quantizer = ActivationQuantizer(2, signed=True, range="learned").eval()
    with torch.no_grad():
        quantizer.log_step.fill_(math.log(0.5))
    gradient = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    quantizer(torch.tensor([[-1.5, -0.35], [0.2, 0.9]])).backward(gradient)
    by_step = 1 * -2 + 2 * (-1 - -0.7) + 3 * (0 - 0.4) + 4 * 1
    scale = 1 / math.sqrt(2 * 1)  # elements of one record, last level
    assert quantizer.log_step.grad.item() == pytest.approx(0.5 * by_step * scale)


def test_a_learned_step_survives_large_updates():
    quantizer = ActivationQuantizer(8, signed=False, range="learned")
    values = 0.01 * normal(50).relu()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (quantizer(values) - values).square().mean().backward()
        optimizer.step()
    assert len(quantizer(values).unique()) > 10


@pytest.mark.parametrize("range", ["tracked", "learned"])
def test_zeros_stay_zero(range):
    quantizer = ActivationQuantizer(4, signed=False, range=range)
    values = torch.zeros(2, 3, requires_grad=True)
    output = quantizer(values)
    output.sum().backward()
    assert torch.equal(output, torch.zeros(2, 3))
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("range", ["tracked", "learned"])
def test_state_survives_saving(range):
    trained = ActivationQuantizer(4, signed=False, range=range)
    trained(5 * normal(100).relu())
    copy = ActivationQuantizer(4, signed=False, range=range)
    copy.load_state_dict(trained.state_dict())
    values = normal(100, seed=1)
    assert torch.equal(copy.train()(values), trained.train()(values))
    assert torch.equal(copy.eval()(values), trained.eval()(values))
