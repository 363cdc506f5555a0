"""Prices of kernels that were met before: the networks of a space repeat their layers, and a look-up is quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from search_spaces.graph.architecture import Kernel

Owner = TypeVar("Owner")

MOST = 50_000
"""Kernels that are remembered; then it starts anew. A space of networks has some thousands."""
FIRST_NUMBER = Kernel._fields.index("macs")
"""Before it stand a kernel's kind and its place in the network, which is no part of its price."""


class Met:
    """What one function gave for the kernels of one device. Copies and other processes begin with nothing."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], float] = {}

    def __reduce__(self) -> tuple[type[Met], tuple[()]]:
        return Met, ()

    def price(self, kernel: Kernel, priced: Callable[[Kernel, Owner], float], device: Owner) -> float:
        """Return the price of a kernel.

        Args:
            kernel: The kernel.
            priced: What prices it by its numbers, whatever its place; what it raises is not remembered.
            device: The device, always the same one.

        >>> from search_spaces.graph.builder import GraphBuilder
        >>> graph = GraphBuilder((8,))
        >>> logits = graph.linear(graph.linear(0, 8), 8)
        >>> first, second = graph.architecture("example", {}).kernels
        >>> met = Met()
        >>> met.price(first, lambda kernel, _: kernel.macs, None), met.price(second, lambda *_: -1, None)
        (64, 64)
        """
        like = (kernel.kind, kernel[FIRST_NUMBER:])
        found = self._known.get(like)
        if found is None:
            found = priced(kernel, device)
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[like] = found
        return found
