"""The kinds of operators a graph may have, as one table: what everything but the computation itself asks of a kind.

A new kind is one row here, plus the places that compute something: a method of `search_spaces.graph.builder`, a module
in `search_spaces.network`, a node in `nas.deploy.onnx_file`, a kernel in `nas.deploy.c99`, a chain in
`nas.calibration.networks`, and, where it has weights, their number in `search_spaces.graph.architecture.weights_of`.
Each of them refuses a kind that it has no rule for, and so does a device file without coefficients for it, unless
`STANDS_IN` names a kind that it is priced as: an operator is never free by being forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from types import MappingProxyType
from typing import Literal
from typing import TypeAlias

Work: TypeAlias = Literal["macs", "elements", "view", "none"]
"""What time is counted in: multiply-accumulates, elements read and written, nothing because only a shape changes."""
Sign: TypeAlias = Literal["any", "kept", "positive"]
"""Whether outputs may be negative: always, only where an input may be, or never."""


@dataclass(frozen=True, slots=True)
class Function:
    """One of the functions that a kind of operator may compute.

    Attributes:
        sign: Whether outputs may be negative.
        moves_only: Whether each output is one of the inputs, so that it needs no rounding of its own.
    """

    sign: Sign = "any"
    moves_only: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What is true of all operators of one kind.

    Attributes:
        work: What its time is counted in. Elements and views have no multiply-accumulates.
        weighted: Whether it has weights, of `weight_bits` each, and may have a bias.
        window: Whether `kernel`, `stride` and `padding` say what it reads.
        per_channel: Trainable numbers for each output channel beside weights and bias.
        folded: Whether an engine computes it inside the operator before it, where that one has no other reader.
        moves_only: Whether each output is one of the inputs; where there are functions, they say it.
        constant: Whether its output is the same for every record.
        sign: Whether outputs may be negative; where there are functions, they say it.
        commutes: Whether the order of inputs, and how they are grouped, makes no difference.
        functions: The functions it may compute, by the name in `Op.function`.
        kernels: Types of kernel that cost tables call it by; empty for its own name alone.
    """

    work: Work
    weighted: bool = False
    window: bool = False
    per_channel: int = 0
    folded: bool = False
    moves_only: bool = False
    constant: bool = False
    sign: Sign = "any"
    commutes: bool = False
    functions: Mapping[str, Function] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()


# The order of functions is part of device files (`estimators.devices.kernel_features`): new ones come last.
OPERATORS: Mapping[str, Kind] = MappingProxyType(
    {
        "input": Kind("none"),
        "conv": Kind("macs", weighted=True, window=True, kernels=("conv", "pointwise")),
        "depthwise": Kind("macs", weighted=True, window=True),
        "linear": Kind("macs", weighted=True),
        "pool": Kind(
            "elements",
            window=True,
            functions={"max": Function("kept", moves_only=True), "avg": Function("kept")},
        ),
        "norm": Kind("elements", per_channel=2, folded=True),
        "activation": Kind(
            "elements",
            folded=True,
            functions={
                "relu": Function("positive"),
                "relu6": Function("positive"),
                "hardswish": Function(),
                "tanh": Function(),
                "identity": Function("kept"),
                "sign": Function(),
                "hardsigmoid": Function("positive"),
            },
        ),
        "add": Kind("elements", sign="kept", commutes=True),
        "concat": Kind("elements", moves_only=True, sign="kept"),
        "flatten": Kind("view", moves_only=True, sign="kept"),
        "zero": Kind("elements", moves_only=True, constant=True, sign="kept"),
        "scale": Kind("elements", sign="kept"),
    }
)

KINDS = tuple(OPERATORS)
FUNCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(kind.functions) for name, kind in OPERATORS.items() if kind.functions}
)

# What pricing asks of every operator of every candidate, as sets.
ALL_KINDS = frozenset(KINDS)
WEIGHTED = frozenset(name for name, kind in OPERATORS.items() if kind.weighted)
FOLDED = frozenset(name for name, kind in OPERATORS.items() if kind.folded)
CONSTANT = frozenset(name for name, kind in OPERATORS.items() if kind.constant)
SCALED = frozenset(name for name, kind in OPERATORS.items() if kind.per_channel)


def _kernels(*works: Work) -> frozenset[str]:
    return frozenset(
        kernel for name, kind in OPERATORS.items() if kind.work in works for kernel in kind.kernels or (name,)
    )


STANDS_IN: Mapping[str, str] = MappingProxyType({"scale": "add"})
"""What a device without figures for a kind prices it as: a kind that reads and writes as much, measured more often."""

# By the type that cost tables use, which tells a 1x1 convolution from others.
MAC_KINDS = _kernels("macs")
ELEMENT_KINDS = _kernels("elements")
VIEW_KINDS = _kernels("view")
KERNEL_KINDS = MAC_KINDS | ELEMENT_KINDS
"""Types of kernels that take time: all but views."""
ALL_KERNELS = KERNEL_KINDS | VIEW_KINDS
CONVOLUTIONS = frozenset(
    kernel for name, kind in OPERATORS.items() if kind.weighted and kind.window for kernel in kind.kernels or (name,)
)


def moves_only(kind: str, function: str) -> bool:
    """Tell whether each output of an operator is one of its inputs.

    Raises:
        ValueError: If there is no such kind or function.

    >>> moves_only("pool", "max"), moves_only("pool", "avg"), moves_only("flatten", "")
    (True, False, True)
    """
    return _rules(kind, function).moves_only


def sign_of(kind: str, function: str) -> Sign:
    """Tell whether an operator's outputs may be negative.

    Raises:
        ValueError: If there is no such kind or function.

    >>> sign_of("activation", "relu"), sign_of("add", ""), sign_of("norm", "")
    ('positive', 'kept', 'any')
    """
    return _rules(kind, function).sign


def _rules(kind: str, function: str) -> Kind | Function:
    rules = OPERATORS.get(kind)
    if rules is None:
        raise ValueError(f"no operator {kind!r}; there are {list(KINDS)}")
    if not rules.functions:
        return rules
    if function not in rules.functions:
        raise ValueError(f"no {kind} {function!r}; there are {list(rules.functions)}")
    return rules.functions[function]
