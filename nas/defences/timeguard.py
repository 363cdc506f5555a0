"""TimeGuard: the device holds back the answers of early exits, so that their time does not tell which exit answered.

Source: Li et al., "Auditing Membership Leakages of Multi-Exit Networks" (CCS 2022). An answer
waits for |N(0, deviation)|, but never beyond the time of the last exit. What is drawn follows from the record, so
asking again averages nothing out. The rule, how it differs from the published one and what it does not do are in
`nas.pricing.exit_delays`. The deviation is a share of the time between the first exit and the last, because the same
share hides as much on every device.

A mask: it changes what is shown, not what the network remembers. Only an attack that reads the exit finds less
(`exit_index`, in an audit); the attack of a search reads none, so a search sees what it costs and not what it hides.
Whoever owns the device sees the exit.

How much it hides. The last exit answers at its own time, so an answer before that is told to be an early one: of the
first exit's answers 68 % at a deviation of 1, 20 % at 4, 5 % at 16. How much of the time is left that these answers
save: 37 %, 10 %, 2 %.

A network without early exits has nothing to hold back: its candidate is one of `none`. The exported file computes all
exits and knows no delays. The application on the device has to hold answers back, and to keep the exit to itself.
"""

from __future__ import annotations

from nas.training.defence import Teach
from nas.training.loop import TrainSetup

PARAMETERS = {"deviation": {"low": 0.5, "high": 16.0, "log": True}}
"""`deviation` of the wait, as a share of the time between the first exit and the last; higher hides more and takes
longer."""
LEAST_DEVIATION, MOST_DEVIATION = 0.01, 1000.0


def check(deviation: float) -> None:
    """Refuse a deviation that holds nothing back, or beyond all that makes a difference.

    Raises:
        ValueError: If it is not from `LEAST_DEVIATION` to `MOST_DEVIATION`.
    """
    if not LEAST_DEVIATION <= deviation <= MOST_DEVIATION:
        raise ValueError(
            f"expected timeguard.deviation from {LEAST_DEVIATION:g} to {MOST_DEVIATION:g}; got {deviation}"
        )


def defend(setup: TrainSetup, _teach: Teach, deviation: float) -> TrainSetup:  # noqa: ARG001 - read by `delay`
    """Return the set-up as it is: the delays that `delay` tells of are all there is."""
    return setup


def delay(deviation: float) -> float:
    """Return by how much early answers are held back (`nas.training.answers.answering`)."""
    return deviation
