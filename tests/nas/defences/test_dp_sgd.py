import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from estimators.estimate import Estimate
from estimators.leakage.statistics.accountants import Mechanism
from estimators.leakage.statistics.accountants import epsilon_of
from estimators.leakage.statistics.epsilon import one_run_by_shares
from nas.audit.candidate import Subject
from nas.audit.candidate import about
from nas.audit.candidate import audit_subject
from nas.audit.candidate import pool_of
from nas.audit.candidate import shadow_spec
from nas.audit.shadows import ShadowSpec
from nas.audit.shadows import train_missing
from nas.audit.shadows import train_shadow
from nas.defences import dp_sgd
from nas.search.bench import make_bench
from nas.training import certificate
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.loop import Batch
from nas.training.loop import logits_of
from nas.training.loop import plain_setup
from nas.training.loop import shuffled
from nas.training.loop import train
from nas.training.private import poisson
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.small_search import planned

RECIPE = Recipe(epochs=4, batch_size=16)
PARAMETERS = {"epsilon": 4.0, "noise_multiplier": 0.0, "delta": 0.0, "max_grad_norm": 1.0, "augmentations": 1}
CLASSES = 3


def records(seed=0, count=48):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % CLASSES


def graph_of(weight_bits=8, bits=8, range="tracked", sparsity=0.0):
    graph = GraphBuilder((1, 8, 8), bits=8 if bits < 32 else 32)
    x = graph.conv(0, 4, kernel=(3, 3), stride=(2, 2), padding=(1, 1), weight_bits=weight_bits)
    x = graph.activation(graph.norm(x), bits=bits, range=range)
    graph.linear(graph.flatten(x), CLASSES, bias=True, weight_bits=weight_bits)
    found = graph.architecture("example", {"bits": bits, "weight_bits": weight_bits, "range": range})
    if not sparsity:
        return found
    return found.with_ops(tuple(op._replace(sparsity=sparsity if op.kind == "conv" else 0.0) for op in found.ops))


def plain(recipe=RECIPE, seed=0, data=None, **graph):
    return plain_setup(graph_of(**graph), *(records() if data is None else data), recipe, seed)


def defended(setup, **parameters):
    return dp_sgd.defend(setup, None, **{**PARAMETERS, **parameters})


