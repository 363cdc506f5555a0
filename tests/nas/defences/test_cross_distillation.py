"""Cross-distillation: whose word a record's soft label is, and what the student's loss is made of."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from nas.defences import cross_distillation
from nas.training.assess import train_teacher
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

RECIPE = Recipe(epochs=3, batch_size=8, label_smoothing=0.2, class_weights="balanced")


def plain(*, recipe=RECIPE, groups=None, equal=()):
    space = mlp.make_space((4,), 3)
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    for one, other in equal:
        features[one] = features[other]
    labels = (torch.arange(30) % 5).clamp(max=2)
    architecture = space.decode({**space.reference, "first_bits": 4})
    return plain_setup(architecture, features, labels, recipe, 0, groups=groups)


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


@pytest.fixture
def teachers(monkeypatch):
    """The set-ups of the teachers that are trained."""
    seen = []

    def watched(setup):
        seen.append(setup)
        return train(setup)

    monkeypatch.setattr("nas.training.assess.train_in_stages", watched)
    return seen


@pytest.mark.parametrize(
    ("groups", "equal"), [(None, ()), (torch.arange(30) // 3, ()), (None, [(0, 1), (1, 2), (29, 5)])]
)
def test_every_soft_label_comes_from_a_teacher_that_never_saw_its_record(teachers, groups, equal):
    setup = plain(groups=groups, equal=equal)
    ready = cross_distillation.defend(setup, train_teacher, folds=3, alpha=1.0)
    assert len(teachers) == 3
    answered = torch.zeros(30, 3)
    answers = [torch.from_numpy(logits_of(train(one), setup.features)).softmax(dim=1) for one in teachers]
    for record in range(30):
        kin = torch.zeros(30, dtype=torch.bool) if groups is None else groups == groups[record]
        kin |= (setup.features == setup.features[record]).all(dim=1)
        knows = [
            any((one.features == features).all(dim=1).any() for features in setup.features[kin]) for one in teachers
        ]
        (speaker,) = [teacher for teacher, known in enumerate(knows) if not known]
        answered[record] = answers[speaker][record]
    torch.testing.assert_close(ready.targets, answered, atol=1e-5, rtol=0)


def test_teachers_are_uncompressed_and_learn_from_the_labels_by_the_recipe(teachers):
    setup = plain()
    cross_distillation.defend(setup, train_teacher, folds=2, alpha=1.0)
    for teacher in teachers:
        assert teacher.architecture == setup.architecture.as_float()
        assert teacher.recipe == setup.recipe
        rows = [int((setup.features == one).all(dim=1).nonzero()) for one in teacher.features]
        assert torch.equal(teacher.targets, setup.targets[rows])
    assert len({teacher.seed for teacher in teachers}) == 2


def taught(_setup, rows=None):
    return torch.randn(30, 3, generator=torch.Generator().manual_seed(len(rows)))


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(epochs=3, batch_size=8)])
def test_with_alpha_0_it_is_the_plain_training(recipe):
    setup = plain(recipe=recipe)
    ready = cross_distillation.defend(setup, taught, folds=2, alpha=0.0)
    torch.testing.assert_close(weights(train(ready)), weights(train(setup)), atol=1e-4, rtol=1e-3)
    other = cross_distillation.defend(setup, taught, folds=2, alpha=0.5)
    assert not torch.allclose(weights(train(other)), weights(train(setup)), atol=1e-3)


def test_with_alpha_1_no_label_enters_the_students_loss():
    def student(labels, alpha):
        setup = plain()
        answers = torch.randn(30, 3, generator=torch.Generator().manual_seed(4))
        changed = replace(setup, targets=labels)
        return weights(train(cross_distillation.defend(changed, lambda _setup, rows: answers, folds=2, alpha=alpha)))

    labels = plain().targets
    assert torch.equal(student(labels, 1.0), student(labels.roll(1), 1.0))
    assert not torch.equal(student(labels, 0.9), student(labels.roll(1), 0.9))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_has_the_slopes_of_the_papers_two(alpha):
    setup = plain(recipe=Recipe(epochs=1))
    ready = cross_distillation.defend(setup, taught, folds=2, alpha=alpha)
    soft = cross_distillation.defend(setup, taught, folds=2, alpha=1.0).targets
    student = torch.randn(30, 3, generator=torch.Generator().manual_seed(5), requires_grad=True)
    (found,) = torch.autograd.grad(ready.loss(student, ready.targets), student)
    kl = functional.kl_div(student.log_softmax(dim=1), soft, reduction="batchmean")
    both = alpha * kl + (1 - alpha) * functional.cross_entropy(student, setup.targets)
    torch.testing.assert_close(found, torch.autograd.grad(both, student)[0])


@pytest.mark.parametrize(
    ("folds", "alpha", "message"),
    [
        (1, 0.5, r"^expected cross_distillation.folds of 2 or more; got 1$"),
        (3, 1.5, r"^expected cross_distillation.alpha from 0 to 1; got 1.5$"),
        (3, -0.1, r"^expected cross_distillation.alpha from 0 to 1; got -0.1$"),
    ],
)
def test_what_makes_no_sense_is_refused(folds, alpha, message):
    with pytest.raises(ValueError, match=message):
        cross_distillation.check(folds, alpha)


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="expected at least 3 records or groups that differ, for so many folds; got 2"):
        cross_distillation.defend(plain(groups=torch.arange(30) // 15), taught, folds=3, alpha=1.0)


def test_a_records_fold_is_the_same_for_every_candidate():
    asked = {1: [], 2: []}
    for seed, seen in asked.items():

        def teach(_setup, rows, seen=seen):
            seen.append(rows.tolist())
            return torch.zeros(30, 3)

        cross_distillation.defend(replace(plain(), seed=seed), teach, folds=3, alpha=0.5)
    assert asked[1] == asked[2]
    assert len(asked[1]) == 3
