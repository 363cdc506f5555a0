import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.audit.oracles import of_network
from nas.training.answers import answering
from nas.training.answers import answering_as
from nas.training.answers import answers_of
from nas.training.answers import delay_of
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces import mlp
from search_spaces.network import build


class Doubled(nn.Module):
    def forward(self, logits):
        return 2 * logits


class Judge(nn.Module):
    """Answers that hold a linear layer of their own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, logits):
        return self.layer(logits)


def network():
    space = mlp.make_space((4,), 3)
    return build(space.decode(space.reference)).eval()


RECORDS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def test_answers_stand_between_a_network_in_eval_mode_and_whoever_asks():
    plain, doubled = network(), answering(network(), Doubled())
    with torch.no_grad():
        torch.testing.assert_close(doubled(RECORDS), 2 * plain(RECORDS))
        torch.testing.assert_close(doubled.train()(RECORDS), plain.train()(RECORDS))
        torch.testing.assert_close(copy.deepcopy(doubled).eval()(RECORDS), 2 * plain.eval()(RECORDS))


def test_no_answers_leave_the_network_as_it_is():
    plain = network()
    assert answering(plain, None) is plain
    assert (answers_of(plain), delay_of(plain)) == (None, 0.0)


def test_answers_without_weights_leave_the_file_of_the_weights_as_it_is():
    assert answering(network(), Doubled()).state_dict().keys() == network().state_dict().keys()


def test_answers_are_put_on_once():
    once = ((Doubled(), 0.0), (None, 2.0), (Doubled(), 2.0))
    for (answers, delay), (more, longer) in itertools.product(once, once):
        with pytest.raises(ValueError, match=r"^expected a network without answers or delays of its own; it has some$"):
            answering(answering(network(), answers, delay), more, longer)


@pytest.mark.parametrize("answers", [None, Doubled()])
def test_a_delay_changes_no_answer_and_travels_with_the_answers(answers):
    plain, delayed = answering(network(), answers), answering(network(), answers, 2.0)
    again = answering_as(network(), delayed)
    with torch.no_grad():
        for found in (delayed, again, copy.deepcopy(delayed)):
            assert torch.equal(found(RECORDS), plain(RECORDS))
            assert (delay_of(found), type(answers_of(found))) == (2.0, type(answers))
    assert answers is None or answers_of(again) is not answers_of(delayed)
    assert delayed.state_dict().keys() == network().state_dict().keys()


def test_what_the_last_layer_reads_is_the_networks_and_not_its_answers():
    read = of_network(network()).activations(RECORDS.numpy())
    judged = of_network(answering(network(), Judge().eval())).activations(RECORDS.numpy())
    assert read.shape == judged.shape
    assert read.shape[1] != 3


def test_what_answers_learn_in_a_training_stays_out_of_its_setup():
    class Learned(Doubled):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

    def make_watch(training):
        return lambda _epoch: training.setup.answers.seen.add_(1)

    setup = plain_setup(network().architecture, RECORDS, torch.arange(5) % 3, Recipe(epochs=2), seed=0)
    setup = replace(setup, answers=Learned(), make_watch=make_watch)
    trained, again = train(setup), train(setup)
    assert float(answers_of(trained).seen) == float(answers_of(again).seen) == 2
    assert float(setup.answers.seen) == 0
