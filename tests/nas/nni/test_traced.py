"""Graphs written from PyTorch networks: the network that is built of one computes the same."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from nas.nni.traced import graph_of
from search_spaces.network import build

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """A network of one function over some layers."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def conv(channels=4, source=3, kernel=3, **settings):
    return nn.Conv2d(source, channels, kernel, **settings)


def head(m, x):
    return m.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def plain(layer, channels=3):
    """A layer, then the mean over all places and a linear layer."""
    return Net(lambda m, x: head(m, m.layer(x)), layer=layer, fc=nn.Linear(channels, 5))


def squeezed(m, x):
    x = m.first(x)
    factors = functional.hardsigmoid(m.factors(x.mean((2, 3), keepdim=True)))
    return head(m, factors * (x * factors))


def branched(m, x):
    first, second = m.first(x), m.second(x)
    both = torch.cat([first, second], dim=1)
    return m.fc(functional.relu6(both + m.third(both)).mean([-2, -1]))


def shared_result(m, x):
    x = m.first(x)
    return head(m, sum([x, torch.tanh(x), x.relu()]))


def by_size(m, x):
    x = functional.max_pool2d(functional.relu(m.first(x)), 2, padding=1)
    return m.fc(functional.dropout(x.contiguous().view(x.size(0), -1), 0.5, m.training))


