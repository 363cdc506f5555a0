"""Zeros that move as an attacker chooses: the best branch goes on, and what chooses sees nothing it may not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from estimators.leakage.attacks import loss as loss_attack
from nas.audit.candidate import pool_of
from nas.audit.candidate import shadow_spec
from nas.audit.shadows import train_shadow
from nas.records import Records
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training import safecompress
from nas.training import stages
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import for_training
from nas.training.defence import load_defence
from nas.training.defence import parted
from nas.training.loop import Labelled
from nas.training.loop import logits_of
from nas.training.loop import outputs_of
from nas.training.loop import plain_setup
from nas.training.loop import plain_step
from nas.training.loop import train
from nas.training.recipe import Recipe
from nas.training.safecompress import STRATEGIES
from nas.training.safecompress import Outcome
from nas.training.safecompress import branching
from nas.training.safecompress import halves_of
from nas.training.safecompress import updates_of
from nas.training.sparse import sparse_layers
from nas.training.stages import train_in_stages
from search_spaces.compressions import sparsity
from search_spaces.graph.builder import GraphBuilder
from tests.defended import DEFENCES
from tests.defended import middle_of
from tests.small_search import planned

FEW = settings(max_examples=60, derandomize=True, deadline=None)
EPOCHS = 8
SIZES = {"op1_conv.weight": 288, "op5_linear.weight": 216}
PRECISIONS = (32, "bf16", "fp16", 8, 4, 3, 2, "ternary")
"""All precisions of weights that have a zero."""


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(share=0.9, layout="uniform", bits=32):
    graph = GraphBuilder((4, 5, 5))
    x = graph.activation(graph.norm(graph.conv(0, 8, kernel=(3, 3), weight_bits=bits)))
    graph.linear(graph.flatten(x), 3, bias=True, weight_bits=bits)
    return sparsity.compress(graph.architecture("example", {}), share, "unstructured", layout)


def setup_of(architecture=None, beside=24, **recipe):
    features, labels = normal(40, 4, 5, 5), torch.arange(40) % 3
    made = Recipe(**({"epochs": EPOCHS, "batch_size": 10, "pruning": "safecompress"} | recipe))
    setup = plain_setup(architecture or network(), features, labels, made, seed=3)
    return replace(setup, reserve=Labelled(normal(beside, 4, 5, 5, seed=1), torch.arange(beside) % 3))


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def zeros(state, name="op1_conv.weight"):
    return (state[name] == 0).flatten().tolist()


@pytest.fixture
def quick_attackers(monkeypatch):
    monkeypatch.setattr(safecompress, "ATTACKER_EPOCHS", 1)


class Scores:
    """A test of branches that gives fixed outcomes, and what it was asked about."""

    def __init__(self, outcomes):
        self.outcomes, self.asked = outcomes, []

    def __call__(self, _setup):
        def test(training):
            self.asked.append(state(training.network))
            return self.outcomes[(len(self.asked) - 1) % len(self.outcomes)]

        return test


def always(best):
    """The best is neither the most accurate nor the one that is attacked worst."""
    outcomes = [Outcome(0.6 + 0.01 * place, 0.8) for place in range(len(STRATEGIES))]
    outcomes[best] = Outcome(0.7, 0.55)
    outcomes[best - 1] = Outcome(0.9, 1.0)
    outcomes[best - 2] = Outcome(0.3, 0.5)
    return outcomes


# What goes on.


@pytest.mark.parametrize("best", [0, 3, 7])
def test_the_branch_with_the_largest_score_goes_on(best):
    scores, before = Scores(always(best)), []

    def spied(training):
        step = plain_step(training)

        def look(batch):
            before.append((batch.epoch, state(training.network)))
            return step(batch)

        return look

    setup = replace(setup_of(epochs=4), make_step=spied)
    trained = train(branching(setup, make_test=scores)).state_dict()
    assert len(scores.asked) == len(STRATEGIES)
    chosen = scores.asked[best]
    after = next(seen for epoch, seen in before if epoch == 3)
    assert all(torch.equal(after[name], value) for name, value in chosen.items())
    assert all(not torch.equal(chosen["op1_conv.weight"], other["op1_conv.weight"]) for other in _others(scores, best))
    for name in SIZES:
        assert zeros(trained, name) == zeros(chosen, name)


def _others(scores, best):
    # Before anything has moved, all zeros were never active: growing any of them is one thing.
    twins = {"random", "never_active"}
    for place, strategy in enumerate(STRATEGIES):
        is_twin = STRATEGIES[best].prune == strategy.prune and {STRATEGIES[best].grow, strategy.grow} <= twins
        if place != best and not is_twin:
            yield scores.asked[place]


@pytest.mark.parametrize("recipe", [{}, {"optimizer": "sgd", "learning_rate": 0.05}, {"dropout": 0.3}])
@pytest.mark.parametrize("best", [1, 6])
def test_a_branch_that_is_always_chosen_is_the_training_with_its_strategy_alone(best, recipe):
    """Weights, zeros, buffers, the optimizer's state and the random numbers: nothing of the other branches is left."""
    setup = setup_of(**recipe)
    chosen = train(branching(setup, make_test=Scores(always(best))))
    alone = train(branching(setup, [STRATEGIES[best]]))
    assert torch.equal(weights(chosen), weights(alone))
    other = train(branching(setup, [STRATEGIES[best - 1]]))
    assert not torch.equal(weights(alone), weights(other))


