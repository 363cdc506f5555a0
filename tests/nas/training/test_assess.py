from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.leakage.attacks import rmia
from nas.pricing import price
from nas.pricing.price import screen
from nas.records import Records
from nas.training import assess as evaluate
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import Looks
from nas.training.assess import assess
from nas.training.assess import measure
from nas.training.bank import BankSpec
from nas.training.bank import build_bank
from nas.training.defence import load_defence
from nas.training.loop import Diverged
from nas.training.loop import plain_setup
from nas.training.loop import train
from nas.training.measures import MEASURED
from nas.training.recipe import Recipe
from search_spaces import mlp
from search_spaces.layers import quantize

CLASSES = ("no", "yes", "maybe")
DIGITS = tuple("0123456789")
SIZES = {"members": 30, "non_members": 31, "validation": 21}
RECIPE = Recipe(epochs=2, batch_size=16)
LONG = Recipe(epochs=60, batch_size=16, learning_rate=0.02)
NO_DEFENCE = {"none": load_defence("none")}


class Locked:
    """A record set that must not be opened."""

    def __getattribute__(self, name):
        raise AssertionError(f"a search opened {name} of a set that is not its own")


def sets(**changes):
    """The five sets; the first feature of each record says which one it belongs to."""
    made = {}
    for place, (name, size) in enumerate(SIZES.items()):
        features = np.random.default_rng(place).normal(size=(size, 4)).astype(np.float32)
        features[:, 0] = place
        made[name] = Records(features, np.arange(size) % 3, CLASSES)
    return SimpleNamespace(**{**made, "test": Locked(), "reserve": Locked(), "fingerprint": "f", **changes})


def bench_of(data=None, attack=None, **changes):
    seen = Bench(data or sets(), attack or (lambda evidence: evidence.logits[:, 0].astype(float)), None, NO_DEFENCE, 0)
    return replace(seen, **changes)


def candidate(recipe=RECIPE, **point):
    space = mlp.make_space((4,), 3)
    return Candidate(space.decode({**space.reference, **point}), recipe)


@pytest.fixture
def reads(monkeypatch):
    """Every batch of records whose logits were taken, in order."""
    batches = []

    def watched(network, features, batch_size):
        batches.append(features.clone())
        return ask(network, features, batch_size)

    ask = evaluate.ask
    monkeypatch.setattr(evaluate, "ask", watched)
    return batches


def test_the_attack_sees_members_then_non_members_and_no_one_else(reads):
    seen = []

    def attack(evidence):
        seen.append(evidence)
        return np.arange(len(evidence.labels), dtype=float)

    data = sets()
    found = assess(candidate(), bench_of(data, attack))
    (evidence,) = seen
    attacked = np.concatenate([data.members.features, data.non_members.features])
    with torch.no_grad():
        expected = found.network(torch.from_numpy(attacked)).numpy()
    np.testing.assert_allclose(evidence.logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(evidence.labels, np.concatenate([data.members.labels, data.non_members.labels]))
    assert evidence.bank is None
    assert [{int(value) for value in batch[:, 0]} for batch in reads] == [{0}, {1}, {2}]
    # scores that rise along the records put every member below every other
    assert found.measures["leakage"].value == 0.0
    assert assess(candidate(), bench_of(data, lambda e: -attack(e))).measures["leakage"].value == 1.0


def test_only_members_are_trained_on(monkeypatch):
    trained = []

    def watched(setup, _first_stage=None):
        trained.append(setup)
        return train(setup)

    monkeypatch.setattr(evaluate, "train_in_stages", watched)
    data = sets()
    assess(candidate(), bench_of(data))
    (setup,) = trained
    np.testing.assert_array_equal(setup.features.numpy(), data.members.features)
    np.testing.assert_array_equal(setup.targets.numpy(), data.members.labels)


def test_the_error_is_that_of_the_validation_records():
    data = sets()
    found = assess(candidate(LONG), bench_of(data))
    with torch.no_grad():
        guesses = found.network(torch.from_numpy(data.validation.features)).argmax(1).numpy()
    wrong = int((guesses != data.validation.labels).sum())
    assert found.measures["error"].value == wrong / SIZES["validation"]
    # turning every label makes right guesses wrong; nothing else may move
    turned = Records(data.validation.features, np.where(guesses == 0, 1, 0), CLASSES)
    other = assess(candidate(LONG), bench_of(sets(validation=turned)))
    assert other.measures["error"].value == 1.0
    of_validation = {"error", "balanced_error", "rarest_class_error"}
    assert {other.measures[name].value for name in of_validation} == {1.0}
    for name in set(MEASURED) - of_validation:
        assert other.measures[name] == found.measures[name]


def test_the_bank_reaches_the_attack():
    data = sets()
    seen = []
    bank = object()

    def attack(evidence):
        seen.append(evidence.bank)
        return evidence.logits[:, 0].astype(float)

    def without_checks(logits, labels, bank):
        return SimpleNamespace(logits=logits, labels=labels, bank=bank)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "Evidence", without_checks)
        assess(candidate(), bench_of(data, attack, bank=bank))
    assert seen == [bank]


