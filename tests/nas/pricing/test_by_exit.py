"""Costs by exit and their mean: by hand, as properties, and held against networks priced alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.devices.files import load_device
from estimators.estimate import Estimate
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.pricing.by_exit import MEAN_OF
from nas.pricing.by_exit import MEANS
from nas.pricing.by_exit import ByExit
from nas.pricing.by_exit import held_back
from nas.pricing.by_exit import mean_cost
from nas.pricing.by_exit import price_by_exit
from nas.pricing.price import as_shipped
from nas.pricing.price import cost_metrics
from nas.pricing.price import screen
from nas.pricing.report import compressions_of
from nas.spaces import compressible
from nas.spaces import space_named
from search_spaces.graph.exits import up_to


def exact(*values):
    return [Estimate.exact(value) for value in values]


def network(count=2, **point):
    space = compressible(space_named("mlp", (8,), 3), ["exits"])
    return space.decode({**space.reference, "depth": 4, "exits.count": count, **point})


def test_the_mean_by_hand():
    """Exits at 2, 5 and 11 ms; 50, 30 and 20 of 100 records leave there: 1 + 1.5 + 2.2 = 4.7 ms."""
    found = mean_cost(exact(2, 5, 11), [50, 30, 20])
    assert found.value == pytest.approx(4.7)
    # 2 ms, 3 more for the half that goes on, 6 more for the fifth that goes to the end.
    beyond_first, beyond_second = proportion_interval(50, 100), proportion_interval(20, 100)
    assert found.low == pytest.approx(2 + 3 * beyond_first.low + 6 * beyond_second.low)
    assert found.high == pytest.approx(2 + 3 * beyond_first.high + 6 * beyond_second.high)


def test_each_share_belongs_to_its_own_exit():
    """A mean by the shares of other exits would be 7.3 or 5.3 or 6.7 ms, never 4.7."""
    for order in ([20, 30, 50], [30, 20, 50], [20, 50, 30]):
        assert mean_cost(exact(2, 5, 11), order).value != pytest.approx(4.7)
    assert mean_cost(exact(2, 5, 11), [100, 0, 0]).value == 2
    assert mean_cost(exact(2, 5, 11), [0, 0, 100]).value == 11


def test_records_that_all_leave_at_once_leave_the_others_open():
    found = mean_cost(exact(1, 3), [40, 0])
    assert (found.value, found.low) == (1.0, 1.0)
    assert found.high == pytest.approx(1 + 2 * proportion_interval(0, 40).high)


def test_the_two_errors_add_as_squares():
    costs = [Estimate(1.0, 0.5, 2.0), Estimate(3.0, 1.5, 6.0)]
    found, shares = mean_cost(costs, [50, 50]), mean_cost(exact(1, 3), [50, 50])
    assert found.value == 2.0
    assert found.low == pytest.approx(2 - math.hypot(1.0, 2 - shares.low))
    assert found.high == pytest.approx(2 + math.hypot(2.0, shares.high - 2))
    beyond = mean_cost([costs[0], Estimate(3.0, 1.5, 6.0, extrapolated=True)], [50, 50])
    assert (beyond.extrapolated, found.extrapolated) == (True, False)


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=5).filter(
        lambda rows: sum(count for _, count in rows)
    )
)
@settings(max_examples=80, derandomize=True, deadline=None)
def test_a_mean_lies_between_the_cheapest_and_the_dearest_exit(rows):
    values, counts = zip(*rows, strict=True)
    found = mean_cost(exact(*values), counts)
    used = [value for value, count in rows if count]
    assert min(used) <= found.value * (1 + 1e-12)
    assert found.value <= max(used) * (1 + 1e-12)
    assert found.low <= found.value <= found.high
    assert len(rows) > 1 or (found.low, found.high) == (found.value, found.value)


def test_the_interval_of_the_shares_holds_the_mean():
    rng, costs, shares = np.random.default_rng(0), np.array([1.0, 2.0, 5.0]), np.array([0.7, 0.25, 0.05])
    held = 0
    for _ in range(400):
        found = mean_cost(exact(*costs), rng.multinomial(60, shares).tolist())
        held += found.low <= costs @ shares <= found.high
    assert held / 400 >= 0.95


@pytest.mark.parametrize("device", ["stm32h747", "host", "raspi4"])
def test_each_exit_costs_what_its_part_of_the_network_costs_alone(device):
    chip = load_device(device)
    metrics = cost_metrics(chip)
    architecture = network(first_bits=8, last_bits=8, **{f"layer{n}_activation_bits": 8 for n in range(1, 5)})
    found = price_by_exit(architecture, [10, 20, 30], chip, metrics)
    names = {cost for cost in MEAN_OF.values() if cost in metrics}
    for number, costs in enumerate(found.costs):
        alone = screen(as_shipped(up_to(architecture, number), chip), chip)
        assert costs == {name: alone[name] for name in names}
    assert dict(found.costs[-1]) == {name: screen(as_shipped(architecture, chip), chip)[name] for name in names}
    macs = [costs["macs"].value for costs in found.costs]
    assert macs == sorted(macs)
    assert found.means["mean_macs"].value == pytest.approx((10 * macs[0] + 20 * macs[1] + 30 * macs[2]) / 60)
    assert found.means.keys() == {mean for mean, cost in MEAN_OF.items() if cost in metrics}


def test_the_mean_of_a_network_with_one_output_is_its_cost():
    chip = load_device("stm32h747")
    found = price_by_exit(network(count=0), [60], chip, cost_metrics(chip))
    alone = screen(network(count=0), chip)
    assert found.means == {mean: alone[cost] for mean, cost in MEAN_OF.items() if cost in alone}


def test_rows_are_what_a_study_holds():
    found = ByExit(({"macs": Estimate.exact(4), "latency_ms": Estimate(1.0, 0.5, 2.0)},) * 2, (30, 10))
    assert found.rows[1] == {
        "exit": 1,
        "records": 10,
        "share": 0.25,
        "macs": 4,
        "latency_ms": 1.0,
        "latency_ms_low": 0.5,
        "latency_ms_high": 2.0,
    }
    assert MEANS.keys() == MEAN_OF.keys()


def within(low, value, high):
    return Estimate(value, low, high)


def test_the_mean_of_delayed_answers_by_hand():
    """Exits at 1, 2 and 3 ms and a deviation of half the 2 ms between them: a wait is |N(0, 1)| ms, at most 2 or 1."""
    density = {most: math.exp(-(most**2) / 2) / math.sqrt(2 * math.pi) for most in (0, 1, 2)}
    waits = [2 * (density[0] - density[most]) + most * math.erfc(most / math.sqrt(2)) for most in (2, 1)]
    found = held_back(exact(1, 2, 3), 0.5)
    assert [one.value for one in found] == pytest.approx([1 + waits[0], 2 + waits[1], 3])
    costs = tuple({"latency_ms": Estimate.exact(cost), "macs": Estimate.exact(cost)} for cost in (1, 2, 3))
    plain, delayed = ByExit(costs, (50, 30, 20)), ByExit(costs, (50, 30, 20), 0.5)
    assert delayed.means["mean_latency_ms"] == mean_cost(found, [50, 30, 20])
    assert delayed.means["mean_latency_ms"].value == pytest.approx(1.7 + 0.5 * waits[0] + 0.3 * waits[1])
    # An idle wait computes nothing.
    assert delayed.means["mean_macs"] == plain.means["mean_macs"]


@pytest.mark.parametrize("delay", [0.5, 4.0, 16.0])
def test_a_longer_delay_saves_less_and_early_exits_still_save_something(delay):
    latencies = exact(1, 2, 3)
    found = (latencies, held_back(latencies, delay / 2), held_back(latencies, delay), exact(3, 3, 3))
    plain, shorter, longer, last = (mean_cost(times, [50, 30, 20]).value for times in found)
    assert plain < shorter < longer < last


@given(
    st.lists(st.tuples(*[st.floats(0.01, 100)] * 3).map(sorted), min_size=1, max_size=4),
    st.floats(0, 20),
)
@settings(max_examples=80, derandomize=True, deadline=None)
def test_an_interval_of_a_delayed_answer_holds_its_value_whatever_the_device(ends, delay):
    latencies = [within(*three) for three in sorted(ends, key=lambda three: three[1])]
    found = held_back(latencies, delay)
    assert found[-1].value == pytest.approx(latencies[-1].value)
    for before, after in zip(latencies, found, strict=True):
        assert before.value <= after.value <= latencies[-1].value * (1 + 1e-9)


def test_an_interval_of_a_delayed_answer_scales_with_the_device():
    """A device that is half or twice as fast takes half or twice as long in all, waits included."""
    found = held_back([within(0.5, 1.0, 2.0), within(1.5, 3.0, 6.0)], 1.0)[0]
    assert (found.low, found.high) == pytest.approx((found.value / 2, found.value * 2))


def test_an_answer_that_may_wait_for_an_extrapolated_exit_is_extrapolated():
    latencies = [Estimate.exact(1), Estimate(3.0, 1.5, 6.0, extrapolated=True)]
    assert [one.extrapolated for one in held_back(latencies, 1.0)] == [True, True]
    assert held_back(latencies, 0.0) == latencies


def test_rows_of_delayed_answers_say_both_times():
    latencies = (within(0.5, 1.0, 2.0), within(1.5, 3.0, 6.0))
    costs = tuple({"macs": Estimate.exact(4), "latency_ms": latency} for latency in latencies)
    early, late = ByExit(costs, (30, 10), 1000.0).rows
    assert (early["latency_ms"], late["latency_ms"], late["delayed_ms"]) == (1, 3, 3)
    assert [early[f"delayed_ms{end}"] for end in ("", "_low", "_high")] == pytest.approx([3, 1.5, 6], rel=1e-2)
    assert all("delayed_ms" not in row for row in ByExit(costs, (30, 10)).rows)


@pytest.mark.parametrize("records", [(), (1,), (0, 0), (1, 2, 3)])
def test_records_of_other_exits_are_refused(records):
    with pytest.raises(ValueError, match="expected records of 2 exits, one at least; got"):
        ByExit(({"macs": Estimate.exact(4)},) * 2, records)


def test_a_table_says_how_many_exits_there_are_and_when_they_answer():
    assert compressions_of(network(count=2, **{"exits.threshold": 0.95})) == ["2 early exits at 0.95"]
    assert compressions_of(network(count=1)) == ["1 early exit at 0.9"]
    assert compressions_of(network(count=0)) == []
