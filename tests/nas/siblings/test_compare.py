"""Transfer and what an unpairing changed, with upper bounds and arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.estimate import Estimate
from nas.records import Records
from nas.siblings.attack import ATTACKS
from nas.siblings.compare import Fooled
from nas.siblings.compare import Kinship
from nas.siblings.compare import black_box
from nas.siblings.compare import effect
from nas.siblings.compare import ground_for
from nas.siblings.compare import kinship
from nas.siblings.compare import signs_of_masking
from nas.siblings.reach import Reach
from nas.siblings.similarity import Similarity
from nas.training.loop import Labelled
from search_spaces.network import build
from tests.small_network import RECORDS
from tests.small_network import small

REACH = Reach(torch.full((1, 6), 0.5), torch.full((1, 6), -9.0), torch.full((1, 6), 9.0))


@pytest.fixture(scope="module")
def ground():
    """A network that is right on nine of ten records, because it is asked for its own classes."""
    _, network = small()
    with torch.no_grad():
        labels = network(torch.from_numpy(RECORDS)).argmax(dim=1).numpy().copy()
    labels[::10] = (labels[::10] + 1) % 3
    return ground_for(network, Records(RECORDS, labels, ("a", "b", "c")), REACH, count=60, seed=0)


def test_records_are_chosen_by_chance_and_only_right_ones_can_be_turned(ground):
    assert len(ground.right) == 60
    assert 52 <= ground.right.sum() < 60
    rows = [int(np.flatnonzero((record.numpy() == RECORDS).all(axis=1))[0]) for record in ground.records.features]
    assert rows == sorted(set(rows))
    assert rows[-1] >= 60


def test_what_transfers_from_a_network_to_itself_is_its_white_box(ground):
    own = kinship("server", ground.server, ground)
    assert own.similarity.cosine.value == pytest.approx(1, abs=1e-5)
    for fooled in own.fooled.values():
        assert np.array_equal(fooled.server, fooled.own)
        assert fooled.transfer == fooled.white_box
        assert fooled.transfer.value > 0.5
    other = kinship("control", build(ground.server.architecture, seed=5).eval(), ground)
    assert other.similarity.cosine.value < 0.6
    for attack in ATTACKS:
        assert other.fooled[attack.name].transfer.value < own.fooled[attack.name].transfer.value
    assert black_box(ground.server, ground, own) == own.fooled[ATTACKS[-1].name].white_box
    assert black_box(ground.server, ground, other) == other.fooled[ATTACKS[-1].name].transfer


def test_a_server_that_is_never_right_is_refused(ground):
    labels = (ground.records.labels.numpy() + 1) % 3
    records = Records(ground.records.features.numpy()[ground.right], labels[ground.right], ("a", "b", "c"))
    with pytest.raises(ValueError, match="expected a server network that is right on some records; it errs on all"):
        ground_for(ground.server, records, REACH, count=60, seed=0)
    features = ground.records.features[ground.right]
    hopeless = replace(ground, records=Labelled(features, torch.from_numpy(records.labels)))
    with pytest.raises(ValueError, match="expected a shipped network that is right on some records"):
        kinship("shipped", ground.server, hopeless)


def found(transfers, *, white_box=90, errors=10):
    """A kinship of a hundred records, of which some are turned and some are wrong."""
    some = lambda count: np.arange(100) < count
    fooled = {name: Fooled(some(count), some(white_box)) for name, count in transfers.items()}
    alike = Similarity(Estimate(0.5, 0.4, 0.6), 0)
    return Kinship("one", some(errors), alike, fooled, torch.zeros(1, 1))


def test_drops_are_shares_of_what_there_was():
    told = effect(found({"weak": 80, "strong": 80}), found({"weak": 20, "strong": 56}))
    assert told.drop == {"weak": pytest.approx(0.75), "strong": pytest.approx(0.3)}
    assert told.transfer["strong"].value == pytest.approx(-0.24)
    assert told.transfer["strong"].high < 0
    assert told.holds


@pytest.mark.parametrize(
    ("before", "after", "errors"),
    [
        ({"weak": 80, "strong": 80}, {"weak": 20, "strong": 57}, 10),  # one attack still gets through
        ({"weak": 80, "strong": 80}, {"weak": 20, "strong": 20}, 12),  # two points of error
        ({"weak": 0, "strong": 80}, {"weak": 0, "strong": 20}, 10),  # nothing to lower
    ],
)
def test_an_unpairing_holds_only_under_every_attack_and_within_a_point(before, after, errors):
    assert not effect(found(before), found(after, errors=errors)).holds


def test_a_point_of_error_is_accepted():
    assert effect(found({"weak": 80}), found({"weak": 20}, errors=11)).holds


def test_masked_gradients_are_told_and_others_are_not():
    before = found({"weak": 80, "strong": 80})
    low = Estimate(0.3, 0.2, 0.4)
    assert signs_of_masking(before, found({"weak": 20, "strong": 20}), low) == []
    hidden = signs_of_masking(before, found({"weak": 20, "strong": 20}, white_box=30), low)
    assert len(hidden) == 1
    assert "its gradients may be masked" in hidden[0]
    both = signs_of_masking(before, found({"weak": 20, "strong": 20}, white_box=30), Estimate(0.8, 0.7, 0.9))
    assert len(both) == 2
    assert "its gradients are masked" in both[1]