def test_every_measure_has_its_interval():
    measures = assess(candidate(), bench_of()).measures
    by_class = {f"class_error_{name}" for name in CLASSES}
    assert measures.keys() == {*MEASURED, *by_class}
    assert measures["trainings"] == Estimate.exact(1)  # counted, not estimated
    for name, estimate in measures.items():
        if name == "trainings" or name in by_class:
            continue
        assert estimate.low < estimate.high, name
        assert estimate.high - estimate.low < 0.9, name


def test_the_accuracy_gap_is_that_of_members_over_others():
    data = sets()
    found = assess(candidate(LONG), bench_of(data))
    with torch.no_grad():
        right = [
            (found.network(torch.from_numpy(part.features)).argmax(1).numpy() == part.labels).mean()
            for part in (data.members, data.non_members)
        ]
    assert found.measures["accuracy_gap"].value == pytest.approx(right[0] - right[1])
    assert found.measures["accuracy_gap"].value > 0.3


def test_the_loss_threshold_is_measured_beside_the_attack():
    measures = assess(candidate(), bench_of(attack=lambda evidence: np.zeros(len(evidence.labels)))).measures
    assert measures["leakage"].value == 0.5
    found = assess(candidate(LONG), bench_of()).measures["loss_auc"]
    assert found.value > 0.8


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def test_numbers_depend_on_the_candidate_and_the_runs_seed_and_on_nothing_that_came_before():
    bench = bench_of()
    first = assess(candidate(), bench)
    assess(candidate(layer1_width=16), bench)
    again = assess(candidate(), bench)
    assert torch.equal(weights(first.network), weights(again.network))
    assert first.measures == again.measures
    other_seed = assess(candidate(), replace(bench, seed=1))
    assert not torch.equal(weights(first.network), weights(other_seed.network))


def test_two_candidates_do_not_share_their_random_numbers():
    # two recipes that train alike, so that only the seed from the key tells them apart
    bench = bench_of()
    networks = [
        assess(candidate(replace(RECIPE, label_smoothing=smoothing)), bench).network for smoothing in (0, 1e-12)
    ]
    assert not torch.allclose(weights(networks[0]), weights(networks[1]), atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": replace(RECIPE, epochs=3)},
        {"recipe": replace(RECIPE, learning_rate=1e-4)},
        {"recipe": replace(RECIPE, class_weights="balanced")},
        {"layer1_width": 16},
        {"first_bits": 8},
    ],
    ids=str,
)
def test_what_is_trained_is_in_the_key(change):
    assert candidate(**change).key != candidate().key


def test_a_setting_that_was_added_leaves_earlier_keys_alone():
    """These keys were written by the version before class weights."""
    space = mlp.make_space((6,), 3)
    architecture = space.decode(space.reference)
    assert Candidate(architecture, Recipe()).key == "4dfb7cdf873ad792"
    changed = Recipe(epochs=7, optimizer="sgd")
    assert Candidate(architecture, changed, "relaxloss", {"alpha": 0.5}).key == "4f62ab16894942d2"
    nobody = SimpleNamespace(groups=None)
    data = SimpleNamespace(fingerprint="f", members=nobody, non_members=nobody)
    spec = BankSpec(data, architecture, Recipe(), 2, 3)
    assert "class_weights" not in spec.what
    assert replace(spec, recipe=Recipe(class_weights="balanced")).what != spec.what


def test_the_classes_never_predicted_are_told():
    turned = Records(sets().validation.features, np.arange(21) % 2, CLASSES)
    found = assess(candidate(), bench_of(sets(validation=turned)))
    with torch.no_grad():
        named = set(found.network(torch.from_numpy(turned.features)).argmax(1).tolist())
    assert set(found.never_predicted) == {0, 1} - named


