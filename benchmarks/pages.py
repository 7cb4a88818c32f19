"""Pages of large sweeps in a real browser: status, report, dashboard, MLflow.

    python benchmarks/pages.py                       # about fifteen minutes
    python benchmarks/pages.py dashboard --points 50 --work folder    # a part; keeps the folder

The sweeps are made up: numbers that are given, and no training, written by what the tests use.
Status, choice, pages, Snakemake's report and MLflow's runs are made of them by the real commands,
and opened in Chromium with selenium.  Prints tables in Markdown.  A second call with the same
`--work` takes the folders of the first; pages are made anew.  Seconds of a page count from the
request, by its own clock: to the first paint of anything, to the first figure or row, and until
all that is within reach of the window is drawn, so that the page answers.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from made_up import ENVIRONMENT, ROOT, make, timed

from lora.files.sealed import read_json
from lora.plan.sweep import Sweep

FIRST_PAGE = "committee"  # of which another one tells
FLAGS = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-dev-shm-usage", "--window-size=1400,900"]
WAYS = {  # how WebGL is drawn
    "software": ["--disable-gpu", "--enable-unsafe-swiftshader"],
    "off": ["--disable-gpu", "--disable-3d-apis"],
}
# notes when something is there, by the page's own clock; a blocked page notes nothing
WATCH = """(() => {
    const wanted = %s, seen = window.seen = {};
    const look = () => {
        for (const [name, test] of Object.entries(wanted))
            try { if (!(name in seen) && eval(test)) seen[name] = performance.now() } catch {}
    };
    setInterval(look, 10);
    window.worst = 0;
    new PerformanceObserver(list => list.getEntries().forEach(
        x => { window.worst = Math.max(window.worst, x.duration) })
    ).observe({ type: "longtask", buffered: true });
})()"""
FOUND = """const [entry] = performance.getEntriesByType("navigation");
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return { ...window.seen, load: entry.loadEventEnd, paint: paint?.startTime,
             worst: window.worst }"""


def pages(sweep: Sweep, *only: str) -> dict[str, float]:
    """Write pages of the report, all where none is named; return the seconds of each.

    The page of the export is none of them: nothing is exported.
    """
    names = [x.name for x in sweep.jobs.values() if x.step == "report" and x.name != "card_page"]
    return {
        name: round(timed("report", str(sweep.layout.plan), name)["s"], 1)
        for name in sorted(names, key=lambda x: x != FIRST_PAGE)
        if not only or name in only
    }


# --- the browser


@contextmanager
def browser(flags: list[str]) -> Iterator[Any]:
    """A new Chromium with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        raise SystemExit("chromium and chromedriver are not installed")
    options = Options()
    options.binary_location = shutil.which("chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS, *flags, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        driver.set_script_timeout(90)
        try:
            yield driver
        finally:
            driver.quit()


def opened(url: str, wanted: dict[str, str], flags: list[str], patience: float = 90.0) -> dict:
    """Open a page in a new browser; return seconds until its load, paint, and what is wanted.

    Args:
        url: Its address.
        wanted: {name: expression that is true once it is there}; the last to come stands last.
        flags: Of the browser, beside the common ones.
        patience: Seconds; what has not come by then is missing.
    """
    with browser(flags) as driver:
        watch = WATCH % json.dumps(wanted)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
        driver.get(url)
        end, last = time.monotonic() + patience, list(wanted)[-1]
        while time.monotonic() < end and not driver.execute_script(f"return window.seen.{last}"):
            time.sleep(0.1)
        found = driver.execute_script(FOUND)
        return {name: x / 1000 for name, x in found.items() if x is not None}


def median_of(repeats: int, function: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The median of some goes at it, number by number; what was missing once is left out."""
    found = [function() for _ in range(repeats)]
    keys = [x for x in found[0] if all(x in other for other in found)]
    return {x: statistics.median(one[x] for one in found) for x in keys}


def text(words: str) -> str:
    return f"document.body.innerText.includes({json.dumps(words)})"


# --- what is measured: each returns rows of a table

FIGURES = "[...document.querySelectorAll('.plot')]"
IN_VIEW = f"{FIGURES}.filter(x => x.getBoundingClientRect().top < innerHeight)"
DASHBOARD = {
    "first": f"{FIGURES}.some(x => x.querySelector('.main-svg .trace, .parcoords'))",
    "view": f"{FIGURES}.length && {IN_VIEW}.every("
    "x => x.querySelector('.main-svg .trace, .parcoords')"
    " || x.innerText.includes('WebGL is not supported'))",
    "ready": "document.body.dataset.ready",
}
IMAGE = "document.querySelector('.p-3 > img')"


def status(home: Path, n: int, repeats: int) -> list[dict[str, Any]]:
    """`mace-lora status`."""
    sweep = make(home, n)
    found = median_of(repeats, lambda: timed("status", str(sweep.layout.results)))
    return [{"what": f"`mace-lora status`, {n} points"} | found]


def dashboard(home: Path, n: int, repeats: int) -> list[dict[str, Any]]:
    """dashboard.html, by itself."""
    sweep = make(home, n)
    made = {"s to make": pages(sweep, "dashboard")["dashboard"]}
    path = sweep.layout.report("dashboard.html")
    rows = []
    for way, flags in WAYS.items():
        found = median_of(repeats, lambda: opened(path.as_uri(), DASHBOARD, flags))  # noqa: B023
        what = {"what": f"dashboard, {n} points, WebGL {way}"}
        rows.append(what | made | {"size, MB": path.stat().st_size / 1e6} | found)
    return rows


def report(home: Path, n: int, repeats: int) -> list[dict[str, Any]]:
    """Snakemake's report, and the heat map and the dashboard in it."""
    sweep, folder = make(home, n), home / str(n)
    written = pages(sweep)
    file = folder / "report.html"
    receipts = (folder / "results/report/pages").glob("*.json")
    command = ["--report", str(file), "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml"), "--"]
    made = timed(*command, *sorted(map(str, receipts)), program=("-m", "snakemake"))
    wanted = {"first": "document.querySelector('.sweep table')", "view": text("What won")}
    wanted["ready"] = "document.querySelector('.sweep table') && typeof app !== 'undefined'"
    flags = WAYS["software"]
    found = median_of(repeats, lambda: opened(file.as_uri(), wanted, flags))
    row = {"what": f"report, {n} points: its first page", "s to make": made["s"], "MB": made["MB"]}
    rows = [row | {"size, MB": file.stat().st_size / 1e6} | found]
    print(json.dumps({"seconds of pages": written}), file=sys.stderr)
    for name, kind in (("heatmap.svg", "img"), ("dashboard.html", "html")):
        one = partial(shown_in_report, file.as_uri(), name, kind)
        rows.append(
            {"what": f"report, {n} points: {name}, from the click"} | median_of(repeats, one)
        )
    return rows


def shown_in_report(url: str, name: str, kind: str) -> dict[str, float]:
    """Seconds from the choice of a result in the report until it is there."""
    with browser(WAYS["software"]) as driver:
        driver.get(url)
        wait(driver, "typeof app !== 'undefined' && typeof results !== 'undefined'")
        started = time.perf_counter()
        driver.execute_script(
            "const [path] = Object.entries(results).find(([, r]) => r.name === arguments[0]);"
            "app.setView({content: arguments[1], contentPath: results[path].data_uri})",
            *(name, kind),
        )
        if kind == "img":
            wait(driver, f"{IMAGE}?.complete && {IMAGE}.naturalWidth > 100")
            return {"ready": time.perf_counter() - started}
        driver.switch_to.frame(driver.find_element("tag name", "iframe"))
        wait(driver, DASHBOARD["first"])
        first = time.perf_counter() - started
        wait(driver, DASHBOARD["ready"])
        return {"first": first, "ready": time.perf_counter() - started}


def wait(driver: Any, ready: str, patience: float = 90.0) -> None:
    """Wait until an expression is true."""
    end = time.monotonic() + patience
    while not driver.execute_script(f"return {ready}"):
        if time.monotonic() > end:
            raise SystemExit(f"{ready}: never came")
        time.sleep(0.05)


def mlflow(home: Path, n: int, repeats: int) -> list[dict[str, Any]]:
    """MLflow's list, charts and comparison of all runs, as `mace-lora ui` serves them."""
    sweep = make(home, n)
    results = sweep.layout.results
    done = sweep.layout.receipt("track").is_file()
    made = timed("track", str(results))
    rows = [{"what": f"{n} runs into an SQLite store" + ", nothing new" * done}]
    rows[0] |= {"s to make": made["s"], "MB": made["MB"]}
    runs = len(read_json(sweep.layout.receipt("track"))["runs"])
    figure = "document.querySelectorAll('.js-plotly-plot').length"
    wanted = {
        "runs": {"first": text("matching runs"), "ready": "document.querySelector('.ag-row')"},
        "charts": {"first": f"{figure} > 0", "ready": f"{figure} >= 2"},
        "compare": {"first": text("Comparing"), "ready": figure},
    }
    with served(results) as links:
        for name, tests in wanted.items():
            one = partial(opened, links[name], tests, WAYS["software"])
            found = median_of(repeats, one)
            rows.append({"what": f"MLflow, {runs} runs: {name}"} | found)
    return rows


@contextmanager
def served(results: Path) -> Iterator[dict[str, str]]:
    """The addresses that `mace-lora ui` prints, while it serves them."""
    command = [sys.executable, "-m", "lora.cli", "ui", str(results), "--no_browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    links: dict[str, str] = {}
    assert process.stdout
    while len(links) < 4 and (line := process.stdout.readline()):
        if match := re.match(r"(\w+) +(http://127.0.0.1:\d+/\S+)$", line):
            links[match[1]] = match[2]
    try:
        yield links
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


# --- the table

PARTS = {"status": status, "report": report, "dashboard": dashboard, "mlflow": mlflow}
SIZES = {"status": [1000], "report": [300], "dashboard": [300, 1000], "mlflow": [1000]}
HEADS = {
    "what": "",
    "s": "s",
    "s to make": "s to make",
    "MB": "peak MB",
    "size, MB": "page, MB",
    "paint": "first paint, s",
    "first": "first figure or row, s",
    "view": "all in view, s",
    "ready": "answers, s",
    "worst": "longest block, s",
    "load": "load event, s",
}


def machine() -> str:
    """The machine, its load, and the programs."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    chromium = subprocess.run(["chromium", "--version"], capture_output=True, text=True).stdout
    return (
        f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f}, {chromium.split(' built')[0].strip()}, Python "
        f"{platform.python_version()}"
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table of the rows, without columns that all of them lack."""
    keys = [x for x in HEADS if any(row.get(x) is not None for row in rows)]
    lines = [[HEADS[x] for x in keys], ["---"] * len(keys)]
    for row in rows:
        values = [row.get(x) for x in keys]
        lines.append(["" if x is None else x if isinstance(x, str) else f"{x:.3g}" for x in values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all where none is given")
    parser.add_argument("--points", type=int, nargs="+", help="in place of 300 and 1000")
    parser.add_argument("--repeats", type=int, default=3, help="of pages and status; the median")
    parser.add_argument("--work", type=Path, help="the folder of the sweeps, which is kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        home = (args.work or Path(own)).resolve()
        for part in args.parts or PARTS:
            rows = [
                row
                for n in args.points or SIZES[part]
                for row in PARTS[part](home, n, args.repeats)
            ]
            print(f"{machine()}\n\n{markdown(rows)}\n", flush=True)


if __name__ == "__main__":
    main()
