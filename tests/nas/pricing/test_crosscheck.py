"""Our counts against fvcore's, thop's and PyTorch's, on the networks as they are built."""

from __future__ import annotations

import numpy as np
import pytest

from nas.base import plugins
from nas.pricing import crosscheck
from nas.spaces import sample

SHAPES = {1: (13,), 3: (3, 8, 8)}


def points(name):
    """The reference and two random points of a space, for each kind of input it takes."""
    make_space = plugins.load("search_spaces", name, "make_space")
    for shape in SHAPES.values():
        try:
            space = make_space(shape, 4)
        except ValueError:
            continue
        rng = np.random.default_rng(5)
        yield from map(space.decode, [space.reference, *(sample(space.distributions, rng) for _ in range(2))])


@pytest.mark.parametrize("name", [*plugins.available("search_spaces", "make_space"), "tests.two_exits"])
def test_three_tools_count_what_we_count(name):
    for architecture in points(name):
        counted = crosscheck.check(architecture)
        assert list(counted) == ["fvcore", "thop", "torch"]
        assert all(numbers["macs"] > 0 and numbers["params"] > 0 for numbers in counted.values())


def test_the_counts_of_a_network_by_hand():
    # 13 inputs, 64 hidden with a batch norm instead of a bias, 4 classes: MACs 13 * 64 + 64 * 4, and 2 * 64 + 4 more
    # parameters for the norm and the last bias.
    space = plugins.load("search_spaces", "mlp", "make_space")((13,), 4)
    counted = crosscheck.counts(space.decode(space.reference))
    expected = {"macs": 13 * 64 + 64 * 4, "params": 13 * 64 + 64 * 4 + 2 * 64 + 4}
    assert counted == dict.fromkeys(("fvcore", "thop", "torch"), expected)


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_a_tool_that_disagrees_is_an_error(metric, monkeypatch):
    architecture = next(points("mlp"))
    counted = crosscheck.counts(architecture)
    counted["thop"][metric] += 1
    monkeypatch.setattr(crosscheck, "counts", lambda _: counted)
    with pytest.raises(
        ValueError, match=r"^expected the counts \{'macs': \d+, 'params': \d+\} from every tool; got thop \{"
    ):
        crosscheck.check(architecture)
