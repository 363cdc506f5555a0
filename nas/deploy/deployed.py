"""What `nas export` and `nas measure` do, without their printing: write a network as ONNX, and time it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from estimators.devices.device import Device
from estimators.estimate import Estimate
from nas.deploy.onnx_file import AGREEMENT
from nas.deploy.onnx_file import PRECISIONS
from nas.deploy.onnx_file import export
from nas.deploy.onnx_file import to_onnx
from nas.deploy.timing import ROUNDS
from nas.deploy.timing import Timing
from nas.deploy.timing import time_models
from nas.pricing.price import screen
from nas.runs.networks import UserNetwork
from nas.training.answers import answering
from nas.training.answers import answers_of
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build


@dataclass(frozen=True)
class Exported:
    """One ONNX file.

    Attributes:
        path: The file.
        precision: `float32` or `int8`.
        agreement: Share of the check records for which it predicts PyTorch's class.
        size_kib: Size of the file, KiB.
    """

    path: Path
    precision: str
    agreement: float
    size_kib: float


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


def write(found: UserNetwork, precision: str, path: Path, *, least: float | None = None) -> Exported:
    """Write a network as an ONNX file; a trained one must agree with PyTorch on 99 % of the check records.

    Args:
        found: The network.
        precision: `float32` or `int8`.
        path: The file.
        least: Smallest share of records on which it must agree; None: 0.99 for trained weights, 0 for random ones.

    Raises:
        ValueError: If it does not agree; nothing is written.
    """
    if least is None:
        # Logits of random weights are too close together for 8 bits to keep their order.
        least = AGREEMENT if found.trained else 0.0
    share = export(
        path,
        found.architecture,
        found.network,
        precision,
        calibration=found.calibration,
        check=found.check,
        least=least,
    )
    return Exported(path, precision, share, path.stat().st_size / 1024)


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
