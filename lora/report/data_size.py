"""Draw errors against the size of the training set."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lora.catalogue.columns import FORCE
from lora.plan.sweep import Sweep
from lora.report.looks import METHODS
from lora.report.style import COLOURS, legend, panels, plain, save, shown, ticks
from lora.selection.table import BASELINES, LORA, QUANTITIES, read_table, sound


def write(sweep: Sweep) -> list[Path]:
    """Write the figure; return its files.

    Args:
        sweep: The sweep, with its table of points.
    """
    return save(*data_size(sound(read_table(sweep))), sweep.layout.figure("data_size"))


def data_size(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw force errors against the number of training structures on every set, a line a family.

    Mean and standard deviation over seeds.
    """
    table = table[table["method"].isin([*LORA, *BASELINES])]
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = panels(len(sets))
    for test_set, ax in zip(sets, axes, strict=True):
        part = table[table["test_set"] == test_set]
        colours = iter(COLOURS * 9)
        for family, line in part.groupby("family", sort=False):
            method = str(line["method"].iloc[0])
            colour, style = METHODS.get(method, METHODS["lora"])
            colour = next(colours) if method in LORA else colour
            mean = line.groupby("n_train")[FORCE].agg(["mean", "std"])
            drawn = ax.errorbar(
                mean.index, mean["mean"], mean["std"].fillna(0), marker="o", capsize=2, color=colour
            )
            drawn[0].set_linestyle(style)
            drawn.set_label(shown(family, 60))
        sizes = sorted(part["n_train"].unique())
        ax.set(xscale="log", yscale="log", title=shown(test_set), xlabel="training structures")
        ticks(ax, sizes, [f"{n:g}" for n in sizes])
        plain(ax)
    axes[0].set_ylabel(QUANTITIES[FORCE])
    legend(figure)
    columns = ["point", "family", "n_train", "train_fraction", "seed", "test_set", FORCE]
    return figure, table[columns]
