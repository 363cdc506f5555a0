"""A network cut between a device and an edge server, and between two worlds of one chip."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.cost import enclave_latency_ms
from estimators.cost import energy_mj
from estimators.cost import exposed_percent
from estimators.cost import flash_kib
from estimators.cost import latency_ms
from estimators.cost import split_energy_mj
from estimators.cost import split_latency_ms
from estimators.devices.device import Calibration
from estimators.devices.device import Device
from estimators.devices.device import Enclave
from estimators.devices.device import Energy
from estimators.devices.device import Latency
from estimators.devices.device import Link
from estimators.devices.device import LinkPower
from estimators.devices.device import Memory
from estimators.devices.files import load_device
from estimators.models.flash import kernel_bytes
from estimators.models.latency import inference_ms
from estimators.partition.enclave import best_set
from estimators.partition.enclave import best_tail
from estimators.partition.enclave import hide
from estimators.partition.enclave import tails
from estimators.partition.flow import kernel_times_ms
from estimators.partition.split import best_split
from estimators.partition.split import prefix_splits
from estimators.partition.split import split_at
from nas.pricing.price import cost_metrics
from nas.search.config import parse_config
from nas.search.plan import resolve
from search_spaces.graph.builder import GraphBuilder

FREE = dict.fromkeys(("pool", "norm", "activation", "add", "concat"), 0.0)


def machine(name, mhz, interval=0.1, **changes):
    """A chip on which a MAC of any layer takes a cycle, a join one for each element, and an inference 1 ms more."""
    latency = Latency(
        cycles_per_mac=dict.fromkeys(("conv", "pointwise", "depthwise", "linear"), 1.0),
        cycles_per_element=FREE | {"add": 1.0, "concat": 1.0},
        cycles_per_kernel={},
        relative_cycles={32: 1.0},
        overhead_ms=1.0,
        interval=interval,
    )
    fields = {
        "name": name,
        "description": "d",
        "core": "c",
        "clock_mhz": mhz,
        "engine": "e",
        "precision": "int8",
        "weight_bits": (8, 32),
        "activation_bits": (8, 32),
        "engine_ram_kib": 0.0,
        "engine_flash_kib": 0.0,
        "latency": latency,
        "calibration": Calibration(source="s", networks=1, error_mean=0.0, error_max=0.0),
    }
    return Device(**fields | changes)


# 0.001 MHz makes a cycle a millisecond; the server is ten times as fast. A link of 0.008 Mbit/s sends a byte in 1 ms.
CHIP = machine(
    "chip",
    0.001,
    energy=Energy(active_power_mw=100.0, interval=0.2),
    link=Link(
        server=machine("server", 0.01, interval=0.2),
        bandwidth_mbit_s=0.008,
        round_trip_ms=3.0,
        interval=0.5,
        power=LinkPower(transmit_mw=400.0, receive_mw=300.0, idle_mw=20.0, interval=0.05),
    ),
    enclave=Enclave(
        secure_ram_kib=1.0, engine_ram_kib=0.25, slow_down=1.5, switch_us=4000.0, copy_us_per_kib=1024e3, interval=0.3
    ),
)


def linked(**changes):
    return replace(CHIP, link=replace(CHIP.link, **changes))


def trusted(**changes):
    return replace(CHIP, enclave=replace(CHIP.enclave, **changes))


def mlp(*widths, bits=8):
    """Layers of 8-bit weights and no bias; `bits` are those of every tensor but the logits, which are 8."""
    graph = GraphBuilder((widths[0],), bits=bits)
    x = 0
    for place, width in enumerate(widths[1:], start=2):
        x = graph.activation(graph.linear(x, width, weight_bits=8), bits=8 if place == len(widths) else bits)
    return graph.architecture("mlp", {})


def residual():
    """Kernels 0 (20 to 10), 1 (10 to 10), 2 (sum of both), 3 (10 to 4); kernel 0's tensor is read twice."""
    graph = GraphBuilder((20,), bits=8)
    x = graph.activation(graph.linear(0, 10, weight_bits=8), bits=8)
    y = graph.activation(graph.linear(x, 10, weight_bits=8), bits=8)
    z = graph.activation(graph.add(x, y), bits=8)
    graph.activation(graph.linear(z, 4, weight_bits=8), bits=8)
    return graph.architecture("residual", {})


