"""What every attack in the folder must do. `tests/estimators/leakage/attacks/test_rmia.py` holds what is RMIA's own."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import lru_cache
from inspect import signature

import numpy as np
import pytest
import torch

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population
from estimators.leakage.statistics.auc_and_rates import auc
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.base.plugins import available
from nas.base.plugins import find
from nas.base.plugins import load

FOLDER = "estimators.leakage.attacks"
ATTACKS = available(FOLDER, "attack")
pytestmark = pytest.mark.parametrize("name", ATTACKS)

# What an attack's published formula cannot do, and is not asked for.
TWO_SCORES = ("gap",)
WITHOUT_LABELS = ("confidence", "entropy", "entropy_by_class")  # surer of the true label is not surer
TWO_SIDED = ("lira_online", "bavaria")  # of two normal distributions the wider wins at both ends
# The AUC where the leak is plain, .9 for all others. Two thirds of the non-members are classified correctly, which is
# all that some can see; no loss is below 0, so a member that the references get right too scores next to nothing.
CLASS_ALONE = tuple(name for name in ATTACKS if name == "gap" or name.startswith("label_"))
PLAIN_LEAK = dict.fromkeys(CLASS_ALONE, 0.6) | {"calibrated_loss": 0.8}
MEMORISED = {"calibrated_loss": 0.85}  # .95 for all others; two references' losses of random labels are mostly noise
# Of an attack that trains networks; .85 is then enough where labels were memorised.
STEPS = 25
WEIGHTS = np.random.default_rng(12).normal(0, 0.3, (6, 30)).astype(np.float32)


def load_attack(name):
    return load(FOLDER, name, "attack")


def needs(name):
    return load(FOLDER, name, "NEEDS")


def is_quick(name):
    return (find(FOLDER, name, "EFFORT") or "quick") == "quick"


def trains_networks(name):
    return hasattr(load_module(name), "STEPS")


def load_module(name):
    return importlib.import_module(f"{FOLDER}.{name}")


def learns(name):
    """Say whether an attack trains a classifier or a regression; its scores are then no plain formula's."""
    homes = [getattr(value, "__module__", None) or "" for value in vars(load_module(name)).values()]
    return any(home.startswith(("sklearn", "torch", "estimators.leakage.shared.learned")) for home in homes)


def asks(name):
    """Say whether an attack asks the network itself, beyond its logits on the records."""
    return bool({"queries", "activations"} & set(needs(name)))


def is_relative(name):
    """Say whether an attack scores a record relative to the other audited ones."""
    return bool(find(FOLDER, name, "TRANSDUCTIVE"))


def few(name, records=1000):
    """Return a number of records, fewer for an attack that takes long over each."""
    return records // {"quick": 1, "standard": 2, "full": 5}[find(FOLDER, name, "EFFORT") or "quick"]


@pytest.fixture(autouse=True)
def short_training(name, monkeypatch):
    """Train attack networks for a few steps: the networks here leak plainly or not at all."""
    if trains_networks(name):
        monkeypatch.setattr(load_module(name), "STEPS", STEPS)


