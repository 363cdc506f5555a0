"""Compare our counts with those of fvcore, thop and PyTorch on the built network. We use none of theirs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from estimators.devices.files import load_device
from nas.base import plugins
from search_spaces.graph.architecture import Architecture
from search_spaces.network import build


def counts(architecture: Architecture) -> dict[str, dict[str, int]]:
    """Count MACs and parameters of an architecture in float32 with other tools.

    fvcore and thop say FLOPs and count multiply-accumulates; both add batch norms, which a deployed network has folded
    away: those are left out. PyTorch's counter gives two FLOPs for each MAC.

    Returns:
        `{tool: {"macs": ..., "params": ...}}`.
    """
    network = build(architecture.as_float()).eval()
    params = sum(parameter.numel() for parameter in network.parameters())
    record = torch.zeros(1, *architecture.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(record)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # theirs, as they are imported and as they run
        return {
            "fvcore": {"macs": _fvcore_macs(network, record), "params": params},
            "thop": _thop_counts(network, record),
            "torch": {"macs": counter.get_total_flops() // 2, "params": params},
        }


def _fvcore_macs(network: nn.Module, record: torch.Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415 - takes a second

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(network, record).unsupported_ops_warnings(enabled=False)
    by_operator: dict[str, int] = analysis.by_operator()
    return round(sum(by_operator.get(name, 0) for name in ("conv", "linear")))


def _thop_counts(network: nn.Module, record: torch.Tensor) -> dict[str, int]:
    """Count with thop. It recognises layers by their exact class, so subclasses are passed to it."""
    from thop import profile  # noqa: PLC0415 - beside its only use, as fvcore
    from thop.vision import basic_hooks  # noqa: PLC0415 - beside its only use, as fvcore

    rules: dict[type[nn.Module], Any] = {}
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            rules[type(module)] = basic_hooks.count_convNd
        elif isinstance(module, nn.Linear):
            rules[type(module)] = basic_hooks.count_linear
        elif not list(module.children()):
            rules[type(module)] = basic_hooks.zero_ops
    macs, params = profile(network, inputs=(record,), custom_ops=rules, verbose=False)
    return {"macs": round(macs), "params": round(params)}


def check(architecture: Architecture) -> dict[str, dict[str, int]]:
    """Count MACs and parameters with other tools.

    Raises:
        ValueError: If one of them disagrees with our counts.
    """
    ours = {
        name: int(plugins.load("estimators.cost", name, "estimate")(architecture, load_device("stm32h747")).value)
        for name in ("macs", "params")
    }
    counted = counts(architecture)
    wrong = [f"{tool} {numbers}" for tool, numbers in counted.items() if numbers != ours]
    if wrong:
        raise ValueError(f"expected the counts {ours} from every tool; got {', '.join(wrong)}")
    return counted
