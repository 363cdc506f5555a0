"""Describe the candidates of a study: rows for JSON, a table of the front, the card of a picked network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import optuna
from optuna.trial import FrozenTrial
from rich.table import Table

from estimators.estimate import Estimate
from estimators.estimate import from_flat
from estimators.estimate import plain
from nas.base import plugins
from nas.base.text import Row
from nas.base.text import heading
from nas.base.text import plain_table
from nas.base.text import printable
from nas.base.text import stacked
from nas.preprocessing.columns import Column
from nas.preprocessing.preprocessing import Preprocessing
from nas.pricing.report import bits_of
from nas.runs.front_and_knee import is_metric
from nas.search.config import parse_config
from nas.search.plan import DEFENCE_PARAMETERS
from nas.search.storage import CONFIG
from nas.search.storage import TASK
from nas.spaces import space_named
from nas.training.assess import MEASURED
from nas.training.defence import described
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import ParamValue
from search_spaces.space import SearchSpace

# Columns of the front's table, in this order, if the study has them. The JSON has all numbers.
COLUMNS = ("params", "error", "leakage", "latency_ms", "peak_ram_kib", "flash_kib", "macs", "energy_mj")
# These are estimated from a sample of records, so the table shows their intervals.
WITH_INTERVAL = ("error", "leakage", "tpr_at_1pct_fpr", "loss_auc")


def space_of(study: optuna.Study) -> SearchSpace:
    """Return the space a study searched."""
    task, space = study.user_attrs[TASK], study.user_attrs[CONFIG]["space"]
    plugins.check_allowed(f"the study {study.study_name!r}", space)
    return space_named(space, tuple(task["input_shape"]), int(task["num_classes"]))


def architecture_of(study: optuna.Study, trial: FrozenTrial) -> Architecture:
    """Return the architecture of a trial."""
    space = space_of(study)
    return space.decode({name: trial.params[name] for name in space.distributions if name in trial.params})


def defence_of(study: optuna.Study, trial: FrozenTrial) -> str:
    """Return the defence of a trial."""
    return str(trial.params.get("defence", study.user_attrs[CONFIG]["defences"][0]))


def parameters_of(trial: FrozenTrial) -> dict[str, ParamValue]:
    """Return the parameters of the defence that a trial was trained with: fixed ones and sampled ones."""
    return dict(trial.user_attrs.get(DEFENCE_PARAMETERS, {}))


def row(study: optuna.Study, trial: FrozenTrial) -> Row:
    """Describe a trained candidate: its number, architecture, bits, and every measured number with its interval."""
    architecture = architecture_of(study, trial)
    recipe = parse_config(study.user_attrs[CONFIG]).recipe.recipe(trial.params)
    return {
        "number": trial.number,
        "key": trial.user_attrs["key"],
        "architecture": dict(architecture.params),
        "bits": bits_of(architecture),
        "recipe": asdict(recipe),
        "defence": defence_of(study, trial),
        "defence_parameters": parameters_of(trial),
        **{name: plain(value) for name, value in trial.user_attrs.items() if _is_number(value)},
    }


def front_table(study: optuna.Study, trials: Iterable[FrozenTrial]) -> Table:
    """Lay out candidates on two lines each: values with their intervals below, weight bits with tensor bits below."""
    trials = list(trials)
    measured = [name for name in COLUMNS if trials and name in trials[0].user_attrs]
    config = study.user_attrs[CONFIG]
    wanted = dict.fromkeys([*config["objectives"], *config["budgets"]])
    extra = [name for name in wanted if name not in measured]
    names = [*measured, *extra]
    table = plain_table("no.", *map(heading, names), "bits", "defence")
    for column in table.columns[: len(names) + 1]:
        column.justify = "right"
        column.no_wrap = True
    table.columns[-1].no_wrap = True  # the bits may be broken at their spaces, a name may not
    for trial in trials:
        cells = [_cell(trial, name) for name in names]
        bits = bits_of(architecture_of(study, trial)).replace(" A ", "\nA ")
        # A long name stands in two lines, as its parameters stand below it: the table has to fit a terminal.
        defence = described(defence_of(study, trial), parameters_of(trial)).replace("_", "_\n", 1).replace(" (", "\n(")
        table.add_row(str(trial.number), *cells, bits, defence)
    return table


def card(study: optuna.Study, trial: FrozenTrial, reason: str, device: str) -> str:
    """Write the card of a picked network, in Markdown."""
    config = study.user_attrs[CONFIG]
    facts = row(study, trial)
    defence = described(facts["defence"], facts["defence_parameters"])
    lines = [
        f"# Candidate {trial.number} of {study.study_name}",
        "",
        f"Reason for the choice: {reason}.",
        "",
        f"- candidate `{facts['key']}` of the space `{config['space']}`, bits {facts['bits']}",
        f"- trained on `{config['dataset']}` with the defence `{defence}`, seed {config['seed']}",
        f"- costs are estimates for the device `{device}`",
        "",
        "| metric | value | interval |",
        "|---|---|---|",
    ]
    for name in [*MEASURED, *(name for name in facts if name not in MEASURED)]:
        if name in trial.user_attrs and is_metric(trial, name):
            number = from_flat(facts, name)
            interval = "counted" if number.low == number.high else f"{number.low:.4g} to {number.high:.4g}"
            lines.append(f"| {name} | {number.value:.6g} | {interval} |")
    lines += [
        "",
        "`leakage` is the AUC of the membership attack that guided the search, a proxy that ranks candidates. The",
        "lowest of many noisy values is too low on average, and a single one may be too high. It is not an audit: run",
        "`nas audit` before you quote the leakage of a release. `error` is measured on validation records;",
        "the test records were not used.",
        "",
    ]
    return "\n".join(lines)


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
    lines += [f"| {place} | {_cell_of(name)} |" for place, name in enumerate(behind.classes)]
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
    return f"| {_cell_of(column.name)} | {column.kind}: {read} | {', '.join(map(_cell_of, column.features))} |"


def _cell_of(name: str) -> str:
    """Write somebody's name into a cell of a table in Markdown."""
    return "`" + printable(name).replace("\n", " ").replace("`", "'").replace("|", "\\|") + "`"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(trial: FrozenTrial, name: str) -> str:
    if not _is_number(trial.user_attrs.get(name)):
        return "-"
    estimate = from_flat(trial.user_attrs, name)
    return stacked(estimate if name in WITH_INTERVAL else Estimate.exact(estimate.value))
