"""Resolve a configuration: every name, file and number is checked here, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from optuna.distributions import BaseDistribution

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.estimate import metric_of
from estimators.estimate import number_in
from nas.base import plugins
from nas.pricing.by_exit import MEAN_OF
from nas.pricing.by_exit import ByExit
from nas.pricing.by_exit import means_on
from nas.pricing.by_exit import price_by_exit
from nas.pricing.limits import BUDGET
from nas.pricing.limits import LOOK_BEYOND
from nas.pricing.limits import Limit
from nas.pricing.limits import budget_limits
from nas.pricing.limits import device_limits
from nas.pricing.limits import merged
from nas.pricing.limits import over
from nas.pricing.price import CostMetric
from nas.pricing.price import as_shipped
from nas.pricing.price import cost_metrics
from nas.pricing.price import screen
from nas.records import Splits
from nas.records import load_records
from nas.records import split
from nas.search.config import EXITS
from nas.search.config import SUPERNET
from nas.search.config import TABLE
from nas.search.config import TRAINING
from nas.search.config import TWIN
from nas.search.config import RecipeSettings
from nas.search.config import SearchConfig
from nas.search.config import nothing_trained
from nas.search.defence_settings import DefenceSettings
from nas.search.defence_settings import settings_of
from nas.search.narrowing import Narrowing
from nas.search.narrowing import narrow
from nas.search.steps import with_epochs
from nas.search.tabulated import Tabulated
from nas.search.tabulated import read_tabulated
from nas.spaces import as_run
from nas.spaces import compressible
from nas.spaces import sample
from nas.spaces import space_named
from nas.training.assess import Attack
from nas.training.assess import Candidate
from nas.training.assess import Widen
from nas.training.bank import BankSpec
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import ends_like
from nas.training.by_class import metric_named
from nas.training.defence import Defence
from nas.training.defence import load_defence
from nas.training.measures import MAY_BE_NEGATIVE
from nas.training.measures import MEASURED
from nas.training.recipe import Recipe
from nas.training.stages import settled
from nas.training.stages import uncompressed
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.precision import INTEGER_WIDTHS
from search_spaces.space import Distributions
from search_spaces.space import SearchSpace

# Random points priced before a search with cost budgets: a limit that none of them meets is called unreachable.
POINTS_PRICED = 1000


WOULD_HELP = {
    "pruning": "expected weights to remove, by --compress sparsity, or channels, by --compress channels",
    "quantization": "expected weights or tensors of fewer than 32 bits",
}
"""What a setting of the recipe that changes nothing needs."""


def _to_nobody(_trial: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A configuration with every name replaced by what it names.

    Attributes:
        config: The settings.
        folder: Where the run leaves its files.
        splits: The five record sets; None where a table gives the figures and nothing is trained.
        table: The table of an evaluation by one, else None.
        space: The search space for this data, of the networks as they run on the device (`nas.spaces.as_run`).
        narrowing: What is sampled of the space.
        device: The target.
        metrics: Cost metrics that apply to the device.
        attack: The membership attack.
        widen: What raises the upper end of the attack's interval; None for an attack that has none.
        needs_bank: Whether the attack uses reference networks.
        defences: The defences to choose from.
        defence_settings: The parameters of each defence, as values or as what is sampled.
        distributions: All that is sampled: the space's parameters as they are narrowed, the searched parts of the
            recipe, the defence, and the parameters of every defence as `defence.parameter`. Those of a defence that was
            not chosen are ignored.
        teacher: The network that distilled candidates learn from; None for each one's own, uncompressed.
        notice: Called with the number of each trial that this process begins to work on: who started the process then
            knows what it died of.
    """

    config: SearchConfig
    folder: Path
    splits: Splits | None
    table: Tabulated | None
    space: SearchSpace
    narrowing: Narrowing
    device: Device
    metrics: Mapping[str, CostMetric]
    attack: Attack
    widen: Widen | None
    needs_bank: bool
    defences: Mapping[str, Defence]
    defence_settings: Mapping[str, DefenceSettings]
    distributions: Distributions
    teacher: Candidate | None
    notice: Callable[[int], None] = _to_nobody

    @property
    def data(self) -> Splits:
        """The five record sets.

        Raises:
            ValueError: If the plan has none: a table gives its figures.
        """
        if self.splits is None:
            raise nothing_trained(self.config)
        return self.splits

    @property
    def fingerprint(self) -> str:
        """Names the records, or the table."""
        return self.table.fingerprint if self.table else self.data.fingerprint

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits known before any training: the user's budgets and the device's memory.

        The error's ceiling comes to them when the study is made (`nas.search.schema.limits_of`).
        """
        device = device_limits(self.device) if self.config.device_limits else ()
        return merged(budget_limits(self.config.budgets), device)

    @property
    def float_becomes_bits(self) -> int | None:
        """The width in which candidates are trained where the space has float; None: in float."""
        bits = self.device.float_becomes_bits
        return bits if bits in INTEGER_WIDTHS else None

    @property
    def timings(self) -> Path:
        """File of the wall time that each worker spent by phase, a line of JSON for each trial."""
        return self.folder / "timings.jsonl"

    @property
    def cache_folder(self) -> Path:
        """References and teachers, shared by all runs beside this one; their names are keys over what they hold."""
        return self.folder.parent / ".cache"

    @property
    def bank(self) -> BankSpec:
        """The study's reference networks: the space's small reference, trained by the recipe's middle."""
        architecture = self.space.decode(self.space.reference)
        config = self.config
        recipe = settled(config.recipe.middle(), architecture)
        return BankSpec(self.data, architecture, recipe, config.references, config.seed)

    def prices(self, architecture: Architecture) -> dict[str, Estimate]:
        """Price an architecture by all cost metrics of the plan's device, as it is shipped.

        Raises:
            CannotRun: If the device has no rule for an operator of it, or the plan's table has no row.
        """
        if self.table:
            self.table.figures(architecture.params)
        return screen(as_shipped(architecture, self.device), self.device, self.metrics)

    def by_exit(self, candidate: Candidate, records: Sequence[int]) -> ByExit | None:
        """Price a trained network by exit; None where no candidate of the plan has exits and no mean is asked for.

        Args:
            candidate: The network, and the defence that may hold its early answers back.
            records: How many validation records leave at each exit.
        """
        config, architecture = self.config, candidate.architecture
        asked = any(metric_of(name, MEAN_OF) for name in (*config.objectives, *config.budgets))
        if not asked and len(architecture.outputs) == 1 and EXITS not in config.compressions:
            return None
        defence = self.defences.get(candidate.defence)  # none where a table gives the figures
        delay = 0.0 if defence is None else defence.delay_at(candidate.defence_parameters)
        return price_by_exit(architecture, records, self.device, self.metrics, delay)

    def candidate(self, params: Params) -> Candidate:
        """Turn a sampled point into what is trained.

        Raises:
            ValueError: If the point does not belong to the space or makes no valid recipe.
        """
        architecture = self.space.decode({name: params[name] for name in self.space.distributions if name in params})
        if self.table:
            return Candidate(architecture, Recipe())
        defence = str(params["defence"] if "defence" in self.distributions else self.config.defences[0])
        parameters = self.defence_settings[defence].parameters(params)
        recipe = settled(self.config.recipe.recipe(params), architecture)
        return Candidate(architecture, recipe, defence, parameters)


