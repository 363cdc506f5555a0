import subprocess
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import functional

from nas.base import plugins
from nas.training import loop as training
from nas.training.loop import Diverged
from nas.training.loop import TrainSetup
from nas.training.loop import class_weights
from nas.training.loop import descend
from nas.training.loop import logits_of
from nas.training.loop import outputs_of
from nas.training.loop import plain_setup
from nas.training.loop import plain_step
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.schedule import seed_from
from search_spaces import conv
from search_spaces import mlp
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build

FAST = {"epochs": 2, "batch_size": 16}


def vectors(records=50, features=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(records, features, generator=generator), torch.arange(records) % classes


def images(records=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(records, 3, 8, 8, generator=generator), torch.arange(records) % 3


def vector_network(**changes):
    space = mlp.make_space((6,), 3)
    return space.decode({**space.reference, **changes})


def image_network(**changes):
    space = conv.make_space((3, 8, 8), 3)
    return space.decode({**space.reference, **changes})


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def trained(seed=0, data=None, architecture=None, **recipe):
    features, labels = data or vectors()
    return train(plain_setup(architecture or vector_network(), features, labels, Recipe(**{**FAST, **recipe}), seed))


def test_a_seed_decides_the_weights():
    assert torch.equal(weights(trained(seed=3, dropout=0.3)), weights(trained(seed=3, dropout=0.3)))
    assert not torch.equal(weights(trained(seed=3)), weights(trained(seed=4)))


def test_the_seed_decides_batches_and_not_only_the_initial_weights(monkeypatch):
    monkeypatch.setattr(training, "build", lambda architecture, dropout, seed: build(architecture, seed=0))
    assert not torch.equal(weights(trained(seed=3)), weights(trained(seed=4)))


def test_the_global_generators_are_left_alone():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the one to leave alone
    trained(dropout=0.5)
    trained(data=images(), architecture=image_network(), augment="flip-crop")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_global_generator_has_no_say():
    torch.manual_seed(1)
    one = weights(trained(dropout=0.5))
    torch.manual_seed(2)
    assert torch.equal(one, weights(trained(dropout=0.5)))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"learning_rate": 1e-2},
        {"weight_decay": 1.0},
        {"dropout": 0.5},
        {"label_smoothing": 0.2},
        {"batch_size": 25},
        {"optimizer": "sgd"},
    ],
    ids=str,
)
def test_every_part_of_the_recipe_changes_the_result(change):
    assert not torch.allclose(weights(trained()), weights(trained(**change)), atol=1e-6)


def test_augmentation_changes_the_result_and_repeats():
    augmented = [weights(trained(data=images(), architecture=image_network(), augment="flip-crop")) for _ in range(2)]
    plain = weights(trained(data=images(), architecture=image_network()))
    assert torch.equal(*augmented)
    assert not torch.allclose(plain, augmented[0], atol=1e-6)


def test_label_smoothing_is_part_of_the_loss():
    setup = plain_setup(vector_network(), *vectors(), Recipe(label_smoothing=0.3), 0)
    logits, label = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    log_probabilities = logits.log_softmax(1)[0]
    # Szegedy et al. (2016): 0.7 on the class and 0.1 more on each of three
    by_hand = -(0.8 * log_probabilities[0] + 0.1 * log_probabilities[1] + 0.1 * log_probabilities[2])
    assert setup.loss(logits, label).item() == pytest.approx(by_hand.item(), rel=1e-6)


BALANCED = Recipe(class_weights="balanced")


