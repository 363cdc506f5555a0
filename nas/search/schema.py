"""What a study of this program holds: checked when one is opened, because anyone may have written it.

A study is a file or a database that travels between people and machines. Everything that is read of it later is
checked here once: the settings and the task it was signed with, and of each trial its state, its parameters and what
was measured. Attributes that others added (notes of a dashboard) are left alone, unless they take the form of a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Annotated
from typing import Any
from typing import Self
from typing import TypeAlias

from annotated_types import Ge
from annotated_types import Le
from annotated_types import MaxLen
from annotated_types import MinLen
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import FiniteFloat
from pydantic import TypeAdapter
from pydantic import ValidationError
from pydantic import model_validator

from estimators.estimate import ENDS
from estimators.estimate import EXTRAPOLATED
from estimators.estimate import Estimate
from estimators.estimate import from_flat
from estimators.leakage.statistics.between_trainings import Spread
from nas.base import sizes
from nas.pricing.by_exit import MEAN_OF
from nas.pricing.limits import Limit
from nas.pricing.limits import budget_limits
from nas.search.config import MOST_WHOLE
from nas.search.config import SearchConfig
from nas.search.config import stored_config
from nas.training.baselines import Baseline
from nas.training.baselines import baseline_of
from nas.training.between import SPREAD_OF
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import metric_named
from nas.training.measures import MEASURED
from search_spaces.space import contains
from search_spaces.space import describe_distribution

CONFIG = "config"
TASK = "task"
ORIGIN = "origin"
FLOAT_BECOMES_BITS = "float_becomes_bits"
"""In a study's origin: the width in which its candidates were trained where the space has float; None: in float."""
DATA = "data"
LIMITS = "limits"
"""Attribute of a study: the limits that hold for its candidates, one for each metric (`nas.pricing.limits.Limit`)."""
MEMORY = "device_memory"
"""Attribute of a study: the limits that its device sets, whether or not the search was to keep them."""
BASELINES = "baselines"
"""Attribute of a study: what quick models reach on its records (`nas.training.baselines.Baseline`)."""
LISTS = TypeAdapter(list[Limit])
MOST_LISTED = 1000
"""Limits or baselines of one study."""
BETWEEN = "between_trainings"
"""Attribute of a study: how far trainings of one recipe lie apart, by measure, which its intervals hold (`Between`)."""
TRAINED_BY = "training_version"
"""In what `nas pick` writes: the training version of the study."""
BROKEN_OFF = "broken_off"
"""Attribute of a trial: a list with the reason of each training that broke off without a result."""
COMPRESSIONS = "compressions"
"""In what `nas pick` writes: the compressions that the search had, by name, dotted name or path."""
CAN_RUN = "can_run"
"""Constraint of candidates that have an operator or bits that the device has no rule for."""
CLASSES = "classes"
DEFENCE_PARAMETERS = "defence_parameters"
"""Attribute of a trial: its defence's parameters, fixed and sampled; absent where the defence has none."""
EXITS = "exits"
"""Attribute of a trained trial with early exits: a row for each exit (`nas.pricing.by_exit.ByExit.rows`)."""
NEVER_PREDICTED = "never_predicted"
"""Attribute of a trained trial: the classes of validation records that its network names for none; absent if none."""
SAMPLER = "sampler"
"""Attribute of a study whose sampler was picked when it began (`Picked`); absent where the settings name it."""
LIKE = "like"
"""Attribute of a study: what it was given of earlier runs and of published networks (`Like`); absent without any."""
GIVEN = "given_"
"""Starts the names of attributes of a study that end with the number of a trial: the point of that trial (`Given`)."""
IN_PLACE_OF = "in_place_of"
"""Attribute of a trial that a silent machine lost: number of the one that was to have its point first."""
RUNGS = ("rung_1", "rung_2")
"""Attributes of a trial: what its training gave at each rung that it reached (`Rung`; `nas.search.rungs`)."""
NEEDED = ("name", "space", "dataset", "objectives", "budgets", "attack", "defences", "seed")
"""Settings that are read of a study as they stand, without the defaults of the program that reads them."""
INHERITED = "inherited"
"""Attribute of a trial: whose weights its training started from, or why from fresh ones (`Inherited`); absent where the
search does not inherit."""
PREDICTED = {"error": "supernet_error", "leakage": "supernet_leakage"}
"""Attributes of a trial, by what they predict: what a super-network says of its network; no measure of it."""
WEIGHTS = "weights_sha256"
"""Attribute of a trained trial: the SHA-256 of the file with the weights that were measured."""
CONFIRMED = re.compile(r"confirmed_(\d{1,9})_(\d{1,9})")
"""Attributes of a study: what one more training of a candidate gave (`Repetition`), by its number and that of the
repetition, from 1. A trial that is complete cannot be written any more."""
TEST_ERROR = re.compile(r"test_error_(\d{1,9})")
"""Attributes of a study: the error of a candidate on test records (`OnTest`), by its number."""
Text: TypeAlias = Annotated[str, MinLen(1), MaxLen(200)]
KEY = re.compile(r"[0-9a-f]{16}")
TEXTS = ("rejected", "host", "failed", WEIGHTS)
PARAMETERS = TypeAdapter(dict[Text, bool | int | FiniteFloat | Text | None])
Count: TypeAlias = Annotated[int, Ge(0)]
Length: TypeAlias = Annotated[int, Ge(1), Le(sizes.MOST_INPUTS)]


