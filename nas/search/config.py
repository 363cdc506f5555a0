"""The settings of one search, read from TOML, flags and defaults; unknown keys are refused."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated
from typing import Any
from typing import Self
from typing import TypeAlias

import tomlkit
from annotated_types import Ge
from annotated_types import Le
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from pydantic import AfterValidator
from pydantic import AllowInfNan
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import Discriminator
from pydantic import Field
from pydantic import PlainValidator
from pydantic import Strict
from pydantic import Tag
from pydantic import ValidationError
from pydantic import field_validator
from pydantic import model_validator

from nas.base import plugins
from nas.base import sizes
from nas.base.reading import read_toml
from nas.preprocessing.transforms import TRANSFORMS
from nas.records import LAYOUTS
from nas.records import Source
from nas.search import storage_url
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue

ENGINES = ("optuna", "nni", "nni-service")
TRAINING, TABLE = "training", "table"
EVALUATORS = (TRAINING, TABLE)
"""What a candidate's figures come from: its training and an attack, or a table of networks (`nas.search.tabulated`)."""
FOR_TRAINING = (
    "dataset", "test_path", "label_column", "group_column", "drop_columns", "layout", "record_shape", "image_size",
    "transform", "members", "attack", "defences", "defence_parameters", "teacher", "references", "recipe",
    "compressions", "error_ceiling", "engine", "fidelity", "inherit", "confirm",
)  # fmt: skip
"""Settings that are about records, trainings and attacks, which an evaluation by a table has not."""
PLUGINS = ("space", "dataset", "attack", "sampler")
"""Settings that name one plug-in each; `defence_parameters` sets those of defences by name."""
LISTS_OF_PLUGINS = ("defences", "compressions")
OFF, BY_RUNGS = "off", "rungs"
FIDELITIES = (OFF, BY_RUNGS)
"""Whether every candidate is trained to its end, or stopped where it is not among the best (`nas.search.rungs`)."""
PARENTS = "parents"
INHERITANCES = (OFF, PARENTS)
"""Whether every training starts from fresh weights, or from those of an earlier candidate (`nas.search.parents`)."""
EXITS = "exits"
"""The compression whose networks leave early."""
PUBLISHED = "networks"
"""In `like`: the networks of the space with published counts, which `nas list networks` has, in place of a run's."""
SUPERNET = "supernet"
"""In `like`: networks that a super-network is to find, in place of a run's (`nas.search.supernet`)."""
REFERENCE, TWIN = "reference", "twin"
"""Teachers that need no point of the space: the space's reference network, or each candidate's own."""
# How much work, how it is run and where the data lie may change when a study goes on; the rest decides the numbers
# (the data themselves are compared by their fingerprint).
MAY_CHANGE = frozenset({"trials", "confirm", "workers", "engine", "nni_config", "storage", "data_path", "test_path"})
# What settings were, of studies that a version without them started.
BEFORE: Mapping[str, Any] = {
    "device_limits": False,
    "error_ceiling": False,
    "transform": "none",
    "compressions": [],
    "set": {},
    "evaluator": TRAINING,
    "teacher": TWIN,
    "fidelity": OFF,
    "like": [],
    "inherit": OFF,
}
LONGEST_NAME = 1000
"""Characters of the name or path of a plug-in, a device or an objective."""
# Beyond it whole numbers and floats are not the same any more; no sampler draws from there.
MOST_WHOLE = 2**53
# A process and a network for each would be started at once.
MOST_WORKERS, MOST_REFERENCES = 1024, 1024
MOST_REPETITIONS = 100
"""Further trainings of one candidate; more would tell nothing new."""
# What a recipe's setting must be, by the type of the recipe's own value.
ALLOWED: Mapping[type, tuple[type | tuple[type, ...], str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "a name"),
}


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"expected a finite number; got {value!r}")
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise ValueError(f"expected a whole number of at most {MOST_WHOLE:,}; got {value}")
    return value


