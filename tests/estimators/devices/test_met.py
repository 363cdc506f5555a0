"""Kernels that were met before cost a look-up, and what is looked up is what would be computed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest

from estimators.devices import met
from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.models.flash import kernel_bytes
from estimators.models.latency import cycle_parts
from estimators.models.latency import kernel_cycles
from search_spaces.graph.builder import GraphBuilder


def layers(**settings):
    """Two equal layers one behind the other, and a third that differs by a setting."""
    graph = GraphBuilder((8, 6, 6), bits=8)
    x = 0
    for more in ({}, {}, settings):
        x = graph.conv(x, 8, **{"kernel": (3, 3), "padding": (1, 1), "weight_bits": 8, **more})
        x = graph.activation(x, bits=8)
    return graph.architecture("example", {})


def fresh(name="stm32h747", **settings):
    return replace(load_device(name), **settings)


OTHER = ({"kernel": (5, 5), "padding": (2, 2)}, {"weight_bits": 4}, {"bias": True}, {"groups": 8}, {"sparsity": 0.5})


@pytest.mark.parametrize("settings", OTHER, ids=str)
def test_what_is_looked_up_is_what_would_be_computed(settings):
    network, device = layers(**settings), fresh()
    for _ in range(2):
        for kernel in network.kernels:
            assert kernel_cycles(kernel, device) == sum(cycle_parts(kernel, fresh()))
            assert kernel_bytes(kernel, network, device) == kernel_bytes(kernel, network, fresh())


def test_an_equal_layer_elsewhere_is_priced_once():
    first, second, other = layers(bias=True).kernels
    asked = []
    known = met.Met()
    price = lambda kernel, _: asked.append(kernel) or float(len(asked))
    assert [known.price(kernel, price, None) for kernel in (first, second, other, first)] == [1, 1, 2, 1]
    assert asked == [first, other]


def test_each_device_has_prices_of_its_own():
    kernel = layers().kernels[0]
    device = fresh()
    slower = replace(device, latency=replace(device.latency, cycles_per_kernel={"conv": 1e6}))
    assert kernel_cycles(kernel, device) < kernel_cycles(kernel, slower)
    assert kernel_cycles(kernel, device) == sum(cycle_parts(kernel, device))


def test_a_refusal_is_told_again():
    kernel, device = layers().kernels[0]._replace(weight_bits=64), fresh()
    for _ in range(2):
        with pytest.raises(CannotRun, match="no rule for 64/8 bits"):
            kernel_cycles(kernel, device)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda device: pickle.loads(pickle.dumps(device))])
def test_copies_begin_with_nothing(copied):
    kernel, device = layers().kernels[0], fresh()
    kernel_cycles(kernel, device)
    again = copied(device)
    assert again == device
    assert (again.cycles.price(kernel, lambda *_: -1.0, None), device.cycles.price(kernel, lambda *_: -1.0, None)) == (
        -1.0,
        kernel_cycles(kernel, device),
    )


def test_it_starts_anew_when_it_is_full(monkeypatch):
    monkeypatch.setattr(met, "MOST", 1)
    first, _, other = layers(bias=True).kernels
    known = met.Met()
    assert [known.price(one, lambda *_: 1.0, None) for one in (first, other)] == [1.0, 1.0]
    assert [known.price(one, lambda *_: 2.0, None) for one in (other, first)] == [1.0, 2.0]
