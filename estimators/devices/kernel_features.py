"""What the time of one kernel on a processor with a cache and vectors depends on, as plain numbers.

Counts of operations explain a microcontroller. A library for servers also pads channels to its vectors, fuses a sum
into the convolution before it, and stores tensors in blocks of channels where its neighbours do: so the numbers below
describe sizes, remainders and neighbours.
"""

from __future__ import annotations

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Kernel
from search_spaces.graph.operators import ALL_KERNELS
from search_spaces.graph.operators import CONSTANT
from search_spaces.graph.operators import CONVOLUTIONS
from search_spaces.graph.operators import FUNCTIONS
from search_spaces.graph.operators import VIEW_KINDS

VECTOR = 16
# Trees in device files compare places in these two: a kind that is new in `search_spaces.graph.operators` comes last.
_OLD = ("input", "conv", "pointwise", "depthwise", "linear", "pool", "norm", "activation", "add", "concat", "zero")
_NEW = tuple(sorted(ALL_KERNELS.difference(_OLD, VIEW_KINDS)))
KINDS = (*_OLD, *_NEW)
READERS = (*_OLD, "flatten", "nobody", *_NEW, *sorted(VIEW_KINDS - {"flatten"}))
FEATURES = (
    "macs",
    "padded_macs",
    "weights",
    "elements",
    "channels",
    "in_channels",
    "positions",
    "width",
    "window",
    "stride",
    "inputs",
    "channels_in_last_vector",
    "in_channels_in_last_vector",
    "folded",
    "norm",
    "function",
    "source",
    "source_readers",
    "readers",
    "added_to",
    "fusible",
    "other_source",
    "reader",
    "blocked",
    "unblocked",
    "reader_blocks",
)
"""Names of what `features_of` returns.

- `macs`, `weights`, `elements` (read and written), `channels`, `in_channels`, `positions` (height times width of the
  output), `width`, `window` (height times width of the kernel), `stride`, `inputs` (tensors read).
- `padded_macs`: MACs were the channels read and written multiples of 16; `..._in_last_vector`: their remainders.
- `folded`: norms and activations behind the anchor; `norm`: whether one is a norm; `function`: place in
  `graph.FUNCTIONS` of the pooling or of the last activation, counted from 1.
- `source`: place in `KINDS` of what made the (first) tensor read, views looked through; `source_readers` and `readers`:
  kernels that read the tensor this kernel reads and writes; `added_to`: whether a sum is the only reader; `fusible`:
  how many of the tensors read a convolution made for this kernel alone.
- `other_source`: the same as `source`, of the last tensor read; `reader`: place in `READERS` of a kernel that reads the
  tensor written; `reader_blocks`: whether a convolution does.
- `blocked`, `unblocked`: how many of the tensors read are stored in blocks of channels, and how many are not.
"""


def features_of(architecture: Architecture) -> list[tuple[float, ...]]:
    """Return the features of each of `architecture.kernels`, in the order of `FEATURES`; of views they mean nothing."""
    made_by = {0: "input"}
    reading: dict[int, list[str]] = {}
    blocked = {0: False}
    for kernel in architecture.kernels:
        kind, inputs, written = kernel.kind, kernel.inputs, kernel.ops[-1]
        made_by[written] = made_by[inputs[0]] if kind in VIEW_KINDS else kind
        blocked[written] = _blocks(kernel, blocked)
        for source in inputs:
            reading.setdefault(source, []).append(kind)
    return [
        _own(architecture, kernel) + _neighbours(kernel, made_by, reading, blocked) for kernel in architecture.kernels
    ]


def _blocks(kernel: Kernel, blocked: dict[int, bool]) -> bool:
    """Tell whether a kernel's output is stored in blocks of channels: a convolution's is, others keep what they get."""
    if kernel.kind in CONVOLUTIONS:
        return True
    if kernel.kind == "linear" or kernel.kind in CONSTANT or kernel.kind in VIEW_KINDS:
        return False
    return all(blocked[source] for source in kernel.inputs)


def _own(architecture: Architecture, kernel: Kernel) -> tuple[float, ...]:
    ops = architecture.ops
    anchor, *folded = fused = [ops[index] for index in kernel.ops]
    channels, in_channels = anchor.shape[0], ops[kernel.inputs[0]].shape[0]
    padding = _up(channels) / channels
    if kernel.kind != "depthwise":
        padding *= _up(in_channels) / in_channels
    functions = [op.function for op in fused if op.function]
    return (
        kernel.macs,
        kernel.macs * padding,
        kernel.weights,
        kernel.input_size + kernel.output_size,
        channels,
        in_channels,
        anchor.size // channels,
        anchor.shape[-1] if len(anchor.shape) > 1 else 1,
        anchor.kernel[0] * anchor.kernel[1],
        anchor.stride[0] * anchor.stride[1],
        len(kernel.inputs),
        channels % VECTOR,
        in_channels % VECTOR,
        len(folded),
        "norm" in [op.kind for op in fused],
        _CODES[functions[-1]] if functions else 0,
    )


def _neighbours(
    kernel: Kernel, made_by: dict[int, str], reading: dict[int, list[str]], blocked: dict[int, bool]
) -> tuple[float, ...]:
    inputs = kernel.inputs
    readers = reading.get(kernel.ops[-1], [])
    in_blocks = sum([blocked[source] for source in inputs])
    return (
        _PLACES[made_by[inputs[0]]],
        len(reading[inputs[0]]),
        len(readers),
        readers == ["add"],
        sum([made_by[source] in CONVOLUTIONS and len(reading[source]) == 1 for source in inputs]),
        _PLACES[made_by[inputs[-1]]],
        _READER_PLACES[min(readers, default="nobody")],
        in_blocks,
        len(inputs) - in_blocks,
        not CONVOLUTIONS.isdisjoint(readers),
    )


def _up(channels: int) -> int:
    return -(-channels // VECTOR) * VECTOR


_CODES = {name: number for kind in ("activation", "pool") for number, name in enumerate(FUNCTIONS[kind], start=1)}
_PLACES = {kind: place for place, kind in enumerate(KINDS)}
_READER_PLACES = {kind: place for place, kind in enumerate(READERS)}
