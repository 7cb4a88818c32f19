"""Draw the figures of the fair table: what the E0s do, errors against full fine-tuning, curves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cells import E0S, MOLECULES, SIZES, TABLE, TITLES
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora.catalogue.columns import FORCE
from lora.report.looks import METHODS, OTHER
from lora.report.style import legend, panels, plain

LOOKS = METHODS | {"lora_all": ("#56B4E9", "-"), "lora_gradient": OTHER}
MARKERS = dict(zip(TITLES, "ohsD^vP", strict=True))
WIDE = 0.09  # between methods beside each other


def draw(table: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Draw what is measured; return what each picture shows, by its name.

    Args:
        table: The rows of all cells.
        folder: Where the pictures lie, as NAME.svg.
    """
    makers: dict[str, tuple[str, Callable[[pd.DataFrame], Figure | None]]] = {
        "e0s": ("Force errors over those of full fine-tuning, by the kind of E0s", e0s),
        "forces": ("Force errors over those of full fine-tuning, by training structures", sizes),
        "training": ("Validation errors of forces against epochs", curves),
    }
    made = {}
    for name, (about, make) in makers.items():
        figure = make(table[table["stage"] == TABLE])
        if figure:
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)
            made[name] = about
    return made


def e0s(table: pd.DataFrame) -> Figure | None:
    """Draw all methods over full fine-tuning, a panel a kind of E0s, averaged ones first."""
    part = table[table["n"] == SIZES[0]]
    return _panels(part, "e0s", [x for x in E0S[::-1] if x in set(part["e0s"])], "E0s {}")


def sizes(table: pd.DataFrame) -> Figure | None:
    """Draw all methods over full fine-tuning, a panel a number of structures, E0s estimated."""
    part = table[table["e0s"] == E0S[0]]
    return _panels(part, "n", sorted(set(part["n"])), "{} structures")


def _panels(table: pd.DataFrame, column: str, values: list[Any], words: str) -> Figure | None:
    """Draw force errors on the test set over full's, a panel a base and value of a column."""
    parts = {
        f"{base} base, {words.format(value)}": rows[rows[column] == value]
        for base, rows in table.groupby("base", sort=False)
        for value in values
    }
    parts = {title: part for title, part in parts.items() if "full" in set(part["method"])}
    if not parts:
        return None
    figure, axes = panels(len(parts), height=2.1, most=2)
    for (title, part), ax in zip(parts.items(), axes, strict=True):
        _ratios(ax, part)
        ax.set_title(title)
    for ax in axes[::2]:
        ax.set_ylabel("force RMSE over full's")
    legend(figure)
    return figure


def _ratios(ax: Axes, part: pd.DataFrame) -> None:
    molecules = [x for x in MOLECULES if x in set(part["molecule"])]
    methods = [x for x in TITLES if x in set(part["method"])]
    found = part.groupby(["method", "molecule"])[f"test_{FORCE}"].agg(["mean", "std"])
    for i, method in enumerate(methods):
        both = [x for x in molecules if {(method, x), ("full", x)} <= {*found.index}]
        full = found.loc[[("full", x) for x in both], "mean"].to_numpy()
        mine = found.loc[[(method, x) for x in both]]
        means, spread = mine["mean"].to_numpy() / full, mine["std"].to_numpy() / full
        places = np.array([molecules.index(x) for x in both])
        places = places + WIDE * (i - (len(methods) - 1) / 2)
        colour = LOOKS[method][0]
        style = {"color": colour, "marker": MARKERS[method], "linestyle": "none", "capsize": 2}
        ax.errorbar(places, means, np.nan_to_num(spread), label=TITLES[method], **style)
    ax.axhline(1, color="#BBBBBB", linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(molecules)), molecules, rotation=20)
    ax.set_yscale("log")
    plain(ax)


def curves(table: pd.DataFrame) -> Figure | None:
    """Draw the validation errors of the first seed with the first size, a panel a molecule."""
    part = table[(table["n"] == SIZES[0]) & (table["e0s"] == E0S[0]) & (table["seed"] == 1)]
    part = part[part["base"] == part["base"].iloc[0]] if len(part) else part
    molecules = [x for x in MOLECULES if x in set(part["molecule"])]
    if not molecules:
        return None
    figure, axes = panels(len(molecules))
    for molecule, ax in zip(molecules, axes, strict=True):
        for row in part[part["molecule"] == molecule].to_dict("records"):
            pairs = [x.split(":") for x in str(row["curve"]).split()]
            epochs, errors = ([float(x[i]) for x in pairs] for i in (0, 1))
            colour, line = LOOKS[row["method"]]
            ax.plot(epochs, errors, color=colour, linestyle=line, label=TITLES[row["method"]])
        ax.set(xscale="symlog", yscale="log", title=molecule, xlabel="epoch")
        plain(ax)
    axes[0].set_ylabel("valid force RMSE (meV/Å)")
    legend(figure)
    return figure
