"""Check a search space of one's own: what searches, runs and costs rely on, and no type can say."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import weights_of
from search_spaces.graph.operators import MAC_KINDS
from search_spaces.graph.operators import OPERATORS
from search_spaces.graph.operators import WEIGHTED
from search_spaces.network import Network
from search_spaces.network import build
from search_spaces.space import SearchSpace

POINTS = 20
"""Points whose network is built."""
CONTEXTS = 1000
"""Points at which a parameter may change the network: it may be ignored at most of them, not at all."""
MOST_VALUES = 9
"""Values of a numeric parameter that are looked at: both ends, and others evenly between."""
RECORDS = 2


def check_space(space: SearchSpace, *, points: int = POINTS, seed: int = 0) -> None:
    """Refuse a space that a search could not rely on.

    - The reference is a point of the space.
    - The description of a point is for the task: input shape, number of classes, name of the space, its parameters.
    - The network that is built of it has the parameters and the multiply-accumulates of the description, and gives
      finite logits.
    - A point describes the same network each time, also when it has been through JSON.
    - Every two values of a parameter make another network at some point, so that no trial is spent on a name.

    Args:
        space: The space for one task.
        points: How many random points are looked at, beside the reference.
        seed: Other seeds look at other points.

    Raises:
        ValueError: With the first thing that is wrong, and where.

    >>> from search_spaces.mlp import make_space
    >>> check_space(make_space((20,), num_classes=3), points=3)
    """
    unknown = [name for name, one in space.distributions.items() if not _has_rule(one)]
    if unknown or not space.distributions:
        raise ValueError(f"the space {space.name!r}: expected categorical, int and float distributions; got {unknown}")
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    drawn = [_draw(space, rng) for _ in range(max(points, CONTEXTS))]
    for point in [space.reference, *drawn[:points]]:
        with _told(space, point):
            architecture = space.decode(point)
            _check_task(space, point, architecture)
            _check_key(space, point, architecture)
            for network in (architecture, architecture.as_float()):
                _check_network(network)
    for name in space.distributions:
        _check_effect(space, name, drawn)


def _has_rule(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution | IntDistribution | FloatDistribution)


def _values(distribution: BaseDistribution) -> list[ParamValue]:
    """List the values of a distribution, of a long one some."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        every = range(distribution.low, distribution.high + 1, distribution.step)
        if len(every) <= MOST_VALUES:
            return list(every)
        return [every[round(share * (len(every) - 1))] for share in _shares()]
    assert isinstance(distribution, FloatDistribution)
    return [distribution.low + share * (distribution.high - distribution.low) for share in _shares()]


def _shares() -> list[float]:
    return [place / (MOST_VALUES - 1) for place in range(MOST_VALUES)]


def _draw(space: SearchSpace, rng: random.Random) -> dict[str, ParamValue]:
    return {name: rng.choice(_values(distribution)) for name, distribution in space.distributions.items()}


@contextmanager
def _told(space: SearchSpace, point: Params) -> Iterator[None]:
    """Say of whatever goes wrong in which space and at which point, by what differs from the reference."""
    try:
        yield
    except Exception as error:
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        changed = {name: value for name, value in point.items() if space.reference.get(name) != value}
        where = f"at {json.dumps(changed, default=str)}" if changed else "at its reference"
        raise ValueError(f"the space {space.name!r} {where}: {' '.join(what.split())}") from error


def _check_task(space: SearchSpace, point: Params, architecture: Architecture) -> None:
    expected = (space.name, space.input_shape, dict(point))
    got = (architecture.space, architecture.input_shape, dict(architecture.params))
    for what, one, other in zip(("name", "input shape", "parameters"), expected, got, strict=True):
        if one != other:
            raise ValueError(f"expected a description with the {what} {one}; got {other}")
    shapes = [architecture.ops[output].shape for output in architecture.outputs]
    if any(shape != (space.num_classes,) for shape in shapes):
        raise ValueError(f"expected {space.num_classes} logits; got outputs of the shapes {shapes}")


def _check_key(space: SearchSpace, point: Params, architecture: Architecture) -> None:
    for how, other in (
        ("again", dict(point)),
        ("from JSON", json.loads(json.dumps(point))),
        ("with its parameters in another order", dict(reversed(list(point.items())))),
    ):
        if space.decode(other).key != architecture.key:
            raise ValueError(f"expected the same network when the point is described {how}; got another one")


def _check_network(architecture: Architecture) -> None:
    network = build(architecture).eval()
    counted, described = _parameters(network), _described_parameters(architecture)
    if counted != described:
        index = next(index for index in counted.keys() | described.keys() if counted.get(index) != described.get(index))
        raise ValueError(
            f"expected {described.get(index, 0)} parameters of operator {index} ({architecture.ops[index].kind}), as "
            f"described; its network has {counted.get(index, 0)}"
        )
    records = torch.randn((RECORDS, *architecture.input_shape), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        answers = network(records)
    macs = sum(kernel.macs for kernel in architecture.kernels if kernel.kind in MAC_KINDS)
    if counter.get_total_flops() != 2 * RECORDS * macs:
        raise ValueError(
            f"expected {macs} MACs, as described; its network has {counter.get_total_flops() / 2 / RECORDS}"
        )
    for logits in answers if isinstance(answers, tuple) else (answers,):
        if not logits.isfinite().all():
            raise ValueError("expected finite logits of records with mean 0 and variance 1; got others")


def _parameters(network: Network) -> dict[int, int]:
    """Count the parameters of each operator; a quantiser's step is none of the deployed network."""
    counts: dict[int, int] = {}
    for name, parameter in network.named_parameters():
        if not name.endswith("log_step"):
            index = int(name.split("_")[0].removeprefix("op"))
            counts[index] = counts.get(index, 0) + parameter.numel()
    return counts


def _described_parameters(architecture: Architecture) -> dict[int, int]:
    counts: dict[int, int] = {}
    for index, op in enumerate(architecture.ops):
        count = OPERATORS[op.kind].per_channel * op.shape[0] + (op.shape[0] if op.bias else 0)
        if op.kind in WEIGHTED:
            count += weights_of(op, architecture.ops[op.inputs[0]].shape[0])
        if count:
            counts[index] = count
    return counts


def _check_effect(space: SearchSpace, name: str, contexts: list[dict[str, ParamValue]]) -> None:
    """Refuse two values of a parameter that make the same network everywhere."""
    values = _values(space.distributions[name])
    same = set(itertools.combinations(range(len(values)), 2))
    for context in contexts:
        graphs = {}
        for place in {place for pair in same for place in pair}:
            point = {**context, name: values[place]}
            with _told(space, point):
                described = space.decode(point)
            graphs[place] = (described.ops, described.outputs)
        same = {(one, other) for one, other in same if graphs[one] == graphs[other]}
        if not same:
            return
    one, other = (values[place] for place in min(same))
    raise ValueError(
        f"the space {space.name!r}: expected {name}={one!r} and {name}={other!r} to make different networks at some of "
        f"{len(contexts)} points; they never do"
    )
