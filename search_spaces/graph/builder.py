"""Write an operator graph: shapes and bit-widths follow from the operators."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Op
from search_spaces.graph.architecture import Pair
from search_spaces.graph.architecture import Params
from search_spaces.graph.architecture import Shape
from search_spaces.graph.architecture import reading
from search_spaces.graph.precision import HALF
from search_spaces.graph.precision import Precision
from search_spaces.graph.precision import bits_and_format


class GraphBuilder:
    """Write a graph operator by operator; shapes follow from the operators.

    Each method appends one operator and returns its index. `weight_bits` and `bits` are precisions of weights and of
    the output, as a search samples them: `search_spaces.graph.precision` lists them.

    >>> graph = GraphBuilder((1, 8, 8))
    >>> x = graph.conv(0, channels=4, kernel=(3, 3), padding=(1, 1))
    >>> x = graph.activation(graph.norm(x))
    >>> x = graph.linear(graph.flatten(x), features=10, bias=True)
    >>> network = graph.architecture("example", {})
    >>> [kernel.kind for kernel in network.kernels], sum(kernel.macs for kernel in network.kernels)
    (['conv', 'flatten', 'linear'], 4864)
    """

    def __init__(self, input_shape: Shape, bits: Precision = 32) -> None:
        width, form = bits_and_format(bits)
        self.ops: list[Op] = [Op("input", (), input_shape, bits=width, format=form)]

    def conv(
        self,
        source: int,
        channels: int,
        *,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        bias: bool = False,
        weight_bits: Precision = 32,
        sparsity: float = 0.0,
    ) -> int:
        """Append a convolution."""
        shape = (channels, *self._window(source, kernel, stride, padding))
        width, form = bits_and_format(weight_bits)
        return self._append(
            Op(
                "conv",
                (source,),
                shape,
                kernel,
                stride,
                padding,
                groups,
                bias,
                weight_bits=width,
                sparsity=sparsity,
                weight_format=form,
            )
        )

    def depthwise(
        self,
        source: int,
        *,
        kernel: Pair,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        bias: bool = False,
        weight_bits: Precision = 32,
        sparsity: float = 0.0,
    ) -> int:
        """Append a depthwise convolution, one filter per channel."""
        shape = (self.ops[source].shape[0], *self._window(source, kernel, stride, padding))
        width, form = bits_and_format(weight_bits)
        return self._append(
            Op(
                "depthwise",
                (source,),
                shape,
                kernel,
                stride,
                padding,
                bias=bias,
                weight_bits=width,
                sparsity=sparsity,
                weight_format=form,
            )
        )

    def linear(
        self, source: int, features: int, *, bias: bool = False, weight_bits: Precision = 32, sparsity: float = 0.0
    ) -> int:
        """Append a fully connected layer."""
        if len(self.ops[source].shape) != 1:
            raise ValueError(f"expected a vector before 'linear'; got shape {self.ops[source].shape}: flatten it first")
        width, form = bits_and_format(weight_bits)
        return self._append(
            Op(
                "linear",
                (source,),
                (features,),
                bias=bias,
                weight_bits=width,
                sparsity=sparsity,
                weight_format=form,
            )
        )

    def pool(self, source: int, function: str, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> int:
        """Append a max or average pooling.

        The output keeps the input's bit-width, but an average of fewer than 8 bits takes 8: the mean of a window of
        one-bit values is not one bit.
        """
        op = self.ops[source]
        shape = (op.shape[0], *self._window(source, kernel, stride, padding))
        bits = max(op.bits, 8) if function == "avg" else op.bits
        return self._append(
            Op(
                "pool",
                (source,),
                shape,
                kernel,
                stride,
                padding,
                function=function,
                bits=bits,
                range=op.range,
                format=op.format,
            )
        )

    def norm(self, source: int, *, bits: Precision = 32, range: str = "tracked") -> int:
        """Append a batch normalisation, folded into the operator before it when deployed."""
        width, form = bits_and_format(bits)
        shape = self.ops[source].shape
        return self._append(Op("norm", (source,), shape, bits=width, range=_range_of(width, range), format=form))

    def activation(self, source: int, function: str = "relu", *, bits: Precision = 32, range: str = "tracked") -> int:
        """Append an activation whose output is quantised to `bits`. One bit means the sign function."""
        width, form = bits_and_format(bits)
        function = "sign" if width == 1 else function
        return self._append(
            Op(
                "activation",
                (source,),
                self.ops[source].shape,
                function=function,
                bits=width,
                range=_range_of(width, range),
                format=form,
            )
        )

    def add(self, first: int, second: int) -> int:
        """Append an element-wise sum, left wide for the activation that follows."""
        if self.ops[first].shape != self.ops[second].shape:
            raise ValueError(
                f"expected equal shapes for 'add'; got {self.ops[first].shape} and {self.ops[second].shape}"
            )
        return self._append(Op("add", (first, second), self.ops[first].shape))

    def scale(self, source: int, factors: int, *, bits: Precision = 32, range: str = "tracked") -> int:
        """Append a product of a map `(channels, height, width)` and a factor for each channel, `(channels, 1, 1)`."""
        shape = self.ops[source].shape
        if len(shape) != 3 or self.ops[factors].shape != (shape[0], 1, 1):
            raise ValueError(
                "expected an image (channels, height, width) and factors (channels, 1, 1) for 'scale'; "
                f"got {shape} and {self.ops[factors].shape}"
            )
        width, form = bits_and_format(bits)
        of_range = _range_of(width, range)
        return self._append(Op("scale", (source, factors), shape, bits=width, range=of_range, format=form))

    def concat(self, *sources: int, range: str = "tracked") -> int:
        """Append a concatenation over channels, as wide as its widest part.

        Parts of few bits lie on scales of their own; the whole is rounded to one, whose range is found as `range` says.
        """
        shapes = [self.ops[source].shape for source in sources]
        if len({shape[1:] for shape in shapes}) != 1:
            raise ValueError(f"expected equal heights and widths for 'concat'; got {shapes}")
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        widest = max((self.ops[source] for source in sources), key=lambda op: op.bits)
        own = _range_of(widest.bits, range)
        return self._append(Op("concat", sources, shape, bits=widest.bits, range=own, format=widest.format))

    def flatten(self, source: int) -> int:
        """Append a view of the tensor as a vector."""
        op = self.ops[source]
        return self._append(Op("flatten", (source,), (op.size,), bits=op.bits, format=op.format))

    def zero(self, source: int) -> int:
        """Append zeros of the shape of `source`: an edge of a cell that carries nothing."""
        op = self.ops[source]
        return self._append(Op("zero", (source,), op.shape, bits=op.bits, format=op.format))

    def again(self, first: int, source: int) -> int:
        """Append the operators from one on once more: the copies read the last operator where these read `source`.

        Args:
            first: Index of the first operator to copy; all behind it are copied with it.
            source: What they read of the operators before.

        Returns:
            Index of the last copy.

        >>> graph = GraphBuilder((4, 8, 8))
        >>> stem = graph.activation(0)
        >>> cell = graph.add(graph.conv(stem, 4), stem)
        >>> last = graph.again(stem + 1, stem)
        >>> [(op.kind, op.inputs) for op in graph.ops[stem + 1 :]]
        [('conv', (1,)), ('add', (2, 1)), ('conv', (3,)), ('add', (4, 3))]
        """
        cell, last = self.ops[first:], len(self.ops) - 1
        moved = {source: last} | {index: index + len(cell) for index in range(first, last + 1)}
        self.ops += [reading(op, tuple([moved[index] for index in op.inputs])) for op in cell]
        return len(self.ops) - 1

    def architecture(self, space: str, params: Params, outputs: Sequence[int] | None = None) -> Architecture:
        """Return the finished graph.

        Args:
            space: Name of the search space.
            params: The point of that space.
            outputs: Indices of the operators whose tensors the network returns, in any order: the logits of its exits.
                None: the last operator written.

        Raises:
            ValueError: If the outputs differ in shape, or one of them is no operator.
        """
        if outputs is None:
            return Architecture(space, dict(params), tuple(self.ops))
        network = Architecture(space, dict(params), tuple(self.ops), tuple(sorted(outputs)))
        shapes = [self.ops[index].shape for index in network.outputs]
        if len(set(shapes)) > 1:
            raise ValueError(f"expected outputs of one shape, logits of the same classes; got {shapes}")
        return network

    def _append(self, op: Op) -> int:
        self.ops.append(op)
        return len(self.ops) - 1

    def _window(self, source: int, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
        shape = self.ops[source].shape
        if len(shape) != 3:
            raise ValueError(f"expected an image (channels, height, width); got shape {shape}")
        height = (shape[1] + 2 * padding[0] - kernel[0]) // stride[0] + 1
        width = (shape[2] + 2 * padding[1] - kernel[1]) // stride[1] + 1
        if height < 1 or width < 1:
            raise ValueError(f"a window of {kernel} with padding {padding} does not fit into {shape}")
        return height, width


def _range_of(bits: int, range: str) -> str:
    """Forget the range of a tensor that has none, float or sign, so that equal networks have equal graphs."""
    return "tracked" if bits >= HALF or bits == 1 else range
