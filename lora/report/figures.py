"""Figures of a sweep, each an SVG with its numbers beside it as csv.

Called by the rule `figures` with what it names in `snakemake`.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from lora.selection.table import QUANTITIES, of_all_data, read, read_beside, receipts

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"]
plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 12,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "mace-lora-sweep",  # the same numbers, the same file
        "figure.constrained_layout.use": True,
    }
)


def save(figure: plt.Figure, data: pd.DataFrame, path: str) -> None:
    """Write the figure, and the numbers in it as csv beside it."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    data.to_csv(Path(path).with_suffix(".csv"), index=False, float_format="%.6g")


def plain(ax: plt.Axes) -> None:
    """Plain numbers on a logarithmic axis: 60 and not 6 x 10^1."""
    if ax.get_xscale() == "log":
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis(ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


def heatmap(table: pd.DataFrame, path: str) -> None:
    """Mean over seeds of the errors at each rank and alpha: a row a set, a column a quantity."""
    lora = table[table["method"] == "lora"]
    sets = list(dict.fromkeys(table["test_set"]))
    figure, axes = plt.subplots(
        len(sets), 2, figsize=(8, 2.6 * len(sets)), squeeze=False, layout="constrained"
    )
    for test_set, row in zip(sets, axes, strict=True):
        for (metric, label), ax in zip(QUANTITIES.items(), row, strict=True):
            part = lora[lora["test_set"] == test_set]
            if part.empty:
                ax.set_axis_off()
                continue
            grid = part.pivot_table(index="alpha", columns="rank", values=metric, aggfunc="mean")
            ax.imshow(grid, cmap="cividis_r", aspect="auto", origin="lower")
            ax.set_xticks(range(grid.shape[1]), [f"{r:g}" for r in grid.columns])
            ax.set_yticks(range(grid.shape[0]), [f"{a:g}" for a in grid.index])
            middle = np.nanmean([np.nanmin(grid), np.nanmax(grid)])
            for (i, j), value in np.ndenumerate(grid.to_numpy()):
                colour = "white" if value > middle else "black"
                ax.text(j, i, f"{value:.3g}", ha="center", va="center", color=colour)
            ax.set(xlabel="rank", ylabel="alpha", title=f"{test_set}: {label}")
            ax.spines[:].set_visible(False)
    save(figure, lora, path)


def parameters(table: pd.DataFrame, path: str) -> None:
    """Force error against trainable parameters; the baselines as lines.

    The foundation model's error is written above: on the axis it would flatten all the others.
    """
    sets = [s for s in dict.fromkeys(table["test_set"]) if s != "valid"]
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets) + 2, 3.4), squeeze=False)
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set]
        for alpha, line in part[part["method"] == "lora"].groupby("alpha"):
            mean = line.groupby("trainable_parameters")["rmse_f_mev_per_a"].mean()
            ax.plot(mean.index, mean.to_numpy(), "o-", label=f"LoRA, alpha {alpha:g}")
        means = part.groupby("method")["rmse_f_mev_per_a"].mean()
        for method, style in {"full": "--", "freeze": ":", "full_replay": "-."}.items():
            if method in means:
                ax.axhline(means[method], color="black", linestyle=style, label=method)
        title = test_set
        if "foundation" in means:
            title += f"\n(foundation {means['foundation']:.0f})"
        ax.set(xscale="log", yscale="log", title=title, xlabel="trainable parameters")
        counts = sorted(part.loc[part["method"] == "lora", "trainable_parameters"].unique())
        ax.set_xticks(counts, [f"{n / 1000:.3g}k" for n in counts], minor=False)
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES["rmse_f_mev_per_a"])
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    columns = ["point", "method", "alpha", "trainable_parameters", "test_set", "rmse_f_mev_per_a"]
    save(figure, table[columns], path)


def forgetting(table: pd.DataFrame, checks: pd.DataFrame, path: str) -> None:
    """Force error on the first test set against forgetting, with the Pareto front.

    Forgetting is the error on structures of the foundation model's own level of theory, as a ratio
    to its own where that is known (meV/Å else); points that a check refused are hollow.
    """
    own = checks[(checks["check"] == "forgetting") & (checks["point"] != "foundation")]
    test_set = next((s for s in table["test_set"] if s != "valid"), "valid")
    errors = table[table["test_set"] == test_set].set_index("point")
    judged = checks[checks["passed"].notna()].groupby("point")["passed"].agg(lambda x: bool(all(x)))
    x = own["compared"].where(own["compared"].notna(), own["value"])
    data = own.assign(forgetting=x).set_index("point")[["forgetting"]]
    data = data.join(errors[["method", "rank", "alpha", "rmse_f_mev_per_a"]]).join(judged)
    data = data.sort_values("forgetting")
    data["front"] = data["rmse_f_mev_per_a"] <= data["rmse_f_mev_per_a"].cummin()
    figure, ax = plt.subplots(figsize=(7, 4.6))
    for (method, part), colour, marker in zip(
        data.groupby("method", sort=False), COLOURS, "osD^v<", strict=False
    ):
        for passed, group in part.groupby("passed"):
            style = {"color": colour, "fillstyle": "full" if passed else "none"}
            label = method if passed else f"{method}, refused"
            ax.plot(group["forgetting"], group["rmse_f_mev_per_a"], marker, label=label, **style)
    front = data[data["front"]]
    ax.step(front["forgetting"], front["rmse_f_mev_per_a"], where="post", color="black", lw=0.8)
    for point, row in front.iterrows():
        at = (row["forgetting"], row["rmse_f_mev_per_a"])
        ax.annotate(point, at, xytext=(4, 4), textcoords="offset points", fontsize=9)
    if own.empty:
        ax.text(0.5, 0.5, "forgetting was not checked", ha="center", transform=ax.transAxes)
    else:
        wide = data["forgetting"].max() > 3 * data["forgetting"].min()
        ax.set(xscale="log" if wide else "linear", yscale="log")
        plain(ax)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    unit = "times the foundation's own" if own["compared"].notna().any() else "meV/Å"
    ax.set_xlabel(f"force RMSE on the foundation's level of theory\n({unit})")
    ax.set_ylabel(f"{test_set}: {QUANTITIES['rmse_f_mev_per_a']}")
    save(figure, data.reset_index(), path)


