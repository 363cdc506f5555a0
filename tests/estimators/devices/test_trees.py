"""Trees of corrections, as a device file holds them."""

from __future__ import annotations

import math

import pytest

from estimators.devices import corrections
from estimators.devices.corrections import KernelTrees
from estimators.devices.corrections import Residual
from estimators.devices.files import load_device
from estimators.devices.kernel_features import FEATURES
from estimators.devices.trees import check_trees
from estimators.devices.trees import read_tree

COLUMNS = ("cycles_per_mac.conv", "cycles_per_kernel.add")


def nested(levels):
    tree = 0.1
    for _ in range(levels):
        tree = [0, 1.0, 0.0, tree]
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        [0, "x", 0.1, 0.2],
        [0, 10**400, 0.1, 0.2],
        [0, math.nan, 0.1, 0.2],
        [0, None, 0.1, 0.2],
        [True, 1.0, 0.1, 0.2],
        [-1, 1.0, 0.1, 0.2],
        [0, 1.0, 0.1],
        10**400,
        1e300,
        math.inf,
        "0.1",
        [],
        None,
    ],
)
def test_what_is_no_tree_is_refused(tree):
    with pytest.raises(ValueError, match=r"^expected a number from -100 to 100 or \[column, threshold, tree, tree\]"):
        read_tree(tree)


@pytest.mark.parametrize("column", [2, 10**30])
def test_a_column_there_is_none_of_is_refused(column):
    tree = [1, 0.5, [column, 1.0, 0.1, 0.2], 0.0]
    with pytest.raises(ValueError, match=f"expected columns from 0 to 1 in the trees; got {column}"):
        Residual(columns=COLUMNS, trees=(tree,))
    with pytest.raises(ValueError, match=f"expected columns from 0 to 0 in the trees; got {column}"):
        KernelTrees(features=("macs",), trees={"conv": (tree,)})


def test_trees_that_add_up_to_more_than_exp_takes_are_refused():
    check_trees((60.0, -40.0), 1)
    with pytest.raises(ValueError, match="expected trees that add up to at most 100; got 120"):
        Residual(columns=COLUMNS, trees=(60.0, (0, 1.0, -60.0, 0.0)))


def test_a_deep_tree_is_read_and_one_too_deep_is_one_line(tmp_path):
    assert read_tree(nested(50))[0] == 0
    text = (tmp_path / "mine.toml").write_text
    for levels in (190, 5000):
        spelt = "[0, 1.0, 0.0, " * levels + "0.1" + "]" * levels
        text(f'base = "pixel3"\n[latency]\nresidual = {{ columns = ["cycles_per_mac.conv"], trees = [{spelt}] }}\n')

        with pytest.raises(ValueError, match="device"):
            load_device(str(tmp_path / "mine.toml"))


def test_factors_are_the_same_when_few_are_kept(monkeypatch):
    trees = KernelTrees(features=("macs",), trees={"conv": ([0, 3.0, 0.5, -0.25],)})
    kernels = [tuple(float(value) for _ in FEATURES) for value in range(7)]
    expected = [math.exp(0.5 if value <= 3 else -0.25) for value in range(7)]
    monkeypatch.setattr(corrections, "FACTORS_KEPT", 2)
    for _ in range(2):
        assert [trees.factor("conv", kernel) for kernel in kernels] == expected
        assert len(trees._known) <= 2
