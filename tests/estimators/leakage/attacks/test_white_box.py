"""Signals from inside a network, against autograd, and the attack that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import loss
from estimators.leakage.attacks import white_box as attacked
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.shared.gradients import gradient_norm
from estimators.leakage.shared.gradients import gradients
from estimators.leakage.shared.gradients import log_activation_norm
from estimators.leakage.shared.gradients import log_gradient_norm
from estimators.leakage.statistics.auc_and_rates import auc
from nas.audit.oracles import of_network
from search_spaces.graph.builder import GraphBuilder
from search_spaces.layers.quantize import quantize_weight
from search_spaces.network import build


def quantised(bits, *, image=False):
    """A network of the search spaces in which everything has `bits` bits, with its ranges set, and records for it."""
    shape = (2, 5, 5) if image else (6,)
    graph = GraphBuilder(shape, bits=max(bits, 8))
    x = graph.activation(graph.norm(graph.conv(0, 4, weight_bits=bits)), "relu") if image else 0
    x = graph.flatten(x) if image else x
    x = graph.linear(x, 12, bias=True, weight_bits=bits)
    graph.linear(graph.activation(x, "relu", bits=bits), 5, bias=True, weight_bits=bits)
    network = build(graph.architecture("example", {}), dropout=0.3, seed=bits)
    records = torch.from_numpy(np.random.default_rng(bits).normal(0, 1, (20, *shape)).astype(np.float32))
    with torch.no_grad():
        network.train()(records)
    return network.eval(), records


def autograd(network, records, labels):
    """Logits, what the last layer reads with 1 for its bias, and gradients by its deployed weights, one by one."""
    layer = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    bits = getattr(layer, "weight_bits", 32)
    levels, scale = quantize_weight(layer.weight, bits) if bits < 32 else (layer.weight, 1.0)
    weight, bias = (one.detach().clone().requires_grad_() for one in (levels * scale, layer.bias))
    read = []

    def deployed(_layer, inputs, output):
        read.append(inputs[0].detach())
        shipped = functional.linear(inputs[0], weight, bias)
        torch.testing.assert_close(shipped, output)
        return shipped

    hook, logits, found = layer.register_forward_hook(deployed), [], []
    for record, label in zip(records, torch.from_numpy(labels), strict=True):
        answer = network(record[None])
        logits.append(answer.detach())
        by_weight, by_bias = torch.autograd.grad(functional.cross_entropy(answer, label[None]), (weight, bias))
        found.append(torch.cat([by_weight, by_bias[:, None]], dim=1))
    hook.remove()
    read = torch.cat(read).numpy()
    return torch.cat(logits).numpy(), np.concatenate([read, np.ones_like(read[:, :1])], 1), torch.stack(found).numpy()


def largest_error(found, expected):
    """Of any record, as a share of its gradient's norm."""
    axes = tuple(range(1, expected.ndim))
    return (np.sqrt(((found - expected) ** 2).sum(axes)) / np.sqrt((expected**2).sum(axes))).max()


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("bits", [32, 8, 4, 2, 1])
def test_gradients_are_autograds_through_every_bit_width(bits, image):
    network, records = quantised(bits, image=image)
    labels = np.random.default_rng(1).integers(0, 5, 20)
    logits, activations, expected = autograd(network.double(), records.double(), labels)
    assert logits.dtype == np.float64
    assert largest_error(gradients(logits, labels, activations), expected) < 1e-12
    norms = np.sqrt((expected**2).sum((1, 2)))
    np.testing.assert_allclose(gradient_norm(logits, labels, activations), norms, rtol=1e-12)


@pytest.mark.parametrize("bits", [32, 8, 4, 2, 1])
def test_what_an_oracle_shows_gives_the_gradients_of_the_float32_network(bits):
    network, records = quantised(bits)
    labels = np.random.default_rng(1).integers(0, 5, 20)
    _, with_bias, expected = autograd(network, records, labels)
    oracle = of_network(network)
    logits, activations = oracle.query(records.numpy()), oracle.activations(records.numpy())
    np.testing.assert_allclose(activations, with_bias[:, :-1], rtol=1e-5, atol=1e-6)
    # float32 logits of size 1 are right to 1e-7, and so is autograd itself.
    assert largest_error(gradients(logits, labels, activations), expected[:, :, :-1]) < 2e-6