def test_of_equal_scores_the_first_goes_on_and_a_branch_that_failed_does_not():
    setup = setup_of()
    equal = train(branching(setup, make_test=Scores([Outcome(0.5, 0.5)])))
    assert torch.equal(weights(equal), weights(train(branching(setup, STRATEGIES[:1]))))
    outcomes = [safecompress.FAILED] * len(STRATEGIES)
    outcomes[4] = Outcome(0.1, 1.0)
    found = train(branching(setup, make_test=Scores(outcomes)))
    assert torch.equal(weights(found), weights(train(branching(setup, [STRATEGIES[4]]))))


@pytest.mark.parametrize("layout", ["uniform", "erk"])
@pytest.mark.parametrize("bits", PRECISIONS)
def test_zeros_are_exactly_as_many_after_every_update(layout, bits, monkeypatch):
    architecture = network(layout=layout, bits=bits)
    wanted = {name: round(op.sparsity * SIZES[name]) for name, op in sparse_layers(architecture)}
    assert sum(wanted.values()) == pytest.approx(0.9 * sum(SIZES.values()), abs=1)
    places, best_of = set(), safecompress._best

    def watched(training, branches, test):
        for branch in branches:
            assert {name: int((~mask).sum()) for name, mask in branch.masks.items()} == wanted
            places.add(branch.masks["op1_conv.weight"].numpy().tobytes())
        return best_of(training, branches, test)

    monkeypatch.setattr(safecompress, "_best", watched)
    scores = Scores(always(2))
    trained = train(branching(setup_of(architecture), make_test=scores)).state_dict()
    assert len(scores.asked) == 3 * len(STRATEGIES)
    assert len(places) > len(STRATEGIES)
    for seen in scores.asked:
        assert all(sum(zeros(seen, name)) >= wanted[name] for name in wanted)
    assert {name: sum(zeros(trained, name)) for name in wanted} == wanted


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_no_zero_grows_that_would_stay_one(strategy):
    """A channel that is always zero gives its weights no gradient."""
    setup = setup_of()
    features = setup.features.clone()
    features[:, 1] = 0
    trained = train(branching(replace(setup, features=features), [strategy])).state_dict()
    assert sum(zeros(trained)) == round(0.9 * 288)


