"""What stands between a trained network and whoever asks it: a defence may coarsen or mask the answers.

Answers are a module, logits `(records, classes)` to logits `(records, classes)`, made by the defence's
`answers(**parameters)`. It is put on the network itself, so that nothing that asks the network in eval mode can miss
it: measures, oracles, shadows, post-training versions, the exported file. In train mode the network answers plainly.
The logits of several exits pass as they are: which exit answers is decided on them, and its logits get the answers
(`nas.training.exits.answer`).

A defence may also hold early answers back, so that their time does not tell the exit (`nas.pricing.exit_delays`). By
how much hangs on the network too: what is computed stays, and whoever times the network sees delayed answers
(`nas.audit.oracles`).

If answers learn something (buffers, parameters), it travels with the network's weights under `answers.`. To be
exported they need `write_onnx(write, constant, logits)`: it writes the same computation as ONNX operators by
`write(kind, inputs, name, **attributes)`, which returns the name of the operator's output, and
`constant(name, value)`, which returns the name of a constant, and returns the name of the answers.
"""

from __future__ import annotations

import copy
from typing import Any
from typing import TypeVar

from torch import Tensor
from torch import nn

NAME = "answers"
DELAY = "delay"
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def answering(network: AnyNetwork, answers: nn.Module | None, delay: float = 0.0) -> AnyNetwork:
    """Put answers on a network, and by how much early ones are held back, and return it; None and 0 leave it as it is.

    Args:
        network: What is asked.
        answers: What its logits pass through.
        delay: Standard deviation of the time by which answers of early exits are held back, as a share of the time
            between the first exit and the last; higher tells less of the exit; 0: nothing is held back.

    Raises:
        ValueError: If the network has answers or a delay already: a second layer would hide which one is measured.
    """
    if answers is None and not delay:
        return network
    if answers_of(network) is not None or delay_of(network):
        raise ValueError("expected a network without answers or delays of its own; it has some")
    setattr(network, DELAY, delay)
    if answers is None:
        return network
    network.add_module(NAME, answers.train(network.training))
    network.register_forward_hook(_answer)
    return network


def answers_of(network: nn.Module) -> nn.Module | None:
    """Return what was put on a network, None if nothing was."""
    return dict(network.named_children()).get(NAME)


def delay_of(network: nn.Module) -> float:
    """Return by how much a network's early answers are held back, as `answering` takes it; 0 if they are not."""
    return float(getattr(network, DELAY, 0.0))


def answering_as(network: AnyNetwork, other: nn.Module) -> AnyNetwork:
    """Put a copy of another network's answers on a network, and its delay, and return it."""
    return answering(network, copy.deepcopy(answers_of(other)), delay_of(other))


def _answer(network: nn.Module, _inputs: Any, logits: Tensor | tuple[Tensor, ...]) -> Tensor | None:
    answers = answers_of(network)
    if network.training or answers is None or isinstance(logits, tuple):
        return None
    answered: Tensor = answers(logits)
    return answered
