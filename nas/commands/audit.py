"""nas audit: attack a candidate, or a network from elsewhere, with all attacks that can run."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from nas.commands.options import ABOVE_LIMIT
from nas.commands.options import INTERRUPTED
from nas.commands.options import Json
from nas.commands.options import Plugins
from nas.commands.options import Runs
from nas.commands.options import Storage
from nas.commands.options import console
from nas.commands.options import say
from nas.commands.options import show_table
from nas.commands.options import trust

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from nas.audit.candidate import Subject
    from nas.audit.findings import Audit
    from nas.audit.gate import Limit
    from nas.runs.run import Run


def audit(
    what: Annotated[str, typer.Argument(help="A run, an .onnx file, or an .npz with a network's logits.")],
    *,
    pick: Annotated[
        int | None,
        typer.Option(
            help="Number of the candidate (default: audit 10 candidates and compare with the search's proxy)."
        ),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            help="quick, standard or full: 4, 16 or 64 shadow models, and slower attacks; lira_fitted is good with 4 "
            "(default: standard)."
        ),
    ] = None,
    bits: Annotated[
        list[int] | None,
        typer.Option(
            help="Bits of a post-training quantised version that is released too: 8, 4, 3, 2 or 1; may be repeated."
        ),
    ] = None,
    artefact: Annotated[
        Path | None,
        typer.Option(help="With --pick: audit this file, which nas export wrote of it, in place of the network."),
    ] = None,
    attack: Annotated[list[str] | None, typer.Option(help="Run only this attack; may be repeated.")] = None,
    canaries: Annotated[
        int | None,
        typer.Option(
            help="Instead of attacks: train once more, with about half of so many mislabelled test records, and bound "
            "epsilon."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For an .onnx file: the .npz with the audited records.")] = None,
    shadow: Annotated[
        list[Path] | None, typer.Option(help="For an .onnx file: a shadow model, as .onnx; may be repeated.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report (default: the run's folder, or the current one).")
    ] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=NUMBER",
            help="End with exit code 3 if the upper end of this number's interval is above, such as auc=0.55; "
            "may be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, one thread each (default: one per core).")
    ] = None,
    storage: Storage = None,
    runs: Runs = Path("runs"),
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Attack a network with all attacks that can run and write a report, check a search's proxy, or try canaries."""
    import torch

    from nas.audit.attack_all import EFFORTS
    from nas.audit.gate import limits

    trust(plugin, *(attack or ()))
    torch.set_num_threads(1)  # as shadows are trained; small networks gain little from more
    if effort not in (None, *EFFORTS):
        raise ValueError(f"no effort {effort!r}; there are {list(EFFORTS)}")
    if workers is not None and workers < 1:
        raise ValueError(f"expected --workers of 1 or more; got {workers}")
    wanted = _Wanted(
        effort or "standard",
        tuple(bits or ()),
        attack,
        workers,
        output,
        as_json,
        tuple(limits(fail_above or ())),
        tuple(plugin or ()),
    )
    if Path(what).suffix in (".onnx", ".npz"):
        of_run = {"--pick": pick is not None, "--bits": bits, "--artefact": artefact}
        _refuse(of_run, f"for a candidate of a run; {what} is a file")
        trained = (
            f"for a candidate of a run: canaries have to be trained on, and {what} is of a network that is trained"
        )
        _refuse({"--canaries": canaries is not None}, trained)
        _audit_files(Path(what), data, shadow or [], wanted)
        return
    _refuse({"--data": data, "--shadow": shadow}, f"for an .onnx file; {what} is a run")
    from nas.runs.run import open_trained

    run = open_trained(what, runs, storage)
    if pick is None:
        _refuse(
            {
                "--effort": effort,
                "--bits": bits,
                "--artefact": artefact,
                "--attack": attack,
                "--fail-above": fail_above,
            },
            "with --pick: the proxy check always runs the same attacks",
        )
        _refuse({"--canaries": canaries is not None}, "with --pick: which candidate's training is it to audit?")
        _audit_proxy(run, wanted)
    elif canaries is not None:
        attacked = {"--effort": effort, "--bits": bits, "--attack": attack, "--fail-above": fail_above}
        _refuse({**attacked, "--artefact": artefact}, "without --canaries, which runs no attacks")
        _audit_canaries(run, pick, canaries, wanted)
    else:
        if artefact is not None:
            _refuse({"--bits": bits}, "without --artefact: the file is the version that is released")
        _audit_candidate(run, pick, artefact, wanted)


