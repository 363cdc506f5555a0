"""What an audit of a run's candidate puts together: the records under attack, members and others."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from estimators.estimate import Estimate
from estimators.leakage.attacks import loss
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from estimators.leakage.statistics.epsilon import EpsilonBound
from nas.audit.candidate import about
from nas.audit.candidate import pool_of
from nas.audit.candidate import shadow_spec
from nas.audit.shadows import train_shadow
from nas.base.text import inline
from nas.records import Records
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import outputs
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.small_search import planned


def records(counts, start=0):
    """Records of each class; the first feature tells them apart."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(start).permutation(labels)
    features = np.stack([np.arange(start, start + len(labels)), labels], axis=1).astype(np.float32)
    return Records(features, labels, tuple("abcd"[: len(counts)]))


@pytest.mark.parametrize(
    ("inside", "outside"), [((9, 7, 5), (4, 7, 6)), ((2, 3, 1), (9, 9, 9)), ((9, 9, 9), (2, 3, 1)), ((5, 5), (5, 5))]
)
def test_a_pool_has_as_many_members_as_others_of_each_class_and_all_members_once(inside, outside):
    members, others = records(inside), records(outside, start=100)
    pool = pool_of(members, others, seed=0)
    ours, theirs = pool.labels[pool.audited][pool.is_member], pool.labels[pool.audited][~pool.is_member]
    both = np.minimum(inside, outside)
    assert np.bincount(ours, minlength=len(inside)).tolist() == np.bincount(theirs, minlength=len(inside)).tolist()
    assert np.bincount(ours, minlength=len(inside)).tolist() == both.tolist()
    names = pool.features[:, 0]
    assert (names[pool.audited][pool.is_member] < 100).all()
    assert (names[pool.audited][~pool.is_member] >= 100).all()
    assert sorted(names[names < 100]) == list(range(sum(inside)))
    assert (names[2 * both.sum() :] < 100).all()
    assert len(set(names)) == len(names) == sum(inside) + both.sum()
    np.testing.assert_array_equal(pool.features[:, 1], pool.labels)
    # Every shadow then sees as many records as the network.
    assert len(pool.rows(0, seed=0)) == len(members)


