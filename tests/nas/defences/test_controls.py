"""The controls of an audit that knows the defence: membership by lot is not found, and a leak without a defence is.

Six small trainings by each defence on random halves of one pool, each attacked by the four that are neither it nor its
complement, as `nas audit` attacks a network with four shadow models: of each record two were trained on it and two not.

- Null control: the same networks are asked about *strangers*, as many other records, each of which takes the place of
  one of the pool and has its membership. No network has seen one, so whatever is found is an error: an attack that
  reads who is a member from the bank or from the order of records; a bank that holds the attacked network; a defence,
  or the part of the reserve that it learns from, into which audited records get by their membership.
- Positive control: asked about the pool itself, the networks without a defence are found out. A null that covers 0.5
  because nothing could be found would say nothing.

The last two tests plant such errors, and the null control finds them.
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from scipy.stats import rankdata

from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Evidence
from nas.audit.findings import corrected
from nas.audit.shadows import Pool
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import bank_of
from nas.audit.shadows import load
from nas.audit.shadows import train_missing
from nas.audit.shadows import trained_on
from nas.records import Records
from nas.training.assess import Candidate
from nas.training.assess import for_training
from nas.training.defence import load_defence
from nas.training.recipe import Recipe
from search_spaces import mlp
from tests.defended import DEFENCES
from tests.defended import middle_of

ATTACKS = {"lira_online": lira_online.attack, "rmia_online": rmia_online.attack}
TRAININGS, AUDITED, CLASSES, COLUMNS, SEED = 6, 160, 4, 12, 5
each_attack = pytest.mark.parametrize("attack", ATTACKS)


def records(count, seed):
    """Noise, and labels of it that can only be learned by heart."""
    rng = np.random.default_rng(seed)
    names = tuple(str(label) for label in range(CLASSES))
    return Records(rng.normal(size=(count, COLUMNS)).astype(np.float32), rng.integers(0, CLASSES, count), names)


def pool_of(seed):
    audited = records(AUDITED, seed)
    return Pool(audited.features, audited.labels, np.arange(AUDITED) < AUDITED // 2)


KNOWN, STRANGERS, RESERVE = pool_of(1), pool_of(2), records(AUDITED, 3)


def spec_of(defence):
    space = mlp.make_space((COLUMNS,), CLASSES)
    architecture = space.decode({**space.reference, "layer1_width": 64})
    recipe = Recipe(epochs=40, batch_size=40, learning_rate=0.01, weight_decay=0.0)
    candidate = Candidate(architecture, recipe, defence, middle_of(defence))
    reserve, _ = for_training(candidate, load_defence(defence), RESERVE)
    return ShadowSpec(KNOWN, candidate, SEED, Path(mkdtemp()), reserve)


@cache
def networks_with(defence):
    spec = spec_of(defence)
    list(train_missing([spec], TRAININGS, workers=1))
    return load(spec, TRAININGS)


def found(networks, about, attack, with_itself=False):
    """AUC of all networks' members among the records of a pool, with an interval for all defences and attacks at once.

    Scores are ranked within each network: their scales are of the network's making.
    """
    bank = bank_of(about, networks, SEED)
    ranks, members = [], []
    for own in range(TRAININGS):
        others = [other for other in range(TRAININGS) if with_itself or other // 2 != own // 2]
        scores = ATTACKS[attack](Evidence(bank.logits[own], about.labels, bank.part(others)))
        ranks.append(rankdata(scores))
        members.append(bank.trained_on[own])
    return corrected(np.concatenate(ranks), np.concatenate(members), len(DEFENCES) * len(ATTACKS))


@each_attack
@pytest.mark.parametrize("defence", DEFENCES)
def test_membership_by_lot_is_not_found_whatever_the_defence(defence, attack):
    told = found(networks_with(defence), STRANGERS, attack)
    assert told.low < 0.5 < told.high
    assert told.high - told.low < 0.15


@each_attack
def test_without_a_defence_the_same_audit_finds_the_members(attack):
    assert found(networks_with("none"), KNOWN, attack).low > 0.8


def test_a_bank_that_holds_the_attacked_network_is_found_out():
    """By LiRA: the mean of its members is then nearer to the network itself. RMIA takes both means together."""
    assert found(networks_with("none"), STRANGERS, "lira_online", with_itself=True).low > 0.5


@each_attack
def test_audited_records_that_reach_a_training_by_their_membership_are_found_out(attack):
    """As by a defence that adds to its members a reserve of these records."""
    spec, networks = spec_of("none"), []
    for number in range(TRAININGS):
        rows, inside = KNOWN.rows(number, SEED), STRANGERS.trained_on(number, SEED)
        features = np.concatenate([KNOWN.features[rows], STRANGERS.features[inside]])
        labels = np.concatenate([KNOWN.labels[rows], STRANGERS.labels[inside]])
        networks.append(trained_on(spec, features, labels, seed=number).eval())
    assert found(networks, STRANGERS, attack).low > 0.5
