"""A comparison of siblings as JSON, as tables and lines, and as a page beside the unpaired network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.base.text import in_markdown
from nas.base.text import inline
from nas.base.text import plain_table
from nas.base.text import signed
from nas.base.text import stacked
from nas.siblings.compare import ACCEPTED_ERROR
from nas.siblings.compare import WANTED_DROP
from nas.siblings.compare import Kinship
from nas.siblings.compare import more_than
from nas.siblings.findings import Findings
from nas.siblings.findings import Result

APART = (
    "this is about adversarial examples, not about what the networks leak of their members: no figure of a search or "
    "of an audit changes by it"
)
READ = (
    "transfer: share of the server network's right answers that examples made on the network turn; white box: the same "
    "of the network's own right answers; the server's row is an attack that knows the server network itself"
)
FEW_BITS = (
    "of layers of few bits the gradients are straight-through ones, as an attacker would take them: a lower white-box "
    "success of such a network says that they are rougher, not that it is safer"
)
LIMITS = (
    "The loss of the unpairing is this project's own definition, after the idea of Hong, Carlini and Kurakin (2023, "
    "arXiv 2212.13700), whose loss we do not know. Attacks by gradients, with restarts and momentum, were tried. An "
    "attacker may train the network further first, or attack in other ways."
)
NOTHING_KEPT = (
    "unpairing: no epoch had a lower cosine and lost at most a point of accuracy on validation records; the network is "
    "unchanged and not written: try another --strength or more --unpair-epochs"
)
VOID = (
    "this network was fine-tuned after the search: the error and the leakage of the search and every audit belong to "
    "the pick, not to it"
)
AGAIN = (
    "To quote its leakage, export it and audit the file that is shipped on members and other records of your own: "
    "`nas export {folder}`, then `nas audit {folder}/int8.onnx --data records.npz`, or `float32.onnx`. "
    "`nas audit RUN --pick N` audits the pick. Shadow models for the file have to be trained and unpaired like it."
)


def as_json(found: Findings) -> dict[str, Any]:
    """Return what was found as plain numbers, texts, lists and dictionaries."""
    more = more_than(found.networks["shipped"], found.networks["control"])
    written: dict[str, Any] = {
        "shipped": found.shipped,
        "server": found.server,
        "epsilon": found.epsilon,
        "records": len(found.ground.right),
        "server_right": int(found.ground.right.sum()),
        "attacks": [asdict(attack) for attack in found.ground.attacks],
        "networks": [_network(kinship) for kinship in found.networks.values()],
        "more_than_control": [{"attack": name, **flat({"transfer": more[name]})} for name in more],
        "unpairing": None if found.result is None else _unpairing(found.result),
        "warnings": list(found.warnings),
    }
    return written


def _network(kinship: Kinship) -> dict[str, Any]:
    return {
        "network": kinship.name,
        **flat({"error": kinship.error, "cosine": kinship.similarity.cosine}),
        "without_gradient": kinship.similarity.without_gradient,
        "fooled": [
            {"attack": name, **flat({"transfer": fooled.transfer, "white_box": fooled.white_box})}
            for name, fooled in kinship.fooled.items()
        ],
    }


def _unpairing(result: Result) -> dict[str, Any]:
    effect = result.effect
    return {
        **asdict(result.settings),
        "kept_epoch": result.unpaired.kept,
        "by_epoch": [asdict(epoch) for epoch in result.unpaired.epochs],
        "effect": [
            {"attack": name, "drop": effect.drop[name], **flat({"transfer_change": change})}
            for name, change in effect.transfer.items()
        ],
        **flat({"error_change": effect.error, "from_control": result.from_control}),
        "holds": effect.holds,
    }


def table(found: Findings) -> Table:
    """Lay out the networks, a row each."""
    names = [attack.name for attack in found.ground.attacks]
    heads = [f"{name}\n{what}" for name in names for what in ("transfer", "white box")]
    laid_out = plain_table("network", "error", "cosine", *heads)
    for column in laid_out.columns[1:]:
        column.justify = "right"
    for name, one in found.networks.items():
        laid_out.add_row(name, *(stacked(estimate) for estimate in _estimates(one)))
    return laid_out


def _estimates(kinship: Kinship) -> list[Estimate]:
    fooled = [estimate for one in kinship.fooled.values() for estimate in (one.transfer, one.white_box)]
    return [kinship.error, kinship.similarity.cosine, *fooled]


def headline(found: Findings) -> str:
    """Return a line that names the networks, the attack's reach and the records."""
    return (
        f"examples made on {found.shipped}, tried on {found.server}: within {found.epsilon:.4g} of the records' range, "
        f"{len(found.ground.right):,} records that no network was trained on, {int(found.ground.right.sum()):,} of "
        "which the server network gets right"
    )


def summary(found: Findings) -> list[str]:
    """Return the lines below the table."""
    more = more_than(found.networks["shipped"], found.networks["control"])
    lines = [
        f"{name}: the shipped network's examples transfer more often than the control's by {inline(difference, signed)}"
        for name, difference in more.items()
    ]
    if found.result is not None:
        lines += _changed(found.result)
    return [*lines, *(f"warning: {warning}" for warning in found.warnings), READ, FEW_BITS, APART]


def _changed(result: Result) -> list[str]:
    kept, effect = result.unpaired.kept, result.effect
    if not kept:
        return [NOTHING_KEPT]
    lines = [f"unpairing: epoch {kept} of {result.settings.epochs} kept"]
    for name, change in effect.transfer.items():
        drop = effect.drop[name]
        told = "there was none" if drop is None else f"{100 * drop:.0f} % less"
        lines.append(f"{name}: transfer changed by {inline(change, signed)}, {told}")
    wanted = f"at least {100 * WANTED_DROP:.0f} % less under every attack, for at most {ACCEPTED_ERROR:g} of error"
    return [
        *lines,
        f"error changed by {inline(effect.error, signed)}",
        f"{wanted}: {'yes' if effect.holds else 'no'}",
    ]


def markdown(found: Findings, folder: Path, weights: str) -> str:
    """Write the page that lies beside an unpaired network.

    Args:
        found: With an unpairing.
        folder: Where the network lies, as commands name it.
        weights: SHA-256 of its weights.
    """
    heads = ["network", "error", "cosine"]
    heads += [f"{attack.name} {what}" for attack in found.ground.attacks for what in ("transfer", "white box")]
    rows = [
        f"| {' | '.join([name, *(inline(estimate) for estimate in _estimates(kinship))])} |"
        for name, kinship in found.networks.items()
    ]
    lines = [
        f"# {in_markdown(found.shipped)}, unpaired from {in_markdown(found.server)}",
        "",
        f"{VOID[0].upper()}{VOID[1:]}.",
        "",
        AGAIN.format(folder=folder),
        "",
        f"SHA-256 of the weights: `{weights}`",
        "",
        f"{in_markdown(headline(found))}.",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *rows,
        "",
        *(f"- {in_markdown(line)}" for line in summary(found)),
        "",
        LIMITS,
        "",
    ]
    return "\n".join(lines)
