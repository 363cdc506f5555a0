"""A study that somebody else wrote is checked when it is opened, whatever asks for it."""

from __future__ import annotations

import json
import math

import pytest

from nas.search import schema
from nas.search.config import SearchConfig
from nas.search.storage import load_study


@pytest.fixture
def rewritten(own_run):
    """Change lines of a run's journal; returns the run."""

    def rewrite(change):
        journal = own_run.folder / "journal.log"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        changed = change(lines)
        lines = changed if isinstance(changed, list) else lines
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return own_run

    return rewrite


def of_study(lines, name):
    return next(line["user_attr"] for line in lines if name in line.get("user_attr", {}) and "study_id" in line)


def of_trial(lines, name, number=0):
    trials = (line["user_attr"] for line in lines if "trial_id" in line and name in line.get("user_attr", {}))
    return [line for line in trials if line][number]


def also(lines, name, attribute):
    """Add an attribute where the first of a name is, of a study or a trial."""
    place = next(place for place, line in enumerate(lines) if name in line.get("user_attr", {}))
    return [*lines[:place], {**lines[place], "user_attr": attribute}, *lines[place:]]


def tell(nas, run, *command):
    told = nas(*command[:1], run.name, *command[1:], "--runs", run.runs)
    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
    return told.err[len("nas: ") : -1]


COMMANDS = (("show",), ("show", "--json"), ("pick",), ("audit", "--pick", 0))

TASKS = {
    "input_shape": [None, 7, [], ["7"], [0], [-1, 8, 8], [10**12], [4096, 4097], [1, 1, 1, 1, 1], [True], [8.0], {}],
    "num_classes": [None, "10", 1, -1, 10**9, True, 2.5, []],
    "id": [None, 5, ""],
    "members": ["5", 0, -1, True, 2.5],
}


ORIGINS = {
    "fingerprint": [None, 5, "", [], "x" * 300],
    "version": [None, 5, [], {}],
    "device": [None, 5],
    "prices": [None, [], {"macs": []}, {"macs": math.nan}],
    "measures": [None, {"leakage": "low"}, {"leakage": math.inf}],
    "defences": [None, {"none": 1.0}, {"none": ["1"]}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ORIGINS.items() for value in values])
def test_an_origin_of_another_kind_is_refused(rewritten, name, value):
    run = rewritten(lambda lines: of_study(lines, "origin")["origin"].update({name: value}))
    with pytest.raises(ValueError, match=r"^the study 'small' has a wrong origin: "):
        load_study("small", run.folder, None)


LEARNED = {"share": 1.0, "sd": 0.01, "pairs": 4}
ALL_LEARNED = dict.fromkeys(("error", "leakage", "loss_auc", "accuracy_gap"), LEARNED)


@pytest.mark.parametrize(
    "value",
    [
        None, 5, [], {"leakage": LEARNED}, {**ALL_LEARNED, "error": 5},
        *({**ALL_LEARNED, "error": {**LEARNED, "share": share}} for share in (None, "1", -0.1, math.inf, math.nan, [])),
        *({**ALL_LEARNED, "error": {**LEARNED, "pairs": pairs}} for pairs in (None, "1", -1, 2.5, 1e400)),
        *({**ALL_LEARNED, "error": {k: v for k, v in LEARNED.items() if k != name}} for name in LEARNED),
    ],
)  # fmt: skip
def test_what_trainings_vary_by_is_checked(rewritten, value):
    run = rewritten(lambda lines: of_study(lines, schema.BETWEEN).update({schema.BETWEEN: value}))
    with pytest.raises(ValueError, match=r"^the study 'small' has a wrong between_trainings"):
        load_study("small", run.folder, None)