def halves(rng, count, records):
    """Draw `(count, records)` masks in complementary pairs, so that half of them leave each record out."""
    firsts = [rng.permutation(records) < records // 2 for _ in range(count // 2)]
    return np.stack([mask for first in firsts for mask in (first, ~first)])


def draw_logits(rng, trained_on, labels, difficulty, leak, classes):
    """Draw logits of a network that is surer of easy records, and by `leak` of those it was trained on."""
    logits = rng.normal(0, 1, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += 2 - difficulty + leak * trained_on
    return logits.astype(np.float32)


def draw_oracle(logits):
    """Make a network that gives a record its logits, and near it logits that change with the distance."""

    def query(features):
        numbers = np.clip(np.rint(features[:, 0] / 10), 0, len(logits) - 1)
        beside = features - 10 * numbers[:, None] * np.eye(1, 6, dtype=np.float32)
        return (logits[numbers.astype(int)] + np.float32(beside) @ WEIGHTS[:, : logits.shape[1]]).astype(np.float32)

    return Oracle(query, query)  # its last layer is the identity


def exits_of(logits):
    """Return exits as a confidence threshold gives them."""
    return np.digitize(-(logits.max(axis=-1) - np.median(logits, axis=-1)), [-6.0, -3.0])


@lru_cache
def draw(seed, leak, *, records=1000, references=4, classes=5, weights=None):
    """Return evidence of every kind, and membership. Arrays cannot be written to, so an attack that does so fails."""
    rng = np.random.default_rng(seed)
    every = 2 * records  # the second half is the population
    labels = rng.choice(classes, every, p=weights)
    difficulty = rng.normal(0, 1.5, every)
    trained_on = np.zeros((references + 2, every), dtype=bool)
    trained_on[:, :records] = halves(rng, references + 2, records)
    logits = np.stack([draw_logits(rng, mask, labels, difficulty, leak, classes) for mask in trained_on])
    features = np.zeros((every, 6), np.float32)
    features[:, 0] = 10 * np.arange(every)
    for array in (labels, logits, trained_on, features):
        array.flags.writeable = False
    oracles = [draw_oracle(network) for network in logits]
    among = slice(0, records)
    bank = Bank(
        logits[2:, among], trained_on[2:, among], labels[among], tuple(oracles[2:]), exits_of(logits[2:, among])
    )
    population = Population(features[records:], labels[records:], logits[0, records:])
    exits = exits_of(logits[0, among])
    evidence = Evidence(logits[0, among], labels[among], bank, features[among], oracles[0], population, exits)
    return evidence, trained_on[0, among]


def evidence_for(name, *arguments, **options):
    """Draw evidence in the form that an attack reads."""
    evidence, is_member = draw(*arguments, **options)
    return in_form(name, evidence), is_member


def in_form(name, evidence):
    """Return the evidence about images of one pixel, which any move leaves as they are, for an attack on images."""
    if "images" not in needs(name):
        return evidence
    asked = lambda oracle: Oracle(lambda images: oracle.query(images[:, :, 0, 0]))
    bank = replace(evidence.bank, oracles=tuple(map(asked, evidence.bank.oracles)))
    return replace(evidence, features=evidence.features[:, :, None, None], oracle=asked(evidence.oracle), bank=bank)


def rows_of(evidence, rows):
    """Return the evidence on some records, in their order."""
    bank = replace(
        evidence.bank,
        logits=evidence.bank.logits[:, rows],
        trained_on=evidence.bank.trained_on[:, rows],
        labels=evidence.labels[rows],
        exits=evidence.bank.exits[:, rows],
    )
    return replace(
        evidence,
        logits=evidence.logits[rows],
        labels=evidence.labels[rows],
        bank=bank,
        features=evidence.features[rows],
        exits=evidence.exits[rows],
    )


def without(evidence, need):
    """Return the evidence without one of `NEEDS`."""
    if need == "bank":
        return replace(evidence, bank=None)
    if need == "queries":
        return replace(evidence, features=None, oracle=None)
    if need == "images":
        return replace(evidence, features=evidence.features[:, :, 0, 0])
    if need == "activations":
        return replace(evidence, oracle=evidence.oracle and Oracle(evidence.oracle.query))
    return replace(evidence, **{need: None})


def null_error(is_member):
    """Standard deviation of the AUC of scores that know nothing (Mann and Whitney, 1947)."""
    members, others = is_member.sum(), (~is_member).sum()
    return np.sqrt((members + others + 1) / (12 * members * others))


def test_says_what_it_needs_and_refuses_less(name):
    evidence, _ = evidence_for(name, 0, 1.0, records=few(name))
    assert list(signature(load_attack(name)).parameters) == ["evidence"]
    assert set(needs(name)) <= evidence.holds
    for need in needs(name):
        with pytest.raises(ValueError, match=rf"'{name}'.*expected"):
            load_attack(name)(without(evidence, need))


def test_reads_nothing_that_it_does_not_need(name):
    evidence, _ = evidence_for(name, 0, 1.0, records=few(name))
    least = evidence
    for need in evidence.holds - set(needs(name)) - ({"queries"} if asks(name) else set()):
        least = without(least, need)
    scores = load_attack(name)(least)
    assert np.isfinite(scores).all()
    if not asks(name):  # those may use the references where there are any
        np.testing.assert_array_equal(scores, load_attack(name)(evidence))


@pytest.mark.parametrize("classes", [2, 30])
def test_gives_each_record_a_finite_double(name, classes):
    records = few(name)
    scores = load_attack(name)(evidence_for(name, 1, 2.0, classes=classes, records=records)[0])
    assert scores.shape == (records,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    if asks(name):  # of some only predicted classes are counted
        assert len(np.unique(scores)) > 2
    else:
        assert len(np.unique(scores)) > 0.99 * records or (name in TWO_SCORES and len(np.unique(scores)) == 2)


@pytest.mark.parametrize("reference_scale", [1.0, 1e4])
def test_stands_extreme_logits(name, reference_scale):
    evidence, _ = evidence_for(name, 2, 0.0, records=few(name))
    rng = np.random.default_rng(2)
    bank = replace(evidence.bank, logits=evidence.bank.logits * np.float32(reference_scale))
    logits = rng.choice(np.float32([-1e4, 1e4]), evidence.logits.shape)
    logits[:2] = -1e4
    logits[0, evidence.labels[0]] = 1e4
    scores = load_attack(name)(replace(evidence, logits=logits, bank=bank))
    assert np.isfinite(scores).all()
    logits[1], logits[0] = logits[0].copy(), -logits[0]
    if name not in TWO_SIDED and not learns(name) and not asks(name):
        assert load_attack(name)(replace(evidence, logits=logits, bank=bank))[0] < scores[0]


def test_permuted_records_give_permuted_scores(name):
    evidence, _ = evidence_for(name, 3, 2.0, records=few(name))
    order = np.random.default_rng(3).permutation(few(name))
    permuted, scores = load_attack(name)(rows_of(evidence, order)), load_attack(name)(evidence)
    if learns(name) or asks(name) or is_relative(name):
        np.testing.assert_allclose(permuted, scores[order], rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(permuted, scores[order])


def test_a_record_is_scored_by_its_own_logits_alone(name):
    if asks(name):
        pytest.skip("asks the network, whose answers are not these logits")
    if is_relative(name):
        pytest.skip("scores a record relative to the others")
    evidence, _ = evidence_for(name, 4, 2.0, records=few(name))
    half = np.arange(few(name)) < few(name) // 2
    logits = np.where(half[:, None], evidence.logits, -7 * evidence.logits)
    scores, changed = load_attack(name)(evidence), load_attack(name)(replace(evidence, logits=logits))
    np.testing.assert_allclose(changed[half], scores[half], rtol=1e-9 if learns(name) else 0)
    # Of all predictions this turns round, those that were right become wrong.
    assert (changed[~half] != scores[~half]).mean() > (0.5 if name in TWO_SCORES else 0.999)


def test_batches_scored_apart_rank_as_they_do_together(name):
    records = few(name, 4000)
    evidence, is_member = evidence_for(name, 5, 3.0, records=records)
    parts = [load_attack(name)(rows_of(evidence, rows)) for rows in np.split(np.arange(records), 2)]
    whole = load_attack(name)(evidence)
    if "bank" not in needs(name) and not asks(name):
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    # Constants tuned on half a bank may differ a little, and classifiers more.
    tolerance = 0.03 if learns(name) or is_relative(name) else 0.01
    assert auc(np.concatenate(parts), is_member) == pytest.approx(auc(whole, is_member), abs=tolerance)


def test_single_and_double_precision_logits_score_the_same(name):
    evidence, _ = evidence_for(name, 6, 2.0, records=few(name))
    bank = replace(evidence.bank, logits=evidence.bank.logits.astype(np.float64))
    double = replace(evidence, logits=evidence.logits.astype(np.float64), bank=bank)
    np.testing.assert_array_equal(load_attack(name)(double), load_attack(name)(evidence))


def test_repeats_itself(name):
    evidence, _ = evidence_for(name, 7, 2.0, records=few(name))
    scores = load_attack(name)(evidence)
    kept = scores.copy()
    scores += 1  # they belong to the caller
    np.testing.assert_array_equal(load_attack(name)(evidence), kept)
    # Nor does it remember a bank wrongly.
    np.testing.assert_array_equal(load_attack(name)(replace(evidence, bank=replace(evidence.bank))), kept)


def test_a_surer_network_is_never_less_suspect(name):
    if asks(name):
        pytest.skip("asks the network, whose answers are not these logits")
    if is_relative(name):
        pytest.skip("takes a network that is surer of all records for a surer network, and no more suspect")
    evidence, _ = evidence_for(name, 8, 1.0, records=few(name))
    surer = evidence.logits.copy()
    surer[np.arange(few(name)), evidence.labels] += 1
    rise = load_attack(name)(replace(evidence, logits=surer)) - load_attack(name)(evidence)
    if name in TWO_SCORES:
        assert rise.min() == 0
        assert rise.max() == 1
    elif name in WITHOUT_LABELS:
        right = evidence.logits.argmax(axis=1) == evidence.labels
        assert (rise[right] > 0).all()
        assert (rise[~right] < 0).any()
    elif name in TWO_SIDED or learns(name):
        assert (rise > 0).mean() > 0.5
    else:
        assert (rise > 0).all()


@pytest.mark.parametrize("weights", [None, (0.9, 0.04, 0.03, 0.02, 0.01)])
def test_finds_nothing_where_nothing_leaks(name, weights):
    for seed in range(5 if is_quick(name) else 2):
        evidence, is_member = evidence_for(name, seed, 0.0, weights=weights, records=few(name))
        assert auc(load_attack(name)(evidence), is_member) == pytest.approx(0.5, abs=4 * null_error(is_member))


@pytest.mark.parametrize("weights", [None, (0.9, 0.04, 0.03, 0.02, 0.01)])
def test_finds_what_leaks(name, weights):
    evidence, is_member = evidence_for(name, 9, 6.0, weights=weights, records=few(name))
    scores = load_attack(name)(evidence)
    assert auc(scores, is_member) > PLAIN_LEAK.get(name, 0.9)
    assert auc(scores, ~is_member) == pytest.approx(1 - auc(scores, is_member))


def test_more_leak_is_more_auc(name):
    drawn = [evidence_for(name, 10, leak, records=few(name)) for leak in (0.0, 1.0, 2.0, 4.0)]
    aucs = [auc(load_attack(name)(evidence), is_member) for evidence, is_member in drawn]
    assert np.diff(aucs).min() > (0.02 if name in CLASS_ALONE else 0.03)


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


def answers(network):
    def query(features):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(features, np.float32))).numpy()

    return query


@pytest.fixture(scope="module")
def memorised():
    """A network that knows 400 random labels by heart, four references like it, and who was trained on what."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    records, classes = 800, 20
    features = torch.from_numpy(rng.normal(0, 1, (records, 40)).astype(np.float32))
    others = rng.normal(0, 1, (200, 40)).astype(np.float32)
    labels = rng.integers(0, classes, records)
    trained_on = halves(rng, 6, records)
    oracles = []
    for seed, mask in enumerate(trained_on[1:]):
        network = train_to_memorise(features[mask], torch.from_numpy(labels[mask]), classes, seed)
        oracles.append(Oracle(answers(network), answers(network[:2])))
    logits = np.stack([oracle.query(features.numpy()) for oracle in oracles])
    torch.set_num_threads(threads)
    is_member = trained_on[1]
    assert (logits[0].argmax(1) == labels)[is_member].all()
    bank = Bank(logits[1:], trained_on[2:], labels, tuple(oracles[1:]), exits_of(logits[1:]))
    population = Population(others, rng.integers(0, classes, 200), oracles[0].query(others))
    return Evidence(logits[0], labels, bank, features.numpy(), oracles[0], population, exits_of(logits[0])), is_member


@pytest.fixture(scope="module")
def scores_of_memorised(memorised):
    """Score them once for each attack."""
    return lru_cache(lambda name: load_attack(name)(in_form(name, memorised[0])))


def test_betrays_a_network_that_memorised_random_labels(name, memorised, scores_of_memorised):
    _, is_member = memorised
    assert auc(scores_of_memorised(name), is_member) > MEMORISED.get(name, 0.85 if trains_networks(name) else 0.95)


def test_finds_nothing_in_a_network_trained_on_other_records(name, memorised, scores_of_memorised):
    _, is_member = memorised
    # Members of another network, drawn without regard to the attacked one's. Not those of a reference: attacks know
    # them, and may use them.
    unrelated = np.random.default_rng(13).permutation(is_member)
    assert auc(scores_of_memorised(name), unrelated) == pytest.approx(0.5, abs=4 * null_error(unrelated))


def test_random_membership_is_covered_as_often_as_promised(name, memorised, scores_of_memorised):
    _, is_member = memorised
    rng = np.random.default_rng(11)
    scores = scores_of_memorised(name)
    draws = [auc_interval(scores, rng.permutation(is_member)) for _ in range(1000)]
    assert 0.92 <= np.mean([draw.low <= 0.5 <= draw.high for draw in draws]) <= 0.98
