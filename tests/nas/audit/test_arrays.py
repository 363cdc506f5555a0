"""What an audit's arrays must be to each other: the bounds of each check, beside `test_audit_input`'s overview."""

import re
from dataclasses import asdict

import numpy as np
import onnx
import pytest
import torch

from nas.audit.attack_all import audit
from nas.audit.files import check_disjoint
from nas.audit.files import check_recipe
from nas.audit.files import check_sizes
from nas.audit.files import read
from nas.deploy.onnx_file import to_onnx
from nas.training.loop import logits_of
from nas.training.recipe import Recipe
from search_spaces import mlp
from search_spaces.network import build

RECORDS, REFERENCES = 40, 4
IS_MEMBER = np.arange(RECORDS) < RECORDS // 2
TRAINED_ON = np.stack([IS_MEMBER, ~IS_MEMBER, np.arange(RECORDS) % 2 < 1, np.arange(RECORDS) % 2 > 0])


def network(seed):
    space = mlp.make_space((5,), 3)
    return build(space.decode(space.reference), seed=seed).eval()


def answers(seed, features):
    return logits_of(network(seed), torch.from_numpy(features))


def written(path, *, without=(), **changes):
    """An .npz with all that an audit can read, less what is left out."""
    rng = np.random.default_rng(0)
    features, known = (rng.normal(size=(count, 5)).astype(np.float32) for count in (RECORDS, 12))
    arrays = {
        "labels": np.arange(RECORDS) % 3,
        "is_member": IS_MEMBER,
        "features": features,
        "logits": answers(0, features),
        "reference_logits": np.stack([answers(seed, features) for seed in range(1, 1 + REFERENCES)]),
        "trained_on": TRAINED_ON,
        "population_features": known,
        "population_labels": np.arange(12) % 3,
        "population_logits": answers(0, known),
        **changes,
    }
    np.savez(path, **{name: values for name, values in arrays.items() if name not in without})
    return path


def exported(path, seed):
    model = network(seed)
    onnx.save(to_onnx(model.architecture, model, "float32", torch.zeros(1, 5)), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.npz"


def test_onnx_files_give_the_audit_that_their_logits_give(path, tmp_path):
    model = exported(tmp_path / "network.onnx", 0)
    shadows = [exported(tmp_path / f"shadow{seed}.onnx", seed) for seed in range(1, 1 + REFERENCES)]
    first = read(None, written(path))
    given, is_member = first.evidence, first.is_member
    second = read(model, written(path, without=("logits", "reference_logits", "population_logits")), shadows)
    asked = second.evidence
    np.testing.assert_array_equal(second.is_member, is_member)
    # Every shadow in its row: they differ by more than their answers' rounding.
    np.testing.assert_allclose(asked.bank.logits, given.bank.logits, atol=1e-5)
    assert np.abs(given.bank.logits[0] - given.bank.logits[1]).max() > 0.01
    np.testing.assert_allclose(asked.population.logits, given.population.logits, atol=1e-5)
    assert given.holds == {"bank", "population"}
    assert asked.holds == {"bank", "population", "queries"}
    first, second = (audit(one, is_member, seed=0, attacks=["lira_online", "loss"]) for one in (given, asked))
    for one in first.findings:
        assert second.finding(one.attack).auc.value == pytest.approx(one.auc.value, abs=0.01)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_, np.float64])
def test_membership_may_be_booleans_or_zero_and_one(path, kind):
    given = read(None, written(path, is_member=IS_MEMBER.astype(kind), trained_on=TRAINED_ON.astype(kind)))
    evidence, is_member = given.evidence, given.is_member
    assert is_member.dtype == evidence.bank.trained_on.dtype == bool
    np.testing.assert_array_equal(is_member, IS_MEMBER)
    np.testing.assert_array_equal(evidence.bank.trained_on, TRAINED_ON)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, np.float16])
def test_records_of_other_types_are_read_as_float32(path, kind):
    features = np.arange(RECORDS * 5).reshape(RECORDS, 5)
    evidence = read(None, written(path, features=features.astype(kind))).evidence
    assert evidence.features.dtype == np.float32
    np.testing.assert_array_equal(evidence.features, features)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_member": IS_MEMBER[:20]},
        {"is_member": np.array(1)},
        {"labels": np.full(RECORDS, 5)},
        {"is_member": IS_MEMBER * 0.5},
        {"labels": np.array(1)},
        {"labels": np.full(RECORDS, np.inf)},
        {"labels": np.full(RECORDS, 2**64 - 1, np.uint64)},
        {"labels": np.full(RECORDS, 1e300)},
        {"logits": np.array(1.0)},
        {"logits": np.zeros((RECORDS, 0))},
        {"logits": np.zeros((RECORDS, 3, 2))},
        {"reference_logits": np.array(1.0)},
        {"reference_logits": np.zeros((1, 2, RECORDS, 3))},
        {"population_logits": np.array(1.0)},
        {"classes": np.array("abc")},
        {"classes": np.array([b"\xff", b"\xfe", b"a"])},
        {"labels": np.full(RECORDS, 0.5)},
        {"labels": np.zeros((2, RECORDS), int)},
        {"labels": np.zeros((RECORDS, 3), int)},
        {"labels": np.full(RECORDS, "cat")},
        {"logits": np.zeros((RECORDS - 1, 3), np.float32)},
        {"logits": np.ones((RECORDS, 3), int)},
        {"features": np.arange(float(RECORDS))},
        {"features": np.array(1.0)},
        {"features": np.zeros((RECORDS, 0))},
        {"features": np.full((RECORDS, 5), np.nan)},
        {"features": np.ones((RECORDS, 5), complex)},
        {"trained_on": TRAINED_ON[0]},
        {"trained_on": TRAINED_ON[:, :20]},
        {"trained_on": TRAINED_ON[:2]},
        {"trained_on": np.ones_like(TRAINED_ON)},
        {"trained_on": TRAINED_ON * 2},
        {"reference_logits": np.zeros((REFERENCES, RECORDS, 4), np.float32)},
        {"reference_logits": np.full((REFERENCES, RECORDS, 3), np.nan)},
        {"population_labels": np.zeros(11, int)},
        {"population_logits": np.full((12, 3), np.inf)},
        {"population_features": np.full((12, 5), "x")},
        {"recipe": "{"},
        {"recipe": "3"},
    ],
    ids=lambda changes: next(f"{name} {np.asarray(values).dtype}" for name, values in changes.items()),
)
def test_arrays_that_do_not_fit_end_in_one_line(path, changes):
    with pytest.raises(ValueError, match=r"\Aexpected [^\n]+\Z"):
        read(None, written(path, **changes))


