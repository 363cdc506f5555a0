"""A radius in the unit of the records is another number in each channel that a network reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.preprocessing.columns import Column
from nas.records import Records
from nas.records import split
from nas.siblings.reach import epsilon_of
from nas.siblings.reach import reach_of

CLASSES = ("no", "yes")


def divided(features, **more):
    return split(Records(features, np.arange(len(features)) % 2, CLASSES, **more), seed=0)


def test_eight_steps_of_a_pixel_are_eight_steps_in_every_channel():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (80, 2, 4, 4)) * np.array([1, 0.2])[:, None, None] + 20
    data = divided(images.astype(np.uint8))
    reach = reach_of(data.members, data.preprocessing, 8 / 255)
    deviation, mean = (
        torch.from_numpy(x).reshape(1, 2, 1, 1) for x in (data.preprocessing.deviation, data.preprocessing.mean)
    )
    torch.testing.assert_close(reach.radius * deviation * 255, torch.full((1, 2, 1, 1), 8.0))
    torch.testing.assert_close(reach.low * deviation + mean, torch.zeros(1, 2, 1, 1))
    torch.testing.assert_close(reach.high * deviation + mean, torch.ones(1, 2, 1, 1))


def test_a_table_moves_by_a_share_of_each_column_and_leaves_categories_alone():
    rng = np.random.default_rng(0)
    columns = (
        Column("age", fill=0.0, indicator=True),
        Column("colour", "category", ("blue", "red")),
        Column("paid", "boolean"),
    )
    numbers, truths = rng.uniform(0, 50, (80, 1)), rng.integers(0, 2, (80, 4))
    data = divided(np.hstack([numbers, truths]), columns=columns)
    reach = reach_of(data.members, data.preprocessing, 0.1)
    moved = (reach.radius * torch.from_numpy(data.preprocessing.deviation)).numpy()[0]
    ends = reach.low.numpy()[0, 0], reach.high.numpy()[0, 0]
    assert moved[0] == pytest.approx(0.1 * (ends[1] - ends[0]) * data.preprocessing.deviation[0], rel=1e-5)
    assert 4 < moved[0] < 5.1
    assert moved[1:].tolist() == [0, 0, 0, 0]


def test_a_table_of_categories_alone_is_refused():
    flags = np.random.default_rng(0).integers(0, 2, (80, 6)).astype(np.float64)
    data = divided(flags, columns=tuple(Column(f"c{number}", "boolean") for number in range(6)))
    with pytest.raises(ValueError, match="expected a column of numbers or dates to change a little"):
        reach_of(data.members, data.preprocessing, 0.1)


@pytest.mark.parametrize("text", ["0", "-0.1", "1.1", "8/0", "eight", "nan"])
def test_a_radius_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected --epsilon above 0 and at most 1, as 0.03 or 8/255"):
        epsilon_of(text, (3, 32, 32))


def test_only_images_have_a_usual_radius():
    assert epsilon_of(None, (1, 8, 8)) == 8 / 255
    assert epsilon_of("0.25", (9, 1, 128)) == 0.25
    for shape in ((10,), (9, 1, 128)):
        with pytest.raises(ValueError, match="expected --epsilon, the largest change"):
            epsilon_of(None, shape)