AGAIN = {"error": 0.25, "error_low": 0.125, "error_high": 0.5, "leakage": 0.5}
LATER = {
    "confirmed_0_1": [
        None, 5, [], {}, {"measures": {}}, {"measures": []}, {"diverged": 5}, {"diverged": ""},
        {"measures": {"error": 0.25}}, {"measures": {**AGAIN, "leakage": "low"}},
        *({"measures": {**AGAIN, "error": value}} for value in (None, math.nan, math.inf, 0.75, "0.3")),
    ],
    "test_error_0": [
        None, 5, {}, {"error": 0.5},
        *({"error": value, "error_low": 0.25, "error_high": 0.5} for value in (None, "0", 2, 0.75)),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in LATER.items() for value in values])
def test_what_was_added_about_a_candidate_is_checked(rewritten, name, value):
    run = rewritten(lambda lines: also(lines, "origin", {name: value}))
    with pytest.raises(ValueError, match=f"^the study 'small' has a wrong {name}: "):
        load_study("small", run.folder, None)


@pytest.mark.parametrize("name", ["confirmed_99_1", "test_error_99"])
def test_what_was_added_about_nobody_is_refused(rewritten, name):
    good = {"measures": AGAIN, "error": 0.25, "error_low": 0.125, "error_high": 0.5}
    run = rewritten(lambda lines: also(lines, "origin", {name: good}))
    with pytest.raises(ValueError, match=f"expected '{name}' of .* to be of a trained candidate; 99 is none"):
        load_study("small", run.folder, None)


def test_names_that_only_resemble_those_of_further_trainings_are_left_alone(own_run):
    study = load_study("small", own_run.folder, None)
    for name in ("confirmed_0", "confirmed_a_1", "test_error_", "my_test_error_0"):
        study.set_user_attr(name, "a note")
    attrs = load_study("small", own_run.folder, None).user_attrs
    assert schema.repetitions_in(attrs) == schema.errors_on_test(attrs) == {}


GOOD = {"metric": "error", "value": 0.5, "reason": "a line does as well", "kind": "ceiling"}
BASELINE = {"name": "forest", "members": 9, "error": 0.5, "error_low": 0.4, "error_high": 0.6, "loss_auc": 0.5}
LISTS = {
    "limits": [
        None, 5, {}, [5], [{}], [GOOD, GOOD], [{**GOOD, "more": 1}], [{**GOOD, "metric": "speed"}], [GOOD] * 1001,
        *([{**GOOD, name: value}] for name in GOOD for value in (None, [], "", 10**400)),
        *([{**GOOD, "value": value}] for value in ("0.5", True, math.nan, math.inf)),
    ],
    "device_memory": [None, [5], [{**GOOD, "kind": "wish"}], [GOOD, GOOD]],
    "baselines": [
        None, 5, {}, [5], [{}], [{**BASELINE, "error_low": 0.55}], [BASELINE] * 1001,
        *([{**BASELINE, name: value}] for name in ("name", "members") for value in (None, [], "", -1, True)),
        *([{**BASELINE, "error": value}] for value in (None, [], "x", math.nan, math.inf, 10**400)),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in LISTS.items() for value in values])
def test_limits_and_baselines_of_another_kind_are_refused(rewritten, name, value):
    run = rewritten(lambda lines: of_study(lines, name).update({name: value}))
    with pytest.raises(ValueError, match=rf"^(the study 'small' has wrong {name}: |expected all measures of trial 0)"):
        load_study("small", run.folder, None)


def test_a_study_without_limits_has_its_budgets_alone(nas, rewritten):
    def without(lines):
        return [line for line in lines if not {"limits", "device_memory", "baselines"} & set(line.get("user_attr", {}))]

    run = rewritten(without)
    attrs = load_study("small", run.folder, None).user_attrs
    assert (schema.limits_of(attrs), schema.memory_of(attrs), schema.baselines_of(attrs)) == ((), None, ())
    shown = nas("show", "small", "--runs", run.runs)
    assert shown.code == 0
    assert "limit " not in shown.out
    assert "baseline" not in shown.out


