"""What `nas export` and `nas measure` do, without their printing: write a network as ONNX, and time it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from estimators.devices.device import Device
from estimators.estimate import Estimate
from nas.base import files
from nas.deploy import judging
from nas.deploy.judging import Judgement
from nas.deploy.judging import Tolerances
from nas.deploy.judging import Witnesses
from nas.deploy.onnx_file import PRECISIONS
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import ROUNDS
from nas.deploy.timing import Timing
from nas.deploy.timing import time_models
from nas.pricing.price import screen
from nas.runs.networks import UserNetwork
from nas.training.answers import answering
from nas.training.answers import answers_of
from nas.training.loop import Labelled
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build


@dataclass(frozen=True)
class Exported:
    """One ONNX file.

    Attributes:
        path: The file.
        precision: `float32` or `int8`.
        size_kib: Size of the file, KiB.
        judgement: How it differs from the network, on the same records.
    """

    path: Path
    precision: str
    size_kib: float
    judgement: Judgement


@dataclass(frozen=True)
class Compared:
    """The measured latency of one network in one precision, and a device's prediction.

    Attributes:
        precision: `float32` or `int8`.
        timing: Measured on this machine.
        predicted: The device's estimate in ms; None if the device has another precision.
    """

    precision: str
    timing: Timing
    predicted: Estimate | None

    @property
    def error(self) -> float | None:
        """Prediction over the fastest round, minus 1: devices are fitted to an undisturbed machine."""
        return None if self.predicted is None else self.predicted.value / self.timing.low - 1


def write(found: UserNetwork, precision: str, path: Path, tolerances: Tolerances | None = None) -> Exported:
    """Write a network as an ONNX file, completely or not at all.

    A trained network's file must be as good as the network (`nas.deploy.judging`). Of random weights nothing is judged.

    Args:
        found: The network.
        precision: `float32` or `int8`.
        path: The file.
        tolerances: How much worse than the network it may be; None: the usual ones.

    Raises:
        ValueError: If it is worse; nothing is written.
    """
    model = to_onnx(found.architecture, found.network, precision, found.calibration)
    judgement = judging.judge(model, found.network, found.check, witnesses_of(found))
    judging.check(judgement, precision, len(found.check), tolerances or Tolerances())
    files.write(path, lambda stream: stream.write(model.SerializeToString()))
    return Exported(path, precision, path.stat().st_size / 1024, judgement)


def witnesses_of(found: UserNetwork) -> Witnesses | None:
    """Return the records that a network's file is judged by; None of random weights."""
    if found.labels is None or found.members is None or found.non_members is None:
        return None
    return Witnesses(Labelled(found.check, found.labels), found.members, found.non_members)


def compare(
    found: UserNetwork, devices: Sequence[Device], *, precisions: Sequence[str] = PRECISIONS, rounds: int = ROUNDS
) -> list[Compared]:
    """Time one network in several precisions on this machine, and predict each with the device of that precision.

    In float32 the network is timed without its rounding, because nobody deploys simulated quantisation.

    Raises:
        ValueError: If other processes disturb the measurement, or the device has no rule for an operator.
    """
    networks = {"float32": found.architecture.as_float(), "int8": found.architecture}
    models = []
    for precision in precisions:
        architecture = networks[precision]
        network = found.network
        if architecture.key != found.architecture.key:
            network = answering(build(architecture).eval(), copy.deepcopy(answers_of(found.network)))
        models.append(to_onnx(architecture, network, precision, found.calibration))
    timings = time_models(models, rounds=rounds)
    return [
        Compared(precision, timing, _predicted(networks[precision], precision, devices))
        for precision, timing in zip(precisions, timings, strict=True)
    ]


def _predicted(architecture: Architecture, precision: str, devices: Sequence[Device]) -> Estimate | None:
    same = [device for device in devices if device.precision == precision]
    return screen(architecture, same[0])["latency_ms"] if same else None
