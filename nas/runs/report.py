"""Describe the candidates of a study: rows for JSON, a table of the front, the card of a picked network."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial
from rich.table import Table

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.estimate import extrapolated_in
from estimators.estimate import from_flat
from estimators.estimate import plain
from estimators.leakage.statistics.between_trainings import wider
from nas.base import plugins
from nas.base.text import Row
from nas.base.text import heading
from nas.base.text import in_code
from nas.base.text import in_markdown
from nas.base.text import inline
from nas.base.text import plain_table
from nas.base.text import stacked
from nas.base.text import with_parameters
from nas.preprocessing.columns import Column
from nas.preprocessing.preprocessing import Preprocessing
from nas.pricing.by_exit import DELAYED
from nas.pricing.limits import LOOK_BEYOND
from nas.pricing.report import bits_of
from nas.pricing.report import compressions_of
from nas.pricing.report import extrapolated
from nas.runs import by_class
from nas.runs.confirmed import confirmed_of
from nas.runs.confirmed import luck
from nas.runs.confirmed import trainings_of
from nas.runs.front_and_knee import Choice
from nas.runs.front_and_knee import exceeded_by
from nas.runs.front_and_knee import is_metric
from nas.runs.front_and_knee import left_the_front
from nas.runs.front_and_knee import told
from nas.search import steps
from nas.search.config import BY_RUNGS
from nas.search.config import PARENTS
from nas.search.config import TABLE
from nas.search.config import stored_config
from nas.search.narrowing import described as described_set
from nas.search.schema import DEFENCE_PARAMETERS
from nas.search.schema import EXITS
from nas.search.schema import INHERITED
from nas.search.schema import baselines_of
from nas.search.schema import bits_of_float
from nas.search.schema import errors_on_test
from nas.search.schema import given_to
from nas.search.schema import inherited_in
from nas.search.schema import like_in
from nas.search.schema import limits_of
from nas.search.schema import memory_of
from nas.search.schema import picked_in
from nas.search.schema import spreads_in
from nas.search.schema import training_version_of
from nas.search.storage import CONFIG
from nas.search.storage import DATA
from nas.search.storage import TASK
from nas.spaces import as_run
from nas.spaces import compressible
from nas.spaces import space_named
from nas.spaces import with_ternary
from nas.split_overview import overview_in
from nas.training import certificate
from nas.training.baselines import Baseline
from nas.training.by_class import CLASS_ERROR
from nas.training.by_class import OF_CLASSES
from nas.training.by_class import metric_named
from nas.training.measures import MEASURED
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import SearchSpace

# Columns of the front's table, in this order, if the study has them. The JSON has all numbers.
COLUMNS = (
    "params",
    "error",
    "balanced_error",
    "rarest_class_error",
    "leakage",
    "latency_ms",
    "mean_latency_ms",
    "peak_ram_kib",
    "flash_kib",
    "macs",
    "energy_mj",
    "epsilon",
)
TIMES = "\N{MULTIPLICATION SIGN}"
"""Stands below the number of a confirmed candidate, before the number of its further trainings."""
# These are estimated from a sample of records, so the table shows their intervals.
WITH_INTERVAL = ("error", "balanced_error", "rarest_class_error", "leakage", "tpr_at_1pct_fpr", "loss_auc")


def space_of(study: optuna.Study) -> SearchSpace:
    """Return the space a study searched, of the networks as it trained them."""
    task, space = study.user_attrs[TASK], study.user_attrs[CONFIG]["space"]
    plugins.check_allowed(f"the study {study.study_name!r}", space)
    compressions = study.user_attrs[CONFIG].get("compressions", ())
    plugins.check_allowed(f"the study {study.study_name!r}", *compressions)
    found = space_named(space, tuple(task["input_shape"]), int(task["num_classes"]))
    return as_run(compressible(found, compressions), bits_of_float(study.user_attrs))


def architecture_of(study: optuna.Study, trial: FrozenTrial) -> Architecture:
    """Return the architecture of a trial."""
    space = space_of(study)
    params = {name: trial.params[name] for name in space.distributions if name in trial.params}
    return space.decode(with_ternary(params, training_version_of(study.user_attrs)))


def defence_of(study: optuna.Study, trial: FrozenTrial) -> str:
    """Return the defence of a trial."""
    return str(trial.params.get("defence", study.user_attrs[CONFIG]["defences"][0]))


def parameters_of(trial: FrozenTrial) -> dict[str, ParamValue]:
    """Return the parameters of the defence that a trial was trained with: fixed ones and sampled ones."""
    return dict(trial.user_attrs.get(DEFENCE_PARAMETERS, {}))


def row(study: optuna.Study, trial: FrozenTrial) -> Row:
    """Describe a trained candidate: its number, architecture, bits, and every measured number with its interval."""
    architecture = architecture_of(study, trial)
    config = stored_config(study.user_attrs[CONFIG])
    recipe = None if config.evaluator == TABLE else asdict(config.recipe.recipe(trial.params))
    return {
        "number": trial.number,
        "key": trial.user_attrs["key"],
        "architecture": dict(architecture.params),
        "bits": bits_of(architecture),
        "compressions": compressions_of(architecture),
        "recipe": recipe,
        "defence": defence_of(study, trial),
        "defence_parameters": parameters_of(trial),
        "inherited": trial.user_attrs.get(INHERITED),
        "confirmed": None if (found := confirmed_of(trial)) is None else found.row,
        "fits": fits(study, trial),
        "like": given.of if (given := given_to(study.user_attrs, trial)) else None,
        **{
            name: plain(value)
            for name, value in trial.user_attrs.items()
            if _is_number(value) and not name.startswith(CLASS_ERROR)
        },
        "extrapolated": extrapolated_in(trial.user_attrs),
        "by_class": by_class.errors_by_class(study, trial),
        "never_predicted": by_class.never_predicted(study, trial),
        "exits": list(trial.user_attrs.get(EXITS, [])),
    }


def how(study: optuna.Study) -> str:
    """Say in a word what gave the figures of a study's candidates."""
    return "looked up" if stored_config(study.user_attrs[CONFIG]).evaluator == TABLE else "trained"


