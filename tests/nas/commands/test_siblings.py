"""`nas siblings` as a user calls it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nas.base import files
from nas.runs.networks import read_pick
from nas.siblings.pair import check_siblings
from nas.siblings.pair import named
from search_spaces.graph.integers import in_integers
from tests.conftest import Run
from tests.small_search import SMALL
from tests.small_search import snapshot
from tests.test_docs import DOCS

QUICK = ("--records", "40", "--json")


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A copy of the run, with the most exact candidate and the next one in the order of their errors."""
    runs = shutil.copytree(trained_run.runs, tmp_path_factory.mktemp("siblings") / "runs")
    return Run(runs, trained_run.name, trained_run.printed)


@pytest.fixture(scope="module")
def pick(nas, run):
    """The number of a candidate with something in float, and the folder of its pick."""
    for number in range(5):
        network = named(f"small:{number}", run.runs).network.architecture
        if in_integers(network, 8) is not network:
            told = json.loads(nas("pick", "small", "--number", number, "--json", "--runs", run.runs).out)
            return number, told["folder"]
    raise AssertionError("no candidate has anything in float")


@pytest.fixture(scope="module")
def compared(nas, run):
    result = nas("siblings", "small:0", "small:1", *QUICK, "--runs", run.runs)
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def test_both_networks_and_a_control_are_told_with_intervals(compared):
    assert (compared["shipped"], compared["server"]) == ("candidate 0 of small", "candidate 1 of small")
    assert compared["epsilon"] == pytest.approx(8 / 255)
    assert (compared["records"], compared["unpairing"], compared["folder"]) == (40, None, None)
    assert [row["network"] for row in compared["networks"]] == ["server", "shipped", "control"]
    assert [row["steps"] for row in compared["attacks"]] == [10, 50]
    assert compared["attacks"][1]["restarts"] > 1
    assert compared["attacks"][1]["momentum"] > 0
    server = compared["networks"][0]
    assert server["error"] == pytest.approx(1 - compared["server_right"] / 40)
    for fooled in server["fooled"]:
        assert fooled["transfer"] == fooled["white_box"]
    shipped, control = ({row["attack"]: row["transfer"] for row in one["fooled"]} for one in compared["networks"][1:])
    for row in compared["more_than_control"]:
        assert row["transfer"] == pytest.approx(shipped[row["attack"]] - control[row["attack"]])
        assert row["transfer_low"] <= row["transfer"] <= row["transfer_high"]


def test_it_is_no_part_of_a_search_nor_of_any_number_on_leakage(nas, run):
    """U4 of the acceptance: off unless asked for, and apart from the privacy score."""
    before = snapshot(run.folder)
    shown = nas("show", run.name, "--json", "--runs", run.runs).out
    assert nas("siblings", "small:0", "small:1", *QUICK, "--runs", run.runs).code == 0
    assert snapshot(run.folder) == before
    assert nas("show", run.name, "--json", "--runs", run.runs).out == shown
    assert not re.search("transfer|cosine|sibling|unpair", shown)
    loaded = "import sys, nas.search.study, nas.audit.candidate, nas.runs.run; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.split()
    assert "nas.audit.candidate" in told
    assert not [name for name in told if name.startswith("nas.siblings")]


