"""The LoRA points of a sweep as a committee: does their spread tell where they are wrong?

Called by the rule `committee` with what it names in `snakemake`.  Uses the parity data of the
points; nothing is evaluated again.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from lora.files.sealed import write_sealed
from lora.report.figures import COLOURS, save
from lora.selection.table import read_beside, receipts

ENOUGH = 0.5  # rank correlation that has to be exceeded, to be called an uncertainty
RESAMPLED = 200  # bootstrap samples of structures


def read(paths: list[str]) -> pd.DataFrame:
    """Spread and error: a row an atom (force, eV/Å) and a row a structure (energy, eV/atom).

    The spread is the standard deviation over the points, the error that of their mean; for
    forces both are roots of sums over components.
    """
    tables = [pd.read_parquet(read_beside(path)) for path in paths]
    first = tables[0][tables[0]["quantity"] != "stress"].copy()
    predicted = np.stack([t.loc[t["quantity"] != "stress", "predicted"] for t in tables])  # [K, n]
    first["error"] = (predicted.mean(axis=0) - first["reference"]) ** 2
    first["spread"] = predicted.var(axis=0, ddof=1)
    rows = first.groupby(["test_set", "structure", "quantity"], sort=False).cumcount()
    first["atom"] = np.where(first["quantity"] == "force", rows // 3, 0)
    keys = ["test_set", "structure", "quantity", "atom"]
    return first.groupby(keys, sort=False)[["spread", "error"]].sum().pow(0.5).reset_index()


def sound(paths: list[str], records: dict[str, dict]) -> list[str]:
    """The members whose training did not fail; all, where that leaves fewer than two."""
    kept = [path for path in paths if records[Path(path).stem]["ended_by"] != "failed"]
    return kept if len(kept) > 1 else paths


def rank_correlation(part: pd.DataFrame) -> tuple[float, float, float]:
    """Spearman's rho of spread and error, and its 95 % interval over resampled structures."""
    ranks = part[["spread", "error"]].rank()
    by_structure = [group.to_numpy() for _, group in ranks.groupby(part["structure"])]
    rng, rhos = np.random.default_rng(0), []
    for _ in range(RESAMPLED):
        chosen = rng.integers(len(by_structure), size=len(by_structure))
        sample = np.concatenate([by_structure[i] for i in chosen])
        rhos.append(np.corrcoef(sample.T)[0, 1])
    low, high = np.nanpercentile(rhos, [2.5, 97.5])
    return float(np.corrcoef(ranks.to_numpy().T)[0, 1]), float(low), float(high)


def measure(data: pd.DataFrame) -> dict:
    """Of each test set and quantity: the correlation, and how many times too small the spread is.

    The validation set, on which points were chosen, counts only where there is no other.
    """
    out: dict = {}
    tests = data[data["test_set"] != "valid"]
    data = data if tests.empty else tests
    for (test_set, quantity), part in data.groupby(["test_set", "quantity"], sort=False):
        rho, low, high = rank_correlation(part)
        ratio = np.sqrt(part["error"].pow(2).mean() / max(part["spread"].pow(2).mean(), 1e-30))
        numbers = {"rho": rho, "rho_low": low, "rho_high": high, "error_to_spread": float(ratio)}
        out.setdefault(test_set, {})[quantity] = numbers
    return out


def verdict(measured: dict, n: int) -> list[str]:
    """What the spread is worth, said plainly."""
    forces = {name: numbers["force"] for name, numbers in measured.items()}
    said = ", ".join(
        f"{name} {x['rho']:.2f} ({x['rho_low']:.2f} to {x['rho_high']:.2f})"
        for name, x in forces.items()
    )
    lines = [
        f"Committee of the {n} LoRA points: rank correlation of force spread and force error {said}"
    ]
    weak = [name for name, x in forces.items() if not x["rho_low"] > ENOUGH]
    if weak:
        lines.append(
            f"So its spread is no uncertainty: the correlation is not surely over {ENOUGH:g} on: "
            f"{', '.join(weak)}"
        )
    else:
        factors = ", ".join(f"{name} {x['error_to_spread']:.1f}" for name, x in forces.items())
        lines.append(
            f"So its spread can serve as an uncertainty of forces (over {ENOUGH:g} on every set); "
            f"the error is larger than the spread by a factor of: {factors}"
        )
    return lines


def draw(data: pd.DataFrame, measured: dict, path: str) -> None:
    """Force error of each atom against the spread, and the RMS error in bins of the spread."""
    figure, axes = plt.subplots(
        1, len(measured), figsize=(3.6 * len(measured), 3.6), squeeze=False, sharey=True
    )
    forces = data[data["quantity"] == "force"]
    for (test_set, numbers), ax in zip(measured.items(), axes[0], strict=True):
        part = forces[forces["test_set"] == test_set].sort_values("spread")
        x, y = 1e3 * part["spread"].to_numpy(), 1e3 * part["error"].to_numpy()
        ax.plot(x, y, ".", markersize=2, color=COLOURS[0], alpha=0.3, rasterized=True)
        bins = np.array_split(np.arange(len(x)), min(10, len(x)))
        rms = [np.sqrt(np.mean(values[b] ** 2)) for values in (x, y) for b in bins]
        ax.plot(rms[: len(bins)], rms[len(bins) :], "o-", color=COLOURS[5], label="RMS in tenths")
        ends = [x.min(), x.max()]
        ax.plot(ends, ends, color="black", linewidth=0.8, label="error = spread")
        rho = numbers["force"]["rho"]
        ax.set(xscale="log", yscale="log", title=f"{test_set}: rank correlation {rho:.2f}")
        ax.set_xlabel("spread of the committee (meV/Å)")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(ticker.LogFormatter(labelOnlyBase=False))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes[0][0].set_ylabel("force error of its mean (meV/Å)")
    axes[0][-1].legend()
    save(figure, data, path)


def main(snakemake: object) -> None:
    paths = sound(snakemake.params.parity, receipts(snakemake.input.trainings))
    data = read(paths)
    measured = measure(data)
    result = {"members": len(paths), "sets": measured, "said": verdict(measured, len(paths))}
    write_sealed(snakemake.output.measured, result)
    draw(data, measured, snakemake.output.figure)
