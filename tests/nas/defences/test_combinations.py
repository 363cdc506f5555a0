"""Several defences at once: what acts together, what each part gets, and what is refused rather than passed over."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from nas.search.bench import make_bench
from nas.training.assess import assess
from nas.training.assess import train_teacher
from nas.training.defence import Defence
from nas.training.defence import combination
from nas.training.defence import load_defence
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.mlp import make_space
from tests.defended import DEFENCES
from tests.defended import defended
from tests.defended import strongest_of
from tests.small_search import planned

SPACE = make_space((6,), 3)


def plain(seed=0):
    generator = torch.Generator().manual_seed(seed)
    features, labels = torch.randn(24, 6, generator=generator), torch.arange(24) % 3
    setup = plain_setup(SPACE.decode(SPACE.reference), features, labels, Recipe(epochs=2, batch_size=8), 0)
    reserve = replace(setup.members, features=torch.randn(12, 6, generator=generator), labels=torch.arange(12) % 3)
    return replace(setup, reserve=reserve)


def changing(name, guarantee=None, *, keeps_loss=False, asks=False, **changes):
    """A made-up defence that sets fields of the set-up."""

    def defend(setup, teach):
        if asks:
            teach(setup)
        return replace(setup, **changes, guarantee=guarantee or setup.guarantee)

    return Defence(name, defend, {}, (), None, None, knows_exits=True, keeps_loss=keeps_loss)


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def strongest(name, setup):
    """The set-up of a defence at its strongest: in the middle of its range it may leave two epochs alone."""
    return defended(name, setup, train_teacher, strongest_of(name))


PAIRS = list(itertools.permutations([name for name in DEFENCES if name != "none"], 2))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_defences_both_act_or_are_refused_in_one_line(first, second):
    setup, refusal = plain(), ""
    try:
        ready = strongest(f"{first}+{second}", setup)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert first in refusal or second in refusal
        assert "\n" not in refusal
        return
    together = weights(train(ready))
    for name, other in ((first, second), (second, first)):
        # What a mask does is in the answers or in their times, and not in the weights.
        if load_defence(name).answers is not None:
            assert type(ready.answers) is type(strongest(name, setup).answers)
        elif load_defence(name).delay is not None:
            assert ready.delay == strongest(name, setup).delay > 0
        else:
            assert not torch.equal(together, weights(train(strongest(other, setup))))


def test_parts_act_in_order_and_get_their_own_parameters():
    told = []

    def part(name, **settings):
        def defend(setup, _teach, **parameters):
            told.append((name, parameters, len(setup.features)))
            return replace(setup, features=setup.features[1:], targets=setup.targets[1:])

        return Defence(name, defend, settings, (), None, None)

    both = combination([part("a", x=[1, 2]), part("b", x=0.5, y="name")])
    assert both.name == "a+b"
    assert both.settings == {"a.x": [1, 2], "b.x": 0.5, "b.y": "name"}
    ready = both.set_up(plain(), train_teacher, {"a.x": 2, "b.x": 0.25, "b.y": "other"})
    assert told == [("a", {"x": 2}, 24), ("b", {"x": 0.25, "y": "other"}, 23)]
    assert len(ready.features) == 22


def test_a_part_checks_its_own_values():
    both = load_defence("relaxloss+early_stopping")
    values = {"relaxloss.alpha": 0.5, "early_stopping.share": 0.1}
    both.check(**values)
    with pytest.raises(ValueError, match=r"^expected early_stopping\.share above 0"):
        both.check(**{**values, "early_stopping.share": 0.9})


def test_two_that_change_the_same_thing_are_refused():
    loss = torch.nn.functional.cross_entropy
    both = combination([changing("a", loss=loss), changing("b", loss=torch.nn.functional.nll_loss)])
    with pytest.raises(ValueError, match=r"^expected defences that go together; 'a' and 'b' both change the loss$"):
        both.set_up(plain(), train_teacher, {})


@pytest.mark.parametrize("turned_round", [False, True])
def test_a_step_with_a_loss_of_its_own_passes_over_no_other_loss(turned_round):
    def parts(*, keeps_loss):
        found = [
            changing("stepping", make_step=lambda _: None, keeps_loss=keeps_loss),
            changing("teaching", targets=torch.zeros(24, 3)),
        ]
        return combination(found[::-1] if turned_round else found)

    parts(keeps_loss=True).set_up(plain(), train_teacher, {})
    told = r"'stepping' has a loss of its own, which would pass over the targets of 'teaching'$"
    with pytest.raises(ValueError, match=told):
        parts(keeps_loss=False).set_up(plain(), train_teacher, {})


LEARNS = {
    "a teacher": {"asks": True},
    "a loss": {"loss": torch.nn.functional.nll_loss},
    "fewer records": {"features": torch.zeros(20, 6), "targets": torch.zeros(20, dtype=torch.int64)},
}


@pytest.mark.parametrize("how", LEARNS)
@pytest.mark.parametrize("turned_round", [False, True])
def test_nothing_else_learns_beside_a_guarantee(how, turned_round):
    private = changing("private", {"epsilon": 3.0}, make_step=lambda _: None, keeps_loss=True)
    parts = [private, changing("other", **LEARNS[how])]
    with pytest.raises(ValueError, match=r"^the guarantee of 'private' holds where nothing else .*'other' does"):
        combination(parts[::-1] if turned_round else parts).set_up(plain(), lambda *_, **__: torch.zeros(24, 3), {})
    masked = combination([private, load_defence("confidence_rounding")])
    ready = masked.set_up(plain(), train_teacher, {"confidence_rounding.digits": 1})
    assert ready.guarantee == {"epsilon": 3.0}
    assert ready.answers.levels == 10


def test_the_same_twice_and_two_masks_are_refused():
    with pytest.raises(ValueError, match=r"^expected each defence once in a combination; got gecko\+gecko$"):
        load_defence("gecko+gecko")
    mask = load_defence("confidence_rounding")
    with pytest.raises(ValueError, match=r"^expected one defence that changes the answers; got 'confidence_"):
        combination([mask, replace(mask, name="another")])
    holding = load_defence("timeguard")
    with pytest.raises(
        ValueError, match=r"^expected one defence that holds back early answers; got 'timeguard' and 'a"
    ):
        combination([holding, replace(holding, name="another")])


def test_a_search_samples_the_parameters_of_a_combination_and_trains_it(tmp_path):
    name = "early_stopping+gecko"
    plan = planned(tmp_path, defences=[name], defence_parameters={name: {"early_stopping.share": [0.1, 0.3]}})
    sampled = f"{name}.early_stopping.share"
    assert list(plan.distributions[sampled].choices) == [0.1, 0.3]
    values = {recipe: distribution.low for recipe, distribution in plan.config.recipe.distributions().items()}
    candidate = plan.candidate({**plan.space.reference, **values, sampled: 0.3})
    assert (candidate.defence, candidate.defence_parameters["early_stopping.share"]) == (name, 0.3)
    assert assess(candidate, make_bench(plan)).measures["trainings"].value == 2
