"""Orders of execution and the memory they take: by hand, against brute force, against ST's measurements."""

from __future__ import annotations

import heapq
import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.cost import flash_kib
from estimators.cost import peak_ram_kib
from estimators.devices.device import Memory
from estimators.devices.files import load_device
from estimators.models.memory import Moment
from estimators.models.memory import best_order
from estimators.models.memory import schedule
from nas.base.plugins import load
from search_spaces.graph.builder import GraphBuilder

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
# Nothing in place or left out, int8 and float tensors; the engine takes 10 KiB of memory and 20 of flash.
HAND = replace(
    load_device("stm32h747"), engine_ram_kib=10.0, engine_flash_kib=20.0, memory=Memory(), prune_dead_ops=False
)
IN_PLACE = ((), ("add",), ("pointwise", "add"), ("conv", "depthwise", "pool"), ("pointwise", "pool", "concat", "norm"))


def in_place(*kinds, **memory):
    return replace(HAND, memory=Memory(in_place=kinds, **memory))


def peak_bytes(network, device=HAND):
    return (peak_ram_kib.estimate(network, device).value - device.engine_ram_kib) * 1024


def test_two_branches_run_in_the_better_order():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    wide = graph.activation(graph.conv(0, 4, weight_bits=8), bits=8)  # 400
    wide = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)  # 100
    slim = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    graph.activation(graph.concat(wide, slim), bits=8)  # 400
    network = graph.architecture("hand", {})
    # As listed: input + 400, then 100 + 400 + 100 = 600, then 100 + 100 + 300, then 100 + 300 + 400 = 800.
    # The slim branch first would hold its 300 beside 400 + 100. The join needs 800 whatever comes before.
    assert peak_bytes(network) == 800
    order, peak = best_order(network, HAND)
    assert peak == 800
    assert order == (0, 1, 2, 3)


def test_the_listed_order_is_not_taken_for_granted():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    slim = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    wide = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)  # 800
    wide = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)  # 100
    graph.activation(graph.concat(slim, wide), bits=8)  # 400
    # As listed, 300 wait beside 100 + 800. The other way round the peak is 100 + 800 + 100 while the input waits.
    assert best_order(graph.architecture("hand", {}), HAND) == ((1, 2, 0, 3), 1000)


def test_a_shortcut_keeps_its_tensor_alive():
    graph = GraphBuilder((2, 10, 10), bits=8)  # 200 bytes
    x = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300
    x = graph.activation(graph.conv(x, 2, weight_bits=8), bits=8)  # 200
    graph.activation(graph.add(0, x), bits=8)  # 200
    assert peak_bytes(graph.architecture("hand", {})) == 200 + 300 + 200


def test_a_view_takes_no_memory_and_a_float_tensor_four_times_as_much():
    graph = GraphBuilder((2, 10, 10), bits=8)
    x = graph.activation(graph.conv(0, 1, weight_bits=8), bits=4)  # 100 elements, stored in 8 bits
    graph.linear(graph.flatten(x), 50, weight_bits=8)  # 50 floats: 200 bytes
    assert peak_bytes(graph.architecture("hand", {})) == max(200 + 100, 100 + 200)
    float_first = GraphBuilder((2, 10, 10))
    float_first.activation(float_first.conv(0, 1), bits=8)
    assert peak_bytes(float_first.architecture("hand", {})) == 800 + 100


def residual(bits=8):
    """An input of 200 bytes, 300 after the first layer, 200 after the second, 200 after the sum (800 in float)."""
    graph = GraphBuilder((2, 10, 10), bits=8)
    x = graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)
    x = graph.activation(graph.conv(x, 2, weight_bits=8), bits=8)
    x = graph.activation(graph.add(0, x), bits=bits)
    return graph.architecture("residual", {})