NETWORKS = {
    "convolution": plain(conv(), 4),
    "convolution of groups": plain(conv(6, stride=2, padding=1, groups=3), 6),
    "depthwise": plain(conv(3, padding=1, groups=3)),
    "same padding": plain(conv(4, kernel=(3, 5), padding="same"), 4),
    "valid padding, no bias": plain(conv(4, padding="valid", bias=False), 4),
    "batch normalisation": plain(nn.BatchNorm2d(3)),
    "hardswish": plain(nn.Hardswish(inplace=True)),
    "relu6": plain(nn.Sequential(nn.ReLU6(), nn.Dropout2d(0.2))),
    "max pooling": plain(nn.MaxPool2d(3, stride=2, padding=1)),
    "average pooling": plain(nn.AvgPool2d(2)),
    "average pooling of what is there": plain(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "adaptive pooling": plain(nn.AdaptiveAvgPool2d((None, 2))),
    "squeeze and excitation": Net(squeezed, first=conv(), factors=conv(4, 4, 1), fc=nn.Linear(4, 5)),
    "branches": Net(branched, first=conv(4), second=conv(2), third=conv(6, 6, 1), fc=nn.Linear(6, 5)),
    "Python's sum": Net(shared_result, first=conv(), fc=nn.Linear(4, 5)),
    "view": Net(by_size, first=conv(), fc=nn.Linear(64, 5)),
    "squeeze": Net(lambda m, x: m.fc(m.first(x).squeeze()), first=conv(kernel=8), fc=nn.Linear(4, 5)),
    "perceptron": nn.Sequential(
        nn.Flatten(), nn.Linear(192, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Identity(), nn.Linear(7, 5)
    ),
    "a layer that nobody reads": Net(
        lambda m, x: (head(m, m.first(x)), m.unread(x))[0], first=conv(), unread=conv(), fc=nn.Linear(4, 5)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_of_a_graph_computes_what_the_traced_one_does(name):
    generator = torch.Generator().manual_seed(0)
    network = NETWORKS[name]
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    tensors = [tensor for key, tensor in network.state_dict().items() if not key.startswith("unread")]
    described = graph_of(network, "traced", SHAPE, {"a": 1})
    built = build(described)
    built.load_state_dict(dict(zip(built.state_dict(), tensors, strict=True)))
    records = torch.randn((4, *SHAPE), generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(built.eval()(records), network.eval()(records), rtol=1e-4, atol=1e-5)
    assert (described.space, described.params, described.input_shape) == ("traced", {"a": 1}, SHAPE)
    assert described.num_classes == 5


def test_a_network_without_numbers_has_the_same_graph():
    with torch.device("meta"):
        bare = plain(conv(), 4)
    assert graph_of(bare, "x", SHAPE, {}).key == graph_of(plain(conv(), 4), "x", SHAPE, {}).key


def twice(m, x):
    return head(m, m.first(m.first(x)))


REFUSED = {
    "no rule": (
        plain(nn.GELU()),
        "no graph for call_module 'layer': there is no operator for GELU; there are Conv2d, Lin",
    ),
    "no rule inside": (plain(nn.Sequential(nn.SiLU())), "call_module 'layer.0': there is no operator for SiLU"),
    "function": (
        Net(lambda m, x: head(m, x.permute(0, 1, 3, 2)), fc=nn.Linear(3, 5)),
        "call_method 'permute': there is",
    ),
    "parameter": (
        Net(lambda m, x: head(m, x + m.w), w=nn.Parameter(torch.ones(1)), fc=nn.Linear(3, 5)),
        "get_attr 'w'",
    ),
    "scaled": (Net(lambda m, x: head(m, x * 0.5), fc=nn.Linear(3, 5)), "call_function 'mul': expected two tensors"),
    "weighted sum": (Net(lambda m, x: head(m, torch.add(x, x, alpha=2)), fc=nn.Linear(3, 5)), "expected a plain sum"),
    "sum of other shapes": (
        Net(lambda m, x: head(m, x + x.mean((2, 3), keepdim=True)), fc=nn.Linear(3, 5)),
        "equal sha",
    ),
    "mean of channels": (Net(lambda m, x: x.mean(1), fc=nn.Linear(3, 5)), "expected a mean over height and width"),
    "mean of rows": (
        Net(lambda m, x: x.mean(2), fc=nn.Linear(3, 5)),
        "expected a mean over height and width; got the a",
    ),
    "ceil mode of a function": (
        Net(lambda m, x: head(m, functional.max_pool2d(x, 3, 2, 0, 1, True)), fc=nn.Linear(3, 5)),
        "got MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=True)",
    ),
    "concatenated rows": (Net(lambda m, x: head(m, torch.cat([x, x], 2)), fc=nn.Linear(3, 5)), "over channels, dim=1"),
    "used twice": (Net(twice, first=conv(3, padding=1), fc=nn.Linear(3, 5)), "operators of a graph share no weights"),
    "branch on data": (
        Net(lambda m, x: head(m, x) if x.sum() > 0 else x, fc=nn.Linear(3, 5)),
        "torch.fx can trace; it",
    ),
    "two outputs": (
        Net(lambda m, x: (head(m, x), x), fc=nn.Linear(3, 5)),
        "expected a network with one output, logits",
    ),
    "dilation": (plain(conv(4, dilation=2), 4), "expected a convolution without dilation, padded with zeros"),
    "reflection": (plain(conv(4, padding=1, padding_mode="reflect"), 4), "padded with zeros"),
    "even and same": (
        plain(conv(4, kernel=2, padding="same"), 4),
        "expected kernels of odd sides with the padding 'same'",
    ),
    "no scale": (
        plain(nn.BatchNorm2d(3, affine=False)),
        "expected a batch normalisation with its scale, shift and run",
    ),
    "no statistics": (plain(nn.BatchNorm2d(3, track_running_stats=False)), "running statistics; got BatchNorm2d"),
    "ceil mode": (plain(nn.MaxPool2d(3, 2, ceil_mode=True)), "expected a pooling without dilation, ceil_mode"),
    "padded mean": (plain(nn.AvgPool2d(3, 2, 1)), "expected the mean of what is there"),
    "divisor": (plain(nn.AvgPool2d(2, divisor_override=3)), "expected the mean of what is there"),
    "uneven": (plain(nn.AdaptiveAvgPool2d(3)), "expected sides 8 x 8 that the output's divide evenly"),
    "half a reshape": (
        Net(lambda m, x: m.fc(x.flatten(2)), fc=nn.Linear(64, 5)),
        "expected a vector for each record, (192",
    ),
    "linear on a map": (
        nn.Sequential(nn.Linear(8, 5)),
        "expected a vector before 'linear'; got shape (3, 8, 8): flatten it first",
    ),
    "too small": (plain(conv(4, kernel=9), 4), "no graph for call_module 'layer'"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_in_one_line(name):
    network, complaint = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        graph_of(network, "x", SHAPE, {})
    assert "\n" not in str(caught.value)
