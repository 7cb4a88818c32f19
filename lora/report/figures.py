"""Draw the figures of a sweep, each an SVG with its numbers beside it as csv."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lora.catalogue.colours import COLOURS as COLOURS
from lora.catalogue.columns import ENERGY, FORCE, VALID
from lora.catalogue.endings import Ending
from lora.plan.sweep import Sweep
from lora.selection.choose import Choice, read_choice
from lora.selection.results import intact, read_receipts
from lora.selection.table import NAMES, QUANTITIES, of_all_data, read_table, sound

plt.rcParams.update(
    {
        "axes.prop_cycle": matplotlib.rcsetup.cycler(color=COLOURS),
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


NAMED = 24  # lines that a legend names
SPREADS = 8  # of the seeds, from the lightest to the darkest colour
ONE_SEED = 0.01  # of an error: the spread that is assumed where there is one seed
LINES = {"full": "--", "freeze": ":", "full_replay": "-."}  # of the baselines, in black


def write(sweep: Sweep) -> list[Path]:
    """Write the figures of every sweep.

    Args:
        sweep: The sweep, with its table of points and the choice.

    Returns:
        The files.
    """
    table, choice, layout = read_table(sweep), read_choice(sweep), sweep.layout
    seen = set(table.loc[table["ended_by"] != Ending.FAILED, "point"])
    trained = [x for x in sweep.trained_points if x in seen]
    curves = {x: sweep.training(x) / "metrics.jsonl" for x in trained}
    table = sound(table)
    whole, path = of_all_data(table), layout.report
    of_best = pd.read_parquet(intact(layout.parity(choice.point)))
    result = read_receipts(sweep, "report/figures", "train").get(choice.lora or "", {})
    dashed = {x for x in trained if not sweep.points[x].is_lora}
    return [
        *heatmap(whole, choice.point, path("heatmap.svg")),
        *parameters(whole, path("parameters.svg")),
        *forgetting(whole, choice, path("forgetting.svg")),
        *learning_curves(curves, dashed, path("learning_curves.svg")),
        *parity(of_best, choice.point, path("parity.svg")),
        *spectrum(choice.lora, result, path("spectrum.svg")),
    ]


def save(figure: Figure, data: pd.DataFrame, path: Path) -> list[Path]:
    """Write a figure, and the numbers in it as csv beside it; return both files."""
    numbers = path.with_suffix(".csv")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    data.to_csv(numbers, index=False, float_format="%.6g")
    return [path, numbers]


def plain(ax: Axes) -> None:
    """Put plain numbers on a logarithmic axis: 60 and not 6 x 10^1.

    Where nothing was drawn, because a set lacks a label, there is no logarithm.
    """
    if not np.isfinite(ax.dataLim.get_points()).all():
        ax.set(xscale="linear", yscale="linear")
        return
    if ax.get_xscale() == "log":
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis(ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


def heatmap(table: pd.DataFrame, point: str, path: Path) -> list[Path]:
    """Draw the mean over seeds at each rank and alpha: a row a set, a column a quantity.

    Colours reach over `SPREADS` times the spread over seeds, so that noise has no colour; the
    chosen cell has a frame.

    Args:
        table: The table of points.
        point: The chosen point.
        path: The file.
    """
    lora = table[table["method"] == "lora"]
    sets, chosen = list(dict.fromkeys(table["test_set"])), lora[lora["point"] == point]
    figure, axes = plt.subplots(
        len(sets), 2, figsize=(10, 2.6 * len(sets)), squeeze=False, layout="constrained"
    )
    for test_set, row in zip(sets, axes, strict=True):
        for (metric, label), ax in zip(QUANTITIES.items(), row, strict=True):
            part = lora[lora["test_set"] == test_set]
            if part[metric].isna().all():
                ax.set_axis_off()
                continue
            cells = {"index": "alpha", "columns": "rank", "values": metric}
            grid, std = (
                part.pivot_table(**cells, aggfunc=x, dropna=False) for x in ("mean", "std")
            )
            low, high = scale_of(part, metric)
            picture = ax.imshow(
                grid, cmap="cividis_r", aspect="auto", origin="lower", vmin=low, vmax=high
            )
            figure.colorbar(picture, ax=ax, extend="max")
            ax.set_xticks(range(grid.shape[1]), [f"{r:g}" for r in grid.columns])
            ax.set_yticks(range(grid.shape[0]), [f"{a:g}" for a in grid.index])
            for (i, j), value in np.ndenumerate(grid.to_numpy()):
                colour = "white" if value > (low + high) / 2 else "black"
                text = "" if np.isnan(value) else f"{value:.3g}"  # stopped in a race, or failed
                if len(std) and np.isfinite(spread := std.reindex_like(grid).to_numpy()[i, j]):
                    text += f"\n± {spread:.2g}"
                ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=10)
            for x, y in zip(chosen["rank"].unique(), chosen["alpha"].unique(), strict=True):
                at = (grid.columns.get_loc(x) - 0.5, grid.index.get_loc(y) - 0.5)
                ax.add_patch(Rectangle(at, 1, 1, fill=False, edgecolor=COLOURS[5], linewidth=3))
            ax.set(xlabel="rank", ylabel="alpha", title=f"{test_set}: {label}")
            ax.spines[:].set_visible(False)
    return save(figure, lora.drop(columns=NAMES), path)


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


def parameters(table: pd.DataFrame, path: Path) -> list[Path]:
    """Draw force errors against trainable parameters; the baselines are lines.

    The foundation model's error is written above: on the axis it would flatten all the others.
    """
    sets = [s for s in dict.fromkeys(table["test_set"]) if s != VALID]
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets) + 2, 3.4), squeeze=False)
    for test_set, ax in zip(sets, axes[0], strict=True):
        part = table[table["test_set"] == test_set].dropna(subset=FORCE)
        for alpha, line in part[part["method"] == "lora"].groupby("alpha"):
            mean = line.groupby("trainable_parameters")[FORCE].mean()
            ax.plot(mean.index, mean.to_numpy(), "o-", label=f"LoRA, alpha {alpha:g}")
        means = part.groupby("method")[FORCE].mean()
        for method, style in LINES.items():
            if method in means:
                ax.axhline(means[method], color="black", linestyle=style, label=method)
        title = test_set
        if "foundation" in means:
            title += f"\n(foundation {means['foundation']:.0f})"
        ax.set(xscale="log", yscale="log", title=title, xlabel="trainable parameters")
        counts = sorted(part.loc[part["method"] == "lora", "trainable_parameters"].unique())
        ax.set_xticks(counts, [f"{n / 1000:.3g}k" for n in counts], minor=False)
        plain(ax)
    axes[0][0].set_ylabel(QUANTITIES[FORCE])
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    columns = ["point", "method", "alpha", "trainable_parameters", "test_set", FORCE]
    return save(figure, table[columns], path)


def forgetting(table: pd.DataFrame, choice: Choice, path: Path) -> list[Path]:
    """Draw force errors on the first test set against forgetting, with the Pareto front.

    Forgetting is the error on structures of the foundation model's own level of theory, as a ratio
    to its own where that is known (meV/Å else); points that a check refused are hollow.
    """
    test_set = next((s for s in table["test_set"] if s != VALID), VALID)
    errors = table[table["test_set"] == test_set].set_index("point")
    verdicts = {x: v for x, v in choice.verdicts.items() if x in errors.index}
    found = {x: v["forgetting"] for x, v in verdicts.items() if "forgetting" in v}
    relative = any(v.compared is not None for v in found.values())
    measured = [v.value if v.compared is None else v.compared for v in found.values()]
    data = pd.DataFrame({"point": list(found), "forgetting": measured}).set_index("point")
    data = data.join(errors[["method", "rank", "alpha", FORCE]])
    data["passed"] = [all(v.passed for v in verdicts[x].values()) for x in data.index]
    data = data.dropna(subset=FORCE).sort_values("forgetting")
    data["front"] = data[FORCE] <= data[FORCE].cummin()
    figure, ax = plt.subplots(figsize=(7, 4.6))
    for (method, part), colour, marker in zip(
        data.groupby("method", sort=False), COLOURS, "osD^v<", strict=False
    ):
        for passed, group in part.groupby("passed"):
            fill: Literal["full", "none"] = "full" if passed else "none"
            label = str(method) if passed else f"{method}, refused"
            x, y = group["forgetting"], group[FORCE]
            ax.plot(x, y, marker, label=label, color=colour, fillstyle=fill)
    front = data[data["front"]]
    ax.step(front["forgetting"], front[FORCE], where="post", color="black", lw=0.8)
    for point, row in front.iterrows():
        at = (row["forgetting"], row[FORCE])
        ax.annotate(str(point), at, xytext=(4, 4), textcoords="offset points", fontsize=9)
    if data.empty:
        ax.text(0.5, 0.5, "forgetting was not checked", ha="center", transform=ax.transAxes)
    else:
        wide = data["forgetting"].max() > 3 * data["forgetting"].min()
        ax.set(xscale="log" if wide else "linear", yscale="log")
        plain(ax)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    unit = "times the foundation model's own" if relative else "meV/Å"
    ax.set_xlabel(f"force RMSE on the foundation model's level of theory\n({unit})")
    ax.set_ylabel(f"{test_set}: {QUANTITIES[FORCE]}")
    return save(figure, data.reset_index(), path)


def epochs_of(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return the epochs of trainings: what each line of metrics.jsonl has, and the point.

    Args:
        files: {point: its metrics.jsonl}.
    """
    parts = []
    for point, file in files.items():
        lines = [json.loads(line) for line in intact(file).read_text().splitlines()]
        parts.append(pd.DataFrame(lines).assign(point=point))
    names = [f"valid_{ENERGY}", f"valid_{FORCE}"]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["epoch", *names, "point"])


