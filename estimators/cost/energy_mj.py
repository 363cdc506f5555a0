"""Energy of one inference in millijoules: active power times time, what kernels take, or an accelerator's accesses."""

from __future__ import annotations

from estimators.devices.device import Device
from estimators.devices.device import deployed
from estimators.estimate import Estimate
from estimators.models.accelerator import layer_energies
from estimators.models.energy import kernels_mj
from estimators.models.energy import together
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
    a median 3.1 % between networks. Where cross-validation finds that it does, the device has nanojoules of its own for
    each type of kernel. The interval is that of energies left out, where a calibration measured it; without one, the
    relative half-widths of power and time add as squares. It is extrapolated if the time is. On an accelerator the
    energy depends on where the data come from: `estimators.models.accelerator` counts that.

    Raises:
        ValueError: If the device's power is not known, or it has no rule for an operator or its bits.
    """
    energy = device.energy
    if energy is None:
        raise ValueError(f"the device {device.name!r} has no measured power, so no energy")
    power_mw = energy.active_power_mw
    if power_mw is None:
        layers_mj = sum(layer.energy_mj for layer in layer_energies(deployed(architecture, device), device))
        return around(layers_mj, energy.interval)
    time_ms = inference_ms(architecture, device)
    if energy.consumption is not None:
        once_mj, of_kernels_mj = kernels_mj(deployed(architecture, device), energy.consumption, device)
        found_mj = once_mj + sum(of_kernels_mj)
    else:
        # Milliwatts times milliseconds are microjoules.
        found_mj = power_mw * time_ms.value / MICROJOULES_PER_MILLIJOULE
    if energy.energy_interval is not None and not time_ms.extrapolated:
        return around(found_mj, energy.energy_interval)
    return together(found_mj, time_ms, energy.interval)