@st.composite
def small_graphs(draw):
    """At most seven kernels that compute, with branches, joins, views and results that nobody reads."""
    graph = GraphBuilder((draw(st.integers(1, 9)), 2, 2), bits=draw(st.sampled_from([8, 4])))
    images, vectors = [0], []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["conv", "conv", "conv", "concat", "add", "flatten", "linear"]))
        source = draw(st.sampled_from(images))
        bits = draw(st.sampled_from([8, 8, 3, 32]))
        if kind == "conv":
            images.append(graph.activation(graph.conv(source, draw(st.integers(1, 12)), weight_bits=8), bits=bits))
        elif kind == "concat":
            images.append(graph.concat(source, draw(st.sampled_from(images))))
        elif kind == "add":
            same = [image for image in images if graph.ops[image].shape == graph.ops[source].shape]
            images.append(graph.activation(graph.add(source, draw(st.sampled_from(same))), bits=bits))
        elif kind == "flatten" or not vectors:
            vectors.append(graph.flatten(source))
        else:
            vector = draw(st.sampled_from(vectors))
            vectors.append(graph.activation(graph.linear(vector, draw(st.integers(1, 30)), weight_bits=8), bits=bits))
    if draw(st.booleans()):
        graph.linear(graph.flatten(images[-1]), 3, weight_bits=8)
    return graph.architecture("small", {})


@st.composite
def small_graphs_with_exits(draw):
    """The same, returning any tensors beside the last."""
    network = draw(small_graphs())
    last = len(network.ops) - 1
    early = draw(st.sets(st.integers(0, last), max_size=3))
    return network.with_ops(network.ops, tuple(sorted(early | {last})))


any_small_graphs = st.one_of(small_graphs(), small_graphs_with_exits())


def source_of(network, op):
    """The operator whose tensor holds an operator's output."""
    views = {kernel.output: kernel.inputs[0] for kernel in network.kernels if kernel.kind == "flatten"}
    while op in views:
        op = views[op]
    return op


def steps_of(network):
    return [index for index, kernel in enumerate(network.kernels) if kernel.kind != "flatten"]


def reads(network, index):
    return {source_of(network, op) for op in network.kernels[index].inputs}


def subsets(items):
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


# Device and server, by hand.


def test_each_cut_of_a_chain_by_hand():
    # 20 x 10 = 200 MACs, then 10 x 30 = 300; the server takes a tenth. Tensors of 20, 10 and 30 bytes.
    on_server, between, on_device = prefix_splits(mlp(20, 10, 30), CHIP)
    assert (on_server.on_device, between.on_device, on_device.on_device) == ((), (0,), (0, 1))
    # Up, round trip, down; and the overhead of each machine that computes.
    assert (on_server.device_ms, on_server.link_ms, on_server.server_ms) == pytest.approx((0, 20 + 3 + 30, 51))
    assert (between.device_ms, between.link_ms, between.server_ms) == pytest.approx((201, 10 + 3 + 30, 31))
    assert (on_device.device_ms, on_device.link_ms, on_device.server_ms) == pytest.approx((501, 0, 0))
    assert [split.sent_bytes for split in (on_server, between, on_device)] == [20, 10, 0]
    assert between.sent == (mlp(20, 10, 30).kernels[0].output,)
    assert best_split(mlp(20, 10, 30), CHIP) == on_server


def test_the_intervals_of_the_parts_add():
    _, between, _ = prefix_splits(mlp(20, 10, 30), CHIP)
    estimate = between.latency_ms
    assert estimate.value == pytest.approx(201 + 43 + 31)
    assert estimate.high - estimate.value == pytest.approx(201 * 0.1 + 43 * 0.5 + 31 * 0.2)
    assert estimate.value - estimate.low == pytest.approx(201 * 0.1 + 43 * 0.5 + 31 * 0.2)


def test_the_energy_of_a_cut_by_hand():
    _, between, _ = prefix_splits(mlp(20, 10, 30), CHIP)
    computing, on_link, waiting = 0.1 * 201, 0.4 * 10 + 0.02 * 3 + 0.3 * 30, 0.02 * 31
    assert between.energy_mj.value == pytest.approx(computing + on_link + waiting)
    # Half-widths of a time and of its power add as squares.
    spread = computing * 0.05**0.5 + on_link * 0.2525**0.5 + waiting * 0.0425**0.5
    assert between.energy_mj.high - between.energy_mj.value == pytest.approx(spread)


