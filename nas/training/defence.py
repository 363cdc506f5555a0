"""A defence by its name: its file's attributes, read once. The interface itself is described in `nas.defences`."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
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
from search_spaces.graph.architecture import ParamValue
from search_spaces.network import Network
from search_spaces.network import build

PACKAGE = "nas.defences"
NEEDS = ("reserve",)
"""What a defence may need beside the members."""
CHANGED: Mapping[str, str] = {
    "features": "the records",
    "targets": "the targets",
    "loss": "the loss",
    "make_step": "the training step",
    "make_watch": "what is done after each epoch",
    "batches": "the batches",
}
"""What a defence may change in a training, and what a message calls it."""


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
        keeps_loss: The file's `KEEPS_LOSS`: whether its own step follows the set-up's loss, whatever else it does.
        parts: The defences of a combination, in the order they act; empty for one of a file.
        delay: The file's `delay(**parameters)`: by how much the device holds back answers of early exits.
    """

    name: str
    defend: Callable[..., TrainSetup]
    settings: Mapping[str, Any]
    needs: tuple[str, ...]
    check: Callable[..., None] | None
    answers: Callable[..., nn.Module] | None
    knows_exits: bool = False
    keeps_loss: bool = False
    parts: tuple[Defence, ...] = ()
    delay: Callable[..., float] | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """What `defend` takes for parameters that it is not given, by name."""
        taken = inspect.signature(self.defend).parameters
        given = {name: taken[name].default for name in self.settings if name in taken}
        return {name: value for name, value in given.items() if value is not inspect.Parameter.empty}

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the file, or of the digests of a combination's parts."""
        if self.parts:
            return hashlib.sha256("+".join(part.digest for part in self.parts).encode()).hexdigest()
        return hashlib.sha256(Path(inspect.getfile(self.defend)).read_bytes()).hexdigest()

    def set_up(self, setup: TrainSetup, teach: Teach, parameters: Params) -> TrainSetup:
        """Turn a plain set-up into the defended one.

        Args:
            setup: The plain training, with records beside the members if the defence needs them.
            teach: What it may ask for teachers.
            parameters: One value for each of its parameters.

        Raises:
            ValueError: If the defence returns something else, or has a step or a watch of its own that does not know
                early exits, which the network has. As `delay_at`.
        """
        answers = None if self.answers is None else self.answers(**parameters)
        plain = replace(setup, answers=answers, delay=self.delay_at(parameters))
        defended = self.defend(plain, teach, **parameters)
        if not isinstance(defended, TrainSetup):
            raise ValueError(f"expected a TrainSetup from the defence {self.name!r}; got {type(defended).__name__}")
        is_plain = defended.make_step is setup.make_step and defended.make_watch is setup.make_watch
        if len(setup.architecture.outputs) > 1 and not is_plain and not self.knows_exits:
            raise ValueError(
                f"the defence {self.name!r} has a training step or watch of its own and does not say EXITS = True, so "
                f"it trains no network with early exits; got one with {len(setup.architecture.outputs)} outputs"
            )
        return defended

    def delay_at(self, parameters: Params) -> float:
        """Return by how much the device holds back answers of early exits (`nas.training.answers.answering`).

        Args:
            parameters: One value for each of its parameters.

        Raises:
            ValueError: If the file's `delay` gives no number from 0.
        """
        delay = 0.0 if self.delay is None else self.delay(**parameters)
        if not 0 <= delay < math.inf:
            raise ValueError(f"expected a delay from 0 of the defence {self.name!r}; got {delay}")
        return delay


def load_defence(name: str) -> Defence:
    """Load a defence, or a combination of several by their names with a plus between them.

    Raises:
        ValueError: If there is none of that name, or it needs what there is not.

    >>> load_defence("relaxloss+confidence_rounding").settings.keys()
    dict_keys(['relaxloss.alpha', 'confidence_rounding.digits'])
    """
    if len(names := plugins.parts_of(name)) > 1:
        return combination([load_defence(part) for part in names])
    found = Defence(
        name=name,
        defend=plugins.load(PACKAGE, name, "defend"),
        settings=plugins.find(PACKAGE, name, "PARAMETERS") or {},
        needs=tuple(plugins.find(PACKAGE, name, "NEEDS") or ()),
        check=plugins.find(PACKAGE, name, "check"),
        answers=plugins.find(PACKAGE, name, "answers"),
        knows_exits=plugins.find(PACKAGE, name, "EXITS"),
        keeps_loss=plugins.find(PACKAGE, name, "KEEPS_LOSS"),
        delay=plugins.find(PACKAGE, name, "delay"),
    )
    if more := [need for need in found.needs if need not in NEEDS]:
        raise ValueError(f"expected a defence that needs some of {list(NEEDS)}; {name!r} needs {more}")
    return found


