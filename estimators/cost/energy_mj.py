"""Energy of one inference in millijoules: active power times time, or an accelerator's accesses and MACs."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.models.accelerator import layer_energies
from estimators.models.extrapolation import scaled
from estimators.models.latency import around
from estimators.models.latency import inference_ms
from search_spaces.graph.architecture import Architecture

MICROJOULES_PER_MILLIJOULE = 1e3


def applies(device: Device) -> bool:
    """Tell whether the power of this device, or its memory hierarchy, is known."""
    return device.energy is not None


def estimate(architecture: Architecture, device: Device) -> Estimate:
    """Predict the energy of one inference, with a 90 % interval.

    On microcontrollers and CPUs the power hardly depends on the network: over 30 systems of MLPerf Tiny it differs by
    a median 3.1 % between networks. The relative half-widths of power and time add up, the cautious way. On an
    accelerator it depends on where the data come from: `estimators.models.accelerator` counts that.

    Raises:
        ValueError: If the device's power is not known, or it has no rule for an operator or its bits.
    """
    if device.energy is None:
        raise ValueError(f"the device {device.name!r} has no measured power, so no energy")
    power_mw = device.energy.active_power_mw
    if power_mw is None:
        layers_mj = sum(layer.energy_mj for layer in layer_energies(deployed(architecture, device), device))
        return around(layers_mj, device.energy.interval)
    # Milliwatts times milliseconds are microjoules.
    return scaled(inference_ms(architecture, device), power_mw / MICROJOULES_PER_MILLIJOULE, device.energy.interval)