def test_gradients_of_a_sure_network_do_not_cancel():
    # p = 1 in float64 beyond odds of 37: autograd there gives 0 for the label's row.
    logits, labels, activations = np.array([[50.0, 0.0, -1.0]]), np.array([0]), np.array([[2.0, 1.0]])
    others = np.exp([-50.0, -51.0])
    residual = np.array([-others.sum(), *others])
    found = gradients(logits, labels, activations)
    np.testing.assert_allclose(found[0], residual[:, None] * activations, rtol=1e-12)
    norm = np.sqrt((residual**2).sum() * 5)
    np.testing.assert_allclose(gradient_norm(logits, labels, activations), [norm], rtol=1e-12)
    np.testing.assert_allclose(log_gradient_norm(logits, labels, activations), [np.log(norm)], rtol=1e-12)


def test_signals_are_finite_where_numbers_end():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, -1e4], [0.0, 0.0]], np.float32)
    activations = np.array([[1.0, 1.0], [3e38, 3e38], [0.0, 0.0], [1e-40, 0.0]], np.float32)
    labels = np.zeros(4, int)
    logs = [log_gradient_norm(logits, labels, activations), log_activation_norm(activations)]
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(logs[0][:2], [-20000 + np.log(2), np.log(6e38 * np.sqrt(2) / np.sqrt(2))], rtol=1e-6)
    assert logs[0][2] == logs[0].min()
    np.testing.assert_allclose(np.exp(logs[1][[0, 3]]), [np.sqrt(2), 1e-40], rtol=1e-4)
    assert gradient_norm(logits, labels, activations)[[0, 2]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (np.zeros((3, 4)), r"expected activations \(2, units\); got \(3, 4\)"),
        (np.zeros((2, 0)), r"expected activations \(2, units\); got \(2, 0\)"),
        (np.zeros(2), r"expected activations \(2, units\)"),
        (np.zeros((2, 3), int), r"expected finite activations of floats; got int"),
        (np.array([[np.nan], [1.0]]), "expected finite activations"),
    ],
)
@pytest.mark.parametrize("signal", [gradients, gradient_norm, log_gradient_norm])
def test_what_is_no_activation_is_refused(signal, activations, message):
    with pytest.raises(ValueError, match=message):
        signal(np.zeros((2, 3)), np.array([0, 2]), activations)
    with pytest.raises(ValueError, match="expected labels from 0 to 2"):
        signal(np.zeros((2, 3)), np.array([0, 3]), np.ones((2, 3)))


def test_a_norm_of_no_units_is_refused():
    with pytest.raises(ValueError, match=r"expected activations \(2, units\); got \(2,\)"):
        log_activation_norm(np.zeros(2))