class Task(BaseModel):
    """What a study was made for; a later version may say more.

    Attributes:
        input_shape: Shape of one record.
        num_classes: Length of the logits.
        id: Names the study.
        members: How many records candidates are trained on; None in studies of earlier versions.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    input_shape: Annotated[list[Length], MinLen(1), MaxLen(3)]
    num_classes: Annotated[int, Ge(2), Le(sizes.MOST_CLASSES)]
    id: Annotated[str, MinLen(1), MaxLen(200)]
    members: Annotated[int, Ge(1)] | None = None


class Origin(BaseModel):
    """What decided a study's numbers when it started (`nas.search.origin`); a later version may say more.

    Attributes:
        version: Training version, and PyTorch's.
        fingerprint: Names the data.
        device: Names the figures of the device's file.
        space: Names what the space offers; None in studies of earlier versions.
        float_becomes_bits: The width in which candidates were trained where the space has float; None: in float.
        prices: What each cost metric said of the space's reference network; a reason where it could not be priced.
        measures: What the attack and the statistics said of a made-up network.
        defences: What a tiny training with each defence gave.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    version: Text
    fingerprint: Text
    device: Text
    prices: dict[str, FiniteFloat | Text]
    measures: dict[str, FiniteFloat]
    defences: dict[str, list[FiniteFloat]]
    space: Text | None = None
    float_becomes_bits: Annotated[int, Ge(1), Le(32)] | None = None


class Data(BaseModel):
    """What became of a study's records (`nas.split_overview.Overview`); a later version may say more.

    Attributes:
        records: Records of the data set.
        sets: Records of each of the five sets.
        unused: Records without a role.
        duplicates: Records equal to an earlier one.
        groups: Different groups; None where the data have none.
        clusters: Sets of records that may not be divided.
        largest_cluster: Records of the largest of them.
        notes: Sentences for people.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    records: Count
    sets: dict[str, Count]
    unused: Count
    duplicates: Count
    groups: Count | None
    clusters: Count
    largest_cluster: Count
    notes: list[Annotated[str, MaxLen(2000)]]


class Classes(BaseModel):
    """The classes of a study's data, in the order of the logits; a later version may say more.

    Attributes:
        names: As in the data.
        members: Members of each.
        validation: Validation records of each.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    names: list[str]
    members: list[Annotated[int, Ge(0), Le(MOST_WHOLE)]]
    validation: list[Annotated[int, Ge(0), Le(MOST_WHOLE)]]


class Exit(BaseModel):
    """One exit of a trained network (`nas.pricing.by_exit.ByExit`); it has costs, and delays, beside these.

    Attributes:
        exit: Its number, from 0.
        records: Validation records that leave there.
        share: These as a share of all.
        latency_ms: What such a record costs; its interval comes beside it.
        macs: The same in multiply-accumulates.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, FiniteFloat | bool]
    exit: Count
    records: Count
    share: Annotated[FiniteFloat, Ge(0), Le(1)]
    latency_ms: Annotated[FiniteFloat, Ge(0)]
    macs: Annotated[FiniteFloat, Ge(0)]


class Rung(BaseModel):
    """What an unfinished training gave at a rung (`nas.search.rungs`); it has its objectives by name beside these.

    Attributes:
        epochs: Epochs that were done.
        of: Epochs of the whole training.
        place: Its place among those that had reached the rung, from 1, the best.
        among: How many had, it included.
        goes_on: Whether the training went on.
        error: As of then, on validation records.
        leakage: The same, of the attack that guides the search.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, FiniteFloat]
    epochs: Annotated[int, Ge(1), Le(MOST_WHOLE)]
    of: Annotated[int, Ge(1), Le(MOST_WHOLE)]
    place: Annotated[int, Ge(1), Le(MOST_WHOLE)]
    among: Annotated[int, Ge(1), Le(MOST_WHOLE)]
    goes_on: bool
    error: FiniteFloat
    leakage: FiniteFloat

    @model_validator(mode="after")
    def _before_the_end(self) -> Self:
        if not (self.epochs < self.of and self.place <= self.among):
            raise ValueError(f"expected epochs < of and place <= among; got {self}")
        return self


