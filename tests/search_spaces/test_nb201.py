"""NAS-Bench-201 cells: their text, their graph, their published counts."""

import pytest

from estimators.cost import macs
from estimators.cost import params
from estimators.devices.files import load_device
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import OPERATORS
from search_spaces.nb201 import make_space
from search_spaces.nb201 import parse
from tests.nb201_tables import rows

SPACE = make_space((3, 32, 32), 10)


def test_parameters_and_macs_are_the_published_ones():
    cells = {row["arch"]: row["cell"] for row in rows("latency_ms")}
    device = load_device("host")
    for row in rows("macs_params")[::53]:
        network = SPACE.decode(parse(cells[row["arch"]]))
        counted = [int(metric.estimate(network, device).value) for metric in (macs, params)]
        assert counted == [int(row["macs_all_c10"]), int(row["params_all_c10"])], cells[row["arch"]]


def test_a_cell_names_one_operator_for_each_edge():
    cell = "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
    assert parse(cell) == dict(
        zip(NAMES, ["nor_conv_1x1", "none", "avg_pool_3x3", "skip_connect", "nor_conv_3x3", "none"], strict=True)
    )


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "|nor_conv_1x1~0|",
        "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|none~1|",
        "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_what_is_no_cell_is_refused(cell):
    with pytest.raises(ValueError, match="expected a cell like"):
        parse(cell)


def test_a_node_sums_its_edges():
    network = SPACE.decode(dict.fromkeys(NAMES, "skip_connect"))
    # 15 cells of 1 + 2 extra edges, and two residual blocks.
    assert sum(op.kind == "add" for op in network.ops) == 15 * 3 + 2
    assert not network.has_dead_ops


def test_every_operator_is_a_choice():
    assert set(SPACE.distributions["edge_0_1"].choices) == set(OPERATORS)


@pytest.mark.parametrize("shape", [(20,), (3, 13, 8), (3, 2, 2)])
def test_images_that_do_not_halve_twice_are_refused(shape):
    with pytest.raises(ValueError, match="sides divisible by 4"):
        make_space(shape, 10)