@pytest.mark.parametrize(
    ("without", "refusal"),
    [
        (("is_member",), "there is no 'is_member', only ["),
        (("logits",), "expected 'logits' in the .npz, or 'features' and an ONNX file; got ["),
        (("population_labels",), "expected 'population_labels', as there is 'population_features'; got none"),
        (("population_features",), "expected 'population_features', as there is 'population_labels'; got none"),
        (("population_logits",), "expected 'population_logits' in the .npz, or 'population_features' and an ONNX"),
    ],
)
def test_missing_arrays_are_named(path, without, refusal):
    with pytest.raises(ValueError, match=re.escape(refusal)):
        read(None, written(path, without=without))


def test_shadows_need_records_and_to_be_as_many_as_rows(path, tmp_path):
    shadow = exported(tmp_path / "shadow.onnx", 1)
    for without, refusal in (
        (("trained_on", "reference_logits"), "expected 'trained_on', the records that each reference was trained on"),
        (("reference_logits",), "expected logits (references, records, classes) and trained_on"),
        (("reference_logits", "features"), "expected 'reference_logits' in the .npz, or 'features' and an ONNX file"),
    ):
        with pytest.raises(ValueError, match=re.escape(refusal)):
            read(None, written(path, without=without), [shadow])


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("name", ["labels", "logits", "recipe", "features", "trained_on"])
def test_nothing_is_unpickled(path, tmp_path, name):
    trap = np.empty(RECORDS, dtype=object)
    trap[:] = [Trap(tmp_path / "sprung")] * RECORDS
    with pytest.raises(ValueError, match="Object arrays cannot be loaded when allow_pickle=False"):
        read(None, written(path, **{name: trap}))
    assert not (tmp_path / "sprung").exists()


def test_the_first_record_on_both_sides_is_named_and_twins_of_one_side_are_none():
    features = np.random.default_rng(1).normal(size=(RECORDS, 5)).astype(np.float32)
    features[[1, 31]] = features[[0, 30]]
    check_disjoint(features, IS_MEMBER)
    features[[33, 25]] = features[[4, 9]]
    with pytest.raises(ValueError, match="2 non-members equal a member, first rows 9 and 25: "):
        check_disjoint(features, IS_MEMBER)


def test_records_that_are_equal_to_the_network_are_equal(path):
    features = np.random.default_rng(1).normal(size=(RECORDS, 5))
    features[25] = features[9] * (1 + 1e-12)
    with pytest.raises(ValueError, match="1 non-members equal a member, first rows 9 and 25: "):
        read(None, written(path, features=features))


@pytest.mark.parametrize(("trained", "refused"), [(990, False), (1010, False), (989, True), (1011, True)])
def test_a_shadow_may_be_off_by_one_percent(trained, refused):
    trained_on, is_member = (np.arange(2500) < [[1000], [trained]]), np.arange(2500) < 1000
    if not refused:
        check_sizes(trained_on, is_member)
        return
    with pytest.raises(ValueError, match=f"the network, 1000; shadow model 1 was trained on {trained}: "):
        check_sizes(trained_on, is_member)


@pytest.mark.parametrize("name", asdict(Recipe()))
def test_each_setting_of_a_recipe_counts_where_one_side_lacks_it_too(name):
    ours = asdict(Recipe())
    with pytest.raises(ValueError, match=rf"recipe; they differ in {name}: network .*, shadow models 'another'$"):
        check_recipe(ours, {**ours, name: "another"})
    fewer = {setting: value for setting, value in ours.items() if setting != name}
    with pytest.raises(ValueError, match=rf"recipe; they differ in {name}: network .*, shadow models None$"):
        check_recipe(ours, fewer)
    with pytest.raises(ValueError, match=rf"recipe; they differ in {name}: network None, shadow models "):
        check_recipe(fewer, ours)


def test_what_is_not_known_of_a_recipe_is_not_compared():
    check_recipe({}, {"epochs": 3})
    check_recipe({"epochs": 3}, {})
    check_recipe(asdict(Recipe()), asdict(Recipe()))
