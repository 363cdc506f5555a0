"""What a network with early exits costs on average: by exit, and over the records that leave at each.

The costs of `estimators.cost` are those of the worst case, a record that passes all exits. A record that leaves earlier
costs what is computed up to there. Where records leave is known once the network is trained, so a mean is known then.

Where a defence holds early answers back (`nas.pricing.exit_delays`), a mean latency is that until the answer is given.
What is computed stays, and with it MACs and energy: the energy of an idle wait is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from estimators.devices.device import Device
from estimators.estimate import Estimate
from estimators.estimate import flat
from estimators.leakage.statistics.auc_and_rates import proportion_interval
from nas.base.text import Row
from nas.pricing.exit_delays import delayed_by_exit_ms
from nas.pricing.price import CostMetric
from nas.pricing.price import as_shipped
from nas.pricing.price import screen
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.exits import up_to

MEAN_OF: Mapping[str, str] = {"mean_latency_ms": "latency_ms", "mean_macs": "macs", "mean_energy_mj": "energy_mj"}
"""The metrics that are means over records, and the cost of each record."""
LATENCY, DELAYED = "latency_ms", "delayed_ms"
"""What an answer takes to compute, and the mean time after which it is given, where early ones are held back."""
MEANS: Mapping[str, str] = {
    "mean_latency_ms": "Mean time of one inference in milliseconds over validation records that leave at early exits; "
    "intervals of the device and of the shares together. Measured where networks may have exits.",
    "mean_macs": "Mean multiply-accumulates of one inference over the same; interval of the shares.",
    "mean_energy_mj": "Mean energy of one inference in millijoules over the same, where the device has an energy.",
}
"""A line on each."""


def means_on(metrics: Collection[str]) -> list[str]:
    """List the means that there are where these cost metrics apply.

    >>> means_on(["macs", "latency_ms", "params"])
    ['mean_latency_ms', 'mean_macs']
    """
    return [mean for mean, cost in MEAN_OF.items() if cost in metrics]


@dataclass(frozen=True)
class ByExit:
    """Costs and validation records of a network by exit.

    Attributes:
        costs: For each exit, what a record that leaves there costs, by cost metric of `MEAN_OF`.
        records: How many validation records leave there.
        delay: Standard deviation of the time by which early answers are held back, as a share of the time between the
            first exit and the last; 0: they are not.

    Raises:
        ValueError: If there is no record, or not one number for each exit.
    """

    costs: tuple[Mapping[str, Estimate], ...]
    records: tuple[int, ...]
    delay: float = 0.0

    def __post_init__(self) -> None:
        if len(self.costs) != len(self.records) or not sum(self.records):
            raise ValueError(f"expected records of {len(self.costs)} exits, one at least; got {list(self.records)}")

    @property
    def means(self) -> dict[str, Estimate]:
        """The mean over the records of each cost, by the name of the mean; of latencies, until the answer is given."""
        return {
            mean: mean_cost(self.delayed if cost == LATENCY else [costs[cost] for costs in self.costs], self.records)
            for mean, cost in MEAN_OF.items()
            if cost in self.costs[0]
        }

    @property
    def delayed(self) -> list[Estimate]:
        """For each exit, the mean time until an answer is given; its latency where nothing is held back."""
        return held_back([costs[LATENCY] for costs in self.costs], self.delay)

    @property
    def rows(self) -> list[Row]:
        """A row for each exit, as a study holds it: its number, records, their share, and the costs with intervals.

        Where early answers are held back, the mean time until one is given stands beside its latency.
        """
        total = sum(self.records)
        delays = [{DELAYED: time} for time in self.delayed] if self.delay else [{} for _ in self.costs]
        return [
            {"exit": number, "records": count, "share": count / total, **flat({**costs, **delay})}
            for number, (count, costs, delay) in enumerate(zip(self.records, self.costs, delays, strict=True))
        ]


def price_by_exit(
    architecture: Architecture,
    records: Sequence[int],
    device: Device,
    metrics: Mapping[str, CostMetric],
    delay: float = 0.0,
) -> ByExit:
    """Price what is computed for a record that leaves at each exit, as it is shipped.

    Args:
        architecture: The network; with one output there is one exit, and it is the whole network.
        records: How many validation records leave at each exit.
        device: The target.
        metrics: The cost metrics that apply to it.
        delay: As in `ByExit`.
    """
    wanted = {cost: metrics[cost] for cost in MEAN_OF.values() if cost in metrics}
    parts = (as_shipped(up_to(architecture, number), device) for number in range(len(architecture.outputs)))
    return ByExit(tuple(screen(part, device, wanted) for part in parts), tuple(records), delay)


def held_back(latencies: Sequence[Estimate], delay: float) -> list[Estimate]:
    """Return the mean time until an answer of each exit is given, when those of early exits are held back.

    The device's error is the same for all exits, so the ends of an interval are the times at the ends of all latencies.

    Args:
        latencies: Of each exit, the last one the slowest.
        delay: As in `ByExit`; 0: nothing is held back.

    >>> early, late = held_back([Estimate(1.0, 0.5, 2.0), Estimate(3.0, 1.5, 6.0)], 1000.0)
    >>> round(early.low, 2), round(early.value, 2), round(early.high, 2), late.value  # all wait for the last exit
    (1.5, 3.0, 6.0, 3.0)
    """
    if not delay:
        return list(latencies)
    ends = ([one.value for one in latencies], [one.low for one in latencies], [one.high for one in latencies])
    times = (delayed_by_exit_ms(end, delay * (max(end) - end[0])) for end in ends)
    beyond = any(one.extrapolated for one in latencies)  # an early answer may wait for the last exit
    return [
        Estimate(value, min(value, low, high), max(value, low, high), extrapolated=beyond)
        for value, low, high in zip(*times, strict=True)
    ]


def mean_cost(costs: Sequence[Estimate], records: Sequence[int]) -> Estimate:
    """Return the mean cost of a record, with one interval for two errors: the device's, and that of few records.

    The device's error is the same for all records, so it is the mean of the ends. The mean is also the cost of the
    first exit and, for each later one, what it adds times the share of records that go as far; with the ends of the
    exact 95 % intervals of these shares, all at once, it has an interval that holds more often. The two errors have
    nothing to do with each other: their widths add as squares.

    Args:
        costs: Of a record that leaves at each exit.
        records: How many leave there.

    >>> mean_cost([Estimate(1.0, 0.8, 1.2), Estimate(3.0, 2.4, 3.6)], [75, 25]).value
    1.5
    >>> mean_cost([Estimate(3.0, 2.4, 3.6)], [100])
    Estimate(value=3.0, low=2.4, high=3.6, extrapolated=False)
    """
    total = sum(records)
    if len(costs) == 1:
        return costs[0]
    value, low, high = (
        sum(count / total * end for count, end in zip(records, ends, strict=True))
        for ends in zip(*((cost.value, cost.low, cost.high) for cost in costs), strict=True)
    )
    fewest = most = 0.0
    for number in range(1, len(costs)):
        added = costs[number].value - costs[number - 1].value
        share = proportion_interval(sum(records[number:]), total)
        differences = (added * (share.low - share.value), added * (share.high - share.value))
        fewest, most = fewest + min(differences), most + max(differences)
    return Estimate(
        value,
        max(0.0, value - math.hypot(value - low, fewest)),
        value + math.hypot(high - value, most),
        extrapolated=any(cost.extrapolated for cost in costs),
    )
