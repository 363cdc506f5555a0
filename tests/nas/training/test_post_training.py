"""Post-training versions: near the float network at 8 bits, less and less of it below, and nothing else changed."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from estimators.leakage.attacks import loss
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics.auc_and_rates import auc
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.post_training import BITS
from nas.training.post_training import compressed
from nas.training.recipe import Recipe
from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import ActivationQuantizer
from search_spaces.network import build

MEMBERS = 500


@cache
def digits():
    """Images `(1797, 1, 8, 8)` and labels, in an order of chance; a third of the labels of members is wrong."""
    rng = np.random.default_rng(0)
    data = load_digits()
    order = rng.permutation(len(data.target))
    features = ((data.images - data.images.mean()) / data.images.std()).astype(np.float32)[order, None]
    noise = rng.random(len(order)) < 0.3
    return features, data.target[order], np.where(noise, rng.integers(0, 10, len(order)), data.target[order])


def float_of(space):
    made = space.make_space((1, 8, 8), 10)
    return made.decode(made.reference).as_float()


@cache
def network(name, *, wrong=False):
    """A float network trained on 500 digits; of `wrong` labels it learns what it learns by heart."""
    features, labels, noisy = digits()
    space, epochs = (conv, 15) if name == "conv" else (mlp, 12)
    recipe = Recipe(epochs=60 if wrong else epochs, weight_decay=0.0 if wrong else 1e-4)
    rows = slice(MEMBERS)
    targets = torch.from_numpy(noisy[rows] if wrong else labels[rows])
    return train(plain_setup(float_of(space), torch.from_numpy(features[rows]), targets, recipe, seed=1))


def calibration():
    return digits()[0][1400:]


def answers(trained):
    return logits_of(trained, torch.from_numpy(digits()[0][:1400]))


def quantizers(trained):
    return {name: module for name, module in trained.named_modules() if isinstance(module, ActivationQuantizer)}


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_eight_bits_name_the_float_networks_classes(name):
    whole, version = answers(network(name)), answers(compressed(network(name), 8, calibration()))
    assert (whole.argmax(axis=1) == version.argmax(axis=1)).mean() > 0.95
    assert not np.array_equal(whole, version)
    assert (whole.argmax(axis=1) == digits()[1][:1400]).mean() > 0.85


@pytest.mark.parametrize("bits", BITS)
def test_all_weights_and_tensors_have_the_bits(bits):
    version = compressed(network("conv"), bits, calibration())
    assert {op.bits for op in version.architecture.ops} == {bits}
    assert {module.weight_bits for module in version.modules() if hasattr(module, "weight_bits")} == {bits}
    found = quantizers(version)
    assert found
    assert {module.bits for module in found.values()} == {bits}
    assert not any(module.training for module in version.modules())
    assert np.isfinite(answers(version)).all()


def test_ranges_are_those_of_the_calibration_records():
    trained, records = network("conv"), calibration()
    version = compressed(trained, 8, records)
    found = quantizers(version)
    assert all(bool(module.seen) for module in found.values())
    # The first one rounds the records themselves: its range follows the largest magnitude of each batch of 64.
    expected = None
    for batch in torch.split(torch.from_numpy(records), 64):
        largest = batch.abs().max().item()
        expected = largest if expected is None else 0.9 * expected + 0.1 * largest
    assert next(iter(found.values())).magnitude.item() == pytest.approx(expected, rel=1e-5)
    # Larger records give larger ranges.
    twice = quantizers(compressed(trained, 8, 2 * records))
    assert all(twice[name].magnitude > module.magnitude for name, module in found.items())


def test_weights_and_batch_norms_stay_and_so_does_the_original():
    trained = network("conv")
    before = {name: values.clone() for name, values in trained.state_dict().items()}
    modes = [module.training for module in trained.modules()]
    logits = answers(trained)
    # Records of another mean: batch norms in train mode would follow them.
    version = compressed(trained, 4, calibration() + 3)
    state = version.state_dict()
    assert all(torch.equal(state[name], values) for name, values in before.items())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(values, before[name]) for name, values in trained.state_dict().items())
    assert [module.training for module in trained.modules()] == modes
    np.testing.assert_array_equal(answers(trained), logits)
    with torch.no_grad():
        for values in version.state_dict().values():
            values.zero_()
    np.testing.assert_array_equal(answers(trained), logits)


def test_the_same_version_twice_is_the_same_and_asks_no_random_numbers():
    state = torch.random.get_rng_state()
    first, second = (answers(compressed(network("conv"), 4, calibration())) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_quantised_already_keeps_its_bits_and_its_range():
    space = mlp.make_space((1, 8, 8), 10)
    half = space.decode({**space.reference, "layer1_activation_bits": 4})
    features, labels, _ = digits()
    rows = slice(MEMBERS)
    setup = plain_setup(half, torch.from_numpy(features[rows]), torch.from_numpy(labels[rows]), Recipe(epochs=2), 1)
    trained = train(setup)
    known = quantizers(trained)
    assert known
    version = compressed(trained, 8, 5 * calibration())
    for name, module in quantizers(version).items():
        assert module.bits == (4 if name in known else 8)
        if name in known:
            assert torch.equal(module.magnitude, known[name].magnitude)
    assert sorted({op.bits for op in version.architecture.ops}) == [4, 8]


def test_what_cannot_be_compressed_is_refused():
    trained = network("mlp")
    for bits in (32, 16, 5, 0, -1):
        with pytest.raises(ValueError, match=rf"^expected post-training bits of \[8, 4, 3, 2, 1\]; got {bits}$"):
            compressed(trained, bits, calibration())
    version = compressed(trained, 4, calibration())
    for bits in BITS:
        with pytest.raises(ValueError, match=r"all are quantised already$"):
            compressed(version, bits, calibration())


def test_a_network_in_train_mode_is_refused():
    features, labels, _ = digits()
    setup = plain_setup(
        float_of(mlp), torch.from_numpy(features[:64]), torch.from_numpy(labels[:64]), Recipe(epochs=1), 1
    )
    trained = train(setup).train()
    with pytest.raises(ValueError, match=r"^expected a network in eval mode; .*call \.eval\(\) first$"):
        compressed(trained, 8, calibration())
    assert trained.training


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_leakage_falls_with_the_bits(name):
    _, _, noisy = digits()
    labels, is_member = noisy[:1000], np.arange(1000) < MEMBERS
    trained = network(name, wrong=True)

    def leakage(version):
        return auc(loss.attack(Evidence(answers(version)[:1000], labels)), is_member)

    whole = leakage(trained)
    eight, four, two, one = (leakage(compressed(trained, bits, calibration())) for bits in (8, 4, 2, 1))
    assert whole > 0.65
    assert eight == pytest.approx(whole, abs=0.02)
    assert four <= whole + 0.02
    assert two <= four + 0.02
    assert max(one, two) <= whole
    assert min(one, two) < whole - 0.05


def test_every_exit_is_compressed():
    graph = GraphBuilder((6,))
    early = graph.linear(0, 3, bias=True)
    late = graph.linear(graph.activation(graph.linear(0, 16)), 3)
    trained = build(graph.architecture("example", {}, (early, late))).eval()
    records = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    version = compressed(trained, 8, records)
    assert version.architecture.outputs == (early, late)
    with torch.no_grad():
        before, after = (network(torch.from_numpy(records)) for network in (trained, version))
    for wanted, found in zip(before, after, strict=True):
        # A range is the average of batches' largest values, so the largest of all are cut off.
        assert 0 < (wanted - found).abs().median() < 0.05 * wanted.std()
