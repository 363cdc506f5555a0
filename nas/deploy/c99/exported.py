"""What `nas export --format c99` does, without its printing: write a network as C sources that are judged first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nas.base import files
from nas.deploy import judging
from nas.deploy.c99.program import to_program
from nas.deploy.c99.reference import answers
from nas.deploy.c99.writing import sources
from nas.deploy.deployed import witnesses_of
from nas.deploy.judging import Judgement
from nas.deploy.judging import Tolerances
from nas.deploy.onnx_file import own_precision
from nas.runs.networks import UserNetwork
from search_spaces.graph.architecture import Architecture


@dataclass(frozen=True)
class ExportedCode:
    """C sources of a network.

    Attributes:
        folder: The folder that holds them.
        precision: One of `nas.deploy.onnx_file.PRECISIONS`.
        ram_bytes: Static memory for tensors.
        planned_bytes: The largest sum of tensors that live at one time: less is not possible.
        flash_bytes: Weights, scales and biases, which are constants.
        judgement: How the code differs from the network, on the same records.
    """

    folder: Path
    precision: str
    ram_bytes: int
    planned_bytes: int
    flash_bytes: int
    judgement: Judgement


def code_precisions(architecture: Architecture, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the precisions to write, by default that of the network as it was trained.

    Raises:
        ValueError: If one of those that were asked for is another network's: code packs a layer's weights at the bits
            they were trained in, or calibrates them to 8.
    """
    own = own_precision(architecture)
    possible = tuple(dict.fromkeys((own, "int8")))
    for precision in asked or ():
        if precision not in possible:
            told = " or ".join(possible)
            raise ValueError(f"expected {told} as the precision of this network's C99 code; got {precision}")
    return tuple(asked or (own,))


def write_code(found: UserNetwork, precision: str, folder: Path, tolerances: Tolerances | None = None) -> ExportedCode:
    """Write the C sources of a network into a folder of their own.

    A trained network's code must be as good as the network (`nas.deploy.judging`): what answers in its place is
    `nas.deploy.c99.reference`, which computes the same bit for bit. Of random weights nothing is judged.

    Args:
        found: The network.
        precision: One of `code_precisions`.
        folder: The folder; it is made.
        tolerances: How much worse than the network it may be; None: the usual ones.

    Raises:
        ValueError: If it is worse, or something of it has no rule in C; nothing is written.
    """
    program = to_program(found.architecture, found.network, precision, found.calibration, found.preprocessing)
    written = sources(program)
    judgement = judging.judge(
        partial(answers, program), found.network, found.check, witnesses_of(found), found.preprocessing
    )
    judging.check(judgement, precision, len(found.check), tolerances or Tolerances())
    for name, text in written.items():
        files.write_text(folder / name, text)
    return ExportedCode(folder, precision, program.ram_bytes, program.planned_bytes, program.flash_bytes, judgement)
