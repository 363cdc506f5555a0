"""The parameters of the defences that a search chooses from: fixed, or sampled as `defence.parameter`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import TypeAdapter
from pydantic import ValidationError

from nas.search.config import ALLOWED
from nas.search.config import Range
from nas.search.config import Setting
from nas.search.config import distribution_of
from nas.search.config import extremes_of
from nas.search.config import middle_of
from nas.training.defence import Defence
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue


@dataclass(frozen=True)
class DefenceSettings:
    """Each parameter of one defence: one value, a list to choose from, or a range to search.

    Attributes:
        defence: The defence's name.
        settings: By parameter.
        defaults: What the defence takes for a parameter that it is not given. At its default a parameter is left out,
            so that one that is added to a defence changes no key of candidates from before.
    """

    defence: str
    settings: Mapping[str, Setting]
    defaults: Mapping[str, ParamValue] = field(default_factory=dict)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions of what is searched, named `defence.parameter`."""
        return {
            self._sampled_as(name): distribution_of(setting)
            for name, setting in self.settings.items()
            if isinstance(setting, Range | list)
        }

    def parameters(self, params: Params) -> dict[str, ParamValue]:
        """Return the defence's parameters at a sampled point: its values where searched, the fixed ones elsewhere."""
        return self._told(
            {
                name: params[self._sampled_as(name)] if isinstance(setting, Range | list) else setting
                for name, setting in self.settings.items()
            }
        )

    def middle(self) -> dict[str, ParamValue]:
        """Return the parameters in the middle of every range."""
        return self._told({name: middle_of(setting) for name, setting in self.settings.items()})

    def strongest(self) -> dict[str, ParamValue]:
        """Return the last value of every list and range, where a defence's file puts its strongest."""
        return self._told({name: extremes_of(setting)[-1] for name, setting in self.settings.items()})

    def _told(self, values: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
        return {name: value for name, value in values.items() if (name, value) not in self.defaults.items()}

    def _sampled_as(self, parameter: str) -> str:
        return f"{self.defence}.{parameter}"


def settings_of(
    defences: Iterable[Defence], given: Mapping[str, Mapping[str, Setting]] | None = None
) -> dict[str, DefenceSettings]:
    """Put together what defences say of their parameters and what a user says, by defence; the user's wins.

    Args:
        defences: Those a search chooses from.
        given: The configuration's `defence_parameters`.

    Raises:
        ValueError: If the user names a defence or a parameter that there is not, or a value makes no sense.
    """
    given = given or {}
    found = {defence.name: _settings_of(defence, given.get(defence.name, {})) for defence in defences}
    if unknown := [name for name in given if name not in found]:
        raise ValueError(f"no defence {unknown[0]!r} in this search to set parameters of; there are {list(found)}")
    return found


def _settings_of(defence: Defence, given: Mapping[str, Setting]) -> DefenceSettings:
    own = {name: _parsed(defence, name, value) for name, value in defence.settings.items()}
    if unknown := [name for name in given if name not in own]:
        raise ValueError(f"no parameter {unknown[0]!r} of the defence {defence.name!r}; there are {sorted(own)}")
    for name, setting in given.items():
        kinds, expected = ALLOWED[_kind(own[name])]
        for value in extremes_of(setting):
            if not isinstance(value, kinds):
                raise ValueError(f"expected {expected} for {defence.name}.{name}; got {value!r}")
    settings = {**own, **given}
    if defence.check is not None:
        for values in itertools.product(*map(extremes_of, settings.values())):
            defence.check(**dict(zip(settings, values, strict=True)))
    return DefenceSettings(defence.name, settings, defence.defaults)


def _parsed(defence: Defence, name: str, value: Any) -> Setting:
    """Read what a defence's file says of a parameter.

    Raises:
        ValueError: If it is written in no form that a configuration knows.
    """
    try:
        parsed: Setting = TypeAdapter(Setting).validate_python(value)
    except ValidationError:
        raise ValueError(
            f"expected a value, a list or a range with low and high as {name!r} in the PARAMETERS of the defence "
            f"{defence.name!r}; got {value!r}"
        ) from None
    return parsed


def _kind(setting: Setting) -> type:
    """Tell what a parameter's values are: whole numbers only if all are."""
    kinds = {type(value) for value in extremes_of(setting)}
    return float if kinds == {int, float} else kinds.pop()