def settings_lines(study: optuna.Study) -> list[str]:
    """Say what became of the records, for how long candidates are trained, what of the space, and within which limits.

    A study of an earlier version knows less.
    """
    members = study.user_attrs[TASK].get("members")
    config = stored_config(study.user_attrs[CONFIG])
    trained = [] if members is None else [steps.described(config, members)]
    if config.evaluator == TABLE:
        trained.append(f"figures are looked up in {config.data_path}; nothing is trained")
    if config.fidelity == BY_RUNGS:
        trained.append(
            "rungs: after 1/9 and 1/3 of its epochs a training goes on if it is among the best third there; networks "
            "that are trained in several stages, or pruned by safecompress, are trained to the end"
        )
    if config.inherit == PARENTS:
        trained.append(
            "parents: a training starts from the weights of an earlier candidate that can give half of them or more; "
            "they have seen the members for longer, and an audit trains the shadow models of all forebears too"
        )
    data = overview_in(study.user_attrs[DATA]).sentences if DATA in study.user_attrs else ()
    if config.set:
        trained.append(f"the space is narrowed: set {', '.join(described_set(*item) for item in config.set.items())}")
    if picked := picked_in(study.user_attrs):
        trained.append(f"sampler {picked.sampler}, picked by {picked.by}: {picked.reason}")
    if like := like_in(study.user_attrs):
        trained += like.lines
    bits, device = bits_of_float(study.user_attrs), study.user_attrs[CONFIG].get("device")
    if bits is not None:
        trained.append(f"what is in float is trained and measured in {bits} bits, as {device} runs it")
    return [*data, *trained, *(limit.line for limit in limits_of(study.user_attrs))]


def fits(study: optuna.Study, trial: FrozenTrial) -> bool | None:
    """Tell whether a candidate fits into its device's memory; None where the study does not say what the device has."""
    memory = memory_of(study.user_attrs)
    return None if memory is None else not exceeded_by(study, trial, memory)


def misfit_lines(study: optuna.Study, trials: Iterable[FrozenTrial]) -> list[str]:
    """Name the candidates that do not fit into their device's memory."""
    memory = memory_of(study.user_attrs) or ()
    return [
        f"candidate {trial.number} does not fit: {', '.join(told(study, trial, memory))}"
        for trial in trials
        if exceeded_by(study, trial, memory)
    ]


def extrapolated_lines(study: optuna.Study, trials: Iterable[FrozenTrial]) -> list[str]:
    """Explain the `*` in the table of candidates, where one has an extrapolated number."""
    if not any(extrapolated_in(trial.user_attrs) for trial in trials):
        return []
    name = study.user_attrs[CONFIG].get("device", "")
    with suppress(ValueError, OSError):  # the file of a device of somebody's own need not be here
        return extrapolated(load_device(name))
    return extrapolated(None)