def test_a_sum_in_place_takes_the_place_of_an_input_it_alone_still_needs():
    # Convolutions: 200 + 300, then 200 (the shortcut) + 300 + 200. The sum beside both: 200 + 200 + 200.
    assert schedule(residual(), HAND) == (Moment(0, 500, 500), Moment(1, 700, 400), Moment(2, 600, 200))
    assert schedule(residual(), in_place("add")) == (Moment(0, 500, 500), Moment(1, 700, 400), Moment(2, 400, 200))
    # The sum in float is 800 bytes: 200 of them lie where an input lay.
    assert schedule(residual(32), in_place("add"))[-1] == Moment(2, 200 + 800, 800)


def test_nothing_is_overwritten_while_another_kernel_reads_it():
    graph = GraphBuilder((2, 10, 10), bits=8)  # 200 bytes
    x = graph.activation(graph.conv(0, 2, weight_bits=8), bits=8)  # 200
    y = graph.activation(graph.conv(x, 1, weight_bits=8), bits=8)  # 100
    graph.activation(graph.concat(x, y), bits=8)  # 300
    network = graph.architecture("hand", {})
    # The second convolution may not write over the first one's output, which the join reads as well.
    assert schedule(network, in_place("pointwise")) == (Moment(0, 200, 200), Moment(1, 300, 300), Moment(2, 600, 300))
    assert peak_bytes(network, in_place("pointwise", "concat")) == 100 + 300


def test_of_a_tensor_computed_in_place_the_larger_counts():
    def layer(channels, device):
        graph = GraphBuilder((2, 10, 10), bits=8)
        graph.activation(graph.conv(0, channels, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)
        return peak_bytes(graph.architecture("hand", {}), device)

    assert [layer(channels, HAND) for channels in (1, 2, 5)] == [300, 400, 700]
    assert [layer(channels, in_place("conv")) for channels in (1, 2, 5)] == [200, 200, 500]
    assert layer(5, in_place("pointwise", "depthwise")) == 700


def test_an_order_is_chosen_for_what_it_lets_be_overwritten():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    x = graph.activation(graph.conv(0, 4, weight_bits=8), bits=8)  # 400
    slim = graph.activation(graph.conv(x, 1, weight_bits=8), bits=8)  # 100
    wide = graph.activation(graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=8), bits=8)  # 400
    graph.activation(graph.concat(slim, wide), bits=8)  # 500
    network = graph.architecture("hand", {})
    # Depthwise in place pays only after the slim branch has read the tensor: 100 + 400, not 400 + 400.
    device = in_place("depthwise", "concat")
    assert best_order(network, device) == ((0, 1, 2, 3), 600)
    assert [moment.live for moment in schedule(network, device)] == [500, 500, 500, 600]
    assert [moment.live for moment in schedule(network, device, (0, 2, 1, 3))] == [500, 800, 900, 600]


def with_exit(features):
    """A layer of 800 bytes and one of 100 behind an exit of so many bytes that reads the input's 100."""
    graph = GraphBuilder((1, 10, 10), bits=8)
    early = graph.linear(graph.flatten(0), features, weight_bits=8)
    early = graph.activation(early, "identity", bits=8)
    wide = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)
    late = graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)
    graph.ops.append(graph.ops[early]._replace(kind="linear", inputs=(graph.flatten(late),), function=""))
    return graph.architecture("exit", {}, outputs=(early, len(graph.ops) - 1))


def test_the_logits_of_an_exit_wait_until_the_end():
    network = with_exit(60)
    live = [moment.live for moment in schedule(network, HAND, range(len(network.kernels)))]
    # 100 + 60; 60 beside 100 + 800, 800 + 100, the view's 100 and 100 + 60.
    assert live == [100, 160, 960, 960, 160, 220]
    assert peak_bytes(network) == 100 + 800 + 60
    # Logits of 200 bytes are better computed late: then the input's 100 wait, beside 800 + 100.
    assert peak_bytes(with_exit(200)) == 100 + 800 + 100
    assert peak_bytes(replace(network, outputs=(len(network.ops) - 1,))) == 900


