"""Kernels of one type, bits and window share their rates, and what a device was asked before changes no price."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest

from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.models.latency import cycle_parts
from estimators.models.latency import kernel_cycles
from estimators.models.latency import rates_of
from search_spaces.graph.builder import GraphBuilder

DEVICES = ("stm32h747", "stm32l4r5", "raspi4", "bitfusion_like", "bit_serial_fpga")
SETTINGS = ({}, {"kernel": (5, 5), "padding": (2, 2)}, {"weight_bits": 4}, {"bias": True}, {"sparsity": 0.5})


def layers(*settings):
    """A layer for each of some settings, one behind the other."""
    graph = GraphBuilder((8, 6, 6), bits=8)
    x = 0
    for more in settings:
        x = graph.conv(x, 8, **{"kernel": (3, 3), "padding": (1, 1), "weight_bits": 8, **more})
        x = graph.activation(x, bits=8)
    return graph.architecture("example", {}).kernels


def fresh(name="stm32h747", **settings):
    return replace(load_device(name), **settings)


@pytest.mark.parametrize("name", DEVICES)
def test_a_kernel_costs_the_same_whatever_was_priced_before(name):
    kernels, device = layers(*SETTINGS), fresh(name)
    alone = [kernel_cycles(kernel, fresh(name)) for kernel in kernels]
    assert [kernel_cycles(kernel, device) for kernel in reversed(kernels)] == alone[::-1]
    assert [kernel_cycles(kernel, device) for kernel in kernels] == alone
    assert [sum(cycle_parts(kernel, device)) for kernel in kernels] == alone


def test_rates_are_found_once_for_a_type_its_bits_and_its_window():
    device = fresh()
    found = [rates_of(kernel, device) for kernel in layers({}, {"bias": True}, {"weight_bits": 4}, SETTINGS[1])]
    assert found[0] is found[1]
    assert len({id(rates) for rates in found}) == len(device.rates) == 3


def test_each_device_has_rates_of_its_own():
    (kernel,), device = layers({}), fresh()
    slower = replace(device, latency=replace(device.latency, cycles_per_kernel={"conv": 1e6}))
    before = kernel_cycles(kernel, device)
    assert kernel_cycles(kernel, slower) == before + 1e6
    assert kernel_cycles(kernel, device) == before


def test_a_refusal_is_told_again():
    kernel, device = layers({})[0]._replace(weight_bits=64), fresh()
    for _ in range(2):
        with pytest.raises(CannotRun, match="no rule for 64/8 bits"):
            kernel_cycles(kernel, device)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda device: pickle.loads(pickle.dumps(device))])
def test_a_copy_of_a_device_that_has_priced_is_equal_and_prices_the_same(copied):
    (kernel,), device = layers({}), fresh()
    cycles = kernel_cycles(kernel, device)
    assert copied(device) == device
    assert kernel_cycles(kernel, copied(device)) == cycles