def combination(parts: Sequence[Defence]) -> Defence:
    """Make one defence of several, which act one after the other; its parameters are named `defence.parameter`.

    Raises:
        ValueError: If a defence is there twice, two change the answers, or two hold them back. Whether they go together
            otherwise is known when a training is set up: `Defence.set_up` then refuses two that change the same thing,
            and a guarantee beside another defence that learns from the records.
    """
    names = [part.name for part in parts]
    masks = [part for part in parts if part.answers is not None]
    holding = [part for part in parts if part.delay is not None]
    if len(set(names)) < len(names):
        raise ValueError(f"expected each defence once in a combination; got {'+'.join(names)}")
    if len(masks) > 1:
        raise ValueError(f"expected one defence that changes the answers; got {masks[0].name!r} and {masks[1].name!r}")
    if len(holding) > 1:
        told = f"{holding[0].name!r} and {holding[1].name!r}"
        raise ValueError(f"expected one defence that holds back early answers; got {told}")

    def defend(setup: TrainSetup, teach: Teach, **parameters: ParamValue) -> TrainSetup:
        ready = _one_after_the_other(parts, setup, teach, parameters)
        return replace(ready, answers=setup.answers, delay=setup.delay)

    def check(**parameters: ParamValue) -> None:
        for part in parts:
            if part.check is not None:
                part.check(**_own(part, parameters))

    def answers(**parameters: ParamValue) -> nn.Module:
        made = masks[0].answers
        assert made is not None  # that makes it a mask
        return made(**_own(masks[0], parameters))

    def delay(**parameters: ParamValue) -> float:
        return holding[0].delay_at(_own(holding[0], parameters))

    return Defence(
        name="+".join(names),
        defend=defend,
        settings={f"{part.name}.{name}": setting for part in parts for name, setting in part.settings.items()},
        needs=tuple(dict.fromkeys(need for part in parts for need in part.needs)),
        check=check,
        answers=answers if masks else None,
        knows_exits=True,  # each part is asked when it acts
        parts=tuple(parts),
        delay=delay if holding else None,
    )


def _own(part: Defence, parameters: Params) -> dict[str, ParamValue]:
    """Return one part's parameters of a combination's."""
    return {name: parameters[f"{part.name}.{name}"] for name in part.settings}


def _one_after_the_other(parts: Sequence[Defence], setup: TrainSetup, teach: Teach, parameters: Params) -> TrainSetup:
    """Let each part change what the one before returned.

    Raises:
        ValueError: If two change the same thing, one would pass over what another one changed, or one states a
            guarantee and another one learns from the records.
    """
    changed: dict[str, str] = {}
    learning: dict[str, None] = {}
    guaranteeing: dict[str, None] = {}
    for part in parts:
        after = part.set_up(setup, _noting(teach, part.name, learning), _own(part, parameters))
        for what in _changes(setup, after):
            if what in changed:
                told = f"{changed[what]!r} and {part.name!r} both change {CHANGED[what]}"
                raise ValueError(f"expected defences that go together; {told}")
            changed[what] = part.name
        if len(after.features) < len(setup.features):  # which records are left may tell of them
            learning[part.name] = None
        if after.guarantee is not setup.guarantee:
            guaranteeing[part.name] = None
        setup = after
    stepping = next(
        (part.name for part in parts if part.name == changed.get("make_step") and not part.keeps_loss), None
    )
    for what in ("loss", "targets"):
        if stepping and changed.get(what, stepping) != stepping:
            told = f"{stepping!r} has a loss of its own, which would pass over {CHANGED[what]} of {changed[what]!r}"
            raise ValueError(f"expected defences that go together; {told}")
    if guaranteeing and (others := [name for name in (*changed.values(), *learning) if name not in guaranteeing]):
        raise ValueError(
            f"the guarantee of {next(iter(guaranteeing))!r} holds where nothing else learns from the records, and "
            f"{others[0]!r} does: they do not go together"
        )
    return setup


def _noting(teach: Teach, name: str, learning: dict[str, None]) -> Teach:
    """Note the name of a defence when it asks for a teacher."""

    def noted(setup: TrainSetup, *, rows: Tensor | None = None, about: Tensor | None = None) -> Tensor:
        learning[name] = None
        return teach(setup, rows=rows, about=about)

    return noted


def _changes(before: TrainSetup, after: TrainSetup) -> list[str]:
    """List what a defence changed of a training; to train on fewer of the same records changes none of them."""
    found = [what for what in CHANGED if getattr(after, what) is not getattr(before, what)]
    if len(after.features) < len(before.features):
        return [what for what in found if what not in ("features", "targets")]
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
        delay = loaded.delay_at(parameters)
    except TypeError:
        raise ValueError(f"expected the parameters of the defence {defence!r}; got {dict(parameters)}") from None
    return answering(build(architecture), answers, delay)


def parted(reserve: Records) -> tuple[Records, Records]:
    """Part the reserve: records that a defence may learn from, and records that stay unknown to every network.

    Attacks take the second part for records of no network's training, and stay right whatever a defence did with the
    first. Equal records and groups stay together; the parts are the same in every process.
    """
    clusters = clusters_of(reserve.features, reserve.groups)
    first = np.isin(clusters, np.unique(clusters)[::2])
    return reserve.select(first), reserve.select(~first)
