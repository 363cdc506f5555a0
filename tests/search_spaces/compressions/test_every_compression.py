"""Conformance of every compression, on points of every space: the graph is that of a network, smaller where it says."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from estimators.cost import macs
from estimators.devices.files import load_device
from nas.base.plugins import available
from nas.base.plugins import load
from nas.spaces import ORDER
from nas.spaces import compressible
from nas.spaces import compressions_in
from nas.spaces import space_named
from search_spaces.network import build

NAMES = available("search_spaces.compressions", "compress")
PARAMETERS = {name: load("search_spaces.compressions", name, "PARAMETERS") for name in NAMES}
SPACES = [
    ("mlp", (20,)),
    ("conv", (3, 13, 7)),
    ("conv", (3, 1, 24)),
    ("nb201", (3, 8, 8)),
    ("tests.two_exits", (1, 8, 8)),
]
every_compression = pytest.mark.parametrize("name", NAMES)
every_space = pytest.mark.parametrize("named", SPACES, ids=lambda named: f"{named[0]}-{named[1]}")
FEW = settings(max_examples=8, derandomize=True, deadline=None)


def space_of(named, compressions):
    return compressible(space_named(*named, 5), compressions)


def values_of(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return list(range(distribution.low, distribution.high + 1))


def points(space):
    return st.fixed_dictionaries({name: st.sampled_from(values_of(d)) for name, d in space.distributions.items()})


def test_every_compression_has_its_place():
    assert set(NAMES) == set(ORDER)


@every_space
@every_compression
@FEW
@given(data=st.data())
def test_the_network_is_the_one_described(name, named, data):
    space = space_of(named, [name])
    point = data.draw(points(space))
    architecture = space.decode(json.loads(json.dumps(point)))
    assert architecture.key == space.decode(point).key
    assert architecture.params == point
    assert compressions_in(architecture.params) == [name]
    network = build(architecture).eval()
    answers = network(torch.randn(2, *space.input_shape, generator=torch.Generator().manual_seed(0)))
    for logits in answers if isinstance(answers, tuple) else (answers,):
        assert logits.shape == (2, 5)
    assert macs.estimate(architecture, load_device("host")).value >= 0


@every_space
@every_compression
def test_the_first_value_of_each_parameter_changes_nothing(name, named):
    plain = space_named(*named, 5)
    space = space_of(named, [name])
    assert space.decode(space.reference).key == plain.decode(plain.reference).key


@every_compression
def test_every_value_changes_the_graph_in_some_context(name):
    space = space_of(("conv", (3, 8, 8)), [name])
    choices = {f"{name}.{parameter}": values for parameter, values in PARAMETERS[name].items()}
    contexts = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    reference = {**space.reference, "stem_width": 16, "depth": 4}  # as deep as it takes for four exits
    for parameter, values in choices.items():
        for first, second in itertools.combinations(values, 2):
            keys = [
                [space.decode({**reference, **context, parameter: value}).key for value in (first, second)]
                for context in contexts
            ]
            assert any(one != other for one, other in keys), f"{parameter}: {first!r} and {second!r} are the same"


def test_all_together_are_one_network():
    space = space_of(("conv", (3, 8, 8)), NAMES)
    few = {
        "channels.kept": 0.5,
        "sparsity.share": 0.9,
        "sparsity.pattern": "unstructured",
        "weight_sharing.width": 4,
    }
    network = space.decode({**space.reference, **few})
    layers = [op for op in network.ops if op.kind in ("conv", "linear")]
    assert {op.shared_bits for op in layers} == {4}
    assert all(0.85 < op.sparsity < 0.95 for op in layers)
    assert [op.pruned_from for op in layers] == [16, 16, 16, 0]


def test_an_unknown_compression_is_refused():
    with pytest.raises(ValueError, match=r"no 'sparse' in search_spaces.compressions; there are .*'sparsity'"):
        space_of(("mlp", (20,)), ["sparse"])
