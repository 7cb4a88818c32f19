"""Draw the points of a sweep: as parallel coordinates, and any number against any other."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure, Parcoords, Scatter

from lora.catalogue.colours import METHODS, OTHER
from lora.catalogue.columns import AXES, BY_KEY, ERRORS, FORCE, VALID
from lora.catalogue.methods import ADAPTERS
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep
from lora.report.comparison import Errors
from lora.report.dashboard_style import (
    CHOSEN,
    SYMBOLS,
    Chooser,
    Panel,
    axis,
    short,
    styled,
    wide,
)
from lora.report.rivals import TITLES
from lora.selection.choose import Choice
from lora.selection.table import sound

COSTS = ("trainable_parameters", "train_seconds", "epochs", "peak_memory_mb")
ALWAYS = ("rank", "alpha")  # settings with an axis of their own, on a logarithmic scale
FEW = 10  # values that have a tick each
MOST = 9  # settings that vary, with an axis each
FORGETTING = "forgetting"


@dataclass(frozen=True)
class Points:
    """The numbers of every point that has a model.

    Attributes:
        table: A row a point, the chosen one last: method, passed (the checks), and the columns.
        labels: {column: what it is, with its unit}.
        groups: {column: what is listed together}.
        settings: The settings that differ between points with an adapter, a row each of them.
        colours: {method: colour}.
        metric: The column of the error by which the point was chosen.
        chosen: The chosen point.
    """

    table: pd.DataFrame
    labels: Mapping[str, str]
    groups: Mapping[str, str]
    settings: pd.DataFrame
    colours: Mapping[str, str]
    metric: str
    chosen: str

    @classmethod
    def of(cls, sweep: Sweep, errors: Errors, choice: Choice) -> "Points":
        """Gather the numbers.

        Args:
            sweep: The sweep.
            errors: The errors of every point.
            choice: The decision.
        """
        rows = sound(errors.table)
        first = rows.drop_duplicates("point").set_index("point")
        table = first[["method"]].copy()
        labels: dict[str, str] = {}
        groups: dict[str, str] = {}

        def add(key: str, group: str, label: str, values: "pd.Series[Any]") -> None:
            values = values.reindex(table.index).astype(float)
            if np.isfinite(values).any():
                table[key], labels[key], groups[key] = values, label, group

        for name in errors.sets:
            of_set = rows[rows["test_set"] == name].set_index("point")
            for key in (x for x in ERRORS if x in of_set):
                add(f"{name}/{key}", name, f"{name}: {BY_KEY[key].heading}", of_set[key])
        checks = {name: x for found in choice.verdicts.values() for name, x in found.items()}
        for name, one in checks.items():
            found = {x: v[name] for x, v in choice.verdicts.items() if name in v}
            relative = one.compare == "ratio" and any(
                v.compared is not None for v in found.values()
            )
            numbers = {x: v.compared if relative else v.value for x, v in found.items()}
            unit = "times the foundation model's" if relative else one.unit
            if relative:
                numbers[FOUNDATION.name] = 1.0
            add(name, "checks", f"{name} ({unit})", pd.Series(numbers, dtype=float))
        for key in (*ALWAYS, *COSTS):
            add(key, "settings and costs", BY_KEY[key].heading, first[key])
        verdicts = choice.verdicts
        table["passed"] = [all(v.passed for v in verdicts.get(x, {}).values()) for x in table.index]
        kinds = [x for x in dict.fromkeys(errors.table["method"]) if x != FOUNDATION.kind]
        last = sorted(table.index, key=lambda x: x == choice.point)
        return cls(
            table.loc[last],
            labels,
            groups,
            _varied(sweep, table),
            {x: METHODS.get(x, OTHER) for x in kinds},
            f"{VALID}/{choice.metric}",
            choice.point,
        )

    def drawn(self) -> pd.DataFrame:
        """Return the rows that figures show: all but the foundation model's."""
        return self.table[self.table.index != FOUNDATION.name]

    def first(self, *keys: str) -> str:
        """Return the first of some columns that is there; any where none is."""
        return next((x for x in keys if x in self.labels), next(iter(self.labels)))


def _varied(sweep: Sweep, table: pd.DataFrame) -> pd.DataFrame:
    """Return the settings that differ between the points with an adapter, rank and alpha first."""
    kept = {x: sweep.points[x].settings for x in table.index}
    rows = {
        x: s.to_dict() | {"placement": s.placement}
        for x, s in kept.items()
        if s is not None and s.method in ADAPTERS
    }
    found = pd.DataFrame.from_dict(rows, orient="index").rename(columns={"method": "adapter"})
    if found.empty:
        return pd.DataFrame(columns=[*ALWAYS])
    found = found.map(lambda x: str(x) if isinstance(x, dict | list | tuple | bool) else x)
    varied = [x for x in found if x not in ALWAYS and found[x].nunique(dropna=False) > 1]
    if "targets" in varied and (found.groupby("placement")["targets"].nunique() == 1).all():
        varied.remove("targets")  # the placement says it
    varied = [*(x for x in AXES if x in varied), *(x for x in varied if x not in AXES)]
    return found[[*ALWAYS, *varied[: MOST - len(ALWAYS)]]]


