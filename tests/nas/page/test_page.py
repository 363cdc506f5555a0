"""The page of a run: its text and data, its policy, hostile studies, odd runs, the command."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from html.parser import HTMLParser

import pytest
from optuna.distributions import CategoricalDistribution
from plotly.offline import get_plotlyjs

from nas.audit.proxy_check import as_json
from nas.audit.report import as_json as report_as_json
from nas.base import files
from nas.page import build
from nas.page import content
from nas.page.drawing import MOST_BOXES
from nas.page.drawing import drawing_of
from nas.runs.candidates import candidates_of
from nas.runs.run import Run
from nas.runs.run import open_run
from nas.search.schema import CLASSES
from nas.search.schema import CONFIG
from nas.search.schema import LIMITS
from search_spaces.compressions import exits
from search_spaces.graph.builder import GraphBuilder
from tests import audits
from tests.made_up_runs import HOSTILE
from tests.made_up_runs import changed
from tests.nas.runs.test_audits import CHECK


class Page(HTMLParser):
    """Reads a page: its tags, the text that is seen, its scripts, its policy, and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.scripts, self.text, self.policy = [], [], {}, "", ""
        self._script = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [given[name] for name in ("src", "href", "action") if name in given]
        self.policy = given["content"] if given.get("http-equiv") == "Content-Security-Policy" else self.policy
        if tag in ("script", "style"):
            self._script = given.get("id") or f"{tag} {len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def run(trained_run):
    return open_run(trained_run.name, trained_run.runs)


@pytest.fixture(scope="module")
def page(run):
    return Page(build.html(run))


def test_the_command_writes_a_private_page_beside_the_run_or_elsewhere(nas, own_run, tmp_path):
    result = nas("report", own_run.name, "--runs", own_run.runs)
    path = own_run.folder / "report.html"
    assert (result.code, result.out, result.err) == (0, f"written to {path}\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tmp_path / "there" / "page.html"
    printed = nas("report", own_run.folder, "--output", other, "--json")
    assert json.loads(printed.out) == {"report": str(other)}
    assert other.read_text() == path.read_text()


def test_a_run_that_is_not_there_is_refused(refused, own_run):
    assert refused("report", "large", runs=own_run.runs).startswith("no run 'large'")


def test_the_page_has_the_candidates_and_their_numbers(run, page):
    data = json.loads(page.scripts["data"])
    candidates = candidates_of(run.study)
    assert data["number"] == [row.number for row in candidates.rows]
    assert data["objectives"] == ["error", "leakage", "latency_ms"]
    for name in candidates.metrics:
        assert data["value"][name] == pytest.approx(candidates.values(name).tolist(), rel=1e-6)
    lows = [row.numbers["leakage"].low for row in candidates.rows]
    assert data["low"]["leakage"] == pytest.approx(lows, rel=1e-6)
    assert data["best"] == [int(row.is_best) for row in candidates.rows]
    assert len(data["networks"]) == len({row.architecture.key for row in candidates.rows})
    for row, place in zip(candidates.rows, data["network"], strict=True):
        assert data["networks"][place] == drawing_of(row.architecture)


def test_the_page_loads_nothing_and_allows_its_own_two_scripts_alone(page):
    assert page.loads == ["data:,"]
    assert not {"iframe", "object", "embed", "form", "base", "img"} & set(page.tags)
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    own = [text for name, text in page.scripts.items() if name.startswith("script")]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in own]
    assert own[0] == get_plotlyjs()
    assert rules["script-src"].split() == [*hashes, "'unsafe-eval'"]
    assert rules["default-src"] == "'none'"
    assert {"connect-src", "frame-src", "font-src", "worker-src"}.isdisjoint(rules)


def test_the_page_names_no_folder_of_this_machine(run, page, trained_run):
    assert str(trained_run.runs) not in "".join([page.text, *page.scripts.values()])
    elsewhere = run.config.model_copy(update={"data_path": trained_run.runs / "data.csv"})
    assert str(trained_run.runs) not in str(content.without_folders(elsewhere).model_dump())


def test_a_sentence_names_a_file_without_its_folder(run, monkeypatch):
    made = changed(run, attrs={CONFIG: {**run.study.user_attrs[CONFIG], "data_path": "/somewhere/secret/data.csv"}})
    monkeypatch.setattr("nas.runs.report.settings_lines", lambda _: ["looked up in /somewhere/secret/data.csv"])
    page = Page(build.html(made))
    assert "looked up in data.csv" in page.text
    assert "/somewhere" not in "".join([page.text, *page.scripts.values()])


def test_the_same_run_gives_the_same_page(run):
    assert build.html(run) == build.html(run)


def test_every_section_has_something_to_say(run):
    for section in content.sections(run, candidates_of(run.study)):
        assert section.lines or section.plots, section.name
        names = [plot.name for plot in section.plots]
        assert len(set(names)) == len(names)


