"""What audits of a run left: the check of its proxy, and the ROC curves of each audited candidate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from typing import Self
from typing import TypeVar

from annotated_types import Ge
from annotated_types import Le
from annotated_types import MaxLen
from annotated_types import MinLen
from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import FiniteFloat
from pydantic import ValidationError
from pydantic import model_validator

from estimators.estimate import Estimate
from estimators.estimate import from_flat
from nas.base.reading import read_text

AUDITS = "audits"
MOST_AUDITS = 12
"""So many audited candidates are read, those with the lowest numbers."""
Share = Annotated[FiniteFloat, Ge(0), Le(1)]
Read = TypeVar("Read", bound=BaseModel)


class Curve(BaseModel):
    """The ROC curve of one attack.

    Attributes:
        attack: Its name.
        auc: Area under the curve.
        roc: `(points, 2)` false and true positive rates, ascending; between two points the lower one holds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    attack: Annotated[str, MaxLen(200)]
    auc: Share
    roc: Annotated[list[tuple[Share, Share]], MaxLen(1000)]


class Audited(BaseModel):
    """The audit of one candidate.

    Attributes:
        effort: How much was tried: quick, standard or full.
        members: Attacked members.
        non_members: Attacked non-members.
        findings: The attacks, the strongest first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    effort: Annotated[str, MaxLen(200)]
    members: Annotated[int, Ge(1)]
    non_members: Annotated[int, Ge(1)]
    findings: Annotated[list[Curve], MaxLen(100)]


class Compared(BaseModel):
    """The proxy and the audit of one candidate, each an AUC; an exact one has no ends.

    Attributes:
        number: Of its trial.
        proxy: Leakage by the attack that guided the search.
        proxy_low: Lower end.
        proxy_high: Upper end.
        audited: Leakage by the audit.
        audited_low: Lower end.
        audited_high: Upper end.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    number: Annotated[int, Ge(0)]
    proxy: FiniteFloat
    audited: FiniteFloat
    proxy_low: FiniteFloat | None = None
    proxy_high: FiniteFloat | None = None
    audited_low: FiniteFloat | None = None
    audited_high: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("proxy", "audited"):
            self.estimate(name)
        return self

    def estimate(self, name: str) -> Estimate:
        """Return `proxy` or `audited` with its interval."""
        return from_flat(self.model_dump(exclude_none=True), name)


class Agreement(BaseModel):
    """How the proxy of a search agrees with audits of some of its candidates.

    Attributes:
        candidates: Those audited, the lowest proxy first.
        spearman: Rank correlation of proxy and audits.
        spearman_low: Lower end of its interval.
        spearman_high: Upper end.
        mean_absolute_error: Of the proxy.
        bias: Mean of proxy minus audit; negative where the proxy is too low.
        warnings: What to beware of, a sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    candidates: Annotated[list[Compared], MinLen(1), MaxLen(100)]
    spearman: FiniteFloat
    spearman_low: FiniteFloat | None = None
    spearman_high: FiniteFloat | None = None
    mean_absolute_error: FiniteFloat
    bias: FiniteFloat
    warnings: Annotated[list[Annotated[str, MaxLen(2000)]], MaxLen(100)]


def agreement_in(folder: Path) -> Agreement | None:
    """Read the proxy check that `nas audit RUN` wrote into a run's folder; None where there is none.

    Raises:
        ValueError: If the file holds something else.
    """
    path = folder / AUDITS / "proxy.json"
    return _read(path, Agreement, "the proxy check of nas audit") if path.is_file() else None


def audits_in(folder: Path) -> Mapping[int, Audited]:
    """Read the reports that `nas audit RUN --pick NUMBER` wrote into a run's folder, by the candidate's number.

    Raises:
        ValueError: If one of the files holds something else.
    """
    reports = (folder / AUDITS).glob("*/audit.json")
    paths = {int(path.parent.name): path for path in reports if path.parent.name.isdecimal()}
    return {number: _read(paths[number], Audited, "a report of nas audit") for number in sorted(paths)[:MOST_AUDITS]}


def _read(path: Path, model: type[Read], expected: str) -> Read:
    try:
        return model.model_validate_json(read_text(path))
    except ValidationError as error:
        problem = error.errors()[0]
        part = ".".join(map(str, problem["loc"]))
        raise ValueError(f"expected {expected} in {path}; {part}: {problem['msg']}") from None
