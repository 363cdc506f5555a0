"""Which weights are zero: exactly so many, the smallest, and after every step of a training."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from nas.training import sparse
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.compressions import sparsity
from search_spaces.graph.builder import GraphBuilder

FEW = settings(max_examples=30, derandomize=True, deadline=None)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(share=0.5, pattern="unstructured", layout="uniform", bits=32):
    graph = GraphBuilder((4, 5, 5))
    x = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3), weight_bits=bits)))
    graph.linear(graph.flatten(x), 3, bias=True, weight_bits=bits)
    return sparsity.compress(graph.architecture("example", {}), share, pattern, layout)


def setup_of(architecture, **recipe):
    features, labels = normal(40, 4, 5, 5), torch.arange(40) % 3
    return plain_setup(architecture, features, labels, Recipe(**({"epochs": 4, "batch_size": 10} | recipe)), seed=3)


@FEW
@given(share=st.sampled_from([0.3, 0.5, 0.9, 0.95]), seed=st.integers(0, 99), ties=st.booleans())
def test_a_mask_has_exactly_the_zeros_of_its_sparsity_and_keeps_the_largest(share, seed, ties):
    architecture = network(share)
    weights = {
        name: normal(*shape, seed=seed).round(decimals=0 if ties else 6)
        for name, shape in (("op1_conv.weight", (8, 4, 3, 3)), ("op5_linear.weight", (3, 72)))
    }
    masks = sparse.masks_by_magnitude(architecture, weights)
    assert masks.keys() == weights.keys()
    for (name, mask), (_, op) in zip(masks.items(), sparse.sparse_layers(architecture), strict=True):
        assert (~mask).sum() == round(op.sparsity * mask.numel()) == round(share * mask.numel())
        assert weights[name][mask].abs().min() >= weights[name][~mask].abs().max()


def test_two_of_four_neighbours_along_the_input_channels_stay():
    weight = normal(8, 4, 3, 3)
    (mask, _) = sparse.masks_by_magnitude(
        network(pattern="2:4"), {"op1_conv.weight": weight, "op5_linear.weight": normal(3, 72)}
    ).values()
    assert (mask.sum(1) == 2).all()
    for out, row, column in ((0, 0, 0), (7, 2, 1)):
        group = weight[out, :, row, column].abs()
        assert mask[out, :, row, column].nonzero().flatten().tolist() == sorted(group.topk(2).indices.tolist())


def test_a_move_by_hand():
    weight = nn.Parameter(torch.tensor([[3.0, 0.5, 2.0, 0.0, 0.0, 0.0]]))
    weight.grad = torch.tensor([[9.0, 9.0, 9.0, 0.1, -0.4, 0.2]])
    mask = torch.tensor([[True, True, True, False, False, False]])
    # A third of three places: the smallest weight goes, the largest gradient among the zeros comes.
    assert sparse.moved(mask, weight, 1 / 3).tolist() == [[True, False, True, False, True, False]]
    weight.grad = None
    assert torch.equal(sparse.moved(mask, weight, 1 / 3), mask)


@FEW
@given(places=st.lists(st.booleans(), min_size=1, max_size=40), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_what_is_worth_least_is_exchanged_for_what_promises_most(places, share, seed):
    mask = torch.tensor(places)
    worth, promise = normal(2, len(places), seed=seed).round(decimals=1)  # with ties
    found = sparse.exchanged(mask, worth, promise, share)
    gone, come = mask & ~found, found & ~mask
    assert gone.sum() == come.sum() == min(round(share * int(mask.sum())), int((~mask).sum()))
    assert found.sum() == mask.sum()
    if gone.any():
        assert (mask & found).sum() == 0 or worth[gone].max() <= worth[mask & found].min()
        assert (~mask & ~found).sum() == 0 or promise[come].min() >= promise[~mask & ~found].max()


@pytest.mark.parametrize("layout", ["uniform", "erk"])
@pytest.mark.parametrize("bits", [32, 8, 2, "ternary"])
def test_zeros_that_move_are_exactly_as_many_after_every_step(layout, bits):
    architecture = network(0.9, layout=layout, bits=bits)
    wanted = {
        name: round(op.sparsity * size)
        for (name, op), size in zip(sparse.sparse_layers(architecture), (288, 216), strict=True)
    }
    assert sum(wanted.values()) == pytest.approx(0.9 * (288 + 216), abs=1)  # 0.1 % of a thousand weights
    seen, patterns = [], set()

    def watched(training):
        change = sparse.moving(training)

        def look():
            change()
            zeros = {name: training.network.get_parameter(name) == 0 for name in wanted}
            seen.append({name: int(mask.sum()) for name, mask in zeros.items()})
            patterns.add(zeros["op1_conv.weight"].numpy().tobytes())

        return look

    trained = train(setup_of(architecture, epochs=10), make_change=watched)
    assert len(seen) == 40
    # A weight that has just grown is zero until its next step: never fewer zeros than wanted.
    for counts in seen:
        assert all(counts[name] >= wanted[name] for name in wanted)
    assert len(patterns) > 3
    state = trained.state_dict()
    assert {name: int((state[name] == 0).sum()) for name in wanted} == wanted


def test_zeros_are_held_through_a_training():
    architecture = network(0.5)
    weights = train(setup_of(architecture)).state_dict()
    masks = sparse.masks_by_magnitude(architecture, weights)
    start = sparse.masked(weights, masks)
    setup = dataclasses.replace(setup_of(architecture), start=start)
    again = train(setup, make_change=lambda training: sparse.holding(masks, training))
    for name, mask in masks.items():
        trained = again.state_dict()[name]
        assert not trained[~mask].any()
        assert not torch.equal(trained[mask], start[name][mask])
