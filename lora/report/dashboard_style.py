"""What the figures of the dashboard share: a look, panels with their choosers, axes, numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly.graph_objects import Figure
from plotly.io import templates

from lora.catalogue.colours import CHOSEN as CHOSEN

templates.default = None  # the page holds one, once for all figures
TEMPLATE = "simple_white"
# of Okabe and Ito's colours, those that are seen on white
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#999999", "#E69F00")
GREY = "#595959"
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "x", "hexagon")
SMALL = 4.0  # a scale is logarithmic where the largest number is this many times the smallest


@dataclass(frozen=True)
class Chooser:
    """A list to choose from, above a figure.

    Attributes:
        key: Its name in the page.
        label: What is chosen.
        options: (group, value, text) of each; the group is "" where there is none.
        value: The value that is chosen first.
    """

    key: str
    label: str
    options: Sequence[tuple[str, str, str]]
    value: str

    @property
    def grouped(self) -> dict[str, list[tuple[str, str]]]:
        """Return {group: (value, text) of its options}."""
        found: dict[str, list[tuple[str, str]]] = {}
        for group, value, text in self.options:
            found.setdefault(group, []).append((value, text))
        return found


@dataclass(frozen=True)
class Panel:
    """One figure of the dashboard.

    Attributes:
        key: Its name in the page.
        title: Its heading.
        about: What it shows, and how it is to be read.
        figure: The figure.
        choosers: The lists above it.
    """

    key: str
    title: str
    about: str
    figure: Figure
    choosers: Sequence[Chooser] = ()


def styled(figure: Figure, height: int, **layout: Any) -> Figure:
    """Return a figure in the look of the dashboard.

    Args:
        figure: The figure, which is changed.
        height: Its height (px).
        **layout: More of plotly's layout.
    """
    figure.update_layout(
        colorway=[*COLOURS],
        font={"family": "system-ui, sans-serif", "size": 14, "color": "#222"},
        height=height,
        margin={"l": 80, "r": 30, "t": 40, "b": 65},
        hovermode="closest",
        legend={"bgcolor": "rgba(255,255,255,0.8)"},
        **layout,
    )
    return figure


def wide(values: Any) -> bool:
    """Return True where numbers are best seen on a logarithmic scale.

    Args:
        values: The numbers; those that are not finite are left out.
    """
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    return len(found) > 1 and found.min() > 0 and bool(found.max() >= SMALL * found.min())


def axis(values: Any) -> dict[str, Any]:
    """Return plotly's axis for numbers: logarithmic, with plain numbers at its ticks, where wide.

    Args:
        values: The numbers.
    """
    if not wide(values):
        return {"type": "linear"}
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    low, high = np.floor(np.log10([found.min(), found.max()])).astype(int)
    firsts = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [first * 10.0**k for k in range(low - 1, high + 2) for first in firsts]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{x:.6g}" for x in ticks]}


def short(values: Any, digits: int = 5) -> list[float | None]:
    """Return numbers with few digits, None where one is not finite: for a small page.

    Args:
        values: The numbers.
        digits: The digits that are kept.
    """
    found = np.asarray(values, dtype=float).tolist()
    return [float(f"{x:.{digits}g}") if np.isfinite(x) else None for x in found]
