"""A small task that networks learn by heart, for the suites of single defences."""

import numpy as np
import torch
from torch.nn import functional

from estimators.leakage.statistics.auc_and_rates import auc
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training.loop import Labelled
from nas.training.loop import plain_setup
from nas.training.recipe import Recipe
from search_spaces import mlp

CLASSES = 4


def records(count, seed):
    """Noise with classes that partly follow from it."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 8, generator=generator)
    labels = torch.where(
        torch.rand(count, generator=generator) < 0.4,
        torch.randint(0, CLASSES, (count,), generator=generator),
        2 * (features[:, 0] > 0).long() + (features[:, 1] > 0).long(),
    )
    return Labelled(features, labels)


MEMBERS, OTHERS, BESIDE = (records(96, seed) for seed in range(3))


def plain(epochs=2, seed=0, width=16, members=MEMBERS, depth=1, **recipe):
    """The plain training of a perceptron."""
    space = mlp.make_space((8,), CLASSES)
    made = Recipe(**({"epochs": epochs, "batch_size": 32, "learning_rate": 0.02, "weight_decay": 0.0} | recipe))
    architecture = space.decode({**space.reference, "depth": depth, "layer1_width": width})
    return plain_setup(architecture, members.features, members.labels, made, seed)


def with_exits(**recipe):
    """The plain training of a perceptron with two early exits."""
    space = compressible(space_named("mlp", (8,), CLASSES), ("exits",))
    point = {"depth": 4, "exits.count": 2, "exits.place": "even", "exits.width": 0, "exits.threshold": 0.9}
    made = Recipe(**({"epochs": 2, "batch_size": 32} | recipe))
    return plain_setup(space.decode({**space.reference, **point}), MEMBERS.features, MEMBERS.labels, made, 0)


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@torch.no_grad()
def losses(network, of):
    return functional.cross_entropy(network(of.features), of.labels, reduction="none").numpy()


def loss_auc(network):
    """AUC of the loss threshold, members against records of no training."""
    scores = -np.concatenate([losses(network, MEMBERS), losses(network, OTHERS)])
    return auc(scores, np.arange(len(scores)) < len(MEMBERS.labels))
