import numpy as np
import pytest
import torch

from nas.deploy.folding import BIAS_LIMIT
from nas.deploy.folding import folded
from nas.deploy.folding import in_whole_numbers
from nas.deploy.scales import Scale
from search_spaces.layers.quantize import QuantLinear


def layer(weight, bias, *, bits, form=""):
    found = QuantLinear(2, len(weight), bias=True, weight_bits=bits, weight_format=form)
    with torch.no_grad():
        found.weight.copy_(torch.tensor(weight))
        found.bias.copy_(torch.tensor(bias))
    return found.eval()


def norm(gains):
    found = torch.nn.BatchNorm1d(len(gains), eps=0.0)
    with torch.no_grad():
        found.weight.copy_(torch.tensor(gains))
        found.bias.fill_(1.0)
        found.running_mean.fill_(3.0)
        found.running_var.fill_(4.0)
    return found.eval()


def test_a_norm_is_folded_and_a_negative_gain_turns_the_levels_round():
    found = folded(layer([[0.5, -0.5], [0.25, 0.25]], [1.0, 1.0], bits=1), norm([2.0, -2.0]))
    # The deviation is 2: gains of 1 and -1; biases (1 - 3) * gain + 1.
    np.testing.assert_allclose(found.weight, [[0.5, -0.5], [-0.25, -0.25]])
    np.testing.assert_allclose(found.bias, [-1.0, 3.0])
    assert (found.repeats, found.signs.tolist()) == (127, [1.0, -1.0])
    np.testing.assert_allclose(found.steps, [0.5 / 127, 0.25 / 127])


@pytest.mark.parametrize(("downwards", "bias"), [(False, -4), (True, -5)])
def test_whole_numbers_are_levels_and_a_bias_that_counts_in_their_products(downwards, bias):
    found = folded(layer([[0.5, -0.25]], [-0.43], bits=8), None)
    whole = in_whole_numbers(found, Scale(25.4, 0), downwards=downwards)
    assert whole.levels.tolist() == [[127, -64]]
    np.testing.assert_allclose(whole.steps, [0.5 / 127], rtol=1e-6)
    np.testing.assert_allclose(whole.accumulator, [0.1], rtol=1e-6)
    assert whole.bias.tolist() == [bias]


def test_a_bias_stays_within_32_bits_at_the_cost_of_weights_that_do_not_count():
    found = folded(layer([[1e-12, -1e-12]], [1.0], bits=8), None)
    whole = in_whole_numbers(found, Scale(1.0, 0), downwards=False)
    assert whole.levels.tolist() == [[0, 0]]
    assert abs(whole.bias[0] - BIAS_LIMIT) <= 64


def test_an_input_in_float_leaves_the_bias_in_float():
    whole = in_whole_numbers(folded(layer([[1.0, -1.0]], [1.0], bits=4), None), None, downwards=False)
    assert whole.levels.tolist() == [[126, -126]]
    assert (whole.accumulator, whole.bias) == (None, None)
