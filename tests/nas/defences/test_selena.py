"""SELENA: whose words a record's soft label is the mean of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.defences import selena
from nas.training.assess import train_teacher
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp


def plain(groups=None):
    space = mlp.make_space((4,), 3)
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    features[3] = features[17]
    architecture = space.decode({**space.reference, "first_bits": 4})
    return plain_setup(architecture, features, torch.arange(30) % 3, Recipe(epochs=2, batch_size=8), 0, groups=groups)


@pytest.mark.parametrize("groups", [None, torch.arange(30) // 4])
def test_a_soft_label_is_the_mean_word_of_those_that_never_saw_the_record(monkeypatch, groups):
    trained = []

    def watched(setup):
        trained.append(setup)
        return train(setup)

    monkeypatch.setattr("nas.training.assess.train_in_stages", watched)
    setup = plain(groups)
    ready = selena.defend(setup, train_teacher, models=4, left_out=2)
    assert len(trained) == 4
    answers = torch.stack([torch.from_numpy(logits_of(train(one), setup.features)) for one in trained]).softmax(dim=2)
    for record in range(30):
        kin = torch.zeros(30, dtype=torch.bool) if groups is None else groups == groups[record]
        kin |= (setup.features == setup.features[record]).all(dim=1)
        known = [
            any((one.features == features).all(dim=1).any() for features in setup.features[kin]) for one in trained
        ]
        assert known.count(False) == 2
        expected = answers[[not knows for knows in known], record].mean(dim=0)
        torch.testing.assert_close(ready.targets[record], expected, atol=1e-5, rtol=0)


def test_no_label_enters_the_students_loss():
    def student(labels):
        answers = torch.randn(30, 3, generator=torch.Generator().manual_seed(4))
        ready = selena.defend(replace(plain(), targets=labels), lambda _setup, rows: answers, models=3, left_out=1)
        return np.concatenate([tensor.flatten().numpy() for tensor in train(ready).state_dict().values()])

    labels = plain().targets
    np.testing.assert_array_equal(student(labels), student(labels.roll(1)))


@pytest.mark.parametrize(("models", "left_out"), [(2, 0), (5, 5), (1, 1)])
def test_what_makes_no_sense_is_refused(models, left_out):
    message = f"expected selena.left_out from 1 to one fewer than selena.models, {models}; got {left_out}"
    with pytest.raises(ValueError, match=message):
        selena.check(models, left_out)
