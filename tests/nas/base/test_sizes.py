"""What is too large is refused before it is made."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nas.base import sizes


@pytest.mark.parametrize("needed", [2**60, 10**30, 10**400])
def test_what_no_machine_has_does_not_fit(needed):
    with pytest.raises(ValueError, match=r"^the network takes .* of memory are free$"):
        sizes.check_memory(needed, "the network")


def test_a_quarter_of_a_gibibyte_needs_no_question(monkeypatch):
    monkeypatch.setattr(sizes.psutil, "virtual_memory", lambda: pytest.fail("it was asked"))
    sizes.check_memory(sizes.ALWAYS, "the network")


@pytest.mark.parametrize("shape", [(10**12,), (4097, 4096), (3, 10**400), (0,), (-1, 8, 8), (True,), (2.0,), ("3",)])
def test_records_of_another_size_than_records_have_are_refused(shape):
    with pytest.raises(ValueError, match="got shape"):
        sizes.check_task(shape, 10)


def test_the_largest_task_is_one():
    sizes.check_task((4096, 4096), sizes.MOST_CLASSES)
    with pytest.raises(ValueError, match=r"^expected at most 65,536 classes; got 65537$"):
        sizes.check_task((4,), sizes.MOST_CLASSES + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the system's limit on memory is Linux's")
def test_more_memory_than_allowed_is_refused_and_later_given_again():
    with sizes.at_most_memory(2**28), pytest.raises(MemoryError):
        np.zeros(2**30, np.uint8)
    assert np.zeros(2**30, np.uint8).size == 2**30
