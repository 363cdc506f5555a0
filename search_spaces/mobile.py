"""Depthwise networks for images and signals: MobileNet v1 to v3 and MCUNet, and everything between them.

Howard et al. (2017), Sandler et al. (2018), Howard et al. (2019), Lin et al. (2020). A stem, one to seven stages of one
to four layers, a head.

- The records may be averaged first, over windows of 2x2 or 4x4: the `resolution`. A side that would fall below 8 keeps
  its length. The choices are those that change something at the shape of the records.
- The stem is a 3x3 convolution. A layer `e3k5` expands its channels 3 times with a 1x1 convolution (`e1` has none),
  filters each with a 5x5 window, and projects them with another 1x1 convolution. A layer `skip` is nothing, or a 1x1
  convolution where the shape changes.
- In an `inverted` network what a layer puts out is linear, and its input is added where the shapes are equal. In a
  `separable` one an activation follows instead.
- A stage's first layer sets its width, `growth` times that of the stage before, and takes its stride. A stride of 2
  halves each axis that has at least 3 positions, so none falls below 2. All widths are multiplied by
  `width_multiplier`; they and the expanded ones are multiples of 8.
- `squeeze` scales the filtered channels by factors from 0 to 1 that follow from the averages of all
  (squeeze-and-excitation; Hu, Shen and Sun, 2018).
- The activation is a hard swish from the stage `hardswish_from` on, and then in stem and head too.
- The head is a 1x1 convolution to `head_width` channels, the average of each, a hidden linear layer of `hidden_width`
  features, and the classifier. A width of 0 leaves the layer out. Neither width is multiplied.
- A signal is an image of height 1: its windows are 1 high.
- The first and last layer have a bit-width of their own, 8 at least. Other layers have the bits of their stage, those
  of the head the last stage's. What is added, scaled or handed on as a linear output keeps 8 bits; so does a factor.
- Factors above 0 do not change a sign: where a stage's tensors have 1 bit, `squeeze` is ignored.

A parameter of a stage or layer that is not there is ignored. The networks of NAS-Bench-Macro (Su et al., 2021) are
points: `parse` reads their keys. `NETWORKS` has some that others have published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import ParamValue
from search_spaces.graph.architecture import Shape
from search_spaces.graph.blocks import vector
from search_spaces.graph.blocks import window
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.operators import WEIGHTED
from search_spaces.graph.precision import FLOAT
from search_spaces.graph.precision import TENSORS
from search_spaces.graph.precision import WEIGHTS
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import at_least
from search_spaces.space import Choices
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace
from search_spaces.space import image_space
from search_spaces.space import numbered

USUAL_TASK = ((3, 32, 32), 10)
MAX_STAGES, MAX_LAYERS = 7, 4
LEAST_SIDE = 8
SKIP = "skip"
HEAD = "head"
"""How the names of the parts behind the stages begin."""
# The expansions 3.5 and 4.5 are those of MobileNet v3's small network, which has them with this window alone.
LAYERS = (SKIP, *(f"e{expansion}k{side}" for expansion in (1, 3, 4, 5, 6) for side in (3, 5, 7)), "e3.5k3", "e4.5k3")
LAYER = re.compile(r"e([\d.]+)k(\d)")
GROWTHS = (1, 1.2, 1.5, 1.68, 2)
# MobileNet v2 has fewer channels behind its first block than before it.
FIRST_GROWTHS = (*GROWTHS, 0.5)
GROWTH_NAMES = {str(growth): growth for growth in FIRST_GROWTHS}
STAGE_CHOICES: Choices = {
    "layers": range(1, MAX_LAYERS + 1),
    "growth": GROWTHS,
    "stride": (1, 2),
    "squeeze": (False, True),
    "weight_bits": WEIGHTS,
    "activation_bits": TENSORS,
    **{f"layer{layer}": LAYERS for layer in range(1, MAX_LAYERS + 1)},
}
CHOICES: Choices = {
    "width_multiplier": (1, 0.75, 0.5, 0.35, 0.25),
    "stem_width": (16, 24, 32),
    "stem_stride": (1, 2),
    "block": ("inverted", "separable"),
    "activation": ("relu", "relu6"),
    "head_width": (0, 64, 128, 256, 576, 1280),
    "hidden_width": (0, 128, 1024),
    "stages": range(1, MAX_STAGES + 1),
    "hardswish_from": range(1, MAX_STAGES + 2),
    "range": ("tracked", "learned"),
    "first_bits": (32, 8),
    "last_bits": (32, 8),
    **numbered("stage", MAX_STAGES, STAGE_CHOICES),
    "stage1_growth": FIRST_GROWTHS,
}
REFERENCE_STAGE: Params = {
    "layers": 1,
    "growth": 2,
    "stride": 2,
    "squeeze": False,
    "weight_bits": 32,
    "activation_bits": 32,
    **{f"layer{layer}": "e3k3" for layer in range(1, MAX_LAYERS + 1)},
}
REFERENCE: Params = {
    "resolution": 1,
    "width_multiplier": 0.5,
    "stem_width": 16,
    "stem_stride": 2,
    "stages": 2,
    "block": "inverted",
    "activation": "relu",
    "hardswish_from": MAX_STAGES + 1,
    "head_width": 0,
    "hidden_width": 0,
    "range": "tracked",
    "first_bits": 32,
    "last_bits": 32,
    **numbered("stage", MAX_STAGES, REFERENCE_STAGE),
}

MACRO_KEY = re.compile(r"(?:macro-)?([012]{8})")
MACRO_LAYERS = {"0": SKIP, "1": "e3k3", "2": "e6k5"}
MACRO_DEPTHS = (2, 3, 3)


@dataclass(frozen=True, slots=True)
class Style:
    """What the layers of a stage have in common.

    Attributes:
        channels: What each puts out.
        linear: Whether a layer's output is linear, with its input added where the shapes are equal.
        function: The activation.
        squeeze: Whether filtered channels are scaled.
        weight_bits: Precision of weights.
        bits: Precision of tensors.
        range: How activation quantisers find their range.
    """

    channels: int
    linear: bool
    function: str
    squeeze: bool
    weight_bits: Precision
    bits: Precision
    range: str

    @property
    def wide(self) -> Precision:
        """Precision of what is added, scaled or handed on: few-bit numbers would be lost in the rounding of a sum."""
        return at_least(self.bits, 8)


def make_space(input_shape: Shape, num_classes: int) -> SearchSpace:
    """Return the space of depthwise networks for images and signals.

    Args:
        input_shape: `(channels, height, width)`, sides of 8 or more; of a signal `(channels, 1, time)`.
        num_classes: Length of the logits, 2 or more.

    Raises:
        ValueError: If the shape is not that of an image or signal of such sides, or there are fewer than two classes.

    >>> space = make_space((3, 32, 32), num_classes=10)
    >>> [kernel.kind for kernel in space.decode(space.reference).kernels][:5]
    ['conv', 'pointwise', 'depthwise', 'pointwise', 'pointwise']
    >>> sum(kernel.macs for kernel in space.decode(space.parse("00000000")).kernels)
    7713280
    """
    if len(input_shape) != 3 or min(input_shape) < 1 or not _fits(input_shape):
        raise ValueError(
            f"expected images (channels, height, width) with sides of {LEAST_SIDE} or more, or signals (channels, 1, "
            f"time), for the space 'mobile'; got shape {input_shape}"
        )
    choices = {"resolution": _resolutions(input_shape), **CHOICES}
    space = image_space("mobile", input_shape, num_classes, choices=choices, describe=_describe, reference=REFERENCE)
    return replace(space, parse=parse)


def parse(key: str) -> Params:
    """Read the key of a network of NAS-Bench-Macro: a digit for each of eight layers, behind `macro-` or alone.

    0 is identity, 1 an expansion of 3 with a 3x3 window, 2 one of 6 with 5x5. Where the shape changes, identity is a
    1x1 convolution. On a command line write `macro-12012021`: a number alone would be taken for a candidate's.

    Raises:
        ValueError: If it is none.

    >>> point = parse("macro-12012021")
    >>> [point[f"stage2_layer{layer}"] for layer in (1, 2, 3)]
    ['skip', 'e3k3', 'e6k5']
    """
    found = MACRO_KEY.fullmatch(key.strip())
    if found is None:
        raise ValueError(f"expected a key of NAS-Bench-Macro like macro-12012021, eight digits of 0 to 2; got {key!r}")
    digits = iter(found[1])
    layers = [" ".join(MACRO_LAYERS[next(digits)] for _ in range(depth)) for depth in MACRO_DEPTHS]
    stages = _stages("|".join(f"2 2 {names}" for names in layers))
    return {**REFERENCE, "width_multiplier": 1, "stem_width": 32, "stem_stride": 1, "head_width": 1280, **stages}


def _fits(input_shape: Shape) -> bool:
    _, height, width = input_shape
    return width >= LEAST_SIDE and (height == 1 or height >= LEAST_SIDE)


def _resolutions(input_shape: Shape) -> tuple[float, ...]:
    """List the shares of the sides' length that differ in what is left of them."""
    different = {_window_of(input_shape, share): share for share in (0.25, 0.5, 1)}
    return tuple(sorted(different.values(), reverse=True))


