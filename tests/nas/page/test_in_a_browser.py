"""The page in a real browser: sliders, brushes, cards, tables, no error, no request; skipped where there is none."""

from __future__ import annotations

import json

import pytest

from nas.page import build
from nas.runs.candidates import candidates_of
from nas.runs.run import open_run
from tests import browser
from tests.made_up_runs import changed
from tests.nas.page.test_page import hostile

pytestmark = pytest.mark.skipif(browser.found() is None, reason="needs Chromium: apt-get install chromium, or CHROMIUM")
TOP = (
    "(() => { const box = document.querySelector(%s).getBoundingClientRect();"
    "return [box.x, box.y, box.width, box.height]; })()"
)


@pytest.fixture(scope="module")
def run(trained_run):
    return open_run(trained_run.name, trained_run.runs)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    return build.write(run, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def opened(chromium, path):
    """The page of the run, opened once."""
    chromium.size(1200)
    chromium.open(path)
    return chromium


@pytest.fixture
def page(opened, path):
    """The same page, all candidates shown and no card; afterwards nothing may have gone wrong."""
    opened.do("document.getElementById('reset').click()")
    opened.do("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
    yield opened
    assert opened.console == []
    assert opened.requests == [path.as_uri()]


def box(page, selector):
    page.do(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
    return page.do(TOP % json.dumps(selector))


def remain(page):
    return page.do("document.getElementById('remain').textContent")


def listed(page):
    return page.do("[...document.querySelectorAll('#remaining tbody tr')].map((row) => Number(row.dataset.number))")


def slide(page, metric, place):
    page.do(
        f"(() => {{ const slider = document.querySelector('#sliders input[data-metric={metric}]'); "
        f"slider.value = {place}; slider.dispatchEvent(new Event('input')); }})()"
    )


def test_every_figure_is_drawn(page):
    assert page.do("document.querySelectorAll('.plot.drawn').length") >= 7
    assert not page.do("document.body.innerText.includes('WebGL is not supported')")


def test_a_slider_says_which_candidates_remain(page, run):
    candidates = candidates_of(run.study)
    values = sorted(set(candidates.values("leakage").tolist()))
    slide(page, "leakage", 1)
    left = [row.number for row in candidates.rows if row.numbers["leakage"].value <= values[1]]
    assert remain(page) == f"{len(left)} of {len(candidates.rows)} candidates remain."
    assert sorted(listed(page)) == left
    assert "--max leakage=" in page.do("document.querySelector('#command code').textContent")
    page.wait("document.getElementById('projections').data.some((trace) => trace.selectedpoints)")
    shown = page.do(
        "document.getElementById('projections').data.filter((trace) => !trace.xaxis || trace.xaxis === 'x')"
        ".flatMap((trace) => trace.selectedpoints).length"
    )
    assert shown == len(left)
    page.wait(f"document.getElementById('space').data.flatMap((trace) => [...trace.x]).length === {len(left)}")
    page.do("document.getElementById('reset').click()")
    assert remain(page) == f"{len(candidates.rows)} of {len(candidates.rows)} candidates remain."


def test_the_command_below_the_sliders_keeps_what_the_sliders_keep(page, nas, trained_run):
    slide(page, "error", 2)
    words = page.do("document.querySelector('#command code').textContent").split()
    limit = float(words[-1].removeprefix("error="))
    kept = [
        row
        for row in candidates_of(open_run("small", trained_run.runs).study).rows
        if row.numbers["error"].value <= limit
    ]
    assert sorted(listed(page)) == [row.number for row in kept]


def test_dragging_over_points_keeps_them_everywhere(page, run):
    x, y, width, height = box(page, "#projections .nsewdrag")
    low, high = page.do("document.getElementById('projections')._fullLayout.yaxis.range")
    page.drag((x + 3, y + 3), (x + width - 3, y + height / 2))
    page.wait("!document.getElementById('brushed').hidden")
    rows = candidates_of(run.study).rows
    kept = [row.number for row in rows if row.numbers["leakage"].value > (low + high) / 2]
    assert sorted(listed(page)) == kept
    assert 0 < len(kept) < len(rows)
    page.do("document.querySelector('#brushed button').click()")
    assert remain(page).startswith("5 of 5")


def test_a_mark_on_a_parallel_axis_keeps_what_passes_there(page, run):
    x, y, width, height = box(page, "#parallel-plot .axis-brush .background")
    page.drag((x + width / 2, y + height * 0.5), (x + width / 2, y + height * 0.99))
    page.wait("document.getElementById('parallel-plot').data[0].dimensions[0].constraintrange")
    low, high = page.do("document.getElementById('parallel-plot').data[0].dimensions[0].constraintrange")
    kept = [row.number for row in candidates_of(run.study).rows if low <= row.numbers["error"].value <= high]
    assert sorted(listed(page)) == kept
    page.do("document.getElementById('reset').click()")
    assert remain(page).startswith("5 of 5")


def test_a_point_shows_the_card_of_its_candidate(page, run):
    x, y, width, height = box(page, "#projections .point")
    page.mouse("mouseMoved", x + width / 2 - 4, y + height / 2)
    page.mouse("mouseMoved", x + width / 2, y + height / 2)
    page.wait("!document.getElementById('card').hidden")
    text = page.do("document.getElementById('card').innerText")
    number = int(text.splitlines()[0].split(",")[0].split()[-1])
    row = next(row for row in candidates_of(run.study).rows if row.number == number)
    assert row.bits in text
    assert all(name in text for name in ("error", "leakage", "latency_ms"))
    leakage = row.numbers["leakage"]
    assert f"{leakage.low:.3f} to {leakage.high:.3f}" in text
    assert page.do("document.querySelectorAll('#card svg rect').length") >= 1
    page.mouse("mouseMoved", 5, 5)
    page.wait("document.getElementById('card').hidden")


def test_a_row_of_the_table_keeps_its_card_until_it_is_closed(page):
    page.do("document.querySelector('#remaining tbody tr').click()")
    assert page.do("document.getElementById('card').innerText").startswith("close")
    page.do("document.querySelector('#card button').click()")
    assert page.do("document.getElementById('card').hidden")


def test_a_heading_sorts_the_table(page, run):
    rows = candidates_of(run.study).rows
    page.do(
        "[...document.querySelectorAll('#remaining thead button')].find((one) => one.textContent === 'leakage').click()"
    )
    upwards = [row.number for row in sorted(rows, key=lambda row: (row.numbers["leakage"].value, row.number))]
    assert listed(page) == upwards


def test_another_network_is_shown_layer_by_layer(page):
    count = page.do("document.querySelectorAll('#layers option').length")
    if count > 1:
        page.do(
            "(() => { const select = document.querySelector('#layers select'); select.selectedIndex = 1;"
            "select.dispatchEvent(new Event('change')); })()"
        )
        page.wait("document.querySelectorAll('#layers figure:not([hidden]) .drawn').length === 2")
    assert page.do("document.querySelectorAll('#layers figure:not([hidden])').length") == 2


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_nothing_is_wider_than_the_window(page, width, tmp_path):
    page.size(width, is_phone=width < 500)
    page.wait(f"document.documentElement.clientWidth === {width}")
    page.wait(f"document.documentElement.scrollWidth <= {width}")  # the figures follow when the size rests
    page.picture(tmp_path / f"{width}.png")
    assert (tmp_path / f"{width}.png").stat().st_size > 10_000
    page.size(1200)


def test_dark_and_light_and_paper(page, tmp_path):
    inks = set()
    for is_dark in (True, False):
        page.dark(is_dark=is_dark)
        page.wait(
            "document.getElementById('projections').layout.template.layout.font.color === "
            "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
        )
        inks.add(page.do("getComputedStyle(document.body).color"))
    assert len(inks) == 2
    page.paper(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("trials", [0, 1])
def test_a_run_with_few_candidates_works(chromium, run, tmp_path, trials):
    chromium.console.clear()
    chromium.open(build.write(changed(run, trials=trials), tmp_path / "few.html"))
    assert chromium.console == []
    assert chromium.do("document.getElementById('remain').textContent") == (
        "" if trials == 0 else "1 of 1 candidates remain."
    )


def test_a_hostile_study_does_nothing(chromium, run, tmp_path):
    chromium.requests.clear()
    chromium.console.clear()
    path = build.write(hostile(run), tmp_path / "hostile.html")
    chromium.open(path)
    chromium.do("document.querySelector('#remaining tbody tr').click()")
    assert chromium.do("window.hacked === undefined && document.querySelectorAll('img, .plot b').length === 0")
    assert (chromium.console, chromium.requests) == ([], [path.as_uri()])
