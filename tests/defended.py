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


def with_needs(name, setup):
    """The set-up with records beside the members if the defence needs some: as many as a quarter of those."""
    if "reserve" not in load_defence(name).needs or setup.reserve is not None:
        return setup
    count, *shape = setup.features.shape
    count = max(count // 4, 4)
    beside = torch.randn(count, *shape, generator=torch.Generator().manual_seed(99))
    return replace(setup, reserve=Labelled(beside, torch.arange(count) % setup.architecture.num_classes))


def defended(name, setup, teach, parameters=None):
    """The set-up that a search would train."""
    parameters = middle_of(name) if parameters is None else parameters
    return load_defence(name).set_up(with_needs(name, setup), teach, parameters)