class Inherited(BaseModel):
    """What a training started from, in a search whose candidates inherit (`nas.search.parents`).

    Attributes:
        parent: Number of the candidate whose weights it started from; None: it started from fresh ones.
        because: Why it started from fresh ones; None if it did not.
        share: Which share of its weights came from the parent.
        epochs_seen: For how many epochs its weights have learned from the members, those of all its forebears included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    parent: Annotated[int, Ge(0), Le(MOST_WHOLE)] | None
    because: Text | None
    share: Annotated[FiniteFloat, Ge(0), Le(1)]
    epochs_seen: Annotated[int, Ge(1), Le(MOST_WHOLE)]

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.parent is None) == (self.because is None):
            raise ValueError(f"expected a parent, or a reason why there is none; got {self}")
        return self


class Between(BaseModel):
    """How far trainings lie apart in one measure (`Spread`, in `estimators`); a later version may say more.

    Attributes:
        share: Variance between trainings as a share of the sampling variance of the records.
        sd: Standard deviation between trainings of the references, in the measure's unit; 0 if nothing was learned.
        pairs: Pairs of references that it was learned from; 0 where the share is the usual one.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    share: Annotated[FiniteFloat, Ge(0)]
    sd: Annotated[FiniteFloat, Ge(0)]
    pairs: Count


class Repetition(BaseModel):
    """What one more training of a candidate gave, from another seed (`nas.runs.confirm`).

    Attributes:
        measures: What was measured, in the flat form; intervals are of the records alone. Empty if it diverged.
        diverged: What the training that diverged said; None if it did not.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    measures: dict[str, FiniteFloat | bool] = {}
    diverged: Text | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.diverged is None and not self.measures.keys() >= {"error", "leakage"}:
            raise ValueError(f"expected error and leakage, or how it diverged; got {sorted(self.measures)[:5]}")
        for name in _without(ENDS, self.measures):
            if not name.startswith(CLASS_ERROR):  # which have no ends: two classes may be called X and X_low
                from_flat(self.measures, name)  # raises where a number lies outside its interval
        return self


class OnTest(BaseModel):
    """The error of a candidate on test records, measured once (`nas.runs.on_test`).

    Attributes:
        error: Share misclassified.
        error_low: Lower end of its exact 95 % interval.
        error_high: Upper end.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    error: Annotated[FiniteFloat, Ge(0), Le(1)]
    error_low: Annotated[FiniteFloat, Ge(0), Le(1)]
    error_high: Annotated[FiniteFloat, Ge(0), Le(1)]

    @model_validator(mode="after")
    def _within_its_interval(self) -> Self:
        if not self.error_low <= self.error <= self.error_high:
            raise ValueError(f"expected the error within its interval; got {self}")
        return self


class Picked(BaseModel):
    """The sampler of a study that was to have one picked.

    Attributes:
        by: The sampler of the settings, which picked it.
        sampler: Its name.
        reason: Why this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    by: Text
    sampler: Text
    reason: Annotated[str, MaxLen(500)]


class Like(BaseModel):
    """What a study was given when it began.

    Attributes:
        given: How many trials, from the first, are given their points.
        lines: Sentences for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    given: Count
    lines: Annotated[list[Annotated[str, MaxLen(5000)]], MaxLen(MOST_LISTED)]


