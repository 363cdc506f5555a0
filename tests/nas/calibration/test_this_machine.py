"""Measuring this machine: what is drawn, what a fit recovers from made-up times, and what the device files say."""

from __future__ import annotations

import numpy as np
import pytest

from estimators.devices.device import deployed
from estimators.devices.files import load_device
from estimators.devices.kernel_features import FEATURES
from estimators.devices.kernel_features import KINDS
from estimators.devices.kernel_features import features_of
from estimators.fitting import kernel_model
from estimators.fitting.cycle_model import fit_robustly
from estimators.fitting.cycle_model import generic_relative
from estimators.fitting.cycle_model import with_overhead
from estimators.fitting.kernel_model import fit_kernel_model
from estimators.models.counts import counts_of
from estimators.models.latency import cycles_of_kernels
from estimators.models.latency import inference_ms
from nas.calibration import this_machine
from nas.calibration.networks import SPACE
from nas.calibration.networks import random_operators
from nas.calibration.networks import spaces
from nas.spaces import random_points
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.merging import merge
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.structure import structure_of


def made_up_ms(network):
    """Make up a time that counts alone cannot express: channels beside a multiple of 16 cost half as much again."""
    kernels = merge(network).kernels
    macs = sum(
        kernel.macs * (0.5 if kernel.kind == "pointwise" else 1.0) * (1.5 if kernel.channels % 16 else 1.0)
        for kernel in kernels
    )
    return 0.002 + 1e-6 * macs + 0.001 * len(kernels)


@pytest.fixture(autouse=True)
def few_stages(monkeypatch):
    monkeypatch.setattr(kernel_model, "STAGES", 25)


@pytest.fixture(scope="module")
def networks():
    return this_machine.calibration_networks(100, 60)


def test_what_is_drawn_has_every_kind_of_kernel_and_every_space(networks):
    kinds = {kernel.kind for network in networks for kernel in network.kernels}
    assert kinds == KERNEL_KINDS | {"flatten"}
    assert {network.space for network in networks} == {space.name for space in spaces()} | {SPACE}
    assert all(op.bits == op.weight_bits == 32 for network in networks for op in network.ops)
    assert len({network.key for network in networks}) == len(networks)


def test_chains_of_operators_alone_have_every_kind():
    kinds = {kernel.kind for network in random_operators(60, 3) for kernel in network.kernels}
    assert kinds == KERNEL_KINDS | {"flatten"}


def test_a_seed_decides_what_is_drawn():
    space = next(space for space in spaces() if space.name == "conv")
    first, again, other = (random_points(space, 5, seed) for seed in (1, 1, 2))
    assert [network.key for network in first] == [network.key for network in again]
    assert [network.key for network in first] != [network.key for network in other]


def test_more_networks_begin_with_the_same_ones():
    few, many = ({network.key for network in this_machine.calibration_networks(*size)} for size in ((20, 12), (40, 24)))
    assert few < many


def test_a_fit_recovers_what_counts_cannot_express(networks):
    latency_ms = np.array([made_up_ms(network) for network in networks])
    running = [merge(network) for network in networks]
    model = fit_kernel_model(running, latency_ms * 1e6, np.arange(len(networks)), folds=2)
    fitted = np.abs(model.predict(running) / (latency_ms * 1e6) - 1)
    counts = with_overhead(np.array([counts_of(network) for network in running]))
    linear = counts @ fit_robustly(counts, latency_ms * 1e6, generic_relative(), 1e-2) / (latency_ms * 1e6) - 1
    assert fitted.mean() < 0.6 * np.abs(linear).mean()
    # Networks left out are harder, and each has a ratio of its own.
    assert fitted.mean() < np.abs(1 / model.ratios - 1).mean() < 0.5
    assert model.trees.keys() <= KERNEL_KINDS


@pytest.mark.parametrize("name", list(this_machine.DEVICES))
def test_the_file_predicts_what_the_model_predicts(networks, name, tmp_path, monkeypatch):
    models = []

    def fit(*given):
        models.append(fit_kernel_model(*given, folds=2))
        return models[-1]

    monkeypatch.setattr(this_machine, "fit_kernel_model", fit)
    latency_ms = np.array([made_up_ms(network) for network in networks])
    found = this_machine.hosted(name, networks, latency_ms)
    path = tmp_path / f"{name}.toml"
    path.write_text(found.text, encoding="utf-8")
    device = load_device(str(path))
    predicted = [inference_ms(network, device).value for network in networks[:40]]
    running = [deployed(network, device) for network in networks[:40]]
    expected = models[0].predict(running) / (device.clock_mhz * 1e3)
    # Coefficients are written with four digits.
    assert predicted == pytest.approx(expected, rel=2e-3)
    assert device.precision == this_machine.DEVICES[name]
    assert device.float_becomes_bits == (8 if name == "host_int8" else None)
    assert device.calibration.networks == len(networks)
    assert device.latency.interval == pytest.approx(found.interval, rel=1e-3)
    assert device.calibration.within_10_percent == pytest.approx(found.close, rel=1e-3)


