import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from nas.base.onnx_runtime import session
from nas.defences.confidence_rounding import RoundedConfidences
from nas.deploy import deployed as deploying
from nas.deploy.deployed import Compared
from nas.deploy.onnx_file import own_precision
from nas.deploy.timing import Timing
from nas.runs import networks
from nas.runs.architectures import read_architecture
from nas.runs.networks import read_pick
from nas.training.answers import answering
from search_spaces.network import build


@pytest.fixture(scope="module")
def pick(trained_run, nas, tmp_path_factory):
    """A folder that `nas pick` wrote, in a copy of its run."""
    runs = shutil.copytree(trained_run.runs, tmp_path_factory.mktemp("picked") / "runs")
    result = nas("pick", trained_run.name, "--runs", runs, "--json")
    assert result.code == 0, result.err
    return runs / trained_run.name / "picks" / json.loads(result.out)["folder"].rsplit("/", 1)[1]


def find(text, shape=(1, 8, 8)):
    return networks.find_network(text, "conv", shape, 10, None)


def test_a_pick_is_found_with_its_weights_and_its_runs_records(pick):
    found = find(str(pick))
    described = json.loads((pick / "architecture.json").read_text())
    assert found.trained
    assert found.architecture.key == described["key"]
    assert not found.network.training
    again = read_pick(pick)[1]
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in found.network.state_dict().items())
    # Reserve and validation share no record.
    rows = {record.numpy().tobytes() for record in found.calibration}
    assert len(rows) == len(found.calibration) >= 100
    assert rows.isdisjoint(record.tobytes() for record in found.preprocessing.standardised(found.check.numpy()))
    # What judges it: the labels of the check records, and the run's two sides.
    data = networks.open_run("small", pick.parents[2]).data
    assert found.labels.tolist() == data.validation.labels.tolist()
    for ours, theirs in ((found.members, data.members), (found.non_members, data.non_members)):
        np.testing.assert_array_equal(found.preprocessing.standardised(ours.features.numpy()), theirs.features)
        np.testing.assert_array_equal(ours.labels.numpy(), theirs.labels)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_pick_is_written_and_runs(pick, precision, tmp_path):
    found = find(str(pick))
    exported = deploying.write(found, precision, tmp_path / "deep" / f"{precision}.onnx")
    assert exported.judgement.agreement >= 0.99
    assert exported.path.is_file()
    assert exported.size_kib == pytest.approx(exported.path.stat().st_size / 1024)


