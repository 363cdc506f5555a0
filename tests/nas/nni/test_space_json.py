"""NNI's search-space files: what is written is read back, NNI itself takes it, and what has no counterpart is named."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.nni import importing
from nas.nni import space_json
from nas.search.narrowing import narrow
from nas.spaces import compressible
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.space import check_point
from search_spaces.space import contains

needs_nni = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="the extra [nni] is not installed")
COMPRESSIONS = plugins.available("search_spaces.compressions", "compress")
SPACES = [
    space
    for name in plugins.available("search_spaces", "make_space")
    for space in (space_named(name), compressible(space_named(name), COMPRESSIONS))
]
every_space = pytest.mark.parametrize(
    "space", SPACES, ids=lambda space: f"{space.name}, {len(space.distributions)} parameters"
)
WHOLE = st.integers(-50, 50)
SCALARS = st.one_of(st.booleans(), WHOLE, st.floats(allow_nan=False, allow_infinity=False), st.text(), st.none())


def on_grid(draw):
    """A range of whole steps, from zero."""
    first, count = draw(WHOLE), draw(st.integers(1, 20))
    return first, first + count


@st.composite
def distributions(draw):
    """Any distribution that NNI has a counterpart for."""
    kind = draw(st.sampled_from(["choice", "int", "log int", "stepped int", "float", "log float", "stepped float"]))
    low, high = on_grid(draw)
    step = draw(st.integers(1, 9))
    if kind == "choice":
        values = draw(st.lists(SCALARS, min_size=1, max_size=6, unique_by=lambda value: (type(value), value)))
        return CategoricalDistribution(values)
    if kind == "int":
        return IntDistribution(low, low + draw(st.integers(0, 20)))
    if kind == "log int":
        return IntDistribution(abs(low) + 1, abs(low) + 1 + high - low, log=True)
    if kind == "stepped int":
        return IntDistribution(step * low, step * high, step=step)
    if kind == "float":
        return FloatDistribution(low / step, high / step)
    if kind == "log float":
        return FloatDistribution((abs(low) + 1) / step, (abs(low) + 1 + high - low) / step, log=True)
    width = draw(st.sampled_from([1.0, 0.5, 0.1, 0.03]))
    return FloatDistribution(round(low * width, 9), round(high * width, 9), step=width)


def through_json(found):
    return space_json.from_nni(json.loads(json.dumps(space_json.to_nni(found))), "space.json")


@every_space
def test_every_space_of_ours_comes_back_as_it_was(space, tmp_path):
    assert through_json(space.distributions) == space.distributions
    space_json.write(tmp_path / "space.json", space.distributions)
    assert space_json.read(tmp_path / "space.json") == space.distributions


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.dictionaries(st.text(min_size=1), distributions(), min_size=1, max_size=4))
def test_any_distribution_comes_back_as_it_was(found):
    again = through_json(found)
    assert again == found
    for name, distribution in found.items():  # True equals 1 for Python, and is another choice
        choices = getattr(distribution, "choices", ())
        assert [type(value) for value in choices] == [type(value) for value in getattr(again[name], "choices", ())]


def test_choices_that_are_equal_for_python_stay_different_ones():
    (distribution,) = through_json({"x": CategoricalDistribution([1, True, 1.0, "1", None])}).values()
    assert [type(choice) for choice in distribution.choices] == [int, bool, float, str, type(None)]


@needs_nni
@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(st.text(min_size=1), distributions(), min_size=1, max_size=3), st.integers(0, 9))
def test_nni_takes_what_is_written_and_draws_points_of_the_space(found, seed):
    tuner = importing.imported("nni.algorithms.hpo.random_tuner").RandomTuner(seed)
    check = importing.imported("nni.common.hpo_utils").validate_search_space
    written = space_json.to_nni(found)
    none = any(None in getattr(distribution, "choices", ()) for distribution in found.values())
    assert check(written) or none  # NNI says of null that it may harm, and draws it
    tuner.update_search_space(written)
    point = space_json.point_in(found, tuner.generate_parameters(0))
    check_point(found, point, "what was written")


@every_space
def test_a_space_of_ours_is_narrowed_to_itself_by_what_is_written(space):
    wanted = space_json.narrowing(space, through_json(space.distributions))
    assert narrow(space, wanted).distributions == space.distributions


@every_space
@settings(max_examples=10, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_file_narrows_a_space_to_what_it_offers(space, data):
    chosen = data.draw(st.sets(st.sampled_from(sorted(space.distributions)), min_size=1))
    smaller = {name: part_of(space.distributions[name], data.draw) for name in chosen}
    narrowed = narrow(space, space_json.narrowing(space, through_json(smaller))).distributions
    rng = np.random.default_rng(0)
    for point in [sample(narrowed, rng) for _ in range(5)]:
        assert all(contains(smaller[name], point[name]) for name in smaller)
        check_point(space.distributions, point, "the space")
    others = space.distributions.keys() - smaller.keys()
    assert all(narrowed[name] is space.distributions[name] for name in others)


def part_of(distribution, draw):
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution(draw(st.lists(st.sampled_from(distribution.choices), min_size=1, unique=True)))
    low, high = sorted(draw(st.integers(distribution.low, distribution.high)) for _ in range(2))
    return IntDistribution(low, high)


def test_a_space_is_not_narrowed_by_what_it_does_not_have():
    space = space_named("mlp")
    with pytest.raises(ValueError, match="expected parameters of the space 'mlp'; got beta, width; there are depth"):
        space_json.narrowing(space, dict.fromkeys(["width", "depth", "beta"], IntDistribution(1, 2)))
    with pytest.raises(ValueError, match="got null among the choices"):
        space_json.narrowing(space, {"depth": CategoricalDistribution([1, None])})


@pytest.mark.parametrize(
    ("distribution", "written"),
    [
        (CategoricalDistribution([8, "ternary", True]), {"_type": "choice", "_value": [8, "ternary", True]}),
        (IntDistribution(1, 4), {"_type": "randint", "_value": [1, 5]}),
        (IntDistribution(8, 64, step=8), {"_type": "quniform", "_value": [8, 64, 8]}),
        (IntDistribution(1, 64, log=True), {"_type": "qloguniform", "_value": [1, 64, 1]}),
        (FloatDistribution(0.0, 0.5), {"_type": "uniform", "_value": [0.0, 0.5]}),
        (FloatDistribution(0.001, 0.1, log=True), {"_type": "loguniform", "_value": [0.001, 0.1]}),
        (FloatDistribution(0.0, 2.0, step=1.0), {"_type": "quniform", "_value": [0.0, 2.0, 1.0]}),
    ],
)
def test_each_kind_is_written_as_nni_documents_it(distribution, written):
    assert space_json.to_nni({"x": distribution}) == {"x": written}


@pytest.mark.parametrize(
    ("distribution", "complaint"),
    [
        (
            IntDistribution(1, 7, step=2),
            "NNI's steps start at zero: expected 'x' from and to a multiple of its step 2; g",
        ),
        (FloatDistribution(0.1, 0.7, step=0.2), "expected 'x' from and to a multiple of its step 0.2; got 0.1 to 0.7"),
        (FloatDistribution(0.5, 0.5), "NNI takes no range of one number: expected 'x' to be a choice; got 0.5 alone"),
        (CategoricalDistribution([float("nan")]), "finite numbers, texts, true, false and null as choices; got nan"),
    ],
)
def test_a_distribution_without_a_counterpart_is_named(distribution, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        space_json.to_nni({"x": distribution})


def entry(kind, *values):
    return {"_type": kind, "_value": list(values)}


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        ("dear diary", 'expected {"_type": ..., "_value": [...]}; got "dear diary"'),
        ({"_type": "choice"}, 'expected {"_type": ..., "_value": [...]}'),
        (entry("normal", 0, 1), "'normal' has no ends, and a search here needs them: expected uniform or loguniform"),
        (entry("qlognormal", 0, 1, 1), "'qlognormal' has no ends"),
        (entry("gaussian", 0, 1), "expected one of ['choice', 'randint', 'uniform', 'loguniform', 'quniform', 'qlogun"),
        (entry(["choice"], 0, 1), "expected one of ['choice'"),
        (entry("choice"), "null to choose from; got []"),
        (entry("choice", [1, 2]), "null to choose from; got [[1, 2]]"),
        (
            entry("choice", {"_name": "conv", "kernel": entry("choice", 3, 5)}),
            "a nested choice has parameters that come",
        ),
        (entry("choice", 3, 3), "expected different values to choose from; got [3, 3]"),
        (entry("choice", float("inf")), "expected finite numbers"),
        (entry("randint", 3, 3), "expected 2 numbers, low < high; got [3, 3]"),
        (entry("randint", 0.5, 3), "expected two whole numbers; got [0.5, 3]"),
        (entry("randint", False, True), "expected 2 numbers, low < high; got [false, true]"),
        (entry("uniform", 1, 0), "expected 2 numbers, low < high; got [1, 0]"),
        (entry("uniform", 0, 1, 0.1), "expected 2 numbers, low < high"),
        (entry("uniform", "0", 1), 'expected 2 numbers, low < high; got ["0", 1]'),
        (entry("uniform", float("nan"), 1), "expected 2 numbers"),
        (entry("loguniform", 0, 1), "expected 2 numbers, 0 < low < high; got [0, 1]"),
        (entry("quniform", 0, 1), "expected 3 numbers, low < high; got [0, 1]"),
        (entry("quniform", 0, 1, 0), "expected a step above 0; got [0, 1, 0]"),
        (
            entry("quniform", 1, 9, 2),
            "expected ends that are multiples of the step, as NNI's values are; got [1, 9, 2]",
        ),
        (entry("qloguniform", 1, 9, 2), "expected whole numbers and the step 1 on a log scale; got [1, 9, 2]"),
        (entry("qloguniform", 0.5, 9, 1), "expected whole numbers and the step 1 on a log scale"),
    ],
)
def test_a_parameter_of_nnis_without_a_counterpart_is_named(read, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        space_json.from_nni({"x": read}, "space.json")
    assert str(caught.value).startswith("the parameter 'x' in space.json: ")


@pytest.mark.parametrize("table", [[], {}, "x", None])
def test_what_is_no_table_is_no_space(table):
    with pytest.raises(
        ValueError, match=r"expected a search space of NNI's, a table of parameters by name, in a\.json"
    ):
        space_json.from_nni(table, "a.json")


@pytest.mark.parametrize("text", ["{", "NaN", "[" * 5000, "{'x': 1}"])
def test_a_file_that_is_no_space_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a search space of NNI's") as caught:
        space_json.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"none\.json"):
        space_json.read(tmp_path / "none.json")
