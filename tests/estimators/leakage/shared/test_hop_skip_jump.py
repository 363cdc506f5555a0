"""Distances to decision boundaries that are known exactly."""

import numpy as np
import pytest

from estimators.leakage.shared.hop_skip_jump import BUDGET
from estimators.leakage.shared.hop_skip_jump import distances


def linear(weights, bias):
    """Two classes; the second is predicted where w.x + b is above 0."""
    return lambda x: np.stack([np.zeros(len(x)), x.reshape(len(x), -1) @ weights + bias], axis=1)


def linear_case(columns, dtype=np.float32, records=200):
    rng = np.random.default_rng(columns)
    weights, bias = rng.normal(size=columns), 0.3
    features = rng.normal(size=(records, columns)).astype(dtype)
    margins = features @ weights + bias
    return linear(weights, bias), features, (margins > 0).astype(int), np.abs(margins) / np.linalg.norm(weights)


@pytest.mark.parametrize(("columns", "budget"), [(2, 500), (10, BUDGET), (30, BUDGET), (64, 2 * BUDGET)])
def test_finds_the_distance_to_a_plane(columns, budget):
    query, features, labels, exact = linear_case(columns)
    found = distances(query, features, labels, budget)
    ratio = found.distances / exact
    assert ratio.min() > 0.999
    assert np.median(ratio) < 1.1
    assert np.quantile(ratio, 0.95) < 1.15
    assert np.corrcoef(found.distances, exact)[0, 1] > 0.99


def test_more_queries_come_closer():
    query, features, labels, exact = linear_case(100)
    far, near = (np.median(distances(query, features, labels, budget).distances / exact) for budget in (200, 2000))
    assert near < 1.15 < 1.5 < far


def test_no_query_leads_farther_away():
    query, features, labels, _ = linear_case(50)
    paths = [distances(query, features, labels, budget).distances for budget in range(100, 1000, 75)]
    assert np.diff(paths, axis=0).max() <= 0


def test_finds_the_distance_to_a_sphere():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(200, 10))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.concatenate([rng.uniform(1.0, 2.5, (100, 1)), rng.uniform(3.5, 6.0, (100, 1))])
    query = lambda x: np.stack([np.full(len(x), 9.0), (x**2).sum(axis=1)], axis=1)
    labels = (lengths[:, 0] > 3).astype(int)
    ratio = distances(query, lengths * directions, labels).distances / np.abs(3 - lengths[:, 0])
    assert ratio.min() > 0.999
    for side in (0, 1):
        assert np.quantile(ratio[labels == side], 0.95) < 1.15


def test_counts_every_point_it_asks_about_and_keeps_to_the_budget():
    query, features, labels, _ = linear_case(20)
    labels[:5] = 1 - labels[:5]
    points = []
    for budget in (150, 400, BUDGET):
        points.clear()
        found = distances(lambda x: points.append(len(x)) or query(x), features, labels, budget)
        assert found.queries.sum() == sum(points)
        assert found.queries.max() <= budget
        assert (found.queries[:5] == 1).all()
        assert found.queries[5:].min() > 0.4 * budget


def test_a_misclassified_record_is_on_the_boundary_already():
    query, features, labels, _ = linear_case(5)
    found = distances(query, features, 1 - labels)
    assert (found.distances == 0).all()
    assert (found.queries == 1).all()


def test_the_nearest_other_class_counts():
    # Classes of one column: below -1, up to 3, and above.
    query = lambda x: np.stack([-4.0 * x[:, 0] - 4, np.zeros(len(x)), x[:, 0] - 3], axis=1)
    features = np.array([[0.0], [2.5], [-1.5], [5.0]])
    found = distances(query, features, np.array([1, 1, 0, 2])).distances
    np.testing.assert_allclose(found, [1.0, 0.5, 0.5, 2.0], rtol=0.01)


def test_starts_from_noise_where_no_record_has_another_class():
    query, features, labels, exact = linear_case(8)
    one = labels == 0
    ratio = distances(query, features[one], labels[one]).distances / exact[one]
    assert ratio.min() > 0.999
    assert np.quantile(ratio, 0.95) < 1.15


def test_says_where_there_is_no_other_class():
    found = distances(lambda x: np.tile([1.0, 0.0], (len(x), 1)), np.zeros((3, 4)), np.array([0, 0, 1]))
    assert found.distances.tolist() == [np.inf, np.inf, 0.0]


def test_images_and_columns_are_measured_alike():
    query, features, labels, _ = linear_case(16)
    images = features.reshape(-1, 1, 4, 4)
    shapes = set()
    of_images = distances(lambda x: shapes.add((x.shape[1:], x.dtype)) or query(x), images, labels)
    np.testing.assert_array_equal(of_images.distances, distances(query, features, labels).distances)
    assert shapes == {((1, 4, 4), np.dtype(np.float32))}


def test_the_order_of_records_does_not_matter():
    query, features, labels, _ = linear_case(12)
    features = np.sign(features)  # equal distances and equal records
    labels = query(features).argmax(axis=1)
    labels[:20] = 1 - labels[:20]
    order = np.random.default_rng(0).permutation(200)
    found, permuted = distances(query, features, labels), distances(query, features[order], labels[order])
    np.testing.assert_array_equal(permuted.distances, found.distances[order])
    np.testing.assert_array_equal(permuted.queries, found.queries[order])


def test_an_input_of_eight_bits_does_not_blind_it():
    query, features, labels, exact = linear_case(30)
    rounded = lambda x: query(np.round(x * 32) / 32)
    labels = rounded(features).argmax(axis=1)
    far = exact > 0.2
    ratio = (distances(rounded, features, labels).distances / exact)[far]
    assert 0.9 < np.median(ratio) < 1.15


def test_refuses_a_budget_for_nothing():
    query, features, labels, _ = linear_case(4)
    with pytest.raises(ValueError, match="expected a budget of 95 queries or more for each record; got 94"):
        distances(query, features, labels, 94)
    assert distances(query, features, labels, 95).queries.max() > 70


def test_changes_nothing_it_was_given():
    query, features, labels, _ = linear_case(4)
    features.flags.writeable = labels.flags.writeable = False
    first, again = distances(query, features, labels), distances(query, features, labels)
    np.testing.assert_array_equal(first.distances, again.distances)
