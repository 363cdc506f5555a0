"""A small network that overfits real images, its references, and records that none of them saw."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import conv
from search_spaces import mlp

POOL = 1000
CLASSES = 10
WRONG = 0.3  # of the labels are drawn anew: networks learn those of members by heart, and no others


def oracle_for(network):
    return Oracle(lambda features: logits_of(network, torch.from_numpy(np.asarray(features, np.float32))))


def overfit(space="conv", references=4, epochs=50):
    """Train a network on a random half of 1,000 digits; returns evidence, and who was a member."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    features = ((digits.images - digits.images.mean()) / digits.images.std()).astype(np.float32)[order, None]
    labels = np.where(rng.random(len(order)) < WRONG, rng.integers(0, CLASSES, len(order)), digits.target[order])
    if space == "mlp":
        features = features.reshape(len(features), -1)
    made = {"conv": conv, "mlp": mlp}[space].make_space(features.shape[1:], CLASSES)
    architecture, recipe = made.decode(made.reference), Recipe(epochs=epochs, weight_decay=0.0)
    halves = [rng.permutation(POOL) < POOL // 2 for _ in range(1 + references // 2)]
    trained_on = np.stack([halves[0], *(mask for half in halves[1:] for mask in (half, ~half))])
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels)
    oracles = []
    for seed, mask in enumerate(trained_on):
        rows = torch.from_numpy(np.flatnonzero(mask))
        oracles.append(oracle_for(train(plain_setup(architecture, inputs[rows], targets[rows], recipe, seed))))
    logits = np.stack([oracle.query(features) for oracle in oracles])
    pool, rest = slice(0, POOL), slice(POOL, None)
    bank = None
    if references:
        bank = Bank(logits[1:, pool], trained_on[1:], labels[pool], tuple(oracles[1:]))
    population = Population(features[rest], labels[rest], logits[0, rest])
    return Evidence(logits[0, pool], labels[pool], bank, features[pool], oracles[0], population), trained_on[0]