def test_where_nothing_is_sent_a_split_is_the_device_alone():
    for network in (mlp(20, 10, 30), residual()):
        alone = prefix_splits(network, CHIP)[-1]
        assert alone.latency_ms == latency_ms.estimate(network, CHIP)
        assert alone.energy_mj.value == pytest.approx(energy_mj.estimate(network, CHIP).value)
        assert alone.energy_mj.high == pytest.approx(energy_mj.estimate(network, CHIP).high)
        # A link that hardly sends: the best split is the device alone, without the round trip.
        assert best_split(network, linked(bandwidth_mbit_s=1e-6)) == alone


def test_tensors_are_sent_at_their_bits_in_whole_bytes():
    # 21 elements of 4 bits are 84 bits: 11 bytes, though the device stores 21. The logits of 8 bits come back whole.
    split = prefix_splits(mlp(21, 5, 3, bits=4), CHIP)[0]
    assert (split.sent_bytes, split.link_ms) == (11, pytest.approx(11 + 3 + 3))
    assert prefix_splits(mlp(21, 5, 3, bits=4), CHIP)[1].sent_bytes == 3


def test_a_shortcut_is_cut_once_wherever_it_is_read():
    network = residual()
    x, y = network.kernels[0].output, network.kernels[1].output
    after_first, after_second = prefix_splits(network, CHIP)[1:3]
    # After the first layer its tensor of 10 bytes goes to two readers, once; after the second both tensors go.
    assert (after_first.sent, after_first.sent_bytes) == ((x,), 10)
    assert (after_second.sent, after_second.sent_bytes) == ((x, y), 20)


def test_a_tensor_read_through_a_view_is_the_same_tensor():
    graph = GraphBuilder((3, 2, 2), bits=8)
    x = graph.activation(graph.conv(0, 5, weight_bits=8), bits=8)  # 20 bytes
    graph.activation(graph.conv(x, 2, weight_bits=8), bits=8)
    graph.activation(graph.linear(graph.flatten(x), 4, weight_bits=8), bits=8)
    split = split_at(graph.architecture("view", {}), CHIP, [0])
    assert (split.sent, split.sent_bytes) == ((x,), 20)


def test_a_branch_may_stay_while_the_order_goes_on():
    graph = GraphBuilder((4,), bits=8)
    heavy = graph.activation(graph.linear(graph.activation(graph.linear(0, 900, weight_bits=8), bits=8), 4), bits=8)
    light = graph.activation(graph.linear(0, 2, weight_bits=8), bits=8)
    graph.activation(graph.linear(graph.concat(heavy, light), 2, weight_bits=8), bits=8)
    network = graph.architecture("branches", {})
    # No prefix leaves the heavy branch, listed first, to the server and the light one on the device.
    assert split_at(network, CHIP, [2]).on_device == (2,)
    best = best_split(network, linked(round_trip_ms=0.0))
    assert best.latency_ms.value <= min(s.latency_ms.value for s in prefix_splits(network, linked(round_trip_ms=0.0)))


def test_a_device_cannot_read_what_the_server_makes():
    with pytest.raises(ValueError, match="expected kernel 1 on the device too: kernel 2 reads what it makes"):
        split_at(residual(), CHIP, [0, 2])


