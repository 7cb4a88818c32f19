"""What a person sees: MLflow's pages and the report of a sweep, in Chromium.

With full counts it is the quickstart's, its trainings and checks shortened.  Screenshots are left
in tests/browser/screenshots/.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.support import apt, counts, forkserver
from tests.support.sweep import CORES, ran

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--disable-dev-shm-usage"]
SERIOUS = ("serious", "critical")
WIDE = (2600, 1500)  # MLflow draws only the columns that are in sight


def chromium() -> str:
    """Install Chromium where it is missing.  Returns why it cannot be had, "" if it can."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return ""
    return apt.install("Chromium", ["chromium", "chromium-driver"])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a sweep, and report.html beside them."""
    if why := chromium():
        pytest.skip(why)
    if counts.full():
        return quickstart(tmp_path_factory.mktemp("quickstart"))
    sweep = ran(tmp_path_factory.mktemp("browser"))
    sweep.run("--report", "report.html")
    return sweep.home / "out"


def quickstart(home: Path) -> Path:
    """Run it with half its points."""
    overlay: dict = {"results": str(home / "results"), "train": {"max_num_epochs": 2}}
    short = {"nve": {"steps": 20}, "heating": {"steps": 10}, "holes": {"structures": 4, "steps": 5}}
    overlay["grid"] = {"rank": [2, 8]}
    overlay["checks"] = {"settings": short}
    overlay["export"] = {"engines": ["ase", "openmm"]}
    (home / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    common = ["snakemake", "--directory", str(home), "--snakefile", str(ROOT / "Snakefile")]
    (home / "config").symlink_to(ROOT / "config")
    (home / "workflow").symlink_to(ROOT / "workflow")
    for own in (CORES, ["--report", str(home / "report.html")]):
        done = subprocess.run(
            [*common, "--configfile", "config/config.yaml", str(home / "overlay.yaml"), *own],
            capture_output=True,
            text=True,
            env=os.environ | forkserver.environment(),
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return home / "results"


@pytest.fixture
def page(tmp_path: Path, results: Path) -> Iterator[Callable]:
    """Opens an address in a browser of its own and waits until something is there."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    opened: list[Any] = []

    def open_(url: str, ready: str, size: tuple[int, int] = WIDE, network: bool = True) -> Any:
        options = Options()
        options.binary_location = shutil.which("chromium")
        own = [f"--user-data-dir={tmp_path}/{len(opened)}", f"--window-size={size[0]},{size[1]}"]
        for flag in FLAGS + own + ([] if network else ["--proxy-server=127.0.0.1:9"]):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        opened.append(driver)
        driver.get(url)
        wait_for(driver, ready)
        return driver

    yield open_
    for driver in opened:
        driver.quit()


