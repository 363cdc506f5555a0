"""What bounds a network and what would help: each promise is held against pricing the changed network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.devices.device import Memory
from estimators.devices.files import load_device
from estimators.models.by_layer import INPUT
from estimators.models.by_layer import by_layer
from estimators.models.by_layer import roofs
from estimators.models.what_if import flash_with_fewer_bits
from estimators.models.what_if import ram_with_half_the_channels
from estimators.models.what_if import time_with_fewer_bits
from nas.base import plugins
from nas.pricing.advice import advice
from nas.pricing.roofline import points_of
from nas.pricing.roofline import roofline
from search_spaces.graph.builder import GraphBuilder

M4 = replace(load_device("stm32l4r5"), memory=Memory(), engine_ram_kib=2.0, engine_flash_kib=0.5)


def block(weight_bits=32, *, wide=8):
    """A 5x5 depthwise and a shortcut over 8 channels of 8x8, half a KiB each at 8 bits."""
    graph = GraphBuilder((8, 8, 8), bits=8)
    x = graph.activation(graph.depthwise(0, kernel=(5, 5), padding=(2, 2), weight_bits=8), bits=8)
    x = graph.activation(graph.conv(x, wide, weight_bits=8), bits=8)
    x = graph.activation(graph.conv(x, 8, weight_bits=8), bits=8)
    x = graph.activation(graph.add(0, x), bits=8)
    graph.linear(graph.flatten(x), 10, bias=True, weight_bits=weight_bits)
    return graph.architecture("block", {})


def told(network, device):
    return advice(by_layer(network, device), network, device)


def test_time_names_the_layer_its_bound_and_what_helps():
    time, *_ = told(block(8), M4)
    total = latency_ms.estimate(block(8), M4).value
    # 8 channels of 8x8, in and out, are 1,024 elements.
    share = 1024 * M4.latency.cycles_per_element["depthwise"] / 120e3 / total
    assert time == (
        f"time: depthwise 5x5 at op 1 takes {share:.0%} of {total:.3g} ms, bound by memory: "
        "smaller tensors would help (fewer channels, a stride before it), fewer MACs alone would not; "
        "fewer bits would not help"
    )


def test_fewer_bits_save_what_pricing_them_says():
    float_linear, kernel = block(weight_bits=32), 5
    bits, share = time_with_fewer_bits(float_linear, kernel, M4)
    before = latency_ms.estimate(float_linear, M4).value
    after = latency_ms.estimate(block(weight_bits=8), M4).value
    layer = by_layer(float_linear, M4)[-1]
    assert (bits, layer.kernel) == (8, kernel)
    assert share * layer.latency_ms == pytest.approx(before - after)
    assert time_with_fewer_bits(block(weight_bits=8), kernel, M4) is None
    bits, saved = flash_with_fewer_bits(float_linear, kernel, M4)
    assert bits == 8
    assert saved == pytest.approx(flash_kib.estimate(float_linear, M4).value - flash_kib.estimate(block(8), M4).value)
    # The engine packs 1-bit weights, so 8-bit ones can still be made smaller.
    assert flash_with_fewer_bits(block(8), kernel, M4)[0] == 1


def test_a_width_that_is_stored_but_not_computed_is_passed_over():
    strict = replace(
        M4, latency=replace(M4.latency, relative_cycles={(8, 8): 1.0, (32, 8): 3.0}, other_widths="refuse")
    )
    assert time_with_fewer_bits(block(), 5, strict)[0] == 8
    assert time_with_fewer_bits(block(8), 5, strict) is None


def test_memory_names_the_step_the_tensors_and_the_saving():
    wide = block(8, wide=24)
    # At the wide pointwise: the input for the shortcut, 0.5; what it reads, 0.5; what it writes, 1.5 KiB.
    _, memory, _ = told(wide, M4)
    assert memory == (
        "RAM: the peak of 4.5 KiB is at pointwise at op 3, 3 tensors in memory and 2.0 KiB of the engine; "
        "half the channels in the output of pointwise at op 3 would save 0.8 KiB"
    )
    assert ram_with_half_the_channels(wide, 1, M4) == 0.75
    assert ram_with_half_the_channels(wide, INPUT, M4) == 0.25
    # The narrow one has three steps with three tensors each; the input is the one in all of them.
    assert told(block(8), M4)[1].endswith("; half the channels in the network's input would save 0.2 KiB")


def test_a_single_tensor_that_saves_nothing_is_said_to():
    graph = GraphBuilder((4, 8, 8), bits=8)
    x = 0
    for _ in range(3):
        x = graph.activation(graph.conv(x, 4, weight_bits=8), bits=8)
    line = told(graph.architecture("chain", {}), M4)[1]
    assert line.endswith("; half the channels in any one of them would save nothing")


def test_flash_names_the_layer_or_the_engine():
    *_, flash = told(block(32), M4)
    total = flash_kib.estimate(block(32), M4).value
    # 512 x 10 weights of 4 bytes, 10 biases of 4; at 8 bits 3 x 5,120 bytes less, and 10 scales of 4.
    assert flash == (
        f"flash: linear at op 10 takes {(20480 + 40) / 1024 / total:.0%} of {total:.1f} KiB; "
        f"weights of 8 bits would save {(15360 - 40) / 1024:.1f} KiB"
    )
    *_, flash = told(block(8), replace(M4, engine_flash_kib=100.0))
    assert flash.startswith("flash: the engine itself takes 9")
    assert flash.endswith(", for every network")


def test_what_does_not_fit_comes_first():
    small = replace(M4, ram_kib=3.0, flash_kib=6.0)
    lines = told(block(32), small)
    assert [line.split(":")[0] for line in lines] == ["does not fit", "does not fit", "time", "RAM", "flash"]
    assert lines[0] == "does not fit: needs 3.5 KiB of RAM, stm32l4r5 has 3"
    assert len(told(block(32), replace(M4, ram_kib=3.5))) == 3


def test_a_fixed_cost_is_nobodys_fault():
    slow = replace(M4, latency=replace(M4.latency, overhead_ms=50.0))
    assert told(block(8), slow)[0].startswith("time: the engine itself takes 99% of ")
    assert told(block(8), slow)[0].endswith(" ms, for every network")


# The roofline.


def test_roofs_by_hand():
    found = roofs(block(8), M4)
    # Pointwise MACs are the fastest, at 120 MHz; an element is a byte.
    assert found.macs_per_s == pytest.approx(120e6 / M4.latency.cycles_per_mac["pointwise"])
    assert found.bytes_per_s == pytest.approx(120e6 / M4.latency.cycles_per_element["depthwise"])
    assert found.memory_kinds == {"depthwise"}
    assert not found.counts_weights
    edge = load_device("coral_edgetpu")
    found = roofs(block(8), edge)
    assert found.bytes_per_s == pytest.approx(500e6 / edge.latency.cycles_per_byte["depthwise"])
    assert found.memory_kinds == {"depthwise", "pointwise", "linear"}
    assert found.counts_weights


@pytest.mark.parametrize("device", [M4, load_device("coral_edgetpu"), load_device("host")], ids=lambda chip: chip.name)
def test_no_layer_is_above_its_roof(device):
    network = block(8) if device.weight_bits != (32,) else block(32).as_float()
    found = roofs(network, device)
    points = points_of(by_layer(network, device), found)
    assert sum(len(point.layers) for point in points) == 4
    for point in points:
        assert point.macs_per_s <= found.macs_per_s * (1 + 1e-9)
        if point.layers[0].kind in found.memory_kinds:
            assert point.macs_per_s <= point.intensity * found.bytes_per_s * (1 + 1e-9)


@pytest.mark.parametrize("name", ["raspi4", "host"])
def test_what_is_said_of_the_roofs_stands_inside_the_axes(tmp_path, monkeypatch, name):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *to, **how: (drawn.append(figure), save(figure, *to, **how)))
    device, space = load_device(name), plugins.load("search_spaces", "nb201", "make_space")((3, 32, 32), 10)
    network = space.decode(space.reference)
    roofline(tmp_path / "a.png", by_layer(network, device), roofs(network, device), "title")
    (axes,) = drawn[0].axes
    said = [text for text in axes.texts if text.get_text().startswith(("memory", "compute"))]
    assert len(said) == 2
    for text in said:
        box = text.get_window_extent()
        assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1
    assert not said[0].get_window_extent().overlaps(said[1].get_window_extent())


def test_layers_in_one_place_are_one_point_with_their_whole_share():
    graph = GraphBuilder((8, 8, 8), bits=8)
    x = 0
    for _ in range(6):
        x = graph.activation(graph.conv(x, 8, weight_bits=8), bits=8)
    graph.linear(graph.flatten(x), 10, weight_bits=8)
    network = graph.architecture("chain", {})
    layers = by_layer(network, M4)
    first, last = points_of(layers, roofs(network, M4))
    assert (len(first.layers), len(last.layers)) == (6, 1)
    assert first.share + last.share == pytest.approx(1)
    # 64 MACs for each of 64 pixels, over 1,024 bytes of tensors.
    assert (first.intensity, first.layers[0].macs) == (4.0, 4096)
    assert first.label == f"pointwise, op 1, 3, 5, 7 +2: {first.share:.0%}"
