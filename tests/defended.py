"""Every defence there is, at points of its parameters."""

from nas.base import plugins
from nas.search.defence_settings import settings_of
from nas.training.defence import load_defence

DEFENCES = plugins.available("nas.defences", "defend")


def middle_of(name):
    """The parameters in the middle of what a search samples."""
    return settings_of([load_defence(name)])[name].middle()


def strongest_of(name):
    """The last value of each parameter's list or range, where files put their strongest."""
    return settings_of([load_defence(name)])[name].strongest()


def defended(name, setup, teach, parameters=None):
    """The set-up that a search would train."""
    return load_defence(name).set_up(setup, teach, middle_of(name) if parameters is None else parameters)
