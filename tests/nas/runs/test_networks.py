"""Pricing one architecture: from JSON, from a file, from a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estimators.devices.files import available_devices
from estimators.devices.files import load_device
from nas.base import plugins
from nas.pricing.price import cost_metrics
from nas.pricing.price import price_on
from nas.pricing.price import screen
from nas.runs.architectures import read_architecture
from nas.runs.networks import find_network
from nas.runs.report import architecture_of
from nas.search.storage import load_study

NOWHERE = Path("/no/such/runs")


def space_of(name="conv", shape=(1, 8, 8), classes=10):
    return plugins.load("search_spaces", name, "make_space")(shape, classes)


def read(text, runs=NOWHERE, space="conv", shape=(1, 8, 8), classes=10):
    return read_architecture(text, space, shape, classes, runs)


def written(path, **more):
    """A file as `nas pick` writes it, for three classes and vectors of seven."""
    body = {"space": "mlp", "input_shape": [7], "num_classes": 3, "params": {"depth": 2}, **more}
    path.write_text(json.dumps({name: value for name, value in body.items() if value is not None}))
    return str(path)


def test_nothing_is_the_reference():
    space = space_of()
    assert read(None) == space.decode(space.reference)


def test_parameters_left_out_are_the_references():
    space = space_of()
    found = read(' {"depth": 2, "block1_width": 32}')
    assert dict(found.params) == {**space.reference, "depth": 2, "block1_width": 32}


def test_parameters_may_be_longer_than_the_name_of_a_file():
    text = json.dumps(dict(space_of().reference) | {"depth": 2}) + 4096 * " "
    assert find_network(text, None, None, None, NOWHERE).architecture == read('{"depth": 2}')


def test_a_file_of_parameters_is_for_the_space_that_is_asked_for(tmp_path):
    path = tmp_path / "point.json"
    path.write_text('{"depth": 3}')
    found = read(str(path), space="mlp", shape=(9,), classes=4)
    assert (found.space, found.input_shape, found.params["depth"]) == ("mlp", (9,), 3)
    assert found.ops[-1].shape == (4,)


def test_a_file_that_pick_wrote_says_everything_itself(tmp_path):
    found = read(written(tmp_path / "architecture.json"))
    assert (found.space, found.input_shape, found.ops[-1].shape) == ("mlp", (7,), (3,))


def test_a_run_gives_the_network_of_a_trial(trained_run):
    study = load_study(trained_run.name, trained_run.folder, None)
    for trial in study.trials:
        assert read(f"small:{trial.number}", runs=trained_run.runs) == architecture_of(study, trial)


def test_one_device_or_all():
    architecture = read(None)
    priced, refused = price_on(architecture, "all")
    assert sorted([*priced, *refused]) == available_devices()
    assert "host" in priced
    for name, estimates in priced.items():
        assert estimates == screen(architecture, load_device(name))
        assert list(estimates) == list(cost_metrics(load_device(name)))
    assert price_on(architecture, "host") == ({"host": screen(architecture, load_device("host"))}, {})


def test_a_device_that_cannot_run_a_network_says_why():
    refused = price_on(read(None), "all")[1]
    assert "for 32 bits" in refused["bitfusion_like"]
    with pytest.raises(ValueError, match="for 32 bits"):
        price_on(read(None), "bitfusion_like")


NOTHING_CALLED = "expected JSON, a file, RUN:NUMBER or the name of a network (nas list networks); got"
WRONG = {
    "small": f"{NOTHING_CALLED} 'small', and there is nothing of this name",
    "small:x": f"{NOTHING_CALLED} 'small:x', and there is nothing of this name",
    "small:-1": f"{NOTHING_CALLED} 'small:-1', and there is nothing of this name",
    "small:5": "no trial 5 in 'small'; there are 0 to 4",
    "{": "expected JSON; got '{': Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    '{"depth": 99}': "not a point of the space 'conv': depth=99, expected 1 to 4; there are ",
    '{"dpeth": 1}': "not a point of the space 'conv': no parameter 'dpeth'; there are ",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_architecture_is_refused(text, trained_run):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        read(text, runs=trained_run.runs)
    assert str(caught.value).startswith(WRONG[text])


def test_a_run_that_is_not_there_lists_those_that_are(trained_run):
    with pytest.raises(ValueError, match=r"^no run 'large' in .*; there are \['small'\]$"):
        read("large:0", runs=trained_run.runs)


def test_a_trial_that_was_never_sampled_to_the_end_has_no_network(own_run):
    study = load_study(own_run.name, own_run.folder, None)
    trial = study.ask()
    trial.suggest_int("depth", 1, 4)
    with pytest.raises(ValueError, match=r"^trial 5 of 'small' has no architecture: it was not sampled to the end$"):
        read("small:5", runs=own_run.runs)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"space": None}, r"missing beside 'params': \['space'\]"),
        ({"input_shape": None, "num_classes": None}, r"missing beside 'params': \['input_shape', 'num_classes'\]"),
        ({"input_shape": 7}, "expected whole numbers as input_shape and num_classes; got 7 and 3"),
        ({"input_shape": ["7"]}, r"got \['7'\] and 3"),
        ({"num_classes": "3"}, r"got \[7\] and '3'"),
        ({"params": [1]}, r"expected a name as space and an object as params; got 'mlp' and \[1\]"),
        ({"space": "cube"}, "no 'cube' in search_spaces"),
        ({"input_shape": [-7]}, "got shape"),
    ],
)
def test_a_file_like_picks_with_something_wrong(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path / "architecture.json", **more))


@pytest.mark.parametrize("content", [b"[1]", b"3", b"nonsense", b"\xff"])
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^expected (an object of parameters; got|JSON in .*file\.json: )"):
        read(str(path))


CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def test_a_space_with_a_text_of_its_own_reads_it():
    space = space_of("nb201", (3, 32, 32))
    assert read(CELL, space="nb201", shape=(3, 32, 32)) == space.decode(space.parse(CELL))
    with pytest.raises(ValueError, match=r"^expected a cell like .*; got 'nothing'$"):
        read("nothing", space="nb201", shape=(3, 32, 32))


def test_a_run_is_found_whatever_the_space(trained_run):
    assert read("small:0", runs=trained_run.runs, space="nb201", shape=(3, 32, 32)).space == "mlp"


# Networks by name.


def counts_of(network):
    return [int(screen(network, load_device("host"))[metric].value) for metric in ("macs", "params")]


def test_a_name_says_space_shape_and_classes():
    found = read("nb201-0", space=None, shape=None, classes=None)
    assert (found.space, found.input_shape, found.num_classes) == ("nb201", (3, 32, 32), 10)
    assert counts_of(found) == [15_647_360, 129_306]  # as published
    assert find_network("nb201-0", None, None, None, NOWHERE).architecture == found


def test_a_name_is_for_the_shape_and_classes_that_are_given():
    found = read("nb201-0", space="nb201", shape=(3, 16, 16), classes=100)
    assert (found.input_shape, found.num_classes) == ((3, 16, 16), 100)
    assert found.params == read("nb201-0", space=None, shape=None, classes=None).params
    # Weights do not depend on the side; 90 more classes have 64 weights and a bias each.
    assert counts_of(found)[1] == 129_306 + 90 * 65


def test_a_name_of_another_space_is_refused():
    with pytest.raises(ValueError, match=r"^expected --space nb201, or none, with the network 'nb201-0'; got 'conv'$"):
        read("nb201-0", space="conv")


def test_a_name_that_is_nearly_one_is_told_what_is_near():
    for space in (None, "conv", "nb201"):
        with pytest.raises(ValueError, match=r"got 'NB201_0'.*; near it: \['nb201-0', ") as caught:
            read("NB201_0", space=space)
        assert "\n" not in str(caught.value)


def test_files_come_before_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nb201-0").write_text('{"depth": 3}')
    assert read("nb201-0", space="mlp", shape=(9,)).params["depth"] == 3


OWN = """
from search_spaces.mlp import make_space as make_mlp
from search_spaces.space import NamedNetwork