def memorise(features, labels, classes, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(features.shape[1], 64), nn.ReLU(), nn.Linear(64, classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(network(features), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def overfit():
    """Digits, a fifth of their labels drawn anew: two networks that know their half by heart, eight references."""
    rng = np.random.default_rng(0)
    pixels, labels = load_digits(return_X_y=True)
    features, labels = (pixels[:800] / 16).astype(np.float32), labels[:800].copy()
    labels[:160] = rng.integers(0, 10, 160)
    firsts = [rng.permutation(800) < 400 for _ in range(5)]
    trained_on = np.stack([mask for first in firsts for mask in (first, ~first)])
    given = torch.from_numpy(features), torch.from_numpy(labels)
    networks = [memorise(*(one[mask] for one in given), 10, seed) for seed, mask in enumerate(trained_on)]
    oracles = tuple(of_network(network) for network in networks)
    logits = np.stack([oracle.query(features) for oracle in oracles])
    bank = Bank(logits[2:], trained_on[2:], labels, oracles[2:])
    attacks = [Evidence(logits[n], labels, bank, features=features, oracle=oracles[n]) for n in (0, 1)]
    return attacks, trained_on[:2]


def shown(activations):
    return Oracle(lambda features: features, lambda _: activations)


def drawn(seed, *, leak=0.0, inside=0.0, references=8, records=600):
    """Logits surer of members by `leak`, activations longer on members by `inside`."""
    rng = np.random.default_rng(seed)
    firsts = [rng.permutation(records) < records // 2 for _ in range(references // 2 + 1)]
    trained_on = np.stack([mask for first in firsts for mask in (first, ~first)])[1:]
    labels = rng.integers(0, 4, records)
    logits = rng.normal(0, 2, (records, 4)) + rng.normal(0, 1, (references + 1, records, 4))
    logits[:, np.arange(records), labels] += leak * trained_on
    lengths = np.exp(rng.normal(0, 0.3, (references + 1, records)) + inside * trained_on)
    activations = lengths[:, :, None] * np.array([0.6, 0.0, 0.8])
    oracles = tuple(shown(one) for one in activations)
    bank = Bank(logits[1:], trained_on[1:], labels, oracles[1:])
    return Evidence(logits[0], labels, bank, features=np.zeros((records, 1)), oracle=oracles[0]), trained_on[0]


def test_is_no_worse_than_the_best_black_box_on_networks_that_overfit(overfit):
    evidence, is_member = overfit
    aucs = {
        module: np.mean([auc(module.attack(one), mask) for one, mask in zip(evidence, is_member, strict=True)])
        for module in (attacked, lira_online, loss)
    }
    assert aucs[attacked] > aucs[lira_online] - 0.01
    assert aucs[attacked] > aucs[loss] + 0.05
    assert aucs[attacked] > 0.75


def test_reads_what_only_the_inside_shows():
    evidence, is_member = drawn(1, inside=0.6)
    assert auc(attacked.attack(evidence), is_member) > 0.85
    assert abs(auc(lira_online.attack(evidence), is_member) - 0.5) < 0.1
    assert auc(attacked.attack(evidence), ~is_member) < 0.15


def test_reads_what_the_outside_shows():
    evidence, is_member = drawn(2, leak=4.0)
    assert auc(attacked.attack(evidence), is_member) > auc(lira_online.attack(evidence), is_member) - 0.01 > 0.9


@pytest.mark.parametrize("references", [4, 8])
def test_finds_nothing_where_nothing_leaks(references):
    aucs = [auc(attacked.attack(one), mask) for one, mask in (drawn(s, references=references) for s in range(3, 11))]
    # One AUC of 300 against 300 has a standard deviation of .0236.
    assert np.abs(np.array(aucs) - 0.5).max() < 4 * 0.0236
    assert abs(np.mean(aucs) - 0.5) < 3 * 0.0236 / np.sqrt(8)


def test_finds_nothing_in_a_network_trained_on_other_records(overfit):
    (evidence, _), _ = overfit
    for unrelated in evidence.bank.trained_on[::2]:
        assert abs(auc(attacked.attack(evidence), unrelated) - 0.5) < 4 * np.sqrt(801 / (12 * 400 * 400))


def test_the_noise_of_a_mean_does_not_teach_who_is_a_member():
    # Nothing leaks, so a regression that still separates the references found an artefact of how they were compared.
    evidence, _ = drawn(11, references=4, records=3000)
    bank = evidence.bank
    classifier, _ = attacked._learned(bank, attacked._Records(evidence.features))
    seen = zip(bank.logits, bank.oracles, strict=True)
    signals = np.stack([attacked._signals(one, bank.labels, evidence.features, o.activations) for one, o in seen])
    for number in range(4):
        scores = classifier.decision_function(attacked._against_the_others(signals, bank.trained_on, number))
        assert abs(auc(scores, bank.trained_on[number]) - 0.5) < 0.06


def test_the_order_of_records_does_not_matter():
    evidence, _ = drawn(12, leak=2.0, inside=0.2)
    order = np.random.default_rng(12).permutation(600)
    bank = evidence.bank
    oracles = tuple(shown(oracle.activations(None)[order]) for oracle in (evidence.oracle, *bank.oracles))
    bank = Bank(bank.logits[:, order], bank.trained_on[:, order], bank.labels[order], oracles[1:])
    permuted = Evidence(evidence.logits[order], bank.labels, bank, features=evidence.features, oracle=oracles[0])
    np.testing.assert_allclose(attacked.attack(permuted), attacked.attack(evidence)[order], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_networks_get_finite_scores(scale):
    evidence, _ = drawn(13, leak=2.0)
    bank = evidence.bank
    blank = np.zeros((600, 3))
    blank[::2] = 1e30
    bank = replace(bank, logits=bank.logits * scale, oracles=tuple(map(shown, [blank] * 4 + [blank[::-1]] * 4)))
    odd = replace(evidence, logits=np.sign(evidence.logits) * 1e4, bank=bank, oracle=shown(np.zeros((600, 3))))
    scores = attacked.attack(odd)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


def test_a_few_records_beyond_measure_do_not_spoil_the_others():
    evidence, is_member = drawn(18, leak=2.0)
    plain = auc(attacked.attack(evidence), is_member)
    logits = evidence.bank.logits.copy()
    logits[:, :12] *= 1e6
    odd = replace(evidence, bank=replace(evidence.bank, logits=logits))
    assert auc(attacked.attack(odd)[12:], is_member[12:]) > plain - 0.03


def test_activations_that_are_always_one_length_tell_nothing():
    # As behind 1-bit activations. The last bit of a mean of equal numbers depends on how many they are.
    evidence, is_member = drawn(14, leak=3.0, references=10)
    black_box = auc(lira_online.attack(evidence), is_member)
    signs = tuple(shown(np.where(np.arange(30) % (n + 2), 1.0, -1.0) * np.ones((600, 1))) for n in range(11))
    same = replace(evidence, bank=replace(evidence.bank, oracles=signs[1:]), oracle=signs[0])
    assert auc(attacked.attack(same), is_member) > black_box - 0.01


def test_signals_are_the_four_of_the_formula():
    logits, labels, activations = np.array([[2.0, 0.0]]), np.array([0]), np.array([[3.0, 4.0]])
    log_p, residual = -np.log1p(np.exp(-1.0)), np.sqrt(2) / (1 + np.exp(2.0))
    expected = [[2.0, log_p, np.log(5 * residual), np.log(5.0)]]
    found = attacked._signals(logits, labels, np.zeros((1, 1)), lambda _: activations)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_means_of_one_number_are_that_number_however_many():
    signals, trained_on = np.full((60, 30, 1), np.log(np.sqrt(30.0))), np.arange(60)[:, None] < 15 + np.arange(30)
    means = [attacked._mean(*side) for side in attacked._sums(signals, trained_on)]
    assert len(np.unique(means)) == 1


def test_the_references_are_looked_into_once_for_all_candidates():
    evidence, _ = drawn(15, leak=2.0)
    calls = []

    def counted(oracle):
        return Oracle(oracle.query, lambda features: calls.append(1) or oracle.activations(features))

    bank = replace(evidence.bank, oracles=tuple(map(counted, evidence.bank.oracles)))
    first = replace(evidence, bank=bank)
    scores = attacked.attack(first)
    changed = attacked.attack(replace(first, logits=-first.logits))
    np.testing.assert_array_equal(attacked.attack(first), scores)
    assert (changed != scores).all()
    assert len(calls) == 8
    # Other records, other answers.
    attacked.attack(replace(first, features=evidence.features + 1))
    assert len(calls) == 16


def test_single_and_double_precision_logits_score_the_same():
    evidence, _ = drawn(16, leak=2.0)
    single = replace(evidence, logits=evidence.logits.astype(np.float32))
    single = replace(single, bank=replace(evidence.bank, logits=evidence.bank.logits.astype(np.float32)))
    double = replace(single, logits=single.logits.astype(np.float64))
    double = replace(double, bank=replace(single.bank, logits=single.bank.logits.astype(np.float64)))
    np.testing.assert_array_equal(attacked.attack(double), attacked.attack(single))


def test_needs_are_refused_by_name():
    evidence, _ = drawn(17)
    with pytest.raises(ValueError, match=r"'white_box'.*expected evidence with a bank; got none"):
        attacked.attack(replace(evidence, bank=None))
    with pytest.raises(ValueError, match=r"'white_box'.*expected evidence with features and an oracle; got none"):
        attacked.attack(replace(evidence, oracle=None))
    with pytest.raises(ValueError, match=r"'white_box'.*expected a bank with oracles; got none"):
        attacked.attack(replace(evidence, bank=replace(evidence.bank, oracles=())))
    outside = replace(evidence.oracle, activations=None)
    blind = replace(evidence.bank, oracles=(*evidence.bank.oracles[1:], outside))
    for one in (replace(evidence, oracle=outside), replace(evidence, bank=blind)):
        with pytest.raises(
            ValueError, match=r"'white_box'.*expected activations of the network and of every reference"
        ):
            attacked.attack(one)
    few = replace(evidence.bank, logits=evidence.bank.logits[:3], trained_on=evidence.bank.trained_on[:3], oracles=())
    few = replace(few, oracles=evidence.bank.oracles[:3])
    with pytest.raises(ValueError, match=r"'white_box' expected two references or more .* of 600 records have fewer"):
        attacked.attack(replace(evidence, bank=few))
