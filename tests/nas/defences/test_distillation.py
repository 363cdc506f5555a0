"""DMP: what the student sees, and what it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.defences import distillation
from nas.training.assess import train_teacher
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp


def plain():
    space = mlp.make_space((4,), 3)
    random = torch.Generator().manual_seed(0)
    features, beside = torch.randn(30, 4, generator=random), torch.randn(16, 4, generator=random)
    architecture = space.decode({**space.reference, "first_bits": 4})
    setup = plain_setup(architecture, features, torch.arange(30) % 3, Recipe(epochs=3, batch_size=8), 0)
    return replace(setup, reserve=Labelled(beside, torch.arange(16) % 3))


def test_the_student_sees_a_float_teachers_answers_about_the_reserve_and_no_member():
    setup = plain()
    ready = distillation.defend(setup, train_teacher, temperature=2.0, share=1.0)
    assert torch.equal(ready.features, setup.reserve.features)
    teacher = train(replace(setup, architecture=setup.architecture.as_float()))
    expected = torch.from_numpy(logits_of(teacher, setup.reserve.features) / 2.0).softmax(dim=1)
    torch.testing.assert_close(ready.targets, expected)


def test_members_reach_the_student_through_its_teacher_alone():
    """Given the teacher's answers, members, their labels and the reserve's labels change nothing."""
    answers = torch.randn(16, 3, generator=torch.Generator().manual_seed(4))

    def student(setup):
        ready = distillation.defend(setup, lambda _setup, about: answers, temperature=1.0, share=1.0)
        return np.concatenate([tensor.flatten().numpy() for tensor in train(ready).state_dict().values()])

    setup = plain()
    beside = Labelled(setup.reserve.features, setup.reserve.labels.roll(1))
    for other in (
        replace(setup, features=setup.features + 1, targets=setup.targets.roll(1)),
        replace(setup, reserve=beside),
    ):
        np.testing.assert_array_equal(student(setup), student(other))
    with_others = replace(setup, reserve=Labelled(setup.reserve.features + 1, setup.reserve.labels))
    assert not np.array_equal(student(setup), student(with_others))


@pytest.mark.parametrize(("share", "kept"), [(1.0, 16), (0.5, 8), (0.26, 5), (0.01, 2)])
def test_the_records_that_the_teacher_is_surest_of_are_kept(share, kept):
    setup = plain()
    answers = torch.randn(16, 3, generator=torch.Generator().manual_seed(4)) * torch.arange(16)[:, None]
    ready = distillation.defend(setup, lambda _setup, about: answers, temperature=1.0, share=share)
    chosen = {int((setup.reserve.features == one).all(dim=1).nonzero()) for one in ready.features}
    entropy = torch.distributions.Categorical(logits=answers).entropy()
    assert len(chosen) == len(ready.targets) == kept
    left = [row for row in range(16) if row not in chosen]
    assert not left or entropy[list(chosen)].max() <= entropy[left].min()
    torch.testing.assert_close(ready.targets, answers[sorted(chosen)].softmax(dim=1))


def test_a_higher_temperature_tells_less():
    answers = torch.randn(16, 3, generator=torch.Generator().manual_seed(4))
    entropies = []
    for temperature in (1.0, 2.0, 4.0):
        ready = distillation.defend(plain(), lambda _setup, about: answers, temperature=temperature, share=1.0)
        entropies.append(float(torch.distributions.Categorical(probs=ready.targets).entropy().mean()))
    assert entropies == sorted(entropies)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0.0, "share": 1.0}, r"^expected distillation.temperature above 0; got 0.0$"),
        ({"temperature": 1.0, "share": 0.0}, r"^expected distillation.share above 0 and at most 1; got 0.0$"),
        ({"temperature": 1.0, "share": 1.1}, r"^expected distillation.share above 0 and at most 1; got 1.1$"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        distillation.check(**parameters)


def test_without_a_reserve_it_is_refused():
    with pytest.raises(
        ValueError, match=r"^expected records beside the members for the defence 'distillation'; got none$"
    ):
        distillation.defend(replace(plain(), reserve=None), train_teacher, temperature=1.0, share=1.0)