class Given(BaseModel):
    """A point that a candidate is given, in place of one that is sampled.

    Attributes:
        of: Where it is from: `RUN:NUMBER`, or the name of a published network.
        params: What is given of all that is sampled; the rest is drawn at random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    of: Text
    params: dict[str, bool | int | FiniteFloat | str | None]


def is_signed(attrs: Mapping[str, Any]) -> bool:
    """Tell whether a study was made by this program: it says so in its attributes."""
    return isinstance(attrs.get(CONFIG), dict) and isinstance(attrs.get(TASK), dict)


def check(name: str, attrs: Mapping[str, Any], objectives: int, trials: Sequence[FrozenTrial]) -> None:
    """Refuse a signed study whose content is not what this program writes.

    Args:
        name: Its name.
        attrs: Its user attributes.
        objectives: How many it minimises.
        trials: All of its trials.

    Raises:
        ValueError: With the part, what was expected and what it holds.
    """
    where = f"the study {name!r}"
    _check_task(attrs[TASK], where)
    if ORIGIN in attrs:  # not in studies from before there were training versions
        _check_part(Origin, attrs[ORIGIN], "a wrong origin", where)
    if DATA in attrs:
        _check_part(Data, attrs[DATA], "wrong data", where)
    if CLASSES in attrs:  # not in studies from before errors were measured by class
        _check_classes(attrs[CLASSES], attrs[TASK]["num_classes"], where)
    _check_between(attrs.get(BETWEEN, {}), where)  # not in studies whose intervals are of the records alone
    config = _config(attrs[CONFIG], where)
    _check_beginning(attrs, config, where)
    _check_lists(attrs, where)
    _check_later(attrs, trials, where)
    if config.name != name:  # it names the run's folder
        raise ValueError(f"expected {where} to have the settings of a run of this name; they are of {config.name!r}")
    if len(config.objectives) != objectives:
        raise ValueError(f"expected {len(config.objectives)} objectives of {where}; got {objectives}")
    needed = tuple(dict.fromkeys([*config.objectives, *(limit.metric for limit in limits_of(attrs))]))
    searched = config.beside_the_space()
    for number, trial in enumerate(trials):
        _check_trial(trial, number, config, needed, where)
        if trial.state == TrialState.COMPLETE:
            _check_params(trial, searched, f"trial {number} of {where}")


def limits_of(attrs: Mapping[str, Any]) -> tuple[Limit, ...]:
    """Return the limits that hold for a study's candidates; those of an earlier version have their budgets alone."""
    if LIMITS not in attrs:
        return budget_limits(attrs.get(CONFIG, {}).get("budgets", {}))
    return _limits(attrs[LIMITS])


def bits_of_float(attrs: Mapping[str, Any]) -> int | None:
    """Return the width in which a study's candidates were trained where their space has float; None: in float."""
    bits: int | None = attrs.get(ORIGIN, {}).get(FLOAT_BECOMES_BITS)
    return bits


def training_version_of(attrs: Mapping[str, Any]) -> int:
    """Return the training version that a study was started with; 0 for studies from before there were any."""
    noted = re.match(r"training version (\d{1,9})\b", attrs.get(ORIGIN, {}).get("version", ""))
    return int(noted[1]) if noted else 0


def memory_of(attrs: Mapping[str, Any]) -> tuple[Limit, ...] | None:
    """Return the limits that a study's device sets; None where an earlier version did not write them down."""
    return _limits(attrs[MEMORY]) if MEMORY in attrs else None


def baselines_of(attrs: Mapping[str, Any]) -> tuple[Baseline, ...]:
    """Return what quick models reach on a study's records; none where an earlier version did not train them."""
    return tuple(map(baseline_of, attrs.get(BASELINES, ())))


def inherited_in(attrs: Mapping[str, Any]) -> Inherited | None:
    """Return what the training of a trial started from; None where the search does not inherit."""
    return Inherited.model_validate(attrs[INHERITED]) if INHERITED in attrs else None


def spreads_in(attrs: Mapping[str, Any]) -> dict[str, Spread]:
    """Return how far trainings lie apart by measure, which a study's intervals hold; empty where they do not."""
    found = {name: Between.model_validate(row) for name, row in attrs.get(BETWEEN, {}).items()}
    return {name: Spread(one.share, one.sd, one.pairs) for name, one in found.items()}


def picked_in(attrs: Mapping[str, Any]) -> Picked | None:
    """Return the sampler that was picked for a study; None where its settings name it."""
    picked = Picked.model_validate(attrs[SAMPLER]) if SAMPLER in attrs else None
    # A process that died while it wrote down a study may have picked by other settings.
    return picked if picked and picked.by == attrs.get(CONFIG, {}).get("sampler") else None


