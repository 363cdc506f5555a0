"""Fine-tuning lowers the cosine, keeps the accuracy, and leaves everything else as it was."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from nas.records import Source
from nas.records import load_records
from nas.records import split
from nas.siblings.attack import ATTACKS
from nas.siblings.compare import ground_for
from nas.siblings.compare import kinship
from nas.siblings.reach import reach_of
from nas.siblings.unpair import MOST_DROP
from nas.siblings.unpair import Unpairing
from nas.siblings.unpair import unpair
from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.loop import Labelled
from nas.training.post_training import compressed
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from search_spaces.compressions import sparsity
from search_spaces.compressions import weight_sharing
from search_spaces.graph.builder import GraphBuilder


@pytest.fixture(scope="module")
def data():
    return split(load_records(Source("digits")), seed=0, members=400)


def described():
    graph = GraphBuilder((1, 8, 8))
    hidden = graph.activation(graph.linear(graph.flatten(0), 64, bias=True), "relu")
    graph.linear(hidden, 10, bias=True)
    return graph.architecture("example", {})


def trained(data, architecture, seed=0):
    candidate = Candidate(architecture, Recipe(epochs=20))
    return train_in_stages(set_up(candidate, data.members.features, data.members.labels, seed))


def labelled(records):
    return Labelled(torch.from_numpy(records.features), torch.from_numpy(records.labels))


@pytest.fixture(scope="module")
def server(data):
    return trained(data, described())


def tuned(network, server, data, **changes):
    settings = replace(Unpairing(epochs=15), **changes)
    return unpair(network, server, labelled(data.members), labelled(data.validation), settings)


def test_an_8_bit_sibling_is_unpaired_within_a_point(data, server):
    shipped = compressed(server, 8, data.reserve.features)
    before = copy.deepcopy((shipped.state_dict(), server.state_dict()))
    found = tuned(shipped, server, data)
    first, kept = found.epochs[0], found.epochs[found.kept]
    assert found.kept > 0
    assert len(found.epochs) == 16
    assert first.cosine > 0.9
    assert kept.cosine < first.cosine - 0.1
    assert kept.accuracy >= first.accuracy - MOST_DROP
    for network, weights in zip((shipped, server), before, strict=True):
        assert all(value.equal(weights[name]) for name, value in network.state_dict().items())
    assert any(not value.equal(before[0][name]) for name, value in found.network.state_dict().items())
    reach = reach_of(data.members, data.preprocessing, 0.1)
    ground = ground_for(server, data.non_members, reach, count=200, seed=0)
    attack = ATTACKS[0].name
    was, now = (kinship("one", network, ground).fooled[attack] for network in (shipped, found.network))
    assert now.transfer.value < was.transfer.value
    assert now.white_box.value > 0.8 * was.white_box.value  # less transfers, and not because gradients are hidden


def test_without_a_penalty_networks_stay_alike(data, server):
    shipped = compressed(server, 8, data.reserve.features)
    plain, penalised = (tuned(shipped, server, data, strength=strength, epochs=8) for strength in (0.0, 1.0))
    assert min(epoch.cosine for epoch in plain.epochs) > min(epoch.cosine for epoch in penalised.epochs) + 0.1


def test_where_every_epoch_loses_too_much_nothing_changes(data, server):
    shipped = compressed(server, 8, data.reserve.features)
    found = tuned(shipped, server, data, learning_rate=3.0, strength=1e6, epochs=2)
    assert found.kept == 0
    assert all(value.equal(shipped.state_dict()[name]) for name, value in found.network.state_dict().items())


def test_of_the_epochs_that_lose_little_the_least_alike_is_kept(data, server):
    found = tuned(compressed(server, 8, data.reserve.features), server, data, learning_rate=0.1)
    fine = [epoch for epoch in found.epochs if epoch.accuracy >= found.epochs[0].accuracy - MOST_DROP - 1e-9]
    assert found.kept == min(fine, key=lambda epoch: epoch.cosine).number


def test_zeros_of_pruned_layers_stay(data, server):
    sparse = trained(data, sparsity.compress(described(), 0.5, "unstructured", "uniform"))
    found = tuned(sparse, server, data, epochs=2)
    zeros = [name for name, value in sparse.state_dict().items() if (value == 0).float().mean() > 0.4]
    assert len(zeros) == 2
    assert found.kept > 0
    for name in zeros:
        assert (found.network.state_dict()[name][sparse.state_dict()[name] == 0] == 0).all()


def test_layers_that_share_values_are_refused(data, server):
    shared = trained(data, weight_sharing.compress(described(), 3))
    with pytest.raises(ValueError, match="expected a network whose layers share no values"):
        tuned(shared, server, data)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"strength": -1.0}, "--strength of 0 or more"),
        ({"strength": float("nan")}, "--strength of 0 or more"),
        ({"epochs": 0}, "--unpair-epochs of 1 or more"),
        ({"learning_rate": 0.0}, "a learning rate above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises(ValueError, match=f"expected {told}"):
        replace(Unpairing(), **wrong)