def test_balanced_weights_give_each_class_that_occurs_the_same_voice():
    labels = torch.tensor([0] * 6 + [1] * 2 + [3])
    found = class_weights(BALANCED, labels, 4)
    # n over the number of classes and the count of each: 9 / (3 * 6), 9 / (3 * 2), and none for what does not occur.
    assert found.tolist() == pytest.approx([0.5, 1.5, 0.0, 3.0])
    assert found[labels].mean() == pytest.approx(1.0)
    assert class_weights(Recipe(), labels, 4) is None
    assert class_weights(BALANCED, torch.rand(9, 4), 4) is None  # soft targets are of no class


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_each_records_loss_counts_what_its_class_does(smoothing):
    features, _ = vectors(records=9)
    labels = torch.tensor([0] * 6 + [1] * 3)
    setup = plain_setup(vector_network(), features, labels, replace(BALANCED, label_smoothing=smoothing), 0)
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    each = [
        functional.cross_entropy(one[None], label[None], label_smoothing=smoothing)
        for one, label in zip(logits, labels, strict=True)
    ]
    by_hand = sum(loss * (0.75 if label == 0 else 1.5) for loss, label in zip(each, labels, strict=True)) / 9
    assert setup.loss(logits, labels).item() == pytest.approx(by_hand.item(), rel=1e-5)
    # A batch without the rare class is worth less than one with it: the mean over all batches is the weighted loss.
    halves = [setup.loss(logits[rows], labels[rows]) * len(rows) for rows in (torch.arange(6), torch.arange(6, 9))]
    assert (sum(halves) / 9).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_weights_are_those_of_the_records_that_are_trained_on():
    features, _ = vectors(records=8)
    first = plain_setup(vector_network(), features, torch.tensor([0] * 4 + [1] * 4), BALANCED, 0)
    second = plain_setup(vector_network(), features, torch.tensor([0] * 7 + [1]), BALANCED, 0)
    logits, targets = torch.zeros(1, 3), torch.tensor([1])
    assert second.loss(logits, targets).item() == pytest.approx(4 * first.loss(logits, targets).item())


def test_a_class_without_records_trains_to_finite_weights():
    features, _ = vectors()
    labels = torch.arange(50) % 2  # of three
    assert torch.isfinite(weights(trained(data=(features, labels), class_weights="balanced"))).all()


def test_a_rare_class_is_predicted_with_balanced_weights_and_not_without():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(400) % 50 == 0).long()
    features = torch.randn(400, 6, generator=generator)
    features[labels == 1, 0] += 1.5
    recipe = {"epochs": 15, "batch_size": 64, "learning_rate": 0.01}
    found = [
        int((logits_of(trained(data=(features, labels), class_weights=given, **recipe), features).argmax(1) == 1).sum())
        for given in ("none", "balanced")
    ]
    assert found[0] < 8 <= 20 < found[1]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("bits", [32, 4])
def test_only_matrices_are_decayed(optimizer, bits):
    architecture = vector_network(layer1_activation_bits=bits, range="learned", first_bits=bits)
    features, labels = vectors()

    def parameters(weight_decay):
        recipe = Recipe(epochs=3, learning_rate=0.1, weight_decay=weight_decay, optimizer=optimizer)
        # a loss without slope leaves decay as the only force
        setup = TrainSetup(architecture, features, labels, lambda logits, _: 0.0 * logits.sum(), recipe, seed=5)
        return dict(train(setup).named_parameters())

    free, decayed = parameters(0.0), parameters(0.5)
    assert sum(parameter.ndim <= 1 for parameter in free.values()) >= 3
    for name, parameter in free.items():
        if parameter.ndim <= 1:
            assert torch.equal(decayed[name], parameter), name
        else:
            assert (decayed[name].abs() < parameter.abs()).all(), name


