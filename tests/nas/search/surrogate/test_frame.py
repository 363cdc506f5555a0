"""Features become columns of one spread, those that never vary are left out, and a row is made once."""

import numpy as np
import pytest

from nas.search.surrogate import frame
from nas.search.surrogate.frame import frame_of
from nas.search.surrogate.known import Known


def known(**groups):
    return Known((None,), {group: dict(named) for group, named in groups.items()}, str(groups))


@pytest.fixture
def pool():
    return [
        known(sizes={"macs": 1.0, "params": 2.0}, counts={"conv": 1.0, "same": 1.0}),
        known(sizes={"macs": 3.0, "params": 2.5}, counts={"same": 1.0}),
    ]


def test_groups_count_the_same_however_many_features_they_have(pool):
    made = frame_of(pool)
    assert made.columns == [("counts", "conv"), ("sizes", "macs"), ("sizes", "params")]
    np.testing.assert_array_equal(made.groups, [0, 1, 1])
    rows = made.rows(pool)
    np.testing.assert_allclose(rows, [[1, -(0.5**0.5), -(0.5**0.5)], [-1, 0.5**0.5, 0.5**0.5]])
    distances = (rows[0] - rows[1]) ** 2
    assert distances[0] == pytest.approx(distances[1:].sum())


def test_a_feature_that_the_pool_does_not_have_is_ignored_and_a_missing_one_is_zero(pool):
    made = frame_of(pool)
    (row,) = made.rows([known(sizes={"macs": 2.0, "new": 9.0})])
    np.testing.assert_allclose(row, [-1, 0, (0 - 2.25) / (0.25 * 2**0.5)])


def test_rows_are_kept_until_there_are_too_many(pool, monkeypatch):
    made = frame_of(pool)
    monkeypatch.setattr(frame, "ROWS_KEPT", 1)
    first = made.rows(pool)
    assert len(made.made) == 2
    other = known(sizes={"macs": 2.0})
    np.testing.assert_array_equal(made.rows([*pool, other])[:2], first)
    assert made.rows([]).shape == (0, 3)
