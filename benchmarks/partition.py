"""Cut the four MLPerf Tiny networks between a microcontroller and a server, and hide their last layers in an enclave.

    python benchmarks/partition.py

Every figure is a model's, none is measured: the device's cycles and power are (estimators/devices/stm32l4r5.toml), the
server is `host`, the radio's power is a data sheet's; the round trip and the enclave's cost are assumed and written
beside the results. What is shown: which cut is best at which bandwidth, and what hiding takes.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from dataclasses import replace

from reference_networks import REFERENCE_NETWORKS
from report import write_results

from estimators.devices.device import Device
from estimators.devices.device import Enclave
from estimators.devices.device import Link
from estimators.devices.device import LinkPower
from estimators.devices.files import load_device
from estimators.partition.enclave import best_set
from estimators.partition.enclave import best_tail
from estimators.partition.enclave import hide
from estimators.partition.split import best_split
from estimators.partition.split import prefix_splits
from search_spaces.graph.architecture import Architecture

BANDWIDTHS_MBIT_S = (0.1, 1.0, 10.0, 50.0)
ROUND_TRIP_MS = 5.0
LINK_INTERVAL = 0.3
# ESP32-S2-WROOM data sheet v1.1, tables 7 and 8, at 3.3 V: 200 mA peak sending (802.11n, 20 MHz, MCS7), 63 mA
# receiving, 14 mA in modem sleep. The microcontroller's own active power comes on top while it waits: the cautious way.
TRANSMIT_MW, RECEIVE_MW, IDLE_MW = 3.3 * 200, 3.3 * 63, 3.3 * 14
POWER_INTERVAL = 0.1
SECURE_RAM_KIB = (32.0, 64.0, 128.0, 256.0)
# Hiding a whole network took up to 10 % more time in TrustZone (Mo et al., 2020, a Cortex-A); the rest is assumed.
ENCLAVE = Enclave(
    secure_ram_kib=64.0, engine_ram_kib=16.4, slow_down=1.1, switch_us=20.0, copy_us_per_kib=10.0, interval=0.5
)
REPETITIONS = 20


def linked(device: Device, bandwidth_mbit_s: float) -> Device:
    """Give a device the radio and the server."""
    assert device.energy is not None
    own_mw = device.energy.active_power_mw or 0.0
    power = LinkPower(TRANSMIT_MW + own_mw, RECEIVE_MW + own_mw, IDLE_MW + own_mw, POWER_INTERVAL)
    server = load_device("host")
    return replace(device, link=Link(server, bandwidth_mbit_s, ROUND_TRIP_MS, LINK_INTERVAL, power=power))


def split_row(name: str, network: Architecture, device: Device) -> dict[str, object]:
    """Compare the best split, for time and for energy, with the device alone."""
    assert device.link is not None
    alone = prefix_splits(network, device)[-1]
    fast = best_split(network, device)
    frugal = best_split(network, replace(device, link=replace(device.link, minimise="energy_mj")))
    assert alone.energy_mj is not None
    assert fast.energy_mj is not None
    assert frugal.energy_mj is not None
    return {
        "network": name,
        "setting": f"{device.link.bandwidth_mbit_s:g} Mbit/s",
        "kernels here": f"{len(fast.on_device)} of {len(alone.on_device)}",
        "sent_bytes": fast.sent_bytes,
        "alone_ms": alone.latency_ms.value,
        "split_ms": fast.latency_ms.value,
        "alone_mj": alone.energy_mj.value,
        "split_mj": fast.energy_mj.value,
        "least_mj": frugal.energy_mj.value,
    }


def enclave_row(name: str, network: Architecture, device: Device) -> dict[str, object]:
    """Show the longest tail that fits, and the most weights that fit in any visits."""
    assert device.enclave is not None
    tail = best_tail(network, device)
    most = best_set(network, device, [kernel.weights for kernel in network.kernels])
    alone_ms = hide(network, device, ()).latency_ms.value
    return {
        "network": name,
        "setting": f"{device.enclave.secure_ram_kib:g} KiB",
        "tail": len(tail.kernels),
        "tail_exposed_percent": tail.exposed_percent,
        "tail_added_percent": 100 * (tail.latency_ms.value / alone_ms - 1),
        "set": len(most.kernels),
        "set_visits": most.visits,
        "set_exposed_percent": most.exposed_percent,
        "set_added_percent": 100 * (most.latency_ms.value / alone_ms - 1),
    }


def price_ms(device: Device) -> float:
    """Wall time to find one network's best split."""
    networks = [network() for network in REFERENCE_NETWORKS.values()]
    start = time.perf_counter()
    for _ in range(REPETITIONS):
        for network in networks:
            best_split(network, device)
    return (time.perf_counter() - start) * 1e3 / REPETITIONS / len(networks)


def main() -> None:
    """Print and write both tables."""
    chip = load_device("stm32l4r5")
    networks = {name: network() for name, network in REFERENCE_NETWORKS.items()}
    rows = [
        split_row(name, network, linked(chip, mbit)) for name, network in networks.items() for mbit in BANDWIDTHS_MBIT_S
    ]
    hidden = [
        enclave_row(name, network, replace(chip, enclave=replace(ENCLAVE, secure_ram_kib=kib)))
        for name, network in networks.items()
        for kib in SECURE_RAM_KIB
    ]
    best = price_ms(linked(chip, 10.0))
    assumed = {"round_trip_ms": ROUND_TRIP_MS, "link_interval": LINK_INTERVAL, "enclave": asdict(ENCLAVE)}
    radio_mw = {"transmit": TRANSMIT_MW, "receive": RECEIVE_MW, "idle": IDLE_MW}
    write_results("partition_split", rows, price_ms=best, radio_mw=radio_mw, assumed=assumed)
    write_results("partition_enclave", hidden, assumed=assumed)


if __name__ == "__main__":
    main()
