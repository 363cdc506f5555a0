"""Limits: where they come from, which of two holds, and what exceeds them."""

from __future__ import annotations

import dataclasses

import pytest

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.estimate import flat
from nas.pricing.limits import BUDGET
from nas.pricing.limits import CEILING
from nas.pricing.limits import DEVICE
from nas.pricing.limits import Limit
from nas.pricing.limits import budget_limits
from nas.pricing.limits import device_limits
from nas.pricing.limits import exceeded
from nas.pricing.limits import merged
from nas.pricing.limits import misfits
from nas.pricing.limits import over


def limit(value, kind=BUDGET, metric="flash_kib"):
    return Limit(metric, value, f"reason of {value}", kind)


def test_a_device_limits_what_its_file_says_it_has():
    chip = load_device("stm32g0b1")
    assert device_limits(chip) == (
        Limit("peak_ram_kib", 144.0, "stm32g0b1 has 144 KiB of RAM", DEVICE),
        Limit("flash_kib", 512.0, "stm32g0b1 has 512 KiB of flash", DEVICE),
    )
    assert device_limits(load_device("host")) == ()
    assert device_limits(dataclasses.replace(chip, flash_kib=None)) == device_limits(chip)[:1]


@pytest.mark.parametrize(
    ("budget", "other", "kept"),
    [
        (limit(300.0), limit(512.0, DEVICE), 300.0),
        (limit(512.0), limit(512.0, DEVICE), 512.0),
        (limit(900.0), limit(512.0, DEVICE), 512.0),
        (limit(0.5, metric="error"), limit(0.1, CEILING, "error"), 0.5),
        (limit(0.05, metric="error"), limit(0.1, CEILING, "error"), 0.05),
    ],
)
def test_of_two_limits_on_a_metric_one_holds(budget, other, kept):
    (found,) = merged([budget], [other])
    assert found.value == kept
    assert found.kind == (DEVICE if kept < budget.value else BUDGET)


@pytest.mark.parametrize("end", ["_low", "_high"])
def test_a_budget_on_an_end_lifts_the_ceiling_and_nothing_else(end):
    ceiling, chip = limit(0.1, CEILING, "error"), limit(512.0, DEVICE)
    budgets = [limit(0.5, metric=f"error{end}"), limit(900.0, metric=f"flash_kib{end}")]
    assert set(merged(budgets, [ceiling, chip])) == {*budgets, chip}
    assert set(merged(budgets[1:], [ceiling, chip])) == {budgets[1], ceiling, chip}
    both = [limit(0.5, metric="error"), budgets[0]]
    assert set(merged(both, [ceiling])) == set(both)


def test_ends_of_intervals_are_limited():
    estimates = {"latency_ms": Estimate(9.0, 8.0, 11.0), "macs": Estimate.exact(100.0)}
    limits = budget_limits(
        {"latency_ms": 10, "latency_ms_high": 10, "latency_ms_low": 7, "macs_high": 99, "gap_low": 0}
    )
    assert [found.metric for found in exceeded(estimates, limits)] == ["latency_ms_high", "latency_ms_low", "macs_high"]
    told = [found.told(number) for found, number in over(flat(estimates), limits)]
    assert told == ["latency_ms_high 11 > 10", "latency_ms_low 8 > 7", "macs_high 100 > 99"]


def test_limits_on_other_metrics_all_hold():
    three = (limit(1.0), limit(2.0, DEVICE, "peak_ram_kib"), limit(3.0, CEILING, "error"))
    assert set(merged(three[:1], three[1:])) == set(three)


def test_what_exceeds_a_limit():
    limits = (limit(10.0), limit(0.0, metric="gap"), limit(5.0, metric="unpriced"))
    estimates = {"flash_kib": Estimate(10.0, 5.0, 50.0), "gap": Estimate.exact(0.01)}
    assert [found.metric for found in exceeded(estimates, limits)] == ["gap"]  # what meets a limit exactly is within
    assert [found.metric for found in exceeded({"flash_kib": Estimate.exact(10.01)}, limits)] == ["flash_kib"]


def test_excess_is_a_share_of_the_limit():
    assert limit(10.0).excess(15.0) == 0.5
    assert limit(10.0).excess(5.0) == -0.5
    assert limit(-10.0).excess(-5.0) == 0.5
    assert limit(0.0).excess(0.0) == 0.0
    assert limit(0.0).excess(0.1) > 1e6


def test_limits_are_said_with_what_looks_beyond():
    assert budget_limits({"macs": 5})[0].line == "limit macs=5: your budget"
    ram = device_limits(load_device("stm32g0b1"))[0]
    assert ram.line == "limit peak_ram_kib=144: stm32g0b1 has 144 KiB of RAM; --no-device-limits looks beyond"
    assert limit(0.1, CEILING, "error").line.endswith("; --no-error-ceiling looks beyond")
    assert budget_limits({"macs": 5})[0].told(9) == "macs 9 > 5"


def test_what_does_not_fit_says_which_memory_and_by_how_much():
    chip = load_device("stm32g0b1")
    estimates = {"peak_ram_kib": Estimate.exact(1312.0), "flash_kib": Estimate.exact(512.0)}
    assert misfits(estimates, chip) == ["does not fit: needs 1,312.0 KiB of RAM, stm32g0b1 has 144"]
    assert misfits(estimates, load_device("host")) == []


@pytest.mark.parametrize("change", [{"value": "5"}, {"value": float("nan")}, {"kind": "wish"}, {"reason": ""}])
def test_a_limit_of_another_kind_is_refused(change):
    with pytest.raises(ValueError, match="validation error"):
        Limit(**{"metric": "macs", "value": 5.0, "reason": "x", "kind": BUDGET, **change})
