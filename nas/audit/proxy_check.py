"""The proxy check: does the leakage that guided a search rank candidates as audits of them do?

After a search, eight to twelve of its candidates are audited. Half of them come from the front, because a user picks
from there. The others come from all levels of the proxy's leakage, because a rank correlation over similar candidates
says nothing. Each candidate has shadow models of its own architecture and recipe. Below a rank correlation of 0.8 the
proxy should not be used to order candidates.
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
from estimators.estimate import flat
from estimators.estimate import from_flat
from estimators.estimate import metric_of
from estimators.estimate import number_in
from estimators.leakage.statistics.record_risk import kendall_tau
from estimators.leakage.statistics.record_risk import spearman_rho
from nas.base.text import inline
from nas.base.text import plain_table
from nas.base.text import stacked
from nas.base.text import two_places
from nas.runs.front_and_knee import first_front
from nas.runs.front_and_knee import non_dominated

CANDIDATES = 10
LEAST, MOST = 8, 12
ENOUGH = 0.8
ATTACKS = ("lira_online", "rmia_online")
"""The attacks of a proxy check: the two whose shadow models were also trained on the audited record."""


@dataclass(frozen=True)
class Line:
    """The proxy and the audit of one candidate.

    Attributes:
        number: Of its trial.
        proxy: AUC of the attack that guided the search.
        audited: AUC of the stronger of `ATTACKS`.
    """

    number: int
    proxy: Estimate
    audited: Estimate


@dataclass(frozen=True)
class ProxyCheck:
    """How well a search's proxy agrees with audits of some of its candidates.

    Attributes:
        lines: One for each candidate, the lowest proxy first.
        spearman: Rank correlation with its 95 % interval; wide with so few candidates.
        kendall: The same, Kendall's.
        bias: Mean of proxy minus audit; negative where the proxy is too low.
        error: Mean absolute difference between the two.
        leave: Candidates on the front of those audited by the proxy's leakage, but not by the audit's.
        enter: Candidates on that front by the audit's leakage, but not by the proxy's.
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
        """A line if the proxy does not rank as the audits do, else none."""
        if self.spearman.value >= ENOUGH:
            return ()
        return (
            (
                "the proxy does not rank candidates as the audits do: Spearman "
                f"{inline(self.spearman, two_places)} over {len(self.lines)} candidates, expected at least {ENOUGH}; "
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
        raise ValueError(f"expected {LEAST} to {MOST} candidates for the proxy check; got {count}")
    trained = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trained) < LEAST:
        raise ValueError(f"expected at least {LEAST} trained candidates for the proxy check; got {len(trained)}")
    rng = np.random.default_rng(seed)
    best = first_front(study)
    chosen = [best[index] for index in sorted(rng.permutation(len(best))[: count // 2])]
    rest = sorted((trial for trial in trained if trial not in chosen), key=_leakage)
    strata = np.array_split(np.arange(len(rest)), count - len(chosen))
    chosen += [rest[int(rng.choice(stratum))] for stratum in strata if len(stratum)]
    return sorted(chosen, key=_leakage)


def proxy_of(trial: FrozenTrial) -> Estimate:
    """Return the leakage that the search measured."""
    return from_flat(trial.user_attrs, "leakage")


def conclude(trials: Sequence[FrozenTrial], objectives: Sequence[str], audited: Sequence[Estimate]) -> ProxyCheck:
    """Compare the proxy with audits of the same candidates.

    Args:
        trials: The candidates.
        objectives: The search's, each a user attribute or an end of its interval; where none is the leakage or an end
            of its interval, the fronts cannot differ.
        audited: AUC by audit, one for each.
    """
    proxies = [proxy_of(trial) for trial in trials]
    ours, theirs = np.array([proxy.value for proxy in proxies]), np.array([found.value for found in audited])
    before, after = _front(trials, objectives, proxies), _front(trials, objectives, audited)
    return ProxyCheck(
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


def _front(trials: Sequence[FrozenTrial], objectives: Sequence[str], leakage: Sequence[Estimate]) -> set[int]:
    rows = [
        [_objective(trial, name, estimate) for name in objectives]
        for trial, estimate in zip(trials, leakage, strict=True)
    ]
    return {trial.number for trial, is_best in zip(trials, non_dominated(rows), strict=True) if is_best}


def _objective(trial: FrozenTrial, name: str, leakage: Estimate) -> float:
    """Return an objective of a candidate, with that leakage and its interval in the place of the search's."""
    is_leakage = metric_of(name, ("leakage",)) is not None
    return number_in(flat({"leakage": leakage}) if is_leakage else trial.user_attrs, name)


def as_json(found: ProxyCheck) -> dict[str, object]:
    """Write the check as plain numbers."""
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


def table(found: ProxyCheck) -> Table:
    """Lay out the candidates, the lowest proxy first."""
    laid_out = plain_table("no.", "proxy AUC", "audited AUC", "proxy\n- audit", "front")
    for column in laid_out.columns[:4]:
        column.justify = "right"
    for line in found.lines:
        change = "leaves" if line.number in found.leave else "enters" if line.number in found.enter else ""
        apart = f"{line.proxy.value - line.audited.value:+.3f}"
        laid_out.add_row(str(line.number), stacked(line.proxy), stacked(line.audited), apart, change)
    return laid_out


def summary(found: ProxyCheck) -> list[str]:
    """Return lines that say how well the proxy agrees with the audits."""
    changes = [
        f"{', '.join(map(str, numbers))} would {what} the front"
        for what, numbers in (("leave", found.leave), ("enter", found.enter))
        if numbers
    ]
    spearman, kendall = (inline(rank, two_places) for rank in (found.spearman, found.kendall))
    return [
        f"rank correlation of proxy and audits, {len(found.lines)} candidates: Spearman {spearman}, Kendall {kendall}",
        f"mean absolute error of the proxy {found.error:.3f}, bias {found.bias:+.3f} (negative: the proxy is too low)",
        f"ranked by the audits, {'; '.join(changes) or 'the front of these candidates is the same'}",
        *found.warnings,
    ]
