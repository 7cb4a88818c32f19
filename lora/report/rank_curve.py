"""Draw trained ranks against ranks that were cut from a higher one."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from lora.catalogue.columns import FORCE
from lora.plan.sweep import Sweep
from lora.report.figures import COLOURS, plain, save
from lora.selection.table import QUANTITIES, of_all_data, read_table, sound


def write(sweep: Sweep) -> list[Path]:
    """Write the figure; return its files.

    Args:
        sweep: The sweep, with its table of points.
    """
    return rank_curve(sound(read_table(sweep)), sweep.layout.report("rank_curve.svg"))


def rank_curve(table: pd.DataFrame, path: Path) -> list[Path]:
    """Draw force errors against the rank on every set: a colour an alpha, filled where trained."""
    table = of_all_data(table[table["method"].isin(["lora", "cut"])])
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(3.4 * len(sets), 3.4), squeeze=False)
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set]
        for colour, (alpha, lines) in zip(COLOURS, part.groupby("alpha"), strict=False):
            trained = lines[lines["method"] == "lora"].groupby("rank")[FORCE].mean()
            cut = lines[lines["method"] == "cut"].groupby("rank")[FORCE].mean()
            cut = pd.concat([cut, trained.tail(1)])  # the training it was cut from
            label = f"alpha {alpha:g}"
            ax.plot(trained.index, trained, "o-", color=colour, label=f"trained, {label}")
            ax.plot(cut.index, cut, "s--", color=colour, fillstyle="none", label=f"cut, {label}")
        ranks = sorted(part["rank"].unique())
        ax.set(xscale="log", yscale="log", title=test_set, xlabel="rank")
        ax.set_xticks(ranks, [f"{r:g}" for r in ranks])
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES[FORCE])
    axes[0][-1].legend()
    columns = ["point", "method", "rank", "alpha", "seed", "test_set", FORCE]
    return save(figure, table[columns], path)