def learning_curves(files: Mapping[str, Path], dashed: set[str], path: Path) -> list[Path]:
    """Draw the validation errors of every training against the epoch.

    Args:
        files: {point: its metrics.jsonl}.
        dashed: The points whose lines are dashed.
        path: The file.
    """
    names, data = [f"valid_{ENERGY}", f"valid_{FORCE}"], epochs_of(files)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for column, (_, label), ax in zip(names, QUANTITIES.items(), axes, strict=True):
        for i, (name, part) in enumerate(data.groupby("point", sort=False)):
            line = "--" if name in dashed else "-"
            errors = part[column].astype(float)  # None where the set has no such label
            ax.plot(part["epoch"], errors, line, color=COLOURS[i % 8], label=name)
        ax.set(yscale="log", xlabel="epoch", ylabel=f"validation {label}")
        plain(ax)
    if len(files) <= NAMED:  # more would leave no room for the lines; the csv has all names
        axes[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return save(figure, data, path)


def parity(table: pd.DataFrame, point: str, path: Path) -> list[Path]:
    """Draw predicted against reference of one model on its test sets, a colour a config_type."""
    table = table[table["test_set"] != VALID].dropna(subset="reference")
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
    return save(figure, table, path)


def spectrum(point: str | None, result: dict[str, Any], path: Path) -> list[Path]:
    """Draw the singular values of a LoRA point's weight change, a line a layer and irrep."""
    ranks = result.get("effective_rank", {})
    rows = [
        (point, layer, irrep, ranks[layer][irrep], i + 1, value)
        for layer, parts in result.get("singular_values", {}).items()
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
    return save(figure, data, path)
