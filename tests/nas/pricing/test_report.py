"""What the lines about a device say, and what they leave out where its file says nothing."""

import pytest

from estimators.devices.files import load_device
from nas.pricing import report


@pytest.mark.parametrize(
    ("device", "measured"),
    [
        ("stm32l4r5", "measured were the time of 3 networks, 5.26 to 165 ms, and the memory of none"),
        ("eyeriss_like", "measured were the time of 2 networks, and the memory of none"),  # no range in its file
    ],
)
def test_what_was_measured_is_said_with_the_range_where_there_is_one(device, measured):
    assert report.extrapolated(load_device(device))[-1] == f"  {measured}"