NETWORKS = {"deep": NamedNetwork({"depth": 4}, (5,), 3, "my own"), "nb201-0": NamedNetwork({}, (6,), 2, "my own")}


def make_space(input_shape, num_classes):
    return make_mlp(input_shape, num_classes)
"""


@pytest.fixture
def own_space(tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.TRUSTED, "")
    path = tmp_path / "own_space.py"
    path.write_text(OWN)
    return str(path)


def test_a_space_of_ones_own_has_its_networks(own_space):
    with pytest.raises(ValueError, match="give --plugin"):
        read("deep", space=own_space, shape=None, classes=None)
    plugins.trust(own_space)
    found = read("deep", space=own_space, shape=None, classes=None)
    assert (found.input_shape, found.num_classes, found.params["depth"]) == ((5,), 3, 4)
    assert read("nb201-0", space=own_space, shape=None, classes=None).input_shape == (6,)
    with pytest.raises(ValueError, match=r"got 'shallow', .*; there are \['deep', 'nb201-0'\]$"):
        read("shallow", space=own_space)


def test_a_command_takes_the_name_of_ones_own_network(nas, own_space):
    told = nas("estimate", "deep", "--space", own_space, "--json")
    assert (told.code, json.loads(told.out)["architecture"]["depth"]) == (0, 4)


# Changes.


def test_changes_are_made_to_a_point_however_it_is_given(tmp_path):
    space = space_of("mlp", (7,), 3)
    few = {name: 4 for name in space.distributions if name.endswith("_weight_bits")}
    expected = space.decode({**space.reference, "depth": 2, **few, "norm": True})
    changes = {"weight_bits": 4, "norm": True}
    for text in ('{"depth": 2}', written(tmp_path / "architecture.json")):
        assert read_architecture(text, "mlp", (7,), 3, NOWHERE, changes=changes) == expected
        assert find_network(text, "mlp", (7,), 3, NOWHERE, changes=changes).architecture == expected
    cell = read_architecture("nb201-0", None, None, None, NOWHERE, changes={"edge_*": "nor_conv_3x3"})
    assert set(cell.params.values()) == {"nor_conv_3x3"}
    by_text = read_architecture(CELL, "nb201", None, None, NOWHERE, changes={"edge_*": "nor_conv_3x3"})
    assert by_text == cell


def test_a_change_may_compress():
    plain = '{"first_bits": 8}'
    changes = {"sparsity.share": 0.5}
    for text in (plain, '{"first_bits": 8, "sparsity.share": 0.9}'):
        found = read_architecture(text, "mlp", (8,), 3, NOWHERE, changes=changes)
        assert {op.sparsity for op in found.ops if op.kind == "linear"} == {0.5}
    assert read_architecture(plain, "mlp", (8,), 3, NOWHERE).params.keys().isdisjoint(changes)


def test_what_cannot_be_changed_is_refused(nas, trained_run, tmp_path):
    runs = ("--runs", trained_run.runs)
    for arguments, told in (
        (
            ("small:0", "--set", "bits=8"),
            "expected no --set with small:0: it is a candidate as it was trained; got ['b",
        ),
        (("--set", "bits=8,4"), "expected --set PARAMETER=VALUE, one value, for one network; got several of 'bits'"),
        (("--set", "depth=1..2"), "expected --set PARAMETER=VALUE, one value, for one network; got several of 'depth'"),
        (("--set", "depth=9"), "expected values that the space 'conv' offers for set depth=9: depth: 1 to 4; got 9"),
        (("--set", "sparsty.share=0.5"), "no parameter of the space 'conv' is called 'sparsty.share' or ends in "),
    ):
        result = nas("estimate", *arguments, *runs)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"nas: {told}")


def test_a_command_prices_what_was_changed(nas):
    told = json.loads(nas("estimate", "nb201-0", "--set", "edge_2_3=none", "--json").out)
    assert told["architecture"]["edge_2_3"] == "none"
    assert told["architecture"]["edge_0_1"] == "avg_pool_3x3"


def test_a_pick_names_the_files_of_its_own_compressions(tmp_path, monkeypatch):
    own = tmp_path / "halving.py"
    own.write_text(
        "from search_spaces.graph.narrowing import narrowed\n"
        "PARAMETERS = {'on': (False, True)}\n"
        "def compress(architecture, on):\n    return narrowed(architecture, 0.5) if on else architecture\n"
    )
    monkeypatch.delenv(plugins.TRUSTED, raising=False)
    written = {"space": "mlp", "input_shape": [8], "num_classes": 3, "params": {"halving.on": True}}
    pick = tmp_path / "architecture.json"
    pick.write_text(json.dumps({**written, "compressions": [str(own)]}))
    with pytest.raises(ValueError, match=r"names the module .*halving\.py', whose code would run here"):
        read_architecture(str(pick), None, None, None, tmp_path)
    plugins.trust(str(own))
    narrow = read_architecture(str(pick), None, None, None, tmp_path)
    assert {op.shape for op in narrow.ops if op.pruned_from} == {(32,)}
    pick.write_text(json.dumps({**written, "compressions": "halving"}))
    with pytest.raises(ValueError, match="expected a list of names as compressions; got 'halving'"):
        read_architecture(str(pick), None, None, None, tmp_path)
