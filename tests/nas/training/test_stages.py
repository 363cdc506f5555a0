"""Networks that are trained in stages: what comes out is what the graph says, and the first stage is shared."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.spaces import compressible
from nas.spaces import space_named
from nas.training import safecompress
from nas.training import stages
from nas.training.assess import Candidate
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import PRUNINGS
from nas.training.recipe import ZEROS_MOVE
from nas.training.recipe import Recipe
from nas.training.stages import first_of
from nas.training.stages import grouped
from nas.training.stages import settled
from nas.training.stages import train_in_stages
from nas.training.stages import uncompressed
from search_spaces.layers.quantize import quantized

RECIPE = Recipe(epochs=4, batch_size=16)
SPACE = compressible(space_named("conv", (2, 8, 8), 3), ["channels", "sparsity", "weight_sharing"])
PARTS = {
    "nothing": {},
    "zeros": {"sparsity.share": 0.9},
    "2:4": {"sparsity.share": 0.5, "sparsity.pattern": "2:4"},
    "channels": {"channels.kept": 0.5},
    "shared": {"weight_sharing.width": 3},
    "all": {"channels.kept": 0.5, "sparsity.share": 0.7, "weight_sharing.width": 2},
}


def network(**point):
    return SPACE.decode({**SPACE.reference, "stem_width": 16, **point})


def bits(weights, tensors=8):
    names = [name for name in SPACE.distributions if name.startswith("block") and name.endswith("_bits")]
    return {name: weights if "weight" in name else tensors for name in names}


def setup_of(architecture, recipe=RECIPE):
    rng = np.random.default_rng(0)
    labels = torch.arange(48) % 3
    features = torch.from_numpy(rng.normal(size=(48, 2, 8, 8)).astype(np.float32)) + labels[:, None, None, None]
    setup = plain_setup(architecture, features, labels, recipe, seed=5)
    return replace(setup, reserve=Labelled(features + 1, labels))


@pytest.fixture(autouse=True)
def quick_attackers(monkeypatch):
    monkeypatch.setattr(safecompress, "ATTACKER_EPOCHS", 1)


def layers(architecture, trained):
    """The operator and the weights that it computes with, of each layer."""
    for index, op in enumerate(architecture.ops):
        if op.kind in ("conv", "depthwise", "linear"):
            module = trained.get_submodule(f"op{index}_{op.kind}")
            weight = module.weight.detach()
            if op.weight_bits < 16:
                levels, scale = quantized(module)
                weight = (levels * scale).detach()
            yield op, weight


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize("quantization", ["trained", "afterwards"])
@pytest.mark.parametrize("weights", [32, 8, "ternary"])
@pytest.mark.parametrize("part", PARTS)
def test_what_comes_out_is_what_the_graph_says(part, weights, quantization, pruning):
    architecture = network(**PARTS[part], **bits(weights))
    recipe = settled(replace(RECIPE, pruning=pruning, quantization=quantization), architecture)
    trained = train_in_stages(setup_of(architecture, recipe))
    assert trained.architecture.key == architecture.key
    assert not trained.training
    for op, weight in layers(architecture, trained):
        assert weight.shape[0] == op.shape[0]
        # Few-bit levels add zeros of their own.
        zeros = int((weight == 0).sum())
        wanted = round(op.sparsity * weight.numel())
        assert zeros == wanted if op.weight_bits >= 16 else zeros >= wanted
        if op.pattern:
            kept, group = map(int, op.pattern.split(":"))
            assert ((weight.movedim(1, -1).reshape(-1, group) != 0).sum(1) <= kept).all()
        if op.shared_bits:
            assert len(weight[weight != 0].unique()) <= 2**op.shared_bits
    assert logits_of(trained, setup_of(architecture).features).shape == (48, 3)


def test_only_what_is_pruned_and_retrained_is_trained_twice(monkeypatch):
    trained = []

    def watched(setup, **rest):
        trained.append((setup.architecture.key, setup.recipe.epochs, setup.start is not None))
        return train(setup, **rest)

    monkeypatch.setattr(stages, "train", watched)
    dense, sparse = network(), network(**PARTS["zeros"])
    for pruning, expected in (
        ("retrained", [(dense.key, 4, False), (sparse.key, 2, True)]),
        ("one_shot", [(dense.key, 4, False)]),
        ("dynamic", [(sparse.key, 4, False)]),
        ("safecompress", [(sparse.key, 4, False)]),
    ):
        trained.clear()
        train_in_stages(setup_of(sparse, replace(RECIPE, pruning=pruning)))
        assert trained == expected
    trained.clear()
    few = network(**bits(4))
    train_in_stages(setup_of(few, replace(RECIPE, quantization="afterwards")))
    assert trained == [(few.as_float().key, 4, False)]


def test_a_network_without_stages_is_trained_as_ever():
    architecture = network(**bits(4))
    ours, plain = train_in_stages(setup_of(architecture)), train(setup_of(architecture))
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in plain.state_dict().items())


def test_candidates_that_differ_in_what_is_removed_share_their_first_stage():
    recipe = replace(RECIPE, pruning="one_shot", quantization="afterwards")
    plain = Candidate(network(), RECIPE)
    zeros = [{"sparsity.share": 0.5}, {"sparsity.share": 0.9}]
    points = [*zeros, {"weight_sharing.width": 4}, bits(2), bits(8, 4)]
    compressed = [Candidate(network(**point), settled(recipe, network(**point))) for point in points]
    assert {candidate.first_stage.key for candidate in compressed} == {plain.key}
    assert len({candidate.key for candidate in compressed}) == len(compressed)
    assert plain.first_stage is plain
    trained_in_bits = Candidate(network(**bits(2)), RECIPE)
    assert trained_in_bits.first_stage is trained_in_bits
    for pruning in ZEROS_MOVE:
        moving = Candidate(network(**PARTS["zeros"]), replace(RECIPE, pruning=pruning))
        assert moving.first_stage is moving
        shared = replace(moving, architecture=network(**PARTS["zeros"], **{"weight_sharing.width": 3}))
        assert shared.first_stage.key == moving.key


@pytest.mark.parametrize("pruning", ZEROS_MOVE)
def test_what_has_no_effect_is_not_part_of_a_candidate(pruning):
    recipe = replace(RECIPE, pruning=pruning, quantization="afterwards")
    assert settled(recipe, network()) == RECIPE
    assert settled(recipe, network(**bits(2))).pruning == "retrained"
    assert settled(recipe, network(**PARTS["zeros"])).quantization == "trained"
    for part in ("2:4", "channels"):
        assert settled(recipe, network(**PARTS[part])).pruning == "retrained"
    assert settled(recipe, network(**PARTS["zeros"])).pruning == pruning


def test_a_teacher_of_a_compressed_networks_kind_is_dense_wide_and_in_float():
    assert uncompressed(network(**PARTS["all"], **bits(2))).key == network().as_float().key


@pytest.mark.parametrize("part", PARTS)
def test_the_first_stage_lacks_all_that_is_taken_away_later(part):
    first = first_of(network(**PARTS[part], **bits(2)), replace(RECIPE, quantization="afterwards"))
    assert first.key == network().as_float().key


def test_numbers_are_grouped_by_k_means_from_evenly_spaced_means():
    found = grouped(np.array([0.0, 0.1, 0.2, 0.9, 1.0]), 2)
    np.testing.assert_allclose(found, [0.1, 0.1, 0.1, 0.95, 0.95], rtol=1e-6)
    np.testing.assert_allclose(grouped(np.array([3.0, 1.0, 3.0]), 2), [3.0, 1.0, 3.0])


def test_zeros_stay_zero_where_values_are_shared():
    architecture = network(**PARTS["all"])
    trained = train_in_stages(setup_of(architecture))
    op, weight = next(iter(layers(architecture, trained)))
    assert (op.shared_bits, op.sparsity) != (0, 0.0)
    assert int((weight == 0).sum()) == round(op.sparsity * weight.numel())


def test_rounding_afterwards_is_worse_than_training_in_few_bits_and_eight_bits_are_as_good():
    float_setup = setup_of(network(), replace(RECIPE, epochs=12))
    plain = logits_of(train_in_stages(float_setup), float_setup.features)

    def distance(weights, tensors):
        setup = setup_of(network(**bits(weights, tensors)), replace(RECIPE, epochs=12, quantization="afterwards"))
        return np.abs(logits_of(train_in_stages(setup), setup.features) - plain).mean()

    eight, four, two = distance(8, 8), distance(4, 8), distance(2, 8)
    assert eight < 0.05 * plain.std()
    assert eight < four < two
