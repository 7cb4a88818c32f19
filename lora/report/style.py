"""Give every figure one look, and write it for the report and for a paper.

A figure has the width of one or of two columns of a journal, and is written as SVG, PDF and PNG
with its numbers as csv.  Colours are those of Okabe and Ito, which colour-blind readers tell apart.
"""

import base64
import io
import logging
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora.catalogue.colours import COLOURS as COLOURS
from lora.report.page import TEMPLATES

COLUMN, PAGE = 3.3, 6.9  # inches: one column of a journal, and two
DPI = 300  # of the PNG, and of what has too many points for a drawing of lines
ENDINGS = (".svg", ".pdf", ".png")
PANELS = 3  # beside each other
NAMED = 24  # entries of a legend
ENTRIES = 4  # of a legend, beside each other
NARROW, WIDE = 5, 100  # times from one end of an axis to the other
LETTERS = 28  # of a name over a panel
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it names every table of a font
plt.rcParams.update(
    {
        "axes.prop_cycle": matplotlib.rcsetup.cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.titlesize": 8,
        "figure.titlesize": 8,
        "figure.constrained_layout.use": True,
        "font.size": 8,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 4,
        "pdf.fonttype": 42,  # TrueType, which journals can edit
        "svg.fonttype": "none",
        "svg.hashsalt": "mace-lora-sweep",  # the same numbers, the same file
        "xtick.labelsize": 7,
        "xtick.major.width": 0.6,
        "ytick.labelsize": 7,
        "ytick.major.width": 0.6,
    }
)
IMAGE = TEMPLATES.from_string(
    '<figure><img alt="{{ title }}: {{ about }}" src="data:image/svg+xml;base64,{{ content }}">'
    "<figcaption><b>{{ title }}.</b> {{ about }}</figcaption></figure>"
)


def save(figure: Figure, data: pd.DataFrame, path: Path) -> list[Path]:
    """Write a figure as SVG, PDF and PNG, and the numbers in it as csv, and close it.

    Args:
        figure: The figure.
        data: The numbers.
        path: The SVG; the others lie beside it.

    Returns:
        The four files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _settle(figure)
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    for ending in ENDINGS:
        figure.savefig(path.with_suffix(ending), dpi=DPI, metadata=undated.get(ending))
    plt.close(figure)
    numbers = path.with_suffix(".csv")
    data.to_csv(numbers, index=False, float_format="%.6g")
    return [*(path.with_suffix(x) for x in ENDINGS), numbers]


def embedded(figure: Figure, title: str, about: str) -> Markup:
    """Return a figure as a part of a page, and close it; it can be saved all the same.

    Args:
        figure: The figure.
        title: What it is called.
        about: What it shows, and how it is to be read.
    """
    content = io.BytesIO()
    _settle(figure)
    figure.savefig(content, format="svg", dpi=DPI, metadata={"Date": None})
    plt.close(figure)
    encoded = base64.b64encode(content.getvalue()).decode()
    return Markup(IMAGE.render(title=title, about=about, content=encoded))


def _settle(figure: Figure) -> None:
    """Lay a figure out once, so that all its files are alike."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def panels(n: int, height: float = 1.9, most: int = PANELS) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column of a journal for one panel, of two columns for more.

    Args:
        n: The number of panels; those that do not fit beside each other go below.
        height: The height of a panel, inches.
        most: The number of panels beside each other.
    """
    across = max(1, min(n, most))
    down = -(-max(1, n) // across)
    width = PAGE if across > 1 else COLUMN
    figure, axes = plt.subplots(down, across, figsize=(width, height * down), squeeze=False)
    for ax in axes.flat[max(1, n) :]:
        ax.set_axis_off()
    return figure, list(axes.flat[: max(1, n)])


def legend(figure: Figure) -> None:
    """Say below the panels what was drawn, in as many columns as there is room for.

    The figure grows by the height of the legend.  More than `NAMED` entries are left to the csv.
    """
    entries: dict[str, Artist] = {}
    for ax in figure.axes:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if len(entries) > NAMED:
        return
    for columns in range(min(len(entries), ENTRIES), 0, -1):
        made = figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns
        )
        found = made.get_window_extent()
        if found.width <= figure.bbox.width or columns == 1:
            figure.set_figheight(figure.get_figheight() + found.height / figure.dpi)
            for handle in made.legend_handles:
                if isinstance(handle, Line2D):  # the dots of many points are small
                    handle.set_markersize(4)
            return
        made.remove()


def shown(name: object, letters: int = LETTERS) -> str:
    """Return a name as it is written in a figure: no formula, and its middle left out if long.

    Args:
        name: The name, whoever gave it.
        letters: How many letters there is room for.
    """
    text = str(name)
    if len(text) > letters:
        text = f"{text[: letters - letters // 2 - 1]}…{text[-(letters // 2) :]}"
    return text.replace("$", r"\$")


def plain(ax: Axes, both: bool = False) -> None:
    """Put few and plain numbers on logarithmic axes: 60 and not 6 x 10^1.

    Where nothing was drawn, because a set lacks a label, there is no logarithm.

    Args:
        ax: The panel.
        both: Do it on the x axis, too; else its ticks are those of the caller.
    """
    if not np.isfinite(ax.dataLim.get_points()).all():
        ax.set(xscale="linear", yscale="linear")
        return
    if ax.get_xscale() == "log":
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    for axis in (ax.xaxis, ax.yaxis) if both else (ax.yaxis,):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() != "log":
            continue
        if high < NARROW * low:
            axis.set_major_locator(ticker.MaxNLocator(4))
        else:
            wide = high > WIDE * low
            axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_minor_locator(ticker.NullLocator())
        axis.set_major_formatter("{x:g}")


def ticks(ax: Axes, values: Iterable[float], labels: Iterable[str]) -> None:
    """Put ticks of a logarithmic x axis at some values, leaving out labels that would overlap.

    Args:
        ax: The panel.
        values: Where they stand, ascending.
        labels: What is written there.
    """
    places, kept, width = list(values), [], ax.get_window_extent().width
    low, high = ax.get_xlim()
    end = -np.inf
    for place, label in zip(places, labels, strict=True):
        at = width * np.log(place / low) / np.log(high / low)
        half = 0.35 * len(label) * 7 * ax.figure.dpi / 72  # of the text, at its font size
        kept.append(label if at - half > end else "")
        end = at + half if kept[-1] else end
    ax.set_xticks(places, kept, minor=False)
