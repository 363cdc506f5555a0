"""The operator graph of a PyTorch network, written from a symbolic run of it on tensors without numbers.

It is for networks that NNI freezes. There is a rule for each kind of layer and function that a graph has an operator
for; a network with any other is refused, and nothing of it is passed over: each operator's shape is held against that
of the network's own tensor.

Left out are settings of the training, which the recipe has: dropout, the initial weights, and the momentum and epsilon
of a batch normalisation, which are PyTorch's defaults here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any
from typing import TypeAlias

import torch
from torch import Tensor
from torch import fx
from torch import nn
from torch.nn import functional

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.builder import GraphBuilder

RECORDS = 2
"""Records of the symbolic run; one alone could be taken for a batch axis that is not there."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor of the network: the number of the operator that writes it."""

    index: int


LayerRule: TypeAlias = Callable[[GraphBuilder, Any, int], int]
"""From the graph so far, a layer and the operator that it reads, to the operator that stands for it."""


def graph_of(network: nn.Module, space: str, input_shape: Shape, params: Params) -> Architecture:
    """Write the graph of a network.

    Args:
        network: It takes records `(records, *input_shape)` and gives logits `(records, classes)`. Its tensors may lie
            on PyTorch's device `meta`.
        space: Name of the search space.
        input_shape: Shape of one record.
        params: The point of the space.

    Raises:
        ValueError: If it cannot be run symbolically, or an operator of it has no counterpart.

    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    >>> [op.kind for op in graph_of(network, "example", (1, 8, 8), {}).ops]
    ['input', 'conv', 'activation', 'flatten', 'linear']
    """
    network = network.eval()
    try:
        tracer = _Tracer()
        traced = fx.GraphModule(network, tracer.trace(network))
        traced.graph.eliminate_dead_code()
        traced.recompile()
    except Exception as error:
        raise ValueError(f"expected a network that torch.fx can trace; it says: {_line(error)}") from error
    writer = _Writer(traced, input_shape)
    device = next((tensor.device for tensor in network.parameters()), torch.device("meta"))
    with torch.inference_mode():
        result = writer.run(torch.zeros((RECORDS, *input_shape), device=device))
    if not isinstance(result, Tensor) or writer.logits is None:
        raise ValueError(f"expected a network with one output, logits; it returns {type(result).__name__}")
    return writer.written.architecture(space, params, outputs=[writer.logits])


class _Tracer(fx.Tracer):
    """Keep a layer that there is a rule for whole, also where NNI wraps PyTorch's class."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Tell whether to look inside a module."""
        return isinstance(module, tuple(LAYERS)) or super().is_leaf_module(module, name)


