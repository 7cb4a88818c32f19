"""Draw errors of a few models beside each other: by element, against force size, as distributions.

All on the test sets, a panel a set.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lora.catalogue.columns import BY_KEY, FORCE
from lora.data.breakdown import DIRECTED, Breakdown
from lora.report.first_figures import Drawn
from lora.report.looks import Look
from lora.report.style import legend, panels, plain, shown

LEVELS = np.unique(np.concatenate([np.linspace(0, 0.9, 91), 1 - np.logspace(-1, -4, 61)]))
SIZES = {  # of errors whose distribution is drawn: {quantity: label}
    "energy": "energy error (meV/atom)",
    "force": "force error (meV/Å)",
    "direction": "1 - cosine of force directions",
}
SMALLEST = 1e-6  # 1 - cosine, which rounding can make 0


@dataclass(frozen=True)
class Seen:
    """What is drawn of one model.

    Attributes:
        found: Its errors, taken apart.
        tails: test_set, quantity, level, error, see `tails_of`.
        look: How it is drawn.
    """

    found: Breakdown
    tails: pd.DataFrame
    look: Look


def elements(seen: Mapping[str, Seen], sets: list[str]) -> Drawn:
    """Draw the force RMSE of each element, a bar a model.

    Args:
        seen: {point: what is drawn of it}.
        sets: The test sets.
    """
    data = pd.concat([x.found.elements.assign(point=name) for name, x in seen.items()])
    figure, axes = panels(len(sets))
    for test_set, ax in zip(sets, axes, strict=False):
        part = data[data["test_set"] == test_set]
        names, width = sorted(part["element"].unique()), 0.8 / len(seen)
        for j, (point, one) in enumerate(seen.items()):
            bars = part[part["point"] == point]
            at = [names.index(x) + (j + 0.5) * width - 0.4 for x in bars["element"]]
            label = shown(one.look.label, 60)
            ax.bar(at, bars[FORCE], width, color=one.look.color, label=label)
        ax.set_xticks(range(len(names)), names)
        ax.set(title=shown(test_set), yscale="log")
        plain(ax)
    axes[0].set_ylabel(BY_KEY[FORCE].heading)
    legend(figure)
    return figure, data


def sizes(seen: Mapping[str, Seen], sets: list[str]) -> Drawn:
    """Draw the force RMSE in bins of the reference force; above, the atoms in each bin.

    Args:
        seen: {point: what is drawn of it}.
        sets: The test sets.
    """
    data = pd.concat([x.found.sizes.assign(point=name) for name, x in seen.items()])
    figure, axes = panels(len(sets), 2.2)
    for test_set, ax in zip(sets, axes, strict=False):
        part = data[data["test_set"] == test_set]
        lows = sorted(part["low"].unique())
        for point, one in seen.items():
            bins = part[part["point"] == point]
            at = [lows.index(x) for x in bins["low"]]
            ax.plot(at, bins[FORCE], label=shown(one.look.label, 60), **one.look.line())
        counts = part.groupby("low")["atoms"].first()
        highs = part.groupby("low")["high"].first()
        named = [
            f"{low:g}-\n{highs[low]:g}" if np.isfinite(highs[low]) else f"> {low:g}" for low in lows
        ]
        ax.set_xticks(range(len(lows)), named)
        for i, low in enumerate(lows):
            above = ax.annotate(
                _short(counts[low]),
                (i, 1.0),
                xycoords=ax.get_xaxis_transform(),
                ha="center",
                va="bottom",
            )
            above.set(fontsize=6, color="#666666")
        ax.set(xlabel="reference force (eV/Å)", yscale="log")
        ax.set_title(shown(test_set), pad=12)
        plain(ax)
    axes[0].set_ylabel(BY_KEY[FORCE].heading)
    legend(figure)
    return figure, data


def _short(n: int) -> str:
    """Return a count in at most four letters, such as 340, 12k."""
    return f"{n}" if n < 1000 else f"{n / 1e3:.0f}k" if n < 1e6 else f"{n / 1e6:.0f}M"


def distributions(seen: Mapping[str, Seen], sets: list[str]) -> Drawn:
    """Draw the share of errors above a size: a row of panels a quantity, a panel a set.

    Args:
        seen: {point: what is drawn of it}.
        sets: The test sets.
    """
    data = pd.concat([x.tails.assign(point=name) for name, x in seen.items()])
    known = [x for x in SIZES if (data["quantity"] == x).any()]
    drawn = [(x, s) for x in known for s in sets]
    figure, axes = panels(len(drawn), most=min(3, max(1, len(sets))))
    for (quantity, test_set), ax in zip(drawn, axes, strict=False):
        part = data[(data["test_set"] == test_set) & (data["quantity"] == quantity)]
        for point, one in seen.items():
            line = part[part["point"] == point]
            larger = 100 * (1 - line["level"])
            ax.plot(line["error"], larger, label=shown(one.look.label, 60), **one.look.line())
        ax.set(xscale="log", yscale="log", xlabel=SIZES[quantity], title=shown(test_set))
        plain(ax, both=True)
    for ax in axes[:: len(axes) // max(1, len(known)) or 1]:
        ax.set_ylabel("larger errors (%)")
    legend(figure)
    return figure, data


def tails_of(atoms: pd.DataFrame, energies: pd.DataFrame) -> pd.DataFrame:
    """Return the quantiles of errors that are drawn, up to the last but one error of a set.

    Args:
        atoms: What `lora.data.breakdown.atoms_of` returns.
        energies: What `lora.data.breakdown.energies_of` returns.

    Returns:
        test_set, quantity (a key of `SIZES`), level, error (meV/atom, meV/Å, 1 - cosine).
    """
    pointed = atoms[atoms["size"] >= DIRECTED]
    sizes = {
        "energy": (energies, 1e3 * (energies["predicted"] - energies["reference"]).abs()),
        "force": (atoms, 1e3 * atoms["error"]),
        "direction": (pointed, (1 - pointed["cosine"]).clip(lower=SMALLEST)),
    }
    parts = [pd.DataFrame(columns=["test_set", "quantity", "level", "error"])]
    for quantity, (table, values) in sizes.items():
        for test_set, part in values.groupby(table["test_set"], sort=False):
            levels = LEVELS[1 - 1 / len(part) >= LEVELS]
            row = {"test_set": test_set, "quantity": quantity, "level": levels}
            parts.append(pd.DataFrame({**row, "error": part.quantile(levels).to_numpy()}))
    return pd.concat(parts[1:] or parts)