def test_a_search_that_grows_too_large_keeps_the_order_of_the_pieces(monkeypatch):
    monkeypatch.setattr("estimators.models.memory.MOST_SETS", 1)
    order, peak = best_order(with_exit(200), HAND)
    assert simulate(with_exit(200), order) == peak == 100 + 800 + 200


def test_the_arena_factor_is_on_tensors_and_a_kernel_has_its_price():
    device = in_place(arena_factor=1.5, ram_kib_per_kernel=0.25, flash_kib_per_kernel=0.5, bytes_per_scale=6)
    # 700 bytes of tensors, three kernels.
    assert peak_ram_kib.estimate(residual(), device).value == pytest.approx(700 * 1.5 / 1024 + 10 + 3 * 0.25)
    # 2 * 3 + 3 * 2 weights, no bias, five channels with a scale of 6 bytes each.
    assert flash_kib.estimate(residual(), device).value == pytest.approx((12 + 5 * 6) / 1024 + 20 + 3 * 0.5)


def test_a_chain_has_a_price_for_each_kernel_too():
    graph = GraphBuilder((2, 10, 10), bits=8)
    graph.linear(graph.flatten(graph.pool(0, "avg", kernel=(10, 10), stride=(10, 10))), 5, weight_bits=8)
    device = in_place("pool", arena_factor=2.0, ram_kib_per_kernel=0.25)
    # The pooling's two bytes lie in its input's 200; the five logits are float.
    expected = 200 * 2 / 1024 + 10 + 3 * 0.25
    assert peak_ram_kib.estimate(graph.architecture("hand", {}), device).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("order", "message"), [((0, 1), "each of 3 kernels once"), ((0, 2, 1), "kernel 2 comes too early")]
)
def test_a_schedule_refuses_what_is_no_order(order, message):
    with pytest.raises(ValueError, match=message):
        schedule(residual(), HAND, order)


def test_a_device_refuses_to_compute_in_place_what_it_does_not_know():
    with pytest.raises(ValueError, match="no operator \\['sum'\\]"):
        Memory(in_place=("sum",))
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Memory(arena_factor=0.9)


@st.composite
def small_graphs(draw):
    """At most nine operators that run, with branches, joins, views and results that nobody reads."""
    graph = GraphBuilder((draw(st.integers(1, 9)), 2, 2), bits=8)
    images = [0]
    for _ in range(draw(st.integers(1, 7))):
        if len(graph.architecture("small", {}).kernels) > 5:
            break
        kind = draw(st.sampled_from(["conv", "conv", "wide", "depthwise", "concat", "add", "norm", "view"]))
        source = draw(st.sampled_from(images))
        if kind == "conv":
            x = graph.conv(source, draw(st.integers(1, 12)), weight_bits=8)
            images.append(graph.activation(x, bits=draw(st.sampled_from([8, 8, 32]))))
        elif kind == "wide":
            x = graph.conv(source, draw(st.integers(1, 12)), kernel=(3, 3), padding=(1, 1), weight_bits=8)
            images.append(graph.activation(x, bits=8))
        elif kind == "depthwise":
            x = graph.depthwise(source, kernel=(3, 3), padding=(1, 1), weight_bits=8)
            images.append(graph.activation(x, bits=draw(st.sampled_from([8, 32]))))
        elif kind == "concat":
            images.append(graph.concat(source, draw(st.sampled_from(images))))
        elif kind == "norm":
            images.append(graph.norm(source, bits=8))
        elif kind == "view":
            graph.activation(graph.linear(graph.flatten(source), draw(st.integers(1, 30))), bits=8)
        else:
            same = [image for image in images if graph.ops[image].shape == graph.ops[source].shape]
            images.append(graph.activation(graph.add(source, draw(st.sampled_from(same))), bits=8))
    if draw(st.booleans()):
        graph.linear(graph.flatten(images[-1]), 3)
    return graph.architecture("small", {})


