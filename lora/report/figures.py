"""Draw the figures of a sweep; each is written with its numbers, and as for a paper."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from lora.catalogue.columns import FORCE, VALID
from lora.catalogue.methods import ADAPTERS
from lora.plan.sweep import Sweep
from lora.report.comparison import Errors
from lora.report.first_figures import Drawn, curves, epochs_of, histories, methods, parity
from lora.report.looks import METHODS, looks_of
from lora.report.rank_alpha import heatmap
from lora.report.style import COLUMN, PAGE, legend, panels, plain, save, shown, ticks
from lora.selection.choose import Choice, read_choice
from lora.selection.results import intact, read_receipts, read_results
from lora.selection.table import LORA, QUANTITIES, axes_of, of_all_data, sound

JOB = "report/figures"


def write(sweep: Sweep) -> list[Path]:
    """Write the figures of every sweep.

    Args:
        sweep: The sweep, with its table of points and the choice.

    Returns:
        The files.
    """
    choice, layout = read_choice(sweep), sweep.layout
    errors = Errors.of_sweep(sweep, read_results(sweep, JOB), choice.metric)
    chosen = errors.group_of[choice.point]
    whole = of_all_data(sound(errors.table))
    of_best = pd.read_parquet(intact(layout.parity(choice.point)))
    trained = read_receipts(sweep, JOB, "train").get(choice.lora or "", {})
    drawn = {
        "heatmap": heatmap(errors, chosen),
        "methods": methods(errors, chosen),
        "parameters": parameters(whole, choice.point),
        "forgetting": forgetting(whole, choice),
        "learning_curves": curves(epochs_of(histories(sweep, errors)), errors, choice.point),
        "parity": parity(of_best, choice.point),
        "spectrum": spectrum(choice.lora, trained),
    }
    return [x for name, found in drawn.items() for x in save(*found, layout.figure(name))]


def parameters(table: pd.DataFrame, point: str) -> Drawn:
    """Draw force errors against trainable parameters; the baselines are lines.

    The foundation model's error is written above: on the axis it would flatten all the others.

    Args:
        table: The table of points.
        point: The chosen point.
    """
    sets = [s for s in dict.fromkeys(table["test_set"]) if s != VALID]
    figure, axes = panels(len(sets))
    looks = looks_of(table, point)
    for test_set, ax in zip(sets, axes, strict=False):
        part = table[table["test_set"] == test_set].dropna(subset=FORCE)
        lora = part[part["method"].isin(ADAPTERS)]
        for _, line in lora.groupby([*axes_of(table), "alpha"]):
            mean = line.groupby("trainable_parameters")[FORCE].mean()
            ax.plot(mean.index, mean.to_numpy(), color="#DDDDDD", linewidth=0.8, zorder=0)
        for row in lora.to_dict("records"):
            look = looks[row["point"]]
            at = (row["trainable_parameters"], row[FORCE])
            ax.plot(*at, label=shown(look.label, 60), **look.dot())
        means = part.groupby("method")[FORCE].mean()
        for method, (colour, line) in METHODS.items():
            if method in means and method not in (*LORA, "foundation"):
                ax.axhline(means[method], color=colour, linestyle=line, label=method)
        title = shown(test_set)
        if "foundation" in means:
            title += f"\n(foundation {means['foundation']:.0f})"
        ax.set(xscale="log", yscale="log", title=title, xlabel="trainable parameters")
        counts = sorted(lora["trainable_parameters"].unique())
        ticks(ax, counts, [f"{n / 1000:.3g}k" for n in counts])
        plain(ax)
    axes[0].set_ylabel(QUANTITIES[FORCE])
    legend(figure)
    columns = ["point", "method", "alpha", "trainable_parameters", "test_set", FORCE]
    return figure, table[columns]


def forgetting(table: pd.DataFrame, choice: Choice) -> Drawn:
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
    figure, ax = plt.subplots(figsize=(COLUMN, 2.8))
    looks = looks_of(table, choice.point)
    for row in data.reset_index().to_dict("records"):
        look, refused = looks[row["point"]], "" if row["passed"] else ", refused"
        label = f"{shown(look.label, 40)}{refused}"
        ax.plot(row["forgetting"], row[FORCE], label=label, **look.dot(row["passed"]))
    front = data[data["front"]]
    ax.step(front["forgetting"], front[FORCE], where="post", color="black", lw=0.6, zorder=0)
    if data.empty:
        ax.text(0.5, 0.5, "forgetting was not checked", ha="center", transform=ax.transAxes)
    else:
        wide = data["forgetting"].max() > 3 * data["forgetting"].min()
        ax.set(xscale="log" if wide else "linear", yscale="log")
        plain(ax, both=wide)
        legend(figure)
    unit = "times its own" if relative else "meV/Å"
    ax.set_xlabel(f"force RMSE on the foundation\nmodel's level of theory ({unit})")
    ax.set_ylabel(f"{shown(test_set)}: {QUANTITIES[FORCE]}")
    return figure, data.reset_index()


def spectrum(point: str | None, result: dict[str, Any]) -> Drawn:
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
    figure, ax = plt.subplots(figsize=(PAGE, max(2.6, 0.15 * len(lines) + 0.6)))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, max(1, len(lines))))
    for colour, ((layer, irrep), line) in zip(shades, lines, strict=False):
        label = f"{shown(layer, 40)} {irrep}: {line['effective_rank'].iloc[0]:.1f}"
        ax.plot(line["index"], line["singular_value"], ".-", color=colour, label=label)
    if rows:
        ax.set_yscale("log")
        title = "layer, irrep: effective rank"
        ax.legend(title=title, title_fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    ax.set(xlabel="index", title=shown(point or "no LoRA point", 60))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.set_ylabel("singular value")
    return figure, data
