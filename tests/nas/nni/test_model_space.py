"""An NNI model space as a search space: parameters, graphs, a search by its file, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import subprocess
import sys
import threading
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from torch import nn

from nas.base import plugins
from nas.nni import check
from nas.nni import importing
from nas.nni.importing import imported
from nas.spaces import sample
from search_spaces.checking import check_space
from search_spaces.network import build

ROOT = Path(__file__).parents[3]
FILE = ROOT / "examples" / "nni_space" / "nni_convs.py"
needs_nni = pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="the extra [nni] is not installed")
TASK = ((1, 8, 8), 10)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setenv(plugins.TRUSTED, "")
    plugins.trust(str(FILE))
    return plugins.load("search_spaces", str(FILE), "make_space")(*TASK)


@pytest.fixture(scope="module")
def model_space():
    return imported("nas.nni.model_space")


@needs_nni
def test_the_choices_of_a_model_space_are_the_parameters_of_the_space(example):
    assert example.distributions == {
        "width": CategoricalDistribution([8, 16]),
        "activation": CategoricalDistribution(["relu", "hardswish"]),
        "depth": CategoricalDistribution([1, 2, 3]),
        **{f"layer{n}": CategoricalDistribution(["conv3", "depthwise5", "skip"]) for n in range(3)},
        "inputs": CategoricalDistribution(["0", "1", "0,1"]),
    }
    assert (example.name, example.input_shape, example.num_classes) == ("nni_convs", *TASK)


@needs_nni
def test_the_example_is_a_space_that_a_search_can_rely_on(example):
    check_space(example, points=5)


@needs_nni
def test_the_graph_computes_what_nnis_frozen_model_does(example):
    module = sys.modules[example.describe.args[1].func.__module__]
    nas = imported("nni.nas.space")
    rng = np.random.default_rng(0)
    records = torch.randn((3, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        point = sample(example.distributions, rng)
        chosen = {**point, "inputs": [int(number) for number in point["inputs"].split(",")]}
        with nas.model_context(chosen):
            frozen = module.Convs(1, 10).eval()
        network = build(example.decode(point)).eval()
        own, theirs = network.state_dict(), frozen.state_dict()
        if chosen["inputs"] == [0]:  # the layers are left out of the graph, as nobody reads them
            theirs = {name: tensor for name, tensor in theirs.items() if not name.startswith("layers")}
        network.load_state_dict(dict(zip(own, theirs.values(), strict=True)))
        with torch.inference_mode():
            torch.testing.assert_close(network(records), frozen(records), rtol=1e-4, atol=1e-5)


@needs_nni
def test_a_space_goes_to_another_process_and_its_descriptions_are_kept(example, model_space):
    again = pickle.loads(pickle.dumps(example))
    assert again.decode(example.reference).key == example.decode(example.reference).key
    before = model_space._network.cache_info().misses
    shuffled = dict(reversed(list(example.reference.items())))
    assert example.decode(shuffled).params == example.reference
    assert model_space._network.cache_info().misses == before


def line(width, classes, function=torch.relu):
    """Make a model space of two layers on vectors; defined where NNI is known."""
    pytorch, nni = imported("nni.nas.nn.pytorch"), imported("nni")

    class Line(pytorch.ModelSpace):
        def __init__(self):
            super().__init__()
            hidden = nni.choice("hidden", list(width))
            self.first = pytorch.MutableLinear(6, hidden)
            self.second = pytorch.MutableLinear(hidden, classes)

        def forward(self, x):
            return self.second(function(self.first(x)))

    return Line()


@needs_nni
def test_expressions_of_choices_and_signals_without_axes_do(model_space):
    space = model_space.space_of("line", partial(line, (4, 8), 3), (6,), 3)
    assert space.reference == {"hidden": 4}
    check_space(space, points=2)
    assert space.decode({"hidden": 8}).ops[1].shape == (8,)
    given = model_space.space_of("line", partial(line, (4, 8), 3), (6,), 3, reference={"hidden": 8})
    assert given.reference == {"hidden": 8}


@needs_nni
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (partial(nn.Linear, 6, 3), "expected a ModelSpace of NNI's for the space 'line'; got Linear"),
        (partial(line, (4,), 5), "the space 'line': expected 3 logits; its model gives (5,)"),
        (partial(line, (4, (8,)), 3), "the space 'line': expected numbers, texts, booleans or None to choose from"),
        (
            partial(line, (4,), 3, torch.sigmoid),
            "no network for {'hidden': 4}: no graph for call_function 'sigmoid': there is no operator for it",
        ),
    ],
)
def test_what_gives_no_space_is_refused(model_space, make, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        model_space.space_of("line", make, (6,), 3)


@needs_nni
def test_a_search_runs_over_a_model_space_by_its_file(nas, tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.TRUSTED, "")
    quick = ("--members", "60", "--references", "2", "--trials", "2", "--epochs", "1", "--workers", "1")
    result = nas(
        "search",
        "--space",
        FILE,
        "--dataset",
        "digits",
        "--name",
        "model",
        "--runs",
        tmp_path,
        "--set",
        "depth=1",
        *quick,
    )
    assert result.code == 0, result.err
    shown = nas("show", "model", "--runs", tmp_path, "--plugin", FILE, "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)


def test_without_nni_its_model_spaces_are_refused_in_one_line(monkeypatch):
    def version(name):
        if name == "nni":
            raise metadata.PackageNotFoundError(name)
        return "3.0"

    monkeypatch.setattr(check.metadata, "version", version)
    monkeypatch.delitem(sys.modules, "nas.nni.model_space", raising=False)
    expected = "expected NNI for a model space of NNI's; it is not installed: pip install 'gecko-nas[nni]'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        importlib.import_module("nas.nni.model_space")


@needs_nni
def test_a_model_space_needs_no_lightning():
    script = (
        "import sys\n"
        "sys.modules['pytorch_lightning'] = sys.modules['torchmetrics'] = None\n"
        f"sys.path.insert(0, {str(FILE.parent)!r})\n"
        "from nni_convs import make_space\n"
        "space = make_space((1, 8, 8), 10)\n"
        "print(len(space.decode(space.reference).ops))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) > 5


def test_what_imports_nni_may_import_more_that_does(tmp_path):
    def twice():
        with importing._alone(tmp_path / "lock"), importing._alone(tmp_path / "lock"):
            done.append(True)

    done = []
    thread = threading.Thread(target=twice, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert done == [True]
