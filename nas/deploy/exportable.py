"""Whether candidates keep their error in int8: judged once for each file of weights, kept in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from typing import Any

from annotated_types import MaxLen
from optuna.trial import FrozenTrial
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import FiniteFloat
from pydantic import ValidationError

from estimators.devices.files import load_device
from nas.base import files
from nas.base.errors import one_line
from nas.runs.run import Run
from nas.search.schema import WEIGHTS
from nas.search.storage import weights_path

EXPORTS = "exports.json"
"""In a run's folder: what was found, by the SHA-256 of the weights."""
INT8 = "int8"


class Exportability(BaseModel):
    """A candidate's int8 version, held against the candidate on validation records, members and non-members.

    Attributes:
        written: Whether `nas export` writes it, with the usual tolerances.
        reason: Why it does not; None where it does.
        error: Error of the int8 version on validation records; None where it could not be made.
        error_increase: That less the candidate's own.
        loss_auc: AUC of the loss threshold on the answers of the int8 version.
        loss_auc_increase: That less the candidate's own.
        leakage: AUC of the search's attack on the answers of the int8 version; None where it cannot be repeated.
        leakage_increase: That less the candidate's own.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    written: bool
    reason: Annotated[str, MaxLen(2000)] | None = None
    error: FiniteFloat | None = None
    error_increase: FiniteFloat | None = None
    loss_auc: FiniteFloat | None = None
    loss_auc_increase: FiniteFloat | None = None
    leakage: FiniteFloat | None = None
    leakage_increase: FiniteFloat | None = None


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    int8: dict[str, Exportability]


Judged = Mapping[str, Exportability]


def judge_int8(run: Run, trials: Iterable[FrozenTrial]) -> Judged:
    """Judge the int8 versions of candidates, where the run's device computes in int8, and keep what was found.

    What was judged before is not judged again. A candidate whose weights are not here is passed over.

    Returns:
        What is known, by the SHA-256 of the weights.
    """
    known = dict(read(run.folder))
    if INT8 not in load_device(run.config.device).precision:
        return known
    waiting = [
        trial
        for trial in trials
        if trial.user_attrs.get(WEIGHTS, "") not in known
        and WEIGHTS in trial.user_attrs
        and weights_path(run.folder, trial.user_attrs["key"]).is_file()
    ]
    for trial in waiting:
        known[trial.user_attrs[WEIGHTS]] = _judge(run, trial)
    if waiting:
        kept = _Kept(int8=known).model_dump(mode="json")
        files.write_json(run.folder / EXPORTS, kept, files.OWNER)
    return known


def read(folder: Path) -> Judged:
    """Return what is known of a run's candidates, by the SHA-256 of the weights; nothing of an earlier version's run.

    Raises:
        ValueError: If the file holds something else.
    """
    path = folder / EXPORTS
    if not path.is_file():
        return {}
    try:
        return _Kept.model_validate(files.read_json(path)).int8
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, found["loc"]))
        raise ValueError(f"expected what was found of int8 versions in {path}; at {place!r}: {found['msg']}") from None


def of(known: Judged, trial: FrozenTrial) -> dict[str, object] | None:
    """Return what is known of a candidate, for JSON; None where nothing is."""
    found = known.get(trial.user_attrs.get(WEIGHTS, ""))
    return None if found is None else found.model_dump(mode="json")


def sentences(known: Judged, trials: Sequence[FrozenTrial]) -> list[str]:
    """Say of each candidate how its int8 version does."""
    told = []
    for trial in trials:
        found = known.get(trial.user_attrs.get(WEIGHTS, ""))
        if found is not None:
            told.append(f"{INT8} of candidate {trial.number}: {_sentence(found)}")
    return told


def _sentence(found: Exportability) -> str:
    if found.error is None or found.error_increase is None:
        return f"refused: {found.reason}"
    error = f"error {found.error:.3f} ({found.error_increase:+.3f})"
    return f"{error}, can be written" if found.written else f"{error}, refused: {found.reason}"


def _judge(run: Run, trial: FrozenTrial) -> Exportability:
    # Imported where a network is judged: what was judged before is read without PyTorch and ONNX.
    from nas.deploy import judging  # noqa: PLC0415
    from nas.deploy.deployed import judged  # noqa: PLC0415
    from nas.deploy.deployed import proxy_on  # noqa: PLC0415
    from nas.runs.networks import network_of_run  # noqa: PLC0415

    measured: dict[str, Any] = {}
    try:
        found = network_of_run(run, run.architecture(trial), run.network(trial), run.data.preprocessing)
        proxy = proxy_on(found)
        _, judgement = judged(found, INT8, None if isinstance(proxy, str) else proxy)
        measured = {name: estimate.value for name, estimate in judgement.estimates.items()}
        judging.check(judgement, INT8, len(found.check), judging.Tolerances())
    except ValueError as error:  # of the front of a search that took hours, the rest is still to be judged
        return Exportability(written=False, reason=one_line(error)[:2000], **measured)
    return Exportability(written=True, **measured)
