"""The training version: trainings that must not change without raising it.

After a change that is meant to give other weights, raise `TRAINING_VERSION` and write the file anew:

    python -m tests.nas.training.test_training_version
"""

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.training.assess import Candidate
from nas.training.assess import set_up
from nas.training.assess import train_teacher
from nas.training.loop import TRAINING_VERSION
from nas.training.loop import logits_of
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces.graph.builder import GraphBuilder
from search_spaces.graph.operators import FUNCTIONS
from search_spaces.graph.operators import KINDS
from tests.defended import DEFENCES
from tests.defended import defended
from tests.defended import strongest_of

STORED = Path(__file__).with_name("training_version.json")
CLASSES, RECORDS = 3, 24


def plain(weight_bits=32, bits=32, range="tracked"):
    """A small CNN with weights and tensors of so many bits."""
    graph = GraphBuilder((2, 8, 8), bits=8 if bits in (8, 4, 3, 2, 1) else 32)
    x = graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), weight_bits=weight_bits)
    x = graph.activation(graph.norm(x), bits=bits, range=range)
    x = graph.depthwise(x, kernel=(3, 3), padding=(1, 1), weight_bits=weight_bits)
    x = graph.activation(graph.norm(x), bits=bits, range=range)
    x = graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(4, 4), stride=(4, 4))), CLASSES, bias=True)
    return graph.architecture("example", {"bits": bits, "weight_bits": weight_bits, "range": range})


def every_operator():
    """One operator of each kind and function."""
    graph = GraphBuilder((2, 8, 8))
    x = graph.norm(graph.conv(0, 4, kernel=(3, 3), padding=(1, 1), groups=2))
    for function in FUNCTIONS["activation"]:
        if function not in ("sign", "hardsigmoid"):
            x = graph.activation(graph.add(x, graph.zero(x)), function)
    x = graph.activation(x, bits=1)
    parts = [graph.pool(x, function, kernel=(2, 2), stride=(2, 2)) for function in FUNCTIONS["pool"]]
    x = graph.depthwise(graph.concat(*parts), kernel=(3, 3), padding=(1, 1))
    factors = graph.conv(graph.pool(x, "avg", kernel=(4, 4), stride=(4, 4)), 8, bias=True)
    x = graph.scale(x, graph.activation(factors, "hardsigmoid"))
    graph.linear(graph.flatten(x), CLASSES, bias=True)
    return graph.architecture("example", {})


def strided_shortcut():
    """A residual block of stride 2, whose shortcut is a 1x1 convolution that skips every other position."""
    graph = GraphBuilder((2, 8, 8))
    x = graph.activation(graph.norm(graph.conv(0, 4, kernel=(3, 3), padding=(1, 1))))
    main = graph.norm(graph.conv(x, 8, kernel=(3, 3), stride=(2, 2), padding=(1, 1)))
    x = graph.activation(graph.add(main, graph.conv(x, 8, kernel=(1, 1), stride=(2, 2))))
    graph.linear(graph.flatten(graph.pool(x, "avg", kernel=(4, 4), stride=(4, 4))), CLASSES, bias=True)
    return graph.architecture("example", {})


CANDIDATES = {
    "float": Candidate(plain(), Recipe(epochs=2, batch_size=8)),
    "every operator": Candidate(every_operator(), Recipe(epochs=2, batch_size=8)),
    **{f"{bits} bits": Candidate(plain(bits, bits), Recipe(epochs=2, batch_size=8)) for bits in (8, 4, 3, 2, 1)},
    **{
        f"{weights} weights": Candidate(plain(weights, tensors), Recipe(epochs=2, batch_size=8))
        for weights, tensors in (("ternary", 8), ("bf16", "bf16"), ("fp16", "fp16"))
    },
    "strided shortcut": Candidate(strided_shortcut(), Recipe(epochs=2, batch_size=8)),
    "learned ranges": Candidate(plain(4, 4, "learned"), Recipe(epochs=2, batch_size=8)),
    "sgd": Candidate(plain(), Recipe(epochs=2, batch_size=8, optimizer="sgd", weight_decay=0.1)),
    "flip-crop": Candidate(plain(), Recipe(epochs=2, batch_size=8, augment="flip-crop")),
    "dropout and smoothing": Candidate(plain(), Recipe(epochs=2, batch_size=8, dropout=0.5, label_smoothing=0.2)),
    "balanced classes": Candidate(plain(), Recipe(epochs=2, batch_size=8, class_weights="balanced")),
    **{
        f"defence {name}": Candidate(plain(4, 8), Recipe(epochs=2, batch_size=8), name, strongest_of(name))
        for name in DEFENCES
    },
}


def trained(candidate, look=None):
    """Train a candidate on fixed records; returns its weights' digest and its logits on the first four."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(RECORDS, 2, 8, 8)).astype(np.float32)
    labels = rng.integers(0, CLASSES, RECORDS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        setup = set_up(candidate, features, labels, seed=7)
        network = train(defended(candidate.defence, setup, train_teacher, candidate.defence_parameters), look=look)
        logits = logits_of(network, torch.from_numpy(features[:4]))
    finally:
        torch.set_num_threads(threads)
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return {"digest": digest.hexdigest()[:16], "logits": logits.round(5).tolist()}


def machine():
    """What the last digits depend on beside the program."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_processor()} PyTorch {torch.__version__}"


def _processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@pytest.fixture(scope="module")
def stored():
    return json.loads(STORED.read_text())


def test_every_kind_of_operator_is_trained():
    assert {op.kind for op in CANDIDATES["every operator"].architecture.ops} == set(KINDS)


def test_the_stored_trainings_are_of_this_version_and_all_there(stored):
    assert stored["version"] == TRAINING_VERSION
    assert stored["trainings"].keys() == CANDIDATES.keys()


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_training_gives_what_this_version_gave(stored, name):
    """To the bit on the processor and PyTorch of the stored ones; elsewhere sums may be taken in another order."""
    found, expected = trained(CANDIDATES[name]), stored["trainings"][name]
    np.testing.assert_allclose(
        found["logits"],
        expected["logits"],
        atol=2e-3,
        err_msg="these trainings give other numbers: raise TRAINING_VERSION if that is meant",
    )
    if stored["machine"] == machine():
        assert found["digest"] == expected["digest"], "other weights: raise TRAINING_VERSION if that is meant"


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_training_that_is_looked_at_gives_the_same_to_the_bit(name):
    """Whatever is done with the network of that moment, which is a copy, and with random numbers meanwhile."""
    seen = []

    def look(epochs, now):
        network = now()
        seen.append((epochs, network.training))
        torch.rand(7)
        network.train()(torch.randn(8, 2, 8, 8))
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.zero_()

    assert trained(CANDIDATES[name], look) == trained(CANDIDATES[name])
    assert seen == [(1, False)]


if __name__ == "__main__":
    trainings = {name: trained(candidate) for name, candidate in CANDIDATES.items()}
    content = {"version": TRAINING_VERSION, "machine": machine(), "trainings": trainings}
    STORED.write_text(json.dumps(content, indent=1) + "\n")
