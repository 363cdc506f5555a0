from dataclasses import replace

import pytest
import torch

from nas.defences import early_stopping
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp

RECORDS = 40


def plain(epochs=6, seed=0):
    generator = torch.Generator().manual_seed(0)
    features, labels = (
        torch.randn(RECORDS, 8, generator=generator),
        torch.randint(0, 4, (RECORDS,), generator=generator),
    )
    space = mlp.make_space((8,), 4)
    recipe = Recipe(epochs=epochs, batch_size=8, learning_rate=0.02)
    return plain_setup(space.decode(space.reference), features, labels, recipe, seed)


def rows_of(setup, features):
    return {row for row, record in enumerate(setup.features) if any(torch.equal(record, other) for other in features)}


def kept_aside(setup, ready):
    return sorted(set(range(RECORDS)) - rows_of(setup, ready.features))


@pytest.mark.parametrize(("share", "aside"), [(0.1, 4), (0.26, 11), (0.5, 20), (0.001, 1)])
def test_a_share_of_the_members_is_kept_aside_with_their_labels(share, aside):
    setup = plain()
    ready = early_stopping.defend(setup, None, share=share)
    assert len(kept_aside(setup, ready)) == aside
    for record, target in zip(ready.features, ready.targets, strict=True):
        (row,) = rows_of(setup, record[None])
        assert target == setup.targets[row]


def test_who_is_kept_aside_follows_from_the_seed():
    first, again, other = (early_stopping.defend(plain(seed=seed), None, share=0.2) for seed in (0, 0, 1))
    assert torch.equal(first.features, again.features)
    assert not torch.equal(first.features, other.features)


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def test_the_weights_are_those_of_the_epoch_that_does_best_on_the_records_kept_aside():
    setup = plain()
    ready = early_stopping.defend(setup, None, share=0.3)
    aside = kept_aside(setup, ready)
    states, losses = [], []

    def spied(training):
        watch = ready.make_watch(training)

        def look(epoch):
            training.network.eval()
            with torch.no_grad():
                logits = training.network(setup.features[aside])
            losses.append(setup.loss(logits, setup.targets[aside]).item())
            states.append(weights(training.network).clone())
            training.network.train()
            watch(epoch)

        return look

    trained = train(replace(ready, make_watch=spied))
    best = min(range(len(losses)), key=losses.__getitem__)
    assert best < len(losses) - 1  # else the test shows nothing: random labels are learned by heart
    assert torch.equal(weights(trained), states[best])
    assert torch.equal(weights(train(ready)), states[best])  # and looking on changes nothing


def test_the_records_kept_aside_choose_and_teach_nothing():
    setup = plain()
    ready = early_stopping.defend(setup, None, share=0.3)
    same = replace(ready, make_watch=None)
    plainly = plain_setup(setup.architecture, ready.features, ready.targets, setup.recipe, setup.seed)
    assert torch.equal(weights(train(same)), weights(train(plainly)))


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6])
def test_a_share_of_nobody_or_of_most_is_refused(share):
    with pytest.raises(ValueError, match=r"expected early_stopping.share above 0 and at most 0.5; got "):
        early_stopping.check(share)
