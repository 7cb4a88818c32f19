"""Say who raced, who was stopped after which epoch and why, and how sure the choice is."""

import math
from pathlib import Path

import pandas as pd

from lora.catalogue.columns import BY_KEY, VALID
from lora.catalogue.endings import Ending
from lora.files.sealed import write_text
from lora.plan.points import said_cut
from lora.plan.sweep import Sweep
from lora.report.comparison import Errors
from lora.report.page import page, paragraph, rows_of
from lora.selection.choose import read_choice
from lora.selection.raced import DRAWS, Raced, read_races, sure
from lora.selection.results import read_results

NOTE = (
    "Errors on the validation set, of the best epoch so far: at each rung where a setting was "
    "compared, and at the end. Only what was trained to the end with all seeds is called better "
    "than another."
)


def write(sweep: Sweep) -> list[Path]:
    """Write race.html, with its numbers as csv beside it.

    Args:
        sweep: The sweep, with the choice.

    Returns:
        The files.
    """
    results = read_results(sweep, "choose")
    metric = read_choice(sweep).metric
    errors = Errors.of_sweep(sweep, results, metric)
    races, parts = read_races(sweep), []
    tables = [table(race, errors) for race in races]
    for race, found in zip(races, tables, strict=True):
        parts += [paragraph(line) for line in sentences(race, errors)]
        best = best_of(race, errors)
        parts.append(rows_of(found.astype(object).where(found.notna(), ""), chosen=best))
    path = sweep.layout.report("race.html")
    write_text(path, page("The race", *parts, paragraph(NOTE, note=True)))
    numbers = path.with_suffix(".csv")
    pd.concat(tables).to_csv(numbers)
    return [path, numbers]


def best_of(race: Raced, errors: Errors) -> str:
    """Return the group at the end with the lowest error; "" where all of them failed."""
    ended = {*race.finalists, *race.cuts}
    return next((group for group in errors.groups if group in ended), "")


def sentences(race: Raced, errors: Errors) -> list[str]:
    """Return what was stopped, what that saved, and how sure the choice is.

    Args:
        race: The race of one method.
        errors: The errors of every group.
    """
    heat, points = race.heat, errors.table.drop_duplicates("point")
    ours = points[points["group"].isin([*heat.groups, *heat.sources])]
    spent = int(ours["epochs"].sum())
    counts = [(sum(race.last(x) is rung for x in race.stopped), rung.epoch) for rung in race.rungs]
    when = " and ".join(f"{n} after epoch {epoch}" for n, epoch in counts if n)
    lines = [
        f"Race of {len(heat.groups)} {heat.name} settings: {len(race.stopped)} were stopped"
        f"{f' ({when} of {heat.longest})' if when else ''}; {len(race.finalists)} were trained to "
        f"the end with all seeds{_cut(race)}. It took {spent:,} epochs, {spent / heat.whole:.0%} "
        f"of the {heat.whole:,} of the grid at full length."
    ]
    if not (best := best_of(race, errors)):
        return lines
    rows = errors.table[errors.table["test_set"] == VALID].dropna(subset=[errors.metric])
    ended = [*race.finalists, *race.cuts]
    finals = {x: rows.loc[rows["group"] == x, errors.metric].to_list() for x in ended}
    if max(len(errors) for errors in finals.values()) < 2:
        return [*lines, "With one seed, how sure the choice of the race is cannot be told."]
    chance = sure(race, finals, best)
    lines.append(
        f"In {chance.same:.0%} of {DRAWS:,} draws of seeds and rungs {best} is the best of them "
        f"again, in {chance.missed:.0%} one that was stopped, as far as its error at the rung "
        "tells of its end."
    )
    return lines


def _cut(race: Raced) -> str:
    """Return what became of the finalists, where they were cut."""
    if not race.cuts:
        return ""
    made = said_cut("them", race.heat.polish)
    return (
        f", and {len(race.cuts)} of lower ranks {made}; these are no trainings of their ranks from "
        "the start"
    )


def table(race: Raced, errors: Errors) -> pd.DataFrame:
    """Return a row a group: its error at each rung and at the end, and why it was stopped.

    Args:
        race: The race of one method.
        errors: The errors of every group.
    """
    column = BY_KEY.get(race.error.removeprefix("valid_"))
    unit = column.heading if column else "loss"
    rows = {}
    for group in _in_order(race, errors):
        row = {
            f"{unit}, rung {number} (epoch {rung.epoch})": f"{math.exp(rung.scores[group]):.4g}"
            if group in rung.scores and math.isfinite(rung.scores[group])
            else ""
            for number, rung in enumerate(race.rungs, start=1)
        }
        ended = errors.text(group, VALID, errors.metric, 1) if group in errors.groups else ""
        rows[group] = row | {"at the end": ended, Ending.STOPPED: race.stopped.get(group, "")}
        if race.cuts:
            cut = group in race.cuts
            rows[group]["cut"] = said_cut(race.cuts[group], race.heat.polish) if cut else ""
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(None)


def _in_order(race: Raced, errors: Errors) -> list[str]:
    """Return the groups: finalists by their errors, then who was stopped, the last first."""
    last = [*race.finalists, *race.cuts]
    ended = [group for group in errors.groups if group in last]
    ended += [group for group in last if group not in ended]
    stopped = sorted(
        race.stopped, key=lambda x: (-race.rungs.index(race.last(x)), race.last(x).scores[x])
    )
    return ended + stopped
