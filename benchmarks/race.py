"""Replay races on the curves of full grids: what they would have saved, and what they would miss.

    python benchmarks/race.py collect RESULTS benchmarks/curves/NAME.csv
    python benchmarks/race.py replay benchmarks/curves/*.csv
    python benchmarks/race.py collect RESULTS benchmarks/curves/cut/NAME.csv --polished
    python benchmarks/race.py cut benchmarks/curves/NAME.csv benchmarks/curves/cut/NAME.csv

`collect` takes the curves of all LoRA points from the results of a sweep: the force RMSE on the
validation set of the best epoch so far.  `replay` races them by the rules of the library, with many
settings, from every ordered sample of the seeds with replacement.  It prints, of each setting: the
epochs of the race as a share of the grid's; in how many samples the chosen group's error, the mean
over all seeds, is at most 1 % above that of the choice of the whole grid; and the worst of them.
Settings come by the second number, in the worst of the grids, and then by the first.  `cut` does
the same for races that train the highest rank alone, with the curves of what was cut from it.
"""

import argparse
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lora.files.history import read_history
from lora.plan.config_race import Polish, Rules
from lora.plan.sweep import Sweep
from lora.selection.race import Curves, best_so_far, compare, score

ERROR = "valid_rmse_f_mev_per_a"
REGRET = 0.01
RUNGS = [(0.07,), (0.13,), (0.2,), (0.33,), (0.07, 0.33), (0.13, 0.33), (0.13, 0.5), (0.2, 0.5)]
RUNGS += [(0.1, 0.4), (0.15, 0.4), (0.2, 0.4), (0.2, 0.33), (0.07, 0.2, 0.5), (0.13, 0.33, 0.67)]
FOUND = ("epochs", "within 1 %", "worst")
KEEP, FINALISTS, MARGIN = (0.25, 0.34, 0.5, 0.67), (2, 3), (0.0, 0.5, 1.0, 2.0)

Grid = dict[str, Curves]
Seeds = tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """One replayed race.

    chosen: the group
    epochs: that were trained, of all points
    """

    chosen: str
    epochs: int


def collect(results: Path, out: Path, polished: bool) -> None:
    """Write the curves of a sweep's LoRA points, or of what was cut and polished, a row a point.

    Rows of what was polished at several rates stand together: they are added to the file.
    """
    sweep, rows = Sweep.load(results / "plan.json"), []
    for point in sweep.trained_points.values():
        if (point.polished if polished else point.is_lora) and sweep.began(point.name):
            assert point.settings is not None
            history = read_history(sweep.layout.training(point.name) / "metrics.jsonl")
            errors = best_so_far(history, ERROR)
            own = {"group": point.group, "seed": point.settings.seed}
            if polished:
                own |= {"source": sweep.points[point.cut_from].group, "lr": point.settings.lr}
            rows.append(own | {x: f"{error:.3f}" for x, error in enumerate(errors)})
    more = polished and out.is_file()
    pd.DataFrame(rows).to_csv(out, index=False, mode="a" if more else "w", header=not more)
    print(f"{out}: {len(rows)} points, {max(map(len, rows)) - len(own) - 1} epochs")


def read(path: Path) -> Grid:
    """Return the curves of a file."""
    grid: Grid = {}
    for row in pd.read_csv(path).to_numpy():
        curve = [float(x) for x in row[2:] if not np.isnan(x)]
        grid.setdefault(str(row[0]), {})[int(row[1])] = curve
    return grid


def longest(grid: Grid) -> int:
    """Return the epochs of the longest training."""
    return max(len(curve) for curves in grid.values() for curve in curves.values()) - 1


def race(grid: Grid, seeds: tuple[int, ...], rules: Rules) -> Outcome:
    """Race a grid.  Seeds come in by their order; one that was drawn twice counts twice."""
    end, left, spent = longest(grid), list(grid), dict.fromkeys(grid, 0)
    for i, epoch in enumerate(rules.epochs(end)):
        curves = {group: {0: grid[group][seeds[0]]} for group in left}
        rung = compare(
            curves, epoch, rules.room(len(left), i), rules.margin, rules.most(len(left), i)
        )
        for group in left:
            spent[group] = min(epoch, len(grid[group][seeds[0]]) - 1)
        left = list(rung.kept)
    for group in left:
        spent[group] = sum(len(grid[group][s]) - 1 for s in seeds)
    chosen = min(left, key=lambda g: final(grid[g], seeds, end))
    return Outcome(chosen, sum(spent.values()))


def cut_race(grid: Grid, cuts: pd.DataFrame, top: str, rules: Rules, seeds: Seeds) -> Outcome:
    """Race the highest rank alone, with what is cut from the finalists; of one rate of polishing.

    Args:
        grid: All curves of the grid.
        cuts: A row a polished point.
        top: What the names of the groups of the highest rank have in them.
        rules: The rules of the race.
        seeds: The sample.
    """
    assert rules.polish is not None
    ranks = 1 + int(cuts.groupby("source")["group"].nunique().max())
    whole = longest(grid)
    left, spent = [x for x in grid if top in x], 0
    before = 0
    for i, epoch in enumerate(rules.epochs(whole)):
        curves = {group: {0: grid[group][seeds[0]]} for group in left}
        spent, before = spent + len(left) * (epoch - before), epoch
        room = rules.room(len(left), i, ranks)
        left = list(compare(curves, epoch, room, rules.margin).kept)
    spent += len(left) * (len(seeds) * whole - before)
    polish = max(1, round(rules.polish.share * whole))
    spent += len(left) * (ranks - 1) * len(seeds) * polish
    ends = {x: final(grid[x], seeds, whole) for x in left}
    for group, curves in cut_curves(cuts, left).items():
        ends[group] = final(curves, seeds, polish)
    return Outcome(min(ends, key=ends.__getitem__), spent)


