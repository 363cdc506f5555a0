"""What decides a study's numbers: each difference is found, named, and refused; what changes no number is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import IntDistribution
from torch.nn import functional

from estimators.devices.files import load_device
from nas.base import plugins
from nas.search import origin
from nas.search.origin import changes
from nas.search.origin import origin_of
from nas.search.storage import ORIGIN
from nas.search.storage import open_study
from tests.defended import DEFENCES
from tests.small_search import planned
from tests.small_search import with_settings


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def then(plan):
    return json.loads(json.dumps(origin_of(plan)))


def test_nothing_changed_is_no_change(plan, then):
    assert changes(then, plan) == []


def test_the_made_up_cases_tell_members_from_others(then):
    assert then["measures"]["leakage"] > 0.6
    assert then["measures"]["loss_auc"] > 0.6
    assert then["defences"]["none"] != then["defences"]["gecko"]


def test_another_training_version_is_named(plan, then, monkeypatch):
    monkeypatch.setattr(origin, "training_version", lambda: "another")
    assert changes(then, plan) == [f"the program: was {then['version']}, now another"]


def test_a_space_that_offers_other_choices_is_named(plan, then):
    wider = {**plan.space.distributions, "depth": IntDistribution(1, 40)}
    other = replace(plan, space=replace(plan.space, distributions=wider))
    assert changes(then, other) == [f"the space {plan.space.name!r}: it offers other choices"]
    same = dict(reversed(plan.space.distributions.items()))
    assert changes(then, replace(plan, space=replace(plan.space, distributions=same))) == []


def test_a_study_from_before_spaces_were_noted_goes_on(plan, then):
    before = {name: value for name, value in then.items() if name != "space"}
    assert changes(before, plan) == []


def test_other_data_are_named(plan, then):
    data = replace(plan.data, fingerprint="another")
    assert changes(then, replace(plan, splits=data)) == ["the data: other records, or other sets of them"]


def test_a_device_whose_clock_was_edited_is_named_with_what_it_changes(plan, then):
    device = replace(plan.device, clock_mhz=plan.device.clock_mhz / 4)
    (found,) = changes(then, replace(plan, device=device))
    latency = then["prices"]["latency_ms"]
    assert found.startswith(f"the device 'stm32h747': its file gives other figures (latency_ms was {latency:.6g}, now ")


def test_a_device_that_gives_other_figures_for_other_networks_alone_is_named(plan, then):
    device = replace(plan.device, ram_kib=1.0)
    assert changes(then, replace(plan, device=device)) == ["the device 'stm32h747': its file gives other figures"]


def test_what_a_device_file_says_in_words_decides_no_number(plan, then):
    device = replace(plan.device, name="mine", description="another text")
    assert changes(then, replace(plan, device=device)) == []


def test_how_good_a_device_file_is_decides_no_number(plan, then):
    judged = replace(
        plan.device.calibration,
        source="others",
        networks=99,
        error_mean=0.5,
        error_max=0.9,
        within_10_percent=0.1,
        within_10_percent_low=0.05,
        repeated_within_10_percent=0.2,
    )
    assert changes(then, replace(plan, device=replace(plan.device, calibration=judged))) == []
    farther = replace(plan.device.calibration, slowest_ms=1e6)  # it decides what is extrapolated
    assert changes(then, replace(plan, device=replace(plan.device, calibration=farther))) != []


@pytest.mark.parametrize("name", ["host", "raspi4", "bitfusion_like"])
def test_every_kind_of_device_has_a_digest_of_its_own(name):
    assert origin._device_digest(load_device(name)) != origin._device_digest(load_device("stm32l4r5"))
    assert origin._device_digest(load_device(name)) == origin._device_digest(load_device(name))


def test_an_attack_turned_upside_down_is_named(plan, then):
    (found,) = changes(then, replace(plan, attack=lambda evidence: -plan.attack(evidence)))
    assert found.startswith("the attack 'lira_fitted' or the statistics, for a made-up network (leakage was ")


def test_an_edited_defence_is_named(plan, then):
    def half(setup, teach):
        made = plan.defences["none"].defend(setup, teach)
        return replace(made, recipe=replace(made.recipe, epochs=1))

    defences = {**plan.defences, "none": replace(plan.defences["none"], defend=half)}
    assert changes(then, replace(plan, defences=defences)) == ["the defence 'none': it trains otherwise"]


def test_edited_measures_are_named(plan, then, monkeypatch):
    monkeypatch.setattr("nas.training.assess.log_probabilities", lambda logits, labels: np.arange(len(labels)))
    (found,) = changes(then, plan)
    assert "(loss_auc was " in found


def test_an_edited_cost_metric_is_named(plan, then):
    def twice(architecture, device):
        found = plan.metrics["flash_kib"](architecture, device)
        return type(found)(2 * found.value, 2 * found.low, 2 * found.high)

    (found,) = changes(then, replace(plan, metrics={**plan.metrics, "flash_kib": twice}))
    flash = then["prices"]["flash_kib"]
    assert found == (
        f"cost metrics, for the space's reference network (flash_kib was {flash:.6g}, now {2 * flash:.6g})"
    )


def test_a_metric_that_a_later_version_adds_changes_nothing(plan, then):
    assert changes(then, replace(plan, metrics={**plan.metrics, "new": plan.metrics["macs"]})) == []


def test_last_digits_of_another_processor_change_nothing(plan, then):
    moved = {
        **then,
        "prices": {name: value * (1 + 1e-9) for name, value in then["prices"].items()},
        "measures": {name: value + 1e-7 for name, value in then["measures"].items()},
        "defences": {name: [value * 1.0001 for value in logits] for name, logits in then["defences"].items()},
    }
    assert changes(moved, plan) == []


@pytest.mark.parametrize("attack", plugins.available("estimators.leakage.attacks", "attack"))
def test_every_attack_of_a_search_can_be_tried_out(plan, attack):
    needs = plugins.load("estimators.leakage.attacks", attack, "NEEDS")
    if set(needs) - {"bank"}:
        return
    tried = replace(
        with_settings(plan, references=8),
        attack=plugins.load("estimators.leakage.attacks", attack, "attack"),
        needs_bank="bank" in needs,
    )
    assert 0 <= origin_of(tried)["measures"]["leakage"] <= 1


def test_a_study_carries_its_origin_and_is_refused_when_it_differs(plan, tmp_path):
    here = replace(plan, folder=tmp_path / "small")
    study = open_study(here)
    assert study.user_attrs[ORIGIN]["device"] == origin_of(plan)["device"]
    slower = replace(here, device=replace(here.device, clock_mhz=100.0))
    with pytest.raises(ValueError, match=r"was started with other things that decide its numbers \(the device"):
        open_study(slower)
    assert len(open_study(here).trials) == 0


def test_every_defence_can_be_tried_out_and_an_edit_of_one_with_parameters_is_named(plan, monkeypatch):
    tried = planned(plan.folder.parent, defences=DEFENCES, attack="loss", compressions=["exits"])
    before = origin_of(tried)
    assert before["defences"].keys() == set(DEFENCES)
    assert changes(before, tried) == []
    monkeypatch.setattr(
        "nas.defences.relaxloss.relaxed_loss", lambda logits, labels, *_, **__: functional.cross_entropy(logits, labels)
    )
    assert changes(before, tried) == ["the defence 'relaxloss': it trains otherwise"]
    longer = replace(tried.defences["timeguard"], delay=lambda deviation: 2 * deviation)
    doubled = replace(tried, defences={"timeguard": longer}, defence_settings=only(tried, "timeguard"))
    assert changes(before, doubled) == ["the defence 'timeguard': it trains otherwise"]


def only(plan, name):
    return {name: plan.defence_settings[name]}


def test_a_defence_that_fails_when_it_is_tried_out_leaves_no_study(plan, tmp_path):
    def nothing(_setup, _teach):
        return None

    broken = replace(plan.defences["none"], defend=nothing)
    here = replace(plan, folder=tmp_path / "small", defences={**plan.defences, "none": broken})
    with pytest.raises(ValueError, match=r"^expected a TrainSetup from the defence 'none'; got NoneType$"):
        open_study(here)
    assert not here.folder.exists()
    assert open_study(replace(plan, folder=tmp_path / "small")).trials == []