def _refuse(given: Mapping[str, object], where: str) -> None:
    """Refuse options that would have no effect."""
    for option, value in given.items():
        if value:
            raise ValueError(f"expected {option} only {where}")


@dataclass(frozen=True)
class _Wanted:
    """The options that all kinds of audits share."""

    effort: str
    bits: tuple[int, ...]
    attacks: Sequence[str] | None
    workers: int | None
    output: Path | None
    as_json: bool
    limits: tuple[Limit, ...]
    plugins: tuple[str, ...]


def _audit_candidate(run: Run, number: int, artefact: Path | None, wanted: _Wanted) -> None:
    from nas.audit.candidate import about
    from nas.audit.candidate import audit_subject
    from nas.audit.candidate import check_attacks
    from nas.audit.candidate import check_bits
    from nas.audit.candidate import earlier
    from nas.audit.candidate import note
    from nas.audit.candidate import subject_of
    from nas.runs import on_test
    from nas.search.schema import errors_on_test

    subject = subject_of(run, number)
    if artefact is not None:
        subject = _as_shipped(run, subject, artefact)
    check_bits(subject, wanted.bits)
    check_attacks(subject, wanted.effort, wanted.attacks)
    before = earlier(run.folder)
    _train([subject], wanted.effort, wanted.workers)
    with console(stderr=True).status("attacking") as status:
        found = audit_subject(
            subject,
            wanted.effort,
            bits=wanted.bits,
            attacks=wanted.attacks,
            earlier=before,
            errors_seen=list(errors_on_test(run.study.user_attrs)),
            look=lambda name: status.update(f"attack {name}"),
        )
    note(run.folder, number, wanted.effort)
    on_test.keep(run.study, number, subject.error)  # the report has it
    command = _command(run.config.name, wanted, pick=number, artefact=artefact)
    described = {**about(subject, run.plan, found, before), "command": command}
    own = str(number) if artefact is None else f"{number}-{artefact.name}"
    _report(found, described, wanted.output or _own(run.folder) / own, wanted)


def _as_shipped(run: Run, subject: Subject, path: Path) -> Subject:
    """Put a candidate's exported file in its place.

    Raises:
        ValueError: If the file is not the candidate's.
    """
    from dataclasses import replace
    from functools import partial

    import torch

    from nas.audit.artefact import open_artefact
    from nas.base.reading import existing
    from nas.deploy.packed import in_precision

    architecture, plan = subject.spec.candidate.architecture, run.plan
    behind, calibration = plan.data.preprocessing, torch.from_numpy(plan.data.reserve.features)
    write = partial(in_precision, architecture, records=calibration, preprocessing=behind)
    file = existing(path, "an ONNX file that nas export wrote")
    asked = subject.population.features
    found = open_artefact(file, subject.network, asked, behind, write)
    return replace(subject, artefact=found)


def _audit_canaries(run: Run, number: int, count: int, wanted: _Wanted) -> None:
    from nas.audit import canaries
    from nas.audit.candidate import subject_of
    from nas.base import files

    canaries.check_count(count, run.plan.data.test)
    subject = subject_of(run, number)
    with console(stderr=True).status(f"training once, with {count} canaries"):
        found = canaries.audit(subject, run.plan.data.members, count)
    written = canaries.as_json(found, canaries.about(subject, run.plan, found))
    path = (wanted.output or _own(run.folder) / str(number)) / f"canaries-{count}.json"
    files.write_json(path, written, files.OWNER)
    if wanted.as_json:
        typer.echo(json.dumps(written))
        return
    say(canaries.headline(found))
    show_table(canaries.table(found))
    for line in canaries.summary(found):
        say(line)
    say(f"written to {path}")