def by_hand(network, kept):
    """Latency and energy of one split, straight from the definition."""
    away = [index for index in steps_of(network) if index not in kept]
    needed = set().union(*(reads(network, index) for index in away))
    made_away = {network.kernels[index].output for index in away}
    size = {op: -(-network.ops[op].size * network.ops[op].bits // 8) for op in range(len(network.ops))}
    device, server = [kernel_times_ms(network, one) for one in (CHIP, CHIP.link.server)]
    here_ms = sum(device[index] for index in kept) + bool(kept) * 1.0
    there_ms = sum(server[index] for index in away) + bool(away) * 1.0
    up_ms = sum(size[op] for op in needed - made_away)
    results = {source_of(network, output) for output in network.outputs}
    down_ms = sum(size[result] for result in results & made_away)
    waits = there_ms + bool(away) * 3.0
    latency = here_ms + up_ms + waits + down_ms
    return latency, 0.1 * here_ms + 0.4 * up_ms + 0.02 * waits + 0.3 * down_ms


@settings(max_examples=120, deadline=None, derandomize=True)
@given(any_small_graphs)
def test_the_best_split_equals_brute_force_over_all_sets(network):
    steps = steps_of(network)
    if not steps:
        return
    makers = {network.kernels[index].output: index for index in steps}
    runs = [
        kept
        for kept in map(set, subsets(steps))
        if all(makers[op] in kept for index in kept for op in reads(network, index) if op in makers)
    ]
    prices = [by_hand(network, kept) for kept in runs]
    for kept, price in zip(runs, prices, strict=True):
        split = split_at(network, CHIP, kept)
        assert (split.latency_ms.value, split.energy_mj.value) == pytest.approx(price)
    fastest, frugal = best_split(network, CHIP), best_split(network, linked(minimise="energy_mj"))
    assert fastest.latency_ms.value == pytest.approx(min(latency for latency, _ in prices), rel=1e-6)
    assert frugal.energy_mj.value == pytest.approx(min(energy for _, energy in prices), rel=1e-6)


def test_the_cut_is_exact_where_both_machines_alone_are_a_billion_times_dearer():
    # 4 * 10^10 bytes to send at the start, 9 * 10^9 MACs at the end, and a few milliseconds between them.
    graph = GraphBuilder((1, 100_000, 100_000))
    x = graph.pool(0, "max", kernel=(100_000, 100_000), stride=(100_000, 100_000))
    for width in (3, 2, 1, 2, 1, 100_000, 90_000, 1):
        x = graph.activation(graph.conv(x, width, weight_bits=8), bits=8)
    network = graph.architecture("hourglass", {})
    chip = linked(server=machine("server", 1e6))
    splits = [split.latency_ms.value for split in prefix_splits(network, chip)]
    assert best_split(network, chip).latency_ms.value == pytest.approx(min(splits), rel=1e-6)
    assert min(splits) < min(splits[0], splits[-1]) / 1e8


def test_an_overhead_is_weighed_like_a_kernel():
    network = mlp(40, 2, 40, 2)
    # 80 MACs here save 38 bytes and 8 ms of the server, until the device needs 60 ms to start.
    assert best_split(network, linked(bandwidth_mbit_s=0.002)).on_device == (0,)
    slow_start = replace(linked(bandwidth_mbit_s=0.002), latency=replace(CHIP.latency, overhead_ms=90.0))
    assert best_split(network, slow_start).on_device == ()


@pytest.mark.parametrize("minimise", ["latency_ms", "energy_mj"])
def test_more_bandwidth_is_never_worse(minimise):
    for network in (mlp(20, 10, 30), residual(), mlp(40, 2, 40, 2)):
        prices = [
            getattr(best_split(network, linked(bandwidth_mbit_s=mbit, minimise=minimise)), minimise).value
            for mbit in (1e-6, 1e-3, 2e-3, 4e-3, 8e-3, 0.1, 10.0)
        ]
        assert prices == sorted(prices, reverse=True)
        assert prices[-1] < prices[0]


def test_a_fast_server_and_a_long_way_change_the_split():
    assert best_split(residual(), CHIP).on_device == ()
    assert best_split(residual(), linked(round_trip_ms=1e4)).on_device == (0, 1, 2, 3)


def test_the_least_energy_is_another_split_than_the_least_time():
    loud = linked(power=replace(CHIP.link.power, transmit_mw=4000.0), minimise="energy_mj")
    # Sending 40 bytes takes 160 mJ and computing the second layer 100; 10 bytes take 40.
    network = mlp(40, 10, 100)
    fast, frugal = best_split(network, CHIP), best_split(network, loud)
    assert (fast.on_device, frugal.on_device) == ((), (0,))
    # Both metrics tell of the one split that is chosen.
    assert split_latency_ms.estimate(network, loud) == frugal.latency_ms
    assert split_energy_mj.estimate(network, loud) == frugal.energy_mj


def test_split_metrics_apply_where_link_and_power_are_known():
    silent, powerless, alone = linked(power=None), replace(CHIP, energy=None), replace(CHIP, link=None)
    assert [split_latency_ms.applies(device) for device in (CHIP, silent, powerless, alone)] == [
        True,
        True,
        True,
        False,
    ]
    assert [split_energy_mj.applies(device) for device in (CHIP, silent, powerless, alone)] == [True] + [False] * 3
    assert best_split(residual(), silent).energy_mj is None
    with pytest.raises(ValueError, match="'chip' has no measured power of itself and of its link, so no energy"):
        split_energy_mj.estimate(residual(), silent)
    with pytest.raises(ValueError, match="'chip' has no measured power of itself and of its link, so no energy"):
        best_split(residual(), linked(power=None, minimise="energy_mj"))
    with pytest.raises(ValueError, match="'chip' has no link to a server, so no split"):
        split_latency_ms.estimate(residual(), alone)


def test_what_the_server_cannot_price_is_refused_by_its_name():
    server = machine("server", 1.0)
    server = replace(server, latency=replace(server.latency, cycles_per_element=FREE | {"add": 1.0}))
    del server.latency.cycles_per_element["add"]
    with pytest.raises(ValueError, match="'add' in the latency table of 'server'"):
        best_split(residual(), linked(server=server))


def test_kernels_share_the_weights_that_a_cache_cannot_keep():
    latency = replace(CHIP.latency, weight_cache_kib=0.25, cycles_per_streamed_byte=2.0)
    cached = replace(CHIP, latency=latency)
    times = kernel_times_ms(mlp(20, 10, 30), cached)
    assert 1.0 + sum(times) == pytest.approx(inference_ms(mlp(20, 10, 30), cached).value)
    # 500 bytes less 256 are 244, two cycles each: 2/5 and 3/5 of them.
    assert times == pytest.approx((200 + 488 * 0.4, 300 + 488 * 0.6))


# Enclave, by hand.


def test_a_hidden_tail_by_hand():
    # 20 x 10, 10 x 30, 30 x 4 weights and MACs; 8-bit layers have a scale of 4 bytes for each channel.
    network = mlp(20, 10, 30, 4)
    nothing, last, two, everything = tails(network, CHIP)
    assert [hidden.kernels for hidden in (nothing, last, two, everything)] == [(), (2,), (1, 2), (0, 1, 2)]
    # Constants 120 + 16; tensors 30 in and 4 out.
    assert last.secure_ram_kib == pytest.approx(0.25 + (136 + 34) / 1024)
    # Constants 300 + 120 + 136 more; the first kernel inside holds 10 + 30 bytes, the second 30 + 4.
    assert two.secure_ram_kib == pytest.approx(0.25 + (420 + 136 + 40) / 1024)
    assert (last.copied_bytes, two.copied_bytes, everything.copied_bytes) == (34, 14, 24)
    # Half the time of the kernels inside, 8 ms for two switches, a millisecond for a byte.
    assert nothing.latency_ms == latency_ms.estimate(network, CHIP)
    assert last.latency_ms.value == pytest.approx(621 + 60 + 8 + 34)
    assert two.latency_ms.value == pytest.approx(621 + 210 + 8 + 14)
    assert two.latency_ms.high - two.latency_ms.value == pytest.approx(62.1 + 232 * (0.1 + 0.3))
    shares = [hidden.exposed_percent for hidden in (nothing, last, two, everything)]
    assert shares == pytest.approx([100, 100 * 500 / 620, 100 * 200 / 620, 0])


def test_the_longest_tail_that_fits_is_hidden():
    network = mlp(20, 10, 30, 4)
    # 0.25 KiB of engine and 596 bytes are 852 bytes; all three layers take 256 + 240 + 420 + 136 + 40.
    for kib, kernels in ((1092 / 1024, (0, 1, 2)), (1091 / 1024, (1, 2)), (852 / 1024, (1, 2)), (851 / 1024, (2,))):
        assert best_tail(network, trusted(secure_ram_kib=kib)).kernels == kernels
        assert best_tail(network, trusted(secure_ram_kib=kib)).fits
    assert enclave_latency_ms.estimate(network, CHIP).value == pytest.approx(621 + 210 + 8 + 14)
    assert exposed_percent.estimate(network, CHIP).value == pytest.approx(100 * 200 / 620)


def test_where_the_last_layer_does_not_fit_nothing_is_hidden():
    tiny = trusted(secure_ram_kib=0.3)
    network = mlp(20, 10, 30, 4)
    assert best_tail(network, tiny).kernels == best_set(network, tiny, [1, 1, 1]).kernels == ()
    assert best_tail(network, tiny).secure_ram_kib == 0
    assert enclave_latency_ms.estimate(network, tiny) == latency_ms.estimate(network, tiny)
    assert exposed_percent.estimate(network, tiny).value == 100
    assert not hide(network, tiny, [2]).fits


def test_two_visits_change_worlds_four_times():
    network = mlp(20, 10, 30, 4)
    hidden = hide(network, CHIP, [0, 2])
    assert (hidden.visits, hidden.copied_bytes) == (2, 20 + 10 + 30 + 4)
    assert hidden.latency_ms.value == pytest.approx(621 + (200 + 120) / 2 + 16 + 64)
    # Constants of both, tensors of the larger visit: 34 bytes, not 30.
    assert hidden.secure_ram_kib == pytest.approx(0.25 + (240 + 136 + 34) / 1024)


def test_a_shortcut_enters_the_enclave_once():
    network = residual()
    # Kernels 1 and 2 both read what kernel 0 makes: 10 bytes in, 10 out.
    assert hide(network, CHIP, [1, 2]).copied_bytes == 20
    assert hide(network, CHIP, [1, 2, 3]).copied_bytes == 14
    # The shortcut waits for the sum: 10 in, 10 of the layer, 10 of the sum.
    assert hide(network, CHIP, [1, 2]).secure_ram_kib == pytest.approx(0.25 + (140 + 30) / 1024)
    # Kernel 0 inside: its tensor is made there, and leaves for the sum outside.
    assert hide(network, CHIP, [0]).copied_bytes == 30
    assert hide(network, CHIP, [0, 1]).copied_bytes == 20 + 10 + 10


def test_constants_inside_are_those_in_flash():
    graph = GraphBuilder((3, 4, 4), bits=8)
    x = graph.activation(graph.norm(graph.conv(0, 6, weight_bits=8)), bits=8)
    x = graph.activation(graph.norm(graph.pool(x, "max", kernel=(2, 2), stride=(2, 2))), bits=8)
    graph.linear(graph.flatten(x), 5, bias=True)
    network = graph.architecture("constants", {})
    for memory in (Memory(), Memory(bytes_per_scale=8, arena_factor=2.0)):
        chip = replace(CHIP, memory=memory)
        tensors = 48 + 96 if memory.arena_factor == 1 else 2 * (48 + 96)
        hidden = hide(network, chip, range(len(network.kernels)))
        assert hidden.secure_ram_kib == pytest.approx(0.25 + flash_kib.estimate(network, chip).value + tensors / 1024)


def test_more_secure_memory_never_hides_less():
    for network in (mlp(20, 10, 30, 4), residual()):
        sizes = [0.25 + step / 20 for step in range(1, 22)]
        exposed = [exposed_percent.estimate(network, trusted(secure_ram_kib=kib)).value for kib in sizes]
        assert exposed == sorted(exposed, reverse=True)
        assert (exposed[0], exposed[-1]) == (100, 0)


def test_an_enclave_that_costs_nothing_costs_nothing():
    free = trusted(slow_down=1.0, switch_us=0.0, copy_us_per_kib=0.0)
    assert enclave_latency_ms.estimate(residual(), free) == latency_ms.estimate(residual(), free)


@pytest.mark.parametrize(("arena_factor", "enough"), [(1.0, 256 + 448 + 102), (2.0, 256 + 448 + 204)])
def test_two_visits_share_the_memory_for_constants_and_the_engine(arena_factor, enough):
    # The middle layer of 1,400 bytes fits no way; 240 and 208 bytes of the others do, beside tensors of 100 + 2.
    network = mlp(20, 10, 100, 2)
    chip = replace(trusted(secure_ram_kib=enough / 1024), memory=Memory(arena_factor=arena_factor))
    assert best_set(network, chip, [1, 9, 2]).kernels == (0, 2)
    less = replace(chip, enclave=replace(chip.enclave, secure_ram_kib=(enough - 1) / 1024))
    assert best_set(network, less, [1, 9, 2]).kernels == (2,)


def test_two_visits_without_a_kernel_between_are_one_and_take_its_memory():
    graph = GraphBuilder((9,), bits=8)
    shortcut = graph.activation(graph.linear(0, 50, weight_bits=8), bits=8)
    x = shortcut
    for width in (5, 60, 50):
        x = graph.activation(graph.linear(x, width, weight_bits=8), bits=8)
    graph.activation(graph.add(shortcut, x), bits=8)
    network = graph.architecture("shortcut", {})
    # Kernels 2 and 3 hold 540 and 3,200 bytes. The shortcut of 50 waits inside for the sum, kernel 4: 50 + 60 + 50;
    # left and entered again before the sum, it would be 60 + 50 and then 3 * 50.
    enough = 256 + 540 + 3200 + 160
    for size, kernels in ((enough, (2, 3, 4)), (enough - 1, (2, 3))):
        hidden = best_set(network, trusted(secure_ram_kib=size / 1024), [0, 0, 5, 5, 1])
        assert (hidden.kernels, hidden.fits) == (kernels, True)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 3), ()])
