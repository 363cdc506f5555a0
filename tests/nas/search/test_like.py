"""What a search is given of earlier ones: points for its first candidates, and nothing else."""

from __future__ import annotations

import shutil
import textwrap

import optuna
import pytest
from optuna.trial import TrialState

from nas.base.plugins import TRUSTED
from nas.runs.front_and_knee import front
from nas.runs.report import row
from nas.runs.report import settings_lines
from nas.search import claims
from nas.search import signs
from nas.search import study as search
from nas.search.config import to_toml
from nas.search.like import liked
from nas.search.schema import given_to
from nas.search.storage import open_study
from search_spaces.space import check_point
from tests.small_search import TINY_SPACE
from tests.small_search import evaluated
from tests.small_search import measures_of
from tests.small_search import planned
from tests.small_search import record_of
from tests.small_search import run_here
from tests.small_search import with_settings
from tests.small_search import without_training

RECIPE = {"epochs": {"low": 2, "high": 9}, "optimizer": ["adamw", "sgd"]}
# With so many objectives, much of what is trained is on the front.
OBJECTIVES = ["error", "leakage", "loss_auc", "latency_ms"]
EARLIER = {"recipe": RECIPE, "trials": 12, "defences": ["none", "relaxloss"], "objectives": OBJECTIVES}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A folder of runs with one that has ended, `first`, of made-up numbers."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        without_training(patch)
        run_here(planned(runs, name="first", **EARLIER))
    return runs


@pytest.fixture
def runs(earlier, tmp_path):
    return shutil.copytree(earlier, tmp_path / "runs")


@pytest.fixture
def numbers(monkeypatch):
    return without_training(monkeypatch)


def later(runs, **changes):
    return planned(runs, **{"name": "second", "like": ["first"], **EARLIER, "trials": 14, **changes})


def first_of(runs):
    return open_study(planned(runs, name="first", **EARLIER))


def given(plan):
    return liked(plan).given


def test_the_front_of_an_earlier_run_is_trained_first_and_measured_anew(runs, monkeypatch):
    asked = []

    def evaluate(_plan, _bench, candidate):
        asked.append(candidate.key)
        return evaluated(candidate.key, **measures_of(f"anew {candidate.key}"))

    without_training(monkeypatch)
    monkeypatch.setattr("nas.search.study.evaluate", evaluate)
    plan = later(runs)
    trained = {f"first:{trial.number}": trial for trial in front(first_of(runs))}
    before = [trained[one.of] for one in given(plan)]
    study = run_here(plan)
    assert len(before) == len(trained)
    assert 3 <= len(before) < 12
    assert asked[: len(before)] == [trial.user_attrs["key"] for trial in before]
    assert len(asked) == len(set(asked)) == 14
    for trial, one in zip(study.get_trials()[: len(before)], before, strict=True):
        assert trial.params == one.params
        assert trial.user_attrs["error"] == measures_of(f"anew {trial.user_attrs['key']}")["error"].value
        assert trial.user_attrs["error"] != one.user_attrs["error"]
        assert row(study, trial)["like"] == f"first:{one.number}"
    assert {row(study, trial)["like"] for trial in study.get_trials()[len(before) :] if trial.values} == {None}


def test_a_search_says_what_it_is_given(runs, numbers):
    count = len(front(first_of(runs)))
    lines = settings_lines(run_here(later(runs)))
    told = [line for line in lines if line.startswith("like ")]
    assert told[0].startswith(f"like first: {count} of the {count} candidates on its front are asked for first: ")
    assert told[1:] == ["like first: it searched the same records: what was chosen there by luck is chosen again"]
    assert not [line for line in settings_lines(first_of(runs)) if line.startswith("like ")]
    other_records = settings_lines(run_here(later(runs, name="third", seed=1)))
    assert [line for line in other_records if line.startswith("like ")] == told[:1]


def test_a_search_that_goes_on_is_given_nothing_twice_and_needs_the_earlier_run_no_more(runs, numbers):
    whole = run_here(later(runs, name="whole"))
    plan = later(runs)
    run_here(with_settings(plan, trials=2))
    held = search.propose(plan, open_study(plan))  # and dies
    held.hold.release()
    shutil.rmtree(runs / "first")
    gone_on = run_here(plan)
    assert record_of(gone_on) == record_of(whole)


def test_several_workers_have_a_point_each(runs, numbers):
    plan = later(runs)
    study = open_study(plan)
    expected = [one.params for one in given(plan)]
    proposals = [search.propose(plan, study) for _ in expected]
    assert [proposal.trial.params for proposal in proposals] == expected
    for proposal in reversed(proposals):
        search.record(plan, study, proposal, evaluated(proposal.candidate.key))
    assert search.propose(plan, study).trial.params not in expected


