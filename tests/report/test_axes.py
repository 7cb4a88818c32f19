"""What a report says of a sweep over kinds of adapters, starts and placements."""

import re
from typing import Any

import pytest

from lora.catalogue.colours import CHOSEN, GREY, METHODS, OTHER
from lora.catalogue.columns import AXES, ROWS
from lora.report.looks import MARKERS, looks_of
from lora.report.planes import best_of_axes, planes_of
from tests.support.kinds import told_with_other

SCRIPT = """
from pathlib import Path
from lora.files.sealed import Receipt
from lora.report import style
from lora.report.comparison import Errors
from lora.report.dashboard_points import Points, parallel
from lora.report.planes import planes_of
from lora.selection.choose import read_choice
from lora.selection.results import read_results
from lora.steps.choose import choose
from lora.steps.report import report
from lora.tracking.names import params_of
from lora.tracking.view import varied, view_of
from tests.support.results import make_sweep, write_results

style.ENDINGS = (".svg",)
grid = {"rank": [2, 4], "alpha": [8], "adapter": ["lora", "other"]}
grid |= {"start": ["documented", "upstream"], "placement": ["linear", "all"]}
sweep = make_sweep(Path(sys.argv[1]), grid=grid, rank_curve=True)
errors = {x: 60.0 + i for i, x in enumerate(sweep.points)} | {"other_r4_a8_upstream_all_s3": 50.0}
write_results(sweep, errors)
choose(sweep, Receipt(sweep.layout.receipt("choose")))
for page in ("committee", "summary", "figures", "rank_curve", "dashboard"):
    report(sweep, page, Receipt(sweep.layout.receipt("report", page)))
layout, choice = sweep.layout, read_choice(sweep)
found = Errors.of_sweep(sweep, read_results(sweep, "choose"), choice.metric)
drawn = parallel(Points.of(sweep, found, choice), found.sets).figure.data[0].dimensions
settings = sweep.points[choice.point].values()
axes = varied(sweep.points.values())
view = view_of("s", {"seconds"}, axes)
print(json.dumps({
    "lora": choice.lora,
    "csv": layout.table.read_text().splitlines()[0].split(","),
    "planes": {x.title: x.groups for x in planes_of(found)},
    "pages": {x: layout.report(f"{x}.html").read_text() for x in ("choice", "sweep")},
    "maps": (layout.figures / "heatmap.svg").read_text(),
    "curve": (layout.figures / "rank_curve.svg").read_text(),
    "dashboard": [x.label for x in drawn],
    "params": params_of(settings),
    "columns": view["selectedColumns"],
    "coordinates": view["compareRunCharts"][0]["selectedParams"],
}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_with_other(SCRIPT, str(tmp_path_factory.mktemp("axes")))


def test_the_table_has_the_axes_that_vary(said: Any) -> None:
    assert said["csv"][2:6] == ["rank", "alpha", *AXES][:4] and set(AXES) < {*said["csv"]}
    for page in ("choice", "sweep"):
        assert all(f"<th>{axis}</th>" in said["pages"][page] for axis in AXES), page


def test_any_kind_of_adapter_can_be_the_best(said: Any) -> None:
    assert said["lora"] == "other_r4_a8_upstream_all_s3"
    text = said["pages"]["choice"]
    assert "of each adapter: other 50.0 (other_r4_a8_upstream_all), lora 60.0 (lora_r2_a8)." in text
    assert "of each start: upstream 50.0 (other_r4_a8_upstream_all), documented 60.0" in text
    assert "of each placement: all 50.0 (other_r4_a8_upstream_all), linear 60.0" in text
    assert "of other_r4_a8_upstream_all against lora_r2_a8, the best of 8 settings: test" in text
    assert "With one seed, other and LoRA cannot be told apart" not in text  # 50 and 60 are far
    assert "The choice has the largest rank of the grid" in text


def test_each_combination_has_a_heat_map(said: Any) -> None:
    titles = [
        f"adapter {kind}, start {start}, placement {placement}"
        for kind in ("lora", "other")
        for start in ("documented", "upstream")
        for placement in ("linear", "all")
    ]
    assert sorted(said["planes"]) == sorted(titles)
    assert all(len(groups) == 2 for groups in said["planes"].values())
    best = "adapter other, start upstream, placement all"
    assert next(iter(said["planes"])) == best
    found = {x: len(re.findall(f">{x}<", said["maps"])) for x in titles}
    assert found == dict.fromkeys(titles, 2) | {best: 4}  # energy and forces; the best on both sets
    assert f"{best}: force RMSE" in said["pages"]["choice"]
    assert "Maps of 7 more are in the heat map." in said["pages"]["choice"]


def test_a_rank_curve_has_a_line_of_cuts_for_what_can_be_cut(said: Any) -> None:
    curve = said["curve"]
    assert "cut, lora, upstream, all, alpha 8" in curve
    assert "trained, other, documented, linear, alpha 8" in curve and "cut, other" not in curve


def test_the_dashboard_and_mlflow_have_the_axes(said: Any) -> None:
    assert said["dashboard"][:5] == ["rank", "alpha", *AXES]
    assert "targets" not in said["dashboard"]
    params = said["params"]
    assert (params["method"], params["start"], params["placement"]) == ("other", "upstream", "all")
    assert "settings/start" not in params and "settings/placement" not in params
    assert said["coordinates"] == ["lora_rank", "lora_alpha", "method", "start", "placement"]
    assert {f"params.`{x}`" for x in ("method", "start", "placement")} < {*said["columns"]}
    assert len(said["columns"]) == len({*said["columns"]})


def test_without_them_nothing_is_said() -> None:
    from lora.report.comparison import Errors
    from tests.support.tables import seeds_of

    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0), "full": (70.0, 0.0)}, 1)
    errors = Errors(table, "rmse_f_mev_per_a")
    (plane,) = planes_of(errors)
    assert plane.title == "" and plane.groups == ["lora_a", "lora_b"]
    assert best_of_axes(errors) == []
    varied = table.assign(start=["documented"] * 2 + ["upstream"] * 2 + [None] * 2, adapter="lora")
    assert [x.title for x in planes_of(Errors(varied, errors.metric))] == [
        *("start documented", "start upstream")
    ]
    looks = looks_of(varied, "full_s0")
    assert (looks["lora_a_s0"].marker, looks["lora_b_s0"].marker) == tuple(MARKERS[:2])
    assert {x.key for x in ROWS if x.varied} == {*AXES}


def test_methods_have_colours_of_their_own() -> None:
    colours = [*METHODS.values(), OTHER, CHOSEN, GREY]
    assert len({*colours}) == len(colours)
    assert {"dora", "sparse"} < {*METHODS}
