"""Distributions as NNI's mutables and back, and NNI's own strategies on spaces of ours."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.nni.importing import imported
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.space import check_point

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="the extra [nni] is not installed")
SPACES = [space_named(name) for name in plugins.available("search_spaces", "make_space")]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


@pytest.fixture(scope="module")
def mutables():
    return imported("nas.nni.mutables")


@pytest.fixture(scope="module")
def nni():
    return imported("nni")


def values_of(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


@every_space
def test_every_space_of_ours_comes_back_with_its_values(mutables, space):
    read = mutables.read(mutables.PointSpace(space.distributions))
    assert list(read.distributions) == list(space.distributions)
    for name, distribution in space.distributions.items():  # whole numbers come back as a choice of themselves
        assert list(read.distributions[name].choices) == values_of(distribution)
    assert read.sample(space.reference) == space.reference


@every_space
@settings(max_examples=5, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_points_go_both_ways(mutables, space, seed):
    exported = mutables.PointSpace(space.distributions)
    check_point(space.distributions, exported.random(random_state=np.random.RandomState(seed)).params, "the space")
    point = sample(space.distributions, np.random.default_rng(seed))
    assert exported.freeze(point).params == point


NUMBERS = (
    st.tuples(st.integers(-20, 20), st.integers(1, 20), st.sampled_from([None, 1.0, 0.5]), st.booleans())
    .map(lambda drawn: (*drawn[:3], drawn[3] and drawn[2] is None))
    .map(
        lambda drawn: (
            FloatDistribution(1 + abs(drawn[0]), 1 + abs(drawn[0]) + drawn[1], log=True)
            if drawn[3]
            else FloatDistribution(drawn[0], drawn[0] + drawn[1], step=drawn[2])
        )
    )
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(NUMBERS, st.integers(0, 9))
def test_numbers_come_back_as_they_were(mutables, distribution, seed):
    exported = mutables.PointSpace({"x": distribution})
    assert mutables.read(exported).distributions == {"x": distribution}
    drawn = exported.random(random_state=np.random.RandomState(seed)).params["x"]
    assert distribution.low <= drawn <= distribution.high
    assert distribution.step is None or drawn % distribution.step == 0


@pytest.mark.parametrize(
    ("distribution", "complaint"),
    [
        (CategoricalDistribution([1, True]), "expected values of 'x' that NNI can tell apart, no two of them equal"),
        (FloatDistribution(0.1, 0.7, step=0.2), "NNI's steps start at zero: expected 'x' from and to a multiple"),
    ],
)
def test_a_distribution_without_a_mutable_is_named(mutables, distribution, complaint):
    with pytest.raises(ValueError, match=complaint):
        mutables.mutable("x", distribution)


def test_a_range_of_one_number_is_a_choice_of_it(mutables):
    assert mutables.mutable("x", FloatDistribution(0.5, 0.5)).values == [0.5]


def test_a_choice_of_inputs_is_a_choice_of_texts(mutables, nni):
    both = imported("nni.mutable").CategoricalMultiple([0, 1, 2], n_chosen=2, label="two")
    some = imported("nni.mutable").CategoricalMultiple([0, 1], label="some")
    read = mutables.read(imported("nni.mutable").MutableList([both, some, nni.choice("width", [8, 16])]))
    assert read.distributions == {
        "two": CategoricalDistribution(["0,1", "0,2", "1,2"]),
        "some": CategoricalDistribution(["0", "1", "0,1"]),  # none at all would be no network
        "width": CategoricalDistribution([8, 16]),
    }
    chosen = read.sample({"two": "0,2", "some": "1", "width": 16})
    assert chosen == {"two": [0, 2], "some": [1], "width": 16}
    assert both.freeze(chosen) == [0, 2]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda m: m.Numerical(mu=0, sigma=1, label="x"), "expected a uniform or loguniform number for 'x', with ends"),
        (lambda m: m.Numerical(mu=0, sigma=1, low=-1, high=1, label="x"), "a uniform or loguniform number for 'x'"),
        (lambda m: m.Numerical(0.5, 2.5, quantize=1, label="x"), "expected ends that are multiples of the step"),
        (lambda m: m.Categorical([(3, 3), (5, 5)], label="x"), r"to choose from for 'x'; got \(3, 3\)"),
        (lambda m: m.CategoricalMultiple(range(12), label="x"), "at most 1024 ways to choose inputs for 'x'; got 4095"),
        (
            lambda m: imported("nni.mutable.annotation").ExpressionConstraint(
                m.Categorical([1, 2], label="x") == 2, label="c"
            ),
            "no counterpart for NNI's ExpressionConstraint 'c'; there are choices and numbers",
        ),
        (lambda m: m.MutableList([]), "expected a model space with something to choose; got one without"),
    ],
)
def test_a_mutable_without_a_counterpart_is_named(mutables, make, complaint):
    with pytest.raises(ValueError, match=complaint):
        mutables.read(make(imported("nni.mutable")))


def test_nnis_quantised_whole_numbers_are_ints(mutables):
    whole = imported("nni.mutable").Numerical(8, 64, quantize=8, label="x")
    assert mutables.read(whole).distributions == {"x": IntDistribution(8, 64, step=8)}
