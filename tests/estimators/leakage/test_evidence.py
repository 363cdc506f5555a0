from dataclasses import FrozenInstanceError
from dataclasses import fields

import numpy as np
import pytest

from estimators.leakage.evidence import NEEDS
from estimators.leakage.evidence import Bank
from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from estimators.leakage.evidence import Population

LOGITS = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0], [0.5, 0.5, 3.0]])
LABELS = np.array([0, 1, 2])
TRAINED_ON = np.array([[True, False, True], [False, True, False]])
BANK_LOGITS = np.stack([LOGITS, LOGITS + 1])


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_evidence_cannot_say_who_is_a_member():
    names = [field.name for field in fields(Evidence)]
    assert names == ["logits", "labels", "bank", "features", "oracle", "population", "exits"]


def test_both_are_frozen_and_equal_to_themselves_alone():
    bank, twin = Bank(BANK_LOGITS, TRAINED_ON, LABELS), Bank(BANK_LOGITS, TRAINED_ON, LABELS)
    assert len({bank, bank, twin}) == 2
    with pytest.raises(FrozenInstanceError):
        Evidence(LOGITS, LABELS, bank).logits = LOGITS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("label_dtype", [np.uint8, np.int32, np.int64])
def test_the_usual_types_are_taken(dtype, label_dtype):
    labels = LABELS.astype(label_dtype)
    Evidence(LOGITS.astype(dtype), labels, Bank(BANK_LOGITS.astype(dtype), TRAINED_ON, LABELS))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS[0], LABELS, r"expected logits \(records, classes\) .* got \(3,\), \(3,\)"),
        (LOGITS, LABELS[:2], r"got \(3, 3\), \(2,\)"),
        (LOGITS, LABELS[:, None], r"got \(3, 3\), \(3, 1\)"),
        (LOGITS[:0], LABELS[:0], r"at least one record and two classes; got logits \(0, 3\)"),
        (LOGITS[:, :1], np.zeros(3, int), r"at least one record and two classes; got logits \(3, 1\)"),
        (LOGITS.astype(int), LABELS, "logits as floats and labels as integers; got int64 and int64"),
        (LOGITS, LABELS.astype(float), "got float64 and float64"),
        (with_value(LOGITS, (1, 2), np.nan), LABELS, "the network gave NaN or infinity: its training diverged"),
        (with_value(LOGITS, (0, 0), -np.inf), LABELS, "the network gave NaN or infinity"),
        (LOGITS, LABELS + 1, "labels from 0 to 2; got 1 to 3"),
        (LOGITS, LABELS - 1, "labels from 0 to 2; got -1 to 1"),
    ],
)
def test_evidence_refuses_in_one_line(logits, labels, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Evidence(logits, labels)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("logits", "trained_on", "labels", "message"),
    [
        (LOGITS, TRAINED_ON, LABELS, r"expected logits \(references, records, classes\).*got \(3, 3\) and \(2, 3\)"),
        (BANK_LOGITS, TRAINED_ON.T, LABELS, r"got \(2, 3, 3\) and \(3, 2\)"),
        (BANK_LOGITS[:0], TRAINED_ON[:0], LABELS, r"got \(0, 3, 3\) and \(0, 3\)"),
        (BANK_LOGITS, TRAINED_ON.astype(int), LABELS, "trained_on as booleans; got int64"),
        (BANK_LOGITS, TRAINED_ON, LABELS[:2], r"got \(3, 3\), \(2,\)"),
        (with_value(BANK_LOGITS, (1, 0, 0), np.inf), TRAINED_ON, LABELS, "reference 1 gave NaN or infinity"),
        (BANK_LOGITS, TRAINED_ON, LABELS + 1, "labels from 0 to 2; got 1 to 3"),
        (BANK_LOGITS, with_value(TRAINED_ON, (1, 0), True), LABELS, "1 of 3 were trained on by all 2"),
    ],
)
def test_bank_refuses_in_one_line(logits, trained_on, labels, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Bank(logits, trained_on, labels)
    assert "\n" not in str(refusal.value)


def test_the_bank_describes_the_same_records_and_classes():
    bank = Bank(BANK_LOGITS, TRAINED_ON, LABELS)
    with pytest.raises(ValueError, match="their labels differ"):
        Evidence(LOGITS, LABELS[::-1].copy(), bank)
    with pytest.raises(ValueError, match=r"records and classes to be the evidence's; got \(3, 3\) and \(2, 3\)"):
        Evidence(LOGITS[:2], LABELS[:2], bank)
    with pytest.raises(ValueError, match=r"got \(3, 3\) and \(3, 4\)"):
        Evidence(np.zeros((3, 4)), LABELS, bank)


def answer(features):
    return features @ np.ones((features.shape[1], 2), np.float32)


SOMETHING = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, set()),
        ({"features": SOMETHING}, set()),
        ({"features": SOMETHING, "oracle": Oracle(answer)}, {"queries"}),
        ({"features": SOMETHING, "oracle": Oracle(answer, answer)}, {"queries", "activations"}),
        ({"features": SOMETHING[:, :, None, None]}, {"images"}),
        ({"exits": np.array([0, 1])}, {"exits"}),
        ({"population": Population(SOMETHING, np.array([0, 1]), np.zeros((2, 2)))}, {"population"}),
    ],
)
def test_evidence_says_what_it_holds(more, expected):
    assert Evidence(np.zeros((2, 2)), np.array([0, 1]), **more).holds == expected


