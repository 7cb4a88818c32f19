"""Trained ranks against cut ones.

Called by the rule `rank_curve` with what it names in `snakemake`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from lora.report.figures import COLOURS, plain, save
from lora.selection.table import QUANTITIES, of_all_data


def rank_curve(table: pd.DataFrame, path: str) -> None:
    """Force error against rank on every set: a colour each alpha, filled trained, open cut."""
    table = of_all_data(table[table["method"].isin(["lora", "cut"])])
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(3.4 * len(sets), 3.4), squeeze=False)
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set]
        for colour, (alpha, lines) in zip(COLOURS, part.groupby("alpha"), strict=False):
            trained = lines[lines["method"] == "lora"].groupby("rank")["rmse_f_mev_per_a"].mean()
            cut = lines[lines["method"] == "cut"].groupby("rank")["rmse_f_mev_per_a"].mean()
            cut = pd.concat([cut, trained.tail(1)])  # the training it was cut from
            label = f"alpha {alpha:g}"
            ax.plot(trained.index, trained, "o-", color=colour, label=f"trained, {label}")
            ax.plot(cut.index, cut, "s--", color=colour, fillstyle="none", label=f"cut, {label}")
        ranks = sorted(part["rank"].unique())
        ax.set(xscale="log", yscale="log", title=test_set, xlabel="rank")
        ax.set_xticks(ranks, [f"{r:g}" for r in ranks])
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES["rmse_f_mev_per_a"])
    axes[0][-1].legend()
    columns = ["point", "method", "rank", "alpha", "seed", "test_set", "rmse_f_mev_per_a"]
    save(figure, table[columns], path)


def main(snakemake: object) -> None:
    rank_curve(pd.read_csv(snakemake.input.table), snakemake.output.curve)
