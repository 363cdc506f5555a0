"""Limits for a release: `--fail-above auc=0.55` ends an audit whose result does not stay below with exit code 3.

What is compared is the upper end of an interval, so that an audit of too few records does not pass. A number that the
audit could not measure does not pass either; where members and non-members are too different for the leakage to be
reported, or the members are harder, that is every number that is not corrected for it. Of an epsilon there is a lower
bound alone: a limit on it is exceeded where the bound shows more, and a bound below it shows nothing.

Where records belong to people, the numbers are those of people; with too few people, which the audit warns of, they are
those of records. Where versions of the network ship together, the AUC is the highest of all versions and of all
together; by person that of the versions is not known, and does not pass. The other numbers are of the network as
trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from estimators.estimate import Estimate
from nas.audit.findings import Audit
from nas.audit.findings import Finding
from nas.audit.findings import People
from nas.base.text import Row

AUC, EPSILON = "auc", "epsilon"
CHANCE = 0.5
"""AUC of guessing."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that an audit must stay at or below.

    Attributes:
        metric: One of `METRICS`.
        most: The largest value that passes.
    """

    metric: str
    most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an audit stands against a limit.

    Attributes:
        limit: The limit.
        value: The upper end that was compared, of epsilon the lower bound; None if it could not be measured.
        unit: `records` or `people`.
    """

    limit: Limit
    value: float | None
    unit: str

    @property
    def passes(self) -> bool:
        """Whether the value is known and at most the limit."""
        return self.value is not None and self.value <= self.limit.most

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.value is None:
            return f"{self.limit.metric} of {self.unit} was not measured, so it is not below {self.limit.most:g}"
        relation = "at most" if self.passes else "above"
        value, most = f"{self.value:.4g}", f"{self.limit.most:g}"
        if (float(value) <= float(most)) != self.passes:  # rounded, they would contradict the verdict
            value, most = str(self.value), str(self.limit.most)
        if self.limit.metric == EPSILON:
            return f"the lower bound on epsilon of {self.unit} is {value}, {relation} {most}"
        return f"{self.limit.metric} of {self.unit} is up to {value}, {relation} {most}"


def limits(texts: Sequence[str]) -> list[Limit]:
    """Read limits as they stand on the command line.

    Args:
        texts: `METRIC=NUMBER` each.

    Raises:
        ValueError: If a text is none, the metric is unknown, or the number is not one that the metric can have: with a
            percentage in the place of a share, nothing would ever fail.

    >>> limits(["auc=0.55"])
    [Limit(metric='auc', most=0.55)]
    """
    found = []
    for text in texts:
        metric, separator, number = text.partition("=")
        if not separator:
            raise ValueError(f"expected --fail-above METRIC=NUMBER, such as auc=0.55; got {text!r}")
        if metric.strip() not in METRICS:
            raise ValueError(f"no metric {metric.strip()!r} for --fail-above; there are {list(METRICS)}")
        try:
            most = float(number)
        except ValueError:
            most = math.nan
        if not math.isfinite(most):
            raise ValueError(f"expected a finite number for --fail-above {metric.strip()}; got {number!r}")
        largest = math.inf if metric.strip() == EPSILON else 1.0
        if not 0 <= most <= largest:
            expected = "0 or more" if metric.strip() == EPSILON else "a share from 0 to 1"
            raise ValueError(f"expected {expected} for --fail-above {metric.strip()}; got {number!r}")
        found.append(Limit(metric.strip(), most))
    return found


def verdicts(audit: Audit, wanted: Sequence[Limit]) -> list[Verdict]:
    """Hold an audit against limits.

    Args:
        audit: What was found.
        wanted: The limits.
    """
    unit = "records" if audit.people is None else "people"
    found: Audit | People = audit.people or audit
    if audit.is_alarming or found.is_refused or audit.are_people_refused:
        return [Verdict(limit, None, unit) for limit in wanted]
    # Only the AUC is corrected for a shift; where members are harder, the other numbers are too low.
    unknown = {name for name in METRICS if name != AUC} if any(_is_harder(each) for each in found.shifted) else set()
    if audit.people is not None and audit.released:
        unknown.add(AUC)
    return [Verdict(limit, None if limit.metric in unknown else METRICS[limit.metric](found), unit) for limit in wanted]


def as_rows(found: Sequence[Verdict]) -> list[Row]:
    """Return verdicts as plain numbers and texts, for the report."""
    return [
        {
            "metric": one.limit.metric,
            "limit": one.limit.most,
            "unit": one.unit,
            "value": one.value,
            "passes": one.passes,
        }
        for one in found
    ]


def _is_harder(found: Finding) -> bool:
    return found.null is not None and found.null.value < CHANCE


def _auc(found: Audit | People) -> float:
    versions = found.released if isinstance(found, Audit) else ()
    return max([found.leakage.high, *(version.auc.high for version in versions)])


def _highest(of: Callable[[Finding], Estimate | None]) -> Callable[[Audit | People], float | None]:
    """Take the highest upper end of all attacks: a limit holds for each."""

    def highest(found: Audit | People) -> float | None:
        estimates = [of(each) for each in found.findings]
        known = [estimate.high for estimate in estimates if estimate is not None]
        return max(known) if known else None

    return highest


def _epsilon(found: Audit | People) -> float:
    return max(each.epsilon.epsilon for each in found.findings)


METRICS: Mapping[str, Callable[[Audit | People], float | None]] = {
    AUC: _auc,
    "tpr_at_1pct_fpr": _highest(lambda found: found.tpr[0.01]),
    "tpr_at_0_1pct_fpr": _highest(lambda found: found.tpr[0.001]),
    "balanced_accuracy": _highest(lambda found: found.balanced_accuracy),
    "advantage": _highest(lambda found: found.advantage),
    EPSILON: _epsilon,
}
"""What a limit may be of."""
