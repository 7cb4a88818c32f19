"""The table of points, a row a point and set, which the report shows and the choice is made from.

sweep.csv holds it without the names of groups; who reads it back gets those from the plan.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lora.catalogue.columns import (
    AXES,
    BY_KEY,
    ENERGY,
    ERRORS,
    FORCE,
    ROWS,
    VALID,
    Column,
    shown_on,
)
from lora.catalogue.endings import NO_MODEL
from lora.catalogue.methods import ADAPTERS
from lora.files.sealed import write_text
from lora.plan.points import FOUNDATION, PROTOCOLS, Point, kind_of
from lora.plan.sweep import Sweep
from lora.selection.results import Results

# the kinds of points, in the order of the table
LORA = tuple(kind_of(x, protocol) for x in ADAPTERS for protocol in PROTOCOLS)  # all adapters
BASELINES = ("full", "full_replay", "freeze")  # that are trained
ORDER = (*LORA, "cut", *BASELINES, "foundation")
QUANTITIES = {name: BY_KEY[name].heading for name in (ENERGY, FORCE)}
NAMES = ["group", "plain", "family"]  # columns that sweep.csv does not have


def make_table(points: Mapping[str, Point], results: Results, gpus: int = 1) -> pd.DataFrame:
    """Return a row a point and set, the validation set among them as `valid`.

    A training that failed or was stopped has rows with its reason and without errors.

    Args:
        points: The points of the sweep, by name.
        results: What the steps found of them.
        gpus: The number of GPUs of one training.

    Returns:
        The columns of sweep.csv and those of `NAMES`.
    """
    rows = []
    sets = results.sets or [VALID]
    for point in points.values():
        if point.settings and point.source not in results.trained:
            continue  # a race stopped its settings before it began
        row = _row(point, results.trained, gpus)
        errors = results.evaluated.get(point.name, {})
        rows += [row | {"test_set": x} | _numbers(errors.get(x, {})) for x in sets]
    present = {key for row in rows for key in row}
    columns = [x.key for x in ROWS if not x.error or x.key in {*present, ENERGY, FORCE}]
    table = pd.DataFrame(rows).reindex(columns=columns)
    table = table.drop(columns={*AXES} - {*axes_of(table)})
    ranks = table["method"].map(ORDER.index)
    table = table.assign(_order=ranks).sort_values(
        ["_order", "rank", "alpha", "point"], kind="stable"
    )
    table = table.drop(columns="_order").astype({x.key: "Int64" for x in ROWS if x.integer})
    return with_names(table, points)


def _row(point: Point, trained: Mapping[str, dict[str, Any]], gpus: int) -> dict[str, Any]:
    """Return what the columns say of a point, apart from its errors."""
    row: dict[str, Any] = {"point": point.name, "method": point.kind}
    if point.settings is None:
        return row | {"trainable_parameters": 0}
    result = trained[point.source]
    adapted = point.settings.method in ADAPTERS
    for column in ROWS:
        if column.source and (adapted or not column.adapter):
            row[column.key] = _value(column.source, point, result)
    if not point.trains:  # the settings of its training are there with that training's rank
        share = point.settings.rank / result["settings"]["rank"]
        row["trainable_parameters"] = round(share * result["trainable_parameters"])
    used = gpus if point.settings.device.startswith("cuda") else 0
    return row | {"gpu_hours": result["seconds"] * used / 3600}


def _value(source: str, point: Point, result: dict[str, Any]) -> Any:
    setting = source.removeprefix("settings.")
    return getattr(point.settings, setting) if setting != source else result.get(source)


def _numbers(errors: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in errors.items() if key in ERRORS}


def with_names(table: pd.DataFrame, points: Mapping[str, Point]) -> pd.DataFrame:
    """Return the table with what points have in common: group, plain and family."""
    names = {x: [getattr(points[name], x) for name in table["point"]] for x in NAMES}
    return table.assign(**names)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write sweep.csv, whole or not at all."""
    write_text(path, table.drop(columns=NAMES).to_csv(index=False, float_format="%.6g"))


def read_table(sweep: Sweep) -> pd.DataFrame:
    """Read sweep.csv, with the names of groups from the plan."""
    table = pd.read_csv(sweep.layout.table, keep_default_na=False, na_values=[""])  # a set named NA
    return with_names(table, sweep.points)


def axes_of(table: pd.DataFrame) -> list[str]:
    """Return the axes of the grid, beside rank and alpha, that vary between points."""
    own = table.loc[table["method"] != "cut"]  # a cut starts from another point
    return [x for x in AXES if x in own and own[x].nunique() > 1]


def columns_of(table: pd.DataFrame, page: str) -> list[Column]:
    """Return the columns of a page, in their order.

    Args:
        table: The table.
        page: groups, points or cost.
    """
    axes = axes_of(table)
    return [x for x in shown_on(page) if not x.varied or x.key in axes]


def sound(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of points that have a model."""
    return table.loc[~table["ended_by"].isin(NO_MODEL)]


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of points that were trained: all but the foundation model's."""
    return table.loc[table["point"] != FOUNDATION.name]


def copied(points: Mapping[str, Point]) -> list[str]:
    """Return the cuts that were not trained after that: they have the numbers of their training.

    Args:
        points: Every point by name.
    """
    return [name for name, point in points.items() if point.cut_from and not point.trains]


def of_all_data(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of points that trained on the largest share of the data, or not at all."""
    share = table["train_fraction"]
    whole: pd.DataFrame = table.loc[share.isna() | (share == share.max())]
    return whole


def by_group(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return mean and standard deviation over seeds.

    Args:
        table: The table.
        metrics: The columns to average.

    Returns:
        A row a group and set, columns (metric, mean | std | count).
    """
    grouped = table.groupby(["group", "test_set"], sort=False)
    found: pd.DataFrame = grouped[metrics].agg(["mean", "std", "count"])
    return found
