"""What decides a study's numbers: noted when it starts, compared whenever it goes on.

Settings are compared by `nas.search.config.differences`. This is about the rest: the data, the device's file, and the
program. Sources are not hashed, because a comment or a new file changes no number. What a part of the program gives is
noted instead, on a small made-up case, so that a change is seen wherever it was made:

- `space`: what the space offers, hashed;
- `float_becomes_bits`: the width that the device's converter gives to what is in float; candidates are trained in it;
- `prices`: what each cost metric says of the space's reference network on the device;
- `measures`: what the attack and the statistics say of a made-up network;
- `defences`: what a tiny training with each defence gives, its logits for two records, and by how much early answers
  are held back, if they are.

`version` covers what such small cases cannot show; whoever changes a training raises it (`TRAINING_VERSION`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import distribution_to_json
from pydantic import TypeAdapter
from torch import nn

from estimators.devices.device import Device
from estimators.devices.fields import CannotRun
from estimators.leakage.evidence import Bank
from nas.preprocessing.preprocessing import unchanged
from nas.pricing.price import as_shipped
from nas.records import Records
from nas.records import Splits
from nas.search.plan import Plan
from nas.search.schema import FLOAT_BECOMES_BITS
from nas.split_overview import Overview
from nas.training.answers import delay_of
from nas.training.assess import Bench
from nas.training.assess import Candidate
from nas.training.assess import assess
from nas.training.assess import measure
from nas.training.bank import halves
from nas.training.loop import training_version
from nas.training.recipe import Recipe
from search_spaces.graph.architecture import Params
from search_spaces.graph.builder import GraphBuilder
from search_spaces.space import SearchSpace

SPACE = "space"
FEATURES, CLASSES = 6, 3
RECORDS: Mapping[str, int] = {"members": 60, "non_members": 60, "validation": 30, "reserve": 30, "test": 30}
# Last digits depend on the processor; a change of the program moves the made-up cases further than that.
PRICES_AGREE, MEASURES_AGREE, LOGITS_AGREE = 1e-6, 1e-3, 1e-2
# These say where a device's figures come from and how good they are, and change none.
TOLD = (
    "source",
    "networks",
    "error_mean",
    "error_max",
    "within_10_percent",
    "within_10_percent_low",
    "repeated_within_10_percent",
)
IN_WORDS: Mapping[str, Any] = {"name": True, "description": True, "calibration": dict.fromkeys(TOLD, True)}


def origin_of(plan: Plan) -> dict[str, Any]:
    """Return what decides a search's numbers beside its settings, as JSON holds it."""
    return {**_looked_up(plan), **_tried_out(plan)}


def changes(then: Mapping[str, Any], plan: Plan) -> list[str]:
    """Name what decides a search's numbers and is no longer what it was when the study started.

    Args:
        then: What `origin_of` gave when it started.
        plan: The search that is to go on.
    """
    return _changes_looked_up(then, _looked_up(plan), plan) or _changes_tried_out(then, _tried_out(plan), plan)


def _looked_up(plan: Plan) -> dict[str, Any]:
    return {
        "version": training_version(),
        "fingerprint": plan.fingerprint,
        SPACE: _space_digest(plan.space),
        "device": _device_digest(plan.device),
        FLOAT_BECOMES_BITS: plan.float_becomes_bits,
        "prices": _prices(plan),
    }


def _tried_out(plan: Plan) -> dict[str, Any]:
    if plan.table:  # nothing is trained or attacked
        return {"measures": {}, "defences": {}}
    bench = _bench(plan)
    return {
        "measures": {name: estimate.value for name, estimate in measure(_network(), bench).items()},
        "defences": {
            # At its strongest a defence acts within two epochs; in the middle of its range an edit may change nothing.
            name: _trained(name, settings.strongest(), bench)
            for name, settings in sorted(plan.defence_settings.items())
        },
    }


def _changes_looked_up(then: Mapping[str, Any], now: Mapping[str, Any], plan: Plan) -> list[str]:
    found = []
    if then.get("version") != now["version"]:
        found.append(f"the program: was {then.get('version')}, now {now['version']}")
    if then.get("fingerprint") != now["fingerprint"]:
        found.append("the table: other rows" if plan.table else "the data: other records, or other sets of them")
    if then.get(SPACE, now[SPACE]) != now[SPACE]:  # studies of earlier versions do not say it
        found.append(f"the space {plan.space.name!r}: it offers other choices")
    bits = now[FLOAT_BECOMES_BITS]
    if then.get("device") == now["device"] and then.get(FLOAT_BECOMES_BITS) != bits:
        found.append(f"the networks: were trained in float, now in the {bits} bits that {plan.device.name} makes of it")
    moved = _moved(then.get("prices", {}), now["prices"], PRICES_AGREE)
    if then.get("device") != now["device"]:
        found.append(f"the device {plan.config.device!r}: its file gives other figures{_list(moved)}")
    elif moved:
        found.append(f"cost metrics, for the space's reference network{_list(moved)}")
    return found


