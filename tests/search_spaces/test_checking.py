"""What the check of a space finds: each way to write a space wrongly is one line."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from search_spaces import checking
from search_spaces.checking import check_space
from search_spaces.graph.architecture import Architecture
from search_spaces.graph.builder import GraphBuilder
from search_spaces.space import SearchSpace

CHOICES = {
    "width": IntDistribution(4, 400, step=4),
    "bits": CategoricalDistribution([32, 8, "bf16"]),
    "share": FloatDistribution(0.25, 1.0),
    "norm": CategoricalDistribution([False, True]),
    "norm_bits": CategoricalDistribution([32, 8]),
}
REFERENCE = {"width": 4, "bits": 32, "share": 1.0, "norm": False, "norm_bits": 32}


def described(params, *, name="good", shape=(6,), classes=3, told=None):
    graph = GraphBuilder(shape)
    x = graph.linear(0, round(params["width"] * params["share"]), weight_bits=params["bits"])
    if params["norm"]:
        x = graph.norm(x, bits=params["norm_bits"])
    graph.linear(graph.activation(x), classes, bias=True)
    return graph.architecture(name, params if told is None else told)


GOOD = SearchSpace("good", (6,), 3, CHOICES, described, REFERENCE)


def test_a_good_space_passes_with_every_kind_of_parameter():
    assert check_space(GOOD) is None
    assert check_space(GOOD, points=3, seed=1) is None


def test_the_points_that_are_looked_at_are_other_ones_for_other_seeds():
    seen = []

    def looked_at(params):
        seen.append(tuple(params.values()))
        return described(params)

    for seed in (0, 0, 1):
        check_space(replace(GOOD, describe=looked_at), points=2, seed=seed)
        seen.append(None)
    first, again, other = (list(group) for end, group in itertools.groupby(seen, lambda one: one is None) if not end)
    assert first == again != other


COUNT = itertools.count(4)


def counting(params):
    return described({**params, "width": next(COUNT)}, told=params)


def in_order(params):
    return described({**params, "width": 4 + list(params).index("width")}, told=params)


def of_another_network(params):
    """A description whose operator claims more channels than its weights make."""
    good = described(params)
    ops = [op._replace(shape=(7,)) if op.kind == "activation" else op for op in good.ops]
    return Architecture(good.space, good.params, tuple(ops))


WRONG = {
    "reference": (
        replace(GOOD, reference={**REFERENCE, "width": 5}),
        "at its reference: not a point of the space 'good': width=5, expected 4 to 400; there are ",
    ),
    "name": (
        replace(GOOD, describe=lambda point: described(point, name="copied")),
        "at its reference: expected a description with the name good; got copied",
    ),
    "input shape": (
        replace(GOOD, describe=lambda point: described(point, shape=(5,))),
        "at its reference: expected a description with the input shape (6,); got (5,)",
    ),
    "parameters": (
        replace(GOOD, describe=lambda point: described(point, told={"width": 4})),
        "at its reference: expected a description with the parameters {'width': 4, 'bits'",
    ),
    "classes": (
        replace(GOOD, describe=lambda point: described(point, classes=4)),
        "at its reference: expected 3 logits; got outputs of the shapes [(4,)]",
    ),
    "raises": (replace(GOOD, describe=lambda point: point["heigth"]), "at its reference: KeyError: 'heigth'"),
    "at a point": (
        replace(GOOD, describe=lambda point: described(point) if point["bits"] == 32 else 1 / 0),
        '"bits": ',
    ),
    "repeats": (
        replace(GOOD, describe=counting),
        "at its reference: expected the same network when the point is described again; got another one",
    ),
    "order": (
        replace(GOOD, describe=in_order),
        "expected the same network when the point is described with its parameters in another order; got another one",
    ),
    "network": (replace(GOOD, describe=of_another_network), "at its reference: RuntimeError: "),
    "width": (
        replace(GOOD, distributions={**CHOICES, "bits": CategoricalDistribution([32, 8, 5])}),
        '"bits": 5',
    ),
    "no effect": (
        replace(
            GOOD, distributions={**CHOICES, "hue": CategoricalDistribution([1, 2])}, reference={**REFERENCE, "hue": 1}
        ),
        "expected hue=1 and hue=2 to make different networks at some of 1000 points; they never do",
    ),
    "two values": (
        replace(
            GOOD,
            distributions={**CHOICES, "norm_bits": CategoricalDistribution([32, 8, 40])},
            describe=lambda point: described({**point, "norm_bits": min(point["norm_bits"], 32)}, told=point),
        ),
        "expected norm_bits=32 and norm_bits=40 to make different networks",
    ),
    "nothing": (
        replace(GOOD, distributions={}, reference={}),
        "expected categorical, int and float distributions; got []",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_line(what):
    space, told = WRONG[what]
    with pytest.raises(ValueError, match=r"^the space 'good'") as caught:
        check_space(space)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_computes_otherwise_than_described_is_found(monkeypatch):
    real = checking.build
    wider = {**REFERENCE, "width": 8}
    monkeypatch.setattr(checking, "build", lambda architecture: real(described(wider)))
    with pytest.raises(
        ValueError, match=r"at its reference: expected 24 parameters of operator 1 \(linear\), as descr"
    ):
        check_space(GOOD)


def test_a_network_with_infinite_logits_is_found(monkeypatch):
    real = checking.build

    def broken(architecture):
        network = real(architecture)
        for parameter in network.parameters():
            parameter.data.fill_(float("inf"))
        return network

    monkeypatch.setattr(checking, "build", broken)
    with pytest.raises(ValueError, match="at its reference: expected finite logits"):
        check_space(GOOD)