def test_the_classes_asked_for_reach_the_measures():
    many = tuple(f"n{n}" for n in range(30))
    data = sets(
        **{name: Records(part.features, part.labels, many) for name, part in vars(sets()).items() if name in SIZES}
    )
    space = mlp.make_space((4,), 30)
    plain = Candidate(space.decode(space.reference), RECIPE)
    measures = assess(plain, bench_of(data, named=frozenset(["class_error_n1"]))).measures
    assert [name for name in measures if name.startswith("class_error")] == ["class_error_n1"]


def test_the_defence_is_in_the_key():
    assert replace(candidate(), defence="gecko").key != candidate().key


def test_a_candidates_key_is_that_of_its_network_not_of_the_point():
    assert candidate(layer4_width=16).key == candidate(layer4_width=256).key  # there is one layer


def test_a_quantised_candidate_is_measured_quantised(monkeypatch):
    rounded = []

    class Watched(quantize.QuantLinear):
        def forward(self, inputs):
            if not self.training:
                rounded.append(self.weight_bits)
            return super().forward(inputs)

    monkeypatch.setattr("search_spaces.network.QuantLinear", Watched)
    seen = []

    def attack(evidence):
        seen.append(evidence.logits)
        return evidence.logits[:, 0].astype(float)

    data = sets()
    found = assess(candidate(first_bits=1), bench_of(data, attack))
    assert set(rounded) == {1}
    # with its float weights in place of the binary ones the same network answers otherwise
    point = candidate(first_bits=32)
    in_float = train(plain_setup(point.architecture, torch.zeros(4, 4), torch.arange(4) % 3, Recipe(epochs=1), 0))
    in_float.load_state_dict(found.network.state_dict(), strict=False)
    with torch.no_grad():
        unrounded = in_float(torch.from_numpy(np.concatenate([data.members.features, data.non_members.features])))
    assert not np.allclose(seen[0], unrounded.numpy(), atol=1e-2)


def test_a_defence_the_bench_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"no defence 'gecko' on this bench; there are \['none'\]"):
        assess(replace(candidate(), defence="gecko"), bench_of())


def test_a_training_that_goes_too_far_has_diverged_whenever_it_shows():
    for recipe in (Recipe(epochs=3, learning_rate=1e30), Recipe(epochs=1, learning_rate=3e38, optimizer="sgd")):
        with pytest.raises(Diverged):
            assess(candidate(recipe), bench_of())


def test_screening_gives_every_metric_of_the_device():
    device = load_device("stm32h747")
    estimates = screen(candidate().architecture, device)
    assert set(estimates) == set(price.cost_metrics(device))
    assert {"macs", "params", "flash_kib", "peak_ram_kib", "latency_ms"} <= set(estimates)
    # 4 x 64 and 64 x 3
    assert estimates["macs"] == Estimate.exact(4 * 64 + 64 * 3)


