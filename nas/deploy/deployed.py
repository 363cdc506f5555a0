"""What `nas export` and `nas measure` do, without their printing: write a network as ONNX, and time it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.estimate import Estimate
from nas.base import environment
from nas.base import files
from nas.base.errors import one_line
from nas.deploy import file_size
from nas.deploy import judging
from nas.deploy.as_written import as_written
from nas.deploy.as_written import is_all_trained
from nas.deploy.executorch_file import EXECUTORCH
from nas.deploy.executorch_file import FILE
from nas.deploy.executorch_file import answers_of_program
from nas.deploy.executorch_file import to_executorch
from nas.deploy.file_size import FileSize
from nas.deploy.judging import Judgement
from nas.deploy.judging import Tolerances
from nas.deploy.judging import Witnesses
from nas.deploy.onnx_file import own_precision
from nas.deploy.packed import INT4
from nas.deploy.packed import computed_in
from nas.deploy.packed import in_precision
from nas.deploy.proxy import Proxy
from nas.deploy.proxy import proxy_of
from nas.deploy.timing import ROUNDS
from nas.deploy.timing import Timing
from nas.deploy.timing import fastest_ms
from nas.deploy.timing import time_models
from nas.pricing.price import as_shipped
from nas.pricing.price import screen
from nas.runs.networks import UserNetwork
from nas.training.answers import answering_as
from nas.training.loop import Labelled
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build

HOSTS = ("host", "host_int8")
"""This machine as devices: in float32, and in int8."""


@dataclass(frozen=True)
class Here:
    """How long a file takes on this machine, one record at a time on one thread, beside the prediction of its device.

    Attributes:
        latency_ms: Of its fastest undisturbed blocks, as the device was fitted; None where other processes left none.
        predicted: The device's estimate in ms; None where no device of this processor stands for such files.
    """

    latency_ms: float | None
    predicted: Estimate | None

    @property
    def is_inside(self) -> bool | None:
        """Whether the measured time lies in the predicted interval; None where one of both is missing."""
        if self.latency_ms is None or self.predicted is None:
            return None
        return self.predicted.low <= self.latency_ms <= self.predicted.high


@dataclass(frozen=True)
class Exported:
    """One ONNX file.

    Attributes:
        path: The file.
        precision: One of `nas.deploy.packed.FILES`.
        size_kib: Size of the file, KiB.
        judgement: How it differs from the network, on the same records.
        as_priced: Whether it computes in the bits that the search priced.
        prices: What the device's estimates say of this file; empty with random weights, or where it cannot run.
        cannot_run: Why the device cannot run it; None where it can.
        size: Its bytes beside those of the device's flash estimate; None with random weights.
        here: How long it takes on this machine; None with random weights.
    """

    path: Path
    precision: str
    size_kib: float
    judgement: Judgement
    as_priced: bool
    prices: Mapping[str, Estimate]
    cannot_run: str | None = None
    size: FileSize | None = None
    here: Here | None = None


@dataclass(frozen=True)
class Compared:
    """The measured latency of one network in one precision, and a device's prediction.

    Attributes:
        precision: One of `nas.deploy.packed.FILES`.
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


def write(
    found: UserNetwork,
    precision: str,
    path: Path,
    tolerances: Tolerances | None = None,
    proxy: Proxy | None = None,
) -> Exported:
    """Write a network as an ONNX file, completely or not at all.

    A trained network's file must be as good as the network (`nas.deploy.judging`), and hold its numbers and no more
    (`nas.deploy.file_size`). Its time on this machine is measured and refuses nothing: a busy machine is no fault of
    the file. Of random weights nothing is judged.

    Args:
        found: The network.
        precision: One of `nas.deploy.packed.FILES`.
        path: The file.
        tolerances: How much worse than the network it may be; None: the usual ones.
        proxy: The search's attack, to repeat on the file; None: it is not repeated.

    Raises:
        ValueError: If it is worse, or larger than it should be; nothing is written.
    """
    if precision == "mixed" and (own := own_precision(found.architecture)) != "mixed":
        raise ValueError(f"expected a network of layers in float and in 8 and fewer bits to write as mixed; got {own}")
    if precision == EXECUTORCH:
        return _write_program(found, path, tolerances or Tolerances(), proxy)
    model, judgement = judged(found, precision, proxy)
    judging.check(judgement, precision, len(found.check), tolerances or Tolerances())
    content = model.SerializeToString()
    exported = Exported(path, precision, len(content) / 1024, judgement, as_priced=False, prices={})
    if found.device is not None:
        exported = _beside_its_device(exported, model, found, load_device(found.device))
    files.write(path, lambda stream: stream.write(content))
    return exported


def file_name(precision: str) -> str:
    """Return the name of the file in a precision."""
    return FILE if precision == EXECUTORCH else f"{precision}.onnx"


def _write_program(found: UserNetwork, path: Path, tolerances: Tolerances, proxy: Proxy | None) -> Exported:
    """Write a network in float for ExecuTorch. It is judged through that runtime, like a float ONNX file."""
    model = in_precision(found.architecture, found.network, "float32", found.calibration, found.preprocessing)
    program = to_executorch(model)
    ask = partial(answers_of_program, program)
    judgement = judging.judge(ask, found.network, found.check, witnesses_of(found, proxy), found.preprocessing)
    judging.check(judgement, "float32", len(found.check), tolerances)
    files.write(path, lambda stream: stream.write(program))
    said = "its figures are not about ExecuTorch"
    return Exported(path, EXECUTORCH, len(program) / 1024, judgement, as_priced=False, prices={}, cannot_run=said)