def test_the_learning_rate_follows_one_cycle_to_its_peak_and_down():
    features, labels = vectors(records=64)
    recipe = Recipe(epochs=5, batch_size=16, learning_rate=0.2, weight_decay=0.5)
    architecture = vector_network()
    network = train(TrainSetup(architecture, features, labels, lambda logits, _: 0.0 * logits.sum(), recipe, seed=5))
    name, matrix = next((name, p) for name, p in network.named_parameters() if p.ndim > 1)
    shrunk = (matrix / dict(build(architecture, seed=5).named_parameters())[name]).mean().item()
    # Smith and Topin (2019), cosine shape: 20 steps, from 1/25 of the peak up to it in 30 %, down to 1/250000
    low, high, end, turn, last = 0.2 / 25, 0.2, 0.2 / 25 / 1e4, 0.3 * 20 - 1, 19
    up = [high + (low - high) / 2 * (1 + np.cos(np.pi * step / turn)) for step in range(6)]
    down = [end + (high - end) / 2 * (1 + np.cos(np.pi * (step - turn) / (last - turn))) for step in range(6, 20)]
    assert shrunk == pytest.approx(np.prod([1 - rate * 0.5 for rate in up + down]), rel=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(records=st.integers(2, 70), batch_size=st.integers(2, 40))
def test_every_record_is_seen_once_an_epoch_and_none_alone(records, batch_size):
    features = torch.arange(records, dtype=torch.float32)[:, None]
    seen = []

    def loss(logits, targets):
        seen.append(targets.tolist())
        return 0.0 * logits.sum()

    graph = GraphBuilder((1,))
    graph.linear(graph.norm(graph.linear(0, 2)), 2)
    architecture = graph.architecture("test", {})
    train(TrainSetup(architecture, features, torch.arange(records), loss, Recipe(epochs=2, batch_size=batch_size), 0))
    sizes = [len(batch) for batch in seen]
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch_size, 3)
    half = len(seen) // 2
    first, second = list(chain(*seen[:half])), list(chain(*seen[half:]))
    assert sorted(first) == sorted(second) == list(range(records))
    assert records < 8 or first != second  # another order


@pytest.mark.parametrize(("records", "sizes"), [(64, [64]), (65, [33, 32]), (130, [44, 43, 43])])
def test_batches_are_evened_out(records, sizes):
    seen = []

    def loss(logits, targets):
        seen.append(len(targets))
        return functional.cross_entropy(logits, targets)

    train(TrainSetup(vector_network(), *vectors(records=records), loss, Recipe(epochs=1, batch_size=64), 0))
    assert seen == sizes


def test_an_absurd_learning_rate_diverges():
    with pytest.raises(Diverged, match=r"the loss became (nan|inf) in epoch \d+ of 5"):
        trained(learning_rate=1e30, epochs=5)


def test_what_goes_too_far_in_the_last_step_has_diverged_too():
    # One step: the loss is finite before it, the weights are not after it.
    network = trained(learning_rate=3e38, epochs=1, batch_size=64, optimizer="sgd")
    with pytest.raises(Diverged, match="not finite"):
        logits_of(network, vectors()[0])


def test_logits_are_refused_in_train_mode():
    network = trained().train()
    with pytest.raises(ValueError, match="eval mode"):
        logits_of(network, vectors()[0])


@pytest.mark.parametrize("space", plugins.available("search_spaces", "make_space"))
@pytest.mark.parametrize("quantised", [False, True])
def test_logits_do_not_depend_on_the_batch(space, quantised):
    made = plugins.load("search_spaces", space, "make_space")((3, 8, 8), 3)
    bits = {
        name: 4 for name in made.distributions if name.endswith("_bits") and name not in ("last_bits", "first_bits")
    }
    network = trained(data=images(), architecture=made.decode({**made.reference, **(bits if quantised else {})}))
    features = images(records=40, seed=1)[0]
    together = logits_of(network, features, batch_size=256)
    assert together.shape == (40, 3)
    assert together.dtype == np.float32
    np.testing.assert_allclose(logits_of(network, features, batch_size=1), together, rtol=1e-4, atol=1e-5)


def test_logits_are_those_of_the_network_as_it_is():
    network = trained(dropout=0.5)
    features = vectors()[0]
    with torch.no_grad():
        expected = network(features).numpy()
    np.testing.assert_array_equal(logits_of(network, features), expected)
    np.testing.assert_array_equal(logits_of(network, features), expected)  # a look changes nothing


def two_exits():
    graph = GraphBuilder((6,))
    early = graph.linear(0, 3)
    return graph.architecture("example", {}, (early, graph.linear(graph.activation(0, "tanh"), 3)))


