"""`nas show` and `nas pick`: looking at a run and choosing from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nas.base import files
from nas.base import plugins
from nas.runs.run import open_run
from nas.search import bench
from nas.search.config import load_config
from nas.search.plan import resolve
from nas.search.storage import ORIGIN
from nas.search.storage import load_study
from nas.training.assess import MEASURED
from nas.training.assess import assess
from nas.training.assess import measure
from search_spaces.network import build
from tests.small_search import SMALL

# Looking at a run.


def test_a_run_that_does_not_exist_lists_those_that_do(refused, own_run):
    runs = own_run.runs
    for command in (("show", "large"), ("pick", "large"), ("estimate", "large:0")):
        assert refused(*command, runs=runs) == f"no run 'large' in {runs}; there are ['small']"
    url = own_run.folder / "journal.log"
    assert refused("show", "large", "--storage", url) == "no study 'large' in the storage; there are ['small']"


def test_nothing_trained_yet(nas, tmp_path, interrupted):
    runs = ("--runs", tmp_path)
    nas("search", *SMALL, "--name", "small", *runs)
    shown = nas("show", "small", *runs)
    assert (shown.code, shown.out.splitlines()[1]) == (0, "no candidate has finished training yet")
    assert json.loads(nas("show", "small", "--json", *runs).out)["front"] == []
    picked = nas("pick", "small", *runs)
    assert (picked.code, picked.out) == (2, "")
    assert picked.err == "nas: expected a trained candidate to pick; no candidate has finished training yet\n"


def test_show_prints_the_front_and_what_became_of_the_rest(nas, trained_run):
    study = load_study("small", trained_run.folder, None)
    result = nas("show", "small", "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "small: 5 trained, 5 screened, 0 rejected, 0 duplicate"
    assert max(map(len, lines)) <= 140
    shown = [int(line.split()[0]) for line in lines[4:] if re.match(r" *\d+ ", line) and "W" in line]
    assert sorted(shown) == sorted(trial.number for trial in study.best_trials)
    assert nas("show", trained_run.folder).out == result.out  # a folder is as good as a name


def test_show_gives_json_with_every_number_and_its_interval(nas, trained_run):
    result = nas("show", "small", "--json", "--runs", trained_run.runs)
    assert (result.code, result.err) == (0, "")
    shown = json.loads(result.out)
    assert shown["name"] == "small"
    assert shown["counts"] == {
        "screened": 5, "trained": 5, "rejected": 0, "duplicates": 0, "diverged": 0, "out_of_memory": 0, "running": 0
    }  # fmt: skip
    best = {trial.number: trial for trial in load_study("small", trained_run.folder, None).best_trials}
    assert {row["number"] for row in shown["front"]} == best.keys()
    for row in shown["front"]:
        trial = best[row["number"]]
        assert [row["error"], row["leakage"], row["latency_ms"]] == trial.values
        assert {
            "params",
            "macs",
            "flash_kib",
            "peak_ram_kib",
            "bits",
            "defence",
            "recipe",
            "architecture",
        } <= row.keys()
        for name in ("error", "leakage", "tpr_at_1pct_fpr", "loss_auc", "latency_ms"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


# Picking.


def test_pick_takes_the_knee_and_says_so(nas, own_run, picked):
    chosen = picked()
    assert chosen["reason"].startswith("knee of the front: ")
    front = json.loads(own_run.printed)["front"]
    assert chosen["picked"] in front
    printed = nas("pick", "small", "--runs", own_run.runs)
    assert printed.out.startswith(f"candidate {chosen['picked']['number']}: knee of the front: ")
    assert printed.out.endswith(f"written to {chosen['folder']}\n")


def test_pick_within_limits_prefers_what_it_is_told(own_run, picked):
    trials = load_study("small", own_run.folder, None).trials
    by_params = sorted(trials, key=lambda trial: trial.user_attrs["params"])
    limit = by_params[1].user_attrs["params"]
    chosen = picked("--max", f"params={limit}", "--prefer", "error")
    expected = min(by_params[:2], key=lambda trial: trial.user_attrs["error"])
    assert chosen["picked"]["number"] == expected.number
    assert (
        chosen["reason"] == f"lowest error ({expected.user_attrs['error']:.4g}) of the 2 candidates within the limits"
    )


def test_limits_nobody_meets_name_the_nearest_and_what_fails(nas, own_run):
    trials = load_study("small", own_run.folder, None).trials
    nearest = min(trials, key=lambda trial: trial.user_attrs["error"])
    failed = f"error {nearest.user_attrs['error']:.4g} > 0.001"
    limits = ("--max", "error=0.001", "--max", "leakage=1", "--runs", own_run.runs)
    result = nas("pick", "small", *limits)
    assert (result.code, result.out) == (2, "")
    line = f"nas: no candidate meets the limits; candidate {nearest.number} is nearest: {failed}\n"
    assert result.err == line
    result = nas("pick", "small", *limits, "--json")
    assert (result.code, result.err) == (2, line)
    told = json.loads(result.out)
    assert (told["picked"], told["nearest"]["number"], told["failed"]) == (None, nearest.number, [failed])
    assert not (own_run.folder / "picks").exists()


@pytest.mark.parametrize("flags", [("--max", "speed=1"), ("--prefer", "speed"), ("--prefer", "leakage_low")])
def test_an_unknown_metric_to_pick_by_lists_those_that_were_measured(refused, own_run, flags):
    line = refused("pick", "small", *flags, runs=own_run.runs)
    name = flags[1].split("=")[0]
    known = sorted([*MEASURED, "bit_operations", "flash_kib", "latency_ms", "macs", "params", "peak_ram_kib"])
    assert line == f"no metric {name!r} in this run; there are {known}"


def measured(folder, plan):
    """Build what `nas pick` wrote and measure it as the search did."""
    described = files.read_json(folder / "architecture.json")
    space = plugins.load("search_spaces", described["space"], "make_space")(
        tuple(described["input_shape"]), described["num_classes"]
    )
    architecture = space.decode(described["params"])
    assert architecture.key == described["key"]
    network = build(architecture)
    network.load_state_dict(files.read_weights(folder / "weights.safetensors"))
    return measure(network.eval(), bench.make_bench(plan))


def test_what_pick_writes_is_the_network_that_was_measured(own_run, picked):
    plan = resolve(load_config(own_run.folder / "config.toml", {}), own_run.runs)
    for trial in load_study("small", own_run.folder, None).trials:
        limits = ("--max", f"params={trial.user_attrs['params']}", "--max", f"error={trial.user_attrs['error']}")
        chosen = picked(*limits, "--prefer", "leakage")
        folder = Path(chosen["folder"])
        assert folder == own_run.folder / "picks" / str(chosen["picked"]["number"])
        written = ["architecture.json", "card.md", "preprocessing.json", "weights.safetensors"]
        assert sorted(path.name for path in folder.iterdir()) == written
        assert (folder / "card.md").read_text().startswith(f"# Candidate {chosen['picked']['number']} of small\n")
        for name, estimate in measured(folder, plan).items():
            assert estimate.value == chosen["picked"][name]


def test_weights_that_are_not_here_are_trained_again_to_the_same_numbers(own_run, picked):
    first = Path(picked()["folder"]) / "weights.safetensors"
    before = first.read_bytes()
    first.unlink()
    models = own_run.folder / "models"
    for path in models.iterdir():
        path.unlink()
    chosen = picked()
    assert first.read_bytes() == before
    (trained,) = models.iterdir()  # that one, and no other
    assert trained.stem == chosen["picked"]["key"]


def test_weights_are_trained_again_with_one_thread_as_workers_do(nas, own_run):
    (own_run.folder / "models").rename(own_run.folder / "gone")
    torch.set_num_threads(2)
    try:
        for number in range(5):
            run = open_run("small", own_run.runs)
            run.weights(run.trained(number))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_weights_of_a_run_that_was_renamed_are_trained_again_too(nas, own_run):
    moved = own_run.folder.rename(own_run.runs / "renamed")
    (moved / "models").rename(moved / "gone")
    result = nas("pick", "renamed", "--runs", own_run.runs)
    assert (result.code, result.err) == (0, "")
    assert not own_run.folder.exists()
    assert list((moved / "picks").rglob("weights.safetensors"))


def test_weights_cannot_be_trained_again_on_other_data(refused, own_run):
    study = load_study("small", own_run.folder, None)
    study.set_user_attr(ORIGIN, {**study.user_attrs[ORIGIN], "fingerprint": "of other data"})
    (own_run.folder / "models").rename(own_run.folder / "gone")
    line = refused("pick", "small", runs=own_run.runs)
    assert "(the data: other records, or other sets of them); go on with what it was started with" in line


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, "cut", "zeroed"])
def test_weights_that_are_not_those_that_were_measured_are_refused(refused, own_run, damage):
    for path in (own_run.folder / "models").iterdir():
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "zeroed":
            path.write_bytes(safetensors.torch.save({name: 0 * t for name, t in files.read_weights(path).items()}))
        else:
            path.write_bytes(damage)
    for command in (("pick", "small"), ("audit", "small", "--pick", 1)):
        line = refused(*command, runs=own_run.runs)
        assert re.match(
            r"expected the weights that were measured, SHA-256 \w{16}, in \S+; got \w{16}: put the file", line
        )


def test_weights_trained_again_that_are_not_those_that_were_measured_are_refused(nas, own_run, monkeypatch):
    (own_run.folder / "models").rename(own_run.folder / "gone")

    def rounded_otherwise(candidate, bench):
        assessment = assess(candidate, bench)
        with torch.no_grad():
            next(assessment.network.parameters()).mul_(1 + 1e-6)
        return assessment

    monkeypatch.setattr("nas.search.bench.assess", rounded_otherwise)
    result = nas("pick", "small", "--runs", own_run.runs)
    assert result.code == 2
    assert re.search(r"are not in \S+, and trained again they are not those that were measured: fetch", result.err)
    assert not (own_run.folder / "picks").exists()
    assert not list((own_run.folder / "models").iterdir())


def test_a_changed_pick_is_not_exported(nas, own_run, picked):
    folder = Path(picked()["folder"])
    weights = folder / "weights.safetensors"
    before = weights.read_bytes()
    for content in (b"", before[:-1]):
        weights.write_bytes(content)
        result = nas("export", folder, "--runs", own_run.runs)
        assert result.code == 2
        assert re.match(
            r"nas: expected the weights that were measured in \S+; got others: pick the candidate again", result.err
        )
    weights.write_bytes(before)
    described = files.read_json(folder / "architecture.json")
    files.write_json(folder / "architecture.json", {k: v for k, v in described.items() if k != "weights_sha256"})
    assert "expected the digest of the weights as 'weights_sha256'" in nas("export", folder).err
