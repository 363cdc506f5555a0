"""nas siblings: how far adversarial examples made on a shipped network fool the server network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from nas.commands import completion
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import console
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.siblings.compare import Ground
    from nas.siblings.findings import Findings
    from nas.siblings.pair import Named
    from nas.siblings.unpair import Unpairing


def siblings(
    shipped: Annotated[
        str,
        typer.Argument(
            help="What is shipped: RUN:NUMBER, or a folder that nas pick wrote.", autocompletion=completion.runs
        ),
    ],
    server: Annotated[
        str,
        typer.Argument(
            help="The network on the server, in the same way; of the same records, and of the same run or another one.",
            autocompletion=completion.runs,
        ),
    ],
    *,
    bits: Annotated[
        int | None,
        typer.Option(
            help="Round what the shipped network has in float to so many bits after training: 8, 4, 3, 2 or 1."
        ),
    ] = None,
    epsilon: Annotated[
        str | None,
        typer.Option(
            help="Largest change of a value, as a share of its range among the members: 0.05, or 8/255 (default for "
            "images: 8/255; others must say it)."
        ),
    ] = None,
    records: Annotated[int, typer.Option(help="How many of the run's non-members to compare on, at most.")] = 500,
    unpair: Annotated[
        bool,
        typer.Option(
            "--unpair",
            help="Also fine-tune the shipped network so that less transfers, and write it beside the pick. Its error, "
            "leakage and audits are not those of the pick.",
        ),
    ] = False,
    strength: Annotated[
        float | None,
        typer.Option(help="What the likeness of gradients counts beside the loss, with --unpair (default: 1)."),
    ] = None,
    unpair_epochs: Annotated[
        int | None, typer.Option(help="Epochs to fine-tune for, with --unpair (default: 20).")
    ] = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Try adversarial examples made on a shipped network on the server network, beside those of a control."""
    from nas.base import processes
    from nas.siblings.compare import ground_for
    from nas.siblings.findings import unpaired
    from nas.siblings.pair import check_siblings
    from nas.siblings.pair import named
    from nas.siblings.reach import epsilon_of
    from nas.siblings.reach import reach_of
    from nas.siblings.saved import check_unpairable

    trust(plugin)
    settings = _settings(strength, unpair_epochs, unpair=unpair)
    if records < 2:
        raise ValueError(f"expected --records of 2 or more; got {records}")
    with processes.one_thread():
        one, other = named(shipped, runs, bits), named(server, runs)
        check_siblings(one, other)
        if settings is not None:
            check_unpairable(one)
        radius = epsilon_of(epsilon, one.run.data.members.input_shape)
        data = one.run.data
        reach = reach_of(data.members, data.preprocessing, radius)
        ground = ground_for(other.network, data.non_members, reach, count=records, seed=one.run.config.seed)
        with console(stderr=True).status("comparing") as status:
            found = _compared(one, other, ground, radius, status.update)
            if settings is not None:
                status.update("unpairing")
                found = unpaired(found, one.network, data, settings)
        _report(one, other, found, as_json=as_json)


def _settings(strength: float | None, epochs: int | None, *, unpair: bool) -> Unpairing | None:
    """Read how to unpair; None where nothing is to be unpaired.

    Raises:
        ValueError: If a setting makes no sense, or has no effect.
    """
    from nas.siblings.unpair import Unpairing

    given = {"strength": strength, "epochs": epochs}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not unpair:
        raise ValueError("expected --strength and --unpair-epochs only with --unpair")
    return Unpairing(**given) if unpair else None  # type: ignore[arg-type]


def _compared(shipped: Named, server: Named, ground: Ground, epsilon: float, look: Callable[[str], object]) -> Findings:
    from nas.siblings.compare import kinship
    from nas.siblings.findings import Findings
    from nas.siblings.pair import control_of

    look("training the control")
    networks = {"server": server.network, "shipped": shipped.network, "control": control_of(shipped)}
    found = {}
    for name, network in networks.items():
        look(f"attacking the {name} network")
        found[name] = kinship(name, network, ground)
    return Findings(shipped.label, server.label, epsilon, ground, found)


def _report(shipped: Named, server: Named, found: Findings, *, as_json: bool) -> None:
    from nas.siblings import report
    from nas.siblings import saved

    written: dict[str, Any] = {"folder": None, "weights_sha256": None}
    if found.result is not None and found.result.unpaired.kept:
        folder, digest = saved.write(shipped, server, found)
        written = {"folder": str(folder), "weights_sha256": digest}
    if as_json:
        typer.echo(json.dumps({**report.as_json(found), **written}))
        return
    say(report.headline(found))
    show_table(report.table(found))
    for line in report.summary(found):
        say(line)
    if written["folder"] is not None:
        say(f"written to {written['folder']}: {report.VOID}")
