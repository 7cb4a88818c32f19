"""Draw the error of every rank and alpha of a set, on a scale of the seeds' spread.

Each kind of adapter, start and placement has a map of its own (`lora.report.planes`).

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

from lora.catalogue.columns import ENERGY, VALID
from lora.catalogue.methods import ADAPTERS
from lora.report.comparison import Errors, Spread, close, compare
from lora.report.looks import CHOSEN
from lora.report.planes import Plane, planes_of
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
    """The settings of a plane on one set.

    Attributes:
        title: What the plane has of the axes that vary; "" where there is one plane.
        test_set: The set.
        metric: The error.
        ranks: The ranks.
        alphas: The alphas.
        groups: {(alpha, rank): the groups there}, the lowest error on the validation set first.
        found: {group: its error}, of the groups there and of the marked one.
        marked: The chosen group, or the best one with an adapter where that has none.
        low: The lowest error: the lightest colour.
        high: `SPREADS` spreads above it: the darkest.
    """

    title: str
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
    def of_planes(cls, errors: Errors, test_set: str, metric: str, chosen: str) -> list["Cells"]:
        """Return the settings on a set, the plane of the marked one first.

        Those of all planes have one scale of colours.  A plane that has no such error on that set
        is left out.

        Args:
            errors: The errors of every group.
            test_set: The set.
            metric: The error.
            chosen: The group of the chosen point.
        """
        planes = planes_of(errors)
        groups = [x for plane in planes for x in plane.groups]
        marked = chosen if chosen in groups else planes[0].groups[0] if planes else ""
        rows = errors.table
        rows = rows[rows["group"].isin(groups) & (rows["test_set"] == test_set)]
        low_high = scale_of(rows, metric) if planes else (0.0, 1.0)
        planes = sorted(planes, key=lambda x: marked not in x.groups)
        made = [cls._of(errors, x, (test_set, metric), marked, low_high) for x in planes]
        return [x for x in made if any(x.found[group].n for y in x.groups.values() for group in y)]

    @classmethod
    def _of(
        cls,
        errors: Errors,
        plane: Plane,
        what: tuple[str, str],
        marked: str,
        low_high: tuple[float, float],
    ) -> "Cells":
        table, groups = errors.table.drop_duplicates("group").set_index("group"), plane.groups
        found = {x: errors.of(x, *what) for x in dict.fromkeys([*groups, marked])}
        axes = {x: table.loc[groups, x].to_dict() for x in ("alpha", "rank")}
        cells: dict[tuple[float, float], list[str]] = {}
        for group in groups:  # several in a cell: rates
            place = (axes["alpha"][group], axes["rank"][group])
            cells.setdefault(place, []).append(group)
        ranks, alphas = (sorted(table.loc[groups, x].unique()) for x in ("rank", "alpha"))
        return cls(plane.title, *what, ranks, alphas, cells, found, marked, *low_high)

    @property
    def shared(self) -> bool:
        """Return True where a cell has several settings, of which one is shown."""
        return any(len(members) > 1 for members in self.groups.values())

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

    Of several planes, that of the marked setting is drawn on every set, the others on the
    validation set alone.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.

    Returns:
        The figure, and the rows of the LoRA points in the table.
    """
    found = {(s, m): Cells.of_planes(errors, s, m, chosen) for s in errors.sets for m in QUANTITIES}
    planes = sorted(planes_of(errors), key=lambda x: chosen not in x.groups) or [Plane("", [])]
    rows = [(s, planes[0].title) for s in errors.sets] + [(VALID, x.title) for x in planes[1:]]
    height = max((_height(x) for row in found.values() for x in row), default=1.5)
    height += 0.15 if len(planes) > 1 else 0.0  # a title of two lines
    figure, axes = plt.subplots(
        len(rows), len(QUANTITIES), figsize=(PAGE, height * len(rows)), squeeze=False
    )
    for (test_set, title), panels in zip(rows, axes, strict=True):
        for (metric, label), ax in zip(QUANTITIES.items(), panels, strict=True):
            cells = [x for x in found[test_set, metric] if x.title == title]
            if not cells:
                ax.set_axis_off()
                continue
            cells[0].draw(ax, errors)
            plane = f"{shown(title, 60)}\n" if title else ""
            ax.set_title(f"{plane}{shown(test_set, 20)}: {label}")
    table = sound(errors.table)
    return figure, table[table["method"].isin(ADAPTERS)].drop(columns=NAMES)


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
