"""As adversarial regularisation: an attacker learns to tell members from the reserve, the network to fool it."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from nas.training.loop import descend

NEEDS = ("reserve",)
PARAMETERS = {"weight": {"low": 0.1, "high": 3.0}}


def defend(setup, _teach, weight):
    def make_step(training):
        network, beside = training.network, training.setup.reserve
        attacker = nn.Sequential(nn.Linear(setup.architecture.num_classes, 8), nn.ReLU(), nn.Linear(8, 1)).to(
            setup.features.device
        )
        optimizer = torch.optim.Adam(attacker.parameters())

        def suspected(features):
            return attacker(network(features).softmax(dim=1))

        def loss_of(batch):
            some = torch.randint(len(beside.labels), (len(batch.rows),))
            answers = torch.cat([suspected(batch.features), suspected(beside.features[some])]).flatten()
            is_member = (torch.arange(len(answers), device=answers.device) < len(batch.rows)).float()
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(answers, is_member).backward()
            optimizer.step()
            logits = network(batch.features)
            gain = functional.logsigmoid(attacker(logits.softmax(dim=1))).mean()
            return setup.loss(logits, batch.targets) + weight * gain

        return descend(training, loss_of)

    return replace(setup, make_step=make_step)
