"""Draw the four figures of the first page: settings, methods, learning curves, parity.

    settings          rank x alpha, on a scale of the seeds' spread; the choice has a frame
    methods           the best setting of each method on every test set, with its spread
    learning curves   the choice in front of all others
    parity            of the choice, with its errors

Two settings are told apart as `lora.report.comparison` does it: where the seeds, or with one seed
5 %, do not show a difference to the choice, the cell is hatched.
"""

import base64
import io

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.report.comparison import Errors, compare
from lora.report.figures import COLOURS, plain, scale_of
from lora.report.page import TEMPLATES
from lora.report.rivals import TITLES
from lora.selection.table import BASELINES, QUANTITIES

IMAGE = TEMPLATES.from_string(
    '<figure><img alt="{{ title }}: {{ about }}" src="data:image/svg+xml;base64,{{ content }}">'
    "<figcaption><b>{{ title }}.</b> {{ about }}</figcaption></figure>"
)


def image(figure: Figure, title: str, about: str) -> Markup:
    """Return a figure as a part of a page, and close it.

    Args:
        figure: The figure.
        title: What it is called.
        about: What it shows, and how it is to be read.
    """
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    plt.close(figure)
    encoded = base64.b64encode(content.getvalue()).decode()
    return Markup(IMAGE.render(title=title, about=about, content=encoded))


def settings(errors: Errors, chosen: str) -> Markup | None:
    """Draw the error of every rank and alpha on the validation set; None without LoRA.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.
    """
    table = errors.table.drop_duplicates("group").set_index("group")
    groups = [x for x in errors.of_kind("lora") if x in table.index]
    if not groups:
        return None
    found = {x: errors.of(x, VALID, errors.metric) for x in groups}
    ranks, alphas = (sorted(table.loc[groups, x].unique()) for x in ("rank", "alpha"))
    rows = errors.table[errors.table["group"].isin(groups) & (errors.table["test_set"] == VALID)]
    low, high = scale_of(rows, errors.metric)
    marked = chosen if chosen in found else groups[0]
    figure, ax = plt.subplots(figsize=(1.6 + 1.25 * len(ranks), 1.6 + 0.75 * len(alphas)))
    cells: dict[tuple[int, int], list[str]] = {}
    for group in groups:  # several in a cell: rates, starts, scalings
        place = (alphas.index(table.at[group, "alpha"]), ranks.index(table.at[group, "rank"]))
        cells.setdefault(place, []).append(group)
    shades = plt.get_cmap("cividis_r")
    for (i, j), members in cells.items():
        group = marked if marked in members else members[0]  # of_kind: the lowest first
        shade = min(1.0, (found[group].mean - low) / (high - low))
        same = group != marked and not _told_apart(errors, marked, group)
        cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=shades(shade), edgecolor="white")
        cell.set(hatch="///" if same else None, linewidth=0)
        ax.add_patch(cell)
        if group == marked:
            frame = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00")
            frame.set(linewidth=3, zorder=3)
            ax.add_patch(frame)
        box = {"facecolor": shades(shade), "edgecolor": "none", "pad": 1.5}
        text = found[group].text(1).replace(" ± ", "\n± ")
        colour = "white" if shade > 0.5 else "black"
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=11, bbox=box)
    ax.set(xlim=(-0.5, len(ranks) - 0.5), ylim=(-0.5, len(alphas) - 0.5))
    ax.set_xticks(range(len(ranks)), [f"{x:g}" for x in ranks])
    ax.set_yticks(range(len(alphas)), [f"{x:g}" for x in alphas])
    ax.set(xlabel="rank", ylabel="alpha")
    ax.spines[:].set_visible(False)
    what = BY_KEY[errors.metric]
    seeds = max(x.n for x in found.values())
    apart = "the seeds do not tell them" if seeds > 1 else "within 5 %, one seed does not tell them"
    return image(
        figure,
        "Rank and alpha",
        f"{what.heading} on the validation set"
        + (f", mean ± spread over {seeds} seeds" if seeds > 1 else ", one seed")
        + f". Orange frame: the {'choice' if marked == chosen else 'best LoRA setting'}; hatched: "
        f"{apart} from it. The darkest shade is {high - low:.2g} {what.unit} above the best"
        + (
            "; of several settings in a cell the lowest is shown."
            if len(cells) < len(groups)
            else "."
        ),
    )


def _told_apart(errors: Errors, chosen: str, group: str) -> bool:
    """Return True where the seeds show that a group is worse than the chosen one."""
    one, other = (errors.of(x, VALID, errors.metric) for x in (chosen, group))
    verdict = compare(one, other, max(1, len(errors.groups) - 1))
    if verdict:
        return verdict == "better"
    return not errors.close(chosen, group, VALID, errors.metric)


