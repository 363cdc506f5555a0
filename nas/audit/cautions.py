"""What a reader of an audit must not miss, each in a line."""

from __future__ import annotations

from collections.abc import Sequence

from estimators.estimate import Estimate
from estimators.leakage.evidence import Mask
from estimators.leakage.statistics.auc_and_rates import auc_difference
from nas.audit.findings import Finding
from nas.audit.findings import Released

# An attack by confidences up to the first, one by labels alone from the second on: something hides the confidences.
MASKED, UNMASKED = 0.55, 0.60
SURE = 0.01


def all_of(findings: Sequence[Finding], released: Sequence[Released], is_member: Mask) -> tuple[str, ...]:
    """List the warnings about what was found.

    Args:
        findings: Of all attacks, the highest AUC first.
        released: The versions of a released set and the set; empty for a single network.
        is_member: `(records,)`.
    """
    return (*_masking(findings, is_member), *_set_leaks(released), *_no_better_than_gap(findings))


def proxy_disagrees(proxy: Estimate, audited: Estimate) -> tuple[str, ...]:
    """Warn where the leakage that guided the search lies below what the audit found, beyond both intervals.

    Args:
        proxy: AUC of the attack in the search, with its interval.
        audited: AUC of the strongest attack of the audit, with its interval.
    """
    if proxy.high >= audited.low:
        return ()
    return (
        (
            f"the proxy that guided the search saw less: AUC {proxy.value:.3f} ({proxy.low:.3f} to {proxy.high:.3f}), "
            f"the audit {audited.value:.3f} ({audited.low:.3f} to {audited.high:.3f})"
        ),
    )


def test_was_open(candidates: Sequence[int]) -> tuple[str, ...]:
    """Warn where other candidates of the run were audited on these test records before.

    Args:
        candidates: Their numbers.
    """
    if not candidates:
        return ()
    named = ", ".join(str(number) for number in sorted(candidates))
    return (
        (
            f"the test records were open before, for candidates {named} of this run: whoever chose among their "
            "audits chose the lowest of several noisy numbers"
        ),
    )


def _masking(findings: Sequence[Finding], is_member: Mask) -> tuple[str, ...]:
    """Warn where predicted classes betray what confidences hide (Choquette-Choo et al., 2021)."""
    labels = [found for found in findings if found.is_label_only]
    others = [found for found in findings if not found.is_label_only]
    if not (labels and others):
        return ()
    apart = auc_difference(labels[0].scores, others[0].scores, is_member)
    flagged = others[0].auc.value <= MASKED and labels[0].auc.value >= UNMASKED
    if not flagged and not (apart.estimate.value > 0 and apart.p_value < SURE):
        return ()
    return (
        (
            f"masking: {labels[0].attack} reads predicted classes alone and reaches AUC {labels[0].auc.value:.3f}, "
            f"the best attack by confidences ({others[0].attack}) {others[0].auc.value:.3f}; "
            "something hides the confidences, not the membership"
        ),
    )


def _set_leaks(released: Sequence[Released]) -> tuple[str, ...]:
    if not released:
        return ()
    joint = released[-1]
    if joint.over_best is None or not (joint.over_best.estimate.value > 0 and joint.over_best.p_value < SURE):
        return ()
    more = joint.over_best.estimate
    return (
        (
            f"the released set leaks more than each version alone: AUC {joint.auc.value:.3f}, "
            f"{more.value:.3f} above the best single one ({more.low:.3f} to {more.high:.3f})"
        ),
    )


def _no_better_than_gap(findings: Sequence[Finding]) -> tuple[str, ...]:
    best = findings[0]
    if best.attack == "gap" or (best.over_gap.estimate.value > 0 and best.over_gap.p_value < SURE):
        return ()
    return (
        (
            f"no attack is surely better than the accuracy gap (best: {best.attack}, AUC {best.auc.value:.3f}): "
            "what was found is overfitting, not records"
        ),
    )
