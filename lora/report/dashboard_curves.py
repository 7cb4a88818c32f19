"""Draw curves for the dashboard: trainings and their races, and what the checks measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from lora.catalogue.columns import ENERGY, FORCE
from lora.plan.points import FOUNDATION
from lora.report.comparison import Errors
from lora.report.dashboard_points import Points
from lora.report.dashboard_style import CHOSEN, COLOURS, GREY, Chooser, Panel, axis, short, styled
from lora.report.planes import other_kinds
from lora.report.rivals import TITLES
from lora.selection.choose import Choice
from lora.selection.raced import Raced
from lora.selection.table import BASELINES, QUANTITIES

VERTICES = 20_000  # of all learning curves together; longer ones are thinned
FEWEST = 20  # epochs of a curve, however many there are
WALL = 5.0  # eV, of a dimer curve, that are drawn above twice the depth of its well
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def races(data: pd.DataFrame, points: Points, errors: Errors, found: Sequence[Raced]) -> Panel:
    """Draw the errors of every training against its epoch, and the rungs of races.

    All curves of a method are one trace with gaps: a page opens with 300 of them.

    Args:
        data: The epochs of every training.
        points: The points.
        errors: The errors of every point, for the method of each.
        found: The races.
    """
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    keys = {f"valid_{ENERGY}": QUANTITIES[ENERGY], f"valid_{FORCE}": QUANTITIES[FORCE]}
    number, chosen = {x: i for i, x in enumerate(points.table.index)}, points.chosen
    curves = {str(x): _thinned(part, data) for x, part in data.groupby("point", sort=False)}
    for column, key in enumerate(keys, start=1):
        for kind, colour in points.colours.items():
            of_kind = (x for x in curves if errors.kind_of(errors.group_of[x]) == kind)
            trace = _curves([x for x in of_kind if x != chosen], curves, key, number)
            trace.update(line={"color": colour, "width": 1}, name=TITLES.get(kind, kind))
            trace.update(legendgroup=kind, showlegend=column == 1)
            figure.add_trace(trace, 1, column)
        if chosen in curves:
            best = _curves([chosen], curves, key, number)
            style = {"color": CHOSEN, "width": 4}
            best.update(line=style, name=f"the choice, {chosen}", showlegend=column == 1)
            figure.add_trace(best.update(legendgroup="chosen"), 1, column)
        figure.update_yaxes(axis(data[key]), title=f"validation {keys[key]}", col=column)
        figure.update_xaxes(title="epoch", col=column)
    rungs = sorted({rung.epoch for race in found for rung in race.rungs})
    for i, epoch in enumerate(rungs, start=1):
        figure.add_vline(
            epoch,
            line={"dash": "dash", "color": GREY, "width": 1},
            annotation={"text": f"rung {i}", "font": {"size": 12}},
            annotation_position="top left",
        )
    shown = sum(len(x) for x in curves.values())
    about = f"{len(curves)} trainings; the choice in orange."
    if shown < len(data):
        about += f" Of {len(data):,} epochs {shown:,} are drawn."
    if rungs:
        about += " Dashed: the rungs, at which a race stopped the worse ones."
    return Panel("races", "Learning curves and races", about, styled(figure, 440))


def _thinned(part: pd.DataFrame, data: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of a training that are drawn: all, or evenly spread ones."""
    most = max(FEWEST, VERTICES // max(1, data["point"].nunique()))
    if len(part) <= most:
        return part
    return part.iloc[np.unique(np.linspace(0, len(part) - 1, most).round().astype(int))]


def _curves(
    members: Sequence[str], curves: Mapping[str, pd.DataFrame], key: str, number: Mapping[str, int]
) -> Scatter:
    """Return the curves of some points as one trace, with a gap after each."""
    x: list[float | None] = []
    y: list[float | None] = []
    owner: list[int] = []
    for name in members:
        x += [*short(curves[name]["epoch"]), None]
        y += [*short(curves[name][key]), None]
        owner += [number.get(name, -1)] * (len(curves[name]) + 1)
    return Scatter(
        x=x,
        y=y,
        customdata=owner,
        text=[name for name in members for _ in range(len(curves[name]) + 1)],
        mode="lines",
        meta="curves",
        hovertemplate="%{text}<br>epoch %{x}: %{y}<extra></extra>",
    )


def compared(errors: Errors, choice: Choice) -> list[str]:
    """Return the points whose curves of checks are drawn: the choice, the foundation, the rivals.

    Args:
        errors: The errors of every group.
        choice: The decision.
    """
    others = other_kinds(errors, errors.group_of[choice.lora]) if choice.lora else []
    best = [errors.of_kind(kind)[:1] for kind in (*others, *BASELINES)]
    points = errors.table.drop_duplicates("group").set_index("group")["point"]
    names = [
        choice.point,
        FOUNDATION.name,
        choice.lora,
        *(points[x] for found in best for x in found),
    ]
    return list(dict.fromkeys(x for x in names if x))


def of_checks(
    checks: Mapping[str, dict[str, Any]], names: Sequence[str], chosen: str
) -> Iterator[Panel]:
    """Yield a panel for each check that has curves.

    Args:
        checks: {point: {check: finding}}.
        names: The points that are drawn.
        chosen: The chosen point.
    """
    found = {
        x: {k: v.get("detail", {}) for k, v in checks[x].items()} for x in names if x in checks
    }
    colours = {x: COLOURS[i % len(COLOURS)] for i, x in enumerate(x for x in found if x != chosen)}
    style = {
        x: {
            "color": CHOSEN if x == chosen else colours[x],
            "dash": DASHES[i % len(DASHES)],
            "width": 3 if x == chosen else 2,
        }
        for i, x in enumerate(found)
    }
    pairs = {x: v["dimers"].get("curves", {}) for x, v in found.items() if "dimers" in v}
    if any(pairs.values()):
        faults = {x: v["dimers"].get("faults", []) for x, v in found.items() if "dimers" in v}
        yield _dimers(pairs, faults.get(chosen, []), style)
    crystals = {x: v["eos"].get("curves", {}) for x, v in found.items() if "eos" in v}
    if any(crystals.values()):
        yield _volumes(crystals, style)
    runs = {x: v["nve"]["curve"] for x, v in found.items() if "curve" in v.get("nve", {})}
    if runs:
        yield _drift(runs, style)


def _listed(
    curves: Mapping[str, Mapping[str, tuple[Any, Any]]], style: Mapping[str, Any]
) -> tuple[Figure, list[str]]:
    """Return a trace a point and thing, of which the first thing is seen; and the things."""
    things = list(dict.fromkeys(x for found in curves.values() for x in found))
    figure = Figure()
    for name, found in curves.items():
        for thing, (x, y) in found.items():
            trace = Scatter(x=short(x), y=short(y), mode="lines", name=name, line=style[name])
            figure.add_trace(trace.update(meta=thing, visible=thing == things[0]))
    return figure, things


def _dimers(pairs: Mapping[str, Any], faults: Sequence[str], style: Mapping[str, Any]) -> Panel:
    """Draw the energy of two atoms over their distance, a pair of elements at a time."""
    curves = {
        name: {pair: (x["r"], _without_wall(x["energy"])) for pair, x in found.items()}
        for name, found in pairs.items()
    }
    figure, things = _listed(curves, style)
    figure.update_xaxes(title="distance (Å)")
    figure.update_yaxes(title="energy - that far apart (eV)")
    about = "Two atoms in vacuum; high walls are cut off. Faults of the choice: "
    about += ("; ".join(faults) or "none") + "."
    chooser = Chooser("pair", "Pair of elements", [("", x, x) for x in things], things[0])
    return Panel("dimers", "Dimer curves", about, styled(figure, 420), (chooser,))


def _without_wall(energies: Sequence[float]) -> np.ndarray:
    """Return energies (eV) without those so high that a well would not be seen beside them."""
    found = np.array(energies, dtype=float)
    return np.where(found > WALL + 2 * abs(np.nanmin(found)), np.nan, found)


def _volumes(crystals: Mapping[str, Any], style: Mapping[str, Any]) -> Panel:
    """Draw the energy of crystals over their volume, one at a time."""
    curves = {
        name: {
            crystal: ([100 * float(x) for x in points], list(points.values()))
            for crystal, points in found.items()
        }
        for name, found in crystals.items()
    }
    figure, things = _listed(curves, style)
    figure.update_xaxes(title="volume (% of that in the data)")
    figure.update_yaxes(title="energy - lowest (eV/atom)")
    chooser = Chooser("crystal", "Crystal", [("", x, x) for x in things], things[0])
    about = "Cell and positions are scaled together; each curve should have one minimum."
    return Panel("volumes", "Energy over volume", about, styled(figure, 420), (chooser,))


def _drift(runs: Mapping[str, Any], style: Mapping[str, Any]) -> Panel:
    """Draw the total energy over time in MD at constant energy."""
    curves = {name: {"nve": (run["ps"], run["energy"])} for name, run in runs.items()}
    figure, _ = _listed(curves, style)
    figure.update_xaxes(title="time (ps)")
    figure.update_yaxes(title="change of total energy (meV/atom)")
    about = "MD at constant energy: the total energy should stay where it is, but for vibrations."
    return Panel("drift", "Energy in MD at constant energy", about, styled(figure, 420))
