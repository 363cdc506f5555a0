"""A super-network: who takes what of it, where gradients go, and what it says of a network."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from estimators.leakage.evidence import Bank
from estimators.leakage.statistics.auc_and_rates import auc
from nas.records import Records
from nas.spaces import as_run
from nas.spaces import sample
from nas.training import supernet
from nas.training.loop import Diverged
from nas.training.loop import optimizer_of
from nas.training.loop import plain_setup
from nas.training.recipe import Recipe
from nas.training.supernet import SuperSpec
from nas.training.supernet import build_supernet
from nas.training.supernet import screen_with
from nas.training.supernet import sub_network
from nas.training.supernet import train_supernet
from search_spaces import mobile
from search_spaces.graph.sharing import part_of
from search_spaces.graph.sharing import shares_of
from search_spaces.network import build

SHAPE, CLASSES = (1, 8, 8), ("no", "yes", "maybe")
SPACE = mobile.make_space(SHAPE, len(CLASSES))
WIDE = {"width_multiplier": 1, "stages": 2, "stage1_layer1": "e6k5", "stage2_layer1": "e4k7", "stage1_layers": 2}


def network(**changed):
    return SPACE.decode({**SPACE.reference, **changed})


def records(size, seed):
    features = np.random.default_rng(seed).normal(size=(size, *SHAPE)).astype(np.float32)
    return Records(features, np.arange(size) % len(CLASSES), CLASSES)


def sets():
    parts = {"members": records(24, 1), "non_members": records(24, 2), "validation": records(15, 3)}
    return SimpleNamespace(**parts, fingerprint="f")  # no other set is there to be opened


def spec_of(*networks, **changes):
    values = {"recipe": Recipe(epochs=2, batch_size=8), "seed": 0, "data": sets(), **changes}
    return SuperSpec(networks=networks or (network(), network(**WIDE)), layer_names=mobile.layer_names, **values)


def random_tensors(spec, seed=0):
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random) for name, shape in spec.shapes.items()}


def batch_of(size=6):
    return torch.from_numpy(records(size, 7).features)


def setup_of(architecture, dropout=0.0):
    batch = batch_of()
    return plain_setup(architecture, batch, torch.zeros(len(batch), dtype=torch.long), Recipe(dropout=dropout), seed=0)


@pytest.mark.parametrize("bits", [None, 8])
def test_what_networks_share_is_all_that_they_learn_but_steps_and_ranges(bits):
    space, rng = as_run(SPACE, bits), np.random.default_rng(0)
    for _ in range(40):
        architecture = space.decode(sample(space.distributions, rng))
        learned = {
            name: tuple(value.shape)
            for name, value in build(architecture).named_parameters()
            if not name.endswith("log_step")
        }
        shares = shares_of(architecture, mobile.layer_names)
        assert {name: share.shape for name, share in shares.items()} == learned


def test_a_network_is_filled_with_the_first_channels_and_the_middle_of_windows():
    spec = spec_of()
    shared, small = random_tensors(spec), network(stage1_layer1="e3k3")
    filled = sub_network(shared, small, mobile.layer_names, batch_of()).state_dict()
    depthwise = shared["inverted.stage1.layer1.filter.weight"]
    kind = [op.kind for op in small.ops].index("depthwise")
    assert depthwise.shape == (96, 1, 5, 5)
    assert torch.equal(filled[f"op{kind}_depthwise.weight"], depthwise[:24, :, 1:4, 1:4])
    assert torch.equal(filled[f"op{kind + 1}_norm.bias"], shared["inverted.stage1.layer1.filter.norm.bias"][:24])
    (expand,) = [index for index, op in enumerate(small.ops) if op.kind == "conv" and 1 < index < kind]
    whole = shared["inverted.stage1.layer1.expand.weight"]
    assert torch.equal(filled[f"op{expand}_conv.weight"], whole[:24, :8])


@pytest.mark.parametrize("changed", [{}, {"weight_bits": 8}, {"weight_bits": 3, "activation_bits": 4}])
def test_a_filled_network_answers_as_one_of_its_own_with_the_same_tensors(changed):
    bits = {f"stage{stage}_{name}": value for stage in (1, 2) for name, value in changed.items()}
    small = network(**bits, stage1_layer1="e5k3")
    spec = spec_of(small, network(**WIDE))
    shared, batch = random_tensors(spec), batch_of(30)
    found = sub_network(shared, small, mobile.layer_names, batch)
    alone = build(small, seed=5)
    for name, share in shares_of(small, mobile.layer_names).items():
        part = shared[share.name][tuple(slice(length) for length in share.shape[:2])]
        rim = (part.shape[2] - share.shape[2]) // 2 if part.ndim == 4 else 0
        alone.get_parameter(name).data.copy_(part[:, :, rim:-rim, rim:-rim] if rim else part)
    for module in alone.modules():
        if hasattr(module, "weight_bits"):
            supernet.fit_step(module)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a mean over all batches, of which there is one
    with torch.no_grad():
        alone.train()(batch)
        assert torch.allclose(found(batch), alone.eval()(batch), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_moves_what_its_network_takes_and_nothing_else(optimizer):
    spec, small = spec_of(), network(stage1_layer1="e3k3")
    before, recipe = random_tensors(spec), Recipe(optimizer=optimizer, learning_rate=1.0)
    pupil = supernet._Pupil({name: value.clone() for name, value in before.items()}, recipe)
    shares = shares_of(small, mobile.layer_names)
    for _ in range(2):
        pupil.step(setup_of(small), shares, batch_of(), torch.tensor([0, 1, 2, 0, 1, 2]))
    moved = {name: value != before[name] for name, value in pupil.shared.items()}
    assert {name for name, where in moved.items() if where.any()} == {share.name for share in shares.values()}
    wide = moved["inverted.stage1.layer1.filter.weight"]
    assert wide[:24, :, 1:4, 1:4].count_nonzero() > 100  # of 216; some activations are silent
    assert wide.count_nonzero() == wide[:24, :, 1:4, 1:4].count_nonzero()
    for share in shares.values():
        where = moved[share.name]
        assert where.count_nonzero() == where[part_of(where.shape, share.shape)].count_nonzero()


def test_steps_with_one_network_are_those_of_a_network_of_its_own():
    small = network()
    spec = spec_of(small, network(**WIDE))
    shared = random_tensors(spec)
    recipe = Recipe(optimizer="sgd", learning_rate=1e-3, weight_decay=0.1)
    shares, targets = shares_of(small, mobile.layer_names), torch.tensor([0, 1, 2, 0, 1, 2])
    alone = sub_network({name: value.clone() for name, value in shared.items()}, small, mobile.layer_names, batch_of())
    alone.train()
    usual = optimizer_of(alone.parameters(), recipe)
    pupil = supernet._Pupil(shared, recipe)
    for _ in range(3):
        usual.zero_grad()
        setup_of(small).loss(alone(batch_of()), targets).backward()
        usual.step()
        pupil.step(setup_of(small), shares, batch_of(), targets)
    for name, share in shares.items():
        whole = pupil.shared[share.name]
        ours = whole[part_of(whole.shape, share.shape)]
        assert torch.allclose(ours, alone.get_parameter(name), atol=2e-4), name


def test_adamw_remembers_what_it_saw_of_each_part():
    spec, small = spec_of(network()), network()
    pupil = supernet._Pupil(random_tensors(spec), Recipe(learning_rate=1e-3))
    shares, targets = shares_of(small, mobile.layer_names), torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(3):
        pupil.step(setup_of(small), shares, batch_of(), targets)
    name = "inverted.stem.conv.weight"
    assert pupil._steps[name] == 3
    remembered = [pupil._memory[kind][name] for kind in ("exp_avg", "exp_avg_sq")]
    assert all(one.count_nonzero() > one.numel() / 2 for one in remembered)  # some activations are silent


def test_the_rates_of_a_schedule_reach_each_step():
    spec, small = spec_of(network()), network()
    pupil = supernet._Pupil(random_tensors(spec), Recipe())
    pupil.scheduled.param_groups[0]["lr"] = 0.0
    before = {name: value.clone() for name, value in pupil.shared.items()}
    pupil.step(setup_of(small), shares_of(small, mobile.layer_names), batch_of(), torch.zeros(6, dtype=torch.long))
    assert all(torch.equal(before[name], value) for name, value in pupil.shared.items())


def test_training_moves_what_some_network_takes_and_is_the_same_twice():
    spec = spec_of()
    before, after = supernet._initial(spec), train_supernet(spec)
    assert after.keys() == spec.shapes.keys()
    assert all(not torch.equal(before[name], after[name]) for name in after if name.endswith("conv.weight"))
    again = train_supernet(spec)
    assert all(torch.equal(again[name], after[name]) for name in after)
    other = train_supernet(spec_of(seed=1))
    assert any(not torch.equal(other[name], after[name]) for name in after)


def test_a_super_network_is_trained_once_and_a_damaged_file_anew(tmp_path, monkeypatch):
    trained, spec = [], spec_of()
    tensors = random_tensors(spec)
    monkeypatch.setattr(supernet, "train_supernet", lambda one: trained.append(one.key) or tensors)
    first = build_supernet(spec, tmp_path)
    again = build_supernet(spec_of(), tmp_path)
    assert len(trained) == 1
    assert all(torch.equal(first[name], again[name]) for name in tensors)
    (path,) = tmp_path.glob("supernet-*.safetensors")
    path.write_bytes(b"half")
    build_supernet(spec, tmp_path)
    assert len(trained) == 2
    elsewhere = SimpleNamespace(**{**vars(sets()), "fingerprint": "g"})
    others = [spec_of(seed=1), spec_of(recipe=Recipe(epochs=3)), spec_of(network()), spec_of(data=elsewhere)]
    others.append(spec_of(network(**WIDE), network()))
    assert len({one.key for one in (spec, *others)}) == 6


def test_a_training_that_diverges_says_so():
    data = sets()
    data.members.features[0] = np.inf
    with pytest.raises(Diverged, match="the loss of the super-network became nan in epoch 1"):
        train_supernet(spec_of(data=data))


def test_a_prediction_is_the_error_on_validation_records_and_the_attack_on_members_and_others():
    spec = spec_of()
    shared, data, seen = random_tensors(spec), spec.data, []

    def attack(evidence):
        seen.append(evidence)
        return evidence.logits[:, 0]

    half = np.arange(48) % 2 == 0
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    bank = Bank(np.random.default_rng(0).normal(size=(2, 48, 3)), np.stack([half, ~half]), labels)
    found = screen_with(spec, shared, attack, bank).predict(network())
    everyone = np.concatenate([data.members.features, data.non_members.features, data.validation.features])
    alone = sub_network(shared, network(), mobile.layer_names, torch.from_numpy(data.members.features))
    logits = alone(torch.from_numpy(everyone)).detach().numpy()
    assert np.allclose(seen[0].logits, logits[:48], atol=1e-4)
    assert np.array_equal(seen[0].labels, labels)
    assert np.array_equal(seen[0].bank.logits, bank.logits)
    assert found.leakage == pytest.approx(auc(logits[:48, 0], np.arange(48) < 24))
    assert found.error == pytest.approx((logits[48:].argmax(1) != data.validation.labels).mean())


def test_it_asks_about_so_many_records_at_most(monkeypatch):
    monkeypatch.setattr(supernet, "ASKED", 10)
    spec = spec_of()
    screen = screen_with(spec, random_tensors(spec), lambda evidence: evidence.logits[:, 0], None)
    assert (len(screen.asked), screen.attacked, screen.members) == (30, 20, 10)
    assert {row.tobytes() for row in screen.asked[:10]} <= {row.tobytes() for row in spec.data.members.features}
    assert {row.tobytes() for row in screen.asked[10:20]} <= {row.tobytes() for row in spec.data.non_members.features}


def test_a_network_that_it_does_not_hold_or_that_overflows_has_no_prediction():
    spec = spec_of(network())
    screen = screen_with(spec, random_tensors(spec), lambda evidence: evidence.logits[:, 0], None)
    assert screen.predict(network(**WIDE)) is None
    assert screen.predict(network(block="separable")) is None
    broken = replace(screen, shared={name: value * np.inf for name, value in screen.shared.items()})
    assert broken.predict(network()) is None
    assert screen.predict(network()) is not None
