"""Every defence there is, at points of its parameters."""

from dataclasses import replace

import torch

from nas.base import plugins
from nas.search.defence_settings import settings_of
from nas.training.defence import load_defence
from nas.training.loop import Labelled

DEFENCES = plugins.available("nas.defences", "defend")


def middle_of(name):
    """The parameters in the middle of what a search samples."""
    return settings_of([load_defence(name)])[name].middle()


def strongest_of(name):
    """The last value of each parameter's list or range, where files put their strongest."""
    return settings_of([load_defence(name)])[name].strongest()


def defended(name, setup, teach, parameters=None):
    """The set-up that a search would train, with records beside the members where the defence needs them."""
    defence = load_defence(name)
    if "reserve" in defence.needs and setup.reserve is None:
        setup = replace(setup, reserve=beside(setup))
    return defence.set_up(setup, teach, middle_of(name) if parameters is None else parameters)


def beside(setup):
    """As many records as there are members, of the same shape and classes, none of them a member."""
    noise = torch.randn(setup.features.shape, generator=torch.Generator().manual_seed(len(setup.features)))
    return Labelled(noise.to(setup.features.device), setup.targets.roll(1))