def like_in(attrs: Mapping[str, Any]) -> Like | None:
    """Return what a study was given when it began; None without anything."""
    return Like.model_validate(attrs[LIKE]) if attrs.get(CONFIG, {}).get("like") else None


def given_to(attrs: Mapping[str, Any], trial: FrozenTrial | Trial) -> Given | None:
    """Return the point that a trial of a study is given; None for one that is sampled."""
    like, number = like_in(attrs), trial.user_attrs.get(IN_PLACE_OF, trial.number)
    return Given.model_validate(attrs[f"{GIVEN}{number}"]) if like and number < like.given else None


def repetitions_in(attrs: Mapping[str, Any]) -> dict[int, dict[int, Repetition]]:
    """Return what further trainings of a study's candidates gave, by their numbers and those of the repetitions."""
    found: dict[int, dict[int, Repetition]] = {}
    for name, row in attrs.items():
        if match := CONFIRMED.fullmatch(name):
            found.setdefault(int(match[1]), {})[int(match[2])] = Repetition.model_validate(row)
    return {number: dict(sorted(rows.items())) for number, rows in sorted(found.items())}


def errors_on_test(attrs: Mapping[str, Any]) -> dict[int, Estimate]:
    """Return the errors on test records of those candidates of a study whose error was looked at, by their numbers."""
    rows = {int(match[1]): row for name, row in attrs.items() if (match := TEST_ERROR.fullmatch(name))}
    errors = {number: OnTest.model_validate(rows[number]) for number in sorted(rows)}
    return {number: Estimate(one.error, one.error_low, one.error_high) for number, one in errors.items()}


def _limits(rows: Sequence[Mapping[str, Any]]) -> tuple[Limit, ...]:
    return tuple(LISTS.validate_python(rows))


def _check_lists(attrs: Mapping[str, Any], where: str) -> None:
    """Check limits and baselines, which are lists of tables."""
    for name, read in ((LIMITS, limits_of), (MEMORY, memory_of), (BASELINES, baselines_of)):
        rows = attrs.get(name, [])
        try:
            if not isinstance(rows, list) or len(rows) > MOST_LISTED:
                raise ValueError(f"expected a list of at most {MOST_LISTED}; got {str(rows)[:80]!r}")  # noqa: TRY301
            found = read(attrs)
        except ValidationError as error:
            problem = error.errors()[0]
            part = ".".join(map(str, problem["loc"]))
            message = f"{part}: {problem['msg']}; got {str(problem['input'])[:80]!r}"
            raise ValueError(f"{where} has wrong {name}: {message}") from None
        except ValueError as error:
            raise ValueError(f"{where} has wrong {name}: {error}") from None
        metrics = [limit.metric for limit in found or () if isinstance(limit, Limit)]
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"{where} has wrong {name}: expected one limit for each metric; got {metrics}")


def _check_task(task: Mapping[str, Any], where: str) -> None:
    _check_part(Task, task, "a wrong task", where)
    try:
        sizes.check_task(task["input_shape"], task["num_classes"])
    except ValueError as error:
        raise ValueError(f"{where} has a wrong task: {error}") from None


def _check_part(model: type[BaseModel], found: object, what: str, where: str) -> None:
    try:
        sizes.check_depth(found)
        model.model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        part = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{where} has {what}: {part}: {problem['msg']}; got {problem['input']!r}") from None
    except ValueError as error:
        raise ValueError(f"{where} has {what}: {error}") from None


def _check_classes(classes: object, expected: int, where: str) -> None:
    _check_part(Classes, classes, "wrong classes", where)
    found = Classes.model_validate(classes)
    counts = [len(set(found.names)), len(found.names), len(found.members), len(found.validation)]
    if set(counts) != {expected}:
        raise ValueError(
            f"{where} has wrong classes: expected {expected} different names and as many counts; got {counts[0]} "
            f"different of {counts[1]} names, {counts[2]} and {counts[3]} counts"
        )


def _check_between(found: object, where: str) -> None:
    if not isinstance(found, dict) or (found and not found.keys() >= set(SPREAD_OF.values())):
        names = sorted(set(SPREAD_OF.values()))
        raise ValueError(f"{where} has a wrong {BETWEEN}: expected a table with {names}; got {str(found)[:80]!r}")
    for name, row in found.items():
        _check_part(Between, row, f"a wrong {BETWEEN} of {str(name)[:80]!r}", where)


