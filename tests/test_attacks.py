"""What every attack in the folder must do. `test_rmia.py` holds what is RMIA's own."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.statistics import auc
from estimators.leakage.statistics import auc_interval
from nas.plugins import available
from nas.plugins import load

FOLDER = "estimators.leakage.attacks"
ATTACKS = available(FOLDER, "attack")
pytestmark = pytest.mark.parametrize("name", ATTACKS)

# What an attack's published formula cannot do, and is not asked for.
TWO_SCORES = ("gap",)
WITHOUT_LABELS = ("confidence", "entropy")  # surer of the true label is not surer
TWO_SIDED = ("lira_online",)  # of two normal distributions the wider wins at both ends
# The AUC where the leak is plain, .9 for all others. Two thirds of the non-members are classified correctly; no loss
# is below 0, so a member that the references get right too scores next to nothing.
PLAIN_LEAK = {"gap": 0.6, "calibrated_loss": 0.8}
MEMORISED = {"calibrated_loss": 0.85}  # .95 for all others; two references' losses of random labels are mostly noise


def load_attack(name):
    return load(FOLDER, name, "attack")


def halves(rng, count, records):
    """Draw `(count, records)` masks in complementary pairs, so that half of them leave each record out."""
    firsts = [rng.permutation(records) < records // 2 for _ in range(count // 2)]
    return np.stack([mask for first in firsts for mask in (first, ~first)])


def draw_logits(rng, trained_on, labels, difficulty, leak, classes):
    """Draw logits of a network that is surer of easy records, and by `leak` of those it was trained on."""
    logits = rng.normal(0, 1, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 2 - difficulty + leak * trained_on
    return logits.astype(np.float32)


def draw(seed, leak, *, records=1000, references=4, classes=5, weights=None):
    """Return evidence and membership. Arrays cannot be written to, so an attack that does so fails."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, records, p=weights)
    difficulty = rng.normal(0, 1.5, records)
    trained_on = halves(rng, references + 2, records)
    logits = np.stack([draw_logits(rng, mask, labels, difficulty, leak, classes) for mask in trained_on])
    for array in (labels, logits, trained_on):
        array.flags.writeable = False
    bank = Bank(logits[2:], trained_on[2:], labels)
    return Evidence(logits[0], labels, bank), trained_on[0]


def null_error(is_member):
    """Standard deviation of the AUC of scores that know nothing (Mann and Whitney, 1947)."""
    members, others = is_member.sum(), (~is_member).sum()
    return np.sqrt((members + others + 1) / (12 * members * others))


def test_says_whether_it_needs_a_bank_and_keeps_to_it(name):
    evidence, _ = draw(0, 1.0)
    alone = replace(evidence, bank=None)
    assert list(signature(load_attack(name)).parameters) == ["evidence"]
    if "bank" in load(FOLDER, name, "NEEDS"):
        with pytest.raises(ValueError, match=f"'{name}'.*expected evidence with a bank; got none"):
            load_attack(name)(alone)
    else:
        np.testing.assert_array_equal(load_attack(name)(alone), load_attack(name)(evidence))


