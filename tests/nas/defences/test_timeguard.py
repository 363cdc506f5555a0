"""TimeGuard: what its delays hide and cost, and that prices, audits and released networks know of them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.leakage.attacks import exit_index
from estimators.leakage.shared.exit_times import exits_from_latencies
from estimators.leakage.shared.exit_times import last_exit_by
from estimators.leakage.statistics.auc_and_rates import auc_interval
from nas.audit import shadows
from nas.audit.attack_all import audit
from nas.audit.candidate import about
from nas.audit.candidate import evidence_of
from nas.audit.candidate import subject_of
from nas.audit.candidate import versions_of
from nas.audit.oracles import of_network
from nas.defences import timeguard
from nas.nni.measure import result_of
from nas.pricing.exit_delays import delayed_ms
from nas.runs import picks
from nas.runs import report
from nas.runs.front_and_knee import Choice
from nas.runs.networks import read_pick
from nas.runs.run import Run
from nas.search.bench import make_bench
from nas.search.schema import EXITS
from nas.spaces import compressible
from nas.spaces import space_named
from nas.training.answers import delay_of
from nas.training.assess import Candidate
from nas.training.defence import deployed_network
from nas.training.defence import load_defence
from nas.training.loop import exits_of
from nas.training.loop import plain_setup
from nas.training.recipe import Recipe
from nas.training.stages import train_in_stages
from tests.defended import strongest_of
from tests.small_search import SMALL
from tests.small_search import planned
from tests.small_search import run_here

WEAKEST = {"deviation": timeguard.PARAMETERS["deviation"]["low"]}
STRONGEST = strongest_of("timeguard")
NETWORK = {"depth": 4, "exits.count": 2, "exits.place": "even", "exits.width": 0, "exits.threshold": 0.7}


# The rule at the parameters that a search samples.


def held_back(latencies, exits, parameters, seed=0):
    """Times of answers to made-up records."""
    records = np.random.default_rng(seed).normal(size=(len(exits), 3)).astype(np.float32)
    deviation = timeguard.delay(**parameters) * (latencies[-1] - latencies[0])
    rule = {"slowest_ms": latencies[-1], "deviation_ms": deviation, "secret": b"of sixteen bytes"}
    return np.array([delayed_ms(record, latencies[left], **rule) for record, left in zip(records, exits, strict=True)])


def told(groups, exits):
    """Share of exits that groups tell, each named by the exit that most of its records left by."""
    return sum(np.bincount(exits[groups == group]).max() for group in np.unique(groups)) / len(exits)


def attacks(times, latencies):
    """What the published attack tells exits by, measuring a little wrong, and one that knows all but the secret."""
    noise = np.random.default_rng(1).normal(0, 0.2 * np.diff(latencies).min(), (5, len(times)))
    return exits_from_latencies(times + noise, len(latencies)), last_exit_by(times, latencies)


MANY = [(0.5, 0.2, 0.3), (0.49, 0.51), (0.3, 0.7), (0.2,) * 5]


@pytest.mark.parametrize("shares", MANY)
def test_at_its_strongest_the_time_tells_hardly_more_than_the_commonest_exit(shares):
    latencies = np.linspace(1, 3, len(shares)) ** 1.5
    exits = np.random.default_rng(2).choice(len(shares), size=4000, p=shares)
    majority = np.bincount(exits).max() / len(exits)
    for groups in attacks(held_back(latencies, exits, STRONGEST), latencies):
        assert told(groups, exits) <= majority + 0.05
    for groups in attacks(latencies[exits], latencies):
        assert told(groups, exits) > 0.95


@pytest.mark.parametrize("parameters", [WEAKEST, STRONGEST])
def test_equal_records_wait_equally_long_and_early_exits_save_time(parameters):
    latencies, exits = np.array([1.0, 2.0, 4.0]), np.arange(3000) % 3
    times = held_back(latencies, exits, parameters)
    np.testing.assert_array_equal(held_back(latencies, exits, parameters), times)
    assert latencies[exits].mean() < times.mean() < latencies[-1]


def test_at_its_weakest_it_is_told_what_the_text_says():
    """Of the first exit's answers 95 % come before the last exit's time; three fifths of what they save is left."""
    latencies, exits = np.array([1.0, 4.0]), np.zeros(4000, int)
    times = held_back(latencies, exits, WEAKEST)
    assert (times < 4).mean() == pytest.approx(0.954, abs=0.02)
    assert (4 - times.mean()) / 3 == pytest.approx(0.61, abs=0.02)


@pytest.mark.parametrize("deviation", [0.0, -1.0, 1e4, float("nan"), float("inf")])
def test_deviations_that_make_no_sense_are_refused(deviation):
    with pytest.raises(ValueError, match=rf"^expected timeguard\.deviation from 0\.01 to 1000; got {deviation}$"):
        timeguard.check(deviation)


# A search.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    fixed = {"timeguard": STRONGEST}
    plan = planned(
        runs,
        attack="loss",
        compressions=["exits"],
        set={**NETWORK, "bits": 32},
        defences=["timeguard"],
        defence_parameters=fixed,
        objectives=["error", "mean_latency_ms"],
        recipe={"epochs": 20, "learning_rate": 0.004},
        trials=1,
        budgets={},
    )
    return plan, run_here(plan)


@pytest.fixture(scope="module")
def trial(run):
    (found,) = run[1].get_trials()
    assert all(found.user_attrs[EXITS][number]["share"] > 0.2 for number in (0, -1))
    return found


def test_a_mean_latency_holds_the_delays_and_macs_do_not(run, trial):
    plan, _ = run
    candidate = plan.candidate(trial.params)
    rows = trial.user_attrs[EXITS]
    plain = plan.by_exit(replace(candidate, defence="none", defence_parameters={}), [row["records"] for row in rows])
    assert trial.values[1] == trial.user_attrs["mean_latency_ms"]
    assert plain.means["mean_latency_ms"].value < trial.values[1] < trial.user_attrs["latency_ms"]
    assert trial.values[1] == pytest.approx(sum(row["share"] * row["delayed_ms"] for row in rows))
    assert trial.user_attrs["mean_latency_ms_low"] < trial.values[1] < trial.user_attrs["mean_latency_ms_high"]
    assert trial.user_attrs["mean_macs"] == plain.means["mean_macs"].value
    assert [row["latency_ms"] for row in rows] == [row["latency_ms"] for row in plain.rows]


def test_nni_ranks_by_the_same_mean(run, trial):
    plan, _ = run
    first = replace(plan, config=plan.config.model_copy(update={"objectives": ("mean_latency_ms", "error")}))
    assert result_of(first, make_bench(plan), plan.candidate(trial.params))["default"] == trial.values[1]


def test_it_trains_what_none_trains(run, trial):
    plan, _ = run
    features, labels = torch.from_numpy(plan.data.members.features), torch.from_numpy(plan.data.members.labels)
    setup = plain_setup(plan.candidate(trial.params).architecture, features, labels, Recipe(), 0)
    ready = load_defence("timeguard").set_up(setup, None, STRONGEST)
    assert vars(ready) == {**vars(setup), "delay": STRONGEST["deviation"]}


def test_a_card_and_a_pick_say_that_answers_have_to_be_held_back(run, trial):
    plan, study = run
    folder = picks.write(Run(plan.folder, study), Choice(trial, "a test", ()))
    card = (folder / "card.md").read_text()
    assert "| exit | validation records | share | latency_ms | interval | macs | delayed_ms |\n" in card
    assert "**The application has to hold answers back**" in card
    assert "an audit attacks by it" not in card
    assert report.exit_line(trial).count(", answered after ") == len(trial.user_attrs[EXITS])
    architecture, network = read_pick(folder)
    assert (architecture.key, delay_of(network)) == (plan.candidate(trial.params).architecture.key, 16.0)


# An audit.


@pytest.fixture(scope="module")
def subject(run, trial):
    plan, study = run
    found = subject_of(Run(plan.folder, study), trial.number)
    for shadow in range(2):
        shadows.train_shadow(found.spec, shadow)
    return found


def test_an_audit_sees_what_times_tell_of_candidate_shadows_and_versions(subject):
    networks = shadows.load(subject.spec, 2)
    features = subject.pool.features[subject.pool.audited]
    evidence = evidence_of(subject, networks)
    version = versions_of(subject, networks, [8])["8 bits"]
    told = [evidence.exits, *evidence.bank.exits, version.exits, *version.bank.exits]
    for network, exits in zip([subject.network, *networks], told[:3], strict=True):
        true = exits_of(network, torch.from_numpy(features))
        assert (true < 2).mean() > 0.1
        assert (exits >= true).all()
        np.testing.assert_array_equal(of_network(network).exits(features), exits)
    # An early answer is told with a probability of 5 %; without delays all are.
    for exits in told:
        assert (exits == 2).mean() > 0.9


def test_the_attack_by_exits_reads_what_times_tell(subject, monkeypatch):
    seen, attack = [], exit_index.attack

    def spied(evidence):
        seen.append((evidence.exits, evidence.bank.exits))
        return attack(evidence)

    monkeypatch.setattr(exit_index, "attack", spied)
    evidence = evidence_of(subject, shadows.load(subject.spec, 2))
    audit(evidence, subject.pool.is_member, seed=0, effort="standard", attacks=["exit_index"])
    assert any(np.array_equal(exits, evidence.exits) for exits, _ in seen)
    true = exits_of(subject.network, torch.from_numpy(evidence.features))
    assert not any(np.array_equal(exits, true) for exits, _ in seen)


def test_an_audit_says_what_attackers_are_taken_to_know(run, subject):
    plan, _ = run
    found = audit(evidence_of(subject, []), subject.pool.is_member, seed=0, attacks=["gap"])
    told = about(subject, plan, found, {})["exits"]
    assert told.endswith(
        "attackers are taken to time answers exactly, and the device to hold early ones back, by a deviation of 16 "
        "times the time between the first exit and the last"
    )


def test_members_are_found_by_their_exits_and_not_by_delayed_ones():
    """A network that knows its members by heart: they leave early, and the time tells it unless answers wait."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 20)).astype(np.float32)
    labels = torch.from_numpy(rng.integers(0, 4, 600))
    space = compressible(space_named("mlp", (20,), 4), ["exits"])
    architecture = space.decode({**space.reference, **NETWORK, "norm": False, "exits.threshold": 0.9})
    recipe = Recipe(epochs=60, batch_size=32, weight_decay=0.0)
    setup = plain_setup(architecture, torch.from_numpy(features[:300]), labels[:300], recipe, 0)
    found = {}
    for name, parameters in {"none": {}, "timeguard": STRONGEST}.items():
        network = train_in_stages(load_defence(name).set_up(setup, None, parameters))
        found[name] = auc_interval(-of_network(network).exits(features).astype(float), np.arange(600) < 300)
    assert found["none"].low > 0.6
    assert found["timeguard"].value < 0.53