def _check_beginning(attrs: Mapping[str, Any], config: SearchConfig, where: str) -> None:
    """Check what was looked up when the study began: its sampler and the points that it was given."""
    if SAMPLER in attrs:
        _check_part(Picked, attrs[SAMPLER], f"a wrong {SAMPLER}", where)
    if not config.like:
        return
    _check_part(Like, attrs.get(LIKE), f"a wrong {LIKE}", where)
    for number in range(attrs[LIKE]["given"]):
        name = f"{GIVEN}{number}"
        _check_part(Given, attrs.get(name), f"a wrong {name}", where)


def _check_later(attrs: Mapping[str, Any], trials: Sequence[FrozenTrial], where: str) -> None:
    """Check what was added about trained candidates: further trainings and errors on test records."""
    for pattern, model in ((CONFIRMED, Repetition), (TEST_ERROR, OnTest)):
        for match in filter(None, map(pattern.fullmatch, attrs)):
            _check_part(model, attrs[match[0]], f"a wrong {match[0]}", where)
            number = int(match[1])
            is_trained = number < len(trials) and trials[number].state == TrialState.COMPLETE
            if not (is_trained and trials[number].user_attrs.keys() >= {"error", "leakage"}):
                raise ValueError(f"expected {match[0]!r} of {where} to be of a trained candidate; {number} is none")


def _config(config: Mapping[str, Any], where: str) -> SearchConfig:
    try:
        sizes.check_depth(config)
        if missing := [name for name in NEEDED if name not in config]:
            raise ValueError(f"missing {missing}")  # noqa: TRY301 - all that is wrong with the settings is said at once
        return stored_config(config)
    except ValueError as error:
        raise ValueError(f"{where} has wrong settings: {error}") from None


def _check_trial(trial: FrozenTrial, number: int, config: SearchConfig, needed: Sequence[str], where: str) -> None:
    where = f"trial {number} of {where}"
    attrs = trial.user_attrs
    if trial.number != number:
        raise ValueError(f"expected {where} to be numbered so; got {trial.number}")
    for name, value in attrs.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not _is_finite(value):
            raise ValueError(f"expected a finite number as {name!r} of {where}; got {str(value)[:40]}")
    for name in TEXTS:
        if not isinstance(attrs.get(name, ""), str):
            raise ValueError(f"expected a text as {name!r} of {where}; got {attrs[name]!r}")
    lost = attrs.get(IN_PLACE_OF, 0)
    if type(lost) is not int or lost < 0:
        raise ValueError(f"expected the number of a trial as {IN_PLACE_OF!r} of {where}; got {lost!r}")
    broken_off = attrs.get(BROKEN_OFF, [])
    if not (isinstance(broken_off, list) and all(isinstance(reason, str) for reason in broken_off)):
        raise ValueError(f"expected a list of texts as {BROKEN_OFF!r} of {where}; got {broken_off!r}")
    if "key" in attrs and not (isinstance(attrs["key"], str) and KEY.fullmatch(attrs["key"])):  # it names a file
        raise ValueError(f"expected sixteen hex digits as 'key' of {where}; got {attrs['key']!r}")
    _check_defence(trial, config, where)
    _check_rungs(trial, config, where)
    _check_inherited(trial, where)
    if trial.state == TrialState.COMPLETE:
        _check_complete(trial, config, needed, where)


def _check_defence(trial: FrozenTrial, config: SearchConfig, where: str) -> None:
    try:
        PARAMETERS.validate_python(trial.user_attrs.get(DEFENCE_PARAMETERS, {}))
    except ValidationError:
        raise ValueError(
            f"expected a table of numbers and names as {DEFENCE_PARAMETERS!r} of {where}; "
            f"got {str(trial.user_attrs[DEFENCE_PARAMETERS])[:80]!r}"
        ) from None
    if "defence" in trial.params and trial.params["defence"] not in config.defences:
        raise ValueError(f"no defence {trial.params['defence']!r}, of {where}; there are {list(config.defences)}")


def _check_rungs(trial: FrozenTrial, config: SearchConfig, where: str) -> None:
    for name in RUNGS:
        if name not in trial.user_attrs:
            continue
        row = trial.user_attrs[name]
        _check_part(Rung, row, f"a wrong {name}", where)
        if missing := [objective for objective in config.objectives if objective not in row]:
            raise ValueError(f"expected all objectives in {name!r} of {where}; missing: {missing}")