def test_what_is_worth_nothing_is_not_hidden_for_nothing(wanted):
    network = mlp(12, 40, 3, 50, 2)
    values = [float(index in wanted) for index in range(4)]
    slow = trusted(secure_ram_kib=64.0, slow_down=9.0, switch_us=0.0, copy_us_per_kib=0.0)
    assert best_set(network, slow, values).kernels == wanted


def simulated(network, kernels):
    """Peak and copied bytes of one visit, step by step."""
    size = {op: network.ops[op].size * (1 if network.ops[op].bits <= 8 else 4) for op in range(len(network.ops))}
    made = {network.kernels[index].output for index in kernels}
    outside = [index for index in steps_of(network) if index not in kernels]
    wanted = {source_of(network, output) for output in network.outputs}
    wanted |= set().union(*(reads(network, index) for index in outside))
    entering = set().union(*(reads(network, index) for index in kernels)) - made
    memory, peak = set(entering), 0
    for place, index in enumerate(kernels):
        memory.add(network.kernels[index].output)
        peak = max(peak, sum(size[op] for op in memory))
        later = set().union(*(reads(network, other) for other in kernels[place + 1 :]))
        memory &= later | (wanted & made)
    return peak, sum(size[op] for op in entering | (made & wanted))


def runs_of(kernels, steps):
    """Kernels that follow each other among those that compute."""
    runs = []
    for place, index in enumerate(steps):
        if index in kernels:
            if not place or steps[place - 1] not in kernels:
                runs.append([])
            runs[-1].append(index)
    return runs