def _choice(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, a name, a list of them, or a table with low and high; got {value!r}")
    return _number(value)


def _parameter(value: object) -> object:
    if isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise ValueError(
            f"expected a number, a name, true or false, a list of them, or a table with low and high; got {value!r}"
        )
    return _number(value)


def _teacher(value: object) -> object:
    if value is None:
        return TWIN  # as earlier versions wrote it
    is_point = isinstance(value, Mapping) and all(isinstance(one, bool | int | float | str) for one in value.values())
    if value not in (REFERENCE, TWIN) and not is_point:
        raise ValueError(
            f"expected {REFERENCE!r}, {TWIN!r}, or a table with what differs from the space's reference; got {value!r}"
        )
    return value


def _form(value: object) -> str:
    """Tell how a setting is written, so that a mistake is reported once and not once for each form."""
    if isinstance(value, Mapping | Range):
        return "range"
    return "list" if isinstance(value, list) else "value"


Whole: TypeAlias = Annotated[int, Strict()]  # neither "3" nor true
Length: TypeAlias = Annotated[int, Strict(), Ge(1), Le(sizes.MOST_INPUTS)]
Number: TypeAlias = Annotated[int | float, PlainValidator(_number)]
Value: TypeAlias = Annotated[int | float | str, PlainValidator(_choice)]

Parameter: TypeAlias = Annotated[bool | int | float | str, PlainValidator(_parameter)]
FORMS = ("value", "range", "list")
"""Tags of the ways to write a setting, which pydantic puts into the place of a mistake."""


class Range(BaseModel):
    """Values between two ends, both included; whole numbers when both ends are, on a log scale if asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high; got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low > 0 on a log scale; got {self.low}")
        return self


Setting: TypeAlias = Annotated[
    Annotated[Value, Tag("value")]
    | Annotated[Range, Tag("range")]
    | Annotated[list[Value], Field(min_length=1), Tag("list")],
    Discriminator(_form),
]
Narrow: TypeAlias = Annotated[
    Annotated[Parameter, Tag("value")]
    | Annotated[Range, Tag("range")]
    | Annotated[list[Parameter], Field(min_length=1), Tag("list")],
    Discriminator(_form),
]
"""What the parameters of a space are narrowed to: one value, a list to choose from, or a range."""
Teacher: TypeAlias = Annotated[str | dict[str, ParamValue], PlainValidator(_teacher)]


class RecipeSettings(BaseModel):
    """Each part of the recipe: one value, a list to choose from, or a range to search.

    The range of epochs that is not set is widened where the members are few (`nas.search.steps`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: Setting = Range(low=10, high=40)
    learning_rate: Setting = Range(low=1e-3, high=1e-2, log=True)
    weight_decay: Setting = Range(low=1e-5, high=1e-1, log=True)
    dropout: Setting = Range(low=0.0, high=0.5)
    label_smoothing: Setting = Range(low=0.0, high=0.2)
    batch_size: Setting = 64
    optimizer: Setting = "adamw"
    augment: Setting = "none"
    class_weights: Setting = "none"
    pruning: Setting = "retrained"
    quantization: Setting = "trained"

    @model_validator(mode="after")
    def _each_value_is_a_recipe(self) -> Self:
        for field in fields(Recipe):
            kinds, expected = ALLOWED[type(field.default)]
            for value in extremes_of(getattr(self, field.name)):
                if not isinstance(value, kinds):
                    raise ValueError(f"expected {expected} for {field.name}; got {value!r}")
                values: dict[str, Any] = {field.name: value}
                Recipe(**values)
        return self

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions of what is searched."""
        named = ((field.name, getattr(self, field.name)) for field in fields(Recipe))
        return {name: distribution_of(setting) for name, setting in named if isinstance(setting, Range | list)}

    def recipe(self, params: Params) -> Recipe:
        """Return the recipe of a sampled point: its own values where searched, the fixed ones elsewhere."""
        values: dict[str, Any] = {}
        for field in fields(Recipe):
            setting = getattr(self, field.name)
            values[field.name] = params[field.name] if isinstance(setting, Range | list) else setting
        return Recipe(**values)

    def middle(self) -> Recipe:
        """Return the recipe in the middle of every range: the reference bank's and a fixed teacher's."""
        values: dict[str, Any] = {field.name: middle_of(getattr(self, field.name)) for field in fields(Recipe)}
        return Recipe(**values)


class SearchConfig(BaseModel):
    """One search.

    Attributes:
        name: Names the run's folder and the Optuna study; made of data set and space when not given.
        space: A file of `search_spaces`. Like a data set, an attack, a defence and a sampler, it may be a module of
            your own, by its dotted name or by the path of its file.
        compressions: Files of `search_spaces/compressions`: their parameters are searched beside the space's.
        set: What the space is narrowed to (`nas.search.narrowing`), by patterns over the names of its parameters: one
            value, a list to choose from, or a range; a pattern that matches no name is an ending, `bits` stands for
            `*_bits`, and the later of two that match wins.
        evaluator: `training`, or `table`: the figures of candidates are looked up and nothing is trained.
        dataset: A file of `nas/data`.
        data_path: Folder or file of the data, for data sets that do not come with a dependency; or the table.
        test_path: File or folder of the official test part, where it is apart from the rest.
        label_column: Column of a table that holds the class.
        group_column: Column (or npz array) whose equal values stay on one side, a person for instance.
        drop_columns: Columns of a table that are left out.
        layout: One of `nas.records.LAYOUTS`; None: found out, or refused if it could be several.
        record_shape: Shape of one record, such as `[1, 28, 28]`, where each is a row of numbers.
        image_size: Height and width that images of a folder are brought to; None: all have one size.
        transform: What bends the scale of a table's numbers, by constants of the members: none, log or quantile.
        members: Training records; as many others are attacked. None: three tenths of the data.
        device: A file of `estimators/devices`, or the path of your own.
        objectives: Metrics to minimise, or ends of their intervals: `leakage_high`.
        budgets: Upper limits by metric, or by end of its interval; cost limits are checked before training.
        device_limits: Whether the memory that the device's file says it has is a limit; no budget lifts it.
        error_ceiling: Whether a candidate that errs more often than the majority class, or twice as often as logistic
            regression, counts as over a limit; a budget on `error` takes its place.
        attack: A file of `estimators/leakage/attacks`.
        defences: Files of `nas/defences`; with several, the search chooses for each candidate. Names with a plus
            between them are a combination; `all` stands for every file but the masks, which change what is answered
            and not what is remembered.
        defence_parameters: By defence, its parameters: one value, a list to choose from, or a range to search, as in
            the recipe (`[defence_parameters.relaxloss]`, then `alpha = 0.5`); one left out is searched as the
            defence's file says.
        teacher: What distilled candidates learn from, uncompressed: `reference`, the space's reference network, trained
            once for all by the middle of the recipe; a point of the space, by what differs from the reference, in its
            place; or `twin`, each candidate's own network, trained by its own recipe: another training for each.
        references: Networks in the reference bank, an even number.
        recipe: How candidates are trained, searched with the architecture.
        trials: Networks to train; with rungs, as many epochs as so many networks have.
        fidelity: `off`, or `rungs`: trainings are stopped after a ninth and after a third of their epochs unless the
            candidate is among the best third there (`nas.search.rungs`).
        inherit: `off`, or `parents`: a training starts from the weights of the earlier candidate of the run that has
            most to give, where there is one (`nas.search.parents`).
        confirm: Further trainings, from other seeds, of each candidate on the front when the search ends
            (`nas.runs.confirm`); None: a tenth of `trials` in all, rounded up, for those that matter most; 0: none.
        seed: Fixes data split, sampling and every training.
        sampler: A file of `nas/search/samplers`; `auto` picks one when the search begins.
        like: Earlier runs of the same space, by name or folder, whose fronts are asked for first; `networks` stands for
            the published networks of the space, `supernet` for those that weights shared by many networks find.
        engine: One of `ENGINES`.
        nni_config: A YAML of NNI's experiment settings for `nni-service`, above all its training service; None: trials
            run on this machine.
        workers: Processes with one thread each; None: one for each core.
        storage: Optuna storage URL or path of a journal file; None: a journal file in the run's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    space: str = "conv"
    compressions: tuple[str, ...] = ()
    set: dict[Annotated[str, Field(min_length=1, max_length=200)], Narrow] = {}
    evaluator: str = TRAINING
    dataset: str = "digits"
    data_path: Path | None = None
    test_path: Path | None = None
    label_column: str = "label"
    group_column: str | None = None
    drop_columns: tuple[str, ...] | None = None
    layout: str | None = None
    record_shape: tuple[Length, ...] | None = Field(default=None, min_length=1, max_length=3)
    image_size: tuple[Length, Length] | None = None
    transform: str = "none"
    members: Whole | None = Field(default=None, ge=1, le=MOST_WHOLE)
    device: str = "stm32h747"
    objectives: tuple[str, ...] = ("error", "leakage", "latency_ms")
    budgets: dict[
        Annotated[str, Field(min_length=1, max_length=200)], Annotated[float, Strict(), AllowInfNan(False)]
    ] = {}
    device_limits: Annotated[bool, Strict()] = True
    error_ceiling: Annotated[bool, Strict()] = True
    attack: str = "lira_fitted"
    defences: tuple[str, ...] = ("none", "gecko")
    defence_parameters: dict[str, dict[str, Setting]] = {}
    teacher: Teacher = REFERENCE
    references: Whole = Field(default=8, ge=2, le=MOST_REFERENCES, multiple_of=2)
    recipe: RecipeSettings = Field(default_factory=RecipeSettings)
    trials: Whole = Field(default=24, ge=1, le=MOST_WHOLE)
    fidelity: str = OFF
    inherit: str = OFF
    confirm: Whole | None = Field(default=None, ge=0, le=MOST_REPETITIONS)
    seed: Whole = Field(default=0, ge=0)
    sampler: str = "tpe"
    like: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = ()
    engine: str = "optuna"
    nni_config: Path | None = None
    workers: Whole | None = Field(default=None, ge=1, le=MOST_WORKERS)
    storage: Annotated[str, Field(min_length=1), AfterValidator(storage_url.checked)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: dict[str, Any]) -> dict[str, Any]:
        source = TABLE if values.get("evaluator") == TABLE else values.get("dataset", "digits")
        space = values.get("space", "conv")
        # Not every name of a module is a good name of a folder.
        source, space = (plugins.short_name(str(name)) for name in (source, space))
        return {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", f"{source}-{space}").lstrip("._-") or "run", **values}

    @field_validator("defences", mode="before")
    @classmethod
    def _all_defences(cls, names: Any) -> Any:
        if names not in (["all"], ("all",)):
            return names
        # What a search estimates reads neither what a mask hides nor when an answer comes.
        masks = ("answers", "delay")
        found = plugins.available("nas.defences", "defend")
        return [name for name in found if not any(plugins.find("nas.defences", name, what) for what in masks)]

    @model_validator(mode="after")
    def _names_are_short(self) -> Self:
        named = (self.space, self.dataset, self.device, self.attack, self.sampler, *self.objectives, *self.defences)
        if long := [name for name in named if len(name) > LONGEST_NAME]:
            raise ValueError(f"expected names of at most {LONGEST_NAME} characters; got one of {len(long[0])}")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise ValueError(
                "expected a name of at most 100 letters, digits, dots, dashes and underscores, "
                f"the first a letter or digit; got {self.name!r}"
            )
        for what, value, known in (
            ("engine", self.engine, ENGINES),
            ("evaluator", self.evaluator, EVALUATORS),
            ("fidelity", self.fidelity, FIDELITIES),
            ("inherit", self.inherit, INHERITANCES),
            ("layout", self.layout or LAYOUTS[0], LAYOUTS),
            ("transform", self.transform, TRANSFORMS),
        ):
            if value not in known:
                raise ValueError(f"no {what} {value!r}; there are {list(known)}")
        if scaled := [pattern for pattern, value in self.set.items() if isinstance(value, Range) and value.log]:
            raise ValueError(
                f"expected ranges of low and high in set, on the space's own scale; got log of {scaled[0]!r}"
            )
        for what, names in (("objectives", self.objectives), ("defences", self.defences)):
            if not names or len(set(names)) != len(names):
                raise ValueError(f"expected at least one name in {what}, each once; got {list(names)}")
        for what, names in (("compressions", self.compressions), ("like", self.like)):
            if len(set(names)) != len(names):
                raise ValueError(f"expected each name once in {what}; got {list(names)}")
        if self.name in self.like:
            raise ValueError(f"expected other runs for like; got {self.name!r}, which is this one")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        known = type(self).model_fields
        default = {name: known[name].get_default(call_default_factory=True) for name in FOR_TRAINING}
        without_use = [name for name in FOR_TRAINING if getattr(self, name) != default[name]]
        if self.evaluator == TABLE and without_use:
            raise ValueError(
                f"expected settings that an evaluation by a table has a use for: it trains nothing; got {without_use}"
            )
        if self.fidelity == BY_RUNGS and self.engine != ENGINES[0]:
            raise ValueError(
                f"expected the engine {ENGINES[0]!r} for fidelity {BY_RUNGS!r}: NNI trains every candidate to its end; "
                f"got {self.engine!r}"
            )
        if self.inherit == PARENTS and self.engine != ENGINES[0]:
            raise ValueError(
                f"expected the engine {ENGINES[0]!r} for inherit {PARENTS!r}: a training under NNI does not see the "
                f"study; got {self.engine!r}"
            )
        if self.inherit == PARENTS and self.fidelity == BY_RUNGS:
            raise ValueError(
                f"expected fidelity {OFF!r} with inherit {PARENTS!r}: rungs compare trainings by the epochs they have "
                f"had, and inherited weights have had more; got {self.fidelity!r}"
            )
        if SUPERNET in self.like and (self.evaluator == TABLE or self.engine != ENGINES[0] or self.compressions):
            raise ValueError(
                f"expected the engine {ENGINES[0]!r}, trainings and no compressions for like {SUPERNET!r}; got engine "
                f"{self.engine!r}, evaluator {self.evaluator!r} and compressions {list(self.compressions)}"
            )
        return self

    def beside_the_space(self) -> dict[str, BaseDistribution]:
        """Return what is sampled of the recipe, and the defence if there are several; nothing without a training."""
        if self.evaluator == TABLE:
            return {}
        chosen = {"defence": CategoricalDistribution(self.defences)} if len(self.defences) > 1 else {}
        return {**self.recipe.distributions(), **chosen}

    @property
    def source(self) -> Source:
        """Where the records come from."""
        return Source(
            name=self.dataset,
            path=self.data_path,
            label_column=self.label_column,
            group_column=self.group_column,
            test_path=self.test_path,
            drop_columns=self.drop_columns or (),
            layout=self.layout,
            record_shape=self.record_shape,
            image_size=self.image_size,
        )


def nothing_trained(config: SearchConfig) -> ValueError:
    """Return what to raise where a run of trained candidates is needed, and a table gave the figures of this one."""
    return ValueError(
        f"expected a run whose candidates were trained; those of {config.name!r} were looked up in "
        f"{config.data_path}, so there are no records and no weights"
    )


def load_config(path: Path | None, flags: Mapping[str, Any]) -> SearchConfig:
    """Read a search's settings: defaults, then the file, then flags; the later wins.

    Args:
        path: A TOML file, or None.
        flags: Settings by name; None stands for a flag that was not given. `recipe`, `budgets` and `set` are merged
            key by key with the file's; keys of flags come after those of the file.

    Raises:
        ValueError: If the file cannot be read, a key is unknown or a value is not allowed; one line names them all.
    """
    values = _absolute(read_toml(path), path.parent) if path else {}
    for name, value in _absolute(flags, Path.cwd()).items():
        if isinstance(value, dict):
            in_file = values.get(name, {})
            if value and isinstance(in_file, dict):
                values[name] = {key: one for key, one in in_file.items() if key not in value} | value
        elif value is not None:
            values[name] = value
    return parse_config(values)


def modules_in(values: Mapping[str, Any]) -> list[str]:
    """List the modules of a user's own that settings name as plug-ins, by their dotted names or their paths.

    >>> modules_in({"space": "mlp", "attack": "my_company.attacks", "defences": ["none", "gecko+my.mask", "/own.py"]})
    ['my_company.attacks', 'my.mask', '/own.py']
    """
    named = [values.get(name) for name in PLUGINS]
    named += [name for names in LISTS_OF_PLUGINS for name in values.get(names) or ()]
    parts = [part for name in named if isinstance(name, str) for part in plugins.parts_of(name)]
    return [part for part in parts if "." in part]


def parse_config(values: Mapping[str, Any]) -> SearchConfig:
    """Check settings.

    Raises:
        ValueError: If a key is unknown or a value is not allowed; one line names them all.
    """
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_problem(SearchConfig, dict(item)) for item in error.errors())) from None


def stored_config(values: Mapping[str, Any]) -> SearchConfig:
    """Check the settings of a study; those that its version did not have are what they were then.

    Raises:
        ValueError: As `parse_config`.
    """
    return parse_config(_as_written_now(values))


def _as_written_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a study's version did not have, and write what it wrote otherwise."""
    values = {**BEFORE, **stored}
    return {**values, "teacher": TWIN} if values["teacher"] is None else values


def to_toml(config: SearchConfig) -> str:
    """Write a configuration as TOML that `load_config` reads back; None and the secrets of a URL are left out."""
    values = config.model_dump(mode="json", exclude_none=True)
    if config.storage is not None:
        values["storage"] = storage_url.redacted(config.storage)
    # Tables of their own come after all else, and of two patterns the later one wins.
    values["set"] = {pattern: _inline(value) for pattern, value in values["set"].items()}
    return tomlkit.dumps(values)


def _inline(value: Any) -> Any:
    """Write a table on one line."""
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def differences(ours: SearchConfig, stored: Mapping[str, Any]) -> list[str]:
    """List the settings that a study was started with and that differ now, as `name: was X, now Y`."""
    # A study from before a setting of the recipe was added was trained with its default.
    defaults = {f"recipe.{field.name}": field.default for field in fields(Recipe)}
    now, then = _flat(ours.model_dump(mode="json")), {**defaults, **_flat(_as_written_now(stored))}
    found = [
        f"{name}: was {then.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(now.keys() | then.keys())
        if now.get(name) != then.get(name) and name not in MAY_CHANGE
    ]
    # Of two patterns that match a parameter the later one wins.
    before, after = list({**BEFORE, **stored}["set"]), list(ours.set)
    reordered = sorted(before) == sorted(after) and before != after
    return [*found, *([f"order of set: was {before}, now {after}"] if reordered else [])]


def widened(ours: SearchConfig, stored: Mapping[str, Any]) -> list[str]:
    """List the settings that now allow all that a study was started with, and more: a longer list, a wider range."""
    now, then = _flat(ours.model_dump(mode="json")), _flat(stored)
    searched = ("recipe.", "defence_parameters.", "set.")
    choices = [name for name in now if name.startswith(searched) or name == "defences"]
    longer = [name for name in choices if name in then and _is_wider(now[name], then[name])]
    return sorted([*longer, *(name for name in then if name.startswith("set.") and name not in now)])


def _is_wider(now: Any, then: Any) -> bool:
    """Tell whether one setting (a value, a list, a range) holds all of another one, and is not the same.

    >>> _is_wider({"low": 5, "high": 40, "log": False}, {"low": 10, "high": 40, "log": False}), _is_wider([1, 2], 1)
    (True, True)
    >>> _is_wider([1, 2], [2, 3]), _is_wider(3, 3), _is_wider({"low": 5, "high": 9, "log": False}, 4)
    (False, False, False)
    """
    if now == then:
        return False
    if isinstance(now, Mapping):
        ends = extremes_of(Range(**then) if isinstance(then, Mapping) else then)
        return all(isinstance(end, int | float) and now["low"] <= end <= now["high"] for end in ends)
    return isinstance(now, list) and not isinstance(then, Mapping) and set(extremes_of(then)) <= set(now)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name the settings of a table (recipe, budgets, set, teacher, one defence's parameters) one by one."""
    flat = {}
    for name, value in values.items():
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, Mapping) else {name: value}
        flat.update(parts)
    return flat


def _absolute(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths among settings absolute: a copy is kept in the run's folder, where relative ones mean nothing."""

    def is_path(name: str, value: object) -> bool:
        if not isinstance(value, str | Path) or not str(value):
            return False
        text = str(value)
        if name == "storage":
            return not storage_url.is_database(storage_url.checked(text))
        return name in ("data_path", "test_path", "nni_config") or (name == "device" and text.endswith(".toml"))

    def full(value: Any) -> Any:
        return plugins.full_name(value, folder) if isinstance(value, str) else value

    values = dict(values)
    for name in PLUGINS:
        if name in values:
            values[name] = full(values[name])
    in_lists: dict[str, Callable[[Any], Any]] = dict.fromkeys(LISTS_OF_PLUGINS, full)
    in_lists["like"] = partial(_place_of, folder)
    for names, in_full in in_lists.items():
        if isinstance(found := values.get(names), list | tuple):
            values[names] = [in_full(value) for value in found]
    if isinstance(parameters := values.get("defence_parameters"), Mapping):
        values["defence_parameters"] = {full(name): value for name, value in parameters.items()}
    return {
        # os.path leaves a user that does not exist as it is; pathlib raises a RuntimeError.
        name: str((folder / os.path.expanduser(value)).resolve()) if is_path(name, value) else value  # noqa: PTH111
        for name, value in values.items()
    }


def _place_of(folder: Path, run: Any) -> Any:
    """Make the folder of a run absolute; a run's name stays as it is."""
    is_folder = isinstance(run, str) and os.sep in run and "\0" not in run
    return str((folder / os.path.expanduser(run)).resolve()) if is_folder else run  # noqa: PTH111 - as in `_absolute`


def _problem(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    """Put one of pydantic's findings into a line; an unknown key is answered with those that exist."""
    path = [str(part) for place, part in enumerate(item["loc"]) if place < 2 or part not in FORMS]
    name = ".".join(path)
    if item["type"] == "extra_forbidden":
        known = Range if path[0] in ("defence_parameters", "set") else (model, RecipeSettings, Range)[len(path) - 1]
        return f"no setting {name!r}; there are {sorted(known.model_fields)}"
    if item["type"] == "value_error":  # one of ours, which says what it got
        message = str(item["msg"]).removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    # What stands where a storage's URL should may hold a password.
    is_secret = path[0] == "storage" and item["input"]
    return f"{name}: {item['msg']}" + ("" if is_secret else f"; got {item['input']!r}")


def distribution_of(setting: Range | list[Value]) -> BaseDistribution:
    """Return the Optuna distribution of what is searched."""
    if isinstance(setting, list):
        return CategoricalDistribution(setting)
    if isinstance(setting.low, int) and isinstance(setting.high, int):
        return IntDistribution(setting.low, setting.high, log=setting.log)
    return FloatDistribution(float(setting.low), float(setting.high), log=setting.log)


def extremes_of(setting: Setting) -> list[Value]:
    """List the values between which all others lie: both ends, every choice, or the one value."""
    if isinstance(setting, Range):
        return [setting.low, setting.high]
    return setting if isinstance(setting, list) else [setting]


def middle_of(setting: Setting) -> Value:
    """Return the value in the middle, on a log scale where the range is."""
    if isinstance(setting, list):
        return setting[len(setting) // 2]
    if not isinstance(setting, Range):
        return setting
    middle = math.sqrt(setting.low * setting.high) if setting.log else (setting.low + setting.high) / 2
    return round(middle) if isinstance(setting.low, int) and isinstance(setting.high, int) else middle
