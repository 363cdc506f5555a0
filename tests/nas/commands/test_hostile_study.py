"""A study with names and data that mean mischief: whatever shows it prints short text and writes nowhere else."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from nas.runs import dashboard
from nas.runs.run import open_run
from nas.search import schema
from nas.search.storage import load_study
from tests.small_search import snapshot

SCRIPT = "<img src=x onerror=alert(1)>"
SHELL = "$(touch sprung); `touch sprung` | touch sprung"
STEER = "\x1b]0;sprung\x07\x1b[2J\r"
PATHS = "../../sprung"
MEASURE = f"{SCRIPT}|`b`"
"""A number that all candidates have: it can be a limit, and the card lists it."""
LARGE = "x" * 10**7
MOST_PRINTED = 100_000


def lines_of(run):
    return [json.loads(line) for line in (run.folder / "journal.log").read_text().splitlines()]


def write(run, lines):
    (run.folder / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in lines))


def more(lines, place, attribute):
    """Add an attribute beside the one at a place of the journal, of the same study or trial."""
    return {**lines[place], "user_attr": attribute}


@pytest.fixture
def hostile(own_run):
    """The run with mischief in all that a study may hold freely; returns it."""
    lines, added = lines_of(own_run), []
    for place, line in enumerate(lines):
        attribute = line.get("user_attr", {})
        added.append(line)
        if "trial_id" in line and "key" in attribute:
            free = {SCRIPT: SHELL, STEER: STEER, PATHS: PATHS, "large": LARGE, "table": {SCRIPT: [STEER] * 10**4}}
            added += [more(lines, place, {name: value}) for name, value in {**free, MEASURE: 1.0}.items()]
        if "study_id" in line and schema.LIMITS in attribute:
            limit = {"metric": MEASURE, "value": 2.0, "reason": f"{SCRIPT} {SHELL} {STEER}", "kind": "budget"}
            attribute[schema.LIMITS].append(limit)
            added += [more(lines, place, {SCRIPT: LARGE})]
        if "study_id" in line and schema.BASELINES in attribute:
            attribute[schema.BASELINES][0]["name"] = f"{SCRIPT} {STEER}"[:200]
        if "study_id" in line and schema.DATA in attribute:
            attribute[schema.DATA]["notes"] = [f"{SCRIPT} {SHELL} {STEER}"]
    write(own_run, added)
    return own_run


def is_harmless(text):
    """Whether a text steers no terminal, and is short."""
    return len(text) < MOST_PRINTED and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def tags(markdown):
    """What Markdown would take for the beginning of a tag; code, and what is escaped, is none."""
    return re.findall(r"(?<!\\)<[A-Za-z/!]", re.sub(r"`[^`\n]*`", "", markdown))


COMMANDS = (
    ("show", "small"),
    ("show", "small", "--json"),
    ("compare", "small", 0, 3),
    ("compare", "small", 0, 3, "--json"),
    ("list", "runs"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_what_looks_at_it_prints_text(nas, hostile, command):
    before = snapshot(hostile.runs)
    result = nas(*command, "--runs", hostile.runs)
    assert result.code == 0, result.err
    assert is_harmless(result.out)
    assert is_harmless(result.err)
    assert snapshot(hostile.runs) == before


@pytest.mark.parametrize("flags", [(), ("--order", "leakage,error"), ("--max", f"{MEASURE}=3")])
def test_a_pick_writes_its_own_files_and_a_card_without_tags(nas, hostile, flags):
    before = snapshot(hostile.runs)
    result = nas("pick", "small", *flags, "--runs", hostile.runs)
    assert result.code == 0, result.err
    assert is_harmless(result.out)
    written = {path.relative_to(hostile.folder) for path in snapshot(hostile.runs).keys() - before.keys()}
    (folder,) = {path.parent for path in written}
    assert (folder.parent.name, folder.name.isdigit()) == ("picks", True)
    card = (hostile.folder / folder / "card.md").read_text()
    assert r"\<img src=x onerror=alert(1)\>" in card
    assert (tags(card), len(card) < MOST_PRINTED, "\x1b" in card) == ([], True, False)


def test_a_walk_prints_text(nas, hostile, monkeypatch):
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "quit")
    result = nas("pick", "small", "--interactive", "--runs", hostile.runs)
    assert (result.code, is_harmless(result.out)) == (0, True)


def test_a_merged_front_prints_text(nas, hostile):
    other = shutil.copytree(hostile.folder, hostile.runs / "other")
    lines = [json.loads(line) for line in (other / "journal.log").read_text().splitlines()]
    for line in lines:
        if schema.TASK in line.get("user_attr", {}):
            line["user_attr"][schema.TASK]["id"] = "another"
    (other / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for more_flags in ((), ("--json",)):
        result = nas("front", "small", other, *more_flags, "--runs", hostile.runs)
        assert result.code == 0, result.err
        assert is_harmless(result.out)


def test_the_copy_for_a_page_is_short_and_its_notes_have_no_tags(hostile, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    copy = dashboard.copied(open_run("small", hostile.runs), folder)
    for note in copy.notes.values():
        assert (tags(note), len(note) < MOST_PRINTED, "\x1b" in note) == ([], True, False)
    assert any(r"\<img" in note for note in copy.notes.values())
    for trial in copy.study.trials:
        told = " ".join(map(str, [*trial.user_attrs, *trial.user_attrs.values(), *trial.params.values()]))
        assert is_harmless(told)
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"copy", "runs"}


NAMES = (SCRIPT, SHELL, PATHS, STEER, "a/b", "..", ".", "x" * 101, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_a_hostile_name_is_refused_in_one_harmless_line(nas, own_run, name):
    lines = lines_of(own_run)
    for line in lines:
        if "study_name" in line:
            line["study_name"] = name
        if schema.CONFIG in line.get("user_attr", {}):
            line["user_attr"][schema.CONFIG]["name"] = name
    write(own_run, lines)
    with pytest.raises(ValueError, match=r"expected a name|no study"):
        load_study(name, own_run.folder, None)
    for command in (("show", "small"), ("compare", "small", 0, 3), ("pick", "small"), ("dashboard", "small")):
        result = nas(*command, "--runs", own_run.runs)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), command
        assert is_harmless(result.err)


LONG = ("space", "dataset", "device", "attack", "sampler")


@pytest.mark.parametrize("name", LONG)
def test_names_in_the_settings_of_a_study_have_a_longest_length(own_run, name):
    lines = lines_of(own_run)
    for line in lines:
        if schema.CONFIG in line.get("user_attr", {}):
            line["user_attr"][schema.CONFIG][name] = LARGE
    write(own_run, lines)
    with pytest.raises(ValueError, match="expected names of at most 1000 characters; got one of 10000000"):
        load_study("small", own_run.folder, None)