@settings(max_examples=40, deadline=None, derandomize=True)
@given(any_small_graphs, st.lists(st.integers(0, 5), min_size=30, max_size=30), st.integers(1, 16))
def test_the_best_set_equals_brute_force_over_all_sets(network, worths, sixteenths):
    steps = steps_of(network)
    chip = replace(trusted(secure_ram_kib=0.25 + sixteenths / 16), memory=Memory(arena_factor=1.5))
    values = [float(worth) for worth in worths[: len(network.kernels)]]
    found = []
    for kernels in subsets(steps):
        hidden = hide(network, chip, kernels, values)
        visits = [simulated(network, run) for run in runs_of(kernels, steps)]
        assert (hidden.visits, hidden.copied_bytes) == (len(visits), sum(copied for _, copied in visits))
        constants = sum(kernel_bytes(network.kernels[index], chip) for index in kernels) / 1024
        ram_kib = 0.25 + constants + 1.5 * max((peak for peak, _ in visits), default=0) / 1024 if kernels else 0
        assert hidden.secure_ram_kib == pytest.approx(ram_kib)
        if hidden.fits:
            found.append((hidden.exposed_percent, hidden.latency_ms.value))
    best = best_set(network, chip, values)
    assert best.fits
    assert (best.exposed_percent, best.latency_ms.value) == pytest.approx(min(found), rel=1e-6, abs=1e-6)
    tail = best_tail(network, chip)
    assert tail.kernels == max((h for h in tails(network, chip) if h.fits), key=lambda h: len(h.kernels)).kernels


