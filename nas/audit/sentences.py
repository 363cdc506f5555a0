"""What an audit says in words: sentences about what was found, what was not looked for, and numbers with intervals."""

from __future__ import annotations

from collections.abc import Mapping

from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import Difference
from nas.audit.attack_all import ATTACKS
from nas.audit.attack_all import needed_non_members
from nas.audit.cautions import SURE
from nas.audit.findings import Audit
from nas.base import plugins

NOT_COVERED = (
    "attribute inference: guessing an unknown attribute of a record from the network",
    "reconstruction and model inversion: making records, or what is typical of a class, from the network",
    "model extraction: copying the network by its answers",
    "property inference: learning facts about the training data as a whole, such as the share of some group",
    "attacks with poisoning: an attacker who puts records into the training data to make others leak",
    "records other than those audited, and groups that are rare among them: an average hides them",
    "people who gave several records, unless their records were audited as one: together they leak more",
    "versions of the network that are not listed here: quantised, pruned, updated or fine-tuned ones",
)
SIDE_CHANNELS = "side channels: the time, energy or memory that an answer takes"
BEYOND_EXITS = f"{SIDE_CHANNELS}, beyond the exit that answered"


def headline(audit: Audit) -> str:
    """Say in a line what the strongest attack reached."""
    return (
        f"leakage: AUC {inline(audit.leakage)} by {audit.strongest.attack}, the strongest of "
        f"{_count(len(audit.findings), 'attack')}; {audit.members:,} members, {audit.non_members:,} non-members, "
        f"{_count(audit.shadows, 'shadow')}; 0.5 is guessing, and the interval pays for the choice"
    )


def summary(audit: Audit) -> list[str]:
    """Say in three sentences what was found, how it compares with overfitting, and how far that reaches."""
    return [_how_much(audit), f"{_beyond_overfitting(audit)}; {_at_few_false_alarms(audit)}.", _how_far(audit)]


def skipped(audit: Audit) -> Mapping[str, str]:
    """Tell of each attack that exists and did not run why not."""
    ran = {found.attack for found in audit.findings}
    left = [name for name in plugins.available(ATTACKS, "attack") if name not in ran]
    return {**dict.fromkeys(left, "was not asked for"), **audit.skipped}


def not_tested(audit: Audit) -> list[str]:
    """List what this audit says nothing about, whichever attacks ran."""
    needs = [need for found in audit.findings for need in plugins.find(ATTACKS, found.attack, "NEEDS") or ()]
    return [*NOT_COVERED, BEYOND_EXITS if "exits" in needs else SIDE_CHANNELS]


def of_epsilon(audit: Audit) -> str:
    """Say what the bounds on epsilon hold for."""
    bound = audit.strongest.epsilon
    return f"delta {bound.delta:.3g}, {100 * bound.confidence:g} % one-sided"


def of_shapr(audit: Audit) -> str:
    """Say what SHAPr's mean is, and how well SHAPr agrees with the attack."""
    found = audit.records
    return (
        f"SHAPr: mean {found.shapr.mean():.3f}, which is accuracy and not leakage; rank correlation with the scores of "
        f"{found.attack} {inline(found.agreement)}"
    )


def inline(estimate: Estimate) -> str:
    """Write a number with its interval in brackets.

    >>> inline(Estimate(0.5123, 0.45, 0.57))
    '0.512 (0.450 to 0.570)'
    """
    return cell(estimate).replace("\n", " (") + ")"


def cell(estimate: Estimate, sign: str = "") -> str:
    r"""Write a number, and under it its interval; `+` as the sign for one that may be negative.

    >>> cell(Estimate(-0.02, -0.05, 0.01), "+")
    '-0.020\n-0.050 to +0.010'
    """
    form = f"{sign}.3f"
    return f"{estimate.value:{form}}\n{estimate.low:{form}} to {estimate.high:{form}}"


def percent(estimate: Estimate) -> str:
    r"""Write a share, and under it its interval.

    >>> percent(Estimate(0.0012, 0.0003, 0.01))
    '0.12 %\n0.03 to 1 %'
    """
    return f"{100 * estimate.value:.3g} %\n{100 * estimate.low:.3g} to {100 * estimate.high:.3g} %"


def over(apart: Difference) -> str:
    """Write a difference, under it its interval, and under that its p-value."""
    return f"{cell(apart.estimate, '+')}\n{_p(apart.p_value)}"


def rate(fpr: float, found: Estimate | None) -> str:
    """Write a TPR at an FPR, or how many non-members it takes to know it."""
    return f"needs {needed_non_members(fpr):,}\nnon-members" if found is None else percent(found)


def _how_much(audit: Audit) -> str:
    best = audit.strongest.attack
    found = (
        f"AUC {inline(audit.leakage)}, where 0.5 is guessing and the interval pays for having chosen the strongest of "
        f"{_count(len(audit.findings), 'attack')}."
    )
    if not _is_found(audit):
        return f"No attack told members from non-members surely better than guessing; the strongest was {best}: {found}"
    return (
        f"Members can be told from non-members: of a member and a non-member, {best} ranks the right one higher in "
        f"{100 * audit.leakage.value:.1f} % of pairs: {found}"
    )


def _is_found(audit: Audit) -> bool:
    return audit.leakage.low > 0.5


def _beyond_overfitting(audit: Audit) -> str:
    best = audit.strongest
    if best.attack == "gap":
        text = "Nothing beat the accuracy gap between members and non-members"
        return f"{text}, so what was found is overfitting" if _is_found(audit) else text
    sure = best.over_gap.estimate.value > 0 and best.over_gap.p_value < SURE
    return (
        f"The AUC is {'' if sure else 'not '}surely above that of the accuracy gap between members and non-members "
        f"({over(best.over_gap).replace(chr(10), ', ')})"
    )


def _at_few_false_alarms(audit: Audit) -> str:
    fpr, found = next(iter(audit.strongest.tpr.items()))
    if found is None:
        return (
            f"{audit.non_members:,} non-members are too few to say how many members are found at {100 * fpr:g} % false "
            f"alarms, which takes {needed_non_members(fpr):,}"
        )
    share = percent(found).replace("\n", " (") + ")"
    return f"at {100 * fpr:g} % false alarms {audit.strongest.attack} finds {share} of the members"


def _how_far(audit: Audit) -> str:
    out = len(skipped(audit))
    left = f"{_count(out, 'attack')} did not run, " if out else ""
    return (
        f"This holds for this network, these records and these attacks: {left}a better attack may find more, "
        "and what else was not tested is listed below."
    )


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
