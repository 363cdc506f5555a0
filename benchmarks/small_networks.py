"""Small networks of ST's model zoo, as graphs, and what they were measured to take on microcontrollers.

The graphs follow the zoo's model definitions (STMicroelectronics/stm32ai-modelzoo, 2022 to 2025: human activity, hand
posture, arc fault and audio event detection); their parameters equal the published ones, where a batch norm counts its
running statistics too. The figures are typed from the
zoo's tables. The board is the B-U585I-IOT02A, whose chip is the STM32U575's with an encryption unit added, and in one
case an STM32F401. Versions of the engine differ, so each row names its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from search_spaces.graph.architecture import Architecture
from search_spaces.graph.architecture import Pair
from search_spaces.graph.builder import GraphBuilder


def ign(samples: int, bits: int) -> Architecture:
    """The network of Ignatov (2018) for human activity, as ST changed it: a window of `samples` of three axes."""
    graph = GraphBuilder((1, samples, 3), bits=bits)
    x = _conv(graph, 0, 24, (16, 1), bits=bits, function="relu")
    x = graph.pool(x, "max", kernel=(3, 1), stride=(3, 1))
    x = graph.activation(graph.linear(graph.flatten(x), 12, bias=True, weight_bits=bits), "identity", bits=bits)
    graph.linear(x, 4, bias=True, weight_bits=bits)
    return graph.architecture("ign", {"samples": samples, "bits": bits})


def gmp(samples: int, bits: int) -> Architecture:
    """ST's network for human activity with a global pooling by the maximum, and a norm before each convolution."""
    graph = GraphBuilder((1, samples, 3), bits=bits)
    x = graph.conv(graph.norm(0, bits=bits), 16, kernel=(5, 1), bias=True, weight_bits=bits)
    x = graph.activation(graph.norm(x, bits=bits), "identity", bits=bits)
    x = _conv(graph, x, 16, (5, 1), bits=bits, function="identity")
    size = graph.ops[x].shape[1:]
    x = graph.pool(x, "max", kernel=(size[0], size[1]), stride=(size[0], size[1]))
    graph.linear(graph.flatten(x), 4, bias=True, weight_bits=bits)
    return graph.architecture("gmp", {"samples": samples, "bits": bits})


def hand_posture(bits: int = 32) -> Architecture:
    """ST's network for hand postures on 8x8 distances and signals, eight classes."""
    graph = GraphBuilder((2, 8, 8), bits=bits)
    x = graph.pool(_conv(graph, 0, 8, (3, 3), bits=bits, function="relu"), "max", kernel=(2, 2), stride=(2, 2))
    x = graph.activation(graph.linear(graph.flatten(x), 32, bias=True, weight_bits=bits), bits=bits)
    graph.linear(x, 8, bias=True, weight_bits=bits)
    return graph.architecture("hand_posture", {"bits": bits})


def st_conv() -> Architecture:
    """ST's convolutions over 512 samples of one channel for arc faults; padding alternates, since windows are even."""
    graph = GraphBuilder((1, 1, 512), bits=8)
    x = 0
    for padding in (4, 3, 4, 3):
        x = graph.conv(x, 6, kernel=(1, 8), padding=(0, padding), bias=True, weight_bits=8)
        x = graph.activation(graph.norm(x), bits=8)
    return _dense(graph, graph.flatten(x), "st_conv")


def st_dense() -> Architecture:
    """ST's fully connected network over 512 frequencies for arc faults, a batch norm before it."""
    graph = GraphBuilder((512,), bits=8)
    return _dense(graph, graph.norm(0, bits=8), "st_dense")