@FEW
@given(epochs=st.integers(1, 200), steps=st.integers(1, 50))
def test_branches_are_within_the_training_and_never_next_to_each_other(epochs, steps):
    starts, length = updates_of(epochs, steps)
    assert len(starts) <= safecompress.UPDATES
    assert (len(starts) == safecompress.UPDATES) == (epochs >= 8)
    ends = [0, *(start + length for start in starts)]
    assert all(before < start for before, start in zip(ends, starts, strict=False))
    assert ends[-1] <= epochs
    if starts:
        assert length * steps < safecompress.BRANCH_STEPS + steps


def test_the_rules_by_hand():
    weight, gradient = torch.tensor([3.0, -1.0, 0.0, 0.0, 0.0]), torch.tensor([0.1, 2.0, -0.5, 0.3, 0.4])
    layer = safecompress.Layer(
        weight=weight,
        gradient=gradient,
        momentum=torch.tensor([9.0, 9.0, 0.1, -0.7, 0.2]),
        was_active=torch.tensor([True, True, False, True, True]),
        noise=torch.tensor([0.0, 0.0, 0.1, 0.8, 0.9]),
    )
    mask = torch.tensor([True, True, False, False, False])
    worth = {name: rule(layer)[mask].argmin().item() for name, rule in safecompress.PRUNE_RULES.items()}
    assert worth == {"magnitude": 1, "saliency": 0}
    grown = {name: 2 + rule(layer)[~mask].argmax().item() for name, rule in safecompress.GROW_RULES.items()}
    assert grown == {"random": 4, "gradient": 2, "momentum": 3, "never_active": 2}


def test_momentum_is_what_either_optimizer_remembers(monkeypatch):
    layers_of, momenta = safecompress._layers, []

    def watched(training, *rest):
        found = layers_of(training, *rest)
        for name, layer in found.items():
            remembered = training.optimizer.state[training.network.get_parameter(name)]
            momenta.append(any(torch.equal(layer.momentum, value) for value in remembered.values()))
        return found

    monkeypatch.setattr(safecompress, "_layers", watched)
    for optimizer in ("adamw", "sgd"):
        train(branching(setup_of(epochs=4, optimizer=optimizer), STRATEGIES[:1]))
    assert momenta == [True] * 4


def test_what_was_active_once_is_known_for_it(monkeypatch):
    best_of, layers_of, chosen, known = safecompress._best, safecompress._layers, [], []

    def watched(training, branches, test):
        best = best_of(training, branches, test)
        chosen.append(branches[best].masks["op1_conv.weight"].clone())
        return best

    def looked_at(training, was_active, seed):
        known.append(was_active["op1_conv.weight"].clone())
        return layers_of(training, was_active, seed)

    monkeypatch.setattr(safecompress, "_best", watched)
    monkeypatch.setattr(safecompress, "_layers", looked_at)
    train(branching(setup_of(), make_test=Scores(always(5))))
    first, second, third = known
    assert int((~first).sum()) == round(0.9 * 288)
    assert torch.equal(second, first | chosen[0])
    assert torch.equal(third, second | chosen[1])
    assert first.sum() < second.sum() < third.sum()


# The attacker.


@FEW
@given(count=st.integers(2, 60), chosen=st.integers(2, 60), seed=st.integers(0, 99))
def test_halves_share_no_record_and_are_as_large_as_each_other(count, chosen, seed):
    learned, judged = halves_of(count, chosen, seed)
    assert not set(learned.tolist()) & set(judged.tolist())
    assert len(set(learned.tolist())) == len(set(judged.tolist())) == min(count, chosen) // 2
    assert {*learned.tolist(), *judged.tolist()} <= set(range(count))


def asked_attacker(monkeypatch, odds=lambda rows: np.zeros(len(rows)), **changes):
    """Test an untrained network; returns the outcome and what the attacker learned from and judged."""
    seen = {}

    def learner(_steps):
        def fit(features, _labels, is_member):
            seen.update(learned=features, is_member=is_member)

            def judge(features, _labels):
                seen["judged"] = features
                return odds(features)

            return judge

        return fit

    monkeypatch.setattr(safecompress, "learner", learner)
    setup = replace(setup_of(epochs=4), **changes)
    outcomes = []

    def make_test(setup):
        test = safecompress.attacker_test(setup)

        def kept(training):
            outcomes.append(test(training))
            seen["logits"] = [_logits(training, part) for part in (setup.members, setup.reserve)]
            seen["mode"] = training.network.training
            return outcomes[-1]

        return kept

    train(branching(setup, STRATEGIES[:2], make_test))
    return outcomes[-1], seen, setup