PICKED = {"by": "auto", "sampler": "tpe", "reason": ""}
GIVEN_POINT = {"of": "first:3", "params": {"depth": 1}}
BEGINNINGS = {
    "sampler": [None, 5, {}, {"sampler": "tpe"}, {**PICKED, "by": 5}, {**PICKED, "reason": "x" * 501}],
    "like": [
        None, "one", [], {"given": -1, "lines": []}, {"given": 1.5, "lines": []}, {"given": 0, "lines": [5]},
        {"given": 0, "lines": ["one"] * 1001},
    ],
    "given_1": [
        None, 5, {}, {"of": "first:3"}, {**GIVEN_POINT, "of": ""}, {**GIVEN_POINT, "more": 1},
        *({"of": "first:3", "params": {"depth": value}} for value in ([1], math.nan)),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BEGINNINGS.items() for value in values])
def test_what_was_looked_up_when_a_study_began_is_checked(rewritten, name, value):
    good = {"like": {"given": 2, "lines": []}, "given_0": GIVEN_POINT, "given_1": GIVEN_POINT, name: value}

    def change(lines):
        of_study(lines, "config")["config"]["like"] = ["first"]
        for one in good.items():
            lines = also(lines, "config", dict([one]))
        return lines

    run = rewritten(change)
    with pytest.raises(ValueError, match=rf"^the study 'small' has a wrong {name}: "):
        load_study("small", run.folder, None)


@pytest.mark.parametrize("value", [None, "0", -1, True, 1.5])
def test_the_trial_that_one_stands_for_is_checked(rewritten, value):
    run = rewritten(lambda lines: also(lines, "key", {"in_place_of": value}))
    with pytest.raises(ValueError, match=r"^expected the number of a trial as 'in_place_of' of trial 0 of the study "):
        load_study("small", run.folder, None)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TASKS.items() for value in values])
def test_a_task_of_another_kind_is_refused(rewritten, name, value):
    run = rewritten(lambda lines: of_study(lines, "task")["task"].update({name: value}))
    with pytest.raises(ValueError, match=r"^the study 'small' has a wrong task: "):
        load_study("small", run.folder, None)


@pytest.mark.parametrize("value", [[], "strong", 5])
def test_parameters_of_a_defence_of_another_kind_are_refused(rewritten, value):
    def replaced(lines):
        attribute = of_trial(lines, "tpr_at_1pct_fpr")
        attribute.clear()
        attribute["defence_parameters"] = value

    run = rewritten(replaced)
    with pytest.raises(
        ValueError,
        match=r"expected a table of numbers and names as 'defence_parameters' of trial 0 of the study 'small'",
    ):
        load_study("small", run.folder, None)


DATA = {
    "records": [None, -1, 1.5, "many"],
    "sets": [None, [], {"members": "many"}, {"members": -1}],
    "groups": ["few", -1],
    "notes": [None, "one", [1], ["x" * 3000]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in DATA.items() for value in values])
def test_data_of_another_kind_are_refused(rewritten, name, value):
    run = rewritten(lambda lines: of_study(lines, "data")["data"].update({name: value}))
    with pytest.raises(ValueError, match=r"^the study 'small' has wrong data: "):
        load_study("small", run.folder, None)


