"""Tell whether the spread of the LoRA points, as a committee, shows where they are wrong.

The parity data of the points are used; nothing is evaluated again.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lora.catalogue.columns import VALID
from lora.data.spread import components
from lora.files.sealed import write_sealed
from lora.plan.sweep import Sweep
from lora.report.style import COLOURS, legend, panels, plain, save, shown
from lora.selection.results import intact, with_model

ENOUGH = 0.5  # rank correlation that has to be exceeded, to say where forces are worse
RESAMPLED = 200  # bootstrap samples of structures
JOB = "report/committee"
Measured = dict[str, dict[str, dict[str, float]]]  # {set: {quantity: {number: value}}}


def write(sweep: Sweep) -> list[Path]:
    """Write the figure, its numbers, and committee.json with what the spread is worth.

    Args:
        sweep: The sweep, with its trainings and evaluations.

    Returns:
        The files.
    """
    layout = sweep.layout
    members = sound(sweep)
    data = read([layout.parity(x) for x in members]) if len(members) > 1 else NONE
    measured = measure(data)
    sentences = verdict(measured, len(members))
    result = layout.report("committee.json")
    write_sealed(result, {"members": len(members), "sets": measured, "sentences": sentences})
    return [result, *save(*draw(data, measured), layout.figure("committee"))]


def sound(sweep: Sweep) -> list[str]:
    """Return the members of the committee: the points of its job that have a model."""
    return with_model(sweep, JOB, sweep.jobs[JOB].settings["points"])


NONE = pd.DataFrame(columns=["test_set", "structure", "quantity", "atom", "spread", "error"])


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Return spread and error of a committee.

    The spread is the standard deviation over the points, the error that of their mean; for
    forces both are roots of sums over components.

    Args:
        paths: The parity data of at least two points.

    Returns:
        A row an atom (force, eV/Å) and a row a structure (energy, eV/atom).
    """
    first = components(pd.read_parquet(intact(path)) for path in paths)
    first["error"], first["spread"] = first["difference"] ** 2, first["variance"]
    first = first.dropna(subset="reference")
    rows = first.groupby(["test_set", "structure", "quantity"], sort=False).cumcount()
    first["atom"] = np.where(first["quantity"] == "force", rows // 3, 0)
    keys = ["test_set", "structure", "quantity", "atom"]
    return first.groupby(keys, sort=False)[["spread", "error"]].sum().pow(0.5).reset_index()


def rank_correlation(part: pd.DataFrame) -> tuple[float, float, float]:
    """Return Spearman's rho of spread and error, with its 95 % interval over structures."""
    ranks = part[["spread", "error"]].rank()
    by_structure = [group.to_numpy() for _, group in ranks.groupby(part["structure"])]
    rng, rhos = np.random.default_rng(0), []
    for _ in range(RESAMPLED):
        chosen = rng.integers(len(by_structure), size=len(by_structure))
        sample = np.concatenate([by_structure[i] for i in chosen])
        rhos.append(np.corrcoef(sample.T)[0, 1])
    low, high = np.nanpercentile(rhos, [2.5, 97.5])
    return float(np.corrcoef(ranks.to_numpy().T)[0, 1]), float(low), float(high)


def measure(data: pd.DataFrame) -> Measured:
    """Return the correlation of spread and error, and how many times too small the spread is.

    The validation set, on which points were chosen, counts only where there is no other.

    Args:
        data: What `read` returns.

    Returns:
        rho, rho_low, rho_high and error_to_spread of each test set and quantity.
    """
    out: Measured = {}
    tests = data[data["test_set"] != VALID]
    data = data if tests.empty else tests
    for (test_set, quantity), part in data.groupby(["test_set", "quantity"], sort=False):
        rho, low, high = rank_correlation(part)
        ratio = np.sqrt(part["error"].pow(2).mean() / max(part["spread"].pow(2).mean(), 1e-30))
        numbers = {"rho": rho, "rho_low": low, "rho_high": high, "error_to_spread": float(ratio)}
        out.setdefault(str(test_set), {})[str(quantity)] = numbers
    return out


def verdict(measured: Measured, n: int) -> list[str]:
    """Say what the spread is worth.

    Args:
        measured: What `measure` returns.
        n: The number of points.
    """
    if not measured:
        return [f"There is no committee: {n} of the LoRA trainings did not fail, it takes two."]
    forces = {name: numbers["force"] for name, numbers in measured.items() if "force" in numbers}
    if not forces:
        return ["The test sets have no forces to measure the committee's spread on."]
    correlations = ", ".join(
        f"{name} {x['rho']:.2f} ({x['rho_low']:.2f} to {x['rho_high']:.2f})"
        for name, x in forces.items()
    )
    lines = [
        f"Committee of the {n} LoRA points: the rank correlation of force spread and force error "
        f"is {correlations}."
    ]
    weak = [name for name, x in forces.items() if not x["rho_low"] > ENOUGH]
    if weak:
        lines.append(
            "Its spread is no uncertainty: the 95 % interval of the correlation is not above "
            f"{ENOUGH:g} on {', '.join(weak)}."
        )
    else:
        factors = ", ".join(f"{name} {x['error_to_spread']:.1f}" for name, x in forces.items())
        lines.append(
            f"Its spread says where forces are worse: the correlation is above {ENOUGH:g} on every "
            f"set. The error is larger than the spread by a factor of {factors}, so that it is no "
            "uncertainty by itself; calibrated it stands beside the bounds of the chosen model."
        )
    return lines


def draw(data: pd.DataFrame, measured: Measured) -> tuple[Figure, pd.DataFrame]:
    """Draw the force error of each atom against the spread, and the RMS error in bins of it."""
    measured = {name: numbers for name, numbers in measured.items() if "force" in numbers}
    figure, axes = panels(len(measured))
    if not measured:
        return figure, data
    forces = data[data["quantity"] == "force"]
    for (test_set, numbers), ax in zip(measured.items(), axes, strict=True):
        part = forces[forces["test_set"] == test_set].sort_values("spread")
        x, y = 1e3 * part["spread"].to_numpy(), 1e3 * part["error"].to_numpy()
        ax.plot(x, y, ".", markersize=1.5, color=COLOURS[0], alpha=0.3, rasterized=True)
        bins = np.array_split(np.arange(len(x)), min(10, len(x)))
        rms = [np.sqrt(np.mean(values[b] ** 2)) for values in (x, y) for b in bins]
        ax.plot(rms[: len(bins)], rms[len(bins) :], "o-", color=COLOURS[5], label="RMS in tenths")
        ends = [x.min(), x.max()]
        ax.plot(ends, ends, color="black", linewidth=0.8, label="error = spread")
        rho = numbers["force"]["rho"]
        ax.set(xscale="log", yscale="log", title=f"{shown(test_set, 20)}: rank corr. {rho:.2f}")
        ax.set_xlabel("spread of the committee (meV/Å)")
        plain(ax, both=True)
    axes[0].set_ylabel("force error of its mean (meV/Å)")
    legend(figure)
    return figure, data