def _changes_tried_out(then: Mapping[str, Any], now: Mapping[str, Any], plan: Plan) -> list[str]:
    found = []
    if moved := _moved(then.get("measures", {}), now["measures"], MEASURES_AGREE):
        found.append(f"the attack {plan.config.attack!r} or the statistics, for a made-up network{_list(moved)}")
    before = then.get("defences", {})
    for name, logits in now["defences"].items():
        if not _agree(before.get(name, ()), logits):
            found.append(f"the defence {name!r}: it trains otherwise")
    return found


def _space_digest(space: SearchSpace) -> str:
    """Hash what a space offers; the order of its parameters changes nothing."""
    offered = {name: distribution_to_json(one) for name, one in space.distributions.items()}
    return hashlib.sha256(repr(_sorted(offered)).encode()).hexdigest()[:16]


def _device_digest(device: Device) -> str:
    """Hash a device's figures; a key that a later version adds, at its default, changes nothing."""
    told = TypeAdapter(Device).dump_python(device, exclude_defaults=True, exclude=dict(IN_WORDS))
    return hashlib.sha256(repr(_sorted(told)).encode()).hexdigest()[:16]


def _sorted(told: Any) -> Any:
    """Put tables into one order; their keys may be pairs of bits, which JSON does not take."""
    if isinstance(told, Mapping):
        return sorted((repr(key), _sorted(value)) for key, value in told.items())
    return [_sorted(value) for value in told] if isinstance(told, list | tuple) else told


def _prices(plan: Plan) -> dict[str, float | str]:
    reference = as_shipped(plan.space.describe(plan.space.reference), plan.device)
    prices: dict[str, float | str] = {}
    for name, estimate in plan.metrics.items():
        try:
            prices[name] = estimate(reference, plan.device).value
        except CannotRun:
            prices[name] = "cannot run"
    return prices


def _moved(then: Mapping[str, Any], now: Mapping[str, Any], tolerance: float) -> list[str]:
    """Name the numbers that differ; one that only the later program has says nothing about the earlier ones."""
    return [
        f"{name} was {_short(value)}, now {_short(now.get(name))}"
        for name, value in then.items()
        if not (name in now and _close(value, now[name], tolerance))
    ]


def _close(then: object, now: object, tolerance: float) -> bool:
    if isinstance(then, int | float) and isinstance(now, int | float):
        return math.isclose(then, now, rel_tol=tolerance, abs_tol=tolerance)
    return then == now


def _agree(then: Sequence[float], now: Sequence[float]) -> bool:
    return len(then) == len(now) and all(_close(a, b, LOGITS_AGREE) for a, b in zip(then, now, strict=True))


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _list(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _bench(plan: Plan) -> Bench:
    """Make up data and references that tell an attack from its opposite: members are surer of their classes."""
    rng = np.random.default_rng(0)
    sets = {name: _records(count, 2.0 if name == "members" else 0.7, rng) for name, count in RECORDS.items()}
    members = sets["members"]
    data = Splits(
        **sets,
        fingerprint="made up",
        preprocessing=unchanged(members.input_shape, members.classes),
        overview=Overview(sum(RECORDS.values()), RECORDS, 0, 0, None, sum(RECORDS.values()), 1),
    )
    return Bench(
        data=data,
        attack=plan.attack,
        bank=_bank(data, plan.config.references, rng) if plan.needs_bank else None,
        defences=plan.defences,
        seed=0,
    )


def _records(count: int, distance: float, rng: np.random.Generator) -> Records:
    labels = np.arange(count) % CLASSES
    features = rng.normal(size=(count, FEATURES)) + distance * np.eye(CLASSES, FEATURES)[labels]
    return Records(features.astype(np.float32), labels, tuple("abc"))


def _bank(data: Splits, references: int, rng: np.random.Generator) -> Bank:
    labels = np.concatenate([data.members.labels, data.non_members.labels])
    trained_on = np.stack([halves(len(labels), reference, 0) for reference in range(references)])
    noise = rng.normal(size=(references, len(labels), CLASSES))
    logits = noise + (0.5 + trained_on[:, :, None]) * np.eye(CLASSES)[labels]
    return Bank(logits.astype(np.float32), trained_on, labels)


def _network() -> nn.Module:
    """Make a network up: it answers with the first numbers of a record."""
    network = nn.Linear(FEATURES, CLASSES)
    with torch.no_grad():
        network.weight.copy_(torch.eye(CLASSES, FEATURES))
        network.bias.zero_()
    return network.eval()


def _trained(defence: str, parameters: Params, bench: Bench) -> list[float]:
    graph = GraphBuilder((FEATURES,))
    graph.linear(graph.activation(graph.linear(0, 8, bias=True)), CLASSES, bias=True)
    candidate = Candidate(graph.architecture("made up", {}), Recipe(epochs=2, batch_size=20), defence, parameters)
    network = assess(candidate, replace(bench, attack=_no_attack, bank=None)).network
    with torch.no_grad():
        logits = network(torch.from_numpy(bench.data.test.features[:2]).to(next(network.parameters()).device))
    held = delay_of(network)
    return [float(value) for value in [*logits.flatten().tolist(), *([held] if held else [])]]


def _no_attack(evidence: Any) -> NDArray[np.float64]:
    return np.zeros(len(evidence.labels))
