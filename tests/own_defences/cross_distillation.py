"""As knowledge cross-distillation: each record's soft label comes from a teacher that has never seen it."""

from dataclasses import replace

import torch
from torch.nn import functional

PARAMETERS = {"folds": [2, 3]}


def defend(setup, teach, folds):
    fold_of = torch.arange(len(setup.features), device=setup.features.device) % folds
    soft = torch.zeros(len(setup.features), setup.architecture.num_classes, device=setup.features.device)
    for fold in range(folds):
        left_out = fold_of == fold
        soft[left_out] = teach(setup, rows=torch.nonzero(~left_out).flatten())[left_out].softmax(dim=1)
    return replace(setup, targets=soft, loss=functional.cross_entropy)
