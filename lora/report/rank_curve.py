"""Draw trained ranks against ranks that were cut from a higher one."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lora.catalogue.columns import FORCE
from lora.plan.sweep import Sweep
from lora.report.style import COLOURS, legend, panels, plain, save, shown, ticks
from lora.selection.table import QUANTITIES, of_all_data, read_table, sound


def write(sweep: Sweep) -> list[Path]:
    """Write the figure; return its files.

    Args:
        sweep: The sweep, with its table of points.
    """
    return save(*rank_curve(sound(read_table(sweep))), sweep.layout.figure("rank_curve"))


def rank_curve(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw force errors against the rank on every set: a colour an alpha, filled where trained."""
    table = of_all_data(table[table["method"].isin(["lora", "cut"])])
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = panels(len(sets))
    for test_set, ax in zip(sets, axes, strict=True):
        part = table[table["test_set"] == test_set]
        for colour, (alpha, lines) in zip(COLOURS, part.groupby("alpha"), strict=False):
            trained = lines[lines["method"] == "lora"].groupby("rank")[FORCE].mean()
            cut = lines[lines["method"] == "cut"].groupby("rank")[FORCE].mean()
            cut = pd.concat([cut, trained.tail(1)])  # the training it was cut from
            label = f"alpha {alpha:g}"
            ax.plot(trained.index, trained, "o-", color=colour, label=f"trained, {label}")
            ax.plot(cut.index, cut, "s--", color=colour, fillstyle="none", label=f"cut, {label}")
        ranks = sorted(part["rank"].unique())
        ax.set(xscale="log", yscale="log", title=shown(test_set), xlabel="rank")
        ticks(ax, ranks, [f"{r:g}" for r in ranks])
        plain(ax)
    axes[0].set_ylabel(QUANTITIES[FORCE])
    legend(figure)
    columns = ["point", "method", "rank", "alpha", "seed", "test_set", FORCE]
    return figure, table[columns]