def resolve(config: SearchConfig, runs: Path) -> Plan:
    """Load the data and look up every name of a configuration.

    Args:
        config: The settings.
        runs: Folder of all runs.

    Raises:
        ValueError: If a name is unknown, the data cannot be used, or a metric does not exist on the device.
    """
    plugins.load("search_spaces", config.space, "make_space")
    plugins.load("nas.search.samplers", config.sampler, "make_sampler")
    _check_shared(config)
    device = load_device(config.device)
    if config.evaluator == TABLE:
        return _of_table(config, runs, device)
    metrics = cost_metrics(device)
    _check_names(config, device, metrics, MEASURED)
    attack = plugins.load("estimators.leakage.attacks", config.attack, "attack")
    needs = plugins.load("estimators.leakage.attacks", config.attack, "NEEDS")
    needs_bank = "bank" in needs
    if more := [name for name in needs if name != "bank"]:
        raise ValueError(
            f"expected an attack that reads logits alone, with references or without: a search has nothing else; "
            f"{config.attack!r} needs {more} (nas audit has them)"
        )
    fewest = plugins.find("estimators.leakage.attacks", config.attack, "MIN_REFERENCES")
    if needs_bank and config.references < fewest:
        raise ValueError(
            f"expected at least {fewest} references for the attack {config.attack!r}; got {config.references}"
        )
    defences = {name: load_defence(name) for name in config.defences}
    defence_settings = settings_of(defences.values(), config.defence_parameters)
    records = load_records(config.source)
    networks = space_named(config.space, records.input_shape, records.num_classes)
    space = as_run(compressible(networks, config.compressions), device.float_becomes_bits)
    narrowing = narrow(space, config.set)
    # A signal, of height 1, is no image: run backwards in time, or cut at an end, it may be of another class.
    is_image = len(records.input_shape) == 3 and records.input_shape[1] > 1
    if any(name == "flip-crop" for name in _values(config.recipe.augment)) and not is_image:
        raise ValueError(f"expected images for augment='flip-crop'; {config.dataset} has shape {records.input_shape}")
    data = split(records, seed=config.seed, members=config.members, transform=config.transform)
    config = with_epochs(config, len(data.members))
    plan = Plan(
        config=config,
        folder=runs / config.name,
        splits=data,
        table=None,
        space=space,
        narrowing=narrowing,
        device=device,
        metrics=metrics,
        attack=attack,
        widen=plugins.find("estimators.leakage.attacks", config.attack, "widen"),
        needs_bank=needs_bank,
        defences=defences,
        defence_settings=defence_settings,
        distributions=_distributions(config, narrowing, defence_settings.values()),
        teacher=_teacher(config, space),
    )
    _check_classes(plan)
    _check_effects(plan)
    _check_delays(plan)
    _check_runs(plan)
    _check_budgets(plan)
    return plan