def methods(errors: Errors, chosen: str) -> Markup:
    """Draw the errors of the best setting of each method on every test set.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.
    """
    sets, metric = errors.measured
    best = [errors.of_kind(kind)[:1] for kind in ("lora", "lora_replay", *BASELINES)]
    groups = list(dict.fromkeys([chosen, *(x for found in best for x in found)]))
    figure, ax = plt.subplots(figsize=(6.4, 1.4 + 0.34 * len(groups) * len(sets)))
    high, labels = 0.0, []
    for i, test_set in enumerate(sets):
        for j, group in enumerate(groups):
            found = errors.of(group, test_set, metric)
            y = -(i * (len(groups) + 0.8) + j)
            labels.append((y, test_set if j == 0 else ""))
            if not found.n:
                continue
            spread = found.std if found.n > 1 else None
            ax.barh(y, found.mean, 0.8, xerr=spread, color=COLOURS[j % len(COLOURS)], capsize=3)
            high = max(high, found.mean + (spread or 0))
            ax.annotate(
                found.text(1),
                (found.mean + (spread or 0), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
    for j, group in enumerate(groups):
        kind = errors.kind_of(group)
        name = f"{group} (the choice)" if group == chosen else f"{group} ({TITLES.get(kind, kind)})"
        ax.barh(0, 0, color=COLOURS[j % len(COLOURS)], label=name)
    ax.set_yticks(*zip(*labels, strict=True))
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1.25 * high or 1), xlabel=BY_KEY[metric].heading)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.02 + 0.09 * len(groups)), ncols=1)
    parts = []
    if errors.of_kind("foundation"):
        group = errors.of_kind("foundation")[0]
        values = ", ".join(f"{s} {errors.text(group, s, metric, 0)}" for s in sets)
        parts = [f"The foundation model, not drawn: {values}."]
    about = "The best setting of each method, a bar a test set; bars of error: spread over seeds."
    return image(figure, "Methods", " ".join([about, *parts]))


def curves(data: pd.DataFrame, errors: Errors, point: str) -> Markup:
    """Draw the validation error of every training against its epoch, the choice in front.

    Args:
        data: The epochs of every training: point, epoch, valid_rmse_e_..., valid_rmse_f_...
        errors: The errors of every group, for the method of each point.
        point: The chosen point.
    """
    names = {f"valid_{ENERGY}": QUANTITIES[ENERGY], f"valid_{FORCE}": QUANTITIES[FORCE]}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    kinds = list(dict.fromkeys(errors.kind_of(errors.group_of[x]) for x in data["point"].unique()))
    for (column, label), ax in zip(names.items(), axes, strict=True):
        for name, part in data.groupby("point", sort=False):
            kind = errors.kind_of(errors.group_of[str(name)])
            own = {"color": COLOURS[1 + kinds.index(kind) % 7], "lw": 0.8, "alpha": 0.6}
            if name == point:
                own = {"color": COLOURS[0], "lw": 2.6, "zorder": 3}
            ax.plot(part["epoch"], part[column].astype(float), **own)
        ax.set(yscale="log", xlabel="epoch", ylabel=f"validation {label}")
        plain(ax)
    for i, kind in enumerate(kinds):
        axes[1].plot([], [], color=COLOURS[1 + i % 7], lw=1.5, label=TITLES.get(kind, kind))
    axes[1].plot([], [], color=COLOURS[0], lw=2.6, label=point)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    still, of = errors.improving(*errors.groups)
    about = f"{still} of {of} trainings had their lowest error in their last epoch."
    return image(figure, "Learning curves", about)


def parity(table: pd.DataFrame, point: str) -> Markup:
    """Draw predicted against reference values of the choice on its test sets, with its errors.

    Args:
        table: Reference and prediction of every number: quantity, test_set, reference, predicted.
        point: The chosen point.
    """
    table = table[table["test_set"] != VALID].dropna(subset="reference")
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2))
    units = {"energy": ("energy - mean", "eV/atom"), "force": ("force component", "eV/Å")}
    for (quantity, (label, unit)), ax in zip(units.items(), axes, strict=True):
        part = table[table["quantity"] == quantity]
        if part.empty:
            ax.set_axis_off()
            continue
        shift = part["reference"].mean() if quantity == "energy" else 0.0
        for name, members in part.groupby("test_set", sort=False):
            x, y = members["reference"] - shift, members["predicted"] - shift
            ax.plot(x, y, ".", markersize=3, label=str(name).replace("$", r"\$"), rasterized=True)
        _square(ax, part[["reference", "predicted"]].to_numpy() - shift)
        off = part["predicted"] - part["reference"]
        rmse, mae = 1000 * float(np.sqrt((off**2).mean())), 1000 * float(off.abs().mean())
        said = f"RMSE {rmse:.3g}\nMAE {mae:.3g} m{unit}"
        ax.text(0.04, 0.96, said, transform=ax.transAxes, va="top", fontsize=11)
        ax.set(xlabel=f"reference {label} ({unit})", ylabel=f"predicted ({unit})")
    axes[0].legend(markerscale=4, loc="lower right")
    return image(figure, "Parity", f"{point} on its test sets, all structures together.")


def _square(ax: Axes, values: np.ndarray) -> None:
    """Give both axes the same ends, and draw the diagonal."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color="black", linewidth=0.8)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