def test_who_is_attacked_is_drawn_by_the_seed():
    members, others = records((30, 30)), records((8, 8), start=100)
    first, again, other = (pool_of(members, others, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_pool_without_a_class_in_common_is_refused():
    members, others = records((4, 4, 0, 0)), records((0, 0, 2, 1), start=100)
    with pytest.raises(ValueError, match="at least one class in common; there is none"):
        pool_of(members, others, seed=0)


def test_shadows_of_what_learned_from_a_shared_teacher_have_one_of_its_kind_on_their_own_records(tmp_path, monkeypatch):
    plan = planned(tmp_path, teacher={}, defences=["none", "gecko"])
    architecture = plan.space.decode(plan.space.reference)
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    plain, distilled = (Candidate(architecture, plan.config.recipe.middle(), name) for name in ("none", "gecko"))
    assert (shadow_spec(plan, plain, pool).candidate, shadow_spec(plan, plain, pool).teacher) == (plain, None)
    spec = shadow_spec(plan, replace(distilled, recipe=Recipe(epochs=1, batch_size=16)), pool)
    assert spec.teacher is plan.teacher
    own_twin = shadow_spec(planned(tmp_path, teacher="twin", defences=["none", "gecko"]), spec.candidate, pool)
    assert own_twin.teacher is None
    assert own_twin.key != spec.key
    trained = []

    def watched(setup):
        trained.append(setup)
        return train(setup)

    monkeypatch.setattr("nas.training.assess.train_in_stages", watched)
    train_shadow(spec, 0)
    (teacher,) = trained
    assert (teacher.architecture, teacher.recipe) == (plan.teacher.architecture, plan.teacher.recipe)
    np.testing.assert_array_equal(teacher.features.numpy(), pool.features[pool.rows(0, spec.seed)])


def test_a_pool_says_where_each_audited_record_comes_from():
    members, others = records((9, 7, 5)), records((4, 7, 6), start=100)
    apart = replace(others, rows=np.arange(len(others)) + 500, names=np.array([f"{n}.png" for n in range(len(others))]))
    pool = pool_of(members, apart, seed=0)
    first = pool.features[pool.audited][:, 0]
    np.testing.assert_array_equal(pool.origin.rows, np.where(pool.is_member, first + 1, first - 100 + 500))
    assert pool.origin.classes == ("a", "b", "c")
    assert pool.origin.names is None  # the members have none
    named = pool_of(replace(members, names=np.full(len(members), "m.png")), apart, seed=0)
    np.testing.assert_array_equal(named.origin.names[named.is_member], "m.png")
    assert named.origin.names[~named.is_member].tolist() == [f"{int(n) - 100}.png" for n in first[~named.is_member]]
    # What records are called decides no shadow model.
    assert named.fingerprint == pool.fingerprint


def test_an_audit_states_the_upper_bound_of_a_private_training_beside_its_own_lower_one(tmp_path):
    plan = planned(tmp_path)
    candidate = Candidate(plan.space.decode(plan.space.reference), plan.config.recipe.middle())
    bounds = [EpsilonBound(epsilon, 1e-2, 0.95) for epsilon in (0.25, 0.75)]
    found = SimpleNamespace(
        findings=[SimpleNamespace(epsilon=bound) for bound in bounds], members=9, non_members=9, shadows=0
    )
    one = Estimate.exact(0.5)
    spec = SimpleNamespace(candidate=candidate, seed=1, parent=None)
    subject = SimpleNamespace(
        number=3, spec=spec, guarantee={}, artefact=None, error=one, proxy=one, test=plan.data.test
    )
    assert not {"certificate", "error without the guarantee"} & about(subject, plan, found, {}).keys()
    mechanism = Mechanism(2.0, 0.25, 40)
    numbers = {"noise_multiplier": 2.0, "sampling_rate": 0.25, "private_steps": 40}
    subject.guarantee = {"epsilon": epsilon_of(mechanism, 1e-4), "delta": 1e-4, **numbers}
    told = about(subject, plan, found, {})
    upper = epsilon_of(mechanism, 1e-2)
    assert told["epsilon"].startswith(f"at most {upper:.3g} by the certificate, at least 0.75 by this audit")
    assert told["certificate"].startswith("differentially private")
    assert "keep it secret" in told["assumptions of the certificate"]


def test_an_audit_states_what_a_guarantee_costs_beside_the_same_network_without_it(tmp_path):
    plan = planned(tmp_path)
    plain = Candidate(plan.space.decode(plan.space.reference), plan.config.recipe.middle())
    bench = Bench(data=plan.data, attack=loss.attack, bank=None, defences=plan.defences, seed=plan.config.seed)
    trained = assess(plain, bench).network
    wrong = outputs(trained, plan.data.test.features).argmax(axis=1) != plan.data.test.labels
    private = replace(plain, defence="dp_sgd", defence_parameters={"epsilon": 1.0})
    found = SimpleNamespace(
        findings=[SimpleNamespace(epsilon=EpsilonBound(0.1, 1e-2, 0.95))], members=9, non_members=9, shadows=0
    )
    one = Estimate.exact(0.75)
    subject = SimpleNamespace(
        number=3,
        spec=SimpleNamespace(candidate=private, seed=1, parent=None),
        error=one,
        proxy=one,
        test=plan.data.test,
        artefact=None,
    )
    subject.guarantee = {"epsilon": 1.0, "delta": 1e-3}
    told = about(subject, plan, found, {})["error without the guarantee"]
    assert told.startswith(inline(proportion_interval(int(wrong.sum()), len(wrong))))
    assert told.endswith(f"costs {0.75 - wrong.mean():+.3f}")
