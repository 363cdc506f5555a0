"""Measure latencies in ONNX Runtime on this machine: one thread on one core, in rounds, beside a reference model.

A latency is the median of the repetitions within a block, then the median over rounds. Each round times every model
once, so that a change of the machine's speed affects all of them alike. A small reference model is timed before and
after each round. A round in which it was slower than its best by more than a limit was disturbed, and is repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from functools import lru_cache

import numpy as np
import onnx
import psutil
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from nas.base.onnx_runtime import IR_VERSION
from nas.base.onnx_runtime import OPSET
from nas.base.onnx_runtime import InferenceSession
from nas.base.onnx_runtime import session

DRIFT_LIMIT = 0.10
ROUNDS = 7
# Rounds made before giving up, for each round asked for.
PATIENCE = 6
BLOCK_MS = 20.0
LEAST_REPETITIONS, MOST_REPETITIONS = 5, 1000
MS = 1e3
# What an exported network may take.
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(double)": np.float64}
# Of `fastest_ms`.
FAST_BLOCK_MS, REFERENCE_MS = 3.0, 0.4
CONFIRMATIONS, MOST_ROUNDS = 3, 120


@dataclass(frozen=True)
class Timing:
    """The latency of one model.

    Attributes:
        latency_ms: Time of one inference of one record, median over rounds of each round's median.
        low: Fastest round, ms.
        high: Slowest round, ms.
        drift: How much slower than its best the reference model ran in the worst round that counts, as a share.
        repetitions: Inferences timed, over all rounds that count.
    """

    latency_ms: float
    low: float
    high: float
    drift: float
    repetitions: int


def time_models(
    models: Sequence[onnx.ModelProto],
    *,
    rounds: int = ROUNDS,
    block_ms: float = BLOCK_MS,
    drift_limit: float = DRIFT_LIMIT,
) -> list[Timing]:
    """Time models in turns, one record at a time.

    Args:
        models: What `nas.deploy.onnx_file.to_onnx` writes; a first axis without a length becomes 1.
        rounds: Undisturbed rounds to reach; each times every model once.
        block_ms: Time spent on one model in one round, about.
        drift_limit: A round counts while the reference before and after it is at most this share over its best.

    Returns:
        One timing for each model, in order.

    Raises:
        ValueError: If there is nothing to measure, or other processes disturb too many rounds.
    """
    if not models or rounds < 1:
        raise ValueError(f"expected one or more models and rounds; got {len(models)} models, {rounds} rounds")
    with pinned():
        runs = [_runner(model) for model in models]
        reference = _runner(_reference())
        for run in (reference, *runs):
            _block(run, block_ms)  # warm-up: memory, caches, clock
        return _timings(runs, reference, rounds=rounds, block_ms=block_ms, drift_limit=drift_limit)


def fastest_ms(models: Sequence[onnx.ModelProto], *, block_ms: float = FAST_BLOCK_MS) -> list[float]:
    """Time many models on a machine that other processes use too: the latency of each when it is undisturbed.

    A busy neighbour slows a core by up to a half for some tenths of a second. The models take turns, so that the blocks
    of one lie apart, until `CONFIRMATIONS` of each were fast alike: within 3 % of its fastest, the reference right
    before and after within 8 % of its own.

    Args:
        models: What `nas.deploy.onnx_file.to_onnx` writes; a first axis without a length becomes 1.
        block_ms: Time spent on one model in one round, about.

    Returns:
        Median time of one inference in each model's fastest block, in order.

    Raises:
        ValueError: If one model in ten was not left alone often enough in `MOST_ROUNDS` rounds.
    """
    with pinned():
        reference = _runner(_reference())
        watches = [_Watch(_runner(model)) for model in models]
        for _ in range(MOST_ROUNDS):
            for watch in watches:
                if not watch.confirmed:
                    watch.look(reference, block_ms)
            best = min(watch.reference_ms for watch in watches)
            waiting = [watch for watch in watches if not watch.confirm(best)]
            if not waiting:
                break
        if len(waiting) > len(watches) / 10:
            raise ValueError(
                f"expected {CONFIRMATIONS} quiet blocks of each model; {len(waiting)} of {len(watches)} had none: "
                "other processes use this machine"
            )
    return [watch.fastest_ms for watch in watches]


@dataclass
class _Watch:
    """One model's blocks: its time and the reference's, the worse of before and after."""

    run: Callable[[], object]
    blocks: list[tuple[float, float]] = field(default_factory=list)
    confirmed: bool = False

    def look(self, reference: Callable[[], object], block_ms: float) -> None:
        before = _block(reference, REFERENCE_MS)[0]
        _block(self.run, 0.0)  # brings its weights back into the caches
        time_ms = _block(self.run, block_ms)[0]
        self.blocks.append((time_ms, max(before, _block(reference, REFERENCE_MS)[0])))

    @property
    def fastest_ms(self) -> float:
        return min(time_ms for time_ms, _ in self.blocks)

    @property
    def reference_ms(self) -> float:
        return min(reference_ms for _, reference_ms in self.blocks)

    def confirm(self, best_ms: float) -> bool:
        quiet = [time_ms for time_ms, reference_ms in self.blocks if reference_ms <= best_ms * 1.08]
        self.confirmed = sum(time_ms <= self.fastest_ms * 1.03 for time_ms in quiet) >= CONFIRMATIONS
        return self.confirmed


@contextmanager
def pinned() -> Iterator[int | None]:
    """Keep this thread on the least busy core it may use, and let it go afterwards; None where a system cannot."""
    allowed = _affinity()
    if allowed is None:
        yield None
        return
    loads = psutil.cpu_percent(interval=0.1, percpu=True)
    core = min(allowed, key=lambda number: loads[number] if number < len(loads) else 0.0)
    _set_affinity([core])
    try:
        yield core
    finally:
        _set_affinity(allowed)


def _affinity() -> list[int] | None:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    process = psutil.Process()
    return process.cpu_affinity() if hasattr(process, "cpu_affinity") else None


def _set_affinity(cores: list[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    else:
        psutil.Process().cpu_affinity(cores)


def _timings(
    runs: Sequence[Callable[[], object]],
    reference: Callable[[], object],
    *,
    rounds: int,
    block_ms: float,
    drift_limit: float,
) -> list[Timing]:
    taken: list[tuple[float, list[tuple[float, int]]]] = []
    before = best = _block(reference, block_ms)[0]
    for _ in range(PATIENCE * rounds):
        blocks = [_block(run, block_ms) for run in runs]
        after = _block(reference, block_ms)[0]
        taken.append((max(before, after), blocks))
        best, before = min(best, after), after
        # Judged anew each time: the best may have been beaten.
        quiet = [(slowest / best - 1, blocks) for slowest, blocks in taken if slowest / best - 1 <= drift_limit]
        if len(quiet) == rounds:
            drift = max(drift for drift, _ in quiet)
            return [_timing([blocks[index] for _, blocks in quiet], drift) for index in range(len(runs))]
    raise ValueError(
        f"expected {rounds} rounds in which a fixed model stays within {drift_limit:.0%} of its best time; "
        f"got {len(quiet)} of {len(taken)}: other processes use this machine, or its clock changes"
    )


def _timing(blocks: Sequence[tuple[float, int]], drift: float) -> Timing:
    times = [time_ms for time_ms, _ in blocks]
    return Timing(float(np.median(times)), min(times), max(times), drift, sum(count for _, count in blocks))


def _block(run: Callable[[], object], block_ms: float) -> tuple[float, int]:
    """Run for about `block_ms` and return the median time in ms and the number of repetitions."""
    times: list[float] = []
    end = time.perf_counter() + block_ms / MS
    while len(times) < LEAST_REPETITIONS or (len(times) < MOST_REPETITIONS and time.perf_counter() < end):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * MS, len(times)


def _runner(model: onnx.ModelProto) -> Callable[[], object]:
    return _bound(session(model))


def _bound(engine: InferenceSession) -> Callable[[], object]:
    """Bind one random record once: copying it in and out each time would cost a small network several times itself."""
    binding = engine.io_binding()
    rng = np.random.default_rng(0)
    for tensor in engine.get_inputs():
        shape = [length if isinstance(length, int) else 1 for length in tensor.shape]
        # Pixels lie around 128 as other records do around 0; what does not fit is cut off, as in any picture.
        values = rng.standard_normal(shape)
        values = (128 + 64 * values).clip(0, 255) if tensor.type == "tensor(uint8)" else values
        binding.bind_cpu_input(tensor.name, values.astype(TYPES[tensor.type]))
    for tensor in engine.get_outputs():
        binding.bind_output(tensor.name)
    return lambda: engine.run_with_iobinding(binding)


@lru_cache(maxsize=1)
def _reference() -> onnx.ModelProto:
    """Return a convolution of 2.4 million MACs: long enough to time, and nothing else like it."""
    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    shape = [1, 32, 16, 16]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("records", "logits")]
    node = helper.make_node("Conv", ["records", "weight"], ["logits"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "reference", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    return model