def test_every_field_is_documented(compared):
    text = (DOCS / "reference" / "json.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    fields = {title: set(re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)) for title, part in sections.items()}
    bare = lambda row: {re.sub(r"_(low|high)$", "", name) for name in row}
    assert bare(compared) == fields["nas siblings"]
    assert bare(compared["networks"][1]) == fields["Sibling"]


def test_the_lines_say_what_the_figures_are_not(nas, run):
    result = nas("siblings", "small:0", "small:0", "--records", "20", "--epsilon", "0.2", "--runs", run.runs)
    assert (result.code, result.err) == (0, "")
    assert "within 0.2 of the records' range, 20 records that no network was trained on" in result.out
    assert "this is about adversarial examples, not about what the networks leak of their members" in result.out
    assert "straight-through" in result.out
    assert "unpair" not in result.out
    rows = {
        line.split()[0]: line.split()[1:] for line in result.out.splitlines() if line.startswith(("server", "shipped"))
    }
    assert rows["server"] == rows["shipped"]  # the same network


def test_an_unpaired_network_lies_beside_its_pick(nas, run, pick, tmp_path):
    number, folder = pick
    picked = read_pick(run.folder / "picks" / str(number))
    before = snapshot(run.folder / "picks")
    wanted = ("--bits", "8", "--unpair", "--strength", "0.5", "--unpair-epochs", "15")
    result = nas("siblings", folder, f"small:{number}", *wanted, *QUICK, "--runs", run.runs)
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    after = snapshot(run.folder / "picks")
    assert {path: after[path] for path in before} == before
    assert told["shipped"] == f"candidate {number} of small, rounded to 8 bits"
    unpairing = told["unpairing"]
    assert (unpairing["strength"], unpairing["epochs"], len(unpairing["by_epoch"])) == (0.5, 15, 16)
    assert unpairing["kept_epoch"] > 0
    cosines = {row["network"]: row["cosine"] for row in told["networks"]}
    assert cosines["unpaired"] < cosines["shipped"]
    written = run.folder / "picks" / f"{number}-8bit-unpaired"
    assert told["folder"] == str(written)
    architecture, _ = read_pick(written)
    assert architecture.key == in_integers(picked[0], 8).key
    assert told["weights_sha256"] == files.digest_of(written / "weights.safetensors")
    kept = json.loads((written / "siblings.json").read_text())
    assert kept == {name: value for name, value in told.items() if name != "folder"}
    page = (written / "siblings.md").read_text()
    assert "the error and the leakage of the search and every audit belong to the pick" in page
    assert f"nas audit {written}/" in page
    # It is taken where a pick is, and measured again; what it was audited by is no other network's.
    again = json.loads(nas("siblings", written, f"small:{number}", *QUICK, "--runs", run.runs).out)
    assert again["networks"][1]["error"] == told["networks"][3]["error"]
    assert again["networks"][1]["cosine"] == pytest.approx(told["networks"][3]["cosine"], abs=1e-5)
    refused = nas("siblings", written, f"small:{number}", "--unpair", "--runs", run.runs)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"nas: expected a candidate or its pick to unpair; {written} was unpaired already\n"
    # The page's advice can be followed.
    exported = nas("export", written, "--output", tmp_path, "--max-error-increase", "1", "--max-leakage-increase", "1")
    assert exported.code == 0
    found = named(f"small:{number}", run.runs).run
    parts = [found.sets[name] for name in ("members", "non_members")]
    features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    np.savez(tmp_path / "r.npz", features=features, labels=labels, is_member=np.arange(len(labels)) < len(parts[0]))
    model = next(tmp_path.glob("*.onnx"))
    audited = nas("audit", model, "--data", tmp_path / "r.npz", "--effort", "quick", "--output", tmp_path)
    assert audited.code == 0
    assert "leakage: AUC" in audited.out


def test_networks_of_other_records_are_refused(nas, run, in_process, tmp_path):
    flags = ["90" if text == "120" else text for text in SMALL]
    flags[flags.index("--trials") + 1] = "1"
    assert nas("search", *flags, "--name", "other", "--runs", run.runs).code == 0
    result = nas("siblings", "small:0", "other:0", "--runs", run.runs)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("nas: expected two networks of the same records, divided in the same way; those of")
    assert result.err.count("\n") == 1


def test_networks_of_other_classes_are_refused(run):
    one, other = (named(f"small:{number}", run.runs) for number in (0, 1))
    check_siblings(one, other)
    behind = other.run.data.preprocessing
    object.__setattr__(behind, "classes", ("cat", "dog"))
    expected = (
        r"expected two networks of the same classes; small:0 has 10, from '0' to '9' and small:1 \['cat', 'dog'\]"
    )
    with pytest.raises(ValueError, match=expected):
        check_siblings(one, other)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("small:0", "small"), "expected RUN:NUMBER or a folder that nas pick wrote; got 'small'"),
        (("small:0", "small:99"), "no trained candidate 99 in 'small'; there are [0, 1, 2, 3, 4]"),
        (("small:0", "small:1", "--strength", "2"), "expected --strength and --unpair-epochs only with --unpair"),
        (("small:0", "small:1", "--unpair", "--strength", "-2"), "expected --strength of 0 or more; got -2.0"),
        (("small:0", "small:1", "--records", "1"), "expected --records of 2 or more; got 1"),
        (
            ("small:0", "small:1", "--epsilon", "2"),
            "expected --epsilon above 0 and at most 1, as 0.03 or 8/255; got '2'",
        ),
        (("small:0", "small:1", "--bits", "7"), "expected --bits out of [8, 4, 3, 2, 1]; got 7"),
    ],
)
def test_what_makes_no_sense_is_refused(refused, run, arguments, told):
    assert refused("siblings", *arguments, runs=run.runs) == told


def test_a_pick_that_was_trained_on_all_records_is_refused(nas, own_run, picked):
    folder = picked("--retrain-on-all")["retrained"]["folder"]
    result = nas("siblings", folder, "small:0", "--runs", own_run.runs)
    assert (result.code, result.out) == (2, "")
    assert f"{folder} was trained on all records, and none is left to compare it on" in result.err
