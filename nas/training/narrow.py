"""Remove channels from the weights of a trained network: those whose filters have the smallest mean magnitude.

Source: Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017). A filter's magnitude counts relative to its
layer's mean, so that layers whose channels go together have an equal say.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.narrowing import Channels
from search_spaces.graph.narrowing import Layout
from search_spaces.graph.narrowing import Segment
from search_spaces.graph.narrowing import channels_of
from search_spaces.graph.narrowing import widened


def narrow_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the narrow network, cut out of those of the network in its full width.

    Args:
        architecture: The narrow network, whose operators note how many channels they had.
        weights: By name, of the network in its full width.
    """
    wide = widened(architecture)
    channels = channels_of(wide)
    kept = _kept(architecture, wide, channels, weights)
    outputs = [
        torch.cat([_features(kept[s.group], s.repeat, offset) for s, offset in _with_offsets(layout, channels)])
        for layout in channels.layouts
    ]
    found = dict(weights)
    for name, value in weights.items():
        place, _, rest = name.partition("_")
        if not place.startswith("op") or not value.ndim:
            continue
        index = int(place.removeprefix("op"))
        op = wide.ops[index]
        if not rest.startswith(op.kind) or value.shape[0] != op.shape[0]:
            continue
        left = value[outputs[index]]
        # A depthwise layer, and a convolution in groups, reads the channels of its own filter.
        if left.ndim > 1 and op.kind != "depthwise" and op.groups == 1:
            left = left[:, outputs[op.inputs[0]]]
        found[name] = left.contiguous()
    return found


def _kept(
    architecture: Architecture, wide: Architecture, channels: Channels, weights: Mapping[str, Tensor]
) -> list[Tensor]:
    """Choose for each group which of its channels stay, in their order."""
    scores = [torch.zeros(width) for width in channels.widths]
    left = list(channels.widths)
    for index, (op, layout) in enumerate(zip(wide.ops, channels.layouts, strict=True)):
        if len(layout) != 1 or layout[0].repeat != 1:
            continue
        group = layout[0].group
        left[group] = architecture.ops[index].shape[0]
        weight = weights.get(f"op{index}_{op.kind}.weight")
        if weight is not None and weight.ndim > 1:
            magnitudes = weight.abs().flatten(1).mean(1).cpu()
            scores[group] += magnitudes / magnitudes.mean().clamp(min=torch.finfo(magnitudes.dtype).tiny)
    ranked = [score.argsort(descending=True, stable=True) for score in scores]
    return [places[:count].sort()[0] for places, count in zip(ranked, left, strict=True)]


def _with_offsets(layout: Layout, channels: Channels) -> list[tuple[Segment, int]]:
    offset, found = 0, []
    for segment in layout:
        found.append((segment, offset))
        offset += channels.widths[segment.group] * segment.repeat
    return found


def _features(channels: Tensor, repeat: int, offset: int) -> Tensor:
    """Return the places of the features of some channels, each of which has `repeat` neighbouring ones."""
    return (offset + channels[:, None] * repeat + torch.arange(repeat)).flatten()
