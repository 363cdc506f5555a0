"""Attacks that read predicted classes alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from estimators.leakage.attacks import gap
from estimators.leakage.attacks import label_augment
from estimators.leakage.attacks import label_boundary
from estimators.leakage.attacks import label_noise
from estimators.leakage.attacks import loss
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.shared.copies import bit_columns
from estimators.leakage.shared.copies import moved
from estimators.leakage.shared.copies import perturb
from estimators.leakage.shared.copies import shift
from estimators.leakage.statistics.auc_and_rates import auc
from tests.overfit import overfit

ALL = [label_augment, label_noise, label_boundary]
each = pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__.rsplit(".", 1)[1])


@pytest.fixture(scope="module")
def columns():
    return overfit("mlp")


@pytest.fixture(scope="module")
def images():
    return overfit("conv", references=2, epochs=40)


def softer(logits):
    return logits / 50


def rounded(logits):
    return (logits == logits.max(axis=1, keepdims=True)).astype(logits.dtype)


def like_memguard(logits):
    classes = logits.shape[1]
    return np.where(rounded(logits) == 1, 1 / classes + 1e-3, (1 - 1 / classes - 1e-3) / (classes - 1))


def answering(evidence, change):
    """The same networks, all answers changed."""
    oracle = lambda asked: Oracle(lambda features: change(asked.query(features)))
    bank = evidence.bank
    if bank is not None:
        oracles = tuple(oracle(asked) for asked in bank.oracles)
        bank = replace(bank, logits=np.stack([change(logits) for logits in bank.logits]), oracles=oracles)
    return replace(evidence, logits=change(evidence.logits), bank=bank, oracle=oracle(evidence.oracle))


def counting(evidence):
    """The same network, and a list of how many records each query asked about."""
    asked = []
    return replace(evidence, oracle=Oracle(lambda x: asked.append(len(x)) or evidence.oracle.query(x))), asked


def some(evidence, rows):
    bank = evidence.bank
    bank = bank and Bank(bank.logits[:, rows], bank.trained_on[:, rows], bank.labels[rows], bank.oracles)
    return replace(
        evidence,
        logits=evidence.logits[rows],
        labels=evidence.labels[rows],
        bank=bank,
        features=evidence.features[rows],
        population=None,
    )


def by_rule(rule, features, labels, bank=None):
    """Evidence for a network that gives class 1 where the rule holds, else class 0."""
    oracle = Oracle(lambda x: np.stack([np.zeros(len(x)), np.where(rule(x), 1.0, -1.0)], axis=1))
    return Evidence(oracle.query(features), labels, bank, features, oracle)


@each
@pytest.mark.parametrize("change", [softer, rounded, like_memguard])
def test_hiding_confidences_changes_no_score(module, change, columns):
    evidence = some(columns[0], slice(0, 150))
    scores = module.attack(evidence)
    np.testing.assert_array_equal(module.attack(answering(evidence, change)), scores)
    if change is like_memguard:
        assert len(np.unique(loss.attack(answering(evidence, change)))) == 2 < len(np.unique(scores))


@each
def test_finds_members_of_a_network_that_overfits(module, columns):
    evidence, is_member = columns
    found, of_loss = auc(module.attack(evidence), is_member), auc(loss.attack(evidence), is_member)
    assert auc(gap.attack(evidence), is_member) < found
    assert of_loss - 0.08 < found < of_loss + 0.02


@pytest.mark.parametrize("module", [label_augment, label_noise])
def test_finds_members_among_images(module, images):
    evidence, is_member = images
    found, of_loss = auc(module.attack(evidence), is_member), auc(loss.attack(evidence), is_member)
    assert auc(gap.attack(evidence), is_member) + 0.02 < found
    assert of_loss - 0.08 < found < of_loss + 0.02


@each
def test_finds_nothing_in_a_network_trained_on_other_records(module, columns):
    evidence, is_member = columns
    unrelated = np.random.default_rng(0).permutation(is_member)
    assert auc(module.attack(evidence), unrelated) == pytest.approx(0.5, abs=4 * np.sqrt(1001 / (12 * 500 * 500)))


@each
def test_the_order_of_records_does_not_matter(module, columns):
    evidence = some(columns[0], slice(0, 200))
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(module.attack(some(evidence, order)), module.attack(evidence)[order])


@each
def test_repeats_itself(module, columns):
    evidence = some(columns[0], slice(0, 200))
    np.testing.assert_array_equal(module.attack(evidence), module.attack(evidence))


@each
def test_needs_features_and_an_oracle(module, columns):
    assert module.NEEDS == ("queries",)
    name = module.__name__.rsplit(".", 1)[1]
    for missing in ("features", "oracle"):
        with pytest.raises(ValueError, match=f"'{name}' asks the network: expected evidence with features"):
            module.attack(replace(columns[0], **{missing: None}))


@pytest.mark.parametrize("module", [label_augment, label_noise])
def test_asks_as_often_as_it_says(module, columns, images):
    for data in (columns, images):
        evidence, asked = counting(some(data[0], slice(0, 50)))
        module.attack(evidence)
        assert asked == [50] * module.QUERIES


def test_the_boundary_takes_a_thousand_queries_at_most(columns):
    evidence, asked = counting(some(columns[0], slice(0, 50)))
    scores = label_boundary.attack(evidence)
    right = evidence.logits.argmax(axis=1) == evidence.labels
    assert 500 < sum(asked) / right.sum() <= 1000
    assert (scores[~right] == 0).all()
    assert scores[right].min() > 0


def test_a_record_without_another_class_is_farther_than_all():
    features = np.array([[1.0], [3.0], [-2.0]])
    logits = lambda x: np.stack([np.zeros(len(x)), np.where(x[:, 0] < 0, -1.0, 1.0)], axis=1)
    evidence = Evidence(logits(features), np.array([1, 1, 1]), None, features, Oracle(logits))
    np.testing.assert_allclose(label_boundary.attack(evidence), [1.0, 3.0, 0.0], rtol=1e-2)
    constant = replace(evidence, oracle=Oracle(lambda x: np.tile([0.0, 1.0], (len(x), 1))))
    assert label_boundary.attack(constant).tolist() == [1.0, 1.0, 1.0]


def test_counts_right_copies_by_hand():
    # One bright pixel in the middle of 5 x 5, seen where the network looks; 4 of 8 shifts leave the row.
    images = np.zeros((2, 1, 5, 5), np.float32)
    images[0, 0, 2, 2] = images[1, 0, 0, 0] = 1
    in_row = by_rule(lambda x: x[:, 0, 2].max(axis=1) > 0, images, np.array([1, 1]))
    # The corner stays in the first row, or is repeated into the third by a shift of two down.
    assert label_augment.attack(in_row).tolist() == [1 + 1 + 4, 1]
    on_the_left = by_rule(lambda x: x[:, 0, :, :2].max(axis=(1, 2)) > 0, images, np.array([1, 1]))
    # The middle is there after one or two pixels to the left; the corner at first, and moved down or right.
    assert label_augment.attack(on_the_left).tolist() == [2, 1 + 2 + 2]


def test_a_signal_is_moved_along_time_alone():
    # A peak at the seventh of twelve steps, seen in steps four to eight: moved by 3 and less to the left, by 1 to the
    # right, and, run backwards, at the sixth step.
    signal = np.zeros((1, 2, 1, 12), np.float32)
    signal[0, 0, 0] = np.arange(12)
    signal[0, 1, 0, 6] = 1
    early = by_rule(lambda x: x[:, 1, 0, 3:8].max(axis=1) > 0, signal, np.array([1]))
    assert label_augment.attack(early).tolist() == [1 + 1 + 3 + 1]
    seen = []
    spy = Oracle(lambda x: seen.append(x) or early.oracle.query(x))
    label_augment.attack(replace(early, oracle=spy))
    assert len({copy.tobytes() for copy in (signal, *seen)}) == 1 + label_augment.QUERIES


@pytest.mark.parametrize("module", [label_noise, label_boundary])
def test_other_label_only_attacks_take_signals(module):
    signals = np.random.default_rng(0).normal(size=(30, 2, 1, 12)).astype(np.float32)
    evidence = by_rule(lambda x: x[:, 0, 0].mean(axis=1) > 0, signals, np.ones(30, int))
    scores = module.attack(evidence)
    assert scores.shape == (30,)
    far = signals[:, 0, 0].mean(axis=1) > 0.3
    assert far.any()
    assert scores[far].min() > scores[signals[:, 0, 0].mean(axis=1) < 0].max()


def test_learns_from_references_which_copies_tell():
    # References get mirror images of members right, and shifted copies of others: the count would be the wrong way.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(400, 1, 6, 6)).astype(np.float32)
    labels = np.ones(400, int)

    def memory(trained_on):
        kept = {images[row, 0, :, ::-1].tobytes() for row in np.flatnonzero(trained_on)}
        plain = {image[0].tobytes() for image in images}
        mirrored = {image[0, :, ::-1].tobytes() for image in images}

        def rule(x):
            keys = [image[0].tobytes() for image in np.ascontiguousarray(x)]
            return np.array([key in plain or key in kept or key not in mirrored for key in keys])

        return by_rule(rule, images, labels)

    trained_on = np.stack([rng.permutation(400) < 200 for _ in range(3)])
    trained_on[2] = ~trained_on[1]
    networks = [memory(mask) for mask in trained_on]
    bank = Bank(
        np.stack([n.logits for n in networks[1:]]), trained_on[1:], labels, tuple(n.oracle for n in networks[1:])
    )
    scores = label_augment.attack(replace(networks[0], bank=bank))
    assert auc(scores, trained_on[0]) == 1.0
    # Of a bank that answers no queries, or was trained on nothing here, it cannot learn.
    counted = label_augment.attack(networks[0])
    for silent in (replace(bank, oracles=()), replace(bank, trained_on=np.zeros((2, 400), bool))):
        np.testing.assert_array_equal(label_augment.attack(replace(networks[0], bank=silent)), counted)


def test_learnt_scores_can_turn_the_count_round():
    # Where the references' members are the ones whose copies are wrong, so are the network's.
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 20)).astype(np.float32)
    fragile = rng.random(300) < 0.5
    network = by_rule(lambda x: (x == features).all(axis=1) | ~fragile, features, np.ones(300, int))
    trained_on = np.stack([fragile, np.zeros(300, bool)])
    bank = Bank(np.stack([network.logits] * 2), trained_on, network.labels, (network.oracle,) * 2)
    assert auc(label_augment.attack(network), fragile) == 0.0
    assert auc(label_augment.attack(replace(network, bank=bank)), fragile) == 1.0


def test_learns_what_a_plain_regression_on_all_examples_learns(columns):
    evidence = some(columns[0], slice(0, 400))
    own = label_augment._answers(evidence.oracle, evidence.features, evidence.labels, evidence.logits)
    right, trained_on = label_augment._examples(evidence.bank, evidence.features)
    assert right.shape == (4 * 400, 10)
    model = LogisticRegression(max_iter=1000, tol=1e-8).fit(right, trained_on)
    np.testing.assert_allclose(label_augment.attack(evidence), model.decision_function(own), atol=1e-3)


def test_asks_four_references_at_most():
    features = np.random.default_rng(0).normal(size=(20, 5))
    network = by_rule(lambda x: x[:, 0] > 0, features, np.ones(20, int))
    asked = []
    oracles = tuple(Oracle(lambda x, k=k: asked.append(k) or network.oracle.query(x)) for k in range(10))
    trained_on = np.tile(np.arange(20) < 10, (10, 1)) ^ (np.arange(10) % 2 == 0)[:, None]
    bank = Bank(np.stack([network.logits] * 10), trained_on, network.labels, oracles)
    label_augment.attack(replace(network, bank=bank))
    assert asked == [k for k in range(4) for _ in range(9)]


def test_noise_is_survived_in_order_of_the_margin():
    features = np.array([[0.01, 0.0], [0.05, 1.0], [0.2, 2.0], [0.6, 3.0], [9.0, 4.0], [-1.0, 5.0]], np.float32)
    scores = label_noise.attack(by_rule(lambda x: x[:, 0] > 0, features, np.ones(6, int)))
    assert (np.diff(scores[:5]) > 0).all()
    assert scores[4] == 1.0
    assert scores[0] == pytest.approx(0.5, abs=0.15)
    assert scores[5] < 0.05


def test_bits_are_turned_over_and_stay_bits():
    rng = np.random.default_rng(0)
    features = np.where(rng.random((50, 200)) < 0.5, -0.5, 3.0).astype(np.float32)
    features[:, 7] = 1.25
    seen = []

    def query(x):
        seen.append(x)
        return np.zeros((len(x), 2))

    evidence = Evidence(np.zeros((50, 2)), np.zeros(50, int), None, features, Oracle(query))
    label_noise.attack(evidence)
    bits = np.arange(200) != 7
    assert all(np.isin(x[:, bits], [-0.5, 3.0]).all() and (x[:, 7] == 1.25).all() for x in seen)
    shares = np.reshape([(x != features)[:, bits].mean() for x in seen], (4, 16)).mean(axis=1)
    np.testing.assert_allclose(shares, [share for _, share in label_noise.LEVELS], rtol=0.35)


def test_noise_is_as_strong_as_it_says(images):
    evidence = some(images[0], slice(0, 20))
    seen = []
    spy = lambda x: seen.append(x - evidence.features) or evidence.oracle.query(x)
    label_noise.attack(replace(evidence, oracle=Oracle(spy)))
    deviations = np.std(np.reshape([difference[0].ravel() for difference in seen], (4, -1)), axis=1)
    np.testing.assert_allclose(deviations, [deviation for deviation, _ in label_noise.LEVELS], rtol=0.05)


def test_shifts_move_images_and_repeat_the_border():
    image = np.arange(9.0).reshape(1, 1, 3, 3)
    assert shift(image, 0, 1)[0, 0].tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert shift(image, -2, 0)[0, 0].tolist() == [[6, 7, 8]] * 3
    ways = {(1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2)}
    expected = {image[..., ::-1].tobytes(), *(shift(image, *way).tobytes() for way in ways)}
    assert {copy.tobytes() for copy in moved(image, (1, 2))} == expected
    assert len(list(moved(image, (1, 2)))) == label_augment.QUERIES


def test_columns_with_two_values_are_bits_and_pixels_are_not():
    features = np.array([[0, 1, 5], [1, 1, 6], [0, 1, 7]], np.float32)
    assert bit_columns(features).tolist() == [True, True, False]
    assert not bit_columns(features[:, None, None]).any()


def test_a_share_of_the_columns_is_changed_in_all_records_alike():
    features = np.zeros((30, 500))
    changed = perturb(features, 2.0, 0.1, np.zeros(500, bool), np.random.default_rng(0))
    touched = (changed != 0).any(axis=0)
    assert 30 < touched.sum() < 70
    assert (changed == changed[0]).all()
    assert changed[0, touched].std() == pytest.approx(2.0, abs=0.5)