def _logits(training, part):
    found = logits_of(training.network.eval(), part.features)
    training.network.train()
    return found


def places(rows, answers):
    """Which of the answers each row is."""
    near = np.abs(rows[:, None] - answers[None]).max(axis=2)
    assert (near.min(axis=1) < 1e-9).all()
    return near.argmin(axis=1).tolist()


def softmaxed(logits):
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_an_attacker_reads_softmax_and_label_and_learns_from_other_records_than_it_judges(monkeypatch):
    _, seen, setup = asked_attacker(monkeypatch)
    inside, outside = map(softmaxed, seen["logits"])
    is_member = seen["is_member"]
    assert is_member.sum() == (~is_member).sum() == 12  # half of 24 reference records, and of as many members
    for answers, labels, chosen in (
        (inside, setup.members.labels, is_member),
        (outside, setup.reserve.labels, ~is_member),
    ):
        learned, judged = (places(seen[which][chosen][:, :3], answers) for which in ("learned", "judged"))
        assert not set(learned) & set(judged)
        assert len({*learned, *judged}) == 24
        for which, rows in (("learned", learned), ("judged", judged)):
            expected = 2 * np.eye(3)[labels[rows].numpy()] - 1
            np.testing.assert_array_equal(seen[which][chosen][:, 3:], expected)
    assert seen["mode"]


def test_accuracies_are_of_reference_records_and_of_the_judged_halves(monkeypatch):
    # Takes a record for a member if its class is 0: eight of twenty-four are, give or take what was chosen.
    outcome, seen, setup = asked_attacker(monkeypatch, lambda rows: rows[:, 3])
    right = (seen["judged"][:, 3] > 0) == (np.arange(24) < 12)
    assert outcome.attack_accuracy == right.mean()
    _, outside = seen["logits"]
    assert outcome.task_accuracy == (outside.argmax(axis=1) == setup.reserve.labels.numpy()).mean()


def test_an_attacker_reads_what_the_deployed_network_answers(monkeypatch):
    class Loud(nn.Module):
        def forward(self, logits):
            return 100 * logits

    answers = Loud().train()
    _, seen, _ = asked_attacker(monkeypatch, answers=answers)
    places(seen["learned"][:12, :3], softmaxed(100 * seen["logits"][0]))
    assert answers.training


def test_an_attacker_finds_members_that_are_known_by_heart_and_none_among_equals():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(400, 4, 5, 5)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, 400))
    recipe = Recipe(epochs=30, batch_size=20, learning_rate=0.01, pruning="safecompress")
    setup = plain_setup(network(0.3), features[:200], labels[:200], recipe, seed=0)
    setup = replace(setup, reserve=Labelled(features[200:], labels[200:]))
    outcomes = []

    def make_test(setup):
        test = safecompress.attacker_test(setup)
        equals = replace(setup, members=Labelled(features[200:300], labels[200:300]))
        equals = replace(equals, reserve=Labelled(features[300:], labels[300:]))
        nobody = safecompress.attacker_test(equals)

        def both(training):
            outcomes.append((test(training), nobody(training)))
            return outcomes[-1][0]

        return both

    train(branching(setup, STRATEGIES[1:3], make_test))
    known, unknown = outcomes[-1]
    assert known.attack_accuracy > 0.75
    assert abs(unknown.attack_accuracy - 0.5) < 0.16  # three standard errors of 100 records
    assert known.task_accuracy < 0.45  # labels are noise