def _audit_files(path: Path, data: Path | None, shadows: Sequence[Path], wanted: _Wanted) -> None:
    from nas.audit.attack_all import audit as attack_all
    from nas.audit.candidate import made_by
    from nas.audit.files import read
    from nas.audit.findings import Origin
    from nas.base.files import digest_of

    is_onnx = path.suffix == ".onnx"
    if data is not None and not is_onnx:
        raise ValueError(f"expected --data only with an .onnx file; {path} contains its records")
    if is_onnx and data is None:
        raise ValueError(
            "expected --data with the .npz of the audited records, because the network is an .onnx file; got none"
        )
    given = read(path if is_onnx else None, data or path, shadows)
    with console(stderr=True).status("attacking") as status:
        found = attack_all(
            given.evidence,
            given.is_member,
            seed=0,
            effort=wanted.effort,
            attacks=wanted.attacks,
            origin=Origin(classes=given.classes, groups=given.groups),
            is_labelled=given.is_labelled,
            look=lambda name: status.update(f"attack {name}"),
        )
    about = {
        "network": f"{path.name}, SHA-256 {digest_of(path)}",
        "records": (data or path).name if data is None else f"{data.name}, SHA-256 {digest_of(data)}",
        "shadow models": f"{found.shadows}, from the files given",
        **({"how they were read": "; ".join(given.notes)} if given.notes else {}),
        "seed": "0",
        "made by": made_by(),
        "command": _command(path, wanted, data=data, shadow=shadows),
    }
    _report(found, about, (wanted.output or Path()) / f"{path.stem}-audit", wanted)


def _command(what: str | Path, wanted: _Wanted, **more: object) -> str:
    """Write the command that repeats an audit, without where its report goes.

    Of a file somewhere on this machine only the name is written: reports are passed on.
    """
    options = [("effort", wanted.effort), *more.items(), ("bits", wanted.bits), ("attack", wanted.attacks)]
    options.append(("fail-above", [f"{limit.metric}={limit.most:g}" for limit in wanted.limits]))
    options.append(("plugin", [Path(name) if name.endswith(".py") else name for name in wanted.plugins]))
    words = ["nas", "audit", _without_folder(what)]
    for name, given in options:
        values = given if isinstance(given, (list, tuple)) else [given]
        words += [word for value in values if value is not None for word in (f"--{name}", _without_folder(value))]
    return shlex.join(words)


def _without_folder(given: object) -> str:
    return given.name if isinstance(given, Path) and given.is_absolute() else str(given)


def _audit_proxy(run: Run, wanted: _Wanted) -> None:
    from nas.audit.candidate import audited_leakage
    from nas.audit.candidate import earlier
    from nas.audit.candidate import note
    from nas.audit.candidate import subject_of
    from nas.audit.proxy_check import as_json
    from nas.audit.proxy_check import conclude
    from nas.audit.proxy_check import stratified
    from nas.audit.proxy_check import summary
    from nas.audit.proxy_check import table
    from nas.base import files

    trials = stratified(run.study, seed=run.config.seed)
    subjects = [subject_of(run, trial.number) for trial in trials]
    earlier(run.folder)  # refused before the work if it cannot be gone on with
    _train(subjects, "standard", wanted.workers)
    audited = []
    with console(stderr=True).status("attacking") as status:
        for subject in subjects:
            status.update(f"attack candidate {subject.number}")
            audited.append(audited_leakage(subject))
            note(run.folder, subject.number, "contract")
    found = conclude(trials, run.config.objectives, audited)
    path = (wanted.output or _own(run.folder)) / "proxy.json"
    written = as_json(found)
    files.write_json(path, written, files.OWNER)
    if wanted.as_json:
        typer.echo(json.dumps(written))
        return
    show_table(table(found))
    for line in summary(found):
        say(line)
    say(f"written to {path}")


