"""Audits of simulated networks, made once for all tests that report them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from nas.audit.attack_all import audit

OF_A_BANK = ("gap", "loss", "entropy", "confidence", "modified_entropy", "lira", "lira_online", "rmia", "rmia_online")


def halves(rng, count, records):
    """Draw `(count, records)` masks in complementary pairs, so that half of them leave each record out."""
    firsts = [rng.permutation(records) < records // 2 for _ in range(count // 2)]
    return np.stack([mask for first in firsts for mask in (first, ~first)])


def draw(seed, leak, *, records=2000, references=8, classes=5):
    """Return evidence and membership of a network that is surer of easy records, and by `leak` of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, records)
    difficulty = rng.normal(0, 1.5, records)
    trained_on = halves(rng, references + 2, records)
    logits = rng.normal(0, 1, (references + 2, records, classes))
    logits[:, np.arange(records), labels] += 2 - difficulty + leak * trained_on
    return Evidence(logits[0], labels, Bank(logits[2:], trained_on[2:], labels)), trained_on[0]


def coarse(evidence):
    """A version of a network, and of its shadows, that says less and errs on its own."""
    rng = np.random.default_rng(5)
    bank = replace(evidence.bank, logits=np.round(evidence.bank.logits + rng.normal(0, 1, evidence.bank.logits.shape)))
    return replace(evidence, logits=np.round(evidence.logits + rng.normal(0, 1, evidence.logits.shape)), bank=bank)


@cache
def with_bank():
    """2,000 records, eight shadows, one further version: everything there is to report, TPR at 1 % too."""
    evidence, is_member = draw(0, 1.5)
    return audit(evidence, is_member, seed=0, effort="full", attacks=OF_A_BANK, versions={"int8": coarse(evidence)})


@cache
def without_bank():
    """60 records of five classes and no shadows: no class, no TPR, no other training."""
    evidence, is_member = draw(1, 0.0, records=60)
    return audit(replace(evidence, bank=None), is_member, seed=0, effort="quick")
