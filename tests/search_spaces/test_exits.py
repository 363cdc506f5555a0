"""Conformance of every space with early exits: where they stand, what is computed until one answers, and their keys."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from torch.utils.flop_counter import FlopCounterMode

from estimators.cost import macs
from estimators.devices.files import load_device
from nas.base.plugins import available
from nas.base.plugins import load
from nas.spaces import compressible
from search_spaces.compressions import exits
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.exits import places
from search_spaces.graph.exits import up_to
from search_spaces.graph.exits import without_exits
from search_spaces.network import build

CLASSES = 5
SHAPES = ((1, 8, 8), (3, 1, 24), (20,))
NAMES = [*available("search_spaces", "make_space"), "tests.two_exits"]


def spaces():
    for name in NAMES:
        make_space = load("search_spaces", name, "make_space")
        for shape in SHAPES:
            try:
                yield make_space(shape, CLASSES)
            except ValueError:
                continue


SPACES = list(spaces())
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{space.input_shape}")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def examples(count):
    return settings(max_examples=count, derandomize=True, deadline=None)


def values_of(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


def points_of(space):
    return st.fixed_dictionaries({name: st.sampled_from(values_of(d)) for name, d in space.distributions.items()})


def outputs_of(network, batch):
    found = network(batch)
    return found if isinstance(found, tuple) else (found,)


def reaches(architecture, without, targets):
    """Tell whether an output can be reached from the input when one operator is taken out."""
    reached = {0} - {without}
    for index, op in enumerate(architecture.ops):
        if index != without and any(source in reached for source in op.inputs):
            reached.add(index)
    return any(target in reached for target in targets)


@every_space
@examples(15)
@given(data=st.data())
def test_exits_stand_where_all_that_follows_passes_by(space, data):
    network = space.decode(data.draw(points_of(space)))
    found = places(network)
    stored = {kernel.output for kernel in network.kernels}
    layers = [index for index, op in enumerate(network.ops) if op.kind in ("conv", "depthwise", "linear")]
    for place in found:
        later = [output for output in network.outputs if output > place]
        assert place in stored
        assert network.ops[place].kind != "flatten"
        assert not reaches(network, place, later)
        assert [layer for layer in layers if layer <= place]
        assert len([layer for layer in layers if layer > place]) >= 2
    # Whatever lies on the path of the last output as these do, with as many layers before and behind it, is among them
    # or before a place without a layer between the two.
    if len(network.outputs) == 1 and not network.has_dead_ops:
        for index in sorted(stored):
            before = [layer for layer in layers if layer <= index]
            if before and len(layers) - len(before) >= 2 and not reaches(network, index, network.outputs):
                after = [place for place in found if place >= index]
                assert network.ops[index].kind == "flatten" or not [
                    layer for layer in layers if index < layer <= after[0]
                ]


@every_space
@examples(12)
@given(data=st.data())
def test_description_and_network_agree_exit_by_exit(space, data):
    wrapped = compressible(space, ["exits"])
    point = data.draw(points_of(wrapped))
    network, backbone = wrapped.decode(point), space.decode({name: point[name] for name in space.distributions})
    count, own = point["exits.count"], len(backbone.outputs)
    added = min(count, len(places(backbone)))
    assert len(network.outputs) == added + own
    assert network.exit_threshold == (point["exits.threshold"] if added else 0.0)
    if own == 1 and added and not backbone.has_dead_ops:
        assert without_exits(network).key == backbone.key
    trained, batch = build(network, seed=1).eval(), torch.randn(2, *space.input_shape)
    answers, costs = outputs_of(trained, batch), []
    for number in range(len(network.outputs)):
        described = up_to(network, number)
        alone = build(described).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            alone(batch)
        costs.append(macs.estimate(described, load_device("stm32h747")).value)
        assert counter.get_total_flops() == 2 * len(batch) * costs[-1]
        assert described.exit_threshold == (network.exit_threshold if number else 0.0)
        # A part of the network computes what the whole computes there.
        kept = sorted(needed_by(network, network.outputs[: number + 1]))
        alone.load_state_dict(renamed(trained.state_dict(), kept))
        for ours, theirs in zip(outputs_of(alone, batch), answers, strict=False):
            torch.testing.assert_close(ours, theirs)
    assert costs == sorted(costs)
    assert costs[-1] == macs.estimate(network, load_device("stm32h747")).value
    if added and not backbone.has_dead_ops and own == 1:
        assert costs[-1] > macs.estimate(backbone, load_device("stm32h747")).value > 0


def needed_by(network, outputs):
    needed = {0, *outputs}
    for index in range(max(outputs), 0, -1):
        if index in needed:
            needed.update(network.ops[index].inputs)
    return needed if set(outputs) != set(network.outputs) else set(range(len(network.ops)))


def renamed(state, kept):
    place = {index: number for number, index in enumerate(kept)}
    found = {}
    for name, value in state.items():
        operator, _, rest = name.partition("_")
        if int(operator.removeprefix("op")) in place:
            found[f"op{place[int(operator.removeprefix('op'))]}_{rest}"] = value
    return found


@every_space
@examples(12)
@given(data=st.data())
def test_keys_survive_json_and_no_exits_change_nothing(space, data):
    wrapped = compressible(space, ["exits"])
    point = data.draw(points_of(wrapped))
    network = wrapped.decode(point)
    read = wrapped.decode(json.loads(json.dumps(point)))
    assert (read.key, read.outputs, read.exit_threshold) == (network.key, network.outputs, network.exit_threshold)
    assert wrapped.decode(dict(sorted(point.items(), reverse=True))).key == network.key
    for changed in ({"exits.place": "late"}, {"exits.width": 64}, {"exits.threshold": 0.5}):
        none = wrapped.decode(point | {"exits.count": 0} | changed)
        assert none.key == space.decode({name: point[name] for name in space.distributions}).key
        assert none.exit_threshold == 0


@every_space
def test_every_choice_of_exits_changes_some_network(space):
    wrapped = compressible(space, ["exits"])
    keys = {name: set() for name in exits.PARAMETERS}

    @examples(40)
    @given(points_of(wrapped))
    def collect(point):
        assume(places(space.decode({name: point[name] for name in space.distributions})))
        point["exits.count"] = point["exits.count"] or 1
        for name, values in exits.PARAMETERS.items():
            found = {value: wrapped.decode(point | {f"exits.{name}": value}).key for value in values}
            pairs = [(one, other) for one in values for other in values if found[one] != found[other]]
            keys[name].update(pairs)

    collect()
    for name in ("width", "threshold"):
        values = exits.PARAMETERS[name]
        assert keys[name] == {(one, other) for one in values for other in values if one != other}
    assert (0, 1) in keys["count"]


def chain(layers, last_bits=32):
    graph = GraphBuilder((8,))
    x = 0
    for _ in range(layers):
        x = graph.activation(graph.linear(x, 6), bits=last_bits)
    graph.linear(x, 3, weight_bits=last_bits)
    return graph.architecture("example", {})


@pytest.mark.parametrize(
    ("count", "place", "expected"),
    [
        (1, "even", [3]),
        (2, "even", [2, 4]),
        (4, "even", [1, 2, 3, 4]),
        (1, "early", [1]),
        (2, "early", [1, 2]),
        (1, "late", [5]),
        (3, "late", [3, 4, 5]),
        (9, "even", [1, 2, 3, 4, 5]),
    ],
)
def test_how_exits_are_spread_over_five_places(count, place, expected):
    """Six hidden layers: places behind the first five; behind the sixth there is the last layer alone."""
    network = exits.compress(chain(6), count, place, 0, 0.9)
    readers = [network.ops[output].inputs[0] for output in network.outputs[:-1]]
    depths = [sum(op.function == "relu" for op in network.ops[: reader + 1]) for reader in readers]
    assert depths == expected


def test_an_exit_has_the_precision_of_the_last_layer():
    for bits, expected in ((32, 32), (8, 8), (4, 8), (1, 8), ("bf16", 16)):
        network = exits.compress(chain(3, last_bits=bits), 1, "early", 16, 0.9)
        hidden, relu, logits = (network.ops[network.outputs[0] - back] for back in (2, 1, 0))
        assert [op.weight_bits for op in (hidden, logits)] == [expected, expected]
        assert (hidden.shape, relu.kind, relu.bits, logits.shape) == ((16,), "activation", expected, (3,))


def test_a_network_without_a_place_gets_no_exit():
    for layers in (0, 1):
        assert exits.compress(chain(layers), 4, "even", 0, 0.9).outputs == chain(layers).outputs


def test_a_branch_has_no_place():
    graph = GraphBuilder((1, 4, 4))
    stem = graph.activation(graph.conv(0, 4))
    branch = graph.activation(graph.conv(stem, 4))
    total = graph.add(stem, graph.conv(branch, 4))
    graph.linear(graph.flatten(graph.conv(total, 4)), 3)
    assert places(graph.architecture("example", {})) == [stem, total]


def test_a_threshold_belongs_to_the_key_where_there_is_something_to_decide():
    network = exits.compress(chain(3), 1, "even", 0, 0.9)
    assert len({replace(network, exit_threshold=value).key for value in (0.0, 0.5, 0.9)}) == 3
    assert replace(chain(3), exit_threshold=0.5) == chain(3)
    assert network.as_float().exit_threshold == network.without_float(8).exit_threshold == 0.9


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_no_confidence_is_refused(threshold):
    with pytest.raises(ValueError, match="expected an exit threshold from 0 to 1; got"):
        Architecture("example", {}, chain(3).ops, (1, 7), threshold)


def test_an_unknown_way_to_place_exits_is_refused():
    with pytest.raises(ValueError, match=r"no place 'middle' of exits; there are \['even', 'early', 'late'\]"):
        exits.compress(chain(3), 1, "middle", 0, 0.9)
