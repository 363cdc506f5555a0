"""The proxy contract: does what guided the search agree with an audit of what it found?

After a search, eight to twelve of its candidates are audited: half of the front, for these are what a user picks from,
and others from every stratum of the proxy's leakage, for a rank correlation over look-alikes says nothing. Each has
shadows of its own architecture and recipe. Below a rank correlation of .8 the proxy is not to be trusted with the
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from rich.table import Table

from estimators.estimate import Estimate
from estimators.leakage.statistics.record_risk import kendall_tau
from estimators.leakage.statistics.record_risk import spearman_rho
from nas.base.text import flat
from nas.base.text import interval_text
from nas.base.text import plain_table
from nas.runs.pareto import front
from nas.runs.pareto import non_dominated

CANDIDATES = 10
LEAST, MOST = 8, 12
ENOUGH = 0.8
ATTACKS = ("lira_online", "rmia_online")
"""What the audits of a contract run: the two that know what such a network says of its own members."""


@dataclass(frozen=True)
class Line:
    """One candidate: what the proxy saw, and what the audit.

    Attributes:
        number: Of its trial.
        proxy: AUC of the attack that guided the search.
        audited: AUC of the stronger of `ATTACKS`.
    """

    number: int
    proxy: Estimate
    audited: Estimate


@dataclass(frozen=True)
class Contract:
    """How far a search's proxy agrees with audits of some of its candidates.

    Attributes:
        lines: One for each candidate, the lowest proxy first.
        spearman: Rank correlation with its 95 % interval; wide with so few candidates.
        kendall: The same, Kendall's.
        bias: Mean of proxy less audit: below 0 the search was too hopeful.
        error: Mean distance between the two.
        leave: Candidates on the front of those audited by the proxy's leakage, and not by the audit's.
        enter: Candidates on that front by the audit's leakage, and not by the proxy's.
    """

    lines: tuple[Line, ...]
    spearman: Estimate
    kendall: Estimate
    bias: float
    error: float
    leave: tuple[int, ...]
    enter: tuple[int, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must not miss."""
        if self.spearman.value >= ENOUGH:
            return ()
        return (
            (
                f"the proxy does not rank as the audit does: Spearman {self.spearman.value:.2f} over {len(self.lines)} "
                f"candidates ({self.spearman.low:.2f} to {self.spearman.high:.2f}), expected at least {ENOUGH}; "
                "choose by audits, not by the search's leakage"
            ),
        )


def stratified(study: optuna.Study, count: int = CANDIDATES, *, seed: int) -> list[FrozenTrial]:
    """Choose the candidates to audit, the lowest proxy leakage first.

    Args:
        study: With trained candidates.
        count: How many, 8 to 12; all where fewer were trained.
        seed: Of the choice.

    Raises:
        ValueError: If the count is not 8 to 12, or fewer than 8 candidates were trained.
    """
    if not LEAST <= count <= MOST:
        raise ValueError(f"expected {LEAST} to {MOST} candidates to hold the proxy against; got {count}")
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trained) < LEAST:
        raise ValueError(f"expected at least {LEAST} trained candidates to hold the proxy against; got {len(trained)}")
    rng = np.random.default_rng(seed)
    best = front(study)
    chosen = [best[index] for index in sorted(rng.permutation(len(best))[: count // 2])]
    rest = sorted((trial for trial in trained if trial not in chosen), key=_leakage)
    strata = np.array_split(np.arange(len(rest)), count - len(chosen))
    chosen += [rest[int(rng.choice(stratum))] for stratum in strata if len(stratum)]
    return sorted(chosen, key=_leakage)


def proxy_of(trial: FrozenTrial) -> Estimate:
    """Return the leakage that the search measured."""
    attrs = trial.user_attrs
    value = float(attrs["leakage"])
    # A number without uncertainty has no ends in a study.
    return Estimate(value, float(attrs.get("leakage_low", value)), float(attrs.get("leakage_high", value)))


def conclude(trials: Sequence[FrozenTrial], objectives: Sequence[str], audited: Sequence[Estimate]) -> Contract:
    """Compare the proxy with audits of the same candidates.

    Args:
        trials: The candidates.
        objectives: The search's, each a user attribute; where `leakage` is none, the fronts cannot differ.
        audited: AUC by audit, one for each.
    """
    proxies = [proxy_of(trial) for trial in trials]
    ours, theirs = np.array([proxy.value for proxy in proxies]), np.array([found.value for found in audited])
    before, after = _front(trials, objectives, ours), _front(trials, objectives, theirs)
    return Contract(
        lines=tuple(
            Line(trial.number, proxy, found) for trial, proxy, found in zip(trials, proxies, audited, strict=True)
        ),
        spearman=spearman_rho(ours, theirs),
        kendall=kendall_tau(ours, theirs),
        bias=float((ours - theirs).mean()),
        error=float(np.abs(ours - theirs).mean()),
        leave=tuple(sorted(before - after)),
        enter=tuple(sorted(after - before)),
    )


def _leakage(trial: FrozenTrial) -> tuple[float, int]:
    return float(trial.user_attrs["leakage"]), trial.number


def _front(trials: Sequence[FrozenTrial], objectives: Sequence[str], leakage: np.ndarray) -> set[int]:
    rows = [
        [value if name == "leakage" else float(trial.user_attrs[name]) for name in objectives]
        for trial, value in zip(trials, leakage, strict=True)
    ]
    return {trial.number for trial, is_best in zip(trials, non_dominated(rows), strict=True) if is_best}


def as_json(found: Contract) -> dict[str, object]:
    """Write a contract as plain numbers."""
    return {
        "candidates": [
            {
                "number": line.number,
                **flat({"proxy": line.proxy, "audited": line.audited}),
            }
            for line in found.lines
        ],
        **flat({"spearman": found.spearman, "kendall": found.kendall}),
        "bias": found.bias,
        "mean_absolute_error": found.error,
        "leave_front": list(found.leave),
        "enter_front": list(found.enter),
        "warnings": list(found.warnings),
    }


def table(found: Contract) -> Table:
    """Lay out the candidates, the lowest proxy first."""
    laid_out = plain_table("no.", "proxy AUC", "audited AUC", "proxy\nless audit", "front")
    for column in laid_out.columns[:4]:
        column.justify = "right"
    for line in found.lines:
        change = "leaves" if line.number in found.leave else "enters" if line.number in found.enter else ""
        apart = f"{line.proxy.value - line.audited.value:+.3f}"
        laid_out.add_row(str(line.number), interval_text(line.proxy), interval_text(line.audited), apart, change)
    return laid_out


def summary(found: Contract) -> list[str]:
    """Say in lines how far the proxy agrees."""
    changes = [
        f"{words}: {', '.join(map(str, numbers))}"
        for words, numbers in (("would leave the front", found.leave), ("would enter it", found.enter))
        if numbers
    ]
    return [
        (
            f"rank correlation over {len(found.lines)} candidates: Spearman {_span(found.spearman)}, Kendall "
            f"{_span(found.kendall)}"
        ),
        f"the proxy is off by {found.error:.3f} on average, bias {found.bias:+.3f} (below 0: too hopeful)",
        f"by the audits, {'; '.join(changes)}" if changes else "by the audits, the front of these candidates stays",
        *found.warnings,
    ]


def _span(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
