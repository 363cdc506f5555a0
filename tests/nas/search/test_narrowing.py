"""A narrowed space: which parameters a pattern stands for, what is sampled then, and what stays as it was."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from nas.base import plugins
from nas.search.config import Range
from nas.search.config import parse_config
from nas.search.narrowing import narrow
from nas.search.storage import open_study
from nas.spaces import sample
from nas.spaces import space_named
from search_spaces.space import SearchSpace
from tests.small_search import TINY_SPACE
from tests.small_search import planned
from tests.small_search import run_here
from tests.small_search import with_settings
from tests.small_search import without_training

KINDS = {
    "depth": IntDistribution(1, 4),
    "width": IntDistribution(8, 64, step=8),
    "steps": IntDistribution(1, 1000, log=True),
    "rate": FloatDistribution(0.0, 0.5),
    "fine_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "norm": CategoricalDistribution([False, True]),
    "first_bits": CategoricalDistribution([32, 8]),
    "block1_weight_bits": CategoricalDistribution([32, "bf16", 8, 4, "ternary", 1]),
    "block2_weight_bits": CategoricalDistribution([32, "bf16", 8, 4, "ternary", 1]),
    "block1_kind": CategoricalDistribution(["plain", "8", "none"]),
    "scale": CategoricalDistribution([0.5, 1.0, 2.0]),
}
EVERY_KIND = SearchSpace("every_kind", (4,), 2, KINDS, lambda _: None, {})
SPACES = [EVERY_KIND, *(space_named(name) for name in plugins.available("search_spaces", "make_space"))]
few = settings(max_examples=150, deadline=None, derandomize=True)


def pieces_of(space):
    """Patterns that match something, each with values that one of the matched parameters offers."""
    names = sorted(space.distributions)
    endings = [name.partition("_")[2] for name in names if "_" in name]
    globs = [name.replace("1", "*") for name in names] + [f"{name[:3]}*" for name in names]
    patterns = st.sampled_from(sorted({*names, *endings, *globs, "*"}))
    return patterns.flatmap(lambda pattern: st.tuples(st.just(pattern), wanted_of(space, pattern)))


def wanted_of(space, pattern):
    offered = st.sampled_from(matched_by(space, pattern)).flatmap(lambda name: values_of(space.distributions[name]))
    numbers = offered.filter(lambda value: isinstance(value, int | float) and not isinstance(value, bool))
    lists = st.lists(offered, min_size=1, max_size=3)
    kinds = [space.distributions[name] for name in matched_by(space, pattern)]
    if not any(isinstance(kind, IntDistribution | FloatDistribution) for kind in kinds):
        return st.one_of(offered, lists)
    ranges = st.tuples(numbers, numbers).filter(lambda ends: ends[0] < ends[1])
    return st.one_of(offered, lists, ranges.map(lambda ends: Range(low=ends[0], high=ends[1])))


def values_of(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return st.sampled_from(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return st.sampled_from(range(distribution.low, distribution.high + 1, distribution.step))
    return st.floats(distribution.low, distribution.high)


def matched_by(space, pattern):
    names = list(space.distributions)
    exact = [name for name in names if fnmatchcase(name, pattern)]
    return exact or [name for name in names if fnmatchcase(name, f"*_{pattern}")]


def allows(wanted, value):
    """Tell by hand whether a sampled value is what a pattern wants."""
    if isinstance(wanted, Range):
        return isinstance(value, int | float) and not isinstance(value, bool) and wanted.low <= value <= wanted.high
    wanted = wanted if isinstance(wanted, list) else [wanted]
    return any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in wanted)


def could_be(distribution, wanted):
    """Tell by hand whether a parameter offers something of what is wanted."""
    if isinstance(distribution, CategoricalDistribution):
        return any(allows(wanted, choice) for choice in distribution.choices)
    if isinstance(distribution, IntDistribution):
        every = range(distribution.low, distribution.high + 1, distribution.step)
        return any(allows(wanted, value) for value in every)
    if isinstance(wanted, Range):
        return wanted.low <= distribution.high and distribution.low <= wanted.high
    numbers = [one for one in (wanted if isinstance(wanted, list) else [wanted]) if type(one) in (int, float)]
    return any(distribution.low <= one <= distribution.high for one in numbers)


@pytest.mark.parametrize(
    ("low", "high", "is_cut"), [(1, 4, False), (2, 3, False), (1, 9, True), (0, 2, True), (0, 9, True)]
)
def test_a_range_that_reaches_beyond_the_space_is_told(low, high, is_cut):
    space = space_named("conv", (1, 8, 8), 10)
    told = [line for line in narrow(space, {"depth": Range(low=low, high=high)}).lines if "is cut" in line]
    expected = f"set depth={low}..{high} is cut to what the space 'conv' offers: depth: 1 to 4"
    assert told == ([expected] if is_cut else [])


def test_a_range_is_not_cut_if_one_of_its_parameters_offers_its_ends():
    space = space_named("conv", (1, 8, 8), 10)
    # Strides end at 2, and widths begin at 8.
    ends = {"block1_*": Range(low=1, high=32)}
    assert not any("is cut" in line for line in narrow(space, ends).lines)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@few
@given(data=st.data())
def test_every_sampled_point_is_what_the_patterns_want(space, data):
    wanted = dict(data.draw(st.lists(pieces_of(space), min_size=1, max_size=3)))
    narrowing = narrow(space, wanted)
    assert narrowing.distributions.keys() == space.distributions.keys()
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    points = [sample(narrowing.distributions, rng) for _ in range(5)]
    for name, distribution in space.distributions.items():
        by = [value for pattern, value in wanted.items() if name in matched_by(space, pattern)]
        last = next((value for value in reversed(by) if could_be(distribution, value)), None)
        if last is None:
            assert narrowing.distributions[name] == distribution
        else:
            assert all(allows(last, point[name]) for point in points), (name, last)
    if space is not EVERY_KIND:
        assert all(space.decode(point).space == space.name for point in points)


def narrowed(**wanted):
    return narrow(EVERY_KIND, parse_config({"set": wanted}).set).distributions


def changed(**wanted):
    found = narrowed(**wanted)
    return {name: found[name] for name in KINDS if found[name] != KINDS[name]}


def one_of(*choices):
    return CategoricalDistribution(choices)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"depth": 2}, {"depth": one_of(2)}),
        ({"depth": 2.0}, {"depth": one_of(2)}),
        ({"depth": [3, 1]}, {"depth": one_of(3, 1)}),
        ({"depth": {"low": 2, "high": 9}}, {"depth": IntDistribution(2, 4)}),
        ({"depth": {"low": 3.5, "high": 9}}, {"depth": one_of(4)}),
        ({"width": {"low": 10, "high": 33}}, {"width": IntDistribution(16, 32, step=8)}),
        ({"steps": {"low": 10, "high": 99}}, {"steps": IntDistribution(10, 99, log=True)}),
        ({"fine_rate": {"low": 0.001, "high": 1}}, {"fine_rate": FloatDistribution(0.001, 0.1, log=True)}),
        # A parameter of this name is what is meant, not one that ends so.
        ({"rate": 0}, {"rate": one_of(0.0)}),
        ({"*rate": 0.05}, {"rate": one_of(0.05), "fine_rate": one_of(0.05)}),
        ({"norm": True}, {"norm": one_of(True)}),
        ({"scale": 1}, {"scale": one_of(1.0)}),
        ({"scale": {"low": 1, "high": 3}}, {"scale": one_of(1.0, 2.0)}),
        ({"kind": "8"}, {"block1_kind": one_of("8")}),
        ({"weight_bits": ["bf16", 4]}, dict.fromkeys(("block1_weight_bits", "block2_weight_bits"), one_of("bf16", 4))),
        (
            {"bits": [8, 4, 8]},
            {
                "first_bits": one_of(8),
                **dict.fromkeys(("block1_weight_bits", "block2_weight_bits"), one_of(8, 4)),
            },
        ),
        (
            {"bits": 8, "block1_*": ["ternary", "plain"]},
            {
                "first_bits": one_of(8),
                "block1_weight_bits": one_of("ternary"),
                "block2_weight_bits": one_of(8),
                "block1_kind": one_of("plain"),
            },
        ),
        # The later one wins.
        ({"block1_weight_bits": 1, "weight_bits": 4}, narrowed(weight_bits=4)),
    ],
)
def test_by_hand(wanted, expected):
    expected = {name: distribution for name, distribution in expected.items() if distribution != KINDS[name]}
    assert changed(**wanted) == expected
    values = [value for distribution in changed(**wanted).values() for value in getattr(distribution, "choices", ())]
    expected_values = [value for distribution in expected.values() for value in getattr(distribution, "choices", ())]
    assert [type(value) for value in values] == [type(value) for value in expected_values]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (
            {"bit": 8},
            (
                "no parameter of the space 'every_kind' is called 'bit' or ends in '_bit'; there are block*_kind, "
                "block*_weight_bits, depth, fine_rate, first_bits, norm, rate, scale, steps, width"
            ),
        ),
        ({"detph": 8}, "is called 'detph' or ends in '_detph' (near it: 'depth'); there are "),
        ({"sparsity.share": 0.5}, "scale, steps, width; --compress sparsity adds its own"),
        (
            {"bits": [8, 16, 2]},
            (
                "expected values that the space 'every_kind' offers for set bits=8,16,2: first_bits: one of [32, 8]; "
                "block*_weight_bits: one of [32, 'bf16', 8, 4, 'ternary', 1]; got 16, 2"
            ),
        ),
        ({"norm": 1}, "norm: one of [False, True]; got 1"),
        ({"depth": True}, "depth: 1 to 4; got true"),
        ({"depth": 2.5}, "depth: 1 to 4; got 2.5"),
        ({"width": 20}, "width: 8 to 64; got 20"),
        ({"width": {"low": 17, "high": 23}}, "for set width=17..23: width: 8 to 64; got 17..23"),
        ({"rate": {"low": 1, "high": 2}}, "rate: 0.0 to 0.5; got 1..2"),
        ({"kind": {"low": 1, "high": 9}}, "block1_kind: one of ['plain', '8', 'none']; got 1..9"),
    ],
)
def test_what_no_parameter_offers_is_refused_with_what_they_offer(wanted, told):
    with pytest.raises(ValueError, match=r"^(expected|no parameter)") as caught:
        narrowed(**wanted)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_left_as_it_is_is_said():
    def lines(**wanted):
        return narrow(EVERY_KIND, wanted).lines

    count = "10 of the 11 parameters of the space 'every_kind' are searched"
    assert lines() == ()
    assert lines(first_bits=8) == (count,)
    left = "set bits=ternary leaves as they are: first_bits: one of [32, 8]"
    assert lines(bits="ternary") == ("9 of the 11 parameters of the space 'every_kind' are searched", left)
    # A later pattern narrows it.
    assert lines(bits="ternary", first_bits=8) == ("8 of the 11 parameters of the space 'every_kind' are searched",)


# In a search.


@pytest.fixture
def plan(tmp_path):
    return planned(tmp_path / "runs", set={"bits": 8, "depth": {"low": 1, "high": 2}}, trials=6)


@pytest.mark.parametrize("sampler", plugins.available("nas.search.samplers", "make_sampler"))
def test_a_search_samples_the_narrowed_space_and_keeps_every_parameter(plan, monkeypatch, sampler):
    without_training(monkeypatch)
    study = run_here(with_settings(plan, sampler=sampler, trials=30))
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 30
    for trial in trained:
        assert trial.params.keys() >= plan.space.distributions.keys()
        assert {value for name, value in trial.params.items() if name.endswith("_bits")} == {8}
        assert trial.params["depth"] in (1, 2)
    assert len({trial.params["layer1_width"] for trial in trained}) > 1


def test_references_and_teacher_are_those_of_the_whole_space(plan, tmp_path):
    whole = planned(tmp_path / "whole", trials=6, teacher={"depth": 4})
    taught = planned(tmp_path / "taught", trials=6, teacher={"depth": 4}, set={"depth": 1, "bits": 1})
    assert plan.bank.architecture == whole.bank.architecture == taught.bank.architecture
    assert taught.teacher == whole.teacher
    point = {**taught.space.reference, "depth": 4}
    assert taught.space.decode(point) == whole.space.decode(point)


def test_limits_are_checked_on_the_narrowed_space(tmp_path):
    whole = planned(tmp_path / "runs")
    reference = whole.prices(whole.space.decode({**whole.space.reference, "depth": 1}))
    budgets = {"macs": reference["macs"].value}
    planned(tmp_path / "runs", budgets=budgets)
    with pytest.raises(ValueError, match="no candidate meets the limits: 1000 screened"):
        planned(tmp_path / "runs", budgets=budgets, set={"depth": 4, "width": 256})


def test_a_device_that_only_runs_what_is_narrowed_to_is_found_out(tmp_path):
    with pytest.raises(ValueError, match="no candidate of the space 'mlp' as set runs on coral_edgetpu: 1000 screened"):
        planned(tmp_path / "runs", device="coral_edgetpu", set={"bits": [32, 4]})
    planned(tmp_path / "runs", device="coral_edgetpu", set={"bits": 8})


def test_a_study_goes_on_with_what_it_was_set_to_alone(plan, tmp_path):
    open_study(plan)
    open_study(planned(tmp_path / "runs", set={"bits": 8, "depth": {"low": 1, "high": 2}}, trials=9))
    for changes, told in (
        ({"bits": 8}, r"set.depth: was \{'low': 1, 'high': 2, 'log': False\}, now None\); a wider choice of set.depth"),
        ({"bits": 8, "depth": [1, 2]}, "set.depth: was .*, now "),
        ({"bits": [8, 4], "depth": {"low": 1, "high": 2}}, "a wider choice of set.bits needs a study of its own"),
        (
            {"depth": {"low": 1, "high": 2}, "bits": 8},
            r"order of set: was \['bits', 'depth'\], now \['depth', 'bits'\]",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            open_study(planned(tmp_path / "runs", set=changes, trials=6))


def test_a_study_from_before_there_was_narrowing_goes_on(tmp_path):
    whole = planned(tmp_path / "runs")
    study = open_study(whole)
    earlier = {name: value for name, value in study.user_attrs["config"].items() if name != "set"}
    study.set_user_attr("config", earlier)
    open_study(whole)
    with pytest.raises(ValueError, match=r"set\.bits: was None, now 8"):
        open_study(planned(tmp_path / "runs", set={"bits": 8}))


def test_the_command_narrows_says_so_and_writes_it_down(nas, in_process, tmp_path):
    (tmp_path / "search.toml").write_text('[set]\n"layer*_width" = [16, 32]\nbits = 32\n')
    small = ("--space", "mlp", "--members", 100, "--references", 2, "--trials", 2, "--epochs", 1, "--workers", 1)
    flags = ("--set", "bits=2", "--set", "depth=1..2", "--name", "narrow", "--runs", tmp_path / "runs")
    told = nas("search", tmp_path / "search.toml", *small, *flags)
    assert told.code == 0, told.err
    assert "\nthe space is narrowed: set layer*_width=16,32, bits=2, depth=1..2\n" in told.out
    # Of 17 nine are bits, of which only the last layer's does not offer 2.
    assert "\n9 of the 17 parameters of the space 'mlp' are searched\n" in told.out
    assert "\nset bits=2 leaves as they are: last_bits: one of [32, 8]\n" in told.out
    assert "the space is narrowed" in nas("show", "narrow", "--runs", tmp_path / "runs").out
    front = json.loads(
        nas("search", tmp_path / "runs" / "narrow" / "config.toml", "--runs", tmp_path / "runs", "--json").out
    )
    assert front["counts"]["trained"] == 2
    refused = nas("search", tmp_path / "search.toml", *small, *flags[2:])
    assert refused.code == 2
    assert "set.bits: was 2, now 32" in refused.err


def test_the_parameters_of_compressions_are_narrowed_too(tmp_path):
    wanted = {"share": 0.5, "pattern": ["unstructured", "2:4"], "layout": "uniform", "bits": 8, "depth": 1}
    plan = planned(tmp_path / "runs", compressions=["sparsity"], set=wanted)
    assert plan.distributions["sparsity.pattern"] == one_of("unstructured", "2:4")
    point = sample(plan.narrowing.distributions, np.random.default_rng(0))
    assert {op.sparsity for op in plan.space.decode(point).ops if op.kind == "linear"} == {0.5}
    assert all(op.sparsity == 0 for op in plan.bank.architecture.ops)


def test_a_space_whose_parameters_are_called_as_the_recipes_is_refused(tmp_path, monkeypatch):
    space = tmp_path / "taken.py"
    space.write_text(TINY_SPACE.replace('"width"', '"dropout"'))
    monkeypatch.setenv(plugins.TRUSTED, str(space))
    with pytest.raises(ValueError, match=r"expected a space without parameters .* it has \['dropout'\]"):
        planned(tmp_path / "runs", space=str(space))
