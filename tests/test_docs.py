"""The documentation's plug-ins run as they stand, all of them in one search."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from estimators.devices.files import load_device
from nas.base import plugins
from nas.search import study as search
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.storage import open_study

ADDING = Path(__file__).parents[1] / "docs" / "adding.md"


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blocks = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', ADDING.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    package = tmp_path / "documented"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, source in blocks:
        (package / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.startswith("documented")]:
        del sys.modules[name]


def test_a_search_made_of_documented_plugins_runs(documented: Path, tmp_path: Path) -> None:
    config = parse_config(
        {
            "name": "documented",
            "space": "documented.tiny_space",
            "dataset": "documented.two_moons",
            "attack": "documented.margin",
            "defences": ["none", "documented.gradient_noise"],
            "defence_parameters": {"documented.gradient_noise": {"strength": {"low": 0.1, "high": 0.5}}},
            "recipe": {"epochs": 2},
            "trials": 3,
        }
    )
    plan = resolve(config, tmp_path / "runs")
    study = open_study(plan)
    search.work(plan, study)
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 3
    assert all(0 <= trial.user_attrs["leakage"] <= 1 for trial in trained)
    defended = [trial for trial in trained if trial.params["defence"] == "documented.gradient_noise"]
    assert all(0.1 <= trial.user_attrs["defence_parameters"]["strength"] <= 0.5 for trial in defended)
    assert defended


@pytest.mark.usefixtures("documented")
def test_the_documented_metric_counts_by_hand() -> None:
    space = plugins.load("search_spaces", "documented.tiny_space", "make_space")((4,), 2)
    estimate = plugins.load("estimators.cost", "documented.weight_reads_kib", "estimate")
    # 4 x 8 weights of 4 bits and 8 x 2 of 8 bits are 16 + 16 bytes.
    network = space.decode({"width": 8, "weight_bits": 4})
    assert estimate(network, load_device("stm32h747")).value == pytest.approx(32 / 1024)