@pytest.mark.parametrize(
    ("of_references", "expected"),
    [
        ({}, {"bank"}),
        ({"oracles": (Oracle(answer),) * 2}, {"bank", "queries"}),
        (
            {"oracles": (Oracle(answer, answer),) * 2, "exits": np.zeros((2, 2), int)},
            {"bank", *NEEDS} - {"population", "images"},
        ),
    ],
)
def test_what_references_do_not_show_cannot_be_compared(of_references, expected):
    labels, out = np.array([0, 1]), np.array([[True, False], [False, True]])
    bank = Bank(np.zeros((2, 2, 2)), out, labels, **of_references)
    evidence = Evidence(
        np.zeros((2, 2)), labels, bank, features=SOMETHING, oracle=Oracle(answer, answer), exits=np.array([0, 1])
    )
    assert evidence.holds == expected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"features": SOMETHING[:1]}, r"expected features \(2, \.\.\.\)"),
        ({"features": SOMETHING * np.nan}, "expected finite features"),
        ({"exits": np.array([0, -1])}, r"expected exits \(2,\)"),
        ({"exits": np.array([0.0, 1.0])}, r"expected exits \(2,\)"),
    ],
)
def test_evidence_refuses_what_does_not_fit(more, message):
    with pytest.raises(ValueError, match=message):
        Evidence(np.zeros((2, 2)), np.array([0, 1]), **more)


def test_a_bank_has_an_oracle_for_each_reference_or_none():
    labels, out = np.array([0, 1]), np.array([[True, False], [False, True]])
    with pytest.raises(ValueError, match="expected an oracle for each of 2 references; got 1"):
        Bank(np.zeros((2, 2, 2)), out, labels, oracles=(Oracle(answer),))


@pytest.mark.parametrize("chosen", [[0, 3], np.array([True, False, False, True]), slice(0, 4, 3)])
def test_a_part_of_a_bank_keeps_the_same_references_and_records_of_all_it_holds(chosen):
    logits = np.arange(48.0).reshape(4, 6, 2)
    trained_on = np.array([[True, False] * 3, [False, True] * 3] * 2)
    exits = np.arange(24).reshape(4, 6)
    oracles = tuple(Oracle(answer) for _ in range(4))
    part = Bank(logits, trained_on, np.array([0, 1] * 3), oracles, exits).part(chosen, [5, 2])
    for found, whole in ((part.logits, logits), (part.trained_on, trained_on), (part.exits, exits)):
        assert np.array_equal(found, np.stack([whole[reference, [5, 2]] for reference in (0, 3)]))
    assert part.labels.tolist() == [1, 0]
    assert [own is whole for own, whole in zip(part.oracles, (oracles[0], oracles[3]), strict=True)] == [True, True]


def test_a_part_in_which_a_record_was_left_out_by_nobody_is_refused():
    bank = Bank(np.zeros((2, 2, 2)), np.array([[True, False], [False, True]]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"^expected every record to be left out by at least one reference; 1 of 2"):
        bank.part([0])