def test_a_point_that_a_silent_machine_had_is_taken_over(runs, numbers, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = later(runs, storage=f"sqlite:///{tmp_path}/study.db")
    study = open_study(plan)
    lost, _ = claims.claim(plan, study)  # and was sampled no more
    monkeypatch.setattr("nas.search.claims.here", lambda url: "me@elsewhere")
    monkeypatch.setattr(signs, "SECONDS_OF_SILENCE", -1.0)
    again = search.propose(plan, study)
    assert (lost.number, again.trial.number) == (0, 1)
    assert study.get_trials()[0].state == TrialState.FAIL
    assert again.trial.params == given(plan)[0].params
    assert given_to(study.user_attrs, again.trial) == given(plan)[0]


@pytest.mark.parametrize("sampler", ["nsga2", "gp", "cost_aware"])
def test_samplers_learn_from_what_was_given(runs, numbers, sampler):
    plan = later(runs, sampler=sampler)
    study = run_here(plan)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 14
    assert study.get_trials()[0].params == given(plan)[0].params
    if sampler == "nsga2":  # the given ones are parents, too
        generations = [name for name in study.get_trials()[0].system_attrs if "generation" in name]
        assert generations


# What exists in this search


def test_a_network_that_is_not_searched_is_left_out_and_its_parameter_is_named(runs):
    before = {trial.number: trial.params for trial in front(first_of(runs))}
    kept = {number for number, params in before.items() if params["depth"] <= 2}
    assert 0 < len(kept) < len(before)
    plan = later(runs, set={"depth": {"low": 1, "high": 2}})
    assert {one.of for one in given(plan)} == {f"first:{number}" for number in kept}
    lines = liked(plan).lines
    assert lines[0].startswith(f"like first: {len(kept)} of the {len(before)} candidates on its front are asked for")
    assert lines[1].startswith("like first: left out: ")
    for number, params in before.items():
        assert (f"{number} (depth={params['depth']}, expected 1 to 2)" in lines[1]) == (number not in kept)


def test_a_parameter_that_has_no_part_in_the_network_makes_no_difference(runs):
    before = {f"first:{trial.number}": trial.params for trial in front(first_of(runs))}
    without = {of: params for of, params in before.items() if params["depth"] < 4}
    assert without
    plan = later(runs, set={"layer4_width": 64})
    found = {one.of: one.params for one in given(plan)}
    assert found.keys() >= without.keys()
    assert {params["layer4_width"] for params in found.values()} == {64}
    for of, params in without.items():
        assert plan.space.decode({name: found[of][name] for name in plan.space.distributions}).key
        assert {**found[of], "layer4_width": params["layer4_width"]} == params


def test_a_recipe_is_brought_into_the_ranges_of_the_search(runs, numbers):
    recipe = {"epochs": {"low": 4, "high": 5}, "optimizer": ["adamw"]}
    plan = later(runs, recipe=recipe, defences=["none", "gecko"])
    before = {f"first:{trial.number}": trial.params for trial in front(first_of(runs))}
    for one in given(plan):
        params = before[one.of]
        assert one.params["epochs"] == min(max(params["epochs"], 4), 5)
        assert one.params.get("optimizer") == (params["optimizer"] if params["optimizer"] == "adamw" else None)
        assert one.params.get("defence") == ("none" if params["defence"] == "none" else None)
        assert not [name for name in one.params if name.startswith("relaxloss")]
    told = " ".join(liked(plan).lines)
    assert "epochs is brought into the range here: " in told
    for name, value in (("optimizer", "sgd"), ("defence", "relaxloss")):
        left = any(params[name] == value for params in before.values())
        assert (f"{name} is not offered here and drawn at random: " in told) == left
    study = run_here(plan)
    for trial in study.get_trials():
        check_point(plan.distributions, trial.params, "the plan")


def test_a_defence_that_the_search_has_not_is_said(runs):
    plan = later(runs, defences=["gecko"])
    theirs = [trial.number for trial in front(first_of(runs)) if trial.params["defence"] != "gecko"]
    note = f"like first: trained with the defence 'gecko', not their own: {theirs[0]}"
    assert any(line.startswith(note) for line in liked(plan).lines)


def test_settings_that_were_fixed_then_and_are_searched_now_have_their_value(runs, numbers):
    run_here(planned(runs, name="fixed", trials=4))  # two epochs, and the defence gecko or none
    plan = later(runs, like=["fixed"])
    assert {one.params["epochs"] for one in given(plan)} == {2}


def test_a_compression_that_is_new_changes_nothing_and_one_that_is_missing_does(runs, numbers):
    plan = later(runs, name="sparse", compressions=["sparsity"])
    assert {one.params["sparsity.share"] for one in given(plan)} == {0.0}
    study = run_here(plan)
    shares = {f"sparse:{trial.number}": trial.params["sparsity.share"] for trial in front(study)}
    assert len(set(shares.values())) > 1
    back = liked(later(runs, like=["sparse"]))
    assert {one.of for one in back.given} == {of for of, share in shares.items() if share == 0}
    assert "expected 0.0: it is not searched" in back.lines[1]


def test_what_exceeds_a_limit_is_left_out(runs):
    costs = sorted(trial.user_attrs["flash_kib"] for trial in front(first_of(runs)))
    plan = later(runs, budgets={"flash_kib": costs[1]})
    assert len(given(plan)) == 2
    assert f" > {costs[1]:.4g})" in liked(plan).lines[1]


def test_two_runs_with_one_front_give_it_once(runs, numbers):
    shutil.copytree(runs / "first", runs / "copy")
    (runs / "copy" / "config.toml").write_text(to_toml(planned(runs, name="first", **EARLIER).config))
    plan = later(runs, like=["first", str(runs / "copy")])
    with pytest.raises(ValueError, match=r"^expected a candidate of this search .*the same as first:\d+"):
        liked(plan)
    run_here(planned(runs, name="third", **{**EARLIER, "seed": 3}))
    both = given(later(runs, like=["first", "third"]))
    assert {one.of.partition(":")[0] for one in both} == {"first", "third"}
    assert len({str(one.params) for one in both}) == len(both)


def test_of_more_points_than_trainings_those_asked_for_are_spread_over_the_front(runs, numbers):
    plan = later(runs)
    every = given(plan)
    by_first = [f"first:{trial.number}" for trial in front(first_of(runs))]
    assert [one.of for one in every][:2] == [by_first[0], by_first[-1]]
    study = run_here(with_settings(plan, trials=2))
    assert [row(study, trial)["like"] for trial in study.get_trials()] == [by_first[0], by_first[-1]]
    assert f"like: these are {len(every)} candidates, and 2 are to be trained" in settings_lines(study)
    more = run_here(with_settings(plan, trials=3))
    assert given_to(more.user_attrs, more.get_trials()[2]) == every[2]


def test_published_networks_have_the_middle_of_the_recipe(runs, numbers, tmp_path, monkeypatch):
    networks = """
        from types import MappingProxyType
        from search_spaces.space import NamedNetwork
        NETWORKS = MappingProxyType({
            "wide": NamedNetwork({"width": 24}, (1, 8, 8), 10, "nobody, 2026"),
            "odd": NamedNetwork({"width": 9}, (1, 8, 8), 10, "nobody, 2026"),
        })
    """
    (tmp_path / "with_networks.py").write_text(TINY_SPACE + textwrap.dedent(networks))
    space = str(tmp_path / "with_networks.py")
    monkeypatch.setenv(TRUSTED, space)
    plan = planned(runs, name="second", space=space, like=["networks"], trials=3, defences=["none", "gecko"])
    (one,) = given(plan)
    assert (one.of, one.params["width"]) == ("wide", 24)
    middle = plan.config.recipe.middle()
    assert one.params["dropout"] == middle.dropout
    assert "defence" not in one.params
    assert liked(plan).lines == (
        "like networks: 1 of the 2 published networks are asked for first: wide",
        "like networks: left out: odd (not a point of the space 'tiny_space': width=9, expected one of [8, 16, 24])",
    )
    assert run_here(plan).get_trials()[0].params["width"] == 24


# What is refused, before anything is trained


def test_a_run_of_another_space_a_run_without_a_front_and_one_of_no_use_are_refused(runs, numbers):
    with pytest.raises(ValueError, match=r"^expected a run of the space 'conv' for like; 'first' searched 'mlp'$"):
        liked(later(runs, space="conv"))
    open_study(planned(runs, name="empty", **EARLIER))
    with pytest.raises(ValueError, match=r"^expected a run with a trained candidate .* for like; 'empty' has none$"):
        liked(later(runs, like=["empty"]))
    with pytest.raises(ValueError, match=r"^expected a candidate of this search among the \d candidates on its"):
        liked(later(runs, set={"norm": False, "activation": "hardswish", "range": "tracked", "bits": 1}))
    with pytest.raises(ValueError, match=r"^no published networks of the space 'mlp' for like; "):
        liked(later(runs, like=["networks"]))
    assert not (runs / "second").exists()


def test_wrong_names_are_refused_in_one_line(refused, tmp_path):
    flags = ("search", "--space", "mlp", "--members", "120", "--name", "second")
    assert refused(*flags, "--like", "gone").startswith(f"no run 'gone' in {tmp_path / 'runs'}; there are []")
    assert refused(*flags, "--like", "second") == "expected other runs for like; got 'second', which is this one"
    assert refused(*flags, "--like", "a,b", "--like", "a") == "expected each name once in like; got ['a', 'b', 'a']"


def test_the_command_is_given_runs_and_says_so(nas, runs, numbers, in_process):
    flags = ("--space", "mlp", "--members", "120", "--references", "2", "--epochs", "2", "--no-error-ceiling")
    result = nas("search", *flags, "--name", "second", "--trials", "3", "--like", "first", "--runs", runs)
    assert result.code == 0
    assert "like first: " in result.out
    again = nas("search", *flags, "--name", "second", "--trials", "4", "--runs", runs)
    assert again.code == 2
    assert "like: was ['first'], now []" in again.err
    optuna.logging.set_verbosity(optuna.logging.WARNING)
