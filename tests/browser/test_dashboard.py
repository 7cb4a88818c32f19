"""The dashboard in Chromium: opened from its file, without a network, looked around in."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lora.files.sealed import Receipt
from lora.plan.sweep import Sweep
from lora.selection.choose import Choice, read_choice
from lora.selection.table import read_table
from lora.steps.choose import choose
from lora.steps.report import report
from tests.browser.test_browser import FLAGS, chromium, shoot, wait_for
from tests.support.results import DETAILS, frames, make_sweep, write_results

pytestmark = pytest.mark.slow
CHECKS = ("forgetting", "dimers", "eos", "nve")
TEST_ERROR = "test/rmse_f_mev_per_a"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Eleven points with numbers that are given; the chosen one is neither first nor last."""
    home = tmp_path_factory.mktemp("dash & board")
    grid = {"rank": [2, 4, 8], "alpha": [8, 32, 128]}
    found = make_sweep(home, grid=grid)
    order = [x for x in found.points if x != "foundation"]
    errors = {x: 60.0 + (5 * i + 3) % 11 for i, x in enumerate(order)} | {"foundation": 900.0}
    checks = {x: dict.fromkeys(CHECKS, 0.0) for x in found.points}
    for i, name in enumerate(found.points):
        checks[name]["forgetting"] = 100.0 + (7 * i) % 10
    write_results(found, errors, checks=checks)
    choose(found, Receipt(found.layout.receipt("choose")))
    report(found, "dashboard", Receipt(found.layout.receipt("report", "dashboard")))
    return found


@pytest.fixture(scope="module")
def choice(sweep: Sweep) -> Choice:
    return read_choice(sweep)