def test_measurements_are_kept_and_not_made_again(networks, tmp_path, monkeypatch):
    asked = []

    def fastest_ms(models):
        asked.append(len(models))
        return [0.1 * (number + 1) for number in range(len(models))]

    monkeypatch.setattr(this_machine, "_written", lambda network, _precision: network)
    monkeypatch.setattr(this_machine, "fastest_ms", fastest_ms)
    path = tmp_path / "folder" / "measured.csv"
    first = this_machine.timed(networks[:3], "int8", path)
    assert first.tolist() == pytest.approx([0.1, 0.2, 0.3])
    # Two more: only they are timed, and each keeps its own time.
    more = this_machine.timed([networks[4], *networks[:4]], "int8", path)
    assert more.tolist() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.2])
    assert asked == [3, 2]
    assert not this_machine.read_measurements(path, "float32")


def test_a_disturbed_measurement_is_made_again_and_given_up_in_the_end(networks, tmp_path, monkeypatch):
    tries = []

    def fastest_ms(_models):
        tries.append(1)
        raise ValueError("other processes use this machine")

    monkeypatch.setattr(this_machine, "_written", lambda network, _precision: network)
    monkeypatch.setattr(this_machine, "fastest_ms", fastest_ms)
    with pytest.raises(ValueError, match="other processes use this machine"):
        this_machine.timed(networks[:2], "float32", tmp_path / "measured.csv")
    assert len(tries) == this_machine.ATTEMPTS


def test_features_are_those_of_the_kernel_and_its_neighbours():
    graph = GraphBuilder((3, 8, 8))
    x = graph.activation(graph.norm(graph.conv(0, 24, kernel=(3, 3), stride=(2, 2), padding=(1, 1))), "tanh")
    y = graph.conv(x, 24)
    z = graph.add(y, x)
    graph.linear(graph.flatten(z), 10, bias=True)
    network = graph.architecture("test", {})
    conv, pointwise, add, _, linear = (dict(zip(FEATURES, row, strict=True)) for row in features_of(network))
    assert (conv["macs"], conv["padded_macs"]) == (24 * 3 * 9 * 16, 32 * 16 * 9 * 16)
    assert (conv["window"], conv["stride"], conv["positions"], conv["width"]) == (9, 4, 16, 4)
    assert (conv["channels_in_last_vector"], conv["in_channels_in_last_vector"]) == (8, 3)
    assert (conv["folded"], conv["norm"], conv["function"], conv["readers"]) == (2, True, 4, 2)
    assert (pointwise["added_to"], conv["added_to"]) == (True, False)
    assert (add["inputs"], add["fusible"], add["blocked"], add["unblocked"]) == (2, 1, 2, 0)
    assert (conv["blocked"], conv["unblocked"]) == (0, 1)
    # A view is looked through.
    assert (KINDS[add["source"]], KINDS[add["other_source"]], KINDS[linear["source"]]) == ("pointwise", "conv", "add")


def test_trees_change_kernels_and_not_only_their_sum(networks, tmp_path):
    found = this_machine.hosted("host", networks, np.array([made_up_ms(network) for network in networks]))
    path = tmp_path / "host.toml"
    path.write_text(found.text, encoding="utf-8")
    device = load_device(str(path))
    graph = GraphBuilder((32, 8, 8))
    graph.linear(graph.flatten(graph.conv(graph.conv(0, 32), 24)), 10, bias=True)
    network = graph.architecture("test", {})
    full, ragged, view, _ = cycles_of_kernels(network, device)
    assert view == 0.0
    assert ragged / network.kernels[1].macs > full / network.kernels[0].macs


def test_calibration_and_benchmark_share_no_network(monkeypatch, networks):
    from pathlib import Path  # noqa: PLC0415

    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import latency_host  # noqa: PLC0415

    others = latency_host.other_networks(12, networks)
    assert len(others) == 12 * len({space.name for space in spaces()})
    assert not {structure_of(network) for network in others} & {structure_of(network) for network in networks}