def _check_shared(config: SearchConfig) -> None:
    """Refuse a super-network of a space whose layers have no names.

    Raises:
        ValueError: If it is asked for.
    """
    if SUPERNET in config.like and plugins.find("search_spaces", config.space, "layer_names") is None:
        raise ValueError(
            f"expected a space whose networks share weights for like {SUPERNET!r}, one of "
            f"{plugins.available('search_spaces', 'layer_names')}; got {config.space!r}"
        )


def _teacher(config: SearchConfig, space: SearchSpace) -> Candidate | None:
    """Return the teacher of all candidates; None if each has its own."""
    if config.teacher == TWIN:
        return None
    point = config.teacher if isinstance(config.teacher, dict) else {}
    network = uncompressed(space.decode({**space.reference, **point}))
    return Candidate(network, settled(config.recipe.middle(), network))


def _of_table(config: SearchConfig, runs: Path, device: Device) -> Plan:
    """Make the plan of a search whose figures stand in a table.

    A column with a cost's name takes the place of the estimate: it is known before anything is looked up.

    Raises:
        ValueError: As `resolve`, and if the table cannot be read.
    """
    networks = space_named(config.space)
    table = read_tabulated(config.data_path, networks)
    costs = cost_metrics(device)
    measured = [name for name in table.columns if name not in costs]
    metrics = costs | {name: partial(table.cost, name) for name in table.columns if name in costs}
    _check_names(config, device, metrics, measured)
    space = as_run(networks, device.float_becomes_bits)
    narrowing = narrow(space, config.set)
    plan = Plan(
        config=config,
        folder=runs / config.name,
        splits=None,
        table=table,
        space=space,
        narrowing=narrowing,
        device=device,
        metrics=metrics,
        attack=plugins.load("estimators.leakage.attacks", config.attack, "attack"),
        widen=None,
        needs_bank=False,
        defences={},
        defence_settings={},
        distributions=_distributions(config, narrowing, ()),
        teacher=None,
    )
    _check_runs(plan)
    _check_budgets(plan)
    return plan


def _check_names(config: SearchConfig, device: Device, metrics: Collection[str], measured: Collection[str]) -> None:
    """Refuse objectives and budgets that no candidate has a number for, or can meet.

    Raises:
        ValueError: If a name is that of no metric and of no end of an interval, or a measure is to lie below 0. A cost
            that no candidate reaches is found by pricing some (`_check_budgets`).
    """
    by_training = config.evaluator == TRAINING
    known = [*measured, *metrics, *(means_on(metrics) if by_training else ())]
    of_classes = [f"{CLASS_ERROR}NAME"] if by_training else []
    for what, names in (("objective", config.objectives), ("budget", tuple(config.budgets))):
        by_class = [name for name in names if of_classes and name.startswith(CLASS_ERROR)]
        if unknown := [name for name in names if not (name in by_class or metric_named(name, known))]:
            raise ValueError(
                f"no {what} {unknown[0]!r} on {device.name} ({ends_like(unknown[0], known)}); "
                f"there are {[*sorted(known), *of_classes]}"
            )
    for name, limit in config.budgets.items():
        after_training = (set(MEASURED) - set(MAY_BE_NEGATIVE)) | set(MEAN_OF)
        is_measured = name.startswith(CLASS_ERROR) or metric_named(name, after_training)
        if is_measured and limit < 0:
            raise ValueError(f"expected a budget of 0 or more on {name!r}, which is never below 0; got {limit:g}")


def _check_classes(plan: Plan) -> None:
    """Refuse an objective or budget on the error of a class that the validation records do not have.

    Raises:
        ValueError: With the classes that there are.
    """
    validation = plan.data.validation
    there = [name for name, count in zip(validation.classes, validation.class_counts, strict=True) if count]
    for name in [*plan.config.objectives, *plan.config.budgets]:
        if name.startswith(CLASS_ERROR) and (wanted := name.removeprefix(CLASS_ERROR)) not in there:
            raise ValueError(f"no class {wanted!r} among the validation records, for {name!r}; there are {there[:20]}")


