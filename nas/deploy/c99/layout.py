"""Where tensors lie in one array of bytes: those that live at one time do not overlap."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

MOST_TRIES = 300


class Life(NamedTuple):
    """How long a tensor is needed, and how large it is.

    Attributes:
        size: Bytes.
        first: The step that writes it.
        last: The last step that reads or writes it.
    """

    size: int
    first: int
    last: int


def placed(lives: Mapping[int, Life]) -> tuple[dict[int, int], int]:
    """Place tensors so that they take few bytes together.

    Each tensor in turn gets the lowest place that is free as long as it lives. Whichever one then ends highest, beyond
    the largest sum of tensors that live at one time, is placed before the others in the next try.

    Args:
        lives: The tensors, by their names.

    Returns:
        The first byte of each tensor, and the bytes that they take together. Fewer than `peak_of` is not possible.

    >>> placed({0: Life(4, 0, 1), 1: Life(6, 1, 2), 2: Life(5, 2, 3)})
    ({1: 0, 2: 6, 0: 6}, 11)
    """
    least = peak_of(lives)
    turn = sorted(lives, key=lambda name: (-lives[name].size, name))
    best: tuple[dict[int, int], int] | None = None
    for _ in range(MOST_TRIES):
        offsets = _first_fit(turn, lives)
        ends = {name: offset + lives[name].size for name, offset in offsets.items()}
        total = max(ends.values(), default=0)
        if best is None or total < best[1]:
            best = offsets, total
        if best[1] <= least:
            break
        highest = max(turn, key=lambda name: ends[name])
        place = turn.index(highest)
        # To the front; if it was there already, the order is a dead end: the one before last goes first.
        turn.insert(0, turn.pop(place or -1))
    assert best is not None
    return best


def peak_of(lives: Mapping[int, Life]) -> int:
    """Return the largest number of bytes that live at one time.

    >>> peak_of({0: Life(4, 0, 1), 1: Life(6, 1, 2), 2: Life(5, 2, 3)})
    11
    """
    steps = {life.first for life in lives.values()}
    return max((sum(one.size for one in lives.values() if one.first <= step <= one.last) for step in steps), default=0)


def _first_fit(turn: Sequence[int], lives: Mapping[int, Life]) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for name in turn:
        life, offset = lives[name], 0
        beside = sorted(
            (offsets[other], offsets[other] + lives[other].size)
            for other in offsets
            if lives[other].first <= life.last and life.first <= lives[other].last
        )
        for start, end in beside:
            if offset + life.size <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
    return offsets
