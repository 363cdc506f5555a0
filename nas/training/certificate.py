"""The certificate of a private training in words: what is promised of it, and what that takes for granted.

A certificate bounds from above what any attack can find, an audit shows from below what one did find. Wherever one
stands, the other stands beside it: a lower bound above the upper one means that something is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence

from estimators.leakage.statistics.accountants import ACCOUNTANTS
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of

LARGEST_PRIVATE = 10.0
"""Above this epsilon a training is not called private: one member may change a probability more than 20,000 times."""
NAMES = {
    "prv": "privacy loss distributions (PRV)",
    "rdp": "Renyi divergences (RDP)",
    "gdp": "central limit (GDP), an approximation and no bound",
    "zcdp": "zero-concentrated (zCDP), as if every member took part in every step",
    "advanced": "advanced composition",
    "naive": "naive composition",
}
MECHANISM = ("noise_multiplier", "sampling_rate", "private_steps")
"""What an accountant computes from, as a guarantee names it."""
STATED = ("epsilon", "delta", *MECHANISM, *(f"epsilon_{name}" for name in ACCOUNTANTS))
"""The numbers of a certificate, as a guarantee names them; of these, a defence of somebody's own may state a part."""
ASSUMPTIONS = (
    (
        "It is about one member's presence: two sets of members are neighbours if one has a single record more. People "
        "with several records, and a record that is replaced by another, are promised less."
    ),
    (
        "It is of one training with these settings. A search trains many candidates on the same members and chooses "
        "among them by their leakage; what the choice reveals, and what several published networks reveal together, is "
        "not counted."
    ),
    (
        "The number of members, the sampling rate and the number of steps are taken as known. So are the figures that "
        "records are standardised by, and the names of the classes: they come from members without noise."
    ),
    (
        "The noise is drawn from the run's seed by an ordinary generator, so that the training can be repeated. "
        "Whoever knows the seed can take the noise off: for a release, choose a seed at random and keep it secret."
    ),
    "Sums are taken to be of real numbers. The digits of floating-point noise can reveal more (Mironov, 2012).",
)
"""What has to be true for a certificate to hold, in sentences."""


def stated(numbers: Mapping[str, object]) -> dict[str, float]:
    """Return what a certificate consists of, out of a candidate's numbers; empty if there is none.

    >>> stated({"error": 0.1, "epsilon": 8.0, "delta": 1e-5}), stated({"error": 0.1})
    ({'epsilon': 8.0, 'delta': 1e-05}, {})
    """
    found = {name: float(value) for name in STATED if isinstance(value := numbers.get(name), int | float)}
    return found if {"epsilon", "delta"} <= set(found) else {}


def may_be_called_private(guarantee: Mapping[str, float]) -> bool:
    """Tell whether an accountant computed the epsilon, and it is at most `LARGEST_PRIVATE`."""
    return set(MECHANISM) <= set(guarantee) and guarantee["epsilon"] <= LARGEST_PRIVATE


def epsilon_at(guarantee: Mapping[str, float], delta: float) -> float | None:
    """Return the upper bound at another delta; None if what an accountant needs is not stated.

    Raises:
        ValueError: If Opacus is not installed.
    """
    if not set(MECHANISM) <= set(guarantee):
        return None
    noise, rate, steps = (guarantee[name] for name in MECHANISM)
    return epsilon_of(Mechanism(noise, rate, int(steps)), delta)


def largest_advantage(epsilon: float, delta: float) -> float:
    """Return the highest TPR minus FPR of any attack on one record (Kairouz, Oh and Viswanath, 2015).

    >>> round(largest_advantage(1.0, 0.0), 3), largest_advantage(0.0, 0.0)
    (0.462, 0.0)
    """
    return math.tanh(epsilon / 2) + 2 * delta / (math.exp(min(epsilon, 700.0)) + 1)


def promise(guarantee: Mapping[str, float]) -> str:
    """Return what is promised in one sentence, or why nothing is."""
    epsilon, delta = guarantee["epsilon"], guarantee["delta"]
    told = f"epsilon at most {epsilon:.3g} at delta {delta:.3g}"
    if not set(MECHANISM) <= set(guarantee):
        return (
            f"the defence states {told}; no accountant of this program computed it, so nothing is called private here"
        )
    if epsilon > LARGEST_PRIVATE:
        return (
            f"{told}: above {LARGEST_PRIVATE:g} this promises next to nothing, and the training is not to be called "
            "private"
        )
    return (
        f"differentially private with {told}: no attack on one member has a TPR minus FPR above "
        f"{largest_advantage(epsilon, delta):.3f}"
    )


def accounts(guarantee: Mapping[str, float]) -> list[str]:
    """Return a line for the number of each accountant, the one that counts among them."""
    named = {NAMES[name]: guarantee.get(f"epsilon_{name}") for name in ACCOUNTANTS}
    return [f"epsilon by {name}: {value:.4g}" for name, value in named.items() if value is not None]


def markdown(guarantee: Mapping[str, float]) -> list[str]:
    """Write a certificate as a section in Markdown; nothing without one."""
    if not guarantee:
        return []
    sentence = promise(guarantee)
    mechanism = [f"- {name.replace('_', ' ')}: {guarantee[name]:.6g}" for name in MECHANISM if name in guarantee]
    return [
        "",
        "## Certificate",
        "",
        f"{sentence[0].upper()}{sentence[1:]}.",
        "",
        *(f"- {line}" for line in accounts(guarantee)),
        *mechanism,
        "",
        "It holds under these assumptions:",
        "",
        *(f"- {line}" for line in ASSUMPTIONS),
        "",
        "It is an upper bound. `nas audit` and `nas audit --canaries` show a lower one.",
    ]


def beside(guarantee: Mapping[str, float], lower: float, delta: float) -> dict[str, str]:
    """Return the facts that an audit states of a certificate: what is promised, and both bounds at the audit's delta.

    Args:
        guarantee: As `stated`; empty for none.
        lower: The audit's lower bound on epsilon, whatever the training is.
        delta: Of that bound.
    """
    if not guarantee:
        return {}
    upper = epsilon_at(guarantee, delta)
    shown = "not known" if upper is None else f"at most {upper:.3g}"
    return {
        "certificate": promise(guarantee),
        "epsilon": f"{shown} by the certificate, at least {lower:.3g} by this audit, both at delta {delta:.3g}",
        "assumptions of the certificate": " ".join(ASSUMPTIONS),
    }


def refuted(guarantee: Mapping[str, float], lower: float, delta: float) -> Sequence[str]:
    """Warn if an audit shows more than a certificate allows."""
    upper = epsilon_at(guarantee, delta) if guarantee else None
    if upper is None or lower <= upper:
        return ()
    said = (
        f"the audit shows an epsilon of at least {lower:.3g} at delta {delta:.3g}, and the certificate allows "
        f"{upper:.3g}: members and non-members differ in more than their membership, records depend on each other, or "
        "the certificate is wrong"
    )
    return (said,)