def test_several_outputs_have_their_logits_each():
    features, _ = vectors(130)
    network = build(two_exits()).eval()
    with torch.no_grad():
        expected = [logits.numpy() for logits in network(features)]
    found = outputs_of(network, features)
    assert [logits.shape for logits in found] == [(130, 3)] * 2
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_training_returns_a_network_in_eval_mode():
    assert not any(module.training for module in trained(dropout=0.5).modules())


def test_images_are_trained_channels_last(monkeypatch):
    layouts = []

    def watched(architecture, dropout, seed):
        network = build(architecture, dropout=dropout, seed=seed)
        network.register_forward_pre_hook(
            lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        return network

    monkeypatch.setattr(training, "build", watched)
    for augment in ("none", "flip-crop"):
        network = trained(data=images(), architecture=image_network(), augment=augment)
    assert layouts
    assert all(layouts)
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4 and parameter.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


SHORTCUT = """
import sys
import torch
from nas.training.loop import plain_setup, train
from nas.training.recipe import Recipe
from search_spaces.graph.builder import GraphBuilder

torch.set_num_threads(1)
bits, augment = int(sys.argv[1]), sys.argv[2]
graph = GraphBuilder((3, 96, 96))
x = graph.conv(0, 8, kernel=(3, 3), padding=(1, 1))
x = graph.conv(x, 8, kernel=(1, 1), stride=(2, 2), weight_bits=bits)
graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(48, 48), stride=(48, 48))), 3)
features = torch.randn(128, 3, 96, 96)
recipe = Recipe(epochs=2, batch_size=64, augment=augment)
train(plain_setup(graph.architecture("example", {}), features, torch.arange(128) % 3, recipe, seed=0))
"""


@pytest.mark.parametrize(("bits", "augment"), [(32, "none"), (4, "none"), (32, "flip-crop")])
def test_a_strided_shortcut_does_not_kill_the_process(bits, augment):
    """Which it did on CPUs with AVX-512, in the backward pass; a mirrored batch brings its own layout."""
    ended = subprocess.run([sys.executable, "-c", SHORTCUT, str(bits), augment], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_flip_crop_mirrors_and_shifts_by_an_eighth_at_most():
    batch = images(records=40)[0]
    moved = training.flip_crop(batch, torch.Generator().manual_seed(0))
    assert moved.shape == batch.shape
    assert torch.equal(moved, training.flip_crop(batch, torch.Generator().manual_seed(0)))
    assert not torch.equal(moved, training.flip_crop(batch, torch.Generator().manual_seed(1)))
    seen = set()
    for image, result in zip(batch, moved, strict=True):
        possible = {}
        for flipped in (False, True):
            padded = functional.pad(image.flip(2) if flipped else image, (1, 1, 1, 1))
            for top in range(3):
                for left in range(3):
                    possible[flipped, top, left] = padded[:, top : top + 8, left : left + 8]
        matches = [how for how, candidate in possible.items() if torch.equal(candidate, result)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {flipped for flipped, _, _ in seen} == {False, True}
    assert {top for _, top, _ in seen} == {left for _, _, left in seen} == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs >= 1"),
        ({"batch_size": 1}, "batch_size >= 2"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"weight_decay": -1.0}, "weight_decay >= 0"),
        ({"dropout": 1.0}, r"dropout and label_smoothing in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"in \[0, 1\)"),
        ({"optimizer": "lion"}, r"no optimizer 'lion'; there are \['adamw', 'sgd'\]"),
        ({"augment": "mixup"}, r"no augmentation 'mixup'; there are \['none', 'flip-crop'\]"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "dropout", "label_smoothing"])
def test_a_recipe_refuses_nan(name):
    with pytest.raises(ValueError, match="expected"):
        Recipe(**{name: float("nan")})


def test_seeds_tell_their_parts_apart():
    assert seed_from(1, 23) != seed_from(12, 3)
    assert 0 <= seed_from("x") < 2**32


def plain(seed=0, **recipe):
    return plain_setup(vector_network(), *vectors(), Recipe(**{**FAST, **recipe}), seed)


def test_a_step_sees_every_record_once_an_epoch_with_its_targets():
    seen = []

    def make_step(course):
        step = plain_step(course)

        def watched(batch):
            seen.append(batch)
            return step(batch)

        return watched

    setup = plain(epochs=3)
    network = train(replace(setup, make_step=make_step))
    assert [batch.epoch for batch in seen] == [0] * 4 + [1] * 4 + [2] * 4
    for epoch in range(3):
        rows = torch.cat([batch.rows for batch in seen if batch.epoch == epoch])
        assert sorted(rows.tolist()) == list(range(50))
    for batch in seen:
        assert torch.equal(batch.features, setup.features[batch.rows])
        assert torch.equal(batch.targets, setup.targets[batch.rows])
    assert torch.equal(weights(network), weights(train(setup)))


def test_what_a_step_remembers_does_not_outlive_its_training():
    def make_step(course):
        calls = []

        def loss_of(batch):
            calls.append(batch)
            return course.setup.loss(course.network(batch.features), batch.targets) * len(calls)

        return descend(course, loss_of)

    setup = replace(plain(), make_step=make_step)
    assert torch.equal(weights(train(setup)), weights(train(setup)))
    assert not torch.equal(weights(train(setup)), weights(train(plain())))


def test_a_setup_says_how_batches_are_drawn():
    drawn = []

    def halves(records, steps, order):
        for _ in range(steps):
            rows = torch.nonzero(torch.rand(records, generator=order) < 0.5).flatten()
            drawn.append(rows)
            yield rows

    seen = []

    def make_step(course):
        step = plain_step(course)
        return lambda batch: (seen.append(batch.rows), step(batch))[1]

    train(replace(plain(), batches=halves, make_step=make_step))
    assert len(seen) == 2 * 4
    assert all(torch.equal(one, other) for one, other in zip(seen, drawn, strict=True))


def test_a_step_can_change_its_records_several_times():
    copies = []

    def make_step(course):
        step = plain_step(course)

        def several(batch):
            copies.append(torch.stack([course.augment(course.setup.features[batch.rows]) for _ in range(2)]))
            return step(batch)

        return several

    setup = plain_setup(image_network(), *images(), Recipe(**FAST, augment="flip-crop"), 0)
    train(replace(setup, make_step=make_step))
    assert not torch.equal(copies[0][0], copies[0][1])


def test_a_watch_is_called_after_every_epoch_and_may_change_weights():
    def make_watch(course):
        first = {}

        def watch(epoch):
            assert course.network.training
            epochs.append(epoch)
            if epoch == 0:
                first.update({name: tensor.clone() for name, tensor in course.network.state_dict().items()})
            if epoch == 2:
                course.network.load_state_dict(first)

        return watch

    epochs = []
    network = train(replace(plain(epochs=3), make_watch=make_watch))
    assert epochs == [0, 1, 2]
    assert not torch.equal(weights(network), weights(train(plain(epochs=3))))


def test_a_step_that_diverges_is_found_whatever_it_is():
    def make_step(course):
        def step(_batch):
            course.optimizer.step()
            return torch.tensor(float("nan"))

        return step

    with pytest.raises(Diverged, match="the loss became nan in epoch 1 of 2"):
        train(replace(plain(), make_step=make_step))


@pytest.mark.parametrize("data", [vectors(), images()], ids=["vectors", "images"])
def test_what_a_step_left_on_its_network_is_not_in_the_trained_one(data):
    calls = []

    def make_step(course):
        course.network.register_forward_hook(lambda *_: calls.append(1))
        return plain_step(course)

    architecture = vector_network() if data[0].ndim == 2 else image_network()
    setup = plain_setup(architecture, *data, Recipe(**FAST), 0)
    network = train(replace(setup, make_step=make_step))
    before = len(calls)
    assert np.array_equal(logits_of(network, data[0]), logits_of(train(setup), data[0]))
    assert len(calls) == before
