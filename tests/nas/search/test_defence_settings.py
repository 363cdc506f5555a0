"""Parameters of defences: what is sampled, what is fixed, what is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.search.config import parse_config
from nas.search.defence_settings import settings_of
from nas.search.schema import DEFENCE_PARAMETERS
from nas.training.assess import Candidate
from nas.training.defence import load_defence
from nas.training.recipe import Recipe
from search_spaces import mlp
from tests.defended import DEFENCES
from tests.defended import middle_of
from tests.defended import strongest_of
from tests.small_search import planned
from tests.small_search import run_here

SEARCHED = ["none", "gecko", "relaxloss", "early_stopping", "confidence_rounding"]
few = settings(max_examples=60, deadline=None, derandomize=True)
POINT = {"epochs": 2, "learning_rate": 0.002, "weight_decay": 1e-4, "dropout": 0.0, "label_smoothing": 0.0}


def loaded(*names):
    return [load_defence(name) for name in names]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), attack="loss", defences=SEARCHED)


@pytest.fixture(scope="module")
def old_plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"), attack="loss")


def test_a_search_samples_the_parameters_of_every_defence_it_chooses_from(plan):
    named = {name: found for name, found in plan.distributions.items() if "." in name}
    written = {
        "relaxloss.alpha": FloatDistribution(0.05, 2.0, log=True),
        "early_stopping.share": FloatDistribution(0.05, 0.3),
        "confidence_rounding.digits": CategoricalDistribution([3, 2, 1, 0]),
    }
    assert {name: named[name] for name in written} == written
    assert named.keys() == written.keys()


def test_a_search_without_such_defences_samples_what_it_sampled_before(old_plan):
    assert list(old_plan.distributions) == [
        *old_plan.space.distributions,
        *old_plan.config.recipe.distributions(),
        "defence",
    ]


@pytest.mark.parametrize("name", SEARCHED)
@few
@given(alpha=st.floats(0.05, 2.0), share=st.floats(0.05, 0.3), digits=st.sampled_from([3, 2, 1, 0]))
def test_a_candidate_keeps_the_parameters_of_its_own_defence_alone(plan, name, alpha, share, digits):
    others = {f"{other}.{key}": value for other in DEFENCES for key, value in middle_of(other).items()}
    sampled = others | {"relaxloss.alpha": alpha, "early_stopping.share": share, "confidence_rounding.digits": digits}
    candidate = plan.candidate({**plan.space.reference, **POINT, "defence": name, **sampled})
    own = {key.partition(".")[2]: value for key, value in sampled.items() if key.startswith(f"{name}.")}
    assert candidate.defence_parameters == own


@pytest.mark.parametrize("name", ["none", "gecko"])
def test_parameters_of_other_defences_change_no_key(plan, old_plan, name):
    point = {**plan.space.reference, **POINT, "defence": name}
    keys = {
        plan.candidate(
            {**point, "relaxloss.alpha": alpha, "early_stopping.share": 0.1, "confidence_rounding.digits": 2}
        ).key
        for alpha in (0.1, 0.2)
    }
    assert keys == {old_plan.candidate(point).key}


def reference(defence):
    space = mlp.make_space((1, 8, 8), 10)
    return Candidate(space.decode(space.reference), Recipe(), defence)


# Weights, teachers and shadows of earlier versions are kept under these, and seeds are made of them.
@pytest.mark.parametrize(("defence", "key"), [("none", "9cde9bc276603e1a"), ("gecko", "b5f7e82aebe126be")])
def test_keys_of_candidates_without_parameters_are_those_of_every_earlier_version(defence, key):
    assert reference(defence).key == key


@pytest.mark.parametrize("name", [name for name in DEFENCES if middle_of(name)])
def test_a_parameter_is_in_the_key_and_in_the_seed(name):
    plain = reference(name)
    points = [middle_of(name), strongest_of(name)]
    keys = {replace(plain, defence_parameters=point).key for point in points}
    assert len({plain.key, *keys}) == (2 if points[0] == points[1] else 3)


GECKOS = [
    ({}, {}),
    ({"temperature": 1}, {}),
    ({"loss": "kl"}, {"loss": "kl"}),
    ({"temperature": 4}, {"temperature": 4}),
]


@pytest.mark.parametrize(("given_parameters", "kept"), GECKOS)
def test_a_parameter_at_the_default_of_its_defence_is_left_out_so_that_no_earlier_key_changes(given_parameters, kept):
    found = settings_of(loaded("gecko"), {"gecko": given_parameters})["gecko"]
    assert found.parameters({}) == found.middle() == found.strongest() == kept
    assert (replace(reference("gecko"), defence_parameters=kept).key == reference("gecko").key) == (not kept)


def test_a_parameter_that_is_searched_is_left_out_where_it_is_at_its_default():
    found = settings_of(loaded("gecko"), {"gecko": {"temperature": [1.0, 4.0]}})["gecko"]
    assert [found.parameters({"gecko.temperature": value}) for value in (1.0, 4.0)] == [{}, {"temperature": 4.0}]


def test_a_user_may_fix_a_parameter_or_search_another_range():
    given_settings = parse_config(
        {
            "defences": ["none", "relaxloss", "confidence_rounding"],
            "defence_parameters": {"relaxloss": {"alpha": 3}, "confidence_rounding": {"digits": {"low": 0, "high": 2}}},
        }
    )
    found = settings_of(loaded("none", "relaxloss", "confidence_rounding"), given_settings.defence_parameters)
    assert found["relaxloss"].distributions() == {}
    assert found["relaxloss"].parameters({}) == {"alpha": 3}
    assert found["confidence_rounding"].distributions() == {"confidence_rounding.digits": IntDistribution(0, 2)}
    assert found["confidence_rounding"].middle() == {"digits": 1}
    assert found["none"].distributions() == found["none"].parameters({}) == {}


WRONG = [
    ({"gecko": {}}, r"^no defence 'gecko' in this search to set parameters of; there are \['relaxloss', 'confidence"),
    ({"relaxloss": {"beta": 1}}, r"^no parameter 'beta' of the defence 'relaxloss'; there are \['alpha'\]$"),
    ({"relaxloss": {"alpha": "much"}}, r"^expected a number for relaxloss.alpha; got 'much'$"),
    ({"relaxloss": {"alpha": -0.5}}, r"^expected relaxloss.alpha >= 0; got -0.5$"),
    ({"relaxloss": {"alpha": {"low": -1, "high": 1}}}, r"^expected relaxloss.alpha >= 0; got -1$"),
    ({"confidence_rounding": {"digits": 1.5}}, r"^expected a whole number for confidence_rounding.digits; got 1.5$"),
    ({"confidence_rounding": {"digits": [1, 7]}}, r"^expected confidence_rounding.digits from 0 to 3; got 7$"),
]


@pytest.mark.parametrize(("given_parameters", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_what_makes_no_sense_is_refused_before_anything_is_trained(tmp_path, given_parameters, message):
    with pytest.raises(ValueError, match=message):
        planned(tmp_path, defences=["relaxloss", "confidence_rounding"], defence_parameters=given_parameters)
    assert not list(tmp_path.iterdir())


def test_a_defence_that_writes_its_parameters_in_no_known_form_is_refused():
    odd = replace(load_defence("relaxloss"), settings={"alpha": {"from": 1, "to": 2}})
    with pytest.raises(ValueError, match="expected a value, a list or a range with low and high as 'alpha' in the PAR"):
        settings_of([odd])


@pytest.mark.parametrize("name", DEFENCES)
def test_every_shipped_defence_accepts_what_a_search_may_sample(name):
    defence = load_defence(name)
    assert set(settings_of([defence])[name].settings) == set(defence.settings)


def test_a_search_over_defences_keeps_each_trials_parameters(tmp_path):
    names = ["relaxloss", "early_stopping", "confidence_rounding"]
    fixed = {"early_stopping": {"share": 0.2}}
    plan = planned(tmp_path, attack="loss", defences=names, defence_parameters=fixed, trials=6)
    study = run_here(plan)
    for trial in study.get_trials():
        name, kept = trial.params["defence"], trial.user_attrs[DEFENCE_PARAMETERS]
        sampled = {key.partition(".")[2]: value for key, value in trial.params.items() if key.startswith(f"{name}.")}
        assert kept == (sampled or {"share": 0.2})
        assert "early_stopping.share" not in trial.params
        assert plan.candidate(trial.params).key == trial.user_attrs["key"]
        assert plan.candidate(trial.params).defence_parameters == kept
        assert trial.user_attrs["trainings"] == 1
    assert len({trial.params["defence"] for trial in study.get_trials()}) > 1