def test_random_weights_are_the_same_each_time(tmp_path):
    one, other = find(None), find('{"depth": 2}')
    assert not one.trained
    assert torch.equal(one.check, other.check)
    assert not torch.equal(one.check, one.calibration)
    paths = [deploying.write(found, "int8", tmp_path / name).path for found, name in ((one, "a"), (other, "b"))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_network_is_held_against_a_devices_prediction(monkeypatch):
    seen = []

    def time_models(models, *, rounds):
        seen.extend(models)
        return [Timing(0.02, 0.01, 0.03, 0.0, rounds)] * len(models)

    monkeypatch.setattr(deploying, "time_models", time_models)
    found = find('{"block1_weight_bits": 4, "block1_activation_bits": 4}')
    host = load_device("host")
    plain, mixed, integer = deploying.compare(found, [host], rounds=3)
    assert (mixed.precision, mixed.predicted) == ("mixed", None)
    assert (plain.precision, integer.precision) == ("float32", "int8")
    assert plain.timing.repetitions == 3
    twin = deploying.screen(found.architecture.as_float(), host)["latency_ms"]
    assert plain.predicted == twin
    assert plain.error == pytest.approx(twin.value / 0.01 - 1)
    # host is a float32 device: it says nothing about int8.
    assert integer.predicted is None
    assert integer.error is None
    both = deploying.compare(found, [host, load_device("host_int8")], rounds=3)
    assert both[1].predicted is None  # host_int8 makes all of it int8
    assert both[2].predicted == deploying.screen(found.architecture, load_device("host_int8"))["latency_ms"]
    kinds = [{node.op_type for node in model.graph.node} for model in seen]
    assert "Round" not in kinds[0]
    assert "QuantizeLinear" in kinds[1]
    assert "QuantizeLinear" in kinds[2]
    board = load_device("stm32h747")
    mixed, integer = deploying.compare(found, [board], precisions=["mixed", "int8"])
    assert mixed.predicted == deploying.screen(found.architecture, board)["latency_ms"]
    assert integer.predicted == deploying.screen(found.architecture.without_float(8), board)["latency_ms"]
    assert integer.predicted.value < mixed.predicted.value


def test_a_picks_float_file_has_the_error_and_the_loss_auc_of_the_search(pick, tmp_path):
    found = find(str(pick))
    judgement = deploying.write(found, "float32", tmp_path / "a.onnx").judgement
    run = networks.open_run("small", pick.parents[2])
    measured = run.trained(int(pick.name)).user_attrs
    assert judgement.error.value == measured["error"]
    # The search's interval holds what trainings vary by, too.
    assert measured["error_low"] < judgement.error.low < judgement.error.high < measured["error_high"]
    assert judgement.loss_auc.value == pytest.approx(measured["loss_auc"], abs=1e-3)
    assert (judgement.error_increase.value, round(judgement.loss_auc_increase.value, 3)) == (0, 0)


def test_a_file_that_is_worse_is_not_written(pick, tmp_path, monkeypatch):
    found = find(str(pick))
    other, write = build(found.architecture, seed=9).eval(), deploying.in_precision
    monkeypatch.setattr(deploying, "in_precision", lambda architecture, _, *rest: write(architecture, other, *rest))
    with pytest.raises(ValueError, match=r"^expected the int8 file to err on at most 0\.02 more of \d+ validation rec"):
        deploying.write(found, "int8", tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"^expected the float32 file to name PyTorch's class for 99% of \d+ records"):
        deploying.write(found, "float32", tmp_path / "a.onnx", deploying.Tolerances(error=1, leakage=1))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^expected the int8 file to name the class of the network with its biases"):
        deploying.write(found, "int8", tmp_path / "a.onnx", deploying.Tolerances(error=1, leakage=1))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_worse_is_accepted_where_its_network_rounds_less(pick, tmp_path, monkeypatch):
    monkeypatch.setattr(deploying, "is_all_trained", lambda *_: False)
    found = find(str(pick))
    other, write = build(found.architecture, seed=9).eval(), deploying.in_precision
    monkeypatch.setattr(deploying, "in_precision", lambda architecture, _, *rest: write(architecture, other, *rest))
    accepted = deploying.write(found, "int8", tmp_path / "a.onnx", deploying.Tolerances(error=1, leakage=1))
    assert accepted.judgement.error_increase.low > 0.02
    assert accepted.judgement.exactness is None


def test_the_attack_of_the_search_is_repeated_on_the_file(pick, tmp_path):
    found = find(str(pick))
    proxy = deploying.proxy_on(found)
    assert proxy.name == found.run.config.attack
    measured = found.run.trained(int(pick.name)).user_attrs
    judgement = deploying.write(found, "float32", tmp_path / "a.onnx", None, proxy).judgement
    assert judgement.leakage.value == pytest.approx(measured["leakage"], abs=1e-3)
    assert judgement.leakage_increase.value == pytest.approx(0, abs=1e-3)


def test_the_attack_is_not_repeated_without_its_reference_networks(pick):
    found = find(str(pick))
    for path in pick.parents[2].glob(".cache/reference-*.npz"):
        path.rename(path.with_suffix(".away"))
    try:
        assert deploying.proxy_on(find(str(pick))).startswith("the search's reference networks are not here: ")
    finally:
        for path in pick.parents[2].glob(".cache/reference-*.away"):
            path.rename(path.with_suffix(".npz"))
    assert deploying.proxy_on(find(None)) == "its weights are random"
    assert "trained anew" in deploying.proxy_on(replace(found, is_retrained=True))


def test_a_busy_machine_refuses_no_file(pick, tmp_path, monkeypatch):
    def busy(_models):
        raise ValueError("other processes use this machine")

    monkeypatch.setattr(deploying, "fastest_ms", busy)
    exported = deploying.write(find(str(pick)), "int8", tmp_path / "a.onnx")
    assert exported.here.latency_ms is None
    assert exported.here.is_inside is None


def test_a_time_is_held_against_the_device_of_this_processor_alone(pick, tmp_path, monkeypatch):
    found = find(str(pick))
    monkeypatch.setattr(deploying, "fastest_ms", lambda _models: [1.0])
    host = load_device("host_int8")
    for processor, is_there in ((host.core, True), ("another", False)):
        monkeypatch.setattr(deploying.environment, "describe", lambda processor=processor: {"processor": processor})
        here = deploying.write(found, "int8", tmp_path / "a.onnx").here
        assert (here.predicted is not None) == is_there
    here = deploying.Here(1.0, Estimate(2.0, 1.0, 3.0))
    assert here.is_inside
    assert not replace(here, latency_ms=0.9).is_inside


def test_of_random_weights_nothing_is_judged(tmp_path, monkeypatch):
    found = find(None)
    other, write = build(found.architecture, seed=9).eval(), deploying.in_precision
    monkeypatch.setattr(deploying, "in_precision", lambda architecture, _, *rest: write(architecture, other, *rest))
    for precision in ("float32", "int8"):
        judgement = deploying.write(found, precision, tmp_path / precision).judgement
        assert judgement.estimates == {}
        assert judgement.agreement < 0.5


def test_the_error_of_a_prediction_has_its_sign():
    low = Compared("float32", Timing(2.0, 2.0, 2.0, 0.0, 1), Estimate(1.0, 1.0, 1.0))
    assert low.error == -0.5


def test_a_folder_that_is_no_pick_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^expected a folder that nas pick wrote, with architecture.json and weights"):
        find(str(tmp_path))


def test_weights_of_another_network_are_refused(pick, tmp_path):
    folder = shutil.copytree(pick, tmp_path / "pick")
    described = json.loads((folder / "architecture.json").read_text())
    (folder / "architecture.json").write_text(json.dumps({**described, "key": "0" * 16}))
    with pytest.raises(ValueError, match=r"^expected the network 0000000000000000 in [^\n]+; this version builds"):
        read_pick(folder)
    widths = {f"layer{n}_width": 16 if described["params"][f"layer{n}_width"] != 16 else 32 for n in (1, 2, 3, 4)}
    params = {**described["params"], **widths}
    (folder / "architecture.json").write_text(json.dumps({**described, "params": params, "key": None}))
    key = read_architecture(str(folder / "architecture.json"), "", (), 0, None).key
    (folder / "architecture.json").write_text(json.dumps({**described, "params": params, "key": key}))
    with pytest.raises(ValueError, match=rf"^expected the weights of network {key} in [^\n]+; got others"):
        read_pick(folder)


def test_a_pick_outside_its_run_is_refused(pick, tmp_path):
    folder = shutil.copytree(pick, tmp_path / "a" / "b" / "pick")
    with pytest.raises(ValueError, match=r"^expected a pick inside its run, .+ there is no run in .+$"):
        find(str(folder))


def test_the_exported_file_computes_the_pick(pick, tmp_path):
    found = find(str(pick))
    path = deploying.write(found, "float32", tmp_path / "a.onnx").path
    with torch.no_grad():
        wanted = found.network(torch.from_numpy(found.preprocessing.standardised(found.check.numpy()))).numpy()
    np.testing.assert_allclose(
        session(onnx.load(path)).run(None, {"records": found.check.numpy()})[0], wanted, atol=1e-3
    )


def test_what_is_timed_answers_as_what_is_deployed(monkeypatch):
    timed = []

    def measured(models, *, rounds):
        timed.extend(models)
        return [Timing(1.0, 1.0, 1.0, 1, 1) for _ in models]

    monkeypatch.setattr(deploying, "time_models", measured)
    found = find(None)
    answering(found.network, RoundedConfidences(2))
    deploying.compare(found, [])
    assert len(timed) == 2
    for model in timed:
        answers = session(model).run(None, {"records": found.check[:8].numpy()})[0]
        counts = 100 * np.exp(answers)
        np.testing.assert_allclose(counts, counts.round(), atol=1e-3)


def test_each_file_is_priced_as_what_it_computes(pick, tmp_path):
    found = find(str(pick))
    board, network = load_device(found.device), found.architecture
    measured = networks.open_run("small", pick.parents[2]).trained(int(pick.name)).user_attrs
    bits = {"float32": network.as_float(), "int8": network.without_float(8), "mixed": network}
    own = own_precision(network)
    for precision in deploying.precisions_of(network):
        exported = deploying.write(found, precision, tmp_path / precision)
        assert exported.as_priced == (precision == own)
        assert exported.prices == deploying.screen(network if precision == own else bits[precision], board)
        if exported.as_priced:
            assert {name: value.value for name, value in exported.prices.items()}.items() <= measured.items()


def test_what_a_devices_estimates_are_about():
    mixed = find('{"block1_weight_bits": 4, "block1_activation_bits": 4}').architecture
    assert deploying.precisions_of(mixed) == ("float32", "mixed", "int8")
    assert deploying.precisions_of(mixed.as_float()) == ("float32", "int8")
    about = {name: deploying.priced_as(mixed, load_device(name)) for name in ("host", "host_int8", "stm32h747")}
    assert about == {"host": "float32", "host_int8": "int8", "stm32h747": "mixed"}
    host = load_device("host")
    assert deploying._prices(mixed, "float32", host) == deploying.screen(deploying.as_shipped(mixed, host), host)
    with pytest.raises(ValueError, match="its figures are about float32 files"):
        deploying._prices(mixed, "int8", host)
    board = load_device("stm32h747")
    prices = [deploying._prices(mixed, name, board) for name in ("int8", "mixed", "float32")]
    times, sizes = ([found[name].value for found in prices] for name in ("latency_ms", "flash_kib"))
    assert times[0] < times[1] <= times[2]  # a layer of 4-bit weights that reads a float computes in float
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_network_without_both_is_not_written_as_mixed(tmp_path):
    with pytest.raises(ValueError, match=r"^expected a network of layers in float and in 8 .+ mixed; got float32$"):
        deploying.write(find('{"block1_weight_bits": 32}'), "mixed", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
