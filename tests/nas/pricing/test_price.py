"""What stands before a network is priced where the device's engine computes it."""

from __future__ import annotations

import pytest

from estimators.devices.files import load_device
from nas.pricing.price import as_shipped
from nas.pricing.price import price_on
from nas.pricing.price import screen
from nas.spaces import space_named
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.standardising import standardised

SPACE = space_named("conv", (1, 8, 8), 10)
NETWORK = SPACE.decode(SPACE.reference)


def test_an_engine_in_float_pays_for_a_norm_of_the_input():
    host = load_device("host")
    shipped = as_shipped(NETWORK, host)
    (norm,) = [kernel for kernel in shipped.kernels if kernel.kind == "norm"]
    assert (norm.inputs, norm.input_size, norm.output_size) == ((0,), 64, 64)
    before, after = screen(NETWORK, host), screen(shipped, host)
    assert after["latency_ms"].value > before["latency_ms"].value
    # A scale and a shift for the one channel; what is multiplied stays the same.
    assert after["flash_kib"].value - before["flash_kib"].value == pytest.approx(8 / 1024)
    assert after["macs"] == before["macs"]
    assert price_on(NETWORK, "host", shipped=True)[0]["host"] == after
    assert price_on(NETWORK, "host")[0]["host"] == before


@pytest.mark.parametrize("device", ["stm32h747", "coral_edgetpu", "host_int8"])
def test_an_engine_in_integers_gets_its_input_standardised(device):
    assert as_shipped(NETWORK, load_device(device)) is NETWORK


def test_a_device_without_a_rule_for_a_norm_stays_usable():
    xeon = load_device("xeon_gold_6226")
    with pytest.raises(ValueError, match="no rule for the operator 'norm'"):
        screen(standardised(NETWORK), xeon)
    assert as_shipped(NETWORK, xeon) is NETWORK
    screen(NETWORK, xeon)


def test_every_operator_reads_what_it_read_before():
    graph = GraphBuilder((2, 4, 4), bits=4)
    x = graph.conv(0, 2, kernel=(3, 3), padding=(1, 1), weight_bits=4)
    graph.linear(graph.flatten(graph.add(0, x)), 3)
    bare = graph.architecture("example", {})
    behind = standardised(bare)
    assert [op.inputs for op in behind.ops] == [(), (0,), (1,), (1, 2), (3,), (4,)]
    assert behind.ops[1].bits == 4
    assert (behind.outputs, behind.num_classes) == ((5,), 3)
    assert [op._replace(inputs=()) for op in behind.ops[2:]] == [op._replace(inputs=()) for op in bare.ops[1:]]