def nothing_within(study: optuna.Study, ordered: Sequence[FrozenTrial]) -> str:
    """Say that no trained candidate meets a study's limits, which ones all exceed, and what can be done.

    Args:
        study: Where candidates were trained and none is within the limits.
        ordered: All of them, the nearest first.
    """
    limits = limits_of(study.user_attrs)
    by_all = [limit for limit in limits if all(limit in exceeded_by(study, trial, limits) for trial in ordered)]
    over = exceeded_by(study, ordered[0], limits)
    values = ", ".join(told(study, ordered[0], limits))
    ways = dict.fromkeys(LOOK_BEYOND.get(limit.kind, f"--max {limit.metric}=NUMBER") for limit in over)
    what = f"all exceed {' and '.join(limit.bare for limit in by_all)}" if by_all else "each exceeds one or more"
    return (
        f"none of the {len(ordered)} trained candidates meets the limits: {what}; nearest is candidate "
        f"{ordered[0].number}: {values}. More trials, epochs or another space may help; "
        f"nas pick takes one all the same with {' and '.join(ways)}"
    )


def between_lines(study: optuna.Study, *, at_hand: bool = True) -> list[str]:
    """Say what the intervals of error and leakage are for; nothing where an earlier version did not learn it.

    Args:
        study: The study.
        at_hand: Whether to say how wide they are for the network at hand; those of a confirmed candidate are of others.
    """
    spreads = spreads_in(study.user_attrs)
    if not spreads:
        return []
    error, leakage = spreads["error"], spreads["leakage"]
    known = (
        f"trainings of one recipe differ by a standard deviation of {leakage.sd:.3f} in leakage and {error.sd:.3f} in "
        f"error ({leakage.pairs} pairs of references)"
        if leakage.pairs
        else "how far trainings of one recipe differ is not known here: it counts as much as the records"
    )
    meant = "intervals of error and leakage hold this: they are for a network trained anew by a candidate's recipe"
    if not at_hand:
        return [known, meant]
    by_leakage, by_error = (f"{wider(spread.share):.2g} times" for spread in (leakage, error))
    return [known, meant, f"for the network at hand: {by_leakage} narrower of the leakage, {by_error} of the error"]


