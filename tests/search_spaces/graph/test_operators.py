"""The table of operator kinds, and the places that compute something for each of them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from estimators.devices.kernel_features import FEATURES
from estimators.devices.kernel_features import KINDS as SOURCES
from estimators.devices.kernel_features import READERS
from estimators.fitting.cycle_model import GENERIC
from nas.calibration.networks import random_operators
from search_spaces import network
from search_spaces.graph import architecture
from search_spaces.graph import operators
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import CONVOLUTIONS
from search_spaces.graph.operators import ELEMENT_KINDS
from search_spaces.graph.operators import FUNCTIONS
from search_spaces.graph.operators import KERNEL_KINDS
from search_spaces.graph.operators import KINDS
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.operators import OPERATORS
from search_spaces.graph.operators import STANDS_IN
from search_spaces.graph.operators import VIEW_KINDS
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.operators import Kind
from search_spaces.graph.operators import moves_only
from search_spaces.graph.operators import sign_of


def test_every_kind_has_a_method_that_writes_it():
    assert set(KINDS) - {"input"} <= set(vars(GraphBuilder))


def test_the_types_of_kernels_are_those_that_device_files_know():
    assert {"conv", "pointwise", "depthwise", "linear"} == MAC_KINDS
    assert {"pool", "norm", "activation", "add", "concat", "zero", "scale"} == ELEMENT_KINDS
    assert ({"flatten"}, MAC_KINDS - {"linear"}) == (VIEW_KINDS, CONVOLUTIONS)
    assert not MAC_KINDS & ELEMENT_KINDS
    assert ALL_KERNELS == KERNEL_KINDS | VIEW_KINDS


def test_places_that_trees_in_device_files_compare_do_not_move():
    first = ("input", "conv", "pointwise", "depthwise", "linear", "pool", "norm", "activation", "add", "concat", "zero")
    assert SOURCES[:11] == first
    assert READERS[:13] == (*first, "flatten", "nobody")
    assert FUNCTIONS["activation"][:6] == ("relu", "relu6", "hardswish", "tanh", "identity", "sign")
    assert FUNCTIONS["pool"][:2] == ("max", "avg")
    assert len(FEATURES) == 26


def test_what_stands_in_for_a_kind_counts_the_same_work():
    for kind, other in STANDS_IN.items():
        assert OPERATORS[kind].work == OPERATORS[other].work == "elements"
        assert other not in STANDS_IN


def test_calibration_meets_every_type_of_kernel():
    networks = random_operators(100, seed=0)
    assert {kernel.kind for network in networks for kernel in network.kernels} >= KERNEL_KINDS
    assert set(GENERIC["cycles_per_mac"]) == MAC_KINDS
    assert set(GENERIC["cycles_per_element"]) == ELEMENT_KINDS


def test_what_moves_values_makes_none():
    moving = {
        (kind, function)
        for kind, row in OPERATORS.items()
        for function in row.functions or ("",)
        if moves_only(kind, function)
    }
    assert moving == {("pool", "max"), ("concat", ""), ("flatten", ""), ("zero", "")}


@pytest.mark.parametrize("rule", [moves_only, sign_of])
def test_an_unknown_kind_or_function_is_refused(rule):
    with pytest.raises(ValueError, match="no operator 'attention'; there are"):
        rule("attention", "")
    with pytest.raises(ValueError, match=r"no activation 'gelu'; there are \['relu', "):
        rule("activation", "gelu")


@pytest.fixture
def new_kinds(monkeypatch):
    """Two rows that nothing computes: `gate` without weights and `lookup` with them."""
    rows = {**OPERATORS, "gate": Kind("elements"), "lookup": Kind("macs", weighted=True)}
    monkeypatch.setattr(operators, "OPERATORS", rows)
    monkeypatch.setattr(architecture, "KINDS", tuple(rows))
    monkeypatch.setattr(architecture, "OPERATORS", rows)
    for module in (architecture, network):
        monkeypatch.setattr(module, "WEIGHTED", WEIGHTED | {"lookup"})


@pytest.mark.usefixtures("new_kinds")
@pytest.mark.parametrize("kind", ["gate", "lookup"])
def test_a_kind_in_the_table_that_has_no_layer_is_refused(kind):
    described = Architecture("example", {}, (Op("input", (), (4,)), Op(kind, (0,), (4,))))
    with pytest.raises(ValueError, match=f"no layer for the operator '{kind}'"):
        network.build(described)


@pytest.mark.usefixtures("new_kinds")
def test_a_kind_whose_weights_nobody_counts_is_refused():
    with pytest.raises(ValueError, match="no rule for the operator 'lookup' in the number of weights"):
        weights_of(Op("lookup", (0,), (4,)), in_channels=4)
    with pytest.raises(ValueError, match="no rule for the operator 'lookup' in the number of weights"):
        _ = Architecture("example", {}, (Op("input", (), (4,)), Op("lookup", (0,), (4,)))).kernels


def test_a_row_says_nothing_that_an_operator_says_itself():
    assert not {field.name for field in fields(Kind)} & set(Op._fields)
