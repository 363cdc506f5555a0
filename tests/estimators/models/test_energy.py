"""Energy: half-widths of independent errors, and nanojoules by what kernels do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.cost import energy_mj
from estimators.cost import latency_ms
from estimators.devices.corrections import Residual
from estimators.devices.device import Consumption
from estimators.devices.device import Energy
from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.models.by_layer import by_layer
from estimators.models.energy import together
from search_spaces.graph.builder import GraphBuilder

BOARD = load_device("stm32l4r5")
# Times of all sizes count as measured: how far an interval grows beyond is not the matter here.
CHIP = replace(BOARD, calibration=replace(BOARD.calibration, fastest_ms=None, slowest_ms=None))
NANOJOULES = Consumption(
    nj_per_mac={"conv": 2.0, "linear": 5.0},
    nj_per_element={"conv": 0.5, "pool": 4.0},
    nj_per_kernel={"conv": 100.0, "pool": 300.0},
    overhead_mj=0.001,
)
shares = st.floats(min_value=0.0, max_value=0.9)


def on(**energy):
    return replace(CHIP, energy=Energy(**{"interval": 0.2, "active_power_mw": 40.0, **energy}))


def network(bits=8):
    """A 3x3 convolution from 1 to 2 channels of 4x4, a global pooling, and 3 logits."""
    graph = GraphBuilder((1, 4, 4), bits=bits)
    x = graph.conv(0, 2, kernel=(3, 3), padding=(1, 1), weight_bits=bits)
    x = graph.pool(graph.activation(x, "identity", bits=bits), "avg", kernel=(4, 4), stride=(4, 4))
    graph.linear(graph.flatten(x), 3, weight_bits=bits)
    return graph.architecture("small", {})


def test_half_widths_of_time_and_power_add_as_squares_on_each_side():
    # 30 % below and 40 % above in time, 40 % in power: 50 % below, root of 0.32 above.
    found = together(100.0, Estimate(10.0, 7.0, 14.0), 0.4)
    assert (found.value, found.low) == (100.0, pytest.approx(50.0))
    assert found.high == pytest.approx(100 * (1 + 0.32**0.5))


def test_an_extrapolated_time_gives_an_extrapolated_energy():
    assert together(1.0, Estimate(1.0, 0.5, 2.0, extrapolated=True), 0.1).extrapolated
    assert not together(1.0, Estimate(1.0, 0.5, 2.0), 0.1).extrapolated


def test_a_time_of_nothing_leaves_the_interval_of_the_power():
    assert together(2.0, Estimate.exact(0.0), 0.25) == Estimate(2.0, 1.5, 2.5)


@given(below=shares, above=shares, interval=shares)
def test_the_interval_is_wider_than_either_and_narrower_than_both(below, above, interval):
    time = Estimate(1.0, 1 - below, 1 + above)
    found = together(1.0, time, interval)
    assert max(above, interval) - 1e-9 <= found.high - 1 <= above + interval + 1e-9
    assert found.low <= min(time.low, 1 - interval) + 1e-9
    assert found.low >= max(0.0, 1 - below - interval) - 1e-9


def test_independent_errors_lie_in_the_interval_as_often_as_it_says():
    draws = np.random.default_rng(0)
    time, power = (np.exp(draws.normal(0, sd, 20_000)) for sd in (0.06, 0.08))
    half_widths = [float(np.quantile(np.abs(ratios - 1), 0.9)) for ratios in (time, power)]
    interval = together(1.0, Estimate(1.0, 1 - half_widths[0], 1 + half_widths[0]), half_widths[1])
    held = np.mean((time * power >= interval.low) & (time * power <= interval.high))
    assert held == pytest.approx(0.9, abs=0.015)
    # Null: added, as if both were large at once.
    assert np.mean(np.abs(time * power - 1) <= sum(half_widths)) > 0.95


def test_the_interval_of_the_energy_itself_counts_where_it_was_measured():
    found = energy_mj.estimate(network(), on(energy_interval=0.05))
    assert found.high / found.value == pytest.approx(1.05)
    without = energy_mj.estimate(network(), on())
    time = latency_ms.estimate(network(), CHIP)
    assert without.value == found.value
    assert without.high / without.value - 1 == pytest.approx(np.hypot(time.high / time.value - 1, 0.2))


def test_a_time_far_from_what_was_measured_widens_the_interval_of_the_energy(monkeypatch):
    far = Estimate(2.0, 0.5, 8.0, extrapolated=True)
    monkeypatch.setattr(energy_mj, "inference_ms", lambda *_: far)
    found = energy_mj.estimate(network(), on(energy_interval=0.05))
    assert found.extrapolated
    # 40 mW for 2 ms; 300 % above in time and 20 % in power.
    assert (found.value, found.high) == (pytest.approx(0.08), pytest.approx(0.08 * (1 + np.hypot(3.0, 0.2))))


def test_nanojoules_by_hand():
    # Convolution: 2 * 9 * 16 = 288 MACs * 2 nJ, 16 + 32 elements * 0.5, 100 once: 700. Pooling: 34 * 4 + 300 = 436.
    # Linear: 6 MACs * 5 = 30. Together 1,166 nJ and 1,000 once.
    device = on(energy_interval=0.1, consumption=NANOJOULES)
    found = energy_mj.estimate(network(), device)
    assert found.value == pytest.approx(0.002166)
    assert found.high == pytest.approx(0.002166 * 1.1)
    # A correction of the whole multiplies all of it.
    residual = Residual(columns=("cycles_per_mac.conv",), trees=(np.log(2.0).item(),))
    twice = on(energy_interval=0.1, consumption=replace(NANOJOULES, residual=residual))
    assert energy_mj.estimate(network(), twice).value == pytest.approx(2 * 0.002166)


def test_wide_macs_take_as_much_more_energy_as_time():
    # Floats: 3.15 times the cycles of a MAC of 8 bits. 288 * 2 * 3.15 + 124 + 436 + 30 * 3.15 + 1,000 nJ.
    device = on(energy_interval=0.1, consumption=NANOJOULES)
    assert device.latency.relative_by_bits[32, 32] == 3.15
    assert energy_mj.estimate(network(bits=32), device).value == pytest.approx(0.0034689)


def test_nanojoules_by_layer_add_up_to_the_energy():
    device = on(energy_interval=0.1, consumption=NANOJOULES)
    layers = by_layer(network(), device)
    assert sum(layer.energy_mj for layer in layers) == pytest.approx(energy_mj.estimate(network(), device).value)
    assert next(layer.energy_mj for layer in layers if layer.kind == "conv") == pytest.approx(700e-6)


def test_an_operator_without_a_rule_is_refused_whatever_it_takes():
    ruleless = replace(CHIP.latency, cycles_per_mac={"linear": 1.0, "pointwise": 1.0, "depthwise": 1.0})
    device = replace(on(consumption=NANOJOULES), latency=ruleless)
    with pytest.raises(ValueError, match="no rule for the operator 'conv'"):
        energy_mj.estimate(network(), device)


def test_what_belongs_to_a_power_is_refused_beside_a_hierarchy():
    hierarchy = load_device("eyeriss_like").energy.hierarchy
    for more in ({"energy_interval": 0.1}, {"consumption": NANOJOULES}):
        with pytest.raises(ValueError, match="with 'active_power_mw' only"):
            Energy(interval=0.1, hierarchy=hierarchy, **more)
