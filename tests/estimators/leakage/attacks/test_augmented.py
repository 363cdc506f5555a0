"""LiRA and RMIA over a record and moved copies of it."""

from dataclasses import replace

import numpy as np
import pytest

from estimators.leakage.attacks import lira_augmented
from estimators.leakage.attacks import lira_online
from estimators.leakage.attacks import rmia_augmented
from estimators.leakage.attacks import rmia_online
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.shared.copies import shift
from estimators.leakage.statistics.auc_and_rates import auc

RECORDS, REFERENCES = 600, 6
AS_IT_IS = 8  # the corners of an image that was not moved are 0 and 8
FORMS = [(lira_augmented, lira_online), (rmia_augmented, rmia_online)]
each = pytest.mark.parametrize(("augmented", "plain"), FORMS, ids=["lira", "rmia"])


def network(seed, trained_on, *, knows_copies=True, gain=4):
    """Answer each record and each of its moves with noise of its own, and surely where it was trained on the record.

    Two corners of a moved image tell the move, the second channel the record.
    """

    def query(images):
        record = images[:, 1].max(axis=(1, 2)).astype(int)
        move = 9 * images[:, 0, 0, 0] + images[:, 0, 2, 2]
        noise = [np.random.default_rng([seed, int(r), int(m)]).normal(0, 2) for r, m in zip(record, move, strict=True)]
        known = trained_on[record] if knows_copies else gain * (trained_on[record] & (move == AS_IT_IS))
        odds = 1.0 * known + np.array(noise)
        return np.stack([odds, np.zeros_like(odds)], axis=1)

    return Oracle(query)


def draw(**knows):
    rng = np.random.default_rng(0)
    firsts = [rng.permutation(RECORDS) < RECORDS // 2 for _ in range(REFERENCES // 2 + 1)]
    trained_on = np.stack([mask for first in firsts for mask in (first, ~first)])
    images = np.zeros((RECORDS, 2, 3, 3), np.float32)
    images[:, 0] = np.arange(9).reshape(3, 3)
    images[:, 1] = np.arange(RECORDS)[:, None, None]
    oracles = [network(seed, mask, **knows) for seed, mask in enumerate(trained_on)]
    logits = np.stack([oracle.query(images) for oracle in oracles])
    labels = np.zeros(RECORDS, int)
    bank = Bank(logits[2:], trained_on[2:], labels, tuple(oracles[2:]))
    return Evidence(logits[0], labels, bank, images, oracles[0]), trained_on[0]


@pytest.fixture(scope="module")
def drawn():
    return draw()


@each
def test_the_score_is_the_mean_over_the_record_and_its_five_copies(drawn, augmented, plain):
    evidence, _ = drawn
    images = evidence.features
    moves = [images, images[..., ::-1], *(shift(images, *way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1)))]
    scores = [
        plain.attack(
            Evidence(
                evidence.oracle.query(copy),
                evidence.labels,
                replace(evidence.bank, logits=np.stack([known.query(copy) for known in evidence.bank.oracles])),
            )
        )
        for copy in moves
    ]
    np.testing.assert_allclose(augmented.attack(evidence), np.mean(scores, axis=0), rtol=1e-12)


@each
def test_where_copies_were_learned_too_it_finds_more_than_one_answer_tells(drawn, augmented, plain):
    evidence, is_member = drawn
    assert auc(augmented.attack(evidence), is_member) > auc(plain.attack(evidence), is_member) + 0.05


@each
@pytest.mark.parametrize("gain", [4, 1])  # 1: the record's own answer tells little, and the copies still less
def test_where_copies_were_not_learned_the_record_alone_is_asked_about(augmented, plain, gain):
    evidence, _ = draw(knows_copies=False, gain=gain)
    asked = []
    spy = Oracle(lambda images: asked.append(images) or evidence.oracle.query(images))
    np.testing.assert_array_equal(augmented.attack(replace(evidence, oracle=spy)), plain.attack(evidence))
    assert not asked


def test_both_attacks_ask_once(drawn):
    evidence, _ = drawn
    asked = []
    spy = Oracle(lambda images: asked.append(len(images)) or evidence.oracle.query(images))
    watched = replace(evidence, oracle=spy)
    lira_augmented.attack(watched)
    rmia_augmented.attack(watched)
    assert asked == [RECORDS] * lira_augmented.QUERIES == [RECORDS] * rmia_augmented.QUERIES


@each
def test_references_that_do_not_answer_are_refused(drawn, augmented, plain):
    evidence, _ = drawn
    silent = replace(evidence, bank=replace(evidence.bank, oracles=()))
    with pytest.raises(ValueError, match=r"references that answer; got \(600, 2, 3, 3\) and 0"):
        augmented.attack(silent)
