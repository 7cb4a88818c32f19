"""Draw trained ranks against ranks that were cut from a higher one."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lora.catalogue.columns import FORCE
from lora.catalogue.methods import ADAPTERS
from lora.plan.sweep import Sweep
from lora.report.style import COLOURS, legend, panels, plain, save, shown, ticks
from lora.selection.table import QUANTITIES, axes_of, of_all_data, read_table, sound


def write(sweep: Sweep) -> list[Path]:
    """Write the figure; return its files.

    Args:
        sweep: The sweep, with its table of points.
    """
    return save(*rank_curve(sound(read_table(sweep))), sweep.layout.figure("rank_curve"))


def rank_curve(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw force errors against the rank on every set: a colour an alpha, filled where trained.

    Kinds of adapters, starts and placements have colours of their own, too.
    """
    table = of_all_data(table[table["method"].isin([*ADAPTERS, "cut"])])
    axes_too = [*axes_of(table), "alpha"]
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = panels(len(sets))
    for test_set, ax in zip(sets, axes, strict=True):
        part = table[table["test_set"] == test_set]
        for colour, (own, lines) in zip(COLOURS * 9, part.groupby(axes_too), strict=False):
            trained = lines[lines["method"] != "cut"].groupby("rank")[FORCE].mean()
            cut = lines[lines["method"] == "cut"].groupby("rank")[FORCE].mean()
            label = ", ".join(_said(*x) for x in zip(axes_too, own, strict=True))
            ax.plot(trained.index, trained, "o-", color=colour, label=f"trained, {label}")
            if not len(cut):
                continue  # a kind that cannot be cut
            cut = pd.concat([cut, trained.tail(1)])  # the training it was cut from
            ax.plot(cut.index, cut, "s--", color=colour, fillstyle="none", label=f"cut, {label}")
        ranks = sorted(part["rank"].unique())
        ax.set(xscale="log", yscale="log", title=shown(test_set), xlabel="rank")
        ticks(ax, ranks, [f"{r:g}" for r in ranks])
        plain(ax)
    axes[0].set_ylabel(QUANTITIES[FORCE])
    legend(figure)
    columns = ["point", "method", "rank", *axes_too, "seed", "test_set", FORCE]
    return figure, table[columns]


def _said(axis: str, value: Any) -> str:
    """Return a value of an axis in words."""
    return f"{axis} {value:g}" if axis == "alpha" else str(value)