# Controls: real data of no structure, real references, the real attack.


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Records whose labels mean nothing, and references on them."""
    rng = np.random.default_rng(0)
    made = {}
    for name, size in {"members": 150, "non_members": 150, "validation": 60}.items():
        features = rng.normal(size=(size, 12)).astype(np.float32)
        made[name] = Records(features, rng.permutation(np.arange(size) % 10), DIGITS)
    data = SimpleNamespace(**made, test=Locked(), reserve=Locked(), fingerprint="noise")
    space = mlp.make_space((12,), 10)
    spec = BankSpec(data, space.decode(space.reference), Recipe(epochs=20), references=4, seed=0)
    return data, build_bank(spec, tmp_path_factory.mktemp("bank"))


def test_a_network_that_memorised_random_labels_leaks(noise):
    data, bank = noise
    space = mlp.make_space((12,), 10)
    architecture = space.decode({**space.reference, "layer1_width": 256})
    recipe = Recipe(epochs=60, learning_rate=0.01, weight_decay=0.0)
    measures = assess(Candidate(architecture, recipe), Bench(data, rmia.attack, bank, NO_DEFENCE, 0)).measures
    assert measures["leakage"].low > 0.95
    assert measures["loss_auc"].value > 0.95
    assert measures["tpr_at_1pct_fpr"].value > 0.1  # a chance finder has 0.01
    assert measures["accuracy_gap"].low > 0.5
    assert measures["error"].low < 0.9 < measures["error"].high  # and has learned nothing


@pytest.mark.parametrize("seed", range(3))
def test_random_membership_cannot_be_told(noise, seed):
    data, bank = noise
    everyone = np.concatenate([data.members.features, data.non_members.features])
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    order = np.random.default_rng(seed).permutation(len(labels))  # half of each side are members now, in name
    space = mlp.make_space((12,), 10)
    features = torch.from_numpy(data.members.features)
    setup = plain_setup(
        space.decode(space.reference), features, torch.from_numpy(data.members.labels), Recipe(epochs=20), seed
    )
    parts = [Records(everyone[rows], labels[rows], DIGITS) for rows in np.split(order, 2)]
    shuffled = SimpleNamespace(members=parts[0], non_members=parts[1], validation=data.validation)
    shuffled_bank = replace(
        bank, logits=bank.logits[:, order], trained_on=bank.trained_on[:, order], labels=bank.labels[order]
    )
    measures = measure(train(setup), Bench(shuffled, rmia.attack, shuffled_bank, NO_DEFENCE, 0))
    for name, nothing in {"leakage": 0.5, "loss_auc": 0.5, "accuracy_gap": 0.0}.items():
        assert measures[name].low < nothing < measures[name].high


def test_an_attack_may_raise_the_upper_end_of_the_leakage_and_of_nothing_else():
    seen = []

    def widen(interval, evidence):
        seen.append(evidence)
        return replace(interval, high=1.0)

    plain, raised = (assess(candidate(), bench_of(**changes)).measures for changes in ({}, {"widen": widen}))
    (evidence,) = seen
    assert len(evidence.labels) == SIZES["members"] + SIZES["non_members"]
    assert plain["leakage"].high < 1
    assert raised == {**plain, "leakage": replace(plain["leakage"], high=1.0)}


# Looks at a training before its end


NINE = replace(RECIPE, epochs=9, dropout=0.3)


def looked_at(one, epochs, bench, judge=lambda *_: None):
    """Assess a candidate; returns the assessment and what each look found, by the number of epochs."""
    found = {}

    def keep(at, assessment):
        found[at] = assessment
        judge(at, assessment)

    return assess(one, bench, Looks(epochs, keep)), found


def told(assessment):
    weights = [tensor.clone() for tensor in assessment.network.state_dict().values()]
    return assessment.measures, assessment.never_predicted, assessment.exits, weights


def same(one, other):
    *numbers, weights = told(one)
    *others, other_weights = told(other)
    return numbers == others and all(map(torch.equal, weights, other_weights))


def test_looks_see_what_would_be_measured_then_and_change_nothing():
    bench, one = bench_of(), candidate(NINE)
    ended, found = looked_at(one, (1, 3, 5), bench)
    assert same(ended, assess(one, bench))
    assert list(found) == [1, 3, 5]
    for assessment in found.values():
        assert measure(assessment.network, bench).items() <= assessment.measures.items()
        assert not assessment.network.training
        assert assessment.measures["trainings"] == Estimate.exact(1)
    assert len({told(assessment)[-1][0].sum().item() for assessment in (*found.values(), ended)}) == 4


def test_a_look_ends_a_training():
    class Enough(Exception):  # noqa: N818 - an outcome
        pass

    def enough(at, _):
        if at == 3:
            raise Enough

    seen = []
    with pytest.raises(Enough):
        looked_at(candidate(NINE), (1, 3, 5), bench_of(), lambda at, one: (seen.append(at), enough(at, one)))
    assert seen == [1, 3]


def test_a_look_at_a_network_that_is_not_finite_is_a_divergence():
    hopeless = replace(NINE, learning_rate=3e38, optimizer="sgd")
    with pytest.raises(Diverged):
        looked_at(candidate(hopeless), range(1, 9), bench_of())


def test_teachers_are_not_looked_at():
    def teaching(setup, teach):
        teach(setup)
        return setup

    defence = replace(NO_DEFENCE["none"], defend=teaching)
    _, found = looked_at(candidate(NINE), range(1, 9), bench_of(defences={"none": defence}))
    assert list(found) == list(range(1, 9))
    assert {assessment.measures["trainings"].value for assessment in found.values()} == {2}


@pytest.mark.parametrize("pruning", ["retrained", "one_shot", "dynamic", "safecompress"])
def test_what_is_trained_in_several_stages_or_ways_is_not_looked_at(pruning):
    plain = candidate(replace(NINE, pruning=pruning))
    ops = tuple(op._replace(sparsity=0.5) if op.kind == "linear" else op for op in plain.architecture.ops)
    sparse = replace(plain, architecture=plain.architecture.with_ops(ops))
    assert evaluate.is_looked_at(sparse) == (pruning == "dynamic")
    data = sets(reserve=sets().members)
    _, found = looked_at(sparse, (1, 3), bench_of(data))
    assert list(found) == ([1, 3] if pruning == "dynamic" else [])