def _check_inherited(trial: FrozenTrial, where: str) -> None:
    """Check whose weights a training started from; a candidate's forebears were trained before it was."""
    if INHERITED not in trial.user_attrs:
        return
    _check_part(Inherited, trial.user_attrs[INHERITED], f"a wrong {INHERITED}", where)


def _check_complete(trial: FrozenTrial, config: SearchConfig, needed: Sequence[str], where: str) -> None:
    attrs = trial.user_attrs
    # An exact number has no ends: it stands for them.
    wanted = {name: metric_named(name, attrs) for name in ["key", *needed, *config.budgets]}
    if missing := [name for name, found in wanted.items() if found is None]:
        raise ValueError(f"expected all measures of {where}; missing: {missing}")
    # What is measured has grown with the versions: what a study has must be numbers, and an earlier one has less.
    by_class = {name for name in attrs if name.startswith(CLASS_ERROR)}
    numbers = {name for name in wanted.values() if name is not None} - {"key"}
    for name in numbers | attrs.keys() & {*MEASURED, *MEAN_OF} | by_class:
        if not _is_number(attrs[name]):
            raise ValueError(f"expected a number as {name!r} of {where}; got {attrs[name]!r}")
    for name in _without(ENDS, attrs) - by_class:  # which have no ends: two classes may be called X and X_low
        low, high = (attrs.get(f"{name}{end}") for end in ENDS)
        if (low, high) == (None, None):
            continue
        if not (all(map(_is_number, (low, attrs[name], high))) and low <= attrs[name] <= high):
            raise ValueError(f"expected {name!r} of {where} within its interval; got {low!r} to {high!r}")
    for name in _without((EXTRAPOLATED,), attrs) - by_class:
        if type(attrs.get(f"{name}{EXTRAPOLATED}", True)) is not bool:
            flag = attrs[f"{name}{EXTRAPOLATED}"]
            raise ValueError(f"expected true or false as '{name}{EXTRAPOLATED}' of {where}; got {flag!r}")
    _check_by_class(attrs, by_class, where)
    _check_exits(attrs.get(EXITS, []), where)
    values = trial.values or ()
    if len(values) != len(config.objectives) or not all(_is_number(value) and _is_finite(value) for value in values):
        raise ValueError(f"expected {len(config.objectives)} finite values of {where}; got {values}")


def _without(ends: Sequence[str], attrs: Mapping[str, Any]) -> set[str]:
    """Return the attributes that others are named after, with one of some ends beside: a study has a million of all."""
    return {base for name in attrs for end in ends if name.endswith(end) and (base := name[: -len(end)]) in attrs}


def _check_by_class(attrs: Mapping[str, Any], by_class: Iterable[str], where: str) -> None:
    for name in by_class:
        if not 0 <= attrs[name] <= 1:
            raise ValueError(f"expected a share as {name!r} of {where}; got {attrs[name]!r}")
    never = attrs.get(NEVER_PREDICTED, [])
    if not (isinstance(never, list) and all(type(label) is int and label >= 0 for label in never)):
        raise ValueError(f"expected a list of classes as {NEVER_PREDICTED!r} of {where}; got {never!r}")


def _check_exits(found: object, where: str) -> None:
    if not isinstance(found, list) or len(found) > MOST_LISTED:
        raise ValueError(f"expected a list of rows as {EXITS!r} of {where}; got {str(found)[:80]!r}")
    for row in found:
        _check_part(Exit, row, f"wrong {EXITS}", where)
    if [row["exit"] for row in found] != list(range(len(found))):
        raise ValueError(f"expected {EXITS!r} of {where} numbered from 0; got {[row['exit'] for row in found]}")


def _check_params(trial: FrozenTrial, searched: Mapping[str, BaseDistribution], where: str) -> None:
    """Check what was sampled of the recipe and the defence; the space's own parameters are checked when it decodes."""
    if missing := [name for name in searched if name not in trial.params]:
        raise ValueError(f"expected all parameters of {where}; missing: {missing}")
    for name, distribution in searched.items():
        if not contains(distribution, trial.params[name]):
            expected = describe_distribution(distribution)
            raise ValueError(f"expected {name!r} of {where} to be {expected}; got {trial.params[name]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    """Tell whether a float holds a number: integers may be longer than any."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