class _Writer(fx.Interpreter):
    """Run a traced network for its shapes, and write an operator for each tensor.

    Attributes:
        written: The graph so far.
        logits: The operator whose tensor the network returns; None before its end, or if it returns another thing.
    """

    def __init__(self, traced: fx.GraphModule, input_shape: Shape) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # a message of one line
        self.written = GraphBuilder(input_shape)
        self.logits: int | None = None
        self._places: dict[fx.Node, Place] = {}
        self._called: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Run one step of the network, then write its operator."""
        try:
            value = super().run_node(n)
            if n.op == "output":
                self.logits = getattr(self._places.get(n.args[0]), "index", None)  # type: ignore[arg-type] # any
            elif isinstance(value, Tensor):
                index = self._write(n, tuple(value.shape))
                if (got := self.written.ops[index].shape) != tuple(value.shape[1:]):
                    raise ValueError(f"its tensor has the shape {tuple(value.shape[1:])}, its operator {got}")  # noqa: TRY301
                self._places[n] = Place(index)
        except Exception as error:
            raise ValueError(f"no graph for {_named(n)}: {_line(error)}") from error
        return value

    def _write(self, n: fx.Node, shape: tuple[int, ...]) -> int:
        if n.op == "placeholder":
            if self._places:
                raise ValueError("expected a network of one input")
            return 0
        given: Any = (n.args, n.kwargs)
        places: Callable[[fx.Node], Any] = lambda node: self._places.get(node, self.env.get(node))  # noqa: E731
        args, kwargs = fx.map_arg(given, places)
        if n.op == "call_module":
            return self._layer(str(n.target), args, kwargs)
        if n.target in RESHAPES:
            return self._reshaped(args[0], shape)
        if n.target in TWO:
            return TWO[n.target](self.written, args, kwargs)
        if n.target in AS_LAYERS:
            layer = AS_LAYERS[n.target](*args[1:], **{name: value for name, value in kwargs.items() if name != "input"})
            source = args[0] if args else kwargs["input"]
            return _apply(self.written, layer, source.index)
        raise ValueError("there is no operator for it")

    def _layer(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        layer = self.fetch_attr(name)
        if name in self._called and any(True for _ in layer.parameters()):
            raise ValueError("it is used twice, and operators of a graph share no weights")
        self._called.add(name)
        if len(args) != 1 or kwargs or not isinstance(args[0], Place):
            raise ValueError("expected a layer of one tensor")
        if isinstance(layer, nn.Flatten):
            flat = (RECORDS, prod(self.written.ops[args[0].index].shape))
            return self._reshaped(args[0], flat)
        return _apply(self.written, layer, args[0].index)

    def _reshaped(self, source: Place, shape: tuple[int, ...]) -> int:
        op = self.written.ops[source.index]
        if shape[1:] == op.shape:
            return source.index
        if shape != (RECORDS, op.size):
            raise ValueError(f"expected a vector for each record, ({op.size},); got the shape {shape[1:]}")
        return self.written.flatten(source.index)


def _apply(graph: GraphBuilder, layer: nn.Module, source: int) -> int:
    rule = next((rule for kind, rule in LAYERS.items() if isinstance(layer, kind)), None)
    if rule is None:
        raise ValueError(f"there is no operator for {type(layer).__name__}; there are {_known()}")
    return rule(graph, layer, source)


def _conv(graph: GraphBuilder, layer: nn.Conv2d, source: int) -> int:
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    if _pair(layer.dilation) != (1, 1) or layer.padding_mode != "zeros":
        raise ValueError(f"expected a convolution without dilation, padded with zeros; got {layer}")
    padding, bias = _padding(layer, kernel), layer.bias is not None
    if layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1:
        return graph.depthwise(source, kernel=kernel, stride=stride, padding=padding, bias=bias)
    return graph.conv(
        source, layer.out_channels, kernel=kernel, stride=stride, padding=padding, groups=layer.groups, bias=bias
    )


def _padding(layer: nn.Conv2d, kernel: Pair) -> Pair:
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        if any(side % 2 == 0 for side in kernel):
            raise ValueError(f"expected kernels of odd sides with the padding 'same'; got {layer}")
        return (kernel[0] // 2, kernel[1] // 2)
    return _pair(layer.padding)


def _norm(graph: GraphBuilder, layer: nn.BatchNorm2d, source: int) -> int:
    if not layer.track_running_stats or layer.weight is None or layer.bias is None:
        raise ValueError(f"expected a batch normalisation with its scale, shift and running statistics; got {layer}")
    return graph.norm(source)


def _max_pool(graph: GraphBuilder, layer: nn.MaxPool2d, source: int) -> int:
    if _pair(layer.dilation) != (1, 1) or layer.ceil_mode or layer.return_indices:
        raise ValueError(f"expected a pooling without dilation, ceil_mode and indices; got {layer}")
    return _pool(graph, "max", layer, source)


def _avg_pool(graph: GraphBuilder, layer: nn.AvgPool2d, source: int) -> int:
    counts_zeros = layer.count_include_pad and _pair(layer.padding) != (0, 0)
    if layer.ceil_mode or counts_zeros or layer.divisor_override is not None:
        raise ValueError(
            f"expected the mean of what is there, so no ceil_mode, no divisor, and count_include_pad=False; got {layer}"
        )
    return _pool(graph, "avg", layer, source)


def _pool(graph: GraphBuilder, function: str, layer: nn.MaxPool2d | nn.AvgPool2d, source: int) -> int:
    kernel, stride, padding = (_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding))
    return graph.pool(source, function, kernel=kernel, stride=stride, padding=padding)


def _adaptive_pool(graph: GraphBuilder, layer: nn.AdaptiveAvgPool2d, source: int) -> int:
    _, height, width = graph.ops[source].shape
    wanted = [
        whole if side is None else side for side, whole in zip(_pair(layer.output_size), (height, width), strict=True)
    ]
    if height % wanted[0] or width % wanted[1]:
        raise ValueError(f"expected sides {height} x {width} that the output's divide evenly; got {layer}")
    kernel = (height // wanted[0], width // wanted[1])
    return graph.pool(source, "avg", kernel=kernel, stride=kernel)


def _activation(function: str) -> LayerRule:
    return lambda graph, _layer, source: graph.activation(source, function)


def _nothing(_graph: GraphBuilder, _layer: nn.Module, source: int) -> int:
    return source


LAYERS: Mapping[type[nn.Module], LayerRule] = {
    nn.Conv2d: _conv,
    nn.Linear: lambda graph, layer, source: graph.linear(source, layer.out_features, bias=layer.bias is not None),
    nn.BatchNorm2d: _norm,
    nn.BatchNorm1d: _norm,
    nn.ReLU6: _activation("relu6"),
    nn.ReLU: _activation("relu"),
    nn.Hardswish: _activation("hardswish"),
    nn.Hardsigmoid: _activation("hardsigmoid"),
    nn.Tanh: _activation("tanh"),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.Flatten: _nothing,  # its shape decides, not its kind
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout2d: _nothing,
}


def _max_pool_layer(  # noqa: PLR0917 - the function has these in another order than the layer
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


AS_LAYERS: Mapping[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys([functional.relu, torch.relu, "relu", "relu_"], nn.ReLU),
    functional.relu6: nn.ReLU6,
    functional.hardswish: nn.Hardswish,
    functional.hardsigmoid: nn.Hardsigmoid,
    **dict.fromkeys([functional.tanh, torch.tanh, "tanh"], nn.Tanh),
    functional.max_pool2d: _max_pool_layer,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.dropout: lambda *_args, **_kwargs: nn.Dropout(),
    "contiguous": nn.Identity,
}
"""Functions and methods, and the layers that do the same with the same arguments."""
RESHAPES = frozenset([torch.flatten, torch.reshape, torch.squeeze, "flatten", "view", "reshape", "squeeze"])


def _sum(graph: GraphBuilder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    first, second = args
    if kwargs:
        raise ValueError(f"expected a plain sum; got {dict(kwargs)}")
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Place) and other == 0:  # Python's sum starts there
            return one.index
    _check_tensors(first, second)
    return graph.add(first.index, second.index)


def _product(graph: GraphBuilder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    first, second = args
    if kwargs:
        raise ValueError(f"expected a plain product; got {dict(kwargs)}")
    _check_tensors(first, second)
    if prod(graph.ops[first.index].shape[1:]) < prod(graph.ops[second.index].shape[1:]):
        first, second = second, first
    return graph.scale(first.index, second.index)


def _concat(graph: GraphBuilder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    parts, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)
    if axis != 1:
        raise ValueError(f"expected a concatenation over channels, dim=1; got dim={axis}")
    return graph.concat(*(part.index for part in parts))


def _mean(graph: GraphBuilder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    source, axes = args[0].index, kwargs.get("dim", args[1] if len(args) > 1 else ())
    keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    shape = graph.ops[source].shape
    if len(shape) != 3 or {axis % 4 for axis in (axes if isinstance(axes, tuple | list) else (axes,))} != {2, 3}:
        raise ValueError(f"expected a mean over height and width; got the axes {axes}")
    whole = (shape[1], shape[2])
    pooled = graph.pool(source, "avg", kernel=whole, stride=whole)
    return pooled if keep else graph.flatten(pooled)


TWO: Mapping[Any, Callable[[GraphBuilder, tuple[Any, ...], Mapping[str, Any]], int]] = {
    **dict.fromkeys([operator.add, operator.iadd, torch.add, "add", "add_"], _sum),
    **dict.fromkeys([operator.mul, operator.imul, torch.mul, "mul", "mul_"], _product),
    **dict.fromkeys([torch.cat, torch.concat], _concat),
    **dict.fromkeys([torch.mean, "mean"], _mean),
}
"""Functions of several tensors, and means, whose rules look at the arguments."""


def _check_tensors(*values: object) -> None:
    if not all(isinstance(value, Place) for value in values):
        raise ValueError("expected two tensors that operators write; got a number or a parameter of the network's own")


def _pair(value: Any) -> Pair:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return first, second


def _known() -> str:
    return ", ".join(kind.__name__ for kind in LAYERS)


def _named(n: fx.Node) -> str:
    target = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))
    return f"{n.op} {target!r}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