@st.composite
def small_graphs_with_exits(draw):
    """The same, returning any tensors beside the last."""
    network = draw(small_graphs())
    last = len(network.ops) - 1
    early = draw(st.sets(st.integers(0, last), max_size=3))
    return network.with_ops(network.ops, tuple(sorted(early | {last})))


def tensor_of(network, op):
    """The operator whose tensor holds an operator's output: views hold none of their own."""
    views = {kernel.output: kernel.inputs[0] for kernel in network.kernels if kernel.kind == "flatten"}
    while op in views:
        op = views[op]
    return op


def bytes_of(network, op):
    return network.ops[op].size * (1 if network.ops[op].bits <= 8 else 4)


def step(network, kinds, memory, left, index):
    """Run one kernel: bytes while it runs, and the tensors still needed by the kernels left and at the end."""
    kernel = network.kernels[index]
    output = tensor_of(network, kernel.output)
    needed = {tensor_of(network, source) for later in left for source in network.kernels[later].inputs}
    needed.update(tensor_of(network, output) for output in network.outputs)
    used = sum(bytes_of(network, op) for op in memory | {output})
    if kernel.kind in kinds:
        free = {tensor_of(network, source) for source in kernel.inputs} - needed
        used -= min([max([bytes_of(network, op) for op in free], default=0), bytes_of(network, output)])
    return used, (memory | {output}) & needed


def simulate(network, order, kinds=()):
    """Peak in bytes of an order; refuses one that cannot run."""
    memory, made, peak = {0}, {0}, network.ops[0].size
    assert sorted(order) == list(range(len(network.kernels)))
    for position, index in enumerate(order):
        assert made.issuperset(network.kernels[index].inputs)
        used, memory = step(network, kinds, memory, order[position + 1 :], index)
        made, peak = made | {network.kernels[index].output}, max(peak, used)
    return peak


def brute_force(network, kinds, memory=frozenset({0}), made=frozenset({0}), left=None):
    """Smallest peak over every topological order, none skipped."""
    kernels = network.kernels
    left = tuple(range(len(kernels))) if left is None else left
    peaks = []
    for index in left:
        if made.issuperset(kernels[index].inputs):
            rest = tuple(other for other in left if other != index)
            used, kept = step(network, kinds, memory, rest, index)
            peaks.append(max(used, brute_force(network, kinds, kept, made | {kernels[index].output}, rest)))
    return min(peaks) if left else network.ops[0].size


@settings(max_examples=240, deadline=None, derandomize=True)
@given(st.one_of(small_graphs(), small_graphs_with_exits()), st.sampled_from(IN_PLACE))
def test_the_best_order_equals_brute_force_over_all_orders(network, kinds):
    device = in_place(*kinds)
    order, peak = best_order(network, device)
    assert len(network.kernels) <= 9
    assert peak == brute_force(network, kinds)
    assert simulate(network, order, kinds) == peak
    assert peak_bytes(network, device) == peak
    assert max(moment.live for moment in schedule(network, device)) == peak


