"""Give every point the colour, line and marker that it has in all figures.

Methods have fixed colours.  LoRA points have the colour of their rank, from dark to light, and the
marker of their alpha, and of their kind, start and placement where those vary; of many, the choice
stands out and all others are grey.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from lora.catalogue import colours
from lora.catalogue.colours import CHOSEN as CHOSEN
from lora.selection.table import LORA, axes_of

GREY = "#BBBBBB"
Line = str | tuple[int, tuple[int, ...]]  # as matplotlib names it
LINES: dict[str, Line] = {  # of all else "-"
    "full": "--",
    "full_replay": "-.",
    "freeze": ":",
    "foundation": (0, (5, 2, 1, 2, 1, 2)),
}
METHODS = {name: (colour, LINES.get(name, "-")) for name, colour in colours.METHODS.items()}
OTHER: tuple[str, Line] = (colours.OTHER, (0, (3, 1, 1, 1)))
MARKERS = "osD^vPX<>*"  # of alphas, the lowest first, and of what has them
BASELINE = "h"  # the marker of what has no alpha
FEW = 8  # LoRA points that are told apart
LIGHTEST = 0.85  # of the colour map: yellow is lost on white


@dataclass(frozen=True)
class Look:
    """How a point is drawn.

    Attributes:
        color: The colour.
        linestyle: The line.
        marker: The marker.
        label: What the legend says; points with the same label share an entry.
        front: How far in front it lies.
    """

    color: str | tuple[float, ...]
    linestyle: Line
    marker: str
    label: str
    front: int = 2

    def line(self, epochs: int = 1) -> dict[str, Any]:
        """Return it for `Axes.plot`, as a line with some markers.

        Args:
            epochs: The points of the line, of which about six have a marker.
        """
        width = {1: 0.6, 4: 2.2}.get(self.front, 1.2)
        line = {"color": self.color, "linestyle": self.linestyle, "linewidth": width}
        marker = {"marker": self.marker, "markevery": max(1, epochs // 6), "markersize": 3}
        return line | (marker if self.front == 2 else {}) | {"zorder": self.front}

    def dot(self, filled: bool = True) -> dict[str, Any]:
        """Return it for `Axes.plot`, as a marker alone."""
        dot = {"color": self.color, "linestyle": "none", "marker": self.marker}
        return dot | {"fillstyle": "full" if filled else "none", "zorder": self.front}


def looks_of(table: pd.DataFrame, point: str) -> dict[str, Look]:
    """Return how each point is drawn, {point: look}.

    Args:
        table: The table of points.
        point: The chosen point.
    """
    points = table.drop_duplicates("point")
    lora = points[points["method"].isin([*LORA, "cut"])]
    ranks, axes = sorted(lora["rank"].dropna().unique()), [*axes_of(table), "alpha"]
    marked = sorted({*lora[axes].dropna().itertuples(index=False, name=None)})
    many = len(lora) > FEW
    looks = {}
    for row in points.to_dict("records"):
        name, kind = str(row["point"]), str(row["method"])
        color, line = METHODS.get(kind, OTHER)
        look = Look(color, line, BASELINE, kind, 3)
        if name in set(lora["point"]):
            own = tuple(row[axis] for axis in axes)
            marker = MARKERS[marked.index(own) % len(MARKERS)]
            look = Look(_shade(ranks, row["rank"]), "-", marker, str(row["group"]))
            look = Look(GREY, "-", marker, "other LoRA points", 1) if many else look
        if name == point:
            look = Look(CHOSEN, "-", look.marker, f"{point} (the choice)", 4)
        looks[name] = look
    return looks


def beside(points: Iterable[tuple[str, str]], point: str) -> dict[str, Look]:
    """Return how a few points are drawn that stand beside each other, {point: look}.

    Args:
        points: The points and their kinds.
        point: The chosen point.
    """
    looks = {}
    for name, kind in points:
        color, line = METHODS.get(kind, OTHER)
        chosen = name == point
        look = Look(color, line, BASELINE, name, 3)
        looks[name] = Look(CHOSEN, "-", "o", f"{name} (the choice)", 4) if chosen else look
    return looks


def _shade(ranks: list[float], rank: float) -> tuple[float, ...]:
    """Return the colour of a rank: the lowest is the darkest."""
    share = ranks.index(rank) / max(1, len(ranks) - 1)
    shade: tuple[float, ...] = plt.get_cmap("viridis")(LIGHTEST * share)
    return shade