@pytest.mark.parametrize("values", [[1.0], [1.0, -1.0, 0.0, 0.0], [1.0, float("nan"), 0.0, 0.0]])
def test_wrong_values_are_refused(values):
    with pytest.raises(ValueError, match="expected a finite value of at least 0 for each of 4 kernels; got"):
        best_set(residual(), CHIP, values)


def test_enclave_metrics_apply_where_there_is_one():
    alone = replace(CHIP, enclave=None)
    for metric in (enclave_latency_ms, exposed_percent):
        assert metric.applies(CHIP)
        assert not metric.applies(alone)
        with pytest.raises(ValueError, match="'chip' has no enclave"):
            metric.estimate(residual(), alone)


# What a user writes.

FILE = """
base = "stm32l4r5"

[link]
server = "host"
bandwidth_mbit_s = 20.0
round_trip_ms = 5.0
interval = 0.3
power = { transmit_mw = 660.0, receive_mw = 208.0, idle_mw = 46.0, interval = 0.1 }

[enclave]
secure_ram_kib = 64
engine_ram_kib = 16
slow_down = 1.1
switch_us = 20
copy_us_per_kib = 10
interval = 0.5
"""
NEW = {"split_latency_ms", "split_energy_mj", "enclave_latency_ms", "exposed_percent"}