def test_audits_are_shown_where_there_are_any(own_run):
    run = open_run(own_run.name, own_run.runs)
    before = build.html(run)
    assert "nas audit small" in before
    files.write_json(run.folder / "audits" / "proxy.json", as_json(CHECK))
    files.write_json(run.folder / "audits" / "2" / "audit.json", report_as_json(audits.with_bank(), {}))
    page = Page(build.html(run))
    figures = json.loads(page.scripts["figures"])
    assert {"proxy-plot", "roc-2"} <= figures.keys()
    assert "Spearman 1.00 (0.10 to 1.00)" in page.text


def test_broken_audits_are_named_and_the_rest_is_shown(own_run):
    run = open_run(own_run.name, own_run.runs)
    files.write_text(run.folder / "audits" / "proxy.json", "{")
    files.write_text(run.folder / "audits" / "2" / "audit.json", "[]")
    text = Page(build.html(run)).text
    assert "expected the proxy check of nas audit" in text
    assert "expected a report of nas audit" in text
    assert "How to reproduce" in text


@pytest.mark.parametrize(("trials", "says"), [(0, "No candidate has finished training yet"), (1, "1 on the front")])
def test_a_run_with_few_candidates_has_a_page(run, trials, says):
    page = Page(build.html(changed(run, trials=trials)))
    assert says in page.text
    assert len(json.loads(page.scripts["data"])["number"]) == trials


def test_a_run_in_progress_says_so(run):
    made = changed(run)
    made.study.ask()
    assert "1 candidate is in progress" in Page(build.html(made)).text


def test_a_run_without_a_front_says_so(run):
    limit = {"metric": "error", "value": 0.0, "reason": "your budget", "kind": "budget"}
    bad = changed(run, attrs={LIMITS: [limit]})
    for trial in bad.study.get_trials(deepcopy=False):
        trial.system_attrs["constraints:error"] = 1.0
    copied = changed(bad)
    assert copied.study.best_trials == []
    assert "so there is no front" in Page(build.html(copied)).text


def test_a_device_that_is_not_here_is_named(run, monkeypatch):
    def gone(_):
        raise ValueError("no device 'gone'")

    monkeypatch.setattr("nas.page.content.load_device", gone)
    assert "The device of this run cannot be read here: no device 'gone'" in Page(build.html(run)).text


def hostile(run):
    """A run whose every name is hostile, with attributes of 10 MB."""
    told = run.study.user_attrs[CLASSES]
    classes = {**told, "names": [f"{name} {HOSTILE}" for name in told["names"]]}
    limit = {"metric": "error", "value": 2.0, "reason": HOSTILE, "kind": "budget"}
    note = {"note": "<script>window.hacked=1</script>" * 320_000, "x" * 10_000_000: 0.5, HOSTILE: 0.5}
    made = changed(
        run,
        name=HOSTILE,
        attrs={CLASSES: classes, LIMITS: [limit]},
        more=note,
        params={HOSTILE: (HOSTILE, CategoricalDistribution((HOSTILE, "</script>")))},
    )
    return Run(run.folder, made.study)


def test_a_hostile_study_is_text(run):
    written = build.html(hostile(run))
    page = Page(written)
    assert page.tags.count("script") == 4
    assert {"img", "b"} & set(page.tags) == set()
    assert page.loads == ["data:,"]
    assert "7 * 7" in page.text
    assert "\x1b" not in written
    for name in ("data", "figures"):
        assert "<" not in page.scripts[name]
    assert HOSTILE in json.loads(page.scripts["data"])["metrics"]
    assert len(written) < len(get_plotlyjs()) + 1_000_000


def test_commands_of_a_hostile_name_are_quoted(run):
    sections = list(content.sections(hostile(run), candidates_of(run.study)))
    commands = [command for section in sections for command in section.commands]
    assert commands
    assert all(re.search(r"'</script>.*", command) for command in commands)


def test_a_drawing_has_the_layers_skips_and_exits_of_its_network():
    graph = GraphBuilder((3, 8, 8))
    first = graph.conv(0, 4, kernel=(3, 3), padding=(1, 1))
    second = graph.conv(graph.activation(first), 4, kernel=(3, 3), padding=(1, 1), weight_bits=8)
    joined = graph.add(first, second)
    graph.linear(graph.flatten(joined), 10)
    network = graph.architecture("test", {})
    drawn = drawing_of(network)
    assert [box[0] for box in drawn["boxes"]] == ["conv", "conv", "add", "linear"]
    assert [box[1:4] for box in drawn["boxes"]] == [[4, 8, 32], [4, 8, 8], [4, 8, 0], [10, 1, 32]]
    assert (drawn["skips"], drawn["exits"], drawn["more"]) == ([[0, 2]], [], 0)
    early = drawing_of(exits.compress(network, 1, "even", 0, 0.9))
    assert len(early["exits"]) == 1


def test_a_long_network_is_cut():
    graph = GraphBuilder((4,))
    place = 0
    for _ in range(MOST_BOXES + 7):
        place = graph.linear(place, 4)
    drawn = drawing_of(graph.architecture("test", {}))
    assert (len(drawn["boxes"]), drawn["more"]) == (MOST_BOXES, 7)
