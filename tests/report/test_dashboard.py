"""What the dashboard draws of much data: the worst, a sample of the rest, and a small page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from plotly.offline import get_plotlyjs_version

from lora.files.sealed import Receipt
from lora.report import dashboard, dashboard_curves, dashboard_frames, dashboard_page
from lora.report.comparison import Errors
from lora.report.dashboard_points import Points, _axis
from lora.report.dashboard_style import axis
from lora.selection.choose import read_choice
from lora.selection.results import read_results
from lora.steps.choose import choose
from tests.support.results import make_sweep, write_results

CHROME = 2 * 1024 * 1024  # the longest address of a page, which Snakemake's report makes of a page


def numbers(n: int, force: bool = True) -> pd.DataFrame:
    """Parity data of n frames of two atoms on each of two sets; the error grows with the frame."""
    parts = []
    for name in ("valid", "test"):
        for quantity, times in (("energy", 1), ("force", 6)):
            frame = np.repeat(range(n), times)
            row = {"test_set": name, "source_file": "a.xyz", "quantity": quantity}
            part = pd.DataFrame({**row, "frame": frame, "structure": frame, "reference": 1.0})
            part["predicted"] = 1 + 1e-3 * (frame + 1)
            if quantity == "force" and not force:
                part["reference"] = np.nan
            parts.append(part)
    return pd.concat(parts)


@pytest.mark.parametrize("force", [True, False], ids=["forces", "energies alone"])
def test_the_worst_frames_of_each_set_and_a_sample_of_numbers(force: bool) -> None:
    found = dashboard_frames.Frames.of(numbers(1000, force))
    for name in ("valid", "test"):
        worst = found.worst[found.worst["test_set"] == name]
        assert list(worst["frame"]) == list(range(999, 989, -1))
        assert list(worst["error"]) == pytest.approx(list(range(1000, 990, -1)))
    panel = dashboard_frames.parity(found, "p")
    drawn = [x for x in panel.figure.data if x.meta == "numbers"]
    assert sum(len(x.x) for x in drawn if x.xaxis in (None, "x")) == 2000  # all energies
    if force:
        frames = [i for x in drawn if x.xaxis == "x2" for i in x.customdata]
        assert len(frames) == 2000
        assert frames.count(found.worst.index[0]) == 6  # all numbers of the worst frame
        assert "2,000 of 12,000 numbers of force" in panel.about


def test_structures_beyond_the_budget_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dashboard_frames.Frames.of(numbers(20))
    monkeypatch.setattr(dashboard_frames, "ATOMS", 7)
    pair = Atoms("OH", [[0, 0, 0], [0, 0, 0.96]])
    panel, told = dashboard_frames.structures(found, dict.fromkeys(found.frames.index, pair))
    assert len(told["structures"]) == 3  # of two atoms
    listed = {value for _, value, _ in panel.choosers[0].options}
    assert listed == set(told["structures"])
    balls, bonds, errors = next(iter(told["structures"].values()))["traces"]
    assert len(balls["x"]) == 2 and len(bonds["x"]) == 3
    length = [np.diff([errors[k][0], errors[k][1]])[0] for k in "xyz"]
    assert np.linalg.norm(length) == pytest.approx(dashboard_frames.ARROW, abs=1e-3)


def test_a_crystal_has_its_cell() -> None:
    traces = dashboard_frames._traces(bulk("Cu", cubic=True), np.empty((0, 3)))
    assert len(traces[2].x) == 36  # twelve edges


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.0, 2.0], "linear"), ([1.0, 9.0], "log"), ([0.0, 9.0], "linear"), ([np.nan], "linear")],
)
def test_scales(values: list[float], kind: str) -> None:
    found = axis(values)
    assert found["type"] == kind
    if kind == "log":
        assert {"1", "2", "5", "10"} <= set(found["ticktext"])


def test_axes_of_parallel_coordinates() -> None:
    """Plotly tells ticks by their texts: two that are equal would lose their places."""
    for values in (range(1, 31), [2.0, 4.0, 2.0], np.geomspace(1e-3, 5e3, 300), range(21)):
        found = _axis("rank", "", pd.Series([*values]))
        assert len({*found["ticktext"]}) == len(found["tickvals"]) <= 10
        assert min(found["values"]) <= min(found["tickvals"])
        assert max(found["tickvals"]) <= max(found["values"])
    few = _axis("rank", "", pd.Series([2, 4, 16, 4]))
    assert few["ticktext"] == ["2", "4", "16"]
    assert few["tickvals"] == pytest.approx(np.log10([2, 4, 16]), abs=1e-5)
    names = _axis("start", "", pd.Series(["b", None, "a"], dtype=object))
    assert (names["values"], names["ticktext"]) == ([2, 0, 1], ["None", "a", "b"])


def test_the_library_is_that_of_python() -> None:
    """Figures are made by the one and drawn by the other."""
    import gzip

    library = gzip.decompress(dashboard_page.LIBRARY.read_bytes()).decode()
    assert f'"{get_plotlyjs_version()}"' in library


def test_many_points_are_a_small_page_with_thinned_curves(
    tmp_path: Path,
) -> None:
    sweep = make_sweep(tmp_path, grid={"rank": [*range(1, 11)], "alpha": [*range(1, 5)]})
    rng = np.random.default_rng(0)
    checks = {x: {"forgetting": rng.random() + 1, "nve": rng.random()} for x in sweep.points}
    write_results(sweep, {x: 60 + 9 * rng.random() for x in sweep.points}, checks=checks)
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    (page,) = dashboard.write(sweep)
    assert page.stat().st_size * 4 / 3 + 100 < CHROME

    choice = read_choice(sweep)
    errors = Errors.of_sweep(sweep, read_results(sweep, "choose"), choice.metric)
    points = Points.of(sweep, errors, choice)
    epochs = pd.DataFrame(
        [
            {
                "point": x,
                "epoch": i,
                "valid_rmse_e_mev_per_atom": 1.0,
                "valid_rmse_f_mev_per_a": 9.0,
            }
            for x in sweep.points
            if x != "foundation"
            for i in range(1001)
        ]
    )
    race: Any = SimpleNamespace(rungs=[SimpleNamespace(epoch=9), SimpleNamespace(epoch=40)])
    panel = dashboard_curves.races(epochs, points, errors, [race])
    curves = [x for x in panel.figure.data if x.meta == "curves"]
    assert sum(len(x.x) for x in curves) < 2 * 1.1 * dashboard_curves.VERTICES
    assert {x.x[-2] for x in curves} == {1000}  # the last epoch is kept
    assert [x.x0 for x in panel.figure.layout.shapes] == [9, 9, 40, 40]
    assert "Of 41,041 epochs" in panel.about and "rungs" in panel.about
