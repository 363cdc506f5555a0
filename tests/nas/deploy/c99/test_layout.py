from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.deploy.c99.layout import Life
from nas.deploy.c99.layout import peak_of
from nas.deploy.c99.layout import placed


def life(size, first, length):
    return Life(size, first, first + length)


def overlapping(lives, offsets):
    """Pairs of tensors that live at one time and share a byte."""
    found = []
    for one, mine in lives.items():
        for other, its in lives.items():
            together = one < other and mine.first <= its.last and its.first <= mine.last
            if together and offsets[one] < offsets[other] + its.size and offsets[other] < offsets[one] + mine.size:
                found.append((one, other))
    return found


@settings(max_examples=200, deadline=None)
@given(drawn=st.lists(st.builds(life, st.integers(1, 60), st.integers(0, 9), st.integers(0, 5)), max_size=14))
def test_tensors_that_live_at_one_time_share_no_byte(drawn):
    lives = dict(enumerate(drawn))
    offsets, total = placed(lives)
    assert overlapping(lives, offsets) == []
    assert total == max((offsets[name] + one.size for name, one in lives.items()), default=0)
    assert total >= peak_of(lives)


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=40))
def test_a_chain_takes_no_more_than_its_two_largest_neighbours(sizes):
    lives = {step: Life(size, step, step + 1) for step, size in enumerate(sizes)}
    offsets, total = placed(lives)
    assert overlapping(lives, offsets) == []
    assert total == peak_of(lives)


def test_the_largest_tensor_need_not_lie_lowest():
    # Lowest places in the order of the steps leave a hole of 4 bytes below the tensor of 6.
    lives = {0: Life(4, 0, 1), 1: Life(2, 0, 3), 2: Life(6, 2, 3)}
    assert placed(lives)[1] == peak_of(lives) == 8
