"""Early exits: the rule by hand, the joint loss, and trainings with every defence and compression."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas.defences.confidence_rounding import RoundedConfidences
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training.answers import answering
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.defence import Defence
from nas.training.defence import load_defence
from nas.training.exits import answer
from nas.training.exits import joint_loss
from nas.training.exits import leaving
from nas.training.exits import loss_weights
from nas.training.loop import Diverged
from nas.training.loop import descend
from nas.training.loop import exits_of
from nas.training.loop import logits_of
from nas.training.loop import outputs_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from nas.training.stages import uncompressed
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.defended import DEFENCES
from tests.defended import middle_of
from tests.nas.training.test_assess import bench_of
from tests.nas.training.test_assess import sets

RECIPE = Recipe(epochs=2, batch_size=16)
EXITS = {"exits.count": 2, "exits.place": "even", "exits.width": 0, "exits.threshold": 0.9}


def network_of(space="mlp", shape=(4,), compressions=("exits",), **point):
    made = compressible(space_named(space, shape, 3), compressions)
    changed = {"depth": 4} | {name: value for name, value in EXITS.items() if name in made.distributions} | point
    return made.decode({**made.reference, **changed})


def records(count=48, shape=(4,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, *shape, generator=generator)
    return features, (features.flatten(1)[:, 0] > 0).long() + (features.flatten(1)[:, 1] > 0).long()


def logits(*shares):
    """Logits whose softmax are these probabilities."""
    return torch.tensor(shares).log()


def test_the_rule_by_hand():
    """Five records, three exits, threshold 0.7; the largest probability of each exit stands in the name."""
    first = logits([0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.5, 0.5], [0.31, 0.69])
    second = logits([0.5, 0.5], [0.2, 0.8], [0.99, 0.01], [0.6, 0.4], [0.5, 0.5])
    last = logits([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.99, 0.01])
    assert leaving([first, second, last], 0.699999).tolist() == [0, 1, 0, 2, 2]
    assert leaving([first, second, last], 0.0).tolist() == [0] * 5
    assert leaving([first, second, last], 1.0).tolist() == [2] * 5
    assert leaving([last], 0.9).tolist() == [0] * 5


@given(
    st.lists(st.lists(st.floats(-9, 9, width=32), min_size=6, max_size=6), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.4, 0.5, 0.9, 0.99, 1.0]),
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_the_rule_is_that_of_records_one_by_one(values, threshold):
    outputs = [torch.tensor(row).view(2, 3) for row in values]
    found = leaving(outputs, threshold).tolist()
    for record, number in enumerate(found):
        sure = [float(out[record].softmax(0).max()) >= np.float32(threshold) for out in outputs[:-1]]
        assert number == (sure.index(True) if True in sure else len(outputs) - 1)


class Says(nn.Module):
    """Gives fixed outputs, for a graph with as many exits."""

    def __init__(self, outputs, threshold):
        super().__init__()
        graph = GraphBuilder((2,))
        ends = [graph.linear(0, 2) for _ in outputs]
        self.architecture = replace(graph.architecture("example", {}, ends), exit_threshold=threshold)
        self.outputs = outputs

    def forward(self, records):
        return tuple(logits[: len(records)] for logits in self.outputs)


def test_the_answer_is_of_the_exit_that_leaves():
    early, late = logits([0.9, 0.1], [0.6, 0.4], [0.05, 0.95]), logits([0.3, 0.7], [0.2, 0.8], [0.4, 0.6])
    network = Says((early, late), 0.8).eval()
    expected = torch.stack([early[0], late[1], early[2]])
    asked = torch.zeros(3, 2)
    np.testing.assert_array_equal(logits_of(network, asked), expected)
    assert exits_of(network, asked).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="expected a network in eval mode"):
        logits_of(network.train(), asked)


def test_a_mask_on_the_answers_changes_no_exit():
    """With no digits every masked confidence is 1: were the rule to read it, all would leave at the first exit."""
    architecture = network_of()
    features = records()[0]
    plain, masked = (answering(build(architecture, seed=1), mask).eval() for mask in (None, RoundedConfidences(0)))
    exits = exits_of(plain, features)
    assert (exits > 0).any()
    np.testing.assert_array_equal(exits_of(masked, features), exits)
    coarse = RoundedConfidences(0)(torch.from_numpy(logits_of(plain, features)))
    np.testing.assert_array_equal(logits_of(masked, features), coarse)


def test_a_logit_of_any_exit_that_is_not_finite_has_diverged():
    early, late = logits([0.9, 0.1]), torch.tensor([[float("nan"), 0.0]])
    with pytest.raises(Diverged):
        logits_of(Says((early, late), 0.5).eval(), torch.zeros(1, 2))


def test_one_output_answers_by_itself():
    features = records()[0]
    network = build(network_of(**{"exits.count": 0})).eval()
    found = answer(network, network(features))
    assert found.exits.tolist() == [0] * 48
    torch.testing.assert_close(found.logits, network(features))


def test_the_joint_loss_by_hand():
    labels = torch.tensor([0, 1])
    outputs = (logits([0.5, 0.5], [0.75, 0.25]), logits([0.8, 0.2], [0.1, 0.9]))

    def loss_of(logits):
        return functional.cross_entropy(logits, labels)

    of_exits = [-(np.log(0.5) + np.log(0.25)) / 2, -(np.log(0.8) + np.log(0.9)) / 2]
    found = float(joint_loss(outputs, (0.25, 0.75), loss_of))
    assert found == pytest.approx(0.25 * of_exits[0] + 0.75 * of_exits[1], rel=1e-6)
    assert float(joint_loss(outputs[1], (1.0,), loss_of)) == pytest.approx(of_exits[1], rel=1e-6)


def test_exits_count_in_proportion_to_their_macs():
    """An mlp 4 -> 64 -> 64 -> 64 -> 64 -> 3 with exits behind the first and the third layer."""
    trunk, hidden, head = 4 * 64, 64 * 64, 64 * 3
    architecture = network_of(**{"exits.count": 3})
    up_to = [trunk + head, trunk + hidden + 2 * head, trunk + 2 * hidden + 3 * head, trunk + 3 * hidden + 4 * head]
    assert loss_weights(architecture) == pytest.approx([macs / sum(up_to) for macs in up_to])
    assert loss_weights(network_of(**{"exits.count": 0})) == (1.0,)


def test_training_teaches_every_exit():
    architecture, (features, labels) = network_of(), records(200)
    setup = plain_setup(architecture, features, labels, Recipe(epochs=30, batch_size=32), seed=0)
    before, after = build(architecture, seed=setup.seed).eval(), train_in_stages(setup)
    assert after.architecture == architecture
    for first, last in zip(outputs_of(before, features), outputs_of(after, features), strict=True):
        losses = [float(functional.cross_entropy(torch.from_numpy(found), labels)) for found in (first, last)]
        assert losses[1] < losses[0] / 2


def test_networks_that_differ_in_the_threshold_share_a_training():
    low, high = (Candidate(network_of(**{"exits.threshold": value}), RECIPE) for value in (0.5, 0.99))
    assert low.key != high.key
    assert low.first_stage.key == high.first_stage.key
    found = [assess(candidate, bench_of()) for candidate in (low, high)]
    first, other = (assessment.network.state_dict() for assessment in found)
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert [assessment.network.architecture.exit_threshold for assessment in found] == [0.5, 0.99]
    assert found[0].exits[0] > found[1].exits[0]


def test_error_and_exits_are_those_of_the_rule():
    data = sets()
    found = assess(Candidate(network_of(**{"exits.threshold": 0.5}), RECIPE), bench_of(data))
    asked = torch.from_numpy(data.validation.features)
    outputs = [torch.from_numpy(logits) for logits in outputs_of(found.network, asked)]
    wrong, counts = 0, [0, 0, 0]
    for record, label in enumerate(data.validation.labels):
        sure = [bool(out[record].softmax(0).max() >= 0.5) for out in outputs[:-1]]
        number = sure.index(True) if any(sure) else 2
        counts[number] += 1
        wrong += int(outputs[number][record].argmax()) != label
    assert found.exits == tuple(counts)
    assert found.measures["error"].value == wrong / len(data.validation)
    assert assess(Candidate(network_of(**{"exits.count": 0}), RECIPE), bench_of(data)).exits == (21,)


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_trains_a_network_with_exits(name):
    defence = load_defence(name)
    candidate = Candidate(network_of(), RECIPE, name, middle_of(name))
    bench = replace(bench_of(sets(reserve=sets().validation)), defences={name: defence})
    found, again = (assess(candidate, bench) for _ in range(2))
    assert len(outputs_of(found.network, records()[0])) == 3
    assert sum(found.exits) == 21
    assert found.measures == again.measures


def test_a_step_that_does_not_know_exits_is_refused_in_one_line():
    def defend(setup, _teach):
        def make_step(training):
            return descend(training, lambda batch: setup.loss(training.network(batch.features), batch.targets))

        return replace(setup, make_step=make_step)

    def setup_of(architecture):
        return plain_setup(architecture, *records(), RECIPE, seed=0)

    defence = Defence("own", defend, {}, (), None, None)
    with pytest.raises(ValueError, match=r"the defence 'own' has .* does not say EXITS = True, .* with 3 outputs$"):
        defence.set_up(setup_of(network_of()), None, {})
    train(defence.set_up(setup_of(network_of(**{"exits.count": 0})), None, {}))
    knowing = replace(defence, knows_exits=True)
    assert knowing.set_up(setup_of(network_of()), None, {}).make_step is not None


@pytest.mark.parametrize(
    ("recipe", "point"),
    [
        ({"dropout": 0.5}, {}),
        ({"pruning": "retrained"}, {"sparsity.share": 0.5}),
        ({"pruning": "one_shot"}, {"channels.kept": 0.5}),
        ({"pruning": "dynamic"}, {"sparsity.share": 0.9}),
        ({"quantization": "afterwards"}, {"last_bits": 8, "layer1_activation_bits": 8, "first_bits": 4}),
        ({}, {"weight_sharing.width": 3}),
        ({"pruning": "retrained", "quantization": "afterwards"}, {"channels.kept": 0.25, "last_bits": 8}),
        ({}, {"exits.width": 16, "layer2_weight_bits": 1, "layer2_activation_bits": 1, "last_bits": 8}),
    ],
)
def test_recipes_and_compressions_work_with_exits(recipe, point):
    compressions = ["exits", *dict.fromkeys(name.split(".")[0] for name in point if "." in name and name[0] != "e")]
    architecture = network_of("mlp", (4,), compressions, **point)
    candidate = Candidate(architecture, replace(RECIPE, **recipe))
    found = assess(candidate, bench_of())
    assert found.network.architecture.key == architecture.key
    assert sum(found.exits) == 21
    assert len(outputs_of(found.network, records()[0])) == 3


def test_a_teacher_has_no_exits():
    wide = network_of("mlp", (4,), ("exits", "channels"), **{"channels.kept": 0.5})
    plain = network_of(**{"exits.count": 0})
    assert uncompressed(wide).key == plain.key
    assert isinstance(bench_of(), Bench)
