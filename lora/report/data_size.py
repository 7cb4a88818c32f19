"""Draw errors against the size of the training set."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from lora.catalogue.columns import FORCE
from lora.plan.sweep import Sweep
from lora.report.figures import COLOURS, LINES, plain, save
from lora.selection.table import BASELINES, LORA, QUANTITIES, read_table, sound


def write(sweep: Sweep) -> list[Path]:
    """Write the figure; return its files.

    Args:
        sweep: The sweep, with its table of points.
    """
    return data_size(sound(read_table(sweep)), sweep.layout.report("data_size.svg"))


def data_size(table: pd.DataFrame, path: Path) -> list[Path]:
    """Draw force errors against the number of training structures on every set, a line a family.

    Mean and standard deviation over seeds; the baselines are black.
    """
    table = table[table["method"].isin([*LORA, *BASELINES])]
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets) + 2, 3.6), squeeze=False)
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set]
        colours = iter(COLOURS * 9)
        for family, line in part.groupby("family", sort=False):
            style = LINES.get(line["method"].iloc[0])
            colour = "black" if style else next(colours)
            mean = line.groupby("n_train")[FORCE].agg(["mean", "std"])
            style_of = {"color": colour, "linestyle": style or "-", "label": family}
            ax.errorbar(
                mean.index, mean["mean"], mean["std"].fillna(0), marker="o", capsize=2, **style_of
            )
        sizes = sorted(part["n_train"].unique())
        ax.set(xscale="log", yscale="log", title=test_set, xlabel="training structures")
        ax.set_xticks(sizes, [f"{n:g}" for n in sizes])
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES[FORCE])
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    columns = ["point", "family", "n_train", "train_fraction", "seed", "test_set", FORCE]
    return save(figure, table[columns], path)
