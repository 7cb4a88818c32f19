"""The tables of the study, from its results: python docs/study/tables.py."""

import pandas as pd

from lora.plan.sweep import Sweep
from lora.selection.table import read_table

SWEEP = Sweep.load("study/plan.json")
SETS = ["test", "600K", "path"]
FORCE, ENERGY = "rmse_f_mev_per_a", "rmse_e_mev_per_atom"


def spread(values: pd.Series, digits: int = 1) -> str:
    """Return mean and standard deviation over the seeds."""
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def read() -> pd.DataFrame:
    """Return a row a point, with the errors on every set and what it forgot."""
    table = read_table(SWEEP)
    wide = table.pivot(index="point", columns="test_set", values=[FORCE, ENERGY])
    wide.columns = wide.columns.to_flat_index()  # (metric, set)
    facts = table.drop_duplicates("point").set_index("point")
    facts = facts[["family", "method", "rank", "alpha", "train_fraction", "n_train"]]
    checks = pd.read_csv(SWEEP.layout.report("checks.csv"))
    for name, column in (("forgetting", "compared"), ("dimers", "value")):
        facts[name] = checks[checks["check"] == name].set_index("point")[column]
    return facts.join(wide)


def errors(points: pd.DataFrame, metric: str, digits: int) -> None:
    """Print a table of errors on the largest training set, a row a family."""
    whole = points[points["train_fraction"].isna() | (points["train_fraction"] == 1)]
    print(f"| | {' | '.join(SETS)} | forgetting | dimer faults |\n|---|{'---|' * (len(SETS) + 2)}")
    for family, part in whole.groupby("family", sort=False):
        cells = [spread(part[(metric, s)], digits) for s in SETS]
        cells += [spread(part["forgetting"]), spread(part["dimers"])]
        print(f"| {family} | {' | '.join(cells).replace(' ± nan', '').replace('nan', '')} |")
    print()


def failures() -> None:
    """Print how many points fail each check, of how many."""
    checks = pd.read_csv(SWEEP.layout.report("checks.csv")).dropna(subset=["passed"])
    print("| check | points | over the limit | largest value |\n|---|---|---|---|")
    for name, part in checks.groupby("check", sort=False):
        over = part.loc[~part["passed"].astype(bool), "point"]
        named = f": {', '.join(over)}" if len(over) else ""
        unit = part["unit"].iloc[0]
        print(f"| {name} | {len(part)} | {len(over)}{named} | {part['value'].max():.2g} {unit} |")
    print()


def sizes(points: pd.DataFrame, column: object) -> None:
    """Print one number against the size of the training set, a row a family."""
    counts = sorted(points["n_train"].dropna().unique())
    print(f"| | {' | '.join(f'{n:g}' for n in counts)} |\n|---|{'---|' * len(counts)}")
    for family, part in points.dropna(subset=["n_train"]).groupby("family", sort=False):
        cells = [spread(part[part["n_train"] == n][column]) for n in counts]
        print(f"| {family} | {' | '.join(cells)} |")
    print()


points = read()
print("Force RMSE (meV/Å), all training structures\n")
errors(points, FORCE, 1)
print("Energy RMSE (meV/atom), all training structures\n")
errors(points, ENERGY, 2)
print("Force RMSE on `test` (meV/Å) against training structures\n")
sizes(points, (FORCE, "test"))
print("Force RMSE on `path` (meV/Å) against training structures\n")
sizes(points, (FORCE, "path"))
print("Energy RMSE on `test` (meV/atom) against training structures\n")
sizes(points, (ENERGY, "test"))
print("Forgetting (force RMSE over the foundation model's) against training structures\n")
sizes(points, "forgetting")
print("Checks\n")
failures()
