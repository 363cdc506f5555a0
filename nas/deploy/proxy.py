"""The attack that guided a search, once more: on the answers of a file instead of those of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from nas.runs.run import Run
from nas.training.assess import Attack
from nas.training.bank import build_bank


@dataclass(frozen=True, eq=False)
class Proxy:
    """An attack of a search with the reference networks it had.

    Attributes:
        name: The attack.
        attack: Gives each record a score, higher for members.
        bank: The study's reference networks on members followed by non-members; None for attacks without references.
    """

    name: str
    attack: Attack
    bank: Bank | None

    def scores(self, logits: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.float64]:
        """Attack answers `(records, classes)` about members followed by non-members; returns `(records,)`."""
        return self.attack(Evidence(logits, labels, self.bank))


def proxy_of(run: Run) -> Proxy:
    """Return the attack of a run. Reference networks are read, never trained: an export must not take as long.

    Raises:
        ValueError: If the program or a file that decides the attack has changed, or the reference networks are not
            here.
    """
    plan = run.plan
    if not plan.needs_bank:
        return Proxy(run.config.attack, plan.attack, None)
    if missing := [path for path in plan.bank.paths(plan.cache_folder) if not path.is_file()]:
        raise ValueError(f"the search's reference networks are not here: {missing[0]}")
    return Proxy(run.config.attack, plan.attack, build_bank(plan.bank, plan.cache_folder))
