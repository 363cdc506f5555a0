"""Conformance of every network that a space's file names."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from nas.base import plugins
from nas.spaces import networks_of

SPACES = plugins.available("search_spaces", "make_space")
NETWORKS = [(name, named) for space in SPACES for name, named in networks_of(space).items()]
every_network = pytest.mark.parametrize(("name", "named"), NETWORKS, ids=[name for name, _ in NETWORKS])


def test_networks_are_found():
    assert {name for name, _ in NETWORKS} >= {"nb201-0", "nb201-1"}


def test_no_two_spaces_name_one_network():
    spaces = Counter(name for name, _ in NETWORKS)
    assert [name for name, count in spaces.items() if count > 1] == []


@every_network
def test_a_name_can_be_typed_and_is_no_other_kind_of_text(name, named):
    # No path, no JSON, no RUN:NUMBER, no option, and no space's name.
    assert re.fullmatch(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*", name)
    assert name not in SPACES
    assert not name.endswith((".py", ".json", ".toml"))
    assert len(named.network.source.split()) > 1


@every_network
def test_a_network_is_a_point_of_its_space(name, named):
    network = named.architecture()
    assert (network.space, network.input_shape) == (named.space, named.network.input_shape)
    assert network.num_classes == named.network.num_classes
