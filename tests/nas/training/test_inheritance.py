"""Weights of a trained network as the start of another one: what is computed stays, where it can."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nas.base.plugins import available
from nas.base.plugins import load
from nas.spaces import random_points
from nas.training.defence import load_defence
from nas.training.inheritance import inherited
from nas.training.inheritance import started
from nas.training.inheritance import why_fresh
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.descent import descent_of
from search_spaces.layers.quantize import least_error_step
from search_spaces.network import build
from search_spaces.space import numbered

CLASSES = 5
SPACES = [
    load("search_spaces", name, "make_space")((3, 16, 16), CLASSES)
    for name in (*available("search_spaces", "make_space"), "tests.two_exits")
]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
FEW = settings(max_examples=12, derandomize=True, deadline=None)
SPACE = {space.name: space for space in SPACES}
FUNCTIONS = ("relu", "relu6", "tanh")
FLOAT = {"first_bits": 32, "last_bits": 32}


def network_of(architecture, seed=0):
    """A network in eval mode whose norms are none of a fresh one."""
    network = build(architecture, seed=seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "norm" in name and value.ndim:
                value.copy_(torch.rand(value.shape, generator=random) + 0.5)
    return network.eval()


def child_of(child, parent, seed=0):
    network = build(child)
    network.load_state_dict(inherited(child, parent.architecture, parent.state_dict(), seed))
    return network.eval()


def outputs(network):
    records = torch.randn(6, *network.architecture.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network(records)
    return torch.cat(found if isinstance(found, tuple) else (found,))


def assert_same_answers(child, parent):
    before, after = outputs(parent), outputs(child)
    assert float((after - before).abs().max()) < 1e-4 * max(1.0, float(before.abs().max()))


@every_space
def test_a_network_that_is_its_own_parent_is_the_parent_to_the_bit(space):
    for architecture in random_points(space, 4, seed=2):
        parent = network_of(architecture)
        found = inherited(architecture, architecture, parent.state_dict(), seed=3)
        assert found.keys() == parent.state_dict().keys()
        assert all(torch.equal(found[name], value) for name, value in parent.state_dict().items())


@every_space
def test_any_network_of_a_space_can_start_from_any_other(space):
    points = random_points(space, 3, seed=4)
    for child in points:
        for one in points:
            network = child_of(child, network_of(one))
            assert torch.isfinite(outputs(network)).all()
            taken = descent_of(child, one).taken
            assert all(child.ops[index].kind == one.ops[index].kind for index in taken if child is one)
            assert child.key != one.key or len(taken) > 0


@every_space
def test_other_bits_are_the_same_float_weights_rounded_anew(space):
    for architecture in random_points(space, 4, seed=5):
        child, parent = architecture, network_of(architecture.as_float())
        found = inherited(child, parent.architecture, parent.state_dict(), seed=3)
        theirs = parent.state_dict()
        shared = [name for name in found if name in theirs]
        assert any(name.endswith("weight") for name in shared)
        assert all(torch.equal(found[name], theirs[name]) for name in shared)


# What may grow in a point of a space, with what it may grow to, and what keeps it in float.
MLP = {
    "fixed": {**FLOAT, "activation": "relu", **numbered("layer", 4, {"activation_bits": 32})}
    | {f"layer{layer}_weight_bits": 32 for layer in (2, 3, 4)},
    "grows": numbered("layer", 4, {"width": (16, 32, 64)}),
}
DEEPER_MLP = {"fixed": MLP["fixed"] | numbered("layer", 4, {"width": 16}), "grows": {"depth": (1, 2, 3, 4)}}
CONV = {
    "fixed": {**FLOAT, "head": "avg", "stem_width": 8, "stem_stride": 1}
    | numbered("block", 4, {"kind": "plain", "stride": 1, "weight_bits": 32, "activation_bits": 32}),
    "grows": numbered("block", 4, {"width": (8, 16, 24), "kernel": (3, 5)}),
}
DEEPER_CONV = {
    "fixed": CONV["fixed"] | numbered("block", 4, {"width": 16, "residual": False}),
    "grows": {"depth": (1, 2, 3, 4)},
}
RESNET = {
    "fixed": {**FLOAT, "stem_width": 8, "stages": 3, "shortcut": "projection"}
    | numbered("stage", 4, {"weight_bits": 32, "activation_bits": 32}),
    "grows": numbered("stage", 4, {"blocks": (1, 2, 3)}),
}
MOBILE = {
    "fixed": {**FLOAT, "stages": 2, "resolution": 1, "hardswish_from": 8, "stem_width": 16, "block": "inverted"}
    | numbered("stage", 7, {"weight_bits": 32, "activation_bits": 32, "squeeze": False, "growth": 2}),
    "grows": {"width_multiplier": (0.5, 0.75, 1), "stage1_layers": (1, 2, 3), "stage2_layers": (1, 2, 3)},
}
GROWTH = {
    "mlp": MLP,
    "mlp, deeper": DEEPER_MLP,
    "conv": CONV,
    "conv, deeper": DEEPER_CONV,
    "resnet": RESNET,
    "mobile": MOBILE,
}


@pytest.mark.parametrize("what", GROWTH)
@FEW
@given(data=st.data())
def test_what_is_wider_deeper_or_has_larger_windows_computes_what_its_parent_computes(what, data):
    space, rules = SPACE[what.partition(",")[0]], GROWTH[what]
    seed = data.draw(st.integers(0, 1000))
    point = dict(random_points(space, 1, seed)[0].params) | rules["fixed"]
    small, large = dict(point), dict(point)
    for name, choices in rules["grows"].items():
        small[name], large[name] = sorted(data.draw(st.tuples(st.sampled_from(choices), st.sampled_from(choices))))
    parent, child = network_of(space.decode(small), seed), space.decode(large)
    assert_same_answers(child_of(child, parent, seed), parent)


def two_layers(width, hidden=None, bits=32):
    graph = GraphBuilder((6,))
    x = graph.activation(graph.linear(0, width, bias=True, weight_bits=bits))
    if hidden:
        x = graph.activation(graph.linear(x, hidden, bias=True))
    graph.linear(x, 3, bias=True)
    return graph.architecture("example", {})


def test_copies_of_a_channel_share_what_reads_it_out_among_them_and_part_in_training():
    parent = network_of(two_layers(4))
    found = inherited(two_layers(9), parent.architecture, parent.state_dict(), seed=5)
    rows, columns = found["op1_linear.weight"], found["op3_linear.weight"]
    theirs = parent.state_dict()
    assert torch.equal(rows[:4], theirs["op1_linear.weight"])
    twins = [[place for place in range(9) if torch.equal(rows[place], row)] for row in rows[:4]]
    assert sum(map(len, twins)) == 9
    for place, group in enumerate(twins):
        torch.testing.assert_close(columns[:, group].sum(1), theirs["op3_linear.weight"][:, place])
    first, second = next(group for group in twins if len(group) > 1)[:2]
    records, labels = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    setup = plain_setup(two_layers(9), records, labels, Recipe(epochs=60), seed=5)
    trained = train(started(setup, parent.architecture, theirs)).state_dict()["op1_linear.weight"]
    assert not torch.allclose(trained[first], trained[second], atol=0.02)


def test_a_narrower_layer_and_what_reads_it_are_fresh():
    child, parent = two_layers(4, hidden=8), network_of(two_layers(6, hidden=8))
    assert descent_of(child, parent.architecture).share == (8 * 3) / (6 * 4 + 4 * 8 + 8 * 3)
    found, fresh = inherited(child, parent.architecture, parent.state_dict(), 5), build(child, seed=5).state_dict()
    assert [name for name in found if not torch.equal(found[name], fresh[name])] == [
        "op5_linear.weight",
        "op5_linear.bias",
    ]


def test_a_learned_step_comes_along_only_where_the_weights_and_bits_are_the_same():
    parent = network_of(two_layers(6, bits=2))
    theirs = parent.state_dict()
    theirs["op1_linear.log_step"] = theirs["op1_linear.log_step"] + 0.5
    same = inherited(two_layers(6, bits=2), parent.architecture, theirs, 5)
    assert torch.equal(same["op1_linear.log_step"], theirs["op1_linear.log_step"])
    other = inherited(two_layers(6, bits=3), parent.architecture, theirs, 5)
    fitted = least_error_step(theirs["op1_linear.weight"], 3).flatten().log()
    assert torch.equal(other["op1_linear.log_step"], fitted)


@pytest.mark.parametrize("change", [{"space": "other"}, {"classes": 4}, {"shape": (7,)}])
def test_networks_of_other_spaces_records_or_classes_give_nothing(change):
    def network(space="one", classes=3, shape=(6,)):
        graph = GraphBuilder(shape)
        graph.linear(0, classes)
        return graph.architecture(space, {})

    with pytest.raises(ValueError, match="expected two networks of one space, input shape and number of classes"):
        inherited(network(), network(**change), build(network(**change)).state_dict(), 0)


def test_a_further_layer_passes_on_what_its_activation_leaves_alone():
    def network(function, deep):
        graph = GraphBuilder((6,))
        x = graph.activation(graph.linear(0, 6), function)
        if deep:
            x = graph.activation(graph.linear(x, 6), function)
        graph.linear(x, 3)
        return graph.architecture("example", {})

    passing = {
        function: descent_of(network(function, deep=True), network(function, deep=False)) for function in FUNCTIONS
    }
    assert {function: one.passing for function, one in passing.items()} == {"relu": {3}, "relu6": {3}, "tanh": {3}}
    for function, one in passing.items():
        parent = network_of(one.parent)
        is_same = torch.allclose(outputs(child_of(one.child, parent)), outputs(parent), atol=1e-5)
        assert is_same == (function != "tanh")


def test_a_layer_that_is_added_to_its_input_begins_at_zero():
    def network(deep):
        graph = GraphBuilder((3, 6, 6))
        x = graph.activation(graph.norm(graph.conv(0, 4, kernel=(3, 3), padding=(1, 1))))
        if deep:
            y = graph.activation(graph.norm(graph.conv(x, 8)), "hardswish")
            x = graph.add(graph.norm(graph.conv(y, 4)), x)
        graph.linear(graph.flatten(x), 3)
        return graph.architecture("example", {})

    found, parent = descent_of(network(deep=True), network(deep=False)), network_of(network(deep=False))
    assert [found.child.ops[index].kind for index in found.silent] == ["norm"]
    assert torch.equal(outputs(child_of(found.child, parent)), outputs(parent))


@pytest.mark.parametrize(
    ("defence", "parameters", "reason"),
    [
        ("none", {}, None),
        ("early_stopping", {"share": 0.2}, "its defence keeps members aside"),
        ("dp_sgd", {"epsilon": 4.0}, "the guarantee of its defence"),
    ],
)
def test_defences_that_promise_something_of_all_members_start_from_fresh_weights(defence, parameters, reason):
    if defence == "dp_sgd":
        pytest.importorskip("opacus")
    loaded = load_defence(defence)
    setup = plain_setup(two_layers(6), torch.randn(60, 6), torch.arange(60) % 3, Recipe(epochs=2), 0)
    found = why_fresh(loaded.set_up(setup, None, {**loaded.settings, **parameters}), 60)
    assert found is None if reason is None else found.startswith(reason)