@contextmanager
def opened(sweep: Sweep, profile: Path, height: int, *flags: str) -> Iterator[Any]:
    """The page, opened as by a double click in a window that is so high."""
    if why := chromium():
        pytest.skip(why)
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    own = [f"--user-data-dir={profile}", f"--window-size=1400,{height}"]
    for flag in [*FLAGS, *own, *flags, "--proxy-server=127.0.0.1:9"]:  # no network
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.get(sweep.layout.report("dashboard.html").as_uri())
    said = "document.getElementById('trouble').textContent"
    wait_for(driver, f"document.body.dataset.ready || {said}")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def browser(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page in a window from which all figures are within reach."""
    with opened(sweep, tmp_path_factory.mktemp("profile"), 3600) as driver:
        yield driver


def traces(browser: Any, figure: str, meta: str) -> list[dict[str, Any]]:
    """What a figure draws: x, y, text of its traces of a kind."""
    return browser.execute_script(
        "return tracesOf(arguments[0], arguments[1]).map(([t]) => ({name: t.name, text: t.text, "
        "x: Array.from(t.x ?? []), y: Array.from(t.y ?? []), visible: t.visible}))",
        *(figure, meta),
    )


def pick(browser: Any, chooser: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", chooser)).select_by_value(value)


def shown_frame(browser: Any) -> dict[str, str]:
    rows = browser.find_elements("css selector", "#told tr")
    return {row.find_element("tag name", "th").text: row.text.split()[-1] for row in rows}


def test_it_opens_alone_and_every_figure_is_in_its_panel(browser: Any) -> None:
    shoot(browser, "dashboard")
    errors = [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
    assert not errors
    assert browser.execute_script("return trouble.textContent") == ""
    figures = {x.get_attribute("id"): x for x in browser.find_elements("css selector", ".plot")}
    assert list(figures) == [
        *("parallel", "scatter", "races", "parity", "structure", "dimers", "volumes", "drift"),
    ]
    outside = browser.execute_script("""
        return [...document.querySelectorAll('.plot')].flatMap(plot => {
            const box = plot.getBoundingClientRect();
            const parts = [...plot.querySelectorAll('svg text, canvas, .gl-container')];
            if (!parts.length) return [`${plot.id} is empty`];
            return parts.map(part => [part, part.getBoundingClientRect()]).filter(([, x]) => x.width
                && (x.left < box.left - 1 || x.right > box.right + 1
                    || x.top < box.top - 1 || x.bottom > box.bottom + 1)
            ).map(([part]) => `${plot.id}: ${part.tagName} ${part.textContent}`)})""")
    assert not outside
    requests = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert requests == 0


def test_whoever_reads_it_aloud_finds_names(browser: Any) -> None:
    assert browser.find_element("tag name", "html").get_attribute("lang") == "en"
    assert browser.title == "Dashboard"
    for chooser in browser.find_elements("tag name", "select"):
        assert chooser.accessible_name.strip()
    for plot in browser.find_elements("css selector", ".plot"):
        assert plot.aria_role == "group"  # an image has no controls inside
        assert len(plot.accessible_name) > 20


def test_the_choice_is_marked_and_the_foundation_sets_no_scale(
    browser: Any, sweep: Sweep, choice: Choice
) -> None:
    table = read_table(sweep).set_index(["point", "test_set"])["rmse_f_mev_per_a"]
    (mark,) = traces(browser, "scatter", "choice")
    assert mark["text"] == [choice.point]
    assert mark["y"] == [pytest.approx(table[choice.point, "test"])]
    assert mark["x"] == [pytest.approx(choice.verdicts[choice.point]["forgetting"].compared, 1e-4)]
    assert max(y for t in traces(browser, "scatter", "points") for y in t["y"]) < 100
    assert "up 905" in browser.find_element("id", "scatter-said").text
    lines = browser.execute_script(
        "const p = at('parallel'); return p.layout.meta.map((n, k) => [n, p.data[0].line.color[k]])"
    )
    assert [name for name, colour in lines if colour > 1] == [choice.point]
    axes = browser.execute_script("return at('parallel').data[0].dimensions.slice(0, 2)")
    assert [x["ticktext"] for x in axes] == [["2", "4", "8"], ["8", "32", "128"]]
    assert np.diff(axes[0]["tickvals"]) == pytest.approx(np.log10(2), abs=1e-5)  # logarithmic


def front(table: pd.DataFrame) -> set[str]:
    """The points than which none is better in both columns."""
    return {
        str(name)
        for name, a in table.iterrows()
        if not ((table <= a).all(axis=1) & (table < a).any(axis=1)).any()
    }


def test_any_number_against_any_other_with_its_front(browser: Any, sweep: Sweep) -> None:
    columns = browser.execute_script("return points.columns")
    table = pd.DataFrame(columns, index=browser.execute_script("return points.names"))
    table = table.drop(index="foundation")
    for x, y in [("train_seconds", TEST_ERROR), ("forgetting", TEST_ERROR)]:
        pick(browser, "x", x)
        pick(browser, "y", y)
        drawn = {
            p
            for t in traces(browser, "scatter", "points")
            for p in zip(t["x"], t["y"], strict=True)
        }
        assert drawn == {*table[[x, y]].itertuples(index=False, name=None)}
        (line,) = traces(browser, "scatter", "front")
        best = table.loc[sorted(front(table[[x, y]]))]
        assert set(zip(line["x"], line["y"], strict=True)) == {
            *best[[x, y]].itertuples(index=False, name=None)
        }


def test_what_is_kept_on_an_axis_is_kept_everywhere(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    axis = browser.find_elements("css selector", "#parallel .axis-brush .background")[0]  # rank
    height = round(axis.rect["height"])
    drag = ActionChains(browser).move_to_element_with_offset(axis, 0, round(0.25 * height))
    drag.click_and_hold().move_by_offset(0, round(0.24 * height)).release().perform()
    wait_for(browser, "document.getElementById('parallel-said').textContent.includes('kept')")
    said = browser.find_element("id", "parallel-said").text
    assert said == "3 of 9 points are kept."  # those of rank 2
    assert sum(len(t["x"]) for t in traces(browser, "scatter", "points")) == 3
    curves = traces(browser, "races", "curves")
    names = {n for t in curves for n, y in zip(t["text"], t["y"], strict=True) if y is not None}
    assert names == {f"lora_r2_a{a}_s3" for a in (8, 32, 128)}
    browser.execute_script("Plotly.restyle('parallel', 'dimensions[0].constraintrange', [null])")
    wait_for(browser, "!document.getElementById('parallel-said').textContent")
    assert sum(len(t["x"]) for t in traces(browser, "scatter", "points")) == 10


# where the choice's line is, in CSS pixels of the canvas: in front, and not at an axis
ORANGE = """
    const canvas = document.querySelector('#parallel .gl-canvas-focus');
    const { width, height, clientWidth } = canvas, found = [];
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    for (let i = 0; i < data.length; i += 4)
        if (data[i] > 200 && data[i + 2] < 60 && data[i + 3] > 200) found.push(
            [i / 4 % width, Math.floor(i / 4 / width)].map(x => x * clientWidth / width));
    return found"""


def test_lines_are_drawn_without_webgl(sweep: Sweep, choice: Choice, tmp_path: Path) -> None:
    """Those of parallel coordinates: the choice in front, told by the mouse, gone if not kept."""
    from selenium.webdriver.common.action_chains import ActionChains

    with opened(sweep, tmp_path, 900, "--disable-3d-apis") as browser:
        assert not browser.execute_script(
            "return document.createElement('canvas').getContext('webgl')"
        )
        assert "WebGL" not in browser.find_element("id", "parallel").text
        line = browser.execute_script(ORANGE)
        assert len({round(x) for x, _ in line}) > 900  # from the first axis to the last
        x, y = line[len(line) // 2]
        canvas = browser.find_element("css selector", "#parallel .gl-canvas-pick")
        size = canvas.size
        at = (round(x - size["width"] / 2), round(y - size["height"] / 2))
        ActionChains(browser).move_to_element_with_offset(canvas, *at).perform()
        said = wait_for(browser, "document.getElementById('parallel-said').textContent")
        assert said.startswith(choice.point)
        for low, high, there in ((0.2, 0.4, False), (0.8, 1.0, True)):  # of rank: 2, and 8
            browser.execute_script(
                "Plotly.restyle('parallel', 'dimensions[0].constraintrange', [arguments[0]])",
                [low, high],
            )
            wait_for(browser, "document.getElementById('parallel-said').textContent.match(/kept/)")
            assert bool(browser.execute_script(ORANGE)) is there


def test_a_click_on_a_number_shows_its_frame(browser: Any, sweep: Sweep, choice: Choice) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    table = pd.read_parquet(sweep.layout.parity(choice.point))
    part = table[table["test_set"] == "test"].assign(off=lambda x: x["predicted"] - x["reference"])
    of_frame = part[part["quantity"] == "force"].groupby("frame")["off"]
    rms = 1000 * np.sqrt(of_frame.agg(lambda x: (x**2).mean()))
    first = shown_frame(browser)
    assert int(first["Frame"]) == rms.idxmax()  # the worst of the test set
    assert float(first["Force RMSE (meV/Å)"]) == pytest.approx(rms.max(), rel=1e-3)

    group = browser.find_elements("css selector", "#parity .subplot.xy .scatterlayer .trace")[1]
    marks = group.find_elements("css selector", "path.point")
    energies = part[part["quantity"] == "energy"].reset_index(drop=True)
    assert len(marks) == len(energies)
    other = next(i for i, frame in enumerate(energies["frame"]) if frame != rms.idxmax())
    ActionChains(browser).move_to_element(marks[other]).pause(0.3).click().perform()
    frame = int(energies["frame"][other])
    wait_for(browser, f"document.querySelector('#told').innerText.includes('{frame}')")
    found = shown_frame(browser)
    assert (found["Source file"], found["Frame"], found["Set"]) == (
        "test_in.xyz",
        str(frame),
        "test",
    )
    ring = traces(browser, "parity", "frame")
    assert [len(x["x"]) for x in ring] == [1, 6]  # its energy, its force components
    atoms = frames("test")[frame - 20]
    balls = browser.execute_script("return at('structure').data[0]")
    assert np.transpose([balls[x] for x in "xyz"]) == pytest.approx(atoms.positions, abs=1e-3)
    assert re.match(r"O 0: force error [\d.]+ meV/Å", balls["text"][0])


def test_curves_of_the_checks(browser: Any, choice: Choice) -> None:
    pick(browser, "pair", "O-H")
    drawn = [x for x in traces(browser, "dimers", "O-H") if x["visible"]]
    assert {x["name"] for x in drawn} == {choice.point, "foundation", "full_s3"}
    for one in drawn:
        assert one["y"] == DETAILS["dimers"]["curves"]["O-H"]["energy"]
    assert not [x for x in traces(browser, "dimers", "O-O") if x["visible"]]
    wall = traces(browser, "dimers", "O-O")[0]["y"]
    assert wall == [None, *DETAILS["dimers"]["curves"]["O-O"]["energy"][1:]]
    assert traces(browser, "volumes", "OH")[0]["x"] == [88, 100, 112]
    assert traces(browser, "drift", "nve")[0]["y"] == DETAILS["nve"]["curve"]["energy"]


def test_figures_far_below_are_drawn_when_they_come_near(sweep: Sweep, tmp_path: Path) -> None:
    """As they would be had they been there when something was chosen for them."""
    drawn = "return [...document.querySelectorAll('.plot')].filter(x => x.data).map(x => x.id)"
    with opened(sweep, tmp_path, 900) as browser:
        first = browser.execute_script(drawn)
        assert first[:2] == ["parallel", "scatter"]
        assert not {"structure", "dimers", "drift"} & {*first}
        for chooser, index in (("pair", 1), ("frame", 1)):  # from afar: no click, no scrolling
            browser.execute_script(
                "const list = at(arguments[0]); list.selectedIndex = arguments[1]; "
                "list.dispatchEvent(new Event('change'))",
                *(chooser, index),
            )
        assert browser.execute_script("return at('pair').value") == "O-H"
        assert browser.execute_script(drawn) == first
        browser.execute_script("at('drift').scrollIntoView()")
        wait_for(browser, "at('drift').data && at('dimers').data")
        assert not [x for x in traces(browser, "dimers", "O-O") if x["visible"]]
        assert [x for x in traces(browser, "dimers", "O-H") if x["visible"]]
        browser.execute_script("at('structure').scrollIntoView()")
        wait_for(browser, "at('structure').data?.length")
        shown = "told.structures[at('frame').value].traces[0].text"
        assert browser.execute_script(f"return at('structure').data[0].text[0] === {shown}[0]")
        browser.execute_script("window.scrollTo(0, 0)")
        wait_for(browser, "tracesOf('parity', 'frame').every(([t]) => t.x.length)")
        assert len(browser.execute_script(drawn)) == 8
        assert browser.execute_script("return trouble.textContent") == ""
