"""Records for a network's input: turned where there is one way, refused where there are several."""

from __future__ import annotations

import numpy as np
import pytest

from nas.audit.layouts import layout_for

WAYS = [
    ((3, 32, 32), (3, 32, 32), None),
    ((3, 32, 32), (None, None, None), None),
    ((3, 3, 3), (3, 3, 3), None),
    ((3, 32, 32), (32, 32, 3), (1, 2, 0)),
    ((32, 32, 3), (3, 32, 32), (2, 0, 1)),
    ((3, 32, 32), (None, None, 3), (1, 2, 0)),
    ((6, 128), (128, 6), (1, 0)),
    ((1, 28, 28), (28, 28, 1), (1, 2, 0)),
]


@pytest.mark.parametrize(("shape", "wanted", "order"), WAYS)
def test_channels_go_where_they_fit(shape, wanted, order):
    found = layout_for(shape, wanted)
    assert found.order == order
    records = np.random.default_rng(0).normal(size=(2, *shape))
    expected = records if order is None else np.stack([np.transpose(record, order) for record in records])
    np.testing.assert_array_equal(found.turned(records), expected)
    assert (found.told is None) == (order is None)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((28, 28), (1, 28, 28)),
        ((28, 28), (28, 28, 1)),
        ((1, 28, 28), (784,)),
        ((784,), (28, 28, 1)),
        ((9,), (9, 1)),
        ((1, 9), (9,)),
    ],
)
def test_what_has_one_channel_may_be_flat_or_lack_the_axis(shape, wanted):
    records = np.random.default_rng(0).normal(size=(2, *shape))
    np.testing.assert_array_equal(layout_for(shape, wanted).turned(records), records.reshape(2, *wanted))


@pytest.mark.parametrize(
    ("shape", "wanted", "reason"),
    [
        ((3, 32, 32), (1, 32, 32), ""),
        ((3, 32, 32), (3072,), ""),  # no usual order
        ((6, 128), (768,), ""),
        ((3, 16, 32), (16, 3, 32), ""),
        ((3, 5, 3), (None, 3, None), ": the channels may go"),
        ((4,), (5,), ""),
    ],
)
def test_what_fits_in_several_ways_or_none_is_refused(shape, wanted, reason):
    found = layout_for(shape, wanted)
    assert isinstance(found, str)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