def test_a_network_with_infinite_answers_fails_its_test():
    outcomes = []

    def make_test(setup):
        test = safecompress.attacker_test(setup)

        def spoiled(training):
            with torch.no_grad():
                training.network.get_parameter("op5_linear.bias").fill_(torch.inf)
            outcomes.append((test(training), training.network.training))
            return Outcome(1, 1)

        return spoiled

    train(branching(setup_of(epochs=4), STRATEGIES[:2], make_test))
    assert outcomes == [(safecompress.FAILED, True)] * 2


# What a training is, and what it is given.


@pytest.mark.usefixtures("quick_attackers")
def test_it_repeats_from_its_seed_and_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train_in_stages(setup_of(dropout=0.3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(train_in_stages(setup_of(dropout=0.3))))
    assert not torch.equal(weights(first), weights(train_in_stages(replace(setup_of(dropout=0.3), seed=4))))


def test_what_it_cannot_train_is_refused_before_any_training(monkeypatch):
    monkeypatch.setattr(stages, "train", None)
    setup = setup_of()
    for changed, message in (
        (replace(setup, reserve=None), r"expected records beside the members, .* pruning='safecompress'; got none$"),
        (replace(setup, members=None), r"expected records beside the members"),
        (setup_of(beside=3), r"expected at least 4 members, and as many records beside them, .*; got 40 and 3$"),
        (replace(setup, guarantee={"epsilon": 1.0}), r"expected a defence without a guarantee .*; got \['epsilon'\]$"),
    ):
        with pytest.raises(ValueError, match=message):
            train_in_stages(changed)


def test_a_dense_network_by_the_same_recipe_is_trained_plainly():
    setup = replace(setup_of(network(0.0)), reserve=None)
    assert torch.equal(weights(train_in_stages(setup)), weights(train(setup)))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    runs, compressions = tmp_path_factory.mktemp("runs"), ["exits", "sparsity"]
    return planned(runs, attack="loss", defences=DEFENCES, compressions=compressions)


def candidate_of(plan, defence="none", **recipe):
    point = {**plan.space.reference, "sparsity.share": 0.9}
    made = Recipe(**({"epochs": 4, "batch_size": 30, "pruning": "safecompress"} | recipe))
    return Candidate(plan.space.decode(point), made, defence, middle_of(defence))


def rows(features):
    return {np.asarray(record).tobytes() for record in features}


TEACHERS = {"gecko": 1, "distillation": 1, "cross_distillation": 5, "selena": 5}


@pytest.mark.usefixtures("quick_attackers")
@pytest.mark.parametrize("defence", DEFENCES)
def test_it_goes_with_every_shipped_defence_and_sees_members_and_its_part_of_the_reserve(plan, defence, monkeypatch):
    seen = []

    def spied(network, features, *rest):
        seen.append(features)
        return outputs_of(network, features, *rest)

    monkeypatch.setattr(safecompress, "outputs_of", spied)
    bench = Bench(plan.data, loss_attack.attack, None, plan.defences, seed=0)
    candidate = candidate_of(plan, defence)
    if defence == "dp_sgd":
        with pytest.raises(ValueError, match="whose tests on members break any"):
            assess(candidate, bench)
        return
    found = assess(candidate, bench)
    assert len(seen) == 2 * len(STRATEGIES)
    allowed = rows(plan.data.members.features) | rows(parted(plan.data.reserve)[0].features)
    assert all(rows(features) <= allowed for features in seen)
    weight = {name: found.network.get_parameter(name) for name, _ in sparse_layers(candidate.architecture)}
    for name, op in sparse_layers(candidate.architecture):
        assert int((weight[name] == 0).sum()) == round(op.sparsity * weight[name].numel())
    assert found.measures["trainings"].value == 1 + TEACHERS.get(defence, 0)


@pytest.mark.usefixtures("quick_attackers")
def test_of_a_network_with_early_exits_the_last_one_is_tested(monkeypatch):
    space = compressible(space_named("mlp", (12,), 3), ["exits", "sparsity"])
    point = {"depth": 3, "exits.count": 2, "exits.threshold": 0.8, "sparsity.share": 0.9}
    architecture = space.decode({**space.reference, **point})
    assert len(architecture.outputs) > 1
    assert architecture.exit_threshold
    recipe = Recipe(epochs=4, batch_size=10, pruning="safecompress")
    setup = plain_setup(architecture, normal(40, 12), torch.arange(40) % 3, recipe, seed=0)
    setup = replace(setup, reserve=Labelled(normal(24, 12, seed=1), torch.arange(24) % 3))
    read, features_of = [], safecompress.attacker_features

    def spied(logits, labels):
        read.append(logits)
        return features_of(logits, labels)

    def make_test(setup):
        test = attacker_test(setup)

        def compared(training):
            outcome = test(training)
            answered = outputs_of(training.network.eval(), setup.reserve.features)
            training.network.train()
            np.testing.assert_array_equal(read[-1], answered[-1])
            assert not np.array_equal(answered[0], answered[-1])
            return outcome

        return compared

    attacker_test = safecompress.attacker_test
    monkeypatch.setattr(safecompress, "attacker_features", spied)
    monkeypatch.setattr(safecompress, "attacker_test", make_test)
    trained = train_in_stages(setup)
    assert trained.architecture.key == architecture.key
    assert len(read) == 2 * len(STRATEGIES)
    for name, op in sparse_layers(architecture):
        weight = trained.get_parameter(name)
        assert int((weight == 0).sum()) == round(op.sparsity * weight.numel())


@pytest.mark.usefixtures("quick_attackers")
def test_records_that_training_may_not_touch_have_no_say(plan):
    def poisoned(records, seed=0):
        features = np.random.default_rng(seed).normal(50, 9, records.features.shape).astype(np.float32)
        return replace(records, features=features, labels=records.labels[::-1].copy())

    kept, unknown = parted(plan.data.reserve)
    mixed = Records(
        np.concatenate([kept.features, poisoned(unknown).features]),
        np.concatenate([kept.labels, poisoned(unknown).labels]),
        kept.classes,
    )
    bench = Bench(plan.data, loss_attack.attack, None, plan.defences, seed=0)
    plain = assess(candidate_of(plan), bench)
    others = {name: poisoned(getattr(plan.data, name)) for name in ("non_members", "validation", "test")}
    found = assess(candidate_of(plan), replace(bench, data=replace(plan.data, **others)))
    assert torch.equal(weights(found.network), weights(plain.network))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.training.assess.parted", lambda _: (mixed.select(np.arange(len(mixed)) < len(kept)), None))
        found = assess(candidate_of(plan), replace(bench, data=replace(plan.data, reserve=mixed)))
    assert torch.equal(weights(found.network), weights(plain.network))


@pytest.mark.parametrize("pruning", ["retrained", "safecompress"])
def test_all_who_train_a_candidate_part_the_reserve_alike(plan, pruning):
    candidate, defence = candidate_of(plan, pruning=pruning), load_defence("none")
    learned, unknown = for_training(candidate, defence, plan.data.reserve)
    spec = shadow_spec(plan, candidate, pool_of(plan.data.members, plan.data.test, seed=0))
    if pruning == "retrained":
        assert learned is spec.reserve is None
        assert unknown is plan.data.reserve
    else:
        assert rows(learned.features) == rows(spec.reserve.features) == rows(parted(plan.data.reserve)[0].features)
        assert rows(learned.features).isdisjoint(rows(unknown.features))


@pytest.mark.usefixtures("quick_attackers")
def test_shadows_are_trained_the_same_way_on_their_own_members(plan, monkeypatch, tmp_path):
    seen = []

    def spied(setup, *rest):
        seen.append(setup)
        return branching(setup, *rest)

    monkeypatch.setattr(stages, "branching", spied)
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    spec = replace(shadow_spec(plan, candidate_of(plan), pool), folder=tmp_path)
    train_shadow(spec, 0)
    (setup,) = seen
    assert rows(setup.members.features) == rows(pool.features[pool.rows(0, spec.seed)])
    assert rows(setup.reserve.features) == rows(parted(plan.data.reserve)[0].features)
