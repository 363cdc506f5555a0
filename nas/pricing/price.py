"""Price an architecture on a device, before any training."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import TypeAlias

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.devices.files import load_device
from estimators.devices.files import readable_devices
from estimators.estimate import Estimate
from nas.base import plugins
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.standardising import standardised

CostMetric: TypeAlias = Callable[[Architecture, Device], Estimate]


def cost_metrics(device: Device) -> dict[str, CostMetric]:
    """Return the cost metrics that apply to a device (energy, for one, needs a power figure), by name."""
    metrics = {}
    for name in plugins.available("estimators.cost", "estimate"):
        applies = plugins.find("estimators.cost", name, "applies")
        if applies is None or applies(device):
            metrics[name] = plugins.load("estimators.cost", name, "estimate")
    return metrics


def screen(
    architecture: Architecture, device: Device, metrics: Mapping[str, CostMetric] | None = None
) -> dict[str, Estimate]:
    """Price an architecture on a device by every cost metric that applies, before any training.

    Args:
        architecture: The network.
        device: The target.
        metrics: What `cost_metrics` gave for the device, where many networks are priced; None: looked up.

    Returns:
        One estimate for each metric; the metric's name carries its unit. Lower is better.

    Raises:
        ValueError: If a metric has no rule for one of the operators.

    >>> from search_spaces.conv import make_space
    >>> space = make_space((1, 8, 8), 10)
    >>> estimates = screen(space.decode(space.reference), load_device("stm32h747"))
    >>> estimates["macs"].value > 0 and estimates["latency_ms"].low < estimates["latency_ms"].value
    True
    """
    return {name: estimate(architecture, device) for name, estimate in (metrics or cost_metrics(device)).items()}


def as_shipped(architecture: Architecture, device: Device) -> Architecture:
    """Return the network with what its exported file computes before it, where the device's engine computes that.

    An engine in float runs the file's first operators: they are priced as a norm. One in integers takes its input in 8
    bits already: the application that reads the sensor turns its values into these with one multiplication and one
    addition each, standardised or not, so that nothing is added. Where nobody measured a norm that stands alone,
    nothing is added either, because a network without one may still run there.
    """
    in_float = device.precision == "float32" and "norm" in device.latency.coefficients
    return standardised(architecture) if in_float else architecture


def price_on(
    architecture: Architecture, device: str, *, shipped: bool = False
) -> tuple[dict[str, dict[str, Estimate]], dict[str, str]]:
    """Price an architecture on one device, or on all of them with `all`.

    Args:
        architecture: The network.
        device: Name of the device, or `all`.
        shipped: Whether to price it `as_shipped`.

    Returns:
        Its costs by device, and, of all devices, why the others cannot run it.

    Raises:
        ValueError: If the one device cannot run it.
    """

    def priced_on(chip: Device) -> dict[str, Estimate]:
        return screen(as_shipped(architecture, chip) if shipped else architecture, chip)

    if device != "all":
        chip = load_device(device)
        try:
            return {device: priced_on(chip)}, {}
        except CannotRun as error:
            raise ValueError(f"{chip.name} cannot run it: {error}") from None
    priced = {}
    devices, refused = readable_devices()
    for name, chip in devices.items():
        try:
            priced[name] = priced_on(chip)
        except CannotRun as error:
            refused[name] = str(error)
    return priced, refused