def state(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def step_of(setup, network, **parameters):
    """The private step with plain gradient descent of rate 0: what it would follow is in the gradients."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    training = SimpleNamespace(setup=setup, network=network.train(), optimizer=optimizer, augment=lambda batch: batch)
    return dp_sgd.private_step(training, **{"noise_multiplier": 0.0, "max_grad_norm": 1.0, "copies": 1, **parameters})


def batch_of(setup, rows):
    return Batch(0, rows, setup.features[rows], setup.targets[rows])


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_guarantee_is_the_epsilon_that_was_asked_for(epsilon):
    found = defended(plain(), epsilon=epsilon).guarantee
    assert 0.99 * epsilon <= found["epsilon"] <= epsilon
    assert found["delta"] == 1 / 480
    assert (found["sampling_rate"], found["private_steps"]) == (1 / 3, 12)
    mechanism = Mechanism(found["noise_multiplier"], 1 / 3, 12)
    assert found["epsilon"] == epsilon_of(mechanism, 1 / 480)
    bounds = [found[f"epsilon_{name}"] for name in ("prv", "rdp", "zcdp", "advanced", "naive")]
    assert min(bounds) == found["epsilon"]
    assert "epsilon_gdp" in found


def test_noise_and_delta_can_be_given():
    found = defended(plain(), noise_multiplier=2.5, delta=1e-3).guarantee
    assert (found["noise_multiplier"], found["delta"]) == (2.5, 1e-3)
    assert found["epsilon"] == epsilon_of(Mechanism(2.5, 1 / 3, 12), 1e-3)


def test_next_to_no_noise_is_stated_in_finite_numbers():
    found = defended(plain(), noise_multiplier=1e-4).guarantee
    assert found["epsilon"] > 1e6
    assert all(map(math.isfinite, found.values()))


def test_steps_of_all_stages_count():
    sparse = plain(sparsity=0.5)
    once = defended(replace(sparse, recipe=replace(RECIPE, pruning="one_shot")))
    again = defended(sparse)
    assert (once.guarantee["private_steps"], again.guarantee["private_steps"]) == (12, 18)
    assert again.guarantee["noise_multiplier"] > once.guarantee["noise_multiplier"]
    assert again.guarantee["epsilon"] <= 4.0


def test_as_many_steps_are_taken_as_are_accounted_for():
    taken = []

    def counted(training, **parameters):
        step = dp_sgd.private_step(training, **parameters)
        return lambda batch: taken.append(len(batch.rows)) or step(batch)

    ready = defended(plain(sparsity=0.5))
    assert ready.batches is poisson
    keywords = ready.make_step.keywords
    train_in_stages(replace(ready, make_step=lambda training: counted(training, **keywords)))
    assert len(taken) == ready.guarantee["private_steps"]
    assert len(set(taken)) > 2  # batches of Poisson sampling are of many sizes


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": 1e3},
        {"epsilon": math.nan},
        {"noise_multiplier": -1.0},
        {"delta": 1.0},
        {"delta": -0.1},
        {"max_grad_norm": 0.0},
        {"augmentations": 0},
    ],
)
def test_parameters_that_no_training_can_have_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"expected dp_sgd.{name}"):
        dp_sgd.check(**{**PARAMETERS, **wrong})


def test_class_weights_are_refused():
    with pytest.raises(ValueError, match="expected class_weights 'none' with the defence 'dp_sgd'"):
        defended(plain(replace(RECIPE, class_weights="balanced")))


@pytest.mark.parametrize(
    ("bits", "weight_bits", "range", "quantization"),
    [
        (8, 8, "tracked", "trained"),
        (4, 3, "learned", "trained"),
        (2, 1, "tracked", "trained"),
        (8, 8, "tracked", "afterwards"),
        (32, 32, "tracked", "trained"),
    ],
)
def test_without_gradients_nothing_depends_on_the_members(bits, weight_bits, range, quantization):
    recipe = replace(RECIPE, epochs=2, quantization=quantization, dropout=0.2)
    graph = {"bits": bits, "weight_bits": weight_bits, "range": range, "sparsity": 0.25}
    setups = [
        plain(recipe, data=(scale * records(seed)[0], records()[1]), **graph) for seed, scale in ((0, 1), (5, 40))
    ]
    silent = {"noise_multiplier": 0.0, "max_grad_norm": 0.0, "copies": 1}
    trained = []
    for setup in setups:
        ready = defended(setup, noise_multiplier=1.0)
        step = lambda training: dp_sgd.private_step(training, **silent)
        trained.append(state(train_in_stages(replace(ready, make_step=step))))
    assert torch.equal(*trained)
    assert not torch.equal(*(state(train_in_stages(setup)) for setup in setups))  # plain training: they do


def test_noise_has_the_deviation_that_was_accounted_for():
    setup, network = plain(bits=32, weight_bits=32), build(graph_of(32, 32), seed=0)
    step = step_of(setup, network, noise_multiplier=3e9, max_grad_norm=1e-9)  # all noise: 3 over 48 / 3 records
    drawn = []
    for _ in range(20):
        step(batch_of(setup, torch.arange(16)))
        drawn += [parameter.grad.flatten() for parameter in network.parameters()]
    noise = torch.cat(drawn)
    assert float(noise.std()) == pytest.approx(3 / 16, rel=4 / math.sqrt(2 * len(noise)))
    assert abs(float(noise.mean())) < 4 * 3 / 16 / math.sqrt(len(noise))
    assert float(torch.corrcoef(torch.stack([noise[: len(noise) // 2], noise[len(noise) // 2 :]]))[0, 1]) < 0.1


@pytest.mark.parametrize("rows", [[], [3], [1, 5, 9], list(range(30))])
def test_the_sum_is_divided_by_the_expected_size_of_a_batch(rows):
    setup, network = plain(bits=32, weight_bits=32), build(graph_of(32, 32), seed=0)
    step = step_of(setup, network, max_grad_norm=0.01)  # every gradient is longer
    step(batch_of(setup, torch.tensor(rows, dtype=torch.int64)))
    length = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in network.parameters()))
    assert length <= 0.01 * len(rows) / 16 * (1 + 1e-5)
    if len(rows) == 1:
        assert length == pytest.approx(0.01 / 16, rel=1e-4)


def test_copies_are_averaged_before_they_are_shortened():
    setup, network = plain(bits=32, weight_bits=32), build(graph_of(32, 32), seed=0)
    step_of(setup, network, max_grad_norm=1e-3, copies=4)(batch_of(setup, torch.tensor([7])))
    length = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in network.parameters()))
    assert length == pytest.approx(1e-3 / 16, rel=1e-4)  # four copies are one record


def test_copies_are_changed_where_the_recipe_changes_records():
    changed, plain_recipe = replace(RECIPE, augment="flip-crop"), RECIPE
    assert defended(plain(changed), augmentations=3).make_step.keywords["copies"] == 3
    assert defended(plain(plain_recipe), augmentations=3).make_step.keywords["copies"] == 1
    first = train(defended(plain(changed), augmentations=1))
    assert not torch.equal(state(first), state(train(defended(plain(changed), augmentations=3))))


def test_what_the_loop_learns_of_a_step_is_not_the_members_loss():
    setup = plain(bits=32, weight_bits=32)
    told = [
        step_of(data, build(graph_of(32, 32), seed=0), max_grad_norm=1e-12)(batch_of(data, torch.arange(16)))
        for data in (setup, replace(setup, features=30 * setup.features))
    ]
    assert told[0] == told[1]


def test_another_noise_is_not_the_same_noise_scaled():
    setup = plain(bits=32, weight_bits=32)
    networks = [build(graph_of(32, 32), seed=0) for _ in range(2)]
    for network, multiplier in zip(networks, (1e9, 2e9), strict=True):
        step_of(setup, network, noise_multiplier=multiplier, max_grad_norm=1e-9)(batch_of(setup, torch.arange(16)))
    first, second = (torch.cat([p.grad.flatten() for p in network.parameters()]) for network in networks)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.3


def test_a_shadow_is_trained_with_the_same_promise_on_its_own_records(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    candidate = Candidate(plan.space.decode(plan.space.reference), RECIPE, "dp_sgd", PARAMETERS)
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    spec = ShadowSpec(pool, candidate, seed=1, folder=tmp_path)
    trained = []

    def watched(setup, *args):
        trained.append(setup)
        return train_in_stages(setup, *args)

    monkeypatch.setattr("nas.audit.shadows.train_in_stages", watched)
    train_shadow(spec, 0)
    (setup,) = trained
    assert setup.guarantee["epsilon"] == pytest.approx(4.0, rel=0.01)
    assert setup.make_step.func is dp_sgd.private_step
    assert setup.batches is poisson
    assert len(setup.features) == len(plan.data.members)


def test_a_loss_threshold_and_shadow_models_of_the_same_promise_attack_a_private_candidate(tmp_path, monkeypatch):
    """D4 and D5: both run, each shadow has the candidate's noise, and what they find stands beside the bound."""
    plan = planned(tmp_path, members=120, defences=["dp_sgd"])
    parameters = {**PARAMETERS, "epsilon": 1.0}
    candidate = Candidate(plan.space.decode(plan.space.reference), RECIPE, "dp_sgd", parameters)
    assessed = assess(candidate, make_bench(plan))
    guarantee = certificate.stated({name: estimate.value for name, estimate in assessed.measures.items()})
    pool = pool_of(plan.data.members, plan.data.test, seed=0)
    spec = shadow_spec(plan, candidate, pool)
    promised = []

    def watched(setup, *args):
        promised.append(setup.guarantee)
        return train_in_stages(setup, *args)

    monkeypatch.setattr("nas.audit.shadows.train_in_stages", watched)
    list(train_missing([spec], 4, workers=1))
    assert promised == [guarantee] * 4  # of as many members as the candidate had
    subject = Subject(
        0, assessed.network, pool, plan.data.reserve, plan.data.test, spec, Estimate(0.5, 0.0, 1.0), guarantee
    )
    attacks = ["loss", "shokri", "lira_online"]
    found = audit_subject(subject, "quick", attacks=attacks)
    assert {one.attack for one in found.findings} == set(attacks)
    assert found.shadows == 4
    told = about(subject, plan, found, {})
    allowed = certificate.epsilon_at(guarantee, 1 / found.members)
    assert told["certificate"] == certificate.promise(guarantee)
    assert told["epsilon"].startswith(f"at most {allowed:.3g} by the certificate, at least ")
    bound = certificate.largest_advantage(guarantee["epsilon"], guarantee["delta"])
    for one in found.findings:
        assert one.advantage.low <= bound < 0.47, one.attack
        assert one.epsilon.epsilon <= allowed
    assert not certificate.refuted(guarantee, max(one.epsilon.epsilon for one in found.findings), 1 / found.members)


# Controls: canaries of random labels, half of them trained on, in enough dimensions to be learned by heart.


def shown(make, canaries=200, seed=0):
    """Lower bound on epsilon from one training, and the training's own upper one."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(canaries, 1024)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 2, canaries))
    included = rng.random(canaries) < 0.5
    graph = GraphBuilder((1024,))
    graph.linear(0, 2, bias=True)
    recipe = Recipe(epochs=30, batch_size=32, learning_rate=0.05, weight_decay=0.0)
    rows = torch.from_numpy(np.flatnonzero(included))
    setup = make(plain_setup(graph.architecture("example", {}), features[rows], labels[rows], recipe, seed))
    logits = logits_of(train(setup), features)
    margin = logits[np.arange(canaries), labels.numpy()] - logits[np.arange(canaries), 1 - labels.numpy()]
    found = one_run_by_shares(margin.astype(np.float64), included, delta=1e-4)
    guarantee = setup.guarantee
    if not guarantee:
        return found.epsilon, math.inf
    mechanism = Mechanism(guarantee["noise_multiplier"], guarantee["sampling_rate"], int(guarantee["private_steps"]))
    return found.epsilon, epsilon_of(mechanism, 1e-4)


def test_canaries_show_no_more_than_the_certificate_allows():
    for seed in range(2):
        lower, upper = shown(lambda setup: defended(setup, epsilon=1.0), seed=seed)
        assert lower <= upper
    assert shown(lambda setup: setup)[0] > 1.5  # a plain training, and one that forgets its noise, are found out
    step = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "copies": 1}
    forgetful = shown(
        lambda setup: replace(
            defended(setup, epsilon=1.0),
            make_step=lambda training: dp_sgd.private_step(training, **step),
            batches=shuffled,
        )
    )
    assert forgetful[0] > forgetful[1]
