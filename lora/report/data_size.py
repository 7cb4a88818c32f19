"""Errors against the size of the training set.

Called by the rule `data_size` with what it names in `snakemake`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from lora.report.figures import COLOURS, plain, save
from lora.selection.table import QUANTITIES

METRIC = "rmse_f_mev_per_a"


def data_size(table: pd.DataFrame, path: str) -> None:
    """Force error against the number of training structures on every set, a line a setting.

    Mean and standard deviation over seeds; the baselines are black.
    """
    table = table[
        table["method"].isin(["lora", "lora_replay", "full", "full_replay", "freeze"])
    ].copy()
    table["setting"] = table["point"].str.replace(r"(_f[\d.]+)?_s\d+$", "", regex=True)
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets) + 2, 3.6), squeeze=False)
    styles = {"full": ("black", "--"), "freeze": ("black", ":"), "full_replay": ("black", "-.")}
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set]
        colours = iter(COLOURS * 9)
        for setting, line in part.groupby("setting", sort=False):
            colour, style = styles.get(setting) or (next(colours), "-")
            mean = line.groupby("n_train")[METRIC].agg(["mean", "std"])
            own = {"color": colour, "linestyle": style, "label": setting, "capsize": 2}
            ax.errorbar(mean.index, mean["mean"], mean["std"].fillna(0), marker="o", **own)
        sizes = sorted(part["n_train"].unique())
        ax.set(xscale="log", yscale="log", title=test_set, xlabel="training structures")
        ax.set_xticks(sizes, [f"{n:g}" for n in sizes])
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES[METRIC])
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    columns = ["point", "setting", "n_train", "train_fraction", "seed", "test_set", METRIC]
    save(figure, table[columns], path)


def main(snakemake: object) -> None:
    data_size(pd.read_csv(snakemake.input.table), snakemake.output.curve)
