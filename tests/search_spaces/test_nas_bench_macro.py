import json
from pathlib import Path

import pytest

from estimators.cost import macs
from estimators.cost import params
from estimators.devices.files import load_device
from search_spaces.network import build
from tests.nas_bench_macro import describe

TABLE = (
    Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
)


@pytest.fixture(scope="module")
def table():
    if not TABLE.exists():
        pytest.skip(f"the published table is not at {TABLE}")
    return json.loads(TABLE.read_text())


def test_parameters_and_macs_equal_all_published_networks(table):
    device = load_device("stm32h747")
    differing = []
    for key, published in table.items():
        network = describe(key)
        ours = (params.estimate(network, device).value, macs.estimate(network, device).value)
        if ours != (published["params"], published["flops"]):
            differing.append((key, ours))
    assert len(table) == 3**8
    assert not differing


@pytest.mark.parametrize("key", ["00000000", "12012021"])
def test_the_built_network_has_the_graphs_parameters(key):
    network = describe(key)
    built = build(network)
    counted = params.estimate(network, load_device("stm32h747")).value
    assert sum(parameter.numel() for parameter in built.parameters()) == counted