@pytest.mark.parametrize("classes", [2, 30])
def test_gives_each_record_a_finite_double(name, classes):
    scores = load_attack(name)(draw(1, 2.0, classes=classes)[0])
    assert scores.shape == (1000,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 990 or (name in TWO_SCORES and len(np.unique(scores)) == 2)


@pytest.mark.parametrize("reference_scale", [1.0, 1e4])
def test_stands_extreme_logits(name, reference_scale):
    evidence, _ = draw(2, 0.0)
    rng = np.random.default_rng(2)
    bank = replace(evidence.bank, logits=evidence.bank.logits * np.float32(reference_scale))
    logits = rng.choice(np.float32([-1e4, 1e4]), evidence.logits.shape)
    logits[:2] = -1e4
    logits[0, evidence.labels[0]] = 1e4
    scores = load_attack(name)(Evidence(logits, evidence.labels, bank))
    assert np.isfinite(scores).all()
    logits[1], logits[0] = logits[0].copy(), -logits[0]
    if name not in TWO_SIDED:
        assert load_attack(name)(Evidence(logits, evidence.labels, bank))[0] < scores[0]


def test_permuted_records_give_permuted_scores(name):
    evidence, _ = draw(3, 2.0)
    order = np.random.default_rng(3).permutation(1000)
    bank = Bank(evidence.bank.logits[:, order], evidence.bank.trained_on[:, order], evidence.labels[order])
    permuted = Evidence(evidence.logits[order], evidence.labels[order], bank)
    np.testing.assert_array_equal(load_attack(name)(permuted), load_attack(name)(evidence)[order])


def test_a_record_is_scored_by_its_own_logits_alone(name):
    evidence, _ = draw(4, 2.0)
    half = np.arange(1000) < 500
    logits = np.where(half[:, None], evidence.logits, -7 * evidence.logits)
    scores, changed = load_attack(name)(evidence), load_attack(name)(replace(evidence, logits=logits))
    np.testing.assert_array_equal(changed[half], scores[half])
    # Of all predictions this turns round, those that were right become wrong.
    assert (changed[~half] != scores[~half]).mean() > (0.5 if name in TWO_SCORES else 0.999)


def test_batches_scored_apart_rank_as_they_do_together(name):
    evidence, is_member = draw(5, 3.0, records=4000)
    parts = []
    for rows in (slice(0, 2000), slice(2000, 4000)):
        bank = Bank(evidence.bank.logits[:, rows], evidence.bank.trained_on[:, rows], evidence.labels[rows])
        parts.append(load_attack(name)(Evidence(evidence.logits[rows], evidence.labels[rows], bank)))
    whole = load_attack(name)(evidence)
    if "bank" not in load(FOLDER, name, "NEEDS"):
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    # Constants tuned on half a bank may differ a little.
    assert auc(np.concatenate(parts), is_member) == pytest.approx(auc(whole, is_member), abs=0.01)


def test_single_and_double_precision_logits_score_the_same(name):
    evidence, _ = draw(6, 2.0)
    bank = replace(evidence.bank, logits=evidence.bank.logits.astype(np.float64))
    double = Evidence(evidence.logits.astype(np.float64), evidence.labels, bank)
    np.testing.assert_array_equal(load_attack(name)(double), load_attack(name)(evidence))


def test_repeats_itself(name):
    evidence, _ = draw(7, 2.0)
    scores = load_attack(name)(evidence)
    kept = scores.copy()
    scores += 1  # they belong to the caller
    np.testing.assert_array_equal(load_attack(name)(evidence), kept)


def test_a_surer_network_is_never_less_suspect(name):
    evidence, _ = draw(8, 1.0)
    surer = evidence.logits.copy()
    surer[np.arange(1000), evidence.labels] += 1
    rise = load_attack(name)(replace(evidence, logits=surer)) - load_attack(name)(evidence)
    if name in TWO_SCORES:
        assert rise.min() == 0
        assert rise.max() == 1
    elif name in WITHOUT_LABELS:
        right = evidence.logits.argmax(axis=1) == evidence.labels
        assert (rise[right] > 0).all()
        assert (rise[~right] < 0).any()
    elif name in TWO_SIDED:
        assert (rise > 0).mean() > 0.5
    else:
        assert (rise > 0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weights", [None, (0.9, 0.04, 0.03, 0.02, 0.01)])
def test_finds_nothing_where_nothing_leaks(name, seed, weights):
    evidence, is_member = draw(seed, 0.0, weights=weights)
    assert auc(load_attack(name)(evidence), is_member) == pytest.approx(0.5, abs=4 * null_error(is_member))


@pytest.mark.parametrize("weights", [None, (0.9, 0.04, 0.03, 0.02, 0.01)])
def test_finds_what_leaks(name, weights):
    evidence, is_member = draw(9, 6.0, weights=weights)
    scores = load_attack(name)(evidence)
    assert auc(scores, is_member) > PLAIN_LEAK.get(name, 0.9)
    assert auc(scores, ~is_member) == pytest.approx(1 - auc(scores, is_member))


def test_more_leak_is_more_auc(name):
    aucs = [auc(load_attack(name)(evidence), m) for evidence, m in (draw(10, leak) for leak in (0.0, 1.0, 2.0, 4.0))]
    assert np.diff(aucs).min() > 0.03


def train_to_memorise(features, labels, classes, seed):
    """Fit a small network to every label; random ones leave it no other way than memory."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, classes)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(features), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def memorised():
    """A network that knows 400 random labels by heart, four references like it, and who was trained on what."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    records, classes = 800, 20
    features = torch.from_numpy(rng.normal(0, 1, (records, 40)).astype(np.float32))
    labels = rng.integers(0, classes, records)
    trained_on = halves(rng, 6, records)
    logits = []
    for seed, mask in enumerate(trained_on[1:]):
        network = train_to_memorise(features[mask], torch.from_numpy(labels[mask]), classes, seed)
        with torch.no_grad():
            logits.append(network(features).numpy())
    torch.set_num_threads(threads)
    is_member = trained_on[1]
    assert (logits[0].argmax(1) == labels)[is_member].all()
    return Evidence(logits[0], labels, Bank(np.stack(logits[1:]), trained_on[2:], labels)), is_member


def test_betrays_a_network_that_memorised_random_labels(name, memorised):
    evidence, is_member = memorised
    assert auc(load_attack(name)(evidence), is_member) > MEMORISED.get(name, 0.95)


def test_finds_nothing_in_a_network_trained_on_other_records(name, memorised):
    evidence, _ = memorised
    # Members of another network, drawn without regard to the attacked one's.
    unrelated = evidence.bank.trained_on[0]
    assert auc(load_attack(name)(evidence), unrelated) == pytest.approx(0.5, abs=4 * null_error(unrelated))


def test_random_membership_is_covered_as_often_as_promised(name, memorised):
    evidence, is_member = memorised
    rng = np.random.default_rng(11)
    scores = load_attack(name)(evidence)
    draws = [auc_interval(scores, rng.permutation(is_member)) for _ in range(1000)]
    assert 0.92 <= np.mean([draw.low <= 0.5 <= draw.high for draw in draws]) <= 0.98
