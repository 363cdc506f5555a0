"""`nas show` and `nas pick`: looking at a run and choosing from it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from estimators.estimate import from_flat
from nas.base import files
from nas.base import plugins
from nas.base.weights import read_weights
from nas.pricing.limits import budget_limits
from nas.runs.run import open_run
from nas.search import bench
from nas.search.config import load_config
from nas.search.plan import resolve
from nas.search.schema import BETWEEN
from nas.search.schema import LIMITS
from nas.search.storage import DATA
from nas.search.storage import ORIGIN
from nas.search.storage import load_study
from nas.split_overview import overview_in
from nas.training.assess import assess
from nas.training.assess import measure
from nas.training.assess import set_up
from nas.training.loop import train
from nas.training.measures import MEASURED
from nas.training.schedule import seed_from
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
    assert (shown.code, shown.out.splitlines()[5]) == (0, "no candidate has finished training yet")
    told = json.loads(nas("show", "small", "--json", *runs).out)
    assert (told["front"], told["nearest"]) == ([], [])
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
        "screened": 5, "trained": 5, "rejected": 0, "duplicates": 0, "diverged": 0, "out_of_memory": 0, "died": 0,
        "running": 0, "stopped": 0, "spent": 5.0,
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


def test_show_says_what_holds_and_what_quick_models_reach(nas, trained_run):
    told = json.loads(nas("show", "small", "--json", "--runs", trained_run.runs).out)
    ram, flash = (1024.0, "1,024 KiB of RAM"), (2048.0, "2,048 KiB of flash")
    assert told["limits"] == [
        {"metric": metric, "value": value, "reason": f"stm32h747 has {what}", "kind": "device"}
        for metric, (value, what) in (("peak_ram_kib", ram), ("flash_kib", flash))
    ]
    assert [row["name"] for row in told["baselines"]] == ["majority class", "logistic regression", "random forest"]
    for row in told["baselines"]:
        assert row["error_low"] < row["error"] < row["error_high"]
        assert row["loss_auc_low"] < row["loss_auc"] < row["loss_auc_high"]
        assert row["members"] == 120
    assert told["nearest"] == []
    assert all(row["fits"] is True for row in told["front"])
    printed = nas("show", "small", "--runs", trained_run.runs).out
    assert "\nlimit flash_kib=2048: stm32h747 has 2,048 KiB of flash; --no-device-limits looks beyond\n" in printed
    assert re.search(r"\nscikit-learn on the same members *\n", printed)
    number = r"0\.\d+ \(0\.\d+ to 0\.\d+\)"
    assert re.search(rf"\nrandom forest +{number} +{number} +120 *\n", printed)


# Picking.


def shrunk(run, flash_kib):
    """Let the study of a run say that its device has less flash than the search kept to."""
    study = load_study("small", run.folder, None)
    memory = [{"metric": "flash_kib", "value": flash_kib, "reason": "it has little", "kind": "device"}]
    study.set_user_attr("device_memory", memory)
    study.set_user_attr("limits", [])
    return sorted(study.trials, key=lambda trial: trial.user_attrs["flash_kib"])


def test_a_pick_keeps_to_the_device_even_where_the_search_did_not(nas, own_run, picked):
    by_flash = shrunk(own_run, 1.0)
    second = by_flash[1].user_attrs["flash_kib"]
    shrunk(own_run, second)
    chosen = picked("--prefer", "error", "--max", "flash_kib=9999")
    assert chosen["picked"]["number"] in {trial.number for trial in by_flash[:2]}
    assert chosen["picked"]["fits"] is True
    assert chosen["limits"] == [{"metric": "flash_kib", "value": second, "reason": "it has little", "kind": "device"}]
    wanted = ("--prefer", "error", "--no-device-limits")
    best = min(by_flash, key=lambda trial: trial.user_attrs["error"])
    assert picked(*wanted)["picked"]["number"] == best.number
    shown = nas("show", "small", "--runs", own_run.runs).out
    for trial in load_study("small", own_run.folder, None).best_trials:
        flash = trial.user_attrs["flash_kib"]
        line = f"candidate {trial.number} does not fit: flash_kib {flash:.4g} > {second:.4g} (it has little)\n"
        assert (line in shown) == (flash > second)


def test_a_pick_that_does_not_fit_is_marked(nas, own_run):
    smallest = shrunk(own_run, 0.001)[0]
    result = nas("pick", "small", "--runs", own_run.runs)
    assert (result.code, result.out) == (2, "")
    what = f"flash_kib {smallest.user_attrs['flash_kib']:.4g} > 0.001 (it has little)"
    assert result.err.endswith(f"candidate {smallest.number} is nearest: {what}; --no-device-limits looks beyond\n")
    result = nas("pick", "small", "--no-device-limits", "--json", "--runs", own_run.runs)
    assert result.code == 0
    told = json.loads(result.out)
    assert (told["picked"]["fits"], told["limits"]) == (False, [])
    assert "\n- **does not fit the device**: flash_kib " in (Path(told["folder"]) / "card.md").read_text()
    printed = nas("pick", "small", "--no-device-limits", "--runs", own_run.runs).out
    assert f"\ncandidate {told['picked']['number']} does not fit: flash_kib " in printed


# Picking within limits.


def test_pick_takes_the_knee_and_says_so(nas, own_run, picked):
    chosen = picked()
    assert chosen["reason"].startswith("knee of the front within the limits: ")
    front = json.loads(own_run.printed)["front"]
    assert chosen["picked"] in front
    printed = nas("pick", "small", "--runs", own_run.runs)
    assert printed.out.startswith(f"candidate {chosen['picked']['number']}: knee of the front within the limits: ")
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


@pytest.mark.parametrize("flags", [("--max", "speed=1"), ("--prefer", "speed"), ("--prefer", "speed_low")])
def test_an_unknown_metric_to_pick_by_lists_those_that_were_measured(refused, own_run, flags):
    line = refused("pick", "small", *flags, runs=own_run.runs)
    name = flags[1].split("=")[0]
    known = sorted([*MEASURED, "bit_operations", "flash_kib", "latency_ms", "macs", "params", "peak_ram_kib"])
    first, second = line.split("; ")
    assert re.fullmatch(rf"no metric {name!r} in this run \(ends: (\w+)_low, \1_high\)", first)
    assert second == f"there are {[*known, 'class_error_NAME']}"


@pytest.mark.parametrize("flags", [("--max", "error_hihg=0.2"), ("--prefer", "error_hihg")])
def test_a_misspelt_end_of_an_interval_names_the_ends(refused, own_run, flags):
    line = refused("pick", "small", *flags, runs=own_run.runs)
    assert line.startswith("no metric 'error_hihg' in this run (ends: error_low, error_high); there are [")


def test_an_unknown_class_to_pick_by_lists_the_classes(refused, own_run):
    line = refused("pick", "small", "--max", "class_error_cat=0.1", runs=own_run.runs)
    assert line == f"no metric 'class_error_cat' in this run; there are {[f'class_error_{n}' for n in range(10)]}"


def measured(folder, plan):
    """Build what `nas pick` wrote and measure it as the search did."""
    described = files.read_json(folder / "architecture.json")
    space = plugins.load("search_spaces", described["space"], "make_space")(
        tuple(described["input_shape"]), described["num_classes"]
    )
    architecture = space.decode(described["params"])
    assert architecture.key == described["key"]
    network = build(architecture)
    network.load_state_dict(read_weights(folder / "weights.safetensors"))
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
        by_class = {f"class_error_{row['class']}": row["error"] for row in chosen["picked"]["by_class"]}
        for name, estimate in measured(folder, plan).items():
            assert estimate.value == {**chosen["picked"], **by_class}[name]


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
            path.write_bytes(safetensors.torch.save({name: 0 * t for name, t in read_weights(path).items()}))
        else:
            path.write_bytes(damage)
    for command in (("pick", "small"), ("audit", "small", "--pick", 1)):
        line = refused(*command, runs=own_run.runs)
        assert re.match(
            r"expected the weights that were measured, SHA-256 \w{16}, in \S+; got \w{16}: put the file", line
        )


def test_weights_trained_again_that_are_not_those_that_were_measured_are_refused(nas, own_run, monkeypatch):
    (own_run.folder / "models").rename(own_run.folder / "gone")

    def rounded_otherwise(candidate, bench, _looks=None, _begin=None):
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


def test_show_says_what_became_of_the_records(nas, trained_run):
    shown = nas("show", "small", "--runs", trained_run.runs)
    study = load_study("small", trained_run.folder, None)
    for sentence in overview_in(study.user_attrs[DATA]).sentences:
        assert sentence in shown.out
    told = json.loads(nas("show", "small", "--runs", trained_run.runs, "--json").out)["data"]
    assert told == study.user_attrs[DATA]
    assert told["sets"]["members"] == 120


# What trainings vary by.


def test_show_and_the_card_say_what_intervals_are_for(nas, own_run, picked):
    study = load_study("small", own_run.folder, None)
    # Two references; their share is that of the records, which makes intervals wider by the root of 2.
    shown = nas("show", "small", "--runs", own_run.runs).out.splitlines()
    place = shown.index("how far trainings of one recipe differ is not known here: it counts as much as the records")
    meant = "intervals of error and leakage hold this: they are for a network trained anew by a candidate's recipe"
    narrower = "for the network at hand: 1.4 times narrower of the leakage, 1.4 times of the error"
    assert shown[place + 1 : place + 3] == [meant, narrower]
    assert meant in nas("pick", "small", "--runs", own_run.runs).out.splitlines()
    told = json.loads(nas("show", "small", "--json", "--runs", own_run.runs).out)
    assert told[BETWEEN] == study.user_attrs[BETWEEN]
    assert told[BETWEEN]["leakage"] == {"share": 1.0, "sd": 0.0, "pairs": 0}
    known = {"share": 0.0, "sd": 0.0123, "pairs": 4}
    study.set_user_attr(BETWEEN, {**told[BETWEEN], "leakage": known, "error": {**known, "share": 2, "sd": 0.002}})
    card = (Path(picked()["folder"]) / "card.md").read_text()
    differ = "- trainings of one recipe differ by a standard deviation of 0.012 in leakage and 0.002 in error (4 pairs"
    assert differ in card
    assert "- for the network at hand: 1 times narrower of the leakage, 2 times of the error\n" in card
    assert f"- {meant}\n" in card


def test_a_run_whose_intervals_are_of_the_records_alone_says_so_where_it_matters(nas, own_run):
    study = load_study("small", own_run.folder, None)
    study.set_user_attr(BETWEEN, {})
    assert "trained anew" not in nas("show", "small", "--runs", own_run.runs).out
    picked = ("pick", "small", "--number", 0, "--runs", own_run.runs)
    caution = "the intervals of this run do not hold what trainings vary by"
    assert caution not in nas(*picked).out
    assert f"warning: {caution}" in nas(*picked, "--confidence", 95).out
    assert any(caution in line for line in json.loads(nas(*picked, "--confidence", 95, "--json").out)["warnings"])


def test_a_pick_with_confidence_meets_its_limit_by_the_end_of_the_interval(nas, own_run, picked, refused):
    trials = load_study("small", own_run.folder, None).trials
    ends = {trial.number: from_flat(trial.user_attrs, "leakage").upper(0.95, of=0.95) for trial in trials}
    values = {trial.number: trial.user_attrs["leakage"] for trial in trials}
    lowest = min(ends, key=ends.get)

    def missed_by_their_ends(limit):
        return [number for number, value in values.items() if value < limit < ends[number]]

    limit = next(end + 1e-6 for end in sorted(ends.values()) if missed_by_their_ends(end + 1e-6))
    chosen = picked("--max", f"leakage={limit:.9f}", "--prefer", "error", "--confidence", 95)
    assert ends[chosen["picked"]["number"]] <= limit
    assert {row["metric"]: row.get("confidence") for row in chosen["limits"]}["leakage"] == 0.95
    line = refused("pick", "small", "--max", "leakage=0.1", "--confidence", "95", runs=own_run.runs)
    assert f"leakage {ends[lowest]:.4g} at 95 % confidence > 0.1" in line


@pytest.mark.parametrize(
    ("percent", "hint"), [("0.95", "; a share of 0.95 is 95 percent"), ("50", ""), ("100", ""), ("-1", "")]
)
def test_a_confidence_is_in_percent(refused, own_run, percent, hint):
    line = refused("pick", "small", "--confidence", percent, runs=own_run.runs)
    assert line == f"expected --confidence in percent, above 50 and below 100; got {float(percent):g}{hint}"


# One candidate by its number, and trained anew on all records.


def test_a_candidate_is_picked_by_its_number(own_run, picked):
    for trial in load_study("small", own_run.folder, None).trials:
        chosen = picked("--number", trial.number)
        assert chosen["picked"]["number"] == trial.number
        assert chosen["reason"] == "chosen by its number"
        assert "failed" not in chosen
        assert Path(chosen["folder"]) == own_run.folder / "picks" / str(trial.number)


def test_a_number_that_is_no_trained_candidate_is_refused(refused, own_run):
    line = refused("pick", "small", "--number", "77", runs=own_run.runs)
    assert line == "no trained candidate 77 in 'small'; there are [0, 1, 2, 3, 4]"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--max", "error=1"), "--max"),
        (("--prefer", "error"), "--prefer"),
        (("--max", "error=1", "--prefer", "error"), "--max and --prefer"),
    ],
)
def test_a_number_leaves_nothing_to_choose(refused, own_run, flags, named):
    line = refused("pick", "small", "--number", "1", *flags, runs=own_run.runs)
    assert line == f"expected --number without {named}: it names the candidate"


def test_a_candidate_over_a_budget_is_picked_with_a_warning(nas, own_run):
    study = load_study("small", own_run.folder, None)
    error = study.trials[2].user_attrs["error"]
    study.set_user_attr(LIMITS, [asdict(limit) for limit in budget_limits({"error": error / 2})])
    over = f"error {error:.4g} > {error / 2:.4g}"
    told = nas("pick", "small", "--number", 2, "--runs", own_run.runs)
    assert (told.code, told.err) == (0, "")
    assert f"warning: it is over a limit of the search: {over}\n" in told.out
    chosen = json.loads(nas("pick", "small", "--number", 2, "--json", "--runs", own_run.runs).out)
    assert chosen["failed"] == [over]


def test_a_pick_is_trained_anew_on_all_records_beside_it(nas, own_run, picked):
    chosen = picked("--number", 1, "--retrain-on-all")
    pick, anew = Path(chosen["folder"]), chosen["retrained"]
    plan = resolve(load_config(own_run.folder / "config.toml", {}), own_run.runs)
    parts = [plan.data.members, plan.data.non_members, plan.data.validation]
    folder = Path(anew["folder"])
    assert folder == own_run.folder / "picks" / "1-all"
    assert anew["records"] == sum(len(part) for part in parts)
    assert anew["guarantee"] == {}
    assert anew["weights_sha256"] == files.digest_of(folder / "weights.safetensors")
    assert anew["weights_sha256"] != files.digest_of(pick / "weights.safetensors")
    # The same candidate, by the same recipe, on these records and no others.
    trial = load_study("small", own_run.folder, None).trials[1]
    candidate = plan.candidate(trial.params)
    features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    seed = seed_from(plan.config.seed, candidate.key, "members", "non_members", "validation")
    setup = set_up(candidate, features, labels, seed)
    setup = plan.defences[candidate.defence].set_up(
        setup, partial(bench.cached_teacher, plan), candidate.defence_parameters
    )
    ours, theirs = train(setup).state_dict(), read_weights(folder / "weights.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # What does not hold for it is said everywhere.
    void = anew["void"]
    assert all(word in void for word in ("error", "leakage", "audit", "belong to the other network", "test records"))
    assert void[1:] in (folder / "card.md").read_text()
    told = nas("pick", "small", "--number", 1, "--retrain-on-all", "--runs", own_run.runs)
    assert void in told.out
    assert files.read_json(folder / "architecture.json")["retrained_on"]["records"] == anew["records"]
    # And of the pick nothing has changed.
    assert "retrained_on" not in files.read_json(pick / "architecture.json")
    assert files.digest_of(pick / "weights.safetensors") == trial.user_attrs["weights_sha256"]


def test_a_pick_that_was_trained_anew_is_exported_and_says_so(nas, own_run, picked):
    chosen = picked("--number", 1, "--retrain-on-all")
    folder, void = chosen["retrained"]["folder"], chosen["retrained"]["void"]
    told = nas("export", folder, "--precision", "float32", "--runs", own_run.runs)
    assert (told.code, told.err) == (0, "")
    assert void in told.out
    assert (Path(folder) / "float32.onnx").exists()
    asked = ("--precision", "float32", "--json", "--runs", own_run.runs)
    assert json.loads(nas("export", folder, *asked).out)["void"] == void
    assert "void" not in json.loads(nas("export", chosen["folder"], *asked).out)
