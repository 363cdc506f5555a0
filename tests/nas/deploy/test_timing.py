import math
import os
import threading

import pytest
import torch

from nas.deploy import timing as measuring
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import Timing
from nas.deploy.timing import pinned
from nas.deploy.timing import time_models
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build


def model_of(features):
    graph = GraphBuilder((features,))
    graph.linear(graph.activation(graph.linear(0, features)), 3)
    architecture = graph.architecture("example", {})
    return to_onnx(architecture, build(architecture).eval(), "float32", torch.zeros(0, features))


class Machine:
    """Models that take as long as a script says, on a clock of their own."""

    def __init__(self, monkeypatch):
        self.now_ms = 0.0
        monkeypatch.setattr("nas.deploy.timing.time.perf_counter", lambda: self.now_ms / 1e3)

    def takes(self, ms):
        """A model; `ms` is its time, or a function of the time on the clock."""

        def run():
            self.now_ms += ms(self.now_ms) if callable(ms) else ms

        return run

    def timings(self, runs, reference, rounds=3):
        return measuring._timings(runs, reference, rounds=rounds, block_ms=20, drift_limit=0.10)


def test_a_quiet_machine_gives_what_models_take(monkeypatch):
    machine = Machine(monkeypatch)
    fast, slow = machine.timings([machine.takes(0.5), machine.takes(8)], machine.takes(1))
    assert (fast.latency_ms, fast.low, fast.high, fast.drift) == pytest.approx((0.5, 0.5, 0.5, 0.0), abs=1e-9)
    assert slow.latency_ms == pytest.approx(8)
    # 20 ms a block, five inferences at least; three rounds.
    assert fast.repetitions == pytest.approx(120, abs=3)
    assert slow.repetitions == 15


def test_one_slow_inference_in_a_block_does_not_count(monkeypatch):
    machine = Machine(monkeypatch)
    calls = iter(range(10**6))
    often = machine.takes(lambda _: 50 if next(calls) % 7 == 3 else 1)
    (timing,) = machine.timings([often], machine.takes(1))
    assert timing.latency_ms == pytest.approx(1)


def test_a_disturbed_round_is_made_again(monkeypatch):
    machine = Machine(monkeypatch)
    disturbed = lambda now: 2.0 if 50 < now < 150 else 1.0
    (timing,) = machine.timings([machine.takes(disturbed)], machine.takes(disturbed))
    assert (timing.low, timing.high) == pytest.approx((1, 1))
    assert timing.drift == pytest.approx(0)


def test_a_slow_start_is_found_out_later(monkeypatch):
    """The first rounds agree with each other; only then does the machine show how fast it can be."""
    machine = Machine(monkeypatch)
    waking = lambda now: 1.5 if now < 90 else 1.0
    (timing,) = machine.timings([machine.takes(waking)], machine.takes(waking), rounds=4)
    assert timing.high == pytest.approx(1)


def test_a_small_drift_is_reported(monkeypatch):
    machine = Machine(monkeypatch)
    slower = lambda now: 1.05 if now > 60 else 1.0
    (timing,) = machine.timings([machine.takes(slower)], machine.takes(slower))
    assert timing.drift == pytest.approx(0.05)
    assert timing.low <= timing.latency_ms <= timing.high


def test_a_restless_machine_is_refused(monkeypatch):
    machine = Machine(monkeypatch)
    restless = lambda now: 1.0 if now < 30 else 2.0
    message = r"^expected 3 rounds in which a fixed model stays within 10% of its best time; got 0 of 18: [^\n]+$"
    with pytest.raises(ValueError, match=message):
        machine.timings([machine.takes(1)], machine.takes(restless))


def test_every_model_gets_its_timing():
    timings = time_models([model_of(4), model_of(64)], rounds=2, block_ms=2, drift_limit=math.inf)
    assert len(timings) == 2
    for timing in timings:
        assert isinstance(timing, Timing)
        assert 0 < timing.low <= timing.latency_ms <= timing.high
        assert timing.repetitions >= 2


def test_there_must_be_something_to_measure():
    with pytest.raises(ValueError, match="expected one or more models and rounds; got 0 models, 7 rounds"):
        time_models([])
    with pytest.raises(ValueError, match="got 1 models, 0 rounds"):
        time_models([model_of(4)], rounds=0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell a thread's cores")
def test_the_thread_is_pinned_and_let_go():
    before = os.sched_getaffinity(0)
    with pinned() as core:
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ValueError, match="drift"), pinned():
        raise ValueError("drift")
    assert os.sched_getaffinity(0) == before


def test_pinning_gives_back_all_the_cores_it_found(monkeypatch):
    sets = []
    monkeypatch.setattr(measuring, "_affinity", lambda: [0, 1, 5])
    monkeypatch.setattr(measuring, "_set_affinity", sets.append)
    monkeypatch.setattr("nas.deploy.timing.psutil.cpu_percent", lambda **_: [90.0, 20.0, 0.0, 0.0, 0.0, 50.0])
    with pinned() as core:
        assert core == 1
    assert sets == [[1], [0, 1, 5]]


def test_a_system_without_pinning_measures_all_the_same(monkeypatch):
    monkeypatch.setattr(measuring, "_affinity", lambda: None)
    with pinned() as core:
        assert core is None


def test_a_measurement_leaves_no_thread_behind():
    before = threading.active_count()
    time_models([model_of(4)], rounds=1, block_ms=1, drift_limit=math.inf)
    assert threading.active_count() == before
