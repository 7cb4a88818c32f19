"""Draw the figures of the first page: methods, learning curves, parity.

    methods           the best setting of each method on every test set, with its spread
    learning curves   the choice in front of all others
    parity            of the choice, with its errors

That of ranks and alphas is in `lora.report.rank_alpha`.  All are written as files, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, SYSTEM, VALID
from lora.catalogue.endings import Ending
from lora.plan.sweep import Sweep
from lora.report.comparison import Errors
from lora.report.looks import CHOSEN, METHODS, OTHER, looks_of
from lora.report.rivals import TITLES
from lora.report.style import COLOURS, PAGE, legend, panels, plain, shown
from lora.selection.results import intact
from lora.selection.table import BASELINES, LORA, QUANTITIES

Drawn = tuple[Figure, pd.DataFrame]  # a figure and its numbers
LABELS = {  # of the axes of parity plots, and the unit
    "energy": ("energy - mean", "eV/atom"),
    "force": ("force component", "eV/Å"),
    "stress": ("stress component", "eV/Å³"),
}


def methods(errors: Errors, chosen: str) -> Drawn:
    """Draw the errors of the best setting of each method on every test set.

    The foundation model is not drawn: its error would flatten all the others.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.
    """
    sets, metric = errors.measured
    best = [errors.of_kind(kind)[:1] for kind in (*LORA, *BASELINES)]
    groups = list(dict.fromkeys([chosen, *(x for found in best for x in found)]))
    figure, ax = plt.subplots(figsize=(PAGE, 0.6 + 0.2 * (len(groups) + 0.8) * len(sets)))
    rows, labels = [], []
    for i, test_set in enumerate(sets):
        for j, group in enumerate(groups):
            found = errors.of(group, test_set, metric)
            y = -(i * (len(groups) + 0.8) + j)
            labels.append((y, shown(test_set) if j == 0 else ""))
            rows.append((group, test_set, metric, found.mean, found.std, found.n))
            if not found.n:
                continue
            spread = found.std if found.n > 1 else 0.0
            colour = CHOSEN if group == chosen else METHODS.get(errors.kind_of(group), OTHER)[0]
            ax.barh(y, found.mean, 0.8, xerr=spread or None, color=colour, capsize=2)
            at = (found.mean + spread, y)
            ax.annotate(
                found.text(1),
                at,
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    for group in groups:
        kind = errors.kind_of(group)
        colour = CHOSEN if group == chosen else METHODS.get(kind, OTHER)[0]
        name = "the choice" if group == chosen else TITLES.get(kind, kind)
        ax.barh(0, 0, color=colour, label=shown(f"{group} ({name})", 60))
    data = pd.DataFrame(rows, columns=["group", "test_set", "error", "mean", "std", "seeds"])
    high = (data["mean"] + data["std"].fillna(0)).max()
    ax.set_yticks(*zip(*labels, strict=True))
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1.2 * high if high > 0 else 1), xlabel=BY_KEY[metric].heading)
    legend(figure)
    return figure, data


def not_drawn(errors: Errors) -> str:
    """Return the errors of the foundation model, which `methods` leaves out; "" without it."""
    sets, metric = errors.measured
    groups = errors.of_kind("foundation")
    values = [f"{s} {errors.text(x, s, metric, 0)}" for x in groups[:1] for s in sets]
    return f"The foundation model, not drawn: {', '.join(values)}." if values else ""


def epochs_of(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return the epochs of trainings: what each line of metrics.jsonl has, and the point.

    Args:
        files: {point: its metrics.jsonl}.
    """
    parts = []
    for point, file in files.items():
        lines = [json.loads(line) for line in intact(file).read_text().splitlines()]
        parts.append(pd.DataFrame(lines).drop(columns=SYSTEM, errors="ignore").assign(point=point))
    names = [f"valid_{ENERGY}", f"valid_{FORCE}"]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["epoch", *names, "point"])


def histories(sweep: Sweep, errors: Errors) -> dict[str, Path]:
    """Return the epochs of trainings that did not fail: {point: its metrics.jsonl}."""
    known = set(errors.table.loc[errors.table["ended_by"] != Ending.FAILED, "point"])
    files = {x: sweep.training(x) / "metrics.jsonl" for x in sweep.trained_points if x in known}
    return {x: file for x, file in files.items() if file.is_file()}


def curves(data: pd.DataFrame, errors: Errors, point: str) -> Drawn:
    """Draw the validation error of every training against its epoch, the choice in front.

    Args:
        data: What `epochs_of` returns.
        errors: The errors of every group.
        point: The chosen point.
    """
    names = {f"valid_{ENERGY}": QUANTITIES[ENERGY], f"valid_{FORCE}": QUANTITIES[FORCE]}
    figure, axes = panels(2, 2.4)
    looks = looks_of(errors.table, point)
    for (column, label), ax in zip(names.items(), axes, strict=True):
        for name, part in data.groupby("point", sort=False):
            look = looks[str(name)]
            found = part[column].astype(float)  # None where the set has no such label
            ax.plot(part["epoch"], found, label=shown(look.label, 60), **look.line(len(part)))
        ax.set(yscale="log", xlabel="epoch", ylabel=f"validation\n{label}")
        plain(ax)
    legend(figure)
    return figure, data


def parity(table: pd.DataFrame, point: str) -> Drawn:
    """Draw predicted against reference values of one point on its test sets, with its errors.

    A colour is a test set; where there is one, a config_type.

    Args:
        table: Parity data.
        point: The point.
    """
    table = table[table["test_set"] != VALID].dropna(subset="reference")
    by = "config_type" if table["test_set"].nunique() == 1 else "test_set"
    figure, axes = panels(2, 3.2)
    for quantity, ax in zip(("energy", "force"), axes, strict=True):
        label, unit = LABELS[quantity]
        part = table[table["quantity"] == quantity]
        if part.empty:
            ax.set_axis_off()
            continue
        shift = part["reference"].mean() if quantity == "energy" else 0.0
        colours = {x: COLOURS[i % len(COLOURS)] for i, x in enumerate(table[by].unique())}
        for name, members in part.groupby(by, sort=False):
            x, y = members["reference"] - shift, members["predicted"] - shift
            dots = ax.plot(x, y, ".", color=colours[name], markersize=2, label=shown(name))
            dots[0].set_rasterized(True)
        _square(ax, part[["reference", "predicted"]].to_numpy() - shift)
        off = part["predicted"] - part["reference"]
        rmse, mae = 1000 * float(np.sqrt((off**2).mean())), 1000 * float(off.abs().mean())
        said = f"RMSE {rmse:.3g} m{unit}\nMAE {mae:.3g} m{unit}"
        ax.text(0.04, 0.96, said, transform=ax.transAxes, va="top")
        ax.set(xlabel=f"reference {label} ({unit})", ylabel=f"predicted {label} ({unit})")
    figure.suptitle(shown(point, 60))
    legend(figure)
    return figure, table


def _square(ax: Axes, values: np.ndarray) -> None:
    """Give both axes the same ends and ticks, and draw the diagonal."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color="black", linewidth=0.6)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.locator_params(nbins=7)
