"""Figures for a paper, of 8 and of 100 LoRA points, and the page of errors beside them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from lora.files.sealed import Receipt
from lora.plan.sweep import Sweep
from lora.report.looks import CHOSEN, GREY, METHODS, looks_of
from lora.report.style import COLUMN, DPI, PAGE
from lora.selection.choose import read_choice
from lora.selection.table import read_table
from lora.steps.choose import choose
from lora.steps.report import report
from tests.support.results import make_sweep, write_results

pytestmark = pytest.mark.slow
GRIDS = {8: ([2, 4, 8, 16], [8, 32]), 100: (range(2, 12), range(10, 110, 10))}
BASELINES = ["foundation", "full", "freeze"]


@dataclass
class Written:
    """A sweep with its figures, and where every text of each is, as shares of the figure."""

    sweep: Sweep
    texts: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=dict)
    inches: dict[str, float] = field(default_factory=dict)

    def record(self, figure: Figure, path: Path) -> None:
        self.inches[path.stem] = figure.get_figwidth()
        self.texts[path.stem] = []


@pytest.fixture(scope="module", params=GRIDS, ids=lambda n: f"{n} points")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    ranks, alphas = GRIDS[request.param]
    grid = {"rank": list(ranks), "alpha": list(alphas)}
    sweep = make_sweep(tmp_path_factory.mktemp("figures"), grid=grid, baselines=BASELINES)
    errors = {name: 60.0 + 7.7 * (i % 13) for i, name in enumerate(sweep.points)}
    write_results(sweep, errors, checks={x: {"forgetting": 100 + e} for x, e in errors.items()})
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    made = Written(sweep)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, made)
        for page in ("figures", "errors_page"):
            report(sweep, page, Receipt(sweep.layout.receipt("report", page)))
    return made


def watch(patch: pytest.MonkeyPatch, made: Written) -> None:
    """Write down where the texts of figures are that are written as SVG."""
    save, draw = Figure.savefig, Text.draw
    current: list[Path] = []

    def savefig(figure: Figure, path: object, **options: object) -> None:
        if isinstance(path, Path) and path.suffix == ".svg":
            made.record(figure, path)
            current.append(path)
        save(figure, path, **options)
        current.clear()

    def drawn(text: Text, renderer: object) -> None:
        draw(text, renderer)
        if current and text.get_text().strip() and text.get_visible():
            box, whole = text.get_window_extent(renderer), text.get_figure(root=True).bbox
            place = np.array([box.x0, box.y0, box.x1, box.y1]) / np.tile(whole.size, 2)
            found = made.texts[current[0].stem]
            found += (
                [] if any(np.allclose(place, x) for _, x in found) else [(text.get_text(), place)]
            )

    patch.setattr(Figure, "savefig", savefig)
    patch.setattr(Text, "draw", drawn)


def figures(written: Written) -> Iterator[Path]:
    paths = sorted(written.sweep.layout.figures.glob("*.svg"))
    assert len(paths) == 10
    yield from paths


def test_every_figure_is_there_for_the_report_and_for_a_paper(written: Written) -> None:
    for path in figures(written):
        pdf = path.with_suffix(".pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf, path.name  # embedded, TrueType
        inches = written.inches[path.stem]
        assert inches in (COLUMN, PAGE)
        with Image.open(path.with_suffix(".png")) as picture:
            assert picture.width == pytest.approx(inches * DPI, abs=1)
            assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
        width = re.search(r'<svg [^>]*?width="([\d.]+)pt"', path.read_text())
        assert width and float(width[1]) == pytest.approx(72 * inches, abs=0.01)
        assert len(pd.read_csv(path.with_suffix(".csv"))), path.name


def test_no_text_leaves_its_figure_or_runs_into_another(written: Written) -> None:
    for path in figures(written):
        found = written.texts[path.stem]
        assert len(found) > 4, path.name
        for text, place in found:
            assert place.min() >= 0 and place.max() <= 1, f"{path.name}: {text!r} at {place}"
        for i, (one, a) in enumerate(found):
            for other, b in found[:i]:
                overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                assert overlap.min() < 0.002, f"{path.name}: {one!r} on {other!r}"


def test_axes_have_units(written: Written) -> None:
    units = {"methods": "(meV/Å)", "learning_curves": "(meV/atom)", "parity": "(eV/atom)"}
    units |= {"parameters": "(meV/Å)", "forgetting": "(meV/Å)", "heatmap": "(meV/atom)"}
    units |= {"error_elements": "(meV/Å)", "error_sizes": "(eV/Å)"}
    for name, unit in units.items():
        assert any(unit in text for text, _ in written.texts[name]), name


def test_the_choice_stands_out_and_methods_keep_their_colours(written: Written) -> None:
    sweep = written.sweep
    point = read_choice(sweep).point
    looks = looks_of(read_table(sweep), point)
    lora = {x: looks[x] for x in sweep.points if sweep.points[x].is_lora and x != point}
    assert looks[point].color == CHOSEN and CHOSEN not in {x.color for x in lora.values()}
    assert looks["full_s3"].color == METHODS["full"][0]
    assert not {look.color for look in lora.values()} & {color for color, _ in METHODS.values()}
    if len(lora) > 8:
        assert {x.color for x in lora.values()} == {GREY} and len(written.texts["parity"]) > 4
        assert all(x.front < looks[point].front for x in lora.values())
        return
    by_rank = {(sweep.points[x].settings.rank, look.color) for x, look in lora.items()}
    by_alpha = {(sweep.points[x].settings.alpha, look.marker) for x, look in lora.items()}
    assert len(by_rank) == 4 and len({color for _, color in by_rank}) == 4
    assert len(by_alpha) == 2 and len({marker for _, marker in by_alpha}) == 2


def test_the_page_of_errors_has_a_few_points_and_its_csv_all(written: Written) -> None:
    layout, point = written.sweep.layout, read_choice(written.sweep).point
    text = layout.report("errors.html").read_text().split("</style>")[1]
    heads = set(re.findall(r"<th>([^<\n]*)\nforce RMSE\n\(meV/Å\)</th>", text))
    assert heads == {point, "full_s3", "freeze_s3", "foundation"}
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)
    for words in (
        "By element",
        "Forces by config_type",
        "at least 0.1 eV/Å",
        "same composition",
        "The worst frames of",
    ):
        assert words in text
    elements = pd.read_csv(layout.report("errors_elements.csv"))
    assert set(elements["point"]) == set(written.sweep.points)
    own = elements[(elements["point"] == point) & (elements["test_set"] == "test")]
    shown = [f"<td>{x:,.1f}</td>" for x in own["rmse_f_mev_per_a"]]
    assert list(own["element"]) == ["H", "O"] and all(x in text for x in shown)
    frames = pd.read_csv(layout.report("errors_frames.csv"))
    frames = frames[frames["point"] == point]
    assert len(frames) == 10 and frames["force_rmse"].is_monotonic_decreasing
    rows = text.split("The worst frames of")[1].count("<tr><th>")  # with the headings
    assert rows == 11 and f"<td>{frames['force_rmse'].iloc[0]:,.1f}</td>" in text