def mini_resnet(stacks: int) -> Architecture:
    """ST's small ResNet for sounds, on spectrograms of 64x50, ten classes, without a pooling at the end."""
    graph = GraphBuilder((1, 64, 50), bits=8)
    x = _normed(graph, 0, 64, 7, 2)
    x = graph.pool(x, "max", kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    for stack in range(stacks):
        channels = 64 * 2**stack
        for stride in (2, 1):
            beside = x if stride == 1 else _normed(graph, x, channels, 1, stride, function="identity")
            main = _normed(graph, _normed(graph, x, channels, 1, stride), channels, 3, 1)
            x = graph.activation(graph.add(beside, main), bits=8)
    graph.linear(graph.flatten(x), 10, bias=True, weight_bits=8)
    return graph.architecture("mini_resnet", {"stacks": stacks})


@dataclass(frozen=True)
class Small:
    """A small network and what was measured of it.

    Attributes:
        name: Of the row.
        build: Makes its graph.
        engine: With its version.
        latency_ms: On the board.
        activation_kib: RAM for tensors and scratch.
        ram_kib: All RAM.
        flash_kib: All flash.
        mhz: Clock of the board.
    """

    name: str
    build: Callable[[], Architecture]
    engine: str
    latency_ms: float
    activation_kib: float
    ram_kib: float
    flash_kib: float
    mhz: float = 160.0

    @property
    def kind(self) -> str:
        """What it is left out with."""
        return self.build().space

    @property
    def cycles(self) -> float:
        """Measured, of the board's clock."""
        return self.latency_ms * self.mhz * 1e3


IN_FLOAT = (
    Small("ign 24, float", partial(ign, 24, 32), "STM32Cube.AI 10.0.0", 2.25, 2.03, 3.94, 25.58),
    Small("ign 48, float", partial(ign, 48, 32), "STM32Cube.AI 10.0.0", 8.17, 4.56, 6.47, 52.58),
    Small("gmp 24, float", partial(gmp, 24, 32), "STM32Cube.AI 10.0.0", 4.42, 4.25, 6.33, 18.96),
    Small("gmp 48, float", partial(gmp, 48, 32), "STM32Cube.AI 10.0.0", 10.64, 8.83, 10.91, 18.96),
)
"""In floating point, on the B-U585I-IOT02A (Cortex-M33, 160 MHz). IGN took 2.224 and 8.085 ms with version 8.1.0."""

ON_CORTEX_M4 = Small("hand posture, float", hand_posture, "STM32Cube.AI 10.0.0", 1.54, 1.07, 3.15, 25.12, mhz=84.0)
"""In floating point, on an STM32F401."""

OLD = "X-CUBE-AI 8.1.0"
IN_INT8 = (
    Small("ign 24", partial(ign, 24, 8), OLD, 0.804, 1.63, 4.38, 36.53),
    Small("ign 48", partial(ign, 48, 8), OLD, 2.802, 2.33, 5.08, 43.30),
    Small("gmp 24", partial(gmp, 24, 8), OLD, 2.6347, 4.73, 7.48, 39.39),
    Small("gmp 48", partial(gmp, 48, 8), OLD, 6.337, 6.98, 9.73, 39.39),
    Small("st_conv", st_conv, "ST Edge AI Core 3.0.0", 8.92, 9.17, 10.47, 64.08),
    Small("st_dense", st_dense, "ST Edge AI Core 3.0.0", 0.26, 2.0, 3.3, 16.28),
    Small("mini_resnet 1", partial(mini_resnet, 1), "STM32Cube.AI 10.0.0", 92.25, 59.89, 65.27, 180.5),
    Small("mini_resnet 2", partial(mini_resnet, 2), "STM32Cube.AI 10.0.0", 142.69, 59.89, 68.26, 494.9),
)
"""In int8, on the B-U585I-IOT02A (Cortex-M33, 160 MHz)."""


def _conv(graph: GraphBuilder, x: int, channels: int, window: Pair, *, bits: int, function: str) -> int:
    x = graph.conv(x, channels, kernel=window, bias=True, weight_bits=bits)
    return graph.activation(x, function, bits=bits)


def _normed(graph: GraphBuilder, x: int, channels: int, side: int, stride: int, *, function: str = "relu") -> int:
    padding = (side // 2, side // 2)
    x = graph.conv(x, channels, kernel=(side, side), stride=(stride, stride), padding=padding, bias=True, weight_bits=8)
    return graph.activation(graph.norm(x), function, bits=8)


def _dense(graph: GraphBuilder, x: int, name: str) -> Architecture:
    for features in (16, 8):
        x = graph.activation(graph.norm(graph.linear(x, features, bias=True, weight_bits=8)), bits=8)
    graph.linear(x, 2, bias=True, weight_bits=8)
    return graph.architecture(name, {})
