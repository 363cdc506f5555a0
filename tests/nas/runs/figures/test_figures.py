"""Figures of a run: each shows the numbers that it was given, and says so where there are none."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from math import log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from estimators.devices.files import load_device
from estimators.models.by_layer import by_layer
from estimators.models.by_layer import roofs
from nas.audit.proxy_check import as_json
from nas.audit.report import as_json as report_as_json
from nas.base import files
from nas.runs.audits import agreement_in
from nas.runs.audits import audits_in
from nas.runs.candidates import candidates_of
from nas.runs.figures import choices
from nas.runs.figures import hypervolume
from nas.runs.figures import importance
from nas.runs.figures.latency_by_layer import latency_by_layer
from nas.runs.figures.parallel_coordinates import parallel_coordinates
from nas.runs.figures.projections import projections
from nas.runs.figures.proxy_agreement import proxy_agreement
from nas.runs.figures.roc import roc
from nas.runs.figures.roofline import roofline
from nas.runs.figures.style import CANDIDATES
from nas.runs.figures.style import plain
from nas.runs.figures.three_objectives import three_objectives
from nas.runs.run import open_run
from tests import audits
from tests.made_up_runs import HOSTILE
from tests.made_up_runs import changed
from tests.nas.runs.test_audits import CHECK

TAG = re.compile(r"<(?!extra>|/extra>|br>)")


@pytest.fixture(scope="module")
def run(trained_run):
    return open_run(trained_run.name, trained_run.runs)


def ladder(place):
    """Error rises and leakage falls from candidate to candidate."""
    error, leakage = place / 10, 1 - place / 10
    ends = {"error_low": 0.0, "error_high": 1.0, "leakage_low": 0.0, "leakage_high": 1.0}
    return {"error": error, "leakage": leakage, **ends}


def points_of(figure):
    """The numbers of the candidates in a figure, by panel."""
    shown = {}
    for trace in figure.data:
        if trace.meta == CANDIDATES:
            shown.setdefault(getattr(trace, "xaxis", None), []).extend(trace.customdata)
    return shown


def test_every_candidate_is_in_every_panel_once_at_its_numbers(run):
    candidates = candidates_of(run.study)
    figure = projections(candidates)
    panels = points_of(figure)
    assert list(panels) == ["x", "x2", "x3"]
    numbers = [row.number for row in candidates.rows]
    assert all(sorted(shown) == numbers for shown in panels.values())
    of = {row.number: row.numbers for row in candidates.rows}
    titles = [figure.layout[f"{axis}axis2"].title.text for axis in "xy"]
    assert titles == ["error", "latency_ms"]
    for trace in figure.data:
        if trace.xaxis == "x2":
            assert [of[number]["error"].value for number in trace.customdata] == list(trace.x)
            assert [of[number]["latency_ms"].value for number in trace.customdata] == list(trace.y)


def test_the_front_and_what_is_over_a_limit_are_marked(run):
    found = candidates_of(run.study)
    over = [
        replace(row, over=("error 0.5 > 0.1",) if row.number < 2 else (), is_best=row.number == 3) for row in found.rows
    ]
    figure = projections(replace(found, rows=tuple(over)))
    marked = {trace.name: list(trace.customdata) for trace in figure.data if trace.xaxis == "x"}
    assert marked == {"over a limit": [0, 1], "other candidates": [2, 4], "front": [3]}


def test_many_candidates_are_drawn_by_webgl(run, monkeypatch):
    monkeypatch.setattr("nas.runs.figures.projections.MOST_DRAWN", 4)
    assert {trace.type for trace in projections(candidates_of(run.study)).data} == {"scattergl"}
    fewer = candidates_of(changed(run, trials=4).study)
    assert {trace.type for trace in projections(fewer).data} == {"scatter"}


def test_three_objectives_stand_on_three_axes(run):
    candidates = candidates_of(run.study)
    figure = three_objectives(candidates)
    assert figure.layout.meta["axes"] == ("error", "leakage", "latency_ms")
    (shown,) = points_of(figure).values()
    assert sorted(shown) == [row.number for row in candidates.rows]
    by_number = {row.number: row for row in candidates.rows}
    for trace in figure.data:
        rows = [by_number[number] for number in trace.customdata]
        assert list(trace.z) == [row.numbers["latency_ms"].value for row in rows]


def test_parallel_axes_hold_all_candidates_and_name_what_is_no_number(run):
    candidates = candidates_of(run.study)
    (trace,) = parallel_coordinates(candidates).data
    axes = {axis.label: axis for axis in trace.dimensions}
    assert list(trace.customdata) == [row.number for row in candidates.rows]
    assert all(len(axis["values"]) == len(candidates.rows) for axis in axes.values())
    assert list(axes["error"]["values"]) == candidates.values("error").tolist()
    named = [axis for axis in axes.values() if axis.ticktext and axis.range]
    for axis in named:
        assert [axis.ticktext[int(place)] for place in axis["values"]] == [
            str(row.params[axis.label]) for row in candidates.rows
        ]


def test_of_many_lines_the_front_is_drawn_and_all_are_told(run, monkeypatch):
    monkeypatch.setattr("nas.runs.figures.parallel_coordinates.MOST_LINES", 1)
    candidates = candidates_of(changed(run, values=ladder).study)
    figure = parallel_coordinates(candidates)
    best = {row.number for row in candidates.best}
    assert best <= set(figure.data[0].customdata)
    assert len(figure.data[0].customdata) <= len(best) + 1
    assert list(figure.layout.meta["numbers"]) == [row.number for row in candidates.rows]
    assert list(figure.layout.meta["values"][0]) == candidates.values("error").tolist()


def test_a_wide_parallel_axis_is_logarithmic_with_its_numbers_as_marks(run):
    wide = changed(run, values=lambda place: {"flash_kib": 10.0**place, "flash_kib_low": 0.0, "flash_kib_high": 1e9})
    (trace,) = parallel_coordinates(candidates_of(wide.study)).data
    axis = next(axis for axis in trace.dimensions if axis.label == "flash_kib")
    assert list(axis["values"]) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert axis.ticktext == ("1", "10", "100", "1k", "10k")
    assert [log10(mark) for mark in (1, 10, 100, 1e3, 1e4)] == list(axis.tickvals)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 9).map(float)))
def test_the_way_of_the_hypervolume_is_that_of_areas(values):
    at, volumes = hypervolume.way(values)
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1)
    assert at.tolist() == list(range(len(values)))
    for place, volume in zip(at, volumes, strict=True):
        area, floor = 0.0, 1.1
        for x, y in sorted(map(tuple, scaled[: place + 1])):
            area += (1.1 - x) * max(0.0, floor - y)
            floor = min(floor, y)
        assert volume == pytest.approx(area)


def test_a_long_way_has_a_hundred_points_and_the_same_end():
    values = np.random.default_rng(0).random((1000, 3))
    at, volumes = hypervolume.way(values)
    assert len(at) == hypervolume.MOST_POINTS
    assert (np.diff(volumes) >= 0).all()
    few, _ = hypervolume.way(values[:50])
    assert (at[-1], few.tolist()) == (999, list(range(50)))


def test_a_parameter_that_decides_an_objective_stands_out(run):
    study, rng = changed(run, trials=0).study, np.random.default_rng(0)
    kinds = {name: CategoricalDistribution(("a", "b", "c")) for name in ("decides", "idle", "other")}
    for _ in range(200):
        params = {name: str(rng.choice(["a", "b", "c"])) for name in kinds}
        values = [0.1 * (params["decides"] != "a") + rng.normal(0, 0.01), *rng.random(2).tolist()]
        study.add_trial(create_trial(params=params, distributions=kinds, values=values))
    found, chance = importance.importances(study)
    assert found[0]["decides"] > 2 * chance["decides"]
    assert all(found[0][name] < found[0]["decides"] / 3 for name in ("idle", "other"))
    bars = {trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in importance.importance(study).data}
    assert bars["error"] == pytest.approx(found[0])
    assert bars["by chance, up to"] == pytest.approx(chance)


def test_few_candidates_have_no_importance(run):
    assert importance.importances(run.study) == ([{}, {}, {}], {})
    (note,) = importance.importance(run.study).layout.annotations
    assert "needs 10 trained candidates" in note.text


def test_choices_are_grouped_and_their_medians_counted(run):
    candidates = candidates_of(changed(run, values=ladder).study)
    groups = choices.table(candidates, "weight bits, on average")
    assert sum(group.count for group in groups) == len(candidates.rows)
    found = choices.grouped(candidates, "weight bits, on average")
    for group in groups:
        rows = found[group.name]
        assert group.medians["error"].value == np.median([row.numbers["error"].value for row in rows])
    figure = choices.choices(candidates, "weight bits, on average")
    if len(groups) > 1:
        shown = Counter(round(x, 9) for trace in figure.data if trace.xaxis == "x" for x in trace.x)
        assert shown == Counter(round(x, 9) for x in candidates.values("error").tolist())


def test_groups_of_bits_hold_their_edges():
    class Row:
        def __init__(self, bits):
            self.mean_weight_bits = bits

    by_bits = choices.KINDS["weight bits, on average"]
    names = [by_bits(Row(bits))[1] for bits in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)]
    assert names == ["1 bit", "to 2.5 bits", "to 4.5 bits", "to 8.5 bits", "to 16.5 bits", "more than 16.5 bits"]


def test_layers_and_roofs_are_those_of_the_device(run):
    candidates = candidates_of(run.study)
    device, architecture = load_device(run.config.device), candidates.rows[0].architecture
    layers = by_layer(architecture, device)
    bars = [x for trace in latency_by_layer(layers).data for x in trace.x]
    assert sum(bars) == pytest.approx(sum(layer.latency_ms for layer in layers))
    figure = roofline(layers, roofs(architecture, device))
    speeds = [y for trace in figure.data if trace.mode == "markers" for y in trace.y]
    compute = max(y for trace in figure.data if trace.name == "compute" for y in trace.y)
    assert max(speeds) <= compute * (1 + 1e-9)


def test_roc_curves_are_steps_on_logarithmic_axes(tmp_path):
    written = report_as_json(audits.with_bank(), {})
    files.write_json(tmp_path / "audits" / "3" / "audit.json", written)
    figure = roc(audits_in(tmp_path)[3])
    curve = figure.data[1]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type, curve.line.shape) == ("log", "log", "hv")
    assert [y or 0 for y in curve.y] == [tpr for _, tpr in written["findings"][0]["roc"]]
    assert min(curve.x) == 1 / written["non_members"]
    assert "gap" not in " ".join(trace.name for trace in figure.data)


def test_agreement_shows_both_intervals(tmp_path):
    files.write_json(tmp_path / "audits" / "proxy.json", as_json(CHECK))
    points = proxy_agreement(agreement_in(tmp_path)).data[1]
    assert (points.x, points.y) == ((0.5, 0.6), (0.52, 0.7))
    assert points.error_x.array == pytest.approx([0.05, 0.0])
    assert points.error_y.arrayminus == pytest.approx([0.02, 0.05])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text())
def test_plain_text_has_no_markup(text):
    assert not set("<>\n") & set(plain(text))


def test_no_figure_takes_a_name_for_markup(run):
    params = {HOSTILE: (HOSTILE, CategoricalDistribution((HOSTILE, "b")))}
    made = changed(run, more={HOSTILE: 0.5}, params=params)
    candidates = candidates_of(made.study)
    figures = [
        projections(candidates),
        three_objectives(candidates),
        parallel_coordinates(candidates),
        *(choices.choices(candidates, kind) for kind in choices.KINDS),
    ]
    for figure in figures:
        layout = {name: value for name, value in figure.to_plotly_json()["layout"].items() if name != "template"}
        text = f"{figure.to_plotly_json()['data']} {layout}"
        assert not TAG.search(text)
