"""Fill the tables and figures of README.md beside this from the finished cells in results/.

    python docs/fair_table/fill.py

What is not measured stays out, and the page says which cells are missing.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import figures
import numpy as np
import pandas as pd
from cells import (
    BASES,
    E0S,
    EPOCHS,
    FOUNDATION,
    HERE,
    MOLECULES,
    RATES,
    SIZES,
    TABLE,
    TITLES,
    cells,
)
from scipy.stats import t as student

from lora.catalogue.columns import ENERGY, FORCE
from lora.catalogue.endings import Ending
from lora.files.sealed import write_text
from lora.plan.reference import filled
from lora.report.comparison import CHANCE, Spread, compare

Found = dict[tuple[str, str], Spread]  # by method and molecule
KEYS = ["base", "molecule", "n", "e0s"]  # of a cell
MARKS = {"better": " ↓", "worse": " ↑"}  # beyond the noise of the seeds
IMPROVED = 0.01  # a gain in the last tenth of the epochs that counts
NOTHING = "Nothing is measured yet.\n"


def read(results: Path) -> pd.DataFrame:
    """Return the rows of all finished cells."""
    found = [pd.read_csv(path, keep_default_na=True) for path in sorted(results.glob("*.csv"))]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=KEYS)


def slices(table: pd.DataFrame, stage: str = TABLE) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the title and the rows of each slice that has any, of one stage."""
    rows = table[table["stage"] == stage]
    for base, n, e0s in itertools.product(BASES, SIZES, E0S):
        part = rows[(rows["base"] == base) & (rows["n"] == n) & (rows["e0s"] == e0s)]
        for length in sorted(set(part["length"]), key=lambda x, n=n: (x != EPOCHS[n], x)):
            more = f", {length} epochs" if length != EPOCHS[n] else ""
            yield f"{base} base, {n} structures, E0s {e0s}{more}", part[part["length"] == length]