@pytest.fixture
def own(tmp_path):
    def write(text):
        path = tmp_path / "linked.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_file_starts_from_another_device_and_names_its_server(own):
    device, base = load_device(own(FILE)), load_device("stm32l4r5")
    assert replace(device, name=base.name, link=None, enclave=None) == base
    assert device.link.server == load_device("host")
    assert set(cost_metrics(device)) == set(cost_metrics(base)) | NEW
    # A server's own link is left out, or one file could name itself for ever.
    path = own(FILE)
    assert load_device(own(FILE.replace('"host"', repr(path)))).link.server.link is None


def test_a_file_names_its_own_server_from_where_it_lies(own, tmp_path, monkeypatch):
    (tmp_path / "rack.toml").write_text('base = "host"\nclock_mhz = 1234.0\n', encoding="utf-8")
    path = own(FILE.replace('"host"', '"rack.toml"'))
    monkeypatch.chdir("/")
    assert (load_device(path).link.server.name, load_device(path).link.server.clock_mhz) == ("rack", 1234.0)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"stm32l4r5"', '"abacus"', "no device 'abacus'; there are"),
        ('"host"', '"abacus"', "no device 'abacus'; there are"),
        ('server = "host"', "", "'link.server' is missing"),
        ("bandwidth_mbit_s = 20.0", "bandwidth_mbit_s = 0", "'link.bandwidth_mbit_s'"),
        ("round_trip_ms", "round_trip_s", "no key 'link.round_trip_s'"),
        ("transmit_mw = 660.0,", "", "'link.power.transmit_mw' is missing"),
        ("[link]", '[link]\nminimise = "money"', "'link.minimise'"),
        ("slow_down = 1.1", "slow_down = 0.9", "'enclave.slow_down'"),
        ("secure_ram_kib = 64", "", "'enclave.secure_ram_kib' is missing"),
    ],
)
def test_a_wrong_table_is_refused_by_name(own, old, new, words):
    assert old in FILE
    with pytest.raises(ValueError, match="device") as error:
        load_device(own(FILE.replace(old, new)))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_search_takes_them_as_objectives_and_as_budget(own, tmp_path):
    config = {
        "name": "partition",
        "space": "conv",
        "dataset": "digits",
        "device": own(FILE),
        "objectives": ["error", "leakage", "split_latency_ms"],
        "budgets": {"exposed_percent": 90.0, "split_energy_mj": 5.0},
    }
    plan = resolve(parse_config(config), tmp_path / "runs")
    assert set(cost_metrics(plan.device)) >= NEW
    with pytest.raises(ValueError, match="no objective 'split_latency_ms' on stm32l4r5"):
        resolve(parse_config(config | {"device": "stm32l4r5", "budgets": {}}), tmp_path / "runs")
