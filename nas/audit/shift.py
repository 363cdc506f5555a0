"""What each attack would find had nothing been memorised, from the audit's own shadow models.

Each attack runs on some shadow models as it runs on the audited network, with the other shadow models as its bank. It
is shown nothing but the records that the shadow model left out, for an attack that fits itself to a network's answers
would else fit to records that were memorised. They are split by the membership that is claimed of the audited network:
see `estimators.leakage.statistics.shift`. Shadow models in complementary pairs are left out of the bank together, so
that what is left is in pairs again.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Mask
from estimators.leakage.evidence import Population
from estimators.leakage.statistics.auc_and_rates import Scores
from estimators.leakage.statistics.shift import LEAST
from estimators.leakage.statistics.shift import OnReferences
from nas.audit.findings import ATTACKS
from nas.base import plugins

QUICK_ROUNDS, SLOW_ROUNDS = 2, 1
"""Pairs of shadow models that attacks on logits, and those that cost more, are tried on. One pair leaves every record
out once and costs as much as the attack itself; the second takes half of the trainings' own noise away."""


def on_shadows(
    evidence: Evidence,
    names: Sequence[str],
    is_member: Mask,
    load: Callable[[str], Callable[[Evidence], Scores]],
    look: Callable[[str], None] = lambda _attack: None,
) -> Mapping[str, OnReferences]:
    """Run attacks on shadow models in the place of the network.

    Args:
        evidence: The network's, with a bank; without one the result is empty.
        names: Of the attacks.
        is_member: `(records,)`: which records the audited network was trained on, as claimed.
        load: Gives an attack by its name.
        look: Called before an attack runs on a shadow model.

    Returns:
        By attack. Attacks that cannot run on a shadow model, because too few are left to compare it with or its answers
        about the population are not known, are not among them.
    """
    found: dict[str, list[tuple[Scores, Mask]]] = {}
    bank = evidence.bank
    for place, own in enumerate(rounds(bank, is_member)[:QUICK_ROUNDS] if bank is not None else ()):
        assert bank is not None  # else there are no rounds
        for shadow, asked in _shadows(evidence, bank, own):
            left_out = ~bank.trained_on[shadow]
            for name in names:
                if (place >= SLOW_ROUNDS and _is_slow(name)) or not _can_run(name, asked):
                    continue
                look(f"{name} on a shadow model")
                with suppress(ValueError):  # a bank that is too uneven for the attack, less this pair
                    scores = np.zeros(len(left_out))
                    scores[left_out] = load(name)(asked)
                    found.setdefault(name, []).append((scores, left_out))
    return {
        name: OnReferences(np.stack([scores for scores, _ in each]), np.stack([out for _, out in each]))
        for name, each in found.items()
    }


def rounds(bank: Bank, is_member: Mask) -> list[tuple[int, ...]]:
    """Return the references in complementary pairs, or one by one where a reference has no partner.

    Those that left out too few members or non-members to compare them are not among them, nor are those without which
    some record would have been left out by none.
    """
    pairs: list[tuple[int, ...]] = []
    for own in range(len(bank.logits)):
        if any(own in pair for pair in pairs):
            continue
        later = range(own + 1, len(bank.logits))
        partner = [other for other in later if np.array_equal(bank.trained_on[other], ~bank.trained_on[own])][:1]
        pairs.append((own, *partner))
    return [pair for pair in pairs if _compares(bank, pair, is_member)]


def _compares(bank: Bank, own: Sequence[int], is_member: Mask) -> bool:
    rest = np.delete(bank.trained_on, own, axis=0)
    if not len(rest) or rest.all(axis=0).any():
        return False
    out = ~bank.trained_on[list(own)]
    return bool(min((out & is_member).sum(axis=1).min(), (out & ~is_member).sum(axis=1).min()) >= LEAST)


def _shadows(evidence: Evidence, bank: Bank, own: Sequence[int]) -> Iterator[tuple[int, Evidence]]:
    """Give the evidence on each shadow model of a pair: about what it left out, with the others as its bank."""
    rest = [other for other in range(len(bank.logits)) if other not in own]
    known = evidence.population
    for shadow in own:
        rows = ~bank.trained_on[shadow]
        oracle, population = (bank.oracles[shadow] if bank.oracles else None), None
        if known is not None and oracle is not None:
            population = Population(known.features, known.labels, oracle.query(known.features))
        yield (
            shadow,
            Evidence(
                bank.logits[shadow][rows],
                evidence.labels[rows],
                bank.part(rest, rows),
                None if evidence.features is None else evidence.features[rows],
                oracle,
                population,
                None if bank.exits is None else bank.exits[shadow][rows],
            ),
        )


def _is_slow(name: str) -> bool:
    """Tell whether an attack asks networks about changed records, looks inside, or belongs to a greater effort."""
    needs = set(plugins.load(ATTACKS, name, "NEEDS"))
    return not needs <= {"bank"} or plugins.find(ATTACKS, name, "EFFORT") != "quick"


def _can_run(name: str, asked: Evidence) -> bool:
    references = 0 if asked.bank is None else len(asked.bank.logits)
    needs = set(plugins.load(ATTACKS, name, "NEEDS"))
    return needs <= asked.holds and references >= plugins.find(ATTACKS, name, "MIN_REFERENCES")