def _check_effects(plan: Plan) -> None:
    """Refuse a way to prune or to round that none of many random points of the narrowed space has a use for.

    Raises:
        ValueError: With the setting, and what would give it something to do.
    """
    recipe = plan.config.recipe
    asked = [(name, value) for name in WOULD_HELP for value in _values(getattr(recipe, name))]
    # One recipe for each setting that is not the default.
    left = {one: Recipe(**dict([one])) for one in asked if Recipe(**dict([one])) != Recipe()}  # type: ignore[arg-type]
    rng = np.random.default_rng(plan.config.seed)
    for _ in range(POINTS_PRICED):
        if not left:
            return
        architecture = plan.space.describe(sample(plan.narrowing.distributions, rng))
        left = {one: with_it for one, with_it in left.items() if settled(with_it, architecture) == Recipe()}
    if left:
        name, value = min(left)
        raise ValueError(f"{name} {value!r} changes no candidate of the {POINTS_PRICED} looked at: {WOULD_HELP[name]}")


def _check_delays(plan: Plan) -> None:
    """Refuse a defence that holds back early answers where none of many random points of the narrowed space has any.

    Raises:
        ValueError: With the defence, and what would give it something to do.
    """
    holding = [name for name, defence in plan.defences.items() if defence.delay is not None]
    rng = np.random.default_rng(plan.config.seed)
    points = (sample(plan.narrowing.distributions, rng) for _ in range(POINTS_PRICED if holding else 0))
    if holding and not any(len(plan.space.describe(point).outputs) > 1 for point in points):
        raise ValueError(
            f"the defence {holding[0]!r} holds back answers of early exits, and none of the {POINTS_PRICED} candidates "
            "looked at has an early exit: --compress exits gives networks some"
        )


def _check_runs(plan: Plan) -> None:
    """Refuse a device that none of many random points of the narrowed space runs on.

    Raises:
        ValueError: With what it has no rule for.
    """
    rng = np.random.default_rng(plan.config.seed)
    for _ in range(POINTS_PRICED):
        try:
            plan.prices(plan.space.describe(sample(plan.narrowing.distributions, rng)))
        except CannotRun as error:
            reason = error
        else:
            return
    raise ValueError(
        f"no candidate of the space {plan.space.name!r}{' as set' if plan.config.set else ''} runs on "
        f"{plan.device.name}: {POINTS_PRICED} screened; {reason}"
    )


def _check_budgets(plan: Plan) -> None:
    """Refuse cost limits that none of many random points of the narrowed space meets.

    Raises:
        ValueError: With the number screened and the smallest value seen of each limited metric.
    """
    base_of = {limit: metric_of(limit.metric, plan.metrics) for limit in plan.limits}
    limits = [limit for limit, base in base_of.items() if base]
    metrics = {base: plan.metrics[base] for base in base_of.values() if base}
    if not limits:
        return
    rng = np.random.default_rng(plan.config.seed)
    smallest = dict.fromkeys((limit.metric for limit in limits), float("inf"))
    for _ in range(POINTS_PRICED):
        architecture = as_shipped(plan.space.describe(sample(plan.narrowing.distributions, rng)), plan.device)
        try:
            numbers = flat({name: price(architecture, plan.device) for name, price in metrics.items()})
        except CannotRun:
            continue
        if not over(numbers, limits):
            return
        smallest = {name: min(value, number_in(numbers, name)) for name, value in smallest.items()}
    shown = [limit for limit in limits if limit.kind == BUDGET or smallest[limit.metric] > limit.value] or limits
    seen = ", ".join(f"smallest {limit.metric} {smallest[limit.metric]:.4g} ({_why(limit)})" for limit in shown)
    raise ValueError(f"no candidate meets the limits: {POINTS_PRICED} screened on {plan.device.name}, {seen}")


def _why(limit: Limit) -> str:
    flag = LOOK_BEYOND.get(limit.kind)
    return f"limit {limit.value:.4g}" + (f": {limit.reason}; {flag} looks beyond" if flag else "")


def _distributions(
    config: SearchConfig, narrowing: Narrowing, defences: Iterable[DefenceSettings]
) -> dict[str, BaseDistribution]:
    taken = [name for name in narrowing.distributions if name == "defence" or name in RecipeSettings.model_fields]
    if taken:
        raise ValueError(f"expected a space without parameters of the recipe's names, or 'defence'; it has {taken}")
    distributions = {**narrowing.distributions, **config.beside_the_space()}
    for settings in defences:
        distributions |= settings.distributions()
    return distributions


def _values(setting: object) -> list[object]:
    return setting if isinstance(setting, list) else [setting]