def parallel(points: Points, sets: list[str]) -> Panel | None:
    """Draw a line a point through its settings and errors; None where no point has an adapter.

    Args:
        points: The points.
        sets: The names of the sets.
    """
    errors = [points.metric, *(f"{x}/{FORCE}" for x in sets if x != VALID)]
    more = [x for x in (*errors[:5], FORGETTING, "train_seconds") if x in points.labels]
    more = list(dict.fromkeys(more))
    rows = points.settings.join(points.table[more]).loc[
        [x for x in points.table.index if x in points.settings.index]
    ]
    rows = rows.dropna(subset=more)
    if rows.empty:
        return None
    names = {x: points.labels[x] if x in more else "" for x in map(str, rows)}
    axes = [_axis(key, name, rows[key]) for key, name in names.items()]
    error = np.log(rows[points.metric].clip(lower=1e-12)).to_numpy()
    low, high = float(error.min()), float(np.quantile(error, 0.9))
    shades = np.clip((error - low) / (high - low or 1.0), 0, 1)
    marked = points.chosen in rows.index
    line = {
        "color": [
            2.0 if x == points.chosen else s for x, s in zip(rows.index, shades, strict=True)
        ],
        "cmin": 0,
        "cmax": 2,
        "colorscale": [[0, "#00204D"], [0.5, "#C8CCD4"], [0.6, CHOSEN], [1, CHOSEN]],
    }
    unseen = {"color": "rgba(0,0,0,0)"}  # the ends of an axis, which stand where ticks do
    lines = Parcoords(line=line, dimensions=axes, labelside="bottom", rangefont=unseen)
    figure = styled(Figure(lines), 460)
    figure.update_layout(margin={"l": 60, "r": 60, "t": 40, "b": 110}, meta=list(rows.index))
    n_other = len(points.drawn()) - len(rows)
    about = (
        f"A line for each of the {len(rows)} points with an adapter. Dark: the lowest "
        f"{points.labels[points.metric]}; orange: "
        + (f"the choice, {points.chosen}. " if marked else "the choice has no adapter. ")
        + "Drag along an axis to keep the lines that pass there, here and in the next two figures; "
        "click the axis to let go. Drag a name to move its axis."
        + (
            f" Not here, but in the next figures: {n_other} without these numbers."
            if n_other
            else ""
        )
    )
    return Panel("parallel", "Points", about, figure)


def _axis(key: str, label: str, values: "pd.Series[Any]") -> dict[str, Any]:
    """Return an axis of parallel coordinates; of a setting each value has a tick.

    Where an axis has ticks, what is kept on it reaches from tick to tick.

    Args:
        key: The column.
        label: What it is; "" of a setting.
        values: The numbers or names.
    """
    setting = not label
    found: dict[str, Any] = {"label": "<br>".join(wrap(label or key, 13))}
    if not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        said = [str(x) for x in values]
        names = sorted({*said})
        places = [names.index(x) for x in said]
        return found | {"values": places, "tickvals": [*range(len(names))], "ticktext": names}
    number = values.astype(float)
    known = sorted(number.unique())
    log = bool((number > 0).all()) and (key in ALWAYS or wide(number))
    scaled = np.log10(number) if log else number
    found["values"] = short(scaled, 7)
    if not (setting or log):
        return found
    at = known
    if len(known) > FEW:
        low, high = known[0], known[-1]
        spread = np.geomspace if log else np.linspace
        at = sorted({float(f"{x:.2g}") for x in spread(low, high, FEW)})
        at = [x for x in at if low <= x <= high]
    found["tickvals"] = short(np.log10(at) if log else at, 7)
    return found | {"ticktext": [f"{x:.4g}" for x in at]}


def scatter(points: Points, sets: list[str]) -> Panel:
    """Draw any number of the points against any other, with the Pareto front.

    The page sets the places of the points, by the columns that are chosen.

    Args:
        points: The points.
        sets: The names of the sets.
    """
    figure, rows = Figure(), points.drawn()
    number = {x: i for i, x in enumerate(points.table.index)}
    for i, kind in enumerate(points.colours):
        for passed in (True, False):
            part = rows[(rows["method"] == kind) & (rows["passed"] == passed)]
            if part.empty:
                continue
            mark = {"size": 9, "color": points.colours[kind]}
            mark["symbol"] = SYMBOLS[i % len(SYMBOLS)] + ("" if passed else "-open")
            name = TITLES.get(kind, kind) + ("" if passed else ", refused by a check")
            figure.add_trace(
                Scatter(
                    mode="markers",
                    marker=mark,
                    name=name,
                    customdata=[number[x] for x in part.index],
                    hoverinfo="text",
                    meta="points",
                )
            )
    steps = {"shape": "hv", "color": "#222", "width": 1}
    figure.add_trace(
        Scatter(mode="lines", line=steps, name="Pareto front", hoverinfo="skip", meta="front")
    )
    ring = {"size": 18, "color": CHOSEN, "symbol": "circle-open", "line": {"width": 3}}
    figure.add_trace(
        Scatter(
            mode="markers+text",
            marker=ring,
            name=f"the choice, {points.chosen}",
            text=[points.chosen],
            textposition="bottom center",
            cliponaxis=False,
            hoverinfo="skip",
            meta="choice",
        )
    )
    tests = [f"{x}/{FORCE}" for x in sets if x != VALID]
    x, y = points.first(FORGETTING, "trainable_parameters"), points.first(*tests, points.metric)
    options = [(points.groups[key], key, label) for key, label in points.labels.items()]
    about = (
        "Each point is a training; the lower left is the better. The line is the Pareto front: no "
        "point is better in both. Hollow points were refused by a check."
    )
    return Panel(
        "scatter",
        "One number against another",
        about,
        styled(figure, 520),
        (Chooser("x", "Across", options, x), Chooser("y", "Up", options, y)),
    )


def columns(points: Points) -> dict[str, Any]:
    """Return what the page needs to know of the points.

    Args:
        points: The points.
    """
    table = points.table
    return {
        "names": list(table.index),
        "chosen": points.chosen,
        "metric": points.metric,
        "foundation": FOUNDATION.name,
        "labels": dict(points.labels),
        "columns": {key: short(table[key]) for key in points.labels},
        "axes": {key: axis(points.drawn()[key]) for key in points.labels},
    }