def learning_curves(files: list[str], path: str) -> None:
    """Validation errors of every training against the epoch."""
    parts = []
    for name in files:
        lines = [json.loads(line) for line in read_beside(name).read_text().splitlines()]
        parts.append(pd.DataFrame(lines).assign(point=Path(name).parent.name))
    data = pd.concat(parts)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    names = ["valid_rmse_e_mev_per_atom", "valid_rmse_f_mev_per_a"]
    for column, (_, label), ax in zip(names, QUANTITIES.items(), axes, strict=True):
        for i, (point, part) in enumerate(data.groupby("point", sort=False)):
            style = "-" if point.startswith("lora") else "--"
            ax.plot(part["epoch"], part[column], style, color=COLOURS[i % 8], label=point)
        ax.set(yscale="log", xlabel="epoch", ylabel=f"validation {label}")
        plain(ax)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, data, path)


def parity(table: pd.DataFrame, point: str, path: str) -> None:
    """Predicted against reference, a colour each config_type, of one model on its test sets."""
    table = table[table["test_set"] != "valid"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.8))
    labels = {"energy": "energy (eV/atom), shifted by its mean", "force": "force component (eV/Å)"}
    for (quantity, label), ax in zip(labels.items(), axes, strict=True):
        part = table[table["quantity"] == quantity]
        shift = part["reference"].mean() if quantity == "energy" else 0.0
        for name, members in part.groupby("config_type", sort=False):
            x, y = members["reference"] - shift, members["predicted"] - shift
            shown = str(name).replace("$", r"\$")  # no formula
            ax.plot(x, y, ".", markersize=3, label=shown, rasterized=True)
        ends = np.array([part["reference"].min(), part["reference"].max()]) - shift
        ax.plot(ends, ends, color="black", linewidth=0.8)
        ax.set(xlabel=f"reference {label}", ylabel="predicted")
    axes[0].legend(markerscale=3)
    figure.suptitle(point)
    save(figure, table, path)


def spectrum(point: str | None, record: dict, path: str) -> None:
    """Singular values of a LoRA point's weight changes, a line each layer and irrep."""
    ranks = record.get("effective_rank", {})
    rows = [
        (point, layer, irrep, ranks[layer][irrep], i + 1, value)
        for layer, parts in record.get("singular_values", {}).items()
        for irrep, values in parts.items()
        for i, value in enumerate(values)
    ]
    columns = ["point", "layer", "irrep", "effective_rank", "index", "singular_value"]
    data = pd.DataFrame(rows, columns=columns)
    lines = data.groupby(["layer", "irrep"], sort=False)
    figure, ax = plt.subplots(figsize=(9, max(4.0, 0.2 * len(lines) + 1)))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.95, max(1, len(lines))))
    for colour, ((layer, irrep), line) in zip(shades, lines, strict=False):
        label = f"{layer} {irrep}: {line['effective_rank'].iloc[0]:.1f}"
        ax.plot(line["index"], line["singular_value"], ".-", color=colour, label=label)
    if rows:
        ax.set_yscale("log")
        title = "layer, irrep: effective rank"
        ax.legend(fontsize=8, title=title, loc="upper left", bbox_to_anchor=(1.01, 1))
    ax.set(xlabel="index", title=point or "no LoRA point")
    ax.set_ylabel("singular value")
    save(figure, data, path)


def main(snakemake: object) -> None:
    table = pd.read_csv(snakemake.input.table)
    chosen = read(snakemake.input.best)
    best, lora = chosen["point"], chosen["lora"]
    whole = of_all_data(table)
    heatmap(whole, snakemake.output.heatmap)
    parameters(whole, snakemake.output.parameters)
    checks = pd.read_csv(Path(snakemake.input.checks).with_suffix(".csv"))
    forgetting(whole, checks[checks["point"].isin(whole["point"])], snakemake.output.forgetting)
    learning_curves(snakemake.params.metrics, snakemake.output.curves)
    of_best = next(path for path in snakemake.params.parity if Path(path).stem == best)
    parity(pd.read_parquet(read_beside(of_best)), best, snakemake.output.parity)
    record = receipts(snakemake.input.trainings).get(lora, {})
    spectrum(lora, record, snakemake.output.spectrum)
