from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student_t

from estimators.devices.files import load_device
from estimators.fitting.least_squares import Fit
from estimators.fitting.least_squares import fit_cycles
from estimators.models.counts import COLUMNS
from estimators.models.counts import counts_of
from estimators.models.latency import inference_ms
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.builder import GraphBuilder


def residual():
    graph = GraphBuilder((3, 8, 8))
    x = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3), padding=(1, 1))))
    y = graph.conv(graph.depthwise(x, kernel=(3, 3), padding=(1, 1)), 8)
    x = graph.activation(graph.add(x, y))
    x = graph.pool(graph.concat(x, graph.norm(x)), "avg", kernel=(8, 8), stride=(8, 8))
    graph.linear(graph.flatten(x), 10, bias=True)
    return graph.architecture("test", {})


def test_counts_times_coefficients_are_the_latency_of_the_device():
    device = load_device("host")
    # By counts alone: what is learned of single kernels is another matter (tests/nas/calibration/test_this_machine.py).
    device = replace(device, latency=replace(device.latency, kernels=None))
    tables = {
        "cycles_per_mac": device.latency.cycles_per_mac,
        "cycles_per_element": device.latency.cycles_per_element,
        "cycles_per_kernel": device.latency.cycles_per_kernel,
    }
    coefficients = np.array([tables[table].get(kind, 0.0) for table, kind in COLUMNS])
    cycles = counts_of(residual()) @ coefficients
    expected = device.latency.overhead_ms + cycles / (device.clock_mhz * 1e3)
    assert inference_ms(residual(), device).value == pytest.approx(expected)


def test_an_unknown_operator_is_refused():
    network = residual()
    strange = tuple(kernel._replace(kind="attention") for kernel in network.kernels)
    network.__dict__["kernels"] = strange
    assert isinstance(network, Architecture)
    with pytest.raises(ValueError, match="attention"):
        counts_of(network)


def test_exact_measurements_give_back_their_coefficients():
    counts = np.random.default_rng(0).uniform(1, 100, (12, 3))
    fit = fit_cycles(counts, counts @ [2.0, 0.0, 5.0])
    assert fit.coefficients == pytest.approx([2.0, 0.0, 5.0], abs=1e-9)
    assert fit.ratios == pytest.approx(np.ones(12))


def test_the_error_is_relative_so_a_small_network_counts_as_much_as_a_large_one():
    fit = fit_cycles(np.array([[1.0], [1.0], [1000.0], [1000.0]]), np.array([3.0, 3.0, 1000.0, 1000.0]))
    # Absolute least squares would give 1.00; the relative errors 1 - c / 3 and 1 - c balance at 1.2.
    assert fit.coefficients == pytest.approx([1.2])


def test_each_network_is_judged_without_itself():
    cycles = np.array([10.0, 10.0, 10.0, 20.0])
    fit = fit_cycles(np.ones((4, 1)), cycles)
    assert fit.ratios[3] == pytest.approx(2.0)
    assert fit.errors[3] == pytest.approx(-0.5)
    grouped = fit_cycles(np.ones((4, 1)), np.array([10.0, 40.0, 10.0, 40.0]), folds=2)
    assert grouped.ratios == pytest.approx([0.25, 4.0, 0.25, 4.0])


def test_a_type_seen_once_falls_back_to_the_relatives_ratio_when_left_out():
    counts = np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    fit = fit_cycles(counts, counts @ [10.0, 30.0], np.array([1.0, 3.0]))
    assert fit.ratios == pytest.approx(np.ones(4), rel=1e-6)
    assert fit.strength > 0
    assert np.abs(fit_cycles(counts, counts @ [10.0, 30.0]).errors).max() > 0.9


def test_the_interval_is_the_conformal_quantile_or_students_t():
    ratios = 1 + np.arange(1, 20) / 100  # 19 errors from 1 % to 19 %: rank ceil(0.9 * 20) = 18
    assert Fit(np.ones(1), ratios, 0.0).interval == pytest.approx(0.18)
    few = Fit(np.ones(1), np.array([0.9, 1.1, 0.9, 1.1]), 0.0)
    assert few.interval == pytest.approx(0.1 * student_t.ppf(0.95, 4))


@pytest.mark.parametrize(
    ("counts", "cycles"),
    [
        (np.ones((2, 1)), np.ones(2)),
        (np.ones((3, 1)), np.ones(4)),
        (np.ones((3, 1)), np.array([1.0, 0.0, 1.0])),
        (np.ones((3, 1)), np.array([1.0, np.nan, 1.0])),
        (np.full((3, 1), np.inf), np.ones(3)),
    ],
)
def test_what_cannot_be_fitted_is_refused(counts, cycles):
    with pytest.raises(ValueError, match="expected"):
        fit_cycles(counts, cycles)
