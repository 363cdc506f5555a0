"""A defence by its name: its file's attributes, read once. The interface itself is described in `nas.defences`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
from torch import Tensor
from torch import nn

from nas.assignment import clusters_of
from nas.base import plugins
from nas.records import Records
from nas.training.answers import answering
from nas.training.loop import TrainSetup
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.network import Network
from search_spaces.network import build

PACKAGE = "nas.defences"
NEEDS = ("reserve",)
"""What a defence may need beside the members."""


class Teach(Protocol):
    """Trains a teacher, or fetches one that was trained before, and asks it."""

    def __call__(self, setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
        """Train a network plainly: by the set-up's architecture and recipe, on its features and targets.

        Args:
            setup: Describes the teacher. Its loss and step are not used: a teacher has no defence.
            rows: `(records,)`: rows of the set-up's records to train on, so that the teacher has never seen the
                others; None: all of them.
            about: `(records, ...)`: features to ask about; None: all of the set-up's, those left out included.

        Returns:
            The teacher's logits `(records, classes)` on what it is asked about, on the device of the features.
        """
        ...


@dataclass(frozen=True, eq=False)
class Defence:
    """A file of `nas/defences`, or a module of the user's own.

    Attributes:
        name: As in a configuration.
        defend: Takes a set-up, `teach` and the parameters by name; returns a set-up.
        settings: The file's `PARAMETERS`: for each parameter what a search samples unless the user says otherwise,
            written as in a configuration: one value, a list, or a range `{"low": ..., "high": ..., "log": ...}`.
        needs: The file's `NEEDS`, some of `NEEDS`.
        check: The file's `check(**parameters)`, which raises a `ValueError` for parameters that make no sense.
        answers: The file's `answers(**parameters)`: what the deployed network's logits pass through.
        knows_exits: The file's `EXITS`: whether its own step or watch knows networks with early exits.
    """

    name: str
    defend: Callable[..., TrainSetup]
    settings: Mapping[str, Any]
    needs: tuple[str, ...]
    check: Callable[..., None] | None
    answers: Callable[..., nn.Module] | None
    knows_exits: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """What `defend` takes for parameters that it is not given, by name."""
        taken = inspect.signature(self.defend).parameters
        given = {name: taken[name].default for name in self.settings if name in taken}
        return {name: value for name, value in given.items() if value is not inspect.Parameter.empty}

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the file."""
        return hashlib.sha256(Path(inspect.getfile(self.defend)).read_bytes()).hexdigest()

    def set_up(self, setup: TrainSetup, teach: Teach, parameters: Params) -> TrainSetup:
        """Turn a plain set-up into the defended one.

        Args:
            setup: The plain training, with records beside the members if the defence needs them.
            teach: What it may ask for teachers.
            parameters: One value for each of its parameters.

        Raises:
            ValueError: If the defence returns something else, or has a step or a watch of its own that does not know
                early exits, which the network has.
        """
        answers = None if self.answers is None else self.answers(**parameters)
        defended = self.defend(replace(setup, answers=answers), teach, **parameters)
        if not isinstance(defended, TrainSetup):
            raise ValueError(f"expected a TrainSetup from the defence {self.name!r}; got {type(defended).__name__}")
        is_plain = defended.make_step is setup.make_step and defended.make_watch is setup.make_watch
        if len(setup.architecture.outputs) > 1 and not is_plain and not self.knows_exits:
            raise ValueError(
                f"the defence {self.name!r} has a training step or watch of its own and does not say EXITS = True, so "
                f"it trains no network with early exits; got one with {len(setup.architecture.outputs)} outputs"
            )
        return defended


def load_defence(name: str) -> Defence:
    """Load a defence.

    Raises:
        ValueError: If there is none of that name, or it needs what there is not.
    """
    found = Defence(
        name=name,
        defend=plugins.load(PACKAGE, name, "defend"),
        settings=plugins.find(PACKAGE, name, "PARAMETERS") or {},
        needs=tuple(plugins.find(PACKAGE, name, "NEEDS") or ()),
        check=plugins.find(PACKAGE, name, "check"),
        answers=plugins.find(PACKAGE, name, "answers"),
        knows_exits=plugins.find(PACKAGE, name, "EXITS"),
    )
    if more := [need for need in found.needs if need not in NEEDS]:
        raise ValueError(f"expected a defence that needs some of {list(NEEDS)}; {name!r} needs {more}")
    return found


def deployed_network(architecture: Architecture, defence: str, parameters: Params) -> Network:
    """Build what a candidate's weights are read into: its network with the answers of its defence, in train mode.

    Args:
        architecture: The candidate's.
        defence: Name of its defence.
        parameters: The defence's.

    Raises:
        ValueError: If there is no such defence, or its answers do not take these parameters.
    """
    loaded = load_defence(defence)
    try:
        if loaded.check is not None:
            loaded.check(**parameters)
        answers = None if loaded.answers is None else loaded.answers(**parameters)
    except TypeError:
        raise ValueError(f"expected the parameters of the defence {defence!r}; got {dict(parameters)}") from None
    return answering(build(architecture), answers)


def described(defence: str, parameters: Params) -> str:
    """Name a defence with its parameters.

    >>> described("none", {}), described("relaxloss", {"alpha": 0.123456})
    ('none', 'relaxloss (alpha 0.1235)')
    """
    values = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    ]
    return f"{defence} ({', '.join(values)})" if values else defence


def parted(reserve: Records) -> tuple[Records, Records]:
    """Part the reserve: records that a defence may learn from, and records that stay unknown to every network.

    Attacks take the second part for records of no network's training, and stay right whatever a defence did with the
    first. Equal records and groups stay together; the parts are the same in every process.
    """
    clusters = clusters_of(reserve.features, reserve.groups)
    first = np.isin(clusters, np.unique(clusters)[::2])
    return reserve.select(first), reserve.select(~first)