# Where it has nothing to do, and beside others.


def test_a_search_without_early_exits_is_refused_before_any_training(refused):
    told = (
        "the defence 'timeguard' holds back answers of early exits, and none of the 1000 candidates looked at has an "
        "early exit: --compress exits gives networks some"
    )
    assert refused("search", *SMALL, "--defences", "none,timeguard") == told
    assert refused("search", *SMALL, "--defences", "timeguard", "--compress", "exits", "--set", "exits.count=0") == told
    combined = refused("search", *SMALL, "--defences", "relaxloss+timeguard")
    assert combined == told.replace("'timeguard'", "'relaxloss+timeguard'")


def test_a_network_without_early_exits_is_priced_and_asked_as_by_none(run):
    plan, _ = run
    space = plan.space
    architecture = space.decode({**space.reference, "exits.count": 0})
    network = deployed_network(architecture, "timeguard", STRONGEST).eval()
    assert of_network(network).exits is None
    means = [
        plan.by_exit(Candidate(architecture, Recipe(), name, parameters), [60]).means
        for name, parameters in (("none", {}), ("timeguard", STRONGEST))
    ]
    assert means[0] == means[1]


@pytest.mark.parametrize("name", ["timeguard+confidence_rounding", "memguard+timeguard", "timeguard+relaxloss"])
def test_beside_others_it_delays_by_its_own_parameter(name, run):
    plan, _ = run
    parameters = strongest_of(name)
    network = deployed_network(plan.space.decode(plan.space.reference), name, parameters)
    assert delay_of(network) == parameters["timeguard.deviation"] == 16.0
    setup = plain_setup(network.architecture, torch.zeros(4, 1, 8, 8), torch.arange(4), Recipe(), 0)
    ready = load_defence(name).set_up(setup, None, parameters)
    assert ready.delay == 16.0
    assert (ready.answers is None) == ("guard+relaxloss" in name)


def test_a_delay_goes_through_all_stages_of_a_training():
    space = compressible(space_named("mlp", (1, 8, 8), 10), ["exits", "channels", "weight_sharing"])
    for point, recipe in (
        ({"exits.threshold": 0.7}, {}),
        ({"channels.kept": 0.5}, {"pruning": "retrained"}),
        ({"weight_sharing.width": 3}, {}),
        ({"last_bits": 8, "first_bits": 8}, {"quantization": "afterwards"}),
    ):
        architecture = space.decode({**space.reference, **NETWORK, **point})
        setup = plain_setup(architecture, torch.randn(20, 1, 8, 8), torch.arange(20) % 10, Recipe(2, **recipe), 0)
        assert delay_of(train_in_stages(replace(setup, delay=2.0))) == 2.0, point


def test_a_delay_that_is_no_number_from_0_is_refused():
    defence = replace(load_defence("timeguard"), delay=lambda deviation: -deviation)
    with pytest.raises(ValueError, match=re.escape("expected a delay from 0 of the defence 'timeguard'; got -2.0")):
        defence.delay_at({"deviation": 2.0})