def cut_curves(cuts: pd.DataFrame, sources: Iterable[str]) -> Grid:
    """Return the curves of what was cut from some groups."""
    missing = set(sources) - set(cuts["source"])
    assert not missing, f"no curves of what is cut from {missing}"
    found: Grid = {}
    for row in cuts[cuts["source"].isin(list(sources))].to_dict("records"):
        curve = [float(x) for key, x in row.items() if str(key).isdigit()]
        found.setdefault(str(row["group"]), {})[int(row["seed"])] = curve
    return found


def cut_table(path: Path, polished: Path, top: str) -> pd.DataFrame:
    """Return a row for each rate and length of polishing, with the default rungs."""
    grid, every = read(path), pd.read_csv(polished)
    end = longest(grid)
    best = {g: final(x, x, end) for g, x in grid.items()}
    whole = Rules((), 1.0, len(grid), 0.0)
    rows = []
    for (lr, cuts), rungs in itertools.product(every.groupby("lr"), [(0.2,), (0.2, 0.4)]):
        for epochs in range(1, sum(x.isdigit() for x in cuts)):
            rules = Rules(rungs, 0.5, 2, 0.0, None, Polish(epochs / end, 1.0))
            truth = best | {
                x: final(c, c, epochs) for x, c in cut_curves(cuts, set(cuts["source"])).items()
            }
            regrets, shares = [], []
            for seeds in samples(grid):
                chosen, right = cut_race(grid, cuts, top, rules, seeds), race(grid, seeds, whole)
                regrets.append(np.expm1(truth[chosen.chosen] - truth[right.chosen]))
                shares.append(chosen.epochs / right.epochs)
            row = {"lr": lr, "rungs": " ".join(map(str, rungs)), "polished for": epochs}
            found = np.mean(shares), np.mean(np.array(regrets) <= REGRET), max(regrets)
            rows.append(row | dict(zip(FOUND, found, strict=True)))
    return pd.DataFrame(rows)


def final(curves: Curves, seeds: Iterable[int], end: int) -> float:
    """Return the score of a group at the end, over some seeds."""
    return score({i: curves[s] for i, s in enumerate(seeds)}, end)


def samples(grid: Grid) -> list[tuple[int, ...]]:
    """Return every ordered sample of the seeds, with replacement, as long as there are seeds."""
    seeds = sorted(set.intersection(*(set(x) for x in grid.values())))
    return list(itertools.product(seeds, repeat=len(seeds)))


def replay(grid: Grid, rules: Rules) -> tuple[float, float, float]:
    """Return the share of epochs, the share of samples within `REGRET`, and the largest regret."""
    end = longest(grid)
    truth = {g: final(x, x, end) for g, x in grid.items()}
    every = Rules((), 1.0, len(grid), 0.0)
    shares, regrets = [], []
    for seeds in samples(grid):
        whole, short = race(grid, seeds, every), race(grid, seeds, rules)
        shares.append(short.epochs / whole.epochs)
        regrets.append(np.expm1(truth[short.chosen] - truth[whole.chosen]))
    return float(np.mean(shares)), float(np.mean(np.array(regrets) <= REGRET)), max(regrets)


def table(files: list[Path]) -> pd.DataFrame:
    """Return a row for each setting, with the worst of the grids."""
    grids, rows = [read(path) for path in files], []
    for rungs, keep, finalists, margin in itertools.product(RUNGS, KEEP, FINALISTS, MARGIN):
        found = [replay(grid, Rules(rungs, keep, finalists, margin)) for grid in grids]
        row = {"rungs": " ".join(map(str, rungs)), "keep": keep}
        row |= {"finalists": finalists, "margin": margin}
        for path, numbers in zip(files, found, strict=True):
            row |= {f"{path.stem}: {x}": n for x, n in zip(FOUND, numbers, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Collect or replay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("collect")
    one.add_argument("results", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--polished", action="store_true", help="what was cut, added to the file")
    third = commands.add_parser("cut")
    third.add_argument("file", type=Path)
    third.add_argument("polished", type=Path)
    third.add_argument("--top", default="_r16_", help="in the names of groups of the highest rank")
    other = commands.add_parser("replay")
    other.add_argument("files", type=Path, nargs="+")
    other.add_argument("--rows", type=int, default=20, help="settings to print, the best first")
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.results, given.out, given.polished)
    elif given.command == "cut":
        found = cut_table(given.file, given.polished, given.top)
        print(found.round(3).to_string(index=False))
    else:
        found = table(given.files)
        most = found[[x for x in found if x.endswith(FOUND[0])]].max(axis=1)
        least = found[[x for x in found if x.endswith(FOUND[1])]].min(axis=1)
        order = found.assign(_least=-least, _most=most).sort_values(["_least", "_most"])
        best = order.drop(columns=["_least", "_most"]).head(given.rows)
        print(best.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
