"""Limits for a release: `--fail-above auc=0.55` ends an audit whose result does not stay below with exit code 3.

What is compared is the upper end of an interval, so that an audit of too few records does not pass. A number that the
audit could not measure does not pass either. Of an epsilon there is a lower bound alone: a limit on it is exceeded
where the bound shows more, and a bound below it shows nothing.

Where records belong to people, the numbers are those of people.
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
        value: The upper end that was compared; None if it could not be measured.
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
        return f"{self.limit.metric} of {self.unit} is up to {self.value:.4g}, {relation} {self.limit.most:g}"


def limits(texts: Sequence[str]) -> list[Limit]:
    """Read limits as they stand on the command line.

    Args:
        texts: `METRIC=NUMBER` each.

    Raises:
        ValueError: If a text is none, the metric is unknown, or the number is not finite.

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
        found.append(Limit(metric.strip(), most))
    return found


def verdicts(audit: Audit, wanted: Sequence[Limit]) -> list[Verdict]:
    """Hold an audit against limits.

    Args:
        audit: What was found.
        wanted: The limits.
    """
    unit = "records" if audit.people is None else "people"
    if audit.is_alarming:
        return [Verdict(limit, None, unit) for limit in wanted]
    found: Audit | People = audit.people or audit
    return [Verdict(limit, METRICS[limit.metric](found), unit) for limit in wanted]


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


def _auc(found: Audit | People) -> float | None:
    return None if found.is_refused else found.leakage.high


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
    "auc": _auc,
    "tpr_at_1pct_fpr": _highest(lambda found: found.tpr[0.01]),
    "tpr_at_0_1pct_fpr": _highest(lambda found: found.tpr[0.001]),
    "balanced_accuracy": _highest(lambda found: found.balanced_accuracy),
    "advantage": _highest(lambda found: found.advantage),
    "epsilon": _epsilon,
}
"""What a limit may be of."""