def confirmed_lines(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[str]:
    """Say which candidates are confirmed, what that means, and what it changed.

    Args:
        study: The study.
        trials: Some of the candidates on its front, or a picked one.
    """
    if stored_config(study.user_attrs[CONFIG]).evaluator == TABLE:
        return []
    confirmed = [trial for trial in trials if trainings_of(trial)]
    others = ", ".join(str(trial.number) for trial in trials if not trainings_of(trial))
    lines = []
    if confirmed:
        lines.append(f"{TIMES}N: what is measured is the mean of N further trainings, without the one it was chosen by")
        more = {name: f"{value:+.3f}" for name, value in luck(confirmed).items()}
        lines.append(
            f"against the first training, mean error {more['error']} and mean leakage {more['leakage']}, averaged over "
            f"{len(confirmed)} confirmed"
        )
    if others:
        who = f"not confirmed: {others}" if confirmed else "not confirmed: all"
        lines.append(
            f"{who}; they were chosen by the one training behind their numbers, which are too low on average "
            f"(nas confirm {study.study_name})"
        )
    return lines + [
        f"candidate {trial.number}: {found.diverged} of {found.diverged + found.trainings} further trainings diverged"
        for trial in trials
        if (found := confirmed_of(trial)) is not None and found.diverged
    ]


def left_lines(study: optuna.Study) -> list[str]:
    """Say which candidates left the front when they were trained again, and why."""
    return [f"candidate {number} left the front: {why}" for number, why in left_the_front(study).items()]


def on_test_lines(study: optuna.Study, number: int) -> list[str]:
    """Say what a candidate errs on test records, and of how many candidates of the run somebody knows that."""
    known = errors_on_test(study.user_attrs)
    if number not in known:
        return []
    told = f"error on test records: {inline(known[number])}, of the weights of the pick, measured once"
    if len(known) == 1:
        return [told]
    seen = f"known of {len(known)} candidates of this run ({', '.join(map(str, known))})"
    return [told, f"it is {seen}: the lowest of several is too low, so choose by it no more"]


def between_cautions(study: optuna.Study, choice: Choice) -> list[str]:
    """Say what a confidence in a limit does not hold, a line each."""
    if spreads_in(study.user_attrs) or all(limit.confidence is None for limit in choice.limits):
        return []
    said = (
        "the intervals of this run do not hold what trainings vary by, because an earlier version began it: a "
        "network trained anew is over a limit more often than the confidence says"
    )
    return [said]


def baseline_table(baselines: Sequence[Baseline]) -> Table:
    """Lay out what quick models reach on a search's members, as the front's table shows candidates."""
    table = plain_table("baseline", "error", "loss AUC", "members", title="scikit-learn on the same members")
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for baseline in baselines:
        table.add_row(baseline.name, inline(baseline.error), inline(baseline.loss_auc), f"{baseline.members:,}")
    return table


@dataclass(frozen=True, slots=True)
class Shown:
    """A candidate in a table of candidates.

    Attributes:
        study: Its study.
        trial: Its trial.
        name: What it is called there.
    """

    study: optuna.Study
    trial: FrozenTrial
    name: str


def front_table(study: optuna.Study, trials: Iterable[FrozenTrial]) -> Table:
    """Lay out candidates of a study by their numbers, as `candidate_table`."""
    return candidate_table([study], [Shown(study, trial, str(trial.number)) for trial in trials])


def candidate_table(studies: Sequence[optuna.Study], shown: Sequence[Shown]) -> Table:
    """Lay out candidates on two lines each: values with their intervals below, weight bits with tensor bits below.

    The errors that count each class the same stand in the table of imbalanced data, and where somebody asked for them.
    A cost has its interval where it is extrapolated, and where an end of it is an objective or a budget.

    Args:
        studies: The studies that they are of.
        shown: The candidates.
    """
    is_imbalanced = any(map(by_class.is_imbalanced, studies))
    columns = COLUMNS if is_imbalanced else [name for name in COLUMNS if name not in OF_CLASSES]
    measured = [name for name in columns if any(name in one.trial.user_attrs for one in shown)]
    configs = [study.user_attrs[CONFIG] for study in studies]
    known = [name for name in shown[0].trial.user_attrs if is_metric(shown[0].trial, name)] if shown else []
    asked = [name for config in configs for name in [*config["objectives"], *config["budgets"]]]
    wanted = {name: metric_named(name, known) or name for name in asked}
    by_end = {metric for name, metric in wanted.items() if metric != name}
    names = list(dict.fromkeys([*measured, *wanted.values()]))
    table = plain_table("no.", *map(heading, names), "bits", "defence")
    for column in table.columns[: len(names) + 1]:
        column.justify = "right"
        column.no_wrap = True
    table.columns[-1].no_wrap = True  # the bits may be broken at their spaces, a name may not
    for one in shown:
        study, trial = one.study, one.trial
        cells = [_cell(study, trial, name, with_interval=name in by_end) for name in names]
        architecture = architecture_of(study, trial)
        bits = "\n".join([bits_of(architecture).replace(" A ", "\nA "), *compressions_of(architecture)])
        # A long name stands in two lines, as its parameters stand below it: the table has to fit a terminal.
        name = "+".join(map(plugins.short_name, plugins.parts_of(defence_of(study, trial))))
        defence = with_parameters(name, parameters_of(trial)).replace("_", "_\n", 1).replace(" (", "\n(")
        again = trainings_of(trial)
        number = f"{one.name}\n{TIMES}{again}" if again else one.name
        table.add_row(number, *cells, bits, defence)
    return table


def card(study: optuna.Study, choice: Choice, device: str) -> str:
    """Write the card of a picked network, in Markdown."""
    trial = choice.trial
    config = study.user_attrs[CONFIG]
    facts = row(study, trial)
    defence = with_parameters(facts["defence"], facts["defence_parameters"])
    guarantee, opened = certificate.stated(trial.user_attrs), on_test_lines(study, trial.number)
    # A card goes out with the network, and whoever knows the seed of a private training can take its noise off.
    seed = "its seed kept in the study" if guarantee else f"seed {config['seed']}"
    lines = [
        f"# Candidate {trial.number} of {study.study_name}",
        "",
        f"Reason for the choice: {in_markdown(choice.reason)}.",
        "",
        f"- candidate `{facts['key']}` of the space {in_code(config['space'])}, "
        + ", ".join([f"bits {facts['bits']}", *facts["compressions"]]),
        f"- trained on {in_code(config['dataset'])} with the defence {in_code(defence)}, {seed}",
        *_started_from(trial),
        f"- costs are estimates for the device {in_code(device)}",
        *_memory_lines(study, trial),
        *(f"- {in_markdown(limit.line)}" for limit in choice.limits),
        "",
        "| metric | value | interval |",
        "|---|---|---|",
    ]
    for name in [*MEASURED, *(name for name in facts if name not in MEASURED)]:
        if name in trial.user_attrs and is_metric(trial, name) and not name.startswith(CLASS_ERROR):
            number = from_flat(trial.user_attrs, name)
            interval = "counted" if number.low == number.high else f"{number.low:.4g} to {number.high:.4g}"
            interval += ", extrapolated" if number.extrapolated else ""
            lines.append(f"| {in_markdown(name)} | {number.value:.6g} | {interval} |")
    lines += _trainings(trial)
    lines += _exits(trial)
    lines += _classes(study, trial)
    lines += certificate.markdown(guarantee)
    lines += [
        "",
        "`leakage` is the AUC of the membership attack that guided the search, a proxy that ranks candidates. The",
        "lowest of many noisy values is too low on average, and a single one may be too high. It is not an audit: run",
        "`nas audit` before you quote the leakage of a release. `error` is measured on validation records;",
        "by which candidates were chosen." if opened else "the test records were not used.",
        "",
        *(f"- {line}" for line in opened),
        *(f"- {line}" for line in between_lines(study, at_hand=not trainings_of(trial))),
        "",
        *_baseline_lines(baselines_of(study.user_attrs)),
    ]
    return "\n".join(lines)


def _trainings(trial: FrozenTrial) -> list[str]:
    """Write the part of a card that says which trainings its numbers are of."""
    found = confirmed_of(trial)
    if found is None or not found.trainings:
        return [
            "",
            "**Not confirmed**: what is measured is of the one training that the candidate was chosen by, which is too",
            "low on average. `nas confirm` trains it again.",
        ]
    lines = [
        "",
        f"**Confirmed**: what is measured is the mean of {found.trainings} further trainings from other seeds. The",
        "weights beside this card are of the first one, which the candidate was chosen by and the mean leaves out.",
        "",
        "| measure | first training | further trainings | mean | interval of the mean |",
        "|---|---|---|---|---|",
    ]
    for name in ("error", "leakage"):
        one = found.measures[name]
        values = ", ".join(f"{value:.4g}" for value in one.values)
        interval = f"{one.mean.low:.4g} to {one.mean.high:.4g}"
        lines.append(f"| {name} | {one.first:.4g} | {values} | {one.mean.value:.4g} | {interval} |")
    return [*lines, *(["", f"{found.diverged} more diverged."] if found.diverged else [])]


def _started_from(trial: FrozenTrial) -> list[str]:
    found = inherited_in(trial.user_attrs)
    if found is None:
        return []
    if found.parent is None:
        return [f"- training started from fresh weights: {in_markdown(found.because or '')}"]
    seen = f"they have learned from the members for {found.epochs_seen} epochs in all"
    return [f"- training started from candidate {found.parent}, which gave {found.share:.0%} of the weights: {seen}"]


def _memory_lines(study: optuna.Study, trial: FrozenTrial) -> list[str]:
    memory = memory_of(study.user_attrs)
    if not memory:  # not known, or no limit
        return []
    over = [in_markdown(line) for line in told(study, trial, memory)]
    return [f"- **does not fit the device**: {', '.join(over)}" if over else "- fits into the device's memory"]


def _baseline_lines(baselines: Sequence[Baseline]) -> list[str]:
    if not baselines:
        return []
    rows = [f"| {in_markdown(one.name)} | {inline(one.error)} | {inline(one.loss_auc)} |" for one in baselines]
    about = "For comparison, scikit-learn's quick models on the same members (`loss_auc` of the network is above):"
    return [about, "", "| baseline | error | loss AUC |", "|---|---|---|", *rows, ""]


def exit_line(trial: FrozenTrial) -> str:
    """Say where the validation records leave a candidate with early exits; nothing of one without."""
    rows = trial.user_attrs.get(EXITS, [])
    told = [f"{row['share']:.0%} at exit {row['exit']} ({row['latency_ms']:.4g} ms{_held_back(row)})" for row in rows]
    if not told:
        return ""
    return f"validation records leave candidate {trial.number}: {', '.join(told)}; costs are those of all exits"


def _held_back(row: Row) -> str:
    return f", answered after {row[DELAYED]:.4g} ms" if DELAYED in row else ""


def _exits(trial: FrozenTrial) -> list[str]:
    """Write the part of a card that is about early exits."""
    rows = trial.user_attrs.get(EXITS, [])
    if not rows:
        return []
    held = DELAYED in rows[0]
    more = f" {DELAYED} |" if held else ""
    lines = ["", f"| exit | validation records | share | latency_ms | interval | macs |{more}"]
    lines.append("|---|---|---|---|---|---|" + ("---|" if held else ""))
    for row in rows:
        latency = from_flat(row, "latency_ms")
        interval = f"{latency.low:.4g} to {latency.high:.4g}"
        cells = [row["exit"], row["records"], f"{row['share']:.3f}", f"{latency.value:.4g}", interval, row["macs"]]
        cells += [f"{row[DELAYED]:.4g}"] if held else []
        lines.append(f"| {' | '.join(map(str, cells))} |")
    about = "Costs are those of a record that passes all exits; `mean_...` is the mean over the records above."
    if held:
        return [
            *lines,
            "",
            about,
            f"`{DELAYED}` is the mean time until the answer is given. **The application has to hold answers back**, by",
            "`nas.pricing.exit_delays.delayed_ms`, and must not show `exit`: the exported files do neither.",
        ]
    return [*lines, "", about, "Which exit answered shows in the latency: an audit attacks by it (`exit_index`)."]


def _classes(study: optuna.Study, trial: FrozenTrial) -> list[str]:
    """Write the part of a card that is about classes, and what limits its numbers."""
    lines = []
    if rows := by_class.errors_by_class(study, trial):
        lines += ["", "| class | members | validation records | error | interval |", "|---|---|---|---|---|"]
        for row in rows:
            error = from_flat(row, "error")
            interval = f"{error.low:.4g} to {error.high:.4g}"
            name = in_markdown(row["class"])
            lines.append(f"| {name} | {row['members']} | {row['validation']} | {error.value:.4g} | {interval} |")
    if never := by_class.never_predicted(study, trial):
        lines += ["", f"It never predicts: {', '.join(map(in_markdown, never))}."]
    return lines + [line for caution in by_class.cautions(study) for line in ("", f"Warning: {in_markdown(caution)}.")]


def how_to_ask(behind: Preprocessing) -> list[str]:
    """Write how a record is to be given to the exported network, and what its answers mean, in Markdown."""
    shape = " x ".join(map(str, behind.arrangement.shape))
    what = "pixels from 0 to 255" if behind.pixels else "numbers in the unit of the data"
    if behind.columns:
        what = "features of the columns below, in this order"
    lines = [
        "## What goes in, what comes out",
        "",
        f"The exported files take {shape} {what}, `{behind.input_type}`, and standardise them by mean and deviation",
        "of the members. `nas predict` reads a file of the same form as the data. `preprocessing.json` holds all",
        "figures.",
        "",
    ]
    if behind.columns:
        lines += ["| column | read as | features |", "|---|---|---|", *map(_column, behind.columns), ""]
    lines += ["| logit | class |", "|---|---|"]
    lines += [f"| {place} | {in_markdown(name)} |" for place, name in enumerate(behind.classes)]
    return [*lines, ""]


def _column(column: Column) -> str:
    read = {"category": "1 for its level, else 0", "boolean": "1 for yes, 0 for no", "date": "days since 1970"}.get(
        column.kind, "as it is"
    )
    if column.origin:
        read += f", less {column.origin:.17g}"
    if column.transform is not None:
        read += f", bent by its {column.transform.name}"
    if column.fill is not None:
        read += f"; a missing cell counts as {column.fill:.6g}"
    return f"| {in_markdown(column.name)} | {column.kind}: {read} | {', '.join(map(in_markdown, column.features))} |"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(study: optuna.Study, trial: FrozenTrial, name: str, *, with_interval: bool) -> str:
    if not _is_number(trial.user_attrs.get(name)):
        return "-"
    estimate = by_class.estimate_of(study, trial, name)
    with_interval |= name in WITH_INTERVAL or name.startswith(CLASS_ERROR) or estimate.extrapolated
    return stacked(estimate if with_interval else Estimate.exact(estimate.value))
