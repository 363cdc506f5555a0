import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.deploy.c99.packing import WIDTHS
from nas.deploy.c99.packing import pack
from nas.deploy.c99.packing import unpack


@given(data=st.data(), bits=st.sampled_from(WIDTHS))
def test_what_is_unpacked_is_what_was_packed_in_no_more_bytes_than_its_bits_take(data, bits):
    level = st.sampled_from((-1, 1)) if bits == 1 else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    levels = data.draw(st.lists(level, max_size=40))
    packed = pack(np.array(levels, np.int8), bits)
    assert packed.nbytes == -(-len(levels) * bits // 8)
    assert unpack(packed, bits, len(levels)).tolist() == levels


@pytest.mark.parametrize(("bits", "level"), [(1, 0), (2, 2), (4, -9), (8, 128)])
def test_a_level_that_has_no_form_is_refused(bits, level):
    with pytest.raises(ValueError, match=rf"expected levels of {bits} bits; got {level} to {level}"):
        pack(np.array([level]), bits)