def test_many_blocks_with_two_branches_are_searched_piece_by_piece():
    graph = GraphBuilder((4, 8, 8), bits=8)
    x = 0
    for _ in range(40):
        left = graph.activation(graph.conv(x, 4, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(x, 16, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(right, 4, weight_bits=8), bits=8)
        x = graph.activation(graph.add(left, right), bits=8)
    network = graph.architecture("deep", {})
    order, peak = best_order(network, HAND)
    assert simulate(network, order) == peak == 256 + 1024 + 256


def test_cells_that_repeat_run_in_the_same_order():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    x = 0
    for slim, wide in ((3, 8), (3, 8), (2, 8), (3, 8)):
        left = graph.activation(graph.conv(x, slim, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(x, wide, weight_bits=8), bits=8)
        right = graph.activation(graph.conv(right, 1, weight_bits=8), bits=8)
        x = graph.activation(graph.conv(graph.concat(left, right), 1, weight_bits=8), bits=8)
    network = graph.architecture("cells", {})
    order, peak = best_order(network, HAND)
    # The wide branch first: its 800 bytes beside the input's 100 and the 100 that it leaves.
    assert simulate(network, order) == peak == 1000
    assert order == tuple(5 * cell + step for cell in range(4) for step in (1, 2, 0, 3, 4))


@pytest.mark.usefixtures("shared_data")
def test_st_networks_are_the_ones_measured_and_their_memory_is_predicted(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(importlib.import_module("report"), "RESULTS", tmp_path)
    importlib.import_module("peak_ram").main()
    found = json.loads((tmp_path / "peak_ram.json").read_text())
    # Graphs: MACs by type equal, weights and biases equal to the last digit printed (0.01 KiB).
    assert [row["macs_equal"] for row in found["rows"]].count(True) == 10
    assert not [row for row in found["rows"] if row["macs_equal"] is False or abs(row["weights_error_kib"]) > 0.0051]
    for errors in found["left_out"].values():
        assert errors["activation_ram_kib"]["mean"] < 0.15
        assert errors["total_ram_kib"]["mean"] < 0.15
        assert errors["total_flash_kib"]["mean"] < 0.03
    # The rule that ships is the one that predicts best, and the device file holds its fit, rounded.
    best = min(found["rules"], key=lambda rule: (rule["family"], rule["network"]))
    chip = load_device("stm32h747")
    assert best["in_place"] == ", ".join(chip.memory.in_place)
    assert best["fitted"] == "offset"
    assert list(found["bytes_per_scale"].values()) == pytest.approx([chip.memory.bytes_per_scale] * 2, abs=0.1)
    for name, figure in found["fitted"].items():
        assert getattr(chip if hasattr(chip, name) else chip.memory, name) == pytest.approx(figure, rel=0.01), name
    assert found["device_file"]["total_ram_kib"]["mean"] < 0.1
    assert found["device_file"]["total_flash_kib"]["mean"] < 0.02


def test_constants_and_unread_results_leave_the_pieces_of_a_network_apart():
    """Searched as one piece, such a cell takes minutes."""
    space = load("search_spaces", "nb201", "make_space")((3, 32, 32), 10)
    cell = "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_1x1~1|skip_connect~2|"
    device = replace(HAND, prune_dead_ops=True)
    # Four float tensors of 16 channels of 32x32; the zeros that 1-2 and 1-3 compute with lie in flash.
    assert peak_bytes(space.decode(space.parse(cell)), device) == 4 * 16 * 32 * 32 * 4


def test_an_unread_result_is_computed_where_it_costs_least():
    graph = GraphBuilder((1, 10, 10), bits=8)  # 100 bytes
    wide = graph.activation(graph.conv(0, 8, weight_bits=8), bits=8)  # 800
    graph.activation(graph.conv(0, 3, weight_bits=8), bits=8)  # 300, for nobody
    graph.activation(graph.conv(wide, 1, weight_bits=8), bits=8)  # 100
    # Before the wide one: 100 + 300. As listed, it would be 100 + 800 + 300.
    assert best_order(graph.architecture("unread", {}), HAND) == ((1, 0, 2), 900)


def test_a_search_for_where_an_unread_result_belongs_has_an_end(monkeypatch):
    """Without one, this network takes half a minute."""
    space = load("search_spaces", "nb201", "make_space")((3, 32, 32), 10)
    cell = "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
    network, device = space.decode(space.parse(cell)), load_device("raspi4")
    taken = []
    heappop = heapq.heappop
    monkeypatch.setattr("estimators.models.memory.heapq.heappop", lambda queue: taken.append(1) or heappop(queue))
    monkeypatch.setattr("estimators.models.memory.MOST_SETS", 100)
    peak = peak_ram_kib.estimate(network, device).value
    assert 100 < len(taken) < 2000
    # As it was described, before anything was left out, every operator is needed and some results are read by nobody.
    assert best_order(network, device)[1] >= peak * 1024
