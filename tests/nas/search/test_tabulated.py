"""A search over a table: what the file may hold, what a candidate's figures are, and what is refused."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from estimators.devices.fields import CannotRun
from nas.runs.run import open_run
from nas.search.config import parse_config
from nas.search.plan import resolve
from nas.search.schema import CAN_RUN
from nas.search.tabulated import read_tabulated
from nas.spaces import space_named
from search_spaces.nb201 import NAMES
from search_spaces.nb201 import OPERATORS
from search_spaces.space import SearchSpace
from tests.small_search import run_here

CELL = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
PARAMETERS = {
    "depth": IntDistribution(1, 4),
    "rate": FloatDistribution(0.0, 0.5),
    "bits": CategoricalDistribution([32, 8, "ternary"]),
    "norm": CategoricalDistribution([False, True]),
}
OWN = SearchSpace("own", (4,), 2, PARAMETERS, lambda _: None, {})
NB201 = space_named("nb201")


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def cells(count, operators=("skip_connect", "nor_conv_1x1", "nor_conv_3x3")):
    return [CELL.format(*chosen) for chosen in itertools.islice(itertools.product(operators, repeat=6), count)]


@pytest.fixture
def table(tmp_path):
    """All cells of two operators, with a made-up error that falls as the cell has more convolutions."""
    rows = [f"{cell},{0.9 - 0.1 * cell.count('conv_3x3')},{1 + cell.count('conv_3x3')}" for cell in cells(729)]
    return written(tmp_path / "cells.csv", "network,error,latency_ms", *rows)


def by_table(path, tmp_path, **changes):
    values = {"space": "nb201", "evaluator": "table", "data_path": str(path), "objectives": ["error", "latency_ms"]}
    return resolve(
        parse_config({**values, "device": "raspi4", "trials": 8, "workers": 1, **changes}), tmp_path / "runs"
    )


def test_a_column_for_each_parameter_is_read_as_a_sampler_draws_it(tmp_path):
    path = written(
        tmp_path / "own.csv", "bits,depth,norm,rate,error,my_score", "ternary,4,True,0.25,0.5,-3e2", "8,1,False,0,1,7"
    )
    found = read_tabulated(path, OWN)
    assert found.parameters == tuple(PARAMETERS)
    assert found.columns == ("error", "my_score")
    assert found.figures({"depth": 4, "rate": 0.25, "bits": "ternary", "norm": True, "epochs": 3}) == {
        "error": 0.5, "my_score": -300.0,
    }  # fmt: skip
    assert found.figures({"depth": 1, "rate": 0.0, "bits": 8, "norm": False}) == {"error": 1.0, "my_score": 7.0}
    with pytest.raises(CannotRun, match=r"^the table has no row for it$"):
        found.figures({"depth": 1, "rate": 0.0, "bits": 8, "norm": True})


def test_a_text_of_each_network_is_read_by_the_space_packed_or_not(tmp_path):
    lines = ["network,error", f"{CELL.format(*OPERATORS, 'none')},0.25", f"{cells(1)[0]},0.5"]
    plain = written(tmp_path / "cells.csv", *lines)
    packed = tmp_path / "cells.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        found = read_tabulated(path, NB201)
        assert found.figures(dict(zip(NAMES, (*OPERATORS, "none"), strict=True))) == {"error": 0.25}
        assert found.figures(dict.fromkeys(NAMES, "skip_connect")) == {"error": 0.5}


NO_TABLE = "expected a table of networks and their figures, as CSV with a header, at {}; got"
OF_OWN = "bits,depth,norm,rate,error"
REFUSED = {
    "percent": (
        NB201,
        ["network,error", f"{cells(1)[0]},31.8"],
        "expected 'error' as a share, from 0 to 1, in row 1 of {}; got '31.8'",
    ),
    "no number": (
        NB201,
        ["network,mine", f"{cells(1)[0]},1", f"{cells(2)[1]},"],
        "expected a finite number as 'mine', in row 2 of {}; got ''",
    ),
    "endless": (
        NB201,
        ["network,mine", f"{cells(1)[0]},inf"],
        "expected a finite number as 'mine', in row 1 of {}; got 'inf'",
    ),
    "twice": (
        NB201,
        ["network,error", *[f"{cells(1)[0]},0.1"] * 2],
        "expected each network once; that of row 2 of {} is there twice",
    ),
    "no figures": (NB201, ["network", cells(1)[0]], f"{NO_TABLE} 1 networks and 0 figures of each"),
    "no networks": (NB201, ["network,error"], f"{NO_TABLE} 0 networks and 1 figures of each"),
    "no column": (
        NB201,
        ["cell,error", "a,0.1"],
        (
            f"expected a column 'network' in {{}}, or one for each parameter of 'nb201'; missing: {list(NAMES)}, "
            "there are ['cell', 'error']"
        ),
    ),
    "another choice": (
        OWN,
        [OF_OWN, "8,1,True,0,0", "4,1,True,0,0"],
        "expected 'bits' to be one of [32, 8, 'ternary'], in row 2 of {}; got '4'",
    ),
    "out of range": (OWN, [OF_OWN, "8,5,True,0,0"], "expected 'depth' to be 1 to 4, in row 1 of {}; got '5'"),
    "half a layer": (OWN, [OF_OWN, "8,1.5,True,0,0"], "expected 'depth' to be 1 to 4, in row 1 of {}; got '1.5'"),
    "a text": (OWN, [OF_OWN, "8,two,True,0,0"], "expected 'depth' to be 1 to 4, in row 1 of {}; got 'two'"),
    "texts of a space without": (
        OWN,
        ["network,error", "a,0"],
        (
            "expected a column for each parameter of 'own', which reads no texts of networks: "
            "['depth', 'rate', 'bits', 'norm']; got a column 'network' in {}"
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_read_is_refused_with_its_row(tmp_path, case):
    space, lines, message = REFUSED[case]
    path = written(tmp_path / "table.csv", *lines)
    with pytest.raises(ValueError, match=r"\S") as refused:
        read_tabulated(path, space)
    assert str(refused.value) == message.format(path)


def test_a_text_that_is_no_network_is_refused_with_its_row(tmp_path):
    path = written(tmp_path / "table.csv", "network,error", f"{cells(1)[0]},0.1", "|conv|,0.1")
    with pytest.raises(ValueError, match=r"^expected a cell like .* got '\|conv\|', in row 2 of "):
        read_tabulated(path, NB201)


def test_figures_are_those_of_the_row_and_nothing_is_trained(table, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("trained")

    for place in ("build_bank", "assess", "train_first_stage"):
        monkeypatch.setattr(f"nas.search.bench.{place}", refuse)
    monkeypatch.setattr("nas.search.storage.train_baselines", refuse)
    plan = by_table(table, tmp_path)
    assert plan.distributions.keys() == set(NAMES)  # nothing of the recipe, no defence
    study = run_here(plan)
    trained = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trained) == 8
    for trial in trained:
        threes = sum(trial.params[name] == "nor_conv_3x3" for name in NAMES)
        assert trial.values == pytest.approx([0.9 - 0.1 * threes, 1 + threes])
        assert trial.user_attrs["latency_ms"] == 1 + threes  # in the place of the device's estimate
        assert "latency_ms_low" not in trial.user_attrs
        assert "weights_sha256" not in trial.user_attrs


def test_a_network_without_a_row_is_passed_over_and_counts_as_one_that_cannot_run(table, tmp_path):
    study = run_here(by_table(table, tmp_path, sampler="random"))
    passed_over = study.get_trials(states=(TrialState.PRUNED,))
    missing = [
        trial for trial in passed_over if "none" in trial.params.values() or "avg_pool_3x3" in trial.params.values()
    ]
    assert missing
    for trial in missing:
        assert trial.user_attrs["rejected"] == "cannot run on raspi4: the table has no row for it"
        assert trial.constraints[CAN_RUN] == 1.0


def test_limits_and_a_narrowed_space_hold_for_the_figures_of_the_table(table, tmp_path):
    plan = by_table(table, tmp_path, budgets={"latency_ms": 3}, set={"edge_0_1": "nor_conv_1x1"}, sampler="random")
    study = run_here(plan)
    for trial in study.get_trials(deepcopy=False):
        assert trial.params.get("edge_0_1", "nor_conv_1x1") == "nor_conv_1x1"
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert done
    assert max(trial.user_attrs["latency_ms"] for trial in done) <= 3
    with pytest.raises(ValueError, match=r"smallest latency_ms 1 \(limit 0\.5\)"):
        by_table(table, tmp_path, budgets={"latency_ms": 0.5})


def test_the_same_seed_asks_for_the_same_networks(table, tmp_path):
    first, second = (run_here(by_table(table, tmp_path / folder)) for folder in "ab")
    other = run_here(by_table(table, tmp_path / "c", seed=1))
    found = [[trial.params for trial in study.get_trials()] for study in (first, second, other)]
    assert found[0] == found[1] != found[2]


def test_a_run_goes_on_only_with_the_same_table(table, tmp_path):
    run_here(by_table(table, tmp_path, trials=3))
    content = table.read_text()
    assert len(run_here(by_table(table, tmp_path, trials=5)).get_trials(states=(TrialState.COMPLETE,))) == 5
    table.write_text(content.replace("0.9,", "0.91,"))
    with pytest.raises(ValueError, match=r"decide its numbers \(the table: other rows\)"):
        run_here(by_table(table, tmp_path, trials=6))


OTHERS = {
    "dataset": "cifar10",
    "members": 100,
    "attack": "loss",
    "defences": ["none"],
    "references": 2,
    "recipe": {"epochs": 3},
    "compressions": ["sparsity"],
    "engine": "nni",
    "error_ceiling": False,
    "teacher": {"edge_0_1": "none"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_settings_of_a_training_are_refused(table, tmp_path, name):
    with pytest.raises(ValueError, match=rf"has a use for: it trains nothing; got \['{name}'\]"):
        by_table(table, tmp_path, **{name: OTHERS[name]})


@pytest.mark.parametrize("name", ["leakage", "mean_latency_ms", "class_error:a", "errors"])
def test_an_objective_that_the_table_has_not_is_refused(table, tmp_path, name):
    with pytest.raises(
        ValueError, match=rf"^no objective '{name}' on raspi4 .*there are \['bit_operations', "
    ) as refused:
        by_table(table, tmp_path, objectives=["error", name])
    assert "class_error:NAME" not in str(refused.value)


def test_an_objective_may_be_any_column_of_the_table(tmp_path):
    rows = [f"{cell},{number}" for number, cell in enumerate(cells(729))]
    path = written(tmp_path / "scores.csv", "network,Regret", *rows)
    study = run_here(by_table(path, tmp_path, objectives=["Regret", "macs"], trials=3))
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        assert trial.values[0] == trial.user_attrs["Regret"]


def test_the_command_shows_the_front_goes_on_and_refuses_what_needs_a_training(nas, table, tmp_path):
    runs = tmp_path / "runs"
    flags = ("--space", "nb201", "--evaluator", "table", "--data-path", table, "--device", "raspi4", "--workers", 1)
    done = nas("search", *flags, "--objectives", "error,latency_ms", "--trials", 6, "--runs", runs)
    assert done.code == 0
    assert f"figures are looked up in {table}; nothing is trained" in done.out
    assert "nas audit" not in done.out
    shown = nas("show", "table-nb201", "--runs", runs)
    assert shown.out.startswith("table-nb201: 6 looked up, ")
    row = json.loads(nas("show", "table-nb201", "--json", "--runs", runs).out)["front"][0]
    assert row["recipe"] is None
    assert row["error"] == pytest.approx(0.9 - 0.1 * list(row["architecture"].values()).count("nor_conv_3x3"))
    message = (
        f"expected a run whose candidates were trained; those of 'table-nb201' were looked up in {table}, so there are "
        "no records and no weights"
    )
    for command in (("confirm",), ("pick",), ("audit",), ("audit", "--pick", 0)):
        failed = nas(command[0], "table-nb201", *command[1:], "--runs", runs)
        assert (failed.code, failed.err) == (2, f"nas: {message}\n")
    again = nas("search", runs / "table-nb201" / "config.toml", "--trials", 7, "--runs", runs)
    assert (again.code, again.err) == (0, "")
    run = open_run("table-nb201", runs)
    with pytest.raises(ValueError, match="were looked up in"):
        _ = run.plan.data
    assert not (runs / "table-nb201" / "picks").exists()