def _window_of(shape: Shape, share: float) -> Pair:
    """Return the window whose average leaves this share of each side that stays long enough."""
    side = round(1 / share)
    height, width = (side if length // side >= LEAST_SIDE else 1 for length in shape[1:])
    return height, width


def _stages(text: str) -> Params:
    """Read the parameters of stages, `|` between them: growth, stride, perhaps `squeeze`, then the names of layers."""
    stages = text.split("|")
    params: dict[str, ParamValue] = {"stages": len(stages)}
    for number, stage in enumerate(stages, start=1):
        growth, stride, *names = stage.split()
        layers = [name for name in names if name != "squeeze"]
        params |= {f"stage{number}_growth": GROWTH_NAMES[growth], f"stage{number}_stride": int(stride)}
        params |= {f"stage{number}_squeeze": "squeeze" in names, f"stage{number}_layers": len(layers)}
        params |= {f"stage{number}_layer{place}": name for place, name in enumerate(layers, start=1)}
    return params


def layer_names(architecture: Architecture) -> tuple[str, ...]:
    """Name the layers with weights by their place, in the order of their operators (`search_spaces.graph.sharing`).

    Layers of one name do the same in all networks that have them. What comes after the stages is named after the kind
    of what it reads: the last stage, whichever it is, or the layer before. The two types of block share only that.

    Args:
        architecture: A point of this space.

    >>> space = make_space((3, 32, 32), num_classes=10)
    >>> layer_names(space.decode(space.reference))[:3]
    ('inverted.stem.conv', 'inverted.stage1.layer1.expand', 'inverted.stage1.layer1.filter')
    """
    graph = GraphBuilder(architecture.input_shape)
    names, done = [], 0
    for part in _grown(graph, architecture.num_classes, architecture.params):
        kinds = [op.kind for op in graph.ops[done:] if op.kind in WEIGHTED]
        body = "" if part.startswith(HEAD) else f"{architecture.params['block']}."
        names += [f"{body}{part}.{role}" for role in _roles(kinds)]
        done = len(graph.ops)
    return tuple(names)


def _roles(kinds: list[str]) -> list[str]:
    """Say what the layers with weights of one part do, by their kinds in order."""
    if "depthwise" not in kinds:
        return kinds
    place = kinds.index("depthwise")
    squeezes = ["squeeze", "factor"] if len(kinds) - place > 2 else []
    return [*["expand"] * place, "filter", *squeezes, "project"]


def _describe(input_shape: Shape, num_classes: int, params: Params) -> Architecture:
    graph = GraphBuilder(input_shape, bits=params["first_bits"])  # type: ignore[arg-type]
    for _ in _grown(graph, num_classes, params):
        pass
    return graph.architecture("mobile", params)


def _grown(graph: GraphBuilder, num_classes: int, params: Params) -> Iterator[str]:
    """Append a network part by part, and give the name of each part when its operators are there."""
    point: Mapping[str, Any] = params
    swishes = point["hardswish_from"] <= point["stages"]
    ends = "hardswish" if swishes else point["activation"]
    x = _stem(graph, point, ends)
    yield "stem"
    width = point["stem_width"]
    for number in range(1, point["stages"] + 1):
        width = _to_eights(width * point[f"stage{number}_growth"])
        style = _style(point, number, _to_eights(width * point["width_multiplier"]))
        for place in range(1, point[f"stage{number}_layers"] + 1):
            stride = _stride(graph, x, point[f"stage{number}_stride"] if place == 1 else 1)
            x = _layer(graph, x, point[f"stage{number}_layer{place}"], stride, style)
            yield f"stage{number}.layer{place}"
    yield from _head(graph, x, point, style, ends)
    graph.linear(len(graph.ops) - 1, num_classes, bias=True, weight_bits=point["last_bits"])
    read = "hidden" if point["hidden_width"] else "top" if point["head_width"] else "stages"
    yield f"{HEAD} classifier of {read}"


def _to_eights(channels: float) -> int:
    """Round to a multiple of 8, at least 8, that is no more than a tenth below."""
    rounded = max(8, int(channels / 8 + 0.5) * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _style(point: Mapping[str, Any], number: int, channels: int) -> Style:
    bits = point[f"stage{number}_activation_bits"]
    return Style(
        channels=channels,
        linear=point["block"] == "inverted",
        function="hardswish" if number >= point["hardswish_from"] else point["activation"],
        squeeze=point[f"stage{number}_squeeze"] and bits != 1,
        weight_bits=point[f"stage{number}_weight_bits"],
        bits=bits,
        range=point["range"],
    )


def _stem(graph: GraphBuilder, point: Mapping[str, Any], function: str) -> int:
    bits, sides = point["first_bits"], _window_of(graph.ops[0].shape, point["resolution"])
    x = 0 if sides == (1, 1) else graph.pool(0, "avg", kernel=sides, stride=sides)
    kernel, padding = window(graph, x, (3, 3))
    stride = _stride(graph, x, point["stem_stride"])
    width = _to_eights(point["stem_width"] * point["width_multiplier"])
    x = graph.conv(x, width, kernel=kernel, stride=stride, padding=padding, weight_bits=bits)
    return graph.activation(graph.norm(x), function, bits=bits, range=point["range"])


def _layer(graph: GraphBuilder, source: int, name: str, stride: Pair, style: Style) -> int:
    is_same = stride == (1, 1) and style.channels == graph.ops[source].shape[0]
    if name == SKIP and is_same:
        return source
    if name == SKIP:
        x = graph.conv(source, style.channels, stride=stride, weight_bits=style.weight_bits)
    else:
        x = graph.conv(_filtered(graph, source, name, stride, style), style.channels, weight_bits=style.weight_bits)
    if not style.linear:
        return graph.activation(graph.norm(x), style.function, bits=style.bits, range=style.range)
    x = graph.norm(x, bits=style.wide, range=style.range)
    if not is_same:
        return x
    x = graph.add(x, source)
    return x if style.wide == FLOAT else graph.activation(x, "identity", bits=style.wide, range=style.range)


def _filtered(graph: GraphBuilder, source: int, name: str, stride: Pair, style: Style) -> int:
    """Append the 1x1 convolution that expands, if there is one, the depthwise one, and the scaling of its channels."""
    expansion, side = SHAPES[name]
    x, bits = source, style.wide if style.squeeze else style.bits
    if expansion > 1:
        x = graph.conv(x, _to_eights(expansion * graph.ops[x].shape[0]), weight_bits=style.weight_bits)
        x = graph.activation(graph.norm(x), style.function, bits=style.bits, range=style.range)
    kernel, padding = window(graph, x, (side, side))
    x = graph.depthwise(x, kernel=kernel, stride=stride, padding=padding, weight_bits=style.weight_bits)
    x = graph.activation(graph.norm(x), style.function, bits=bits, range=style.range)
    return _squeezed(graph, x, style) if style.squeeze else x


def _squeezed(graph: GraphBuilder, source: int, style: Style) -> int:
    """Append a factor for each channel, from a quarter as many features of all averages, and the scaling by it."""
    channels, *sides = graph.ops[source].shape
    x = graph.pool(source, "avg", kernel=(sides[0], sides[1]), stride=(sides[0], sides[1]))
    x = graph.conv(x, _to_eights(channels / 4), bias=True, weight_bits=style.weight_bits)
    x = graph.activation(x, "relu", bits=style.wide, range=style.range)
    x = graph.conv(x, channels, bias=True, weight_bits=style.weight_bits)
    x = graph.activation(x, "hardsigmoid", bits=style.wide, range=style.range)
    return graph.scale(source, x, bits=style.bits, range=style.range)


def _head(graph: GraphBuilder, x: int, point: Mapping[str, Any], style: Style, function: str) -> Iterator[str]:
    if point["head_width"]:
        x = graph.conv(x, point["head_width"], weight_bits=style.weight_bits)
        x = graph.activation(graph.norm(x), function, bits=style.bits, range=style.range)
        yield f"{HEAD} top"
    x = vector(graph, x, "avg")
    if point["hidden_width"]:
        x = graph.linear(x, point["hidden_width"], bias=True, weight_bits=style.weight_bits)
        graph.activation(x, function, bits=style.bits, range=style.range)
        yield f"{HEAD} hidden of {'top' if point['head_width'] else 'stages'}"


def _stride(graph: GraphBuilder, source: int, stride: int) -> Pair:
    """Keep the stride on each axis that stays at 2 positions or more."""
    _, height, width = graph.ops[source].shape
    return (stride if height >= 3 else 1, stride if width >= 3 else 1)


def _shape_of(name: str) -> tuple[float, int]:
    found = LAYER.fullmatch(name)
    assert found is not None
    return float(found[1]), int(found[2])


SHAPES: Mapping[str, tuple[float, int]] = MappingProxyType({name: _shape_of(name) for name in LAYERS if name != SKIP})
"""Expansion and side of the window of each layer, by its name."""

_MOBILENET_V2: Params = {
    "width_multiplier": 1,
    "stem_width": 32,
    "activation": "relu6",
    "head_width": 1280,
    **_stages(
        "0.5 1 e1k3 | 1.5 2 e6k3 e6k3 | 1.2 2 e6k3 e6k3 e6k3 | 2 2 e6k3 e6k3 e6k3 e6k3 |"
        "1.5 1 e6k3 e6k3 e6k3 | 1.68 2 e6k3 e6k3 e6k3 | 2 1 e6k3"
    ),
}


def _mcunet(side: int, stages: str, stem_width: int = 16) -> NamedNetwork:
    params = {"width_multiplier": 1, "stem_width": stem_width, "activation": "relu6", **_stages(stages)}
    return NamedNetwork(
        params, (3, side, side), 1000, "Lin et al., MCUNet, 2020; counts of the authors' model zoo (mit-han-lab/mcunet)"
    )


NETWORKS: Mapping[str, NamedNetwork] = {
    "mlperf-mobilenet-v1-025": NamedNetwork(
        {
            "width_multiplier": 0.25,
            "stem_width": 32,
            "block": "separable",
            **_stages(
                "2 1 e1k3 | 2 2 e1k3 e1k3 | 2 2 e1k3 e1k3 | 2 2 e1k3 e1k3 e1k3 | 1 1 e1k3 e1k3 e1k3 | 2 2 e1k3 e1k3"
            ),
        },
        (3, 96, 96),
        2,
        "Howard et al., MobileNets, 2017; MACs of the visual wake words of MLPerf Tiny (Banbury et al., 2021)",
    ),
    "mobilenet-v2-035": NamedNetwork(
        {**_MOBILENET_V2, "width_multiplier": 0.35},
        (3, 128, 128),
        5,
        "Sandler et al., MobileNetV2, 2018; MACs of STMicroelectronics' model zoo, 2024",
    ),
    "mobilenet-v2": NamedNetwork(
        _MOBILENET_V2, (3, 224, 224), 1000, "Sandler et al., MobileNetV2, 2018; counts of torchvision's mobilenet_v2"
    ),
    "mobilenet-v3-small": NamedNetwork(
        {
            "width_multiplier": 1,
            "head_width": 576,
            "hidden_width": 1024,
            "hardswish_from": 3,
            **_stages(
                "1 2 squeeze e1k3 | 1.5 2 e4.5k3 e3.5k3 | 1.68 2 squeeze e4k5 e6k5 e6k5 |"
                "1.2 1 squeeze e3k5 e3k5 | 2 2 squeeze e6k5 e6k5 e6k5"
            ),
        },
        (3, 224, 224),
        1000,
        "Howard et al., MobileNetV3, 2019; parameters of torchvision's mobilenet_v3_small",
    ),
    "mcunet-in0": _mcunet(
        48,
        "0.5 1 e1k3 | 1 2 e4k5 e3k3 e4k3 | 1.5 2 e5k7 e4k5 e5k5 | 2 2 e5k7 e4k5 |"
        "1.2 1 e5k3 e4k5 e5k3 | 2 2 e6k3 e4k5 | 1.68 1 e6k3",
        stem_width=24,
    ),
    "mcunet-in1": _mcunet(
        96,
        "0.5 1 e1k3 | 2 2 e4k3 e3k3 | 1.5 2 e3k7 e5k3 | 1.68 2 e5k3 e4k7 |"
        "1.2 1 e4k5 e3k3 e4k3 | 2 2 e5k7 e4k5 e4k5 | 1.68 1 e6k3",
    ),
    "mcunet-in2": _mcunet(
        160,
        "0.5 1 e1k3 | 2 2 e3k5 e6k7 e5k3 e5k5 | 1.5 2 e5k3 e6k7 e6k5 | 1.68 2 e4k7 e5k5 |"
        "1.2 1 e5k3 e5k5 e4k3 | 2 2 e6k5 e4k5 e3k5 e4k3 | 1.68 1 e5k5",
    ),
    "mcunet-in3": _mcunet(
        176,
        "0.5 1 e1k3 | 2 2 e3k7 e5k3 e5k7 e4k5 | 1.5 2 e5k5 e5k5 e5k5 | 1.68 2 e5k3 e6k7 e4k5 |"
        "1.2 1 e5k5 e5k7 e5k3 | 2 2 e6k3 e5k7 e4k3 | 1.68 1 e5k7",
    ),
    "mcunet-in4": _mcunet(
        160,
        "0.5 1 e1k3 | 1.5 2 e3k7 e5k3 e4k5 | 1.68 2 e5k7 e4k3 e4k7 | 2 2 e3k7 e3k3 e3k7 |"
        "1.2 1 e4k3 e3k5 e3k5 | 2 2 e4k7 e3k7 e3k5 | 1.68 1 e4k5",
        stem_width=32,
    ),
}
"""Networks with published counts, in float: 8 bits are a matter of the device, or of more parameters."""