def _beside_its_device(exported: Exported, model: onnx.ModelProto, found: UserNetwork, device: Device) -> Exported:
    """Put a file beside what the run's device was said to make of it."""
    precision, running = exported.precision, computed(found.architecture, exported.precision)
    as_priced = computed_in(precision) == priced_as(found.architecture, device)
    size = file_size.file_size(model, running, device, is_priced=as_priced)
    file_size.check(size, precision)
    exported = replace(exported, as_priced=as_priced, size=size, here=_here(model, found, precision))
    try:
        return replace(exported, prices=_prices(found.architecture, precision, device))
    except CannotRun as error:
        return replace(exported, cannot_run=str(error))


def _here(model: onnx.ModelProto, found: UserNetwork, precision: str) -> Here:
    """Time a file on this machine, as soon as other processes leave it alone."""
    processor = environment.describe()["processor"]
    devices = [device for device in map(load_device, HOSTS) if device.core == processor]
    # Devices in float stand for networks without the rounding that a float file of few bits does.
    is_alike = precision != INT4 and (
        precision != "float32" or found.architecture.as_float().key == found.architecture.key
    )
    predicted = _predicted(found, precision, devices) if is_alike else None
    try:
        (latency_ms,) = fastest_ms([model])
    except ValueError:  # no block was quiet
        return Here(None, predicted)
    return Here(latency_ms, predicted)


def judged(found: UserNetwork, precision: str, proxy: Proxy | None = None) -> tuple[onnx.ModelProto, Judgement]:
    """Make the ONNX model of a network and hold it against the network, asked for the user's own records."""
    model = in_precision(found.architecture, found.network, precision, found.calibration, found.preprocessing)
    judgement = judging.judge(model, found.network, found.check, witnesses_of(found, proxy), found.preprocessing)
    if not (found.trained and is_all_trained(found.architecture, found.network, computed_in(precision))):
        return model, judgement
    written = as_written(model, found.architecture, found.network)
    exactness = judging.exactness(model, written, found.check, found.preprocessing)
    return model, replace(judgement, exactness=exactness)


def proxy_on(found: UserNetwork) -> Proxy | str:
    """Return the attack of a network's search, or why it cannot be repeated on a file of it."""
    if found.run is None:
        return "its weights are random"
    if found.is_retrained:
        return "the search's members are not those of a network that was trained anew"
    try:
        return proxy_of(found.run)
    except ValueError as error:
        return one_line(error)


def precisions_of(architecture: Architecture) -> tuple[str, ...]:
    """Return the precisions that are worth a file each: in float, as trained if that is neither, and in integers.

    The last one may be refused, so it comes last.
    """
    return tuple(dict.fromkeys(("float32", *({own_precision(architecture)} - {"int8"}), "int8")))


def computed(architecture: Architecture, precision: str) -> Architecture:
    """Return the network in the bits that a file of a precision computes in, for counting what it costs."""
    if precision == "float32":
        return architecture.as_float()
    return architecture.without_float(8) if computed_in(precision) == "int8" else architecture


def priced_as(architecture: Architecture, device: Device) -> str:
    """Return the precision of the file that a device's estimates of a network are about."""
    if device.precision == "float32":
        return "float32"
    return "int8" if device.float_becomes_bits is not None else own_precision(architecture)


def _prices(architecture: Architecture, precision: str, device: Device) -> dict[str, Estimate]:
    """Price a file of one precision.

    Raises:
        CannotRun: If the device's figures are not about such files.
    """
    if computed_in(precision) == (own := priced_as(architecture, device)):
        return screen(as_shipped(architecture, device), device)
    if device.precision == "float32" or device.float_becomes_bits is not None:
        raise CannotRun(f"its figures are about {own} files")
    return screen(as_shipped(computed(architecture, precision), device), device)


def witnesses_of(found: UserNetwork, proxy: Proxy | None = None) -> Witnesses | None:
    """Return the records that a network's file is judged by; None of random weights."""
    if found.labels is None or found.members is None or found.non_members is None:
        return None
    return Witnesses(Labelled(found.check, found.labels), found.members, found.non_members, proxy)


def compare(
    found: UserNetwork, devices: Sequence[Device], *, precisions: Sequence[str] | None = None, rounds: int = ROUNDS
) -> list[Compared]:
    """Time one network in several precisions on this machine, and predict each with the device of that precision.

    In float32 the network is timed without its rounding, because nobody deploys simulated quantisation.

    Args:
        found: The network.
        devices: Devices that may predict it.
        precisions: Some of `nas.deploy.packed.FILES`; None: `precisions_of` the network.
        rounds: Undisturbed rounds to measure.

    Raises:
        ValueError: If other processes disturb the measurement, or the device has no rule for an operator.
    """
    precisions = precisions or precisions_of(found.architecture)
    models = []
    for precision in precisions:
        architecture = found.architecture.as_float() if precision == "float32" else found.architecture
        network = found.network
        if architecture.key != found.architecture.key:
            network = answering_as(build(architecture).eval(), found.network)
        models.append(in_precision(architecture, network, precision, found.calibration, found.preprocessing))
    timings = time_models(models, rounds=rounds)
    return [
        Compared(precision, timing, _predicted(found, precision, devices))
        for precision, timing in zip(precisions, timings, strict=True)
    ]


def _predicted(found: UserNetwork, precision: str, devices: Sequence[Device]) -> Estimate | None:
    """Predict a latency with the first device of its precision; of both, with one in integers that leaves float be."""
    measured = "int8" if precision == "mixed" else precision
    same = [device for device in devices if device.precision == measured]
    if not same or (precision == "mixed" and same[0].float_becomes_bits is not None):
        return None
    running = computed(found.architecture, precision)
    return screen(as_shipped(running, same[0]) if found.trained else running, same[0])["latency_ms"]