def usual(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the cells with the usual numbers of epochs."""
    return table[table["length"] == table["n"].map(EPOCHS)]


def spreads(part: pd.DataFrame, column: str) -> Found:
    """Return a number over the seeds, by method and molecule."""
    grouped = part.dropna(subset=[column, "seed"]).groupby(["method", "molecule"])[column]
    return {(str(m), str(x)): Spread.of(v.tolist()) for (m, x), v in grouped}


def known(part: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the methods and the molecules of a slice, in their order."""
    methods = [x for x in TITLES if x in set(part["method"])]
    return methods, [x for x in MOLECULES if x in set(part["molecule"])]


def against_full(part: pd.DataFrame, column: str, digits: int) -> str:
    """Return a table of a number, a row a method, a column a molecule, and all against full.

    The arrows are those of Welch's t-test against full fine-tuning on the same molecule, at the
    level of one comparison in twenty for all methods of a molecule together (Sidak).
    """
    found, (methods, molecules) = spreads(part, column), known(part)
    lines = [f"| | {' | '.join(molecules)} | over full |", f"|---|{'---|' * (len(molecules) + 1)}"]
    for method in methods:
        row = []
        for molecule in molecules:
            one, full = (found.get((x, molecule)) for x in (method, "full"))
            seen = compare(one, full, len(methods) - 1) if one and full and one != full else ""
            row.append(one.text(digits) + MARKS.get(seen, "") if one else "-")
        lines.append(f"| {TITLES[method]} | {' | '.join(row)} | {over_full(found, method)} |")
    return "\n".join(lines) + "\n"


def over_full(found: Found, method: str) -> str:
    """Return a method's number over that of full fine-tuning, as a mean over the molecules.

    The mean is geometric; with three molecules or more its 95 % interval is that of Student's t.
    """
    both = [x for name, x in found if name == method and ("full", x) in found]
    logs = np.log([found[method, x].mean / found["full", x].mean for x in both])
    if not len(logs) or method == "full":
        return ""
    if len(logs) < 3:
        return f"{np.exp(logs.mean()):.2f}"
    half = student.ppf(1 - CHANCE / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, high = np.exp(logs.mean() - half), np.exp(logs.mean() + half)
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"


def everywhere(table: pd.DataFrame, make: Callable[[pd.DataFrame], str], stage: str = TABLE) -> str:
    """Return a table for each slice, below its title."""
    parts = [f"\n{title}:\n\n{make(part)}" for title, part in slices(table, stage)]
    return "".join(parts).lstrip("\n") or NOTHING


def e0s(table: pd.DataFrame) -> str:
    """Return what the E0s do to full fine-tuning and to LoRA, and to the error at the start."""
    head = "| base | molecule | E0s | energy error before | full | LoRA | LoRA against full |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for _, part in slices(usual(table[table["n"] == SIZES[0]])):
        forces = spreads(part, f"test_{FORCE}")
        start = part[part["method"] == FOUNDATION].set_index("molecule")[f"test_{ENERGY}"]
        for molecule in known(part)[1]:
            full, lora = (forces.get((x, molecule)) for x in ("full", "lora"))
            if not (full and lora):
                continue
            said = compare(lora, full) or "one seed"
            first = part.iloc[0]
            row = [first["base"], molecule, first["e0s"], f"{start.get(molecule, np.nan):.0f}"]
            row += [full.text(1), lora.text(1), f"{lora.mean / full.mean - 1:+.1%}, {said}"]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else NOTHING


def rates(part: pd.DataFrame) -> str:
    """Return the learning rate of each method that was found, of how many that were tried."""
    methods, molecules = known(part)
    lines = [f"| | {' | '.join(molecules)} |", f"|---|{'---|' * len(molecules)}"]
    best = part.sort_values(f"valid_{FORCE}").drop_duplicates(["method", "molecule"])
    lr = best.set_index(["method", "molecule"])["lr"].to_dict()
    for method in methods:
        tried = part[part["method"] == method].groupby("molecule")["lr"].nunique()
        row = [f"{lr[method, x]:g} of {tried[x]}" if x in tried else "-" for x in molecules]
        lines.append(f"| {TITLES[method]} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def training(part: pd.DataFrame) -> str:
    """Return what the trainings of each method took, and whether they had come to their end."""
    heads = ["", "trained numbers", "s an epoch", "best epoch", "last epoch the best", "late gain"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for method in known(part)[0]:
        one = part[(part["method"] == method) & part["epochs"].gt(0)]
        last = (one["best_epoch"] == one["epochs"]) & (one["ended_by"] == Ending.MAX_NUM_EPOCHS)
        late = one["late_gain"] > IMPROVED
        numbers = sorted({*one["trainable_parameters"].astype(int)})
        trained = " to ".join(f"{x:,}" for x in dict.fromkeys([numbers[0], numbers[-1]]))
        row = [TITLES[method], trained, f"{(one['seconds'] / one['epochs']).mean():.2f}"]
        row += [f"{(one['best_epoch'] / one['epochs']).mean():.0%}"]
        row += [f"{last.sum()} of {len(one)}", f"{late.sum()} of {len(one)}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def checks(part: pd.DataFrame) -> str:
    """Return how many points of each method were over the limit of a check."""
    lines = ["| | points | over a limit | of |", "|---|---|---|---|"]
    for method in known(part)[0]:
        one = part[part["method"] == method]
        failed = one["failed"].fillna("").astype(str)
        names = pd.Series(" ".join(failed).split(), dtype=str).value_counts()
        said = ", ".join(f"{name} {n}" for name, n in names.items())
        lines.append(f"| {TITLES[method]} | {len(one)} | {(failed != '').sum()} | {said} |")
    return "\n".join(lines) + "\n"


def said(table: pd.DataFrame) -> str:
    """Return on how many molecules each method's forces differ from full fine-tuning's."""
    heads, columns = [], []
    for title, part in slices(table):
        found, (methods, molecules) = spreads(part, f"test_{FORCE}"), known(part)
        heads.append(title)
        columns.append({x: _verdicts(found, x, molecules, len(methods) - 1) for x in methods})
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for method in [x for x in TITLES if x != "full" and any(x in one for one in columns)]:
        row = [one.get(method, "") for one in columns]
        lines.append(f"| {TITLES[method]} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n" if heads else NOTHING


def _verdicts(found: Found, method: str, molecules: list[str], comparisons: int) -> str:
    both = [x for x in molecules if {(method, x), ("full", x)} <= {*found}]
    seen = [compare(found[method, x], found["full", x], comparisons) for x in both]
    counts = {"lower": "better", "level": "equal", "higher": "worse"}
    return ", ".join(f"{seen.count(x)} {word}" for word, x in counts.items() if x in seen)


def missing(table: pd.DataFrame) -> str:
    """Return which cells of the whole table are not finished."""
    done = {tuple(x) for x in table[KEYS].drop_duplicates().to_numpy()}
    every = cells(BASES, SIZES, E0S, MOLECULES)
    lines = []
    for base, n, kind in itertools.product(BASES, SIZES, E0S):
        same = [x for x in every if (x.base, x.n, x.e0s) == (base, n, kind)]
        left = [x.molecule for x in same if (x.base, x.molecule, x.n, x.e0s) not in done]
        if left:
            what = "all" if len(left) == len(same) else ", ".join(left)
            lines.append(f"- {base} base, {n} structures, E0s {kind}: {what}")
    spent = table["seconds"].sum() / 3600 if len(table) else 0
    head = (
        f"{len(done)} of {len(every)} cells are finished, after {spent:.1f} core hours of training."
    )
    return f"{head}{' Missing:' if lines else ''}\n\n" + ("\n".join(lines) + "\n" if lines else "")


def blocks(table: pd.DataFrame, pictures: dict[str, str]) -> dict[str, str]:
    """Return what stands between the markers of README.md, by their names."""
    if not len(table):
        made = dict.fromkeys(MAKERS, NOTHING)
    else:
        made = {name: make(table) for name, make in MAKERS.items()}
    shown = {x: f"![{about}]({x}.svg)\n\n" for x, about in pictures.items()}
    return {name: shown.get(name, "") + text for name, text in made.items()} | {
        "missing": missing(usual(table) if len(table) else table)
    }


def _numbers(column: str, digits: int) -> Callable[[pd.DataFrame], str]:
    return lambda table: everywhere(table, lambda part: against_full(part, column, digits))


MAKERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "said": said,
    "e0s": e0s,
    "rates": lambda table: everywhere(table, rates, RATES),
    "forces": _numbers(f"test_{FORCE}", 1),
    "energies": _numbers(f"test_{ENERGY}", 2),
    "forgetting": _numbers("forgetting", 1),
    "training": lambda table: everywhere(table, training),
    "checks": lambda table: everywhere(table, checks),
}


def main(argv: list[str] | None = None) -> None:
    """Fill the page; its figures lie beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results", help="finished cells")
    parser.add_argument("--page", type=Path, default=HERE / "README.md", help="what is filled")
    given = parser.parse_args(argv)
    table = read(given.results)
    page: Path = given.page
    pictures = figures.draw(usual(table), page.parent) if len(table) else {}
    write_text(page, filled(page.read_text(), blocks(table, pictures)))
    print(f"{page}: {len(table)} points")


if __name__ == "__main__":
    main()
