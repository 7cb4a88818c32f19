"""Draw the error of every rank and alpha of a set, on a scale of the seeds' spread.

The choice has a frame; cells that the seeds, or with one seed 5 %, do not tell from it are hatched
(`lora.report.comparison`).
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lora.catalogue.columns import ENERGY
from lora.report.comparison import Errors, Spread, close, compare
from lora.report.looks import CHOSEN
from lora.report.style import COLUMN, PAGE, shown
from lora.selection.table import NAMES, QUANTITIES, sound

SPREADS = 8  # of the seeds, from the lightest to the darkest colour
ONE_SEED = 0.01  # of an error: the spread that is assumed where there is one seed
SHADES = "cividis_r"
CELL = 0.27  # inches: the least height of a cell, of two lines
WIDEST, SMALLEST = 7.0, 3.5  # points: the font of the numbers; smaller ones are left out
DIGITS = {ENERGY: 2}  # after the point; of all else 1


@dataclass(frozen=True)
class Cells:
    """The LoRA settings on one set.

    Attributes:
        test_set: The set.
        metric: The error.
        ranks: The ranks.
        alphas: The alphas.
        groups: {(alpha, rank): the groups there}, the lowest error on the validation set first.
        found: {group: its error}.
        marked: The chosen group, or the best one of LoRA where that is no LoRA.
        low: The lowest error: the lightest colour.
        high: `SPREADS` spreads above it: the darkest.
    """

    test_set: str
    metric: str
    ranks: list[float]
    alphas: list[float]
    groups: dict[tuple[float, float], list[str]]
    found: dict[str, Spread]
    marked: str
    low: float
    high: float

    @classmethod
    def of(cls, errors: Errors, test_set: str, metric: str, chosen: str) -> "Cells | None":
        """Return the settings on a set; None where no LoRA setting has that error there.

        Args:
            errors: The errors of every group.
            test_set: The set.
            metric: The error.
            chosen: The group of the chosen point.
        """
        table = errors.table.drop_duplicates("group").set_index("group")
        groups = errors.of_kind("lora")
        found = {x: errors.of(x, test_set, metric) for x in groups}
        if not any(x.n for x in found.values()):
            return None
        axes = {x: table.loc[groups, x].to_dict() for x in ("alpha", "rank")}
        cells: dict[tuple[float, float], list[str]] = {}
        for group in groups:  # several in a cell: rates, starts, scalings
            place = (axes["alpha"][group], axes["rank"][group])
            cells.setdefault(place, []).append(group)
        rows = errors.table
        rows = rows[rows["group"].isin(groups) & (rows["test_set"] == test_set)]
        ranks, alphas = (sorted(table.loc[groups, x].unique()) for x in ("rank", "alpha"))
        marked = chosen if chosen in found else groups[0]
        low_high = scale_of(rows, metric)
        return cls(test_set, metric, ranks, alphas, cells, found, marked, *low_high)

    @property
    def shared(self) -> bool:
        """Return True where a cell has several settings, of which one is shown."""
        return len(self.groups) < len(self.found)

    def draw(self, ax: Axes, errors: Errors) -> None:
        """Draw the cells.

        Args:
            ax: The panel.
            errors: The errors of every group.
        """
        shades = plt.get_cmap(SHADES)
        font = self._font(ax)
        for (alpha, rank), members in self.groups.items():
            i, j = self.alphas.index(alpha), self.ranks.index(rank)
            group = self.marked if self.marked in members else members[0]
            one = self.found[group]
            if not one.n:
                continue
            shade = min(1.0, (one.mean - self.low) / (self.high - self.low))
            same = group != self.marked and not self._told_apart(errors, group)
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=shades(shade), edgecolor="white")
            cell.set(hatch="////" if same else None, linewidth=0)
            ax.add_patch(cell)
            if group == self.marked:
                frame = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=CHOSEN)
                frame.set(linewidth=2, zorder=3)
                ax.add_patch(frame)
            if font >= SMALLEST:
                text = ax.text(j, i, self._text(one), ha="center", va="center", fontsize=font)
                text.set(color="white" if shade > 0.5 else "black", linespacing=1.0)
                text.set_bbox({"facecolor": shades(shade), "edgecolor": "none", "pad": 0.8})
        ax.set(xlim=(-0.5, len(self.ranks) - 0.5), ylim=(-0.5, len(self.alphas) - 0.5))
        ax.set_xticks(range(len(self.ranks)), [f"{x:g}" for x in self.ranks])
        ax.set_yticks(range(len(self.alphas)), [f"{x:g}" for x in self.alphas])
        ax.set(xlabel="rank", ylabel="alpha")
        ax.spines[:].set_visible(False)
        scale = ScalarMappable(Normalize(self.low, self.high), shades)
        bar = ax.figure.colorbar(scale, ax=ax, extend="max", fraction=0.08, pad=0.02)
        bar.outline.set_visible(False)

    def _text(self, one: Spread) -> str:
        return one.text(DIGITS.get(self.metric, 1)).replace(" ± ", "\n± ")

    def _font(self, ax: Axes) -> float:
        """Return the size of numbers that fit into a cell."""
        longest = max(len(x) for one in self.found.values() for x in self._text(one).split("\n"))
        width = 0.8 * 72 * ax.get_window_extent().width / ax.figure.dpi  # beside the colour bar
        return min(WIDEST, width / len(self.ranks) / (0.66 * longest))

    def _told_apart(self, errors: Errors, group: str) -> bool:
        """Return True where the seeds show that a group is worse than the marked one."""
        marked, other = self.found[self.marked], self.found[group]
        verdict = compare(marked, other, max(1, len(errors.groups) - 1))
        if verdict:
            return verdict == "better"
        return not close(marked.mean, other.mean)


def rank_alpha(cells: Cells, errors: Errors) -> Figure:
    """Draw the settings on one set.

    Args:
        cells: The settings.
        errors: The errors of every group.
    """
    width = COLUMN if len(cells.ranks) < 6 else PAGE
    figure, ax = plt.subplots(figsize=(width, _height(cells)))
    cells.draw(ax, errors)
    return figure


def heatmap(errors: Errors, chosen: str) -> tuple[Figure, pd.DataFrame]:
    """Draw the settings on every set: a row a set, energy and forces beside each other.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.

    Returns:
        The figure, and the rows of the LoRA points in the table.
    """
    found = [[Cells.of(errors, s, m, chosen) for m in QUANTITIES] for s in errors.sets]
    height = max((_height(x) for row in found for x in row if x), default=1.5)
    figure, axes = plt.subplots(
        len(found), len(QUANTITIES), figsize=(PAGE, height * len(found)), squeeze=False
    )
    for row, panels, test_set in zip(found, axes, errors.sets, strict=True):
        for cells, ax, label in zip(row, panels, QUANTITIES.values(), strict=True):
            if cells is None:
                ax.set_axis_off()
                continue
            cells.draw(ax, errors)
            ax.set_title(f"{shown(test_set, 20)}: {label}")
    table = sound(errors.table)
    return figure, table[table["method"] == "lora"].drop(columns=NAMES)


def _height(cells: Cells) -> float:
    """Return the height of a panel, inches."""
    return max(1.5, 0.7 + CELL * len(cells.alphas))


def scale_of(part: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return the ends of a scale of colours: the lowest error, and `SPREADS` spreads above it.

    Args:
        part: The rows of the table of points of one set.
        metric: The error.
    """
    low = float(part.groupby("group")[metric].mean().min())
    seeds = part.groupby("group")[metric].std()
    spread = float(np.sqrt((seeds**2).mean())) if seeds.notna().any() else 0.0
    return low, low + SPREADS * (spread or ONE_SEED * low or 1.0)
