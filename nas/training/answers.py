"""What stands between a trained network and whoever asks it: a defence may coarsen or mask the answers.

Answers are a module, logits `(records, classes)` to logits `(records, classes)`, made by the defence's
`answers(**parameters)`. It is put on the network itself, so that nothing that asks the network in eval mode can miss
it: measures, oracles, shadows, post-training versions, the exported file. In train mode the network answers plainly.
The logits of several exits pass as they are: which exit answers is decided on them, and its logits get the answers
(`nas.training.exits.answer`).

If answers learn something (buffers, parameters), it travels with the network's weights under `answers.`. To be
exported they need `write_onnx(write, constant, logits)`: it writes the same computation as ONNX operators by
`write(kind, inputs, name, **attributes)`, which returns the name of the operator's output, and
`constant(name, value)`, which returns the name of a constant, and returns the name of the answers.
"""

from __future__ import annotations

from typing import Any
from typing import TypeVar

from torch import Tensor
from torch import nn

NAME = "answers"
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def answering(network: AnyNetwork, answers: nn.Module | None) -> AnyNetwork:
    """Put answers on a network and return it; None leaves it as it is.

    Raises:
        ValueError: If the network has answers already: a second layer would hide which one is measured.
    """
    if answers is None:
        return network
    if answers_of(network) is not None:
        raise ValueError("expected a network without answers of its own; it has some")
    network.add_module(NAME, answers.train(network.training))
    network.register_forward_hook(_answer)
    return network


def answers_of(network: nn.Module) -> nn.Module | None:
    """Return what was put on a network, None if nothing was."""
    return dict(network.named_children()).get(NAME)


def _answer(network: nn.Module, _inputs: Any, logits: Tensor | tuple[Tensor, ...]) -> Tensor | None:
    answers = answers_of(network)
    if network.training or answers is None or isinstance(logits, tuple):
        return None
    answered: Tensor = answers(logits)
    return answered