def wait_for(driver: Any, ready: str) -> Any:
    """What a JavaScript expression gives, once it gives something."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := driver.execute_script(f"return {ready}"):
            return found
        time.sleep(0.2)
    driver.save_screenshot(str(SCREENSHOTS / "failed.png"))
    raise AssertionError(f"{ready}: never came; see {SCREENSHOTS}/failed.png")


# the rows of the runs table, each drawn in two halves, once both are there
ROWS = """(() => {
    const rows = [];
    document.querySelectorAll('.ag-row').forEach(row => {
        const one = rows[row.getAttribute('row-index')] ??= {};
        row.querySelectorAll('.ag-cell').forEach(
            cell => { one[cell.getAttribute('col-id')] = cell.innerText.trim() });
    });
    const full = row => row['attributes.`Run Name`'] && row['params.`lora_rank`'];
    return rows.length && rows.every(full) ? rows : null;
})()"""


def text(words: str) -> str:
    return f"document.body.innerText.includes({json.dumps(words)})"


def shoot(driver: Any, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


@pytest.fixture(scope="module")
def links(results: Path) -> Iterator[dict[str, str]]:
    """What `mace-lora ui` prints: the addresses of the pages."""
    command = [sys.executable, "-m", "lora.cli", "ui", str(results), "--no_browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = {}
    while len(found) < 4 and (line := process.stdout.readline()):
        if match := re.match(r"(\w+) +(http://127.0.0.1:\d+/\S+)$", line):
            found[match[1]] = match[2]
    yield found
    process.send_signal(signal.SIGINT)
    process.wait(20)


@pytest.fixture(scope="module")
def table(results: Path) -> pd.DataFrame:
    """Test errors, rank and alpha of every point that is a run, and what they are chosen by."""
    table = pd.read_csv(results / "report/sweep.csv")
    table = table[table["method"] != "cut"].set_index("point")
    valid = table.loc[table["test_set"] == "valid", "rmse_f_mev_per_a"]
    return table[table["test_set"] == "test"].assign(chosen_by=valid)


def test_runs_table_shows_every_point(
    page: Callable, links: dict, table: pd.DataFrame, results: Path
) -> None:
    best = json.loads((results / "report/best.json").read_text())["point"]
    driver = page(links["runs"], text(f"{len(table)} matching runs"))
    rows = wait_for(driver, ROWS)
    shoot(driver, "mlflow_runs")
    shown = {row["attributes.`Run Name`"].splitlines()[-1].split(":")[0]: row for row in rows}
    rounded = {point: float(f"{x:.4g}") for point, x in table["chosen_by"].items()}
    assert shown.keys() == rounded.keys()
    assert [rounded[x] for x in shown] == sorted(rounded.values())  # best first, to four digits
    for point, row in table.iterrows():
        error = shown[point]["metrics.`test/rmse_f_mev_per_a`"]
        digits = float(f"{row['rmse_f_mev_per_a']:.4g}")
        assert error == f"{digits:g}"
        assert shown[point]["tags.`chosen`"] == str(point == best)
        assert shown[point]["metrics.`checks_failed`"] == ("-" if point == "foundation" else "0")
        assert shown[point]["metrics.`check/forgetting`"]
        for key in ("rank", "alpha"):
            value = f"{row[key]:g}" if row["method"] == "lora" else "-"
            assert shown[point][f"params.`lora_{key}`"] == value


def test_comparison_page_shows_every_point(
    page: Callable, links: dict, table: pd.DataFrame
) -> None:
    table = table[table["method"] != "foundation"]  # which would set the scale
    driver = page(links["compare"], text(f"Comparing {len(table)} Runs"))
    dimensions = wait_for(
        driver,
        "document.querySelector('.js-plotly-plot')?.data?.[0].dimensions"
        "?.map(d => [d.label, Array.from(d.values)])",
    )
    shoot(driver, "mlflow_compare")
    axes = {re.sub("<.*?>", "", label): values for label, values in dimensions}
    assert list(axes)[:2] == ["lora_alpha", "lora_rank"]
    assert list(axes)[-1] == "valid/rmse_f_mev_per_a" and "lora_scaling" not in axes
    errors = sorted(axes["valid/rmse_f_mev_per_a"])
    digits = 5e-4  # MLflow has four
    assert errors == pytest.approx(sorted(table["chosen_by"]), rel=digits)
    found = set(zip(axes["lora_rank"], axes["valid/rmse_f_mev_per_a"], strict=True))
    for _, row in table[table["method"] == "lora"].iterrows():
        near = [r for r, e in found if e == pytest.approx(row["chosen_by"], rel=digits)]
        assert row["rank"] in [float(r) for r in near]
    shown = driver.execute_script("return document.body.innerText")
    assert all(point in shown for point in table.index)


def test_charts_are_there(page: Callable, links: dict, table: pd.DataFrame) -> None:
    ready = "document.querySelectorAll('.js-plotly-plot').length >= 3"
    driver = page(links["charts"], ready)
    shoot(driver, "mlflow_charts")
    shown = driver.execute_script("return document.body.innerText")
    for words in (r"Sweep\s*\(4\)", "Parallel Coordinates", "valid/rmse_f_mev_per_a"):
        assert re.search(words, shown)
    assert f"{len(table) - 1} matching runs" in shown and "foundation:" not in shown
    methods = table.loc[table["method"] != "foundation", "method"].str.removesuffix("_replay")
    colours = re.findall(r"^#[0-9A-F]{6}$", shown, re.M)  # of the runs
    assert len({*colours}) == methods.nunique()


def faults_of(driver: Any, part: str = "html") -> list[tuple[str, str]]:
    """The rules of axe that a part of the page breaks seriously, with an element each."""
    driver.execute_script((files("axe_core_python") / "axe.min.js").read_text())
    run = "axe.run(arguments[0]).then(found => arguments[1](found.violations))"
    found = driver.execute_async_script(run, part)
    return [(x["id"], x["nodes"][0]["html"]) for x in found if x["impact"] in SERIOUS]


def test_pages_have_no_serious_fault_of_accessibility(page: Callable, results: Path) -> None:
    """Axe's rules, on every page of our own; those of snakemake and MLflow are theirs."""
    pages = sorted((results / "report").glob("*.html"))
    assert len(pages) > 8
    driver = page(pages[0].as_uri(), "document.title", (1280, 900), network=False)
    for path in pages:
        driver.get(path.as_uri())
        assert not (wrong := faults_of(driver)), f"{path.name}: {wrong}"
        wide = "document.documentElement.scrollWidth <= window.innerWidth"
        assert path.name != "choice.html" or driver.execute_script(f"return {wide}")


def test_parity_compares_runs_by_structure(page: Callable, links: dict) -> None:
    driver = page(links["parity"], text("force_rmse"))
    wait_for(driver, r"/\b(test|valid|600K) \d+\s+\d+/.test(document.body.innerText)")
    shoot(driver, "mlflow_parity")


def test_report_opens_without_network_and_every_figure_shows(
    page: Callable, results: Path, table: pd.DataFrame
) -> None:
    url = (results.parent / "report.html").as_uri()
    driver = page(url, text("What won"), (1500, 1100), network=False)
    shoot(driver, "report_first_page")
    assert not faults_of(driver, ".sweep")  # Snakemake's styles, such as a pale code, act on it
    top = "document.querySelector('.sweep h1').getBoundingClientRect().top"
    assert 0 <= driver.execute_script(f"return {top}") < 200  # seen without scrolling
    shown = driver.execute_script("return document.body.innerText")
    settings = {re.sub(r"_s\d+$", "", point) for point in table.index}
    assert all(setting in shown for setting in settings)
    best = json.loads((results / "report/best.json").read_text())["point"]
    assert f"Chosen: {best}" in shown

    names = driver.execute_script(
        "return Object.entries(results).map(([path, r]) => [path, r.name, r.mime_type])"
    )
    assert {name for _, name, _ in names} >= {
        "heatmap.svg",
        "choice.html",
        "dashboard.html",
        "e0s.html",
    }
    for path, name, kind in names:
        content = "html" if kind == "text/html" else "img"
        driver.execute_script(
            "app.setView({content: arguments[0], contentPath: results[arguments[1]].data_uri})",
            *(content, path),
        )
        if content == "img":
            wait_for(
                driver,
                "(() => { const i = document.querySelector('.p-3 > img'); "
                "return i && i.complete && i.naturalWidth > 100 && i.naturalHeight > 100 })()",
            )
        else:
            driver.switch_to.frame(driver.find_element("tag name", "iframe"))
            wait_for(driver, "document.querySelectorAll('table td').length > 2")
            driver.switch_to.default_content()
        shoot(driver, f"report_{name.split('.')[0]}")