SETTINGS = {
    "space": [None, 5, [], {}],
    "objectives": [None, "error", [], ["error", "error"], [5], ["error"]],
    "budgets": [None, [], {"macs": "9"}, {"macs": math.nan}],
    "defences": [None, [], "none", [None]],
    "dataset": [None, 5],
    "seed": [None, "0", -1, 2.5],
    "recipe": [None, 5, {"epochs": "many"}, {"epochs": {"low": 5, "high": 2}}, {"epochs": 10**400}],
    "name": ["other", None, "../x"],
    "unheard": [1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_settings_of_another_kind_are_refused_by_all_commands(nas, rewritten, no_training, name, value):
    run = rewritten(lambda lines: of_study(lines, "config")["config"].update({name: value}))
    told = {tell(nas, run, *command) for command in COMMANDS}
    assert len(told) == 1
    assert "the study 'small'" in told.pop()


@pytest.mark.parametrize("name", ["space", "objectives", "budgets", "defences", "dataset", "seed"])
def test_settings_that_are_missing_are_named(nas, rewritten, name):
    run = rewritten(lambda lines: of_study(lines, "config")["config"].pop(name) and None)
    assert tell(nas, run, "show") == f"the study 'small' has wrong settings: missing ['{name}']"


TRIALS = {
    "key": [None, 5, "../../../up", "0" * 15, "0" * 17, "G" * 16, []],
    "error": [None, "0.1", [], {}, math.nan, math.inf, 10**400, True, 2.0],
    "leakage_low": [None, "0.1", math.nan, 2.0],
    "leakage_high": ["x", -1.0],
    "macs": [math.nan, -math.inf, 10**400],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TRIALS.items() for value in values])
def test_measures_of_another_kind_are_refused_by_all_commands(nas, rewritten, no_training, name, value):
    run = rewritten(lambda lines: of_trial(lines, name).update({name: value}))
    for command in COMMANDS:
        assert "of trial " in tell(nas, run, *command) or "nas search" in tell(nas, run, *command)


CLASSES = {
    "names": [None, [], ["a"] * 10, list("abc"), [*"abcdefghi", 5], "abcdefghij"],
    "members": [None, [], [1] * 9, [-1] * 10, [1.5] * 10, [True] * 10, [10**30] * 10, ["1"] * 10],
    "validation": [None, [1] * 11],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CLASSES.items() for value in values])
def test_classes_of_another_kind_are_refused(nas, rewritten, no_training, name, value):
    run = rewritten(lambda lines: of_study(lines, "classes")["classes"].update({name: value}))
    told = {tell(nas, run, *command) for command in COMMANDS}
    assert len(told) == 1
    assert told.pop().startswith("the study 'small' has wrong classes: ")


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_classes_that_are_no_table_are_refused(nas, rewritten, value):
    run = rewritten(lambda lines: of_study(lines, "classes").update(classes=value))
    assert tell(nas, run, "show").startswith("the study 'small' has wrong classes: ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("class_error_3", "low", "expected a number as 'class_error_3' of trial"),
        ("class_error_3", [], "expected a number as 'class_error_3' of trial"),
        ("class_error_3", 1.5, "expected a share as 'class_error_3' of trial"),
        ("never_predicted", "3", "expected a list of classes as 'never_predicted' of trial"),
        ("never_predicted", [-1], "expected a list of classes as 'never_predicted' of trial"),
        ("never_predicted", [True], "expected a list of classes as 'never_predicted' of trial"),
        ("never_predicted", [{}], "expected a list of classes as 'never_predicted' of trial"),
    ],
)
def test_errors_of_classes_of_another_kind_are_refused(nas, rewritten, name, value, said):
    run = rewritten(lambda lines: of_trial(lines, name).update({name: value}))
    assert said in tell(nas, run, "show")


EXIT = {"exit": 0, "records": 3, "share": 1.0, "latency_ms": 2.0, "macs": 5}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "expected a list of rows as 'exits' of trial"),
        ([3], "wrong exits: "),
        ([{"exit": 0, "records": 3, "share": 1.0}], "wrong exits: latency_ms: Field required"),
        ([EXIT | {"share": 1.5}], "wrong exits: share: "),
        ([EXIT | {"energy_mj": "much"}], "wrong exits: "),
        ([EXIT, EXIT], "numbered from 0; got [0, 0]"),
    ],
)
def test_exits_of_another_kind_are_refused(nas, rewritten, value, said):
    run = rewritten(lambda lines: also(lines, "weights_sha256", {"exits": value}))
    assert said in tell(nas, run, "show")


def test_a_class_that_there_is_not_is_not_shown(nas, rewritten):
    """A number beyond the classes is a list of classes all right, of another version perhaps."""
    run = rewritten(lambda lines: of_trial(lines, "never_predicted").update(never_predicted=[3, 99]))
    shown = nas("show", run.name, "--runs", run.runs, "--json")
    assert shown.code == 0
    assert all("99" not in row["never_predicted"] for row in json.loads(shown.out)["front"])