def _own(folder: Path) -> Path:
    """Return the folder of a run's audits, which say much of single records: its owner's alone."""
    from nas.base import files

    return files.private_folder(folder / "audits")


def _train(subjects: Sequence[Subject], effort: str, workers: int | None) -> None:
    """Train the missing shadow models, with an estimate of the time and a progress bar.

    After Ctrl-C, those that are trained are kept.
    """
    from rich.progress import Progress

    from nas.audit import shadows
    from nas.audit.attack_all import EFFORTS
    from nas.audit.candidate import seconds_to_train
    from nas.runs.progress import duration

    count = EFFORTS[effort]
    screen = console(stderr=True)
    specs = [subject.spec for subject in subjects]
    missing = sum(len(spec.missing(count)) for spec in specs)
    kept = count * len(specs) - missing
    if not missing:
        screen.print(f"{kept} shadow models, all from earlier audits", highlight=False)
        return
    seconds = seconds_to_train(specs, count, workers)
    line = f"{missing} shadow models to train, {kept} from earlier audits: about {duration(seconds)}"
    screen.print(line, highlight=False)
    try:
        with Progress(console=screen, transient=True) as bar:
            task = bar.add_task("shadow models", total=missing)
            for _ in shadows.train_missing(specs, count, workers=workers):
                bar.advance(task)
    except KeyboardInterrupt:
        left = sum(len(spec.missing(count)) for spec in specs)
        kept = count * len(specs) - left
        screen.print(
            f"stopped; {kept} trained shadow models are kept, {left} are missing: run the same command to continue"
        )
        sys.exit(INTERRUPTED)


def _beside_stronger(folder: Path, found: Audit) -> Path:
    """Return the folder for a report: another one where this one holds the report of more effort or more attacks.

    Raises:
        ValueError: If there is a file that is no report.
    """
    from nas.audit.attack_all import EFFORTS
    from nas.base import files

    path = folder / "audit.json"
    if not path.is_file():
        return folder
    before, efforts = files.read_json(path), list(EFFORTS)
    findings = before.get("findings", []) if isinstance(before, dict) else None
    if not isinstance(before, dict) or not isinstance(findings, list) or before.get("effort") not in efforts:
        raise ValueError(f"expected an audit's report at {path}, which would be replaced; give --output")
    there = efforts.index(before["effort"]), len(findings)
    here = efforts.index(found.effort), len(found.findings)
    if here >= there:
        return folder
    own = f"{found.effort}-{len(found.findings)}-attacks"
    return folder / own if folder.name in ("", "..") else folder.with_name(f"{folder.name}-{own}")


def _report(found: Audit, about: dict[str, str], folder: Path, wanted: _Wanted) -> None:
    from nas.audit import gate
    from nas.audit import report
    from nas.audit import statement
    from nas.base import files

    verdicts = gate.verdicts(found, wanted.limits)
    written = report.as_json(found, about, verdicts)
    folder = _beside_stronger(folder, found)
    files.write_json(folder / "audit.json", written, files.OWNER)
    report.write_html(folder / "audit.html", found, about, verdicts)
    files.write_text(folder / "statement.md", statement.markdown(found, about, verdicts), files.OWNER)
    if wanted.as_json:
        typer.echo(json.dumps(written))
    else:
        report.show(found, about, console(), verdicts)
        say(f"written to {folder / 'audit.html'}, {folder / 'audit.json'} and {folder / 'statement.md'}")
    failed = [verdict for verdict in verdicts if not verdict.passes]
    for verdict in failed:
        typer.echo(f"nas: {verdict.sentence}", err=True)
    if failed:
        sys.exit(ABOVE_LIMIT)
