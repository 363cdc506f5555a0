"""The losses of Gecko's students; what it has in common with every defence is in `test_every_defence`."""

import pytest
import torch

from nas.defences import gecko
from nas.training.distillation import divergence
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

TEACHER = torch.tensor([[4.0, -2.0, 1.0], [0.5, 0.0, -3.0]])


def plain():
    space = mlp.make_space((4,), 3)
    features = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    architecture = space.decode({**space.reference, "first_bits": 2})
    return plain_setup(architecture, features, torch.arange(24) % 3, Recipe(epochs=2, batch_size=8), 0)


def students(**parameters):
    logits = torch.randn(24, 3, generator=torch.Generator().manual_seed(7))
    network = train(gecko.defend(plain(), lambda _: logits, **parameters))
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def test_the_defaults_are_the_symmetric_loss_to_the_bit():
    student = torch.randn(2, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
    plainly = gecko.symmetric_cross_entropy(student, TEACHER)
    (expected,) = torch.autograd.grad(plainly, student)
    ready = gecko.defend(plain(), lambda _: TEACHER)
    loss = ready.loss(student, TEACHER)
    assert torch.equal(loss, plainly)
    assert torch.equal(torch.autograd.grad(loss, student)[0], expected)


def test_loss_and_temperature_change_the_student():
    found = [students(), students(loss="kl"), students(temperature=3.0), students(loss="kl", temperature=3.0)]
    assert torch.equal(found[0], students(loss="symmetric", temperature=1.0))
    for place, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:place])


@pytest.mark.parametrize("loss", gecko.LOSSES)
def test_a_student_that_answers_like_its_teacher_has_no_slope(loss):
    student = TEACHER.clone().requires_grad_()
    found = gecko.softened(student, TEACHER, loss=divergence, temperature=2.0)
    assert found.item() == pytest.approx(0.0, abs=1e-6)
    (slope,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)
    if loss == "kl":
        away = gecko.softened(student + torch.tensor([1.0, 0.0, 0.0]), TEACHER, loss=divergence, temperature=2.0)
        assert away > 0


def test_slopes_are_about_as_large_at_every_temperature():
    """Hinton et al. (2015): of hot softmaxes they approach (student - teacher) / classes, for logits of mean zero."""
    teacher = TEACHER - TEACHER.mean(dim=1, keepdim=True)
    student = torch.zeros(2, 3, requires_grad=True)
    for temperature in (50.0, 500.0):
        found = gecko.softened(student, teacher, loss=divergence, temperature=temperature)
        (slope,) = torch.autograd.grad(found, student)
        torch.testing.assert_close(slope, -teacher / 3 / len(teacher), rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "mse"}, r"^expected gecko.loss in \['symmetric', 'kl'\]; got 'mse'$"),
        ({"temperature": 0.0}, r"^expected gecko.temperature above 0; got 0.0$"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        gecko.check(**parameters)
