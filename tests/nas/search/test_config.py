"""Settings: what may be said, what is refused and how, and that they survive being written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from nas.base import plugins
from nas.search.config import MAY_CHANGE
from nas.search.config import RecipeSettings
from nas.search.config import SearchConfig
from nas.search.config import differences
from nas.search.config import load_config
from nas.search.config import parse_config
from nas.search.config import stored_config
from nas.search.config import to_toml
from nas.training.recipe import Recipe

few = settings(max_examples=60, deadline=None, derandomize=True)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
shares = st.floats(0, 0.9, allow_subnormal=False)
numbers = st.one_of(st.integers(-9, 9), shares)
names = st.one_of(st.booleans(), texts)


def settings_of(values, *, log=False):
    """One value, a few to choose from, or a range."""
    pairs = st.tuples(values, values).filter(lambda pair: pair[0] != pair[1])
    ranges = pairs.map(lambda pair: {"low": min(pair), "high": max(pair), "log": log})
    return st.one_of(values, st.lists(values, min_size=1, max_size=3), ranges)


recipes = st.fixed_dictionaries(
    {},
    optional={
        "epochs": settings_of(st.integers(1, 500)),
        "learning_rate": settings_of(st.floats(1e-6, 1), log=True),
        "dropout": settings_of(shares),
        "label_smoothing": settings_of(shares),
        "batch_size": settings_of(st.integers(2, 512)),
        "optimizer": st.sampled_from(["sgd", "adamw", ["adamw", "sgd"]]),
    },
)
searches = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
        "space": texts,
        "dataset": texts,
        "data_path": st.just(Path("/data/people.csv")),
        "label_column": texts,
        "group_column": texts,
        "members": st.integers(1, 10**6),
        "objectives": st.lists(texts, min_size=1, max_size=4, unique=True),
        "budgets": st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        "defences": st.lists(texts, min_size=1, max_size=3, unique=True),
        "defence_parameters": st.dictionaries(
            texts, st.dictionaries(texts, settings_of(st.one_of(st.integers(-9, 9), shares)), max_size=2), max_size=2
        ),
        "set": st.dictionaries(texts, st.one_of(settings_of(numbers), names, st.lists(names, min_size=1)), max_size=3),
        "teacher": st.one_of(
            st.sampled_from(["reference", "twin"]),
            st.dictionaries(texts, st.one_of(st.booleans(), st.integers(-9, 9), shares, texts), max_size=3),
        ),
        "references": st.integers(1, 9).map(lambda half: 2 * half),
        "recipe": recipes,
        "trials": st.integers(1, 10**6),
        "seed": st.integers(0, 2**70),
        "sampler": st.sampled_from(["tpe", "nsga2", "random"]),
        "workers": st.integers(1, 64),
        "storage": st.just("sqlite:///x.db"),
        "nni_config": st.just(Path("/etc/nni.yaml")),
    },
)


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "search.toml"
        path.write_text(text)
        return path

    return write


@few
@given(values=searches)
def test_settings_written_and_read_are_the_same(tmp_path_factory, values):
    config = parse_config(values)
    path = tmp_path_factory.mktemp("settings") / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    again = load_config(path, {})
    assert again == config
    assert differences(again, config.model_dump(mode="json")) == []


@few
@given(recipes, st.data())
def test_every_sampled_recipe_is_one_and_holds_what_was_sampled(values, data):
    recipe = RecipeSettings.model_validate(values)
    draws = {}
    for name, distribution in recipe.distributions().items():
        if isinstance(distribution, CategoricalDistribution):
            draws[name] = data.draw(st.sampled_from(distribution.choices))
        else:
            draws[name] = data.draw(st.sampled_from([distribution.low, distribution.high]))
    made = recipe.recipe(draws)
    fixed = {name: value for name, value in values.items() if name not in draws}
    assert {name: getattr(made, name) for name in (*draws, *fixed)} == {**draws, **fixed}
    assert isinstance(recipe.middle(), Recipe)


def test_a_path_may_start_with_ones_home(toml, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/her")
    assert load_config(toml('data_path = "~/people.csv"'), {}).data_path == Path("/her/people.csv")
    assert load_config(toml('data_path = "~no one/people.csv"'), {}).data_path == tmp_path / "~no one" / "people.csv"


def test_the_defaults_are_a_search():
    config = load_config(None, {})
    assert config.name == "digits-conv"
    assert config.objectives == ("error", "leakage", "latency_ms")
    assert config.recipe.distributions() == {
        "epochs": IntDistribution(10, 40),
        "learning_rate": FloatDistribution(1e-3, 1e-2, log=True),
        "weight_decay": FloatDistribution(1e-5, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "label_smoothing": FloatDistribution(0.0, 0.2),
    }


def test_a_written_file_holds_the_defaults_too():
    """A later version may have others, and the run must go on as it was started."""
    config = parse_config({})
    said = {name: value for name, value in config.model_dump(mode="json").items() if value is not None}
    assert {"space", "trials", "seed", "recipe", "objectives"} <= said.keys()
    assert tomllib.loads(to_toml(config)) == said


def test_settings_that_an_earlier_version_did_not_have_are_what_they_were_then():
    stored = parse_config({"name": "a"}).model_dump(mode="json")
    earlier = {name: value for name, value in stored.items() if name not in ("device_limits", "error_ceiling")}
    config = stored_config(earlier)
    assert (config.device_limits, config.error_ceiling) == (False, False)
    assert differences(config, earlier) == []
    assert differences(parse_config({"name": "a"}), earlier) == [
        "device_limits: was False, now True",
        "error_ceiling: was False, now True",
    ]
    assert stored_config(stored) == parse_config({"name": "a"})


def test_a_study_that_named_no_teacher_had_twins():
    stored = parse_config({"name": "a"}).model_dump(mode="json") | {"teacher": None}
    earlier = {name: value for name, value in stored.items() if name != "teacher"}
    for then in (stored, earlier):
        assert stored_config(then).teacher == "twin"
        assert differences(parse_config({"name": "a", "teacher": "twin"}), then) == []
        shared = parse_config({"name": "a", "teacher": "reference"})
        assert differences(shared, then) == ["teacher: was 'twin', now 'reference'"]


@pytest.mark.parametrize("compressions", [[], ["exits"]])
def test_all_defences_are_those_that_change_what_is_remembered(compressions):
    every = plugins.available("nas.defences", "defend")
    masks = ["confidence_rounding", "memguard", "timeguard"]
    chosen = parse_config({"defences": ["all"], "compressions": compressions}).defences
    assert set(masks) < set(every)
    assert list(chosen) == [name for name in every if name not in masks]


def test_whole_numbers_on_a_log_scale():
    recipe = parse_config({"recipe": {"epochs": {"low": 4, "high": 100, "log": True}}}).recipe
    assert recipe.distributions()["epochs"] == IntDistribution(4, 100, log=True)
    assert recipe.middle().epochs == 20


def test_the_middle_of_a_recipe_by_hand():
    middle = load_config(None, {}).recipe.middle()
    assert middle.epochs == 25
    assert middle.learning_rate == pytest.approx(0.003162, rel=1e-3)  # sqrt(1e-3 * 1e-2)
    assert middle.dropout == 0.25
    assert parse_config({"recipe": {"epochs": [1, 2, 3, 4]}}).recipe.middle().epochs == 3


def test_flags_beat_the_file_and_the_file_the_defaults(toml):
    path = toml("trials = 7\nseed = 3\n[recipe]\nepochs = 5\ndropout = 0.1\n[budgets]\nlatency_ms = 5.0\nmacs = 9.0\n")
    flags = {"trials": 3, "seed": None, "budgets": {"latency_ms": 2.0}, "recipe": {"epochs": 8}}
    config = load_config(path, flags)
    assert (config.trials, config.seed, config.space) == (3, 3, "conv")
    assert (config.recipe.epochs, config.recipe.dropout) == (8, 0.1)
    assert config.budgets == {"latency_ms": 2.0, "macs": 9.0}
    assert load_config(path, {"budgets": {}, "recipe": {}}).recipe.epochs == 5


def test_a_path_is_relative_to_its_file_or_to_where_the_flag_was_given(toml, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert load_config(toml('data_path = "people.csv"'), {}).data_path == tmp_path / "people.csv"
    assert load_config(None, {"data_path": Path("people.csv")}).data_path == Path("/people.csv")
    assert load_config(toml('storage = "study.log"'), {}).storage == str(tmp_path / "study.log")
    assert load_config(None, {"device": "mine.toml"}).device == "/mine.toml"
    assert load_config(None, {"device": "host", "storage": "sqlite:///x.db"}).storage == "sqlite:///x.db"


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("csv", "csv-conv"), ("my.loader", "my.loader-conv"), ("a b/../é", "a-b-..--conv"), ("..", "conv")],
)
def test_a_run_is_named_after_data_and_space(dataset, name):
    assert parse_config({"dataset": dataset}).name == name


KNOWN = sorted(SearchConfig.model_fields)
RECIPE = sorted(RecipeSettings.model_fields)
WRONG = {
    "spcae = 'mlp'": f"no setting 'spcae'; there are {KNOWN}",
    "[recipe]\nepoch = 3": f"no setting 'recipe.epoch'; there are {RECIPE}",
    "[recipe]\nepochs = {low = 1, high = 3, step = 2}": (
        "no setting 'recipe.epochs.step'; there are ['high', 'log', 'low']"
    ),
    "trials = '3'": "trials: Input should be a valid integer; got '3'",
    "trials = 2.5": "trials: Input should be a valid integer; got 2.5",
    "trials = 0": "trials: Input should be greater than or equal to 1; got 0",
    "members = true": "members: Input should be a valid integer; got True",
    "references = 3": "references: Input should be a multiple of 2; got 3",
    "references = 0": "references: Input should be greater than or equal to 2; got 0",
    "seed = -1": "seed: Input should be greater than or equal to 0; got -1",
    "workers = 0": "workers: Input should be greater than or equal to 1; got 0",
    "space = 3": "space: Input should be a valid string; got 3",
    "space = ['conv']": "space: Input should be a valid string; got ['conv']",
    "data_path = 3": "data_path: Input is not a valid path for <class 'pathlib.Path'>; got 3",
    "objectives = 'error'": "objectives: Input should be a valid tuple; got 'error'",
    "objectives = []": "expected at least one name in objectives, each once; got []",
    "objectives = ['error', 'error']": "expected at least one name in objectives, each once; got ['error', 'error']",
    "defences = []": "expected at least one name in defences, each once; got []",
    "budgets = 3": "budgets: Input should be a valid dictionary; got 3",
    "[budgets]\nmacs = '5'": "budgets.macs: Input should be a valid number; got '5'",
    "[budgets]\nmacs = nan": "budgets.macs: Input should be a finite number; got nan",
    "[budgets]\nmacs = -inf": "budgets.macs: Input should be a finite number; got -inf",
    "engine = 'ray'": "no engine 'ray'; there are ['optuna', 'nni', 'nni-service']",
    "storage = ''": "storage: String should have at least 1 character; got ''",
    "name = 'a/b'": (
        "expected a name of at most 100 letters, digits, dots, dashes and underscores, the first a letter or digit; "
        "got 'a/b'"
    ),
    "recipe = 3": "recipe: Input should be a valid dictionary or instance of RecipeSettings; got 3",
    "[recipe]\nepochs = '5'": "recipe: expected a whole number for epochs; got '5'",
    "[recipe]\nepochs = 2.5": "recipe: expected a whole number for epochs; got 2.5",
    "[recipe]\nepochs = {low = 1.5, high = 3}": "recipe: expected a whole number for epochs; got 1.5",
    "[recipe]\nepochs = {low = 5, high = 2}": "recipe.epochs: expected low < high; got 5 and 2",
    "[recipe]\nepochs = {low = 5}": "recipe.epochs.high: Field required; got {'low': 5}",
    "[recipe]\nepochs = {low = '1', high = 2}": "recipe.epochs.low: expected a finite number; got '1'",
    "[recipe]\nepochs = []": "recipe.epochs: List should have at least 1 item after validation, not 0; got []",
    "[recipe]\nepochs = [5, 'x']": "recipe: expected a whole number for epochs; got 'x'",
    "[recipe]\nepochs = [[5]]": (
        "recipe.epochs.0: expected a number, a name, a list of them, or a table with low and high; got [5]"
    ),
    "[recipe]\nepochs = true": (
        "recipe.epochs: expected a number, a name, a list of them, or a table with low and high; got True"
    ),
    "[recipe]\nlearning_rate = nan": "recipe.learning_rate: expected a finite number; got nan",
    "[recipe]\nlearning_rate = {low = 0.1, high = inf}": (
        "recipe.learning_rate.high: expected a finite number; got inf"
    ),
    "[recipe]\nlearning_rate = {low = 0, high = 1, log = true}": (
        "recipe.learning_rate: expected low > 0 on a log scale; got 0"
    ),
    "[recipe]\ndropout = {low = 0.0, high = 1.0}": (
        "recipe: expected dropout and label_smoothing in [0, 1); got 1.0 and 0.0"
    ),
    "[recipe]\noptimizer = ['adamw', 'lion']": "recipe: no optimizer 'lion'; there are ['adamw', 'sgd']",
    "[recipe]\noptimizer = {low = 1, high = 2}": "recipe: expected a name for optimizer; got 1",
    "[recipe]\naugment = 'mixup'": "recipe: no augmentation 'mixup'; there are ['none', 'flip-crop']",
    "[defence_parameters]\nrelaxloss = 3": "defence_parameters.relaxloss: Input should be a valid dictionary; got 3",
    "[defence_parameters.relaxloss]\nalpha = {low = 2, high = 1}": (
        "defence_parameters.relaxloss.alpha: expected low < high; got 2 and 1"
    ),
    "[defence_parameters.relaxloss]\nalpha = {low = 1, high = 2, step = 1}": (
        "no setting 'defence_parameters.relaxloss.alpha.step'; there are ['high', 'log', 'low']"
    ),
    "[defence_parameters.relaxloss]\nalpha = true": (
        "defence_parameters.relaxloss.alpha: expected a number, a name, a list of them, or a table with low and high; "
        "got True"
    ),
    "set = 3": "set: Input should be a valid dictionary; got 3",
    "[set]\nbits = []": "set.bits: List should have at least 1 item after validation, not 0; got []",
    "[set]\nbits = 2026-01-01": (
        "set.bits: expected a number, a name, true or false, a list of them, or a table with low and high; got "
        "datetime.date(2026, 1, 1)"
    ),
    "[set]\nbits = inf": "set.bits: expected a finite number; got inf",
    "[set]\nrange = {low = 5, high = 2}": "set.range: expected low < high; got 5 and 2",
    "[set]\ndepth = {low = 1, high = 2, step = 1}": "no setting 'set.depth.step'; there are ['high', 'log', 'low']",
    "[set]\ndepth = {low = 1, high = 2, log = true}": (
        "expected ranges of low and high in set, on the space's own scale; got log of 'depth'"
    ),
    "teacher = 3": (
        "teacher: expected 'reference', 'twin', or a table with what differs from the space's reference; got 3"
    ),
    "teacher = {depth = [1]}": (
        "teacher: expected 'reference', 'twin', or a table with what differs from the space's reference; "
        "got {'depth': [1]}"
    ),
    "teacher = 'large'": (
        "teacher: expected 'reference', 'twin', or a table with what differs from the space's reference; got 'large'"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_setting_is_one_clear_line(toml, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        load_config(toml(text), {})
    assert str(caught.value) == WRONG[text]


def test_several_mistakes_are_reported_together(toml):
    with pytest.raises(ValueError, match=r"^trials: .*; got 0; no setting 'x'; there are "):
        load_config(toml("trials = 0\nx = 1"), {})


@pytest.mark.parametrize("flags", [{"budgets": {"macs": 1.0}}, {"recipe": {"epochs": 3}}])
def test_flags_for_a_table_that_is_none_in_the_file(toml, flags):
    name = next(iter(flags))
    with pytest.raises(ValueError, match=f"^{name}: Input should be a valid dictionary"):
        load_config(toml(f"{name} = 3"), flags)


@pytest.mark.parametrize("text", ["trials = ", "= 3", "\0", "[recipe\nepochs = 3", "a = 1\na = 2"])
def test_broken_toml_is_named_with_the_line(toml, text):
    path = toml(text)
    with pytest.raises(ValueError, match=f"^expected TOML in {path}: .*(line \\d|end of document)"):
        load_config(path, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "none.toml", "cannot read .*none.toml: No such file or directory"),
        (tmp_path, "cannot read .*: Is a directory"),
        (tmp_path / "binary", "expected TOML in .*: 'utf-8' codec can't decode"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}"):
            load_config(path, {})


def test_each_difference_is_named_and_only_what_decides_the_numbers_counts():
    first = parse_config({"name": "a", "budgets": {"macs": 5.0}})
    stored = first.model_dump(mode="json", exclude={"storage"})
    changed = {"name": "a", "seed": 1, "budgets": {"macs": 6.0, "params": 7.0}, "recipe": {"epochs": 3}}
    assert differences(parse_config(changed), stored) == [
        "budgets.macs: was 5.0, now 6.0",
        "budgets.params: was None, now 7.0",
        "recipe.epochs: was {'low': 10, 'high': 40, 'log': False}, now 3",
        "seed: was 0, now 1",
    ]
    paths = {"storage": "sqlite:///x", "data_path": "/elsewhere", "test_path": "/other", "nni_config": "/nni.yml"}
    free = {"trials": 99, "confirm": 2, "workers": 7, "engine": "nni", **paths}
    assert free.keys() == MAY_CHANGE
    assert differences(parse_config({"name": "a", "budgets": {"macs": 5.0}, **free}), stored) == []


def test_a_flag_narrows_after_the_file_does(toml):
    path = toml('[set]\nbits = 8\n"block*" = [true, 0.5, "bf16"]\n')
    assert list(load_config(path, {}).set.items()) == [("bits", 8), ("block*", [True, 0.5, "bf16"])]
    assert list(load_config(path, {"set": {"bits": 4}}).set.items()) == [("block*", [True, 0.5, "bf16"]), ("bits", 4)]


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**53 + 1])
def test_whole_numbers_beyond_what_a_float_holds_are_refused(value):
    for recipe in ({"epochs": value}, {"epochs": {"low": 1, "high": value}}, {"dropout": [0.1, value]}):
        with pytest.raises(ValueError, match=r"recipe\.(epochs|dropout).*(finite|9,007,199,254,740,992|low < high)"):
            parse_config({"recipe": recipe})
    for name in ("members", "references", "trials", "workers"):
        with pytest.raises(ValueError, match=f"^{name}: "):
            parse_config({name: value})


def test_settings_nested_beyond_all_measure_are_refused(tmp_path):
    for text in (f"name = {'[' * 2000}", ".".join(["recipe"] * 3000) + " = 1", f"name = {'[' * 60}{']' * 60}"):
        (tmp_path / "a.toml").write_text(text + "\n")
        with pytest.raises(ValueError, match="nested"):
            load_config(tmp_path / "a.toml", {})


def test_a_setting_of_the_recipe_that_was_added_later_is_no_difference_at_its_default():
    stored = parse_config({"name": "a"}).model_dump(mode="json")
    del stored["recipe"]["class_weights"]
    assert differences(parse_config({"name": "a"}), stored) == []
    weighted = parse_config({"name": "a", "recipe": {"class_weights": "balanced"}})
    assert differences(weighted, stored) == ["recipe.class_weights: was 'none', now 'balanced'"]


def test_class_weights_are_set_searched_or_refused():
    both = parse_config({"name": "a", "recipe": {"class_weights": ["none", "balanced"]}}).recipe
    assert list(both.distributions()["class_weights"].choices) == ["none", "balanced"]
    assert both.middle().class_weights == "balanced"
    with pytest.raises(ValueError, match=r"no class weights 'even'; there are \['none', 'balanced'\]"):
        parse_config({"name": "a", "recipe": {"class_weights": "even"}})


def test_a_transform_is_one_that_there_is_and_studies_from_before_have_none():
    assert parse_config({"transform": "log"}).transform == "log"
    with pytest.raises(ValueError, match=r"no transform 'sqrt'; there are \['none', 'log', 'quantile'\]"):
        parse_config({"transform": "sqrt"})
    stored = parse_config({}).model_dump(mode="json")
    del stored["transform"]
    assert differences(parse_config({}), stored) == []
    assert differences(parse_config({"transform": "log"}), stored) == ["transform: was 'none', now 'log'"]
