"""The 6,561 networks of NAS-Bench-Macro (Su et al., 2021) are points of the space `mobile`, counted as published."""

import json
from pathlib import Path

import pytest

from estimators.cost import macs
from estimators.cost import params
from estimators.devices.files import load_device
from search_spaces import mobile
from search_spaces.network import build

TABLE = (
    Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
)
SPACE = mobile.make_space((3, 32, 32), 10)


@pytest.fixture(scope="module")
def table():
    if not TABLE.exists():
        pytest.skip(f"the published table is not at {TABLE}")
    return json.loads(TABLE.read_text())


def test_parameters_and_macs_equal_all_published_networks(table):
    device = load_device("stm32h747")
    differing = []
    for key, published in table.items():
        network = SPACE.describe(SPACE.parse(key))
        ours = (params.estimate(network, device).value, macs.estimate(network, device).value)
        if ours != (published["params"], published["flops"]):
            differing.append((key, ours))
    assert len(table) == 3**8
    assert not differing


@pytest.mark.parametrize("key", ["00000000", "12012021"])
def test_the_built_network_has_the_graphs_parameters(key):
    network = SPACE.decode(SPACE.parse(key))
    built = build(network)
    counted = params.estimate(network, load_device("stm32h747")).value
    assert sum(parameter.numel() for parameter in built.parameters()) == counted


def test_a_key_names_eight_layers_in_three_stages():
    point = SPACE.parse(" macro-12012021 ")
    assert point == SPACE.parse("12012021")
    layers = [[point[f"stage{stage}_layer{layer}"] for layer in (1, 2, 3)] for stage in (1, 2, 3)]
    assert [layers[0][:2], *layers[1:]] == [["e3k3", "e6k5"], ["skip", "e3k3", "e6k5"], ["skip", "e6k5", "e3k3"]]
    assert [point[f"stage{stage}_layers"] for stage in (1, 2, 3)] == [2, 3, 3]
    # Widths of 64, 128 and 256; a layer that is left out where nothing changes is no operator at all.
    maps = [op.shape for op in SPACE.decode(SPACE.parse("0" * 8)).ops if op.kind == "conv"]
    assert maps == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (1280, 4, 4)]


@pytest.mark.parametrize("key", ["", "1201202", "120120213", "12012023", "macro12012021", "micro-12012021"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match=r"expected a key of NAS-Bench-Macro like macro-12012021, .*; got '"):
        SPACE.parse(key)