def test_a_study_from_before_errors_were_measured_by_class_is_shown_and_picked_from(nas, rewritten):
    def age(lines):
        new = ("class_error_", "balanced_error", "rarest_class_error", "never_predicted")
        kept = []
        for line in lines:
            attrs = line.get("user_attr")
            if attrs is not None and any(name.startswith(new) or name == "classes" for name in attrs):
                continue
            if attrs is not None and "config" in attrs:
                del attrs["config"]["recipe"]["class_weights"]
            kept.append(line)
        return kept

    run = rewritten(age)
    shown = nas("show", run.name, "--runs", run.runs, "--json")
    assert (shown.code, shown.err) == (0, "")
    told = json.loads(shown.out)
    assert (told["classes"], told["warnings"]) == ([], [])
    assert told["front"][0]["by_class"] == told["front"][0]["never_predicted"] == []
    assert "balanced_error" not in told["front"][0]
    assert told["front"][0]["recipe"]["class_weights"] == "none"
    picked = nas("pick", run.name, "--runs", run.runs)
    assert (picked.code, picked.err) == (0, "")
    assert "no metric 'balanced_error' in this run" in tell(nas, run, "pick", "--prefer", "balanced_error")


def test_a_key_that_names_another_file_is_refused(nas, rewritten):
    run = rewritten(lambda lines: of_trial(lines, "key").update({"key": "../../../../up"}))
    assert "expected sixteen hex digits as 'key'" in tell(nas, run, "pick")


def test_parameters_that_are_missing_are_named(nas, rewritten):
    def without(lines):
        return [line for line in lines if line.get("param_name") not in ("dropout", "depth")]

    run = rewritten(without)
    for command in COMMANDS:
        assert "dropout" in tell(nas, run, *command)


@pytest.mark.parametrize("value", ["high", 10**400, -1.0, None, True])
def test_a_parameter_that_no_sampler_gave_is_named(nas, rewritten, value):
    def change(lines):
        line = next(line for line in lines if line.get("param_name") == "weight_decay")
        line["param_value_internal"] = value

    run = rewritten(change)
    for command in COMMANDS:
        line = tell(nas, run, *command)
        assert "expected 'weight_decay' of trial 0 of the study 'small' to be" in line or "cannot be read" in line


def test_a_parameter_of_the_space_that_is_missing_is_named(nas, rewritten):
    run = rewritten(lambda lines: [line for line in lines if line.get("param_name") != "depth"])
    assert "'depth' is missing" in tell(nas, run, "show")


def test_what_others_added_is_left_alone(nas, rewritten):
    def note(lines):
        measured = next(line for line in lines if "trial_id" in line and "error" in line.get("user_attr", {}))
        place = lines.index(measured)
        notes = [{"note": "a [b]word[/b]"}, {"stars": 5}, {"tags": ["x"]}]
        lines[place:place] = [{**measured, "user_attr": note} for note in notes]
        signed = next(line for line in lines if "study_id" in line and "config" in line.get("user_attr", {}))
        lines.insert(lines.index(signed), {**signed, "user_attr": {"dashboard": {"x": 1}}})

    run = rewritten(note)
    for command in COMMANDS[:3]:
        assert nas(*command[:1], run.name, *command[1:], "--runs", run.runs).code == 0
    assert "no metric 'stars'" in tell(nas, run, "pick", "--prefer", "stars")


def test_a_study_that_goes_on_is_checked_too(nas, rewritten, no_training):
    run = rewritten(lambda lines: of_trial(lines, "error").update({"error": "low"}))
    told = nas("search", run.folder / "config.toml", "--runs", run.runs)
    assert told.code == 2
    assert "expected a number as 'error' of trial" in told.err


def test_everything_that_is_needed_is_a_setting():
    assert set(schema.NEEDED) <= SearchConfig.model_fields.keys()
