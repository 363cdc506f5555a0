"""As DP-SGD: Poisson batches, per-example gradients clipped to length 1, noise, and a stated guarantee."""

from dataclasses import replace

import torch

PARAMETERS = {"noise": {"low": 0.1, "high": 2.0, "log": True}}


def defend(setup, _teach, noise):
    def poisson(records, steps, order):
        for _ in range(steps):
            yield torch.nonzero(torch.rand(records, generator=order) < 1 / steps).flatten()

    def make_step(training):
        random = torch.Generator().manual_seed(setup.seed)
        parameters = list(training.network.parameters())

        def step(batch):
            sums = [torch.zeros_like(parameter) for parameter in parameters]
            total = torch.zeros((), device=setup.features.device)
            training.network.eval()  # a batch norm would mix the examples
            for row in range(len(batch.rows)):
                loss = setup.loss(training.network(batch.features[row : row + 1]), batch.targets[row : row + 1])
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                found = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
                scale = 1 / max(1.0, float(torch.cat([gradient.flatten() for gradient in found]).norm()))
                sums = [one + scale * other for one, other in zip(sums, found, strict=True)]
                total = total + loss.detach()
            training.network.train()
            for parameter, gradient in zip(parameters, sums, strict=True):
                disturbed = gradient + noise * torch.randn(gradient.shape, generator=random).to(gradient.device)
                parameter.grad = disturbed / max(1, len(batch.rows))
            training.optimizer.step()
            return total

        return step

    return replace(
        setup, make_step=make_step, batches=poisson, guarantee={"epsilon": setup.recipe.epochs / noise, "delta": 1e-5}
    )
