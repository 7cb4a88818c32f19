"""Write where errors are: by element, config_type, force size, direction, frame.

errors.html shows the choice beside the best point of each other method and the foundation model;
errors_{table}.csv have all points.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.data.breakdown import (
    DIRECTED,
    ENERGY_MAE,
    FORCE_MAE,
    TURNED,
    WORST,
    Breakdown,
    atoms_of,
    energies_of,
)
from lora.files.sealed import write_text
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep
from lora.report import error_figures as draw
from lora.report.comparison import Errors
from lora.report.first_figures import Drawn
from lora.report.looks import beside
from lora.report.page import heading, page, paragraph, rows_of
from lora.report.style import embedded, save
from lora.selection.choose import Choice, read_choice
from lora.selection.results import intact, read_results
from lora.selection.table import BASELINES, LORA, sound

JOB = "report/errors_page"


@dataclass(frozen=True)
class Part:
    """One table of the page: a row a set and key, the models beside each other.

    Attributes:
        name: The attribute of `Breakdown`, and the end of the name of the csv.
        title: Its heading.
        note: What the numbers are.
        keys: The columns that name a row, beside the set: {column: heading}.
        counts: Those that all models share: {column: heading}.
        numbers: Those that each model has of its own: {column: (heading, format)}.
    """

    name: str
    title: str
    note: str
    keys: dict[str, str]
    counts: dict[str, str]
    numbers: dict[str, tuple[str, str]]


def _number(key: str, digits: int) -> tuple[str, str]:
    return BY_KEY[key].heading.replace(" (", "\n("), f",.{digits}f"


FORCES = {FORCE: _number(FORCE, 1), FORCE_MAE: _number(FORCE_MAE, 1)}
ENERGIES = {ENERGY: _number(ENERGY, 2), ENERGY_MAE: _number(ENERGY_MAE, 2)}
PARTS = (
    Part(
        "elements",
        "By element",
        "RMSE and MAE of the force components of the atoms of an element.",
        {"element": "element"},
        {"atoms": "atoms"},
        FORCES,
    ),
    Part(
        "types",
        "Energies by config_type",
        "RMSE and MAE of the energies of the frames of a config_type.",
        {"config_type": "config_type"},
        {"energy_frames": "frames"},
        ENERGIES,
    ),
    Part(
        "types",
        "Forces by config_type",
        "RMSE and MAE of the force components of the frames of a config_type.",
        {"config_type": "config_type"},
        {"force_frames": "frames"},
        FORCES,
    ),
    Part(
        "sizes",
        "Against force size",
        "RMSE and MAE of the components of the forces whose reference has a length from the lower "
        "to below the upper end of a bin.",
        {"low": "force from\n(eV/Å)", "high": "to below\n(eV/Å)"},
        {"atoms": "atoms"},
        FORCES,
    ),
    Part(
        "directions",
        "Directions of forces",
        "Cosine of the angle between predicted and reference force, of atoms whose reference "
        f"force is at least {DIRECTED:g} eV/Å; the others are left out.",
        {},
        {"atoms": "atoms", "left_out": "atoms\nleft out"},
        {
            "mean_cosine": ("mean cosine", ".4f"),
            "turned_percent": (f"cosine\nbelow {TURNED:g}\n(% of atoms)", ".1f"),
        },
    ),
    Part(
        "relative",
        "Relative energies within a composition",
        "Energies relative to the mean over the frames of the same composition in the set, "
        "predicted to predicted mean and reference to reference mean: constant offsets between "
        "compositions do not count. Compositions with a single frame are left out.",
        {},
        {"compositions": "compositions", "frames": "frames", "left_out": "frames\nleft out"},
        ENERGIES,
    ),
    Part(
        "quantiles",
        "Distributions",
        "The size that this share of the errors is not above: of energies (meV/atom) by frame, of "
        "forces (meV/Å) by atom, the length of the difference.",
        {"quantity": "quantity", "level": "share"},
        {},
        {"error": ("error\n(meV/atom,\nmeV/Å)", ",.4g")},
    ),
)
FRAMES = {
    "test_set": ("set", ""),
    "source_file": ("file", ""),
    "frame": ("frame", ""),
    "config_type": ("config_type", ""),
    "composition": ("composition", ""),
    "force_rmse": ("force RMSE\n(meV/Å)", ",.1f"),
    "energy_error": ("energy error\n(meV/atom)", "+,.2f"),
    "largest_error": ("largest force error\n(meV/Å)", ",.1f"),
    "atom": ("at atom", ""),
    "element": ("element", ""),
}
WORST_NOTE = (
    f"The {WORST} frames of all sets with the largest RMSE of their force components. Wrong labels "
    "are found here, too. The error of one force is the length of the difference; frames and atoms "
    "count from 0."
)


def write(sweep: Sweep) -> list[Path]:
    """Write the page, its figures, and every number of every point as csv.

    Args:
        sweep: The sweep, with its evaluations and the choice.

    Returns:
        The files.
    """
    layout, choice = sweep.layout, read_choice(sweep)
    errors = Errors.of_sweep(sweep, read_results(sweep, JOB), choice.metric)
    kinds = {x: sweep.points[x].kind for x in shown_points(errors, choice)}
    looks = beside(kinds.items(), choice.point)
    found, tails = {}, {}
    for point in dict.fromkeys(sound(errors.table)["point"]):
        table = pd.read_parquet(intact(layout.parity(point)))
        found[point] = Breakdown.of(table)
        if point in looks:
            tails[point] = draw.tails_of(atoms_of(table), energies_of(table))
    seen = {x: draw.Seen(found[x], tails[x], look) for x, look in looks.items()}
    sets = [s for s in errors.sets if s != VALID] or errors.sets
    drawn = {
        "error_elements": draw.elements(seen, sets),
        "error_sizes": draw.sizes(seen, sets),
        "error_distribution": draw.distributions(seen, sets),
    }
    path = layout.report("errors.html")
    write_text(path, text_of({x: one.found for x, one in seen.items()}, choice.point, drawn))
    files = [path, *_numbers(found, path)]
    return files + [x for name, one in drawn.items() for x in save(*one, layout.figure(name))]


def shown_points(errors: Errors, choice: Choice) -> list[str]:
    """Return the points beside each other: the choice, the best of each method, the foundation.

    Of a method it is the setting with the lowest error on the validation set, and of its seeds the
    best.

    Args:
        errors: The errors of every group.
        choice: The decision.
    """
    points = [choice.point, *([choice.lora] if choice.lora else [])]
    valid = errors.table[errors.table["test_set"] == VALID].sort_values(errors.metric)
    known = {errors.kind_of(errors.group_of[x]) for x in points}
    for kind in (*LORA, *BASELINES, FOUNDATION.kind):
        for group in errors.of_kind(kind)[:1] if kind not in known else []:
            points.append(str(valid.loc[valid["group"] == group, "point"].iloc[0]))
    return list(dict.fromkeys(points))


def text_of(found: dict[str, Breakdown], point: str, drawn: dict[str, Drawn]) -> str:
    """Return the page.

    Args:
        found: {point: its errors}, the choice first.
        point: The chosen point.
        drawn: The figures, which are closed.
    """
    pictures = {
        "elements": ("error_elements", "Force errors by element", "RMSE on each test set."),
        "sizes": (
            "error_sizes",
            "Force errors against force size",
            "RMSE in bins of the reference force; above, the atoms in each bin.",
        ),
        "quantiles": (
            "error_distribution",
            "Distributions",
            "The share of errors that are larger than a value.",
        ),
    }
    parts: list[Markup] = [
        paragraph(
            f"{point}, the choice, beside {', '.join(x for x in found if x != point) or 'none'}. "
            "The csv files beside this page have all points.",
            note=True,
        )
    ]
    for part in PARTS:
        parts += [heading(part.title), paragraph(part.note, note=True)]
        if part.name in pictures:
            name, *words = pictures[part.name]
            parts.append(embedded(drawn[name][0], *words))
        parts.append(rows_of(table_of(part, found)))
    parts += [heading(f"The worst frames of {point}"), paragraph(WORST_NOTE, note=True)]
    parts.append(rows_of(_cells(found[point].frames, FRAMES)))
    return page("Where the errors are", *parts)


def table_of(part: Part, found: dict[str, Breakdown]) -> pd.DataFrame:
    """Return one table, a number a cell; units stand in the headings.

    Args:
        part: Which one.
        found: {point: its errors}.
    """
    names = ["test_set", *part.keys, *part.counts]
    tables = {x: getattr(one, part.name) for x, one in found.items()}
    first = next(iter(tables.values()))
    out = _cells(
        first,
        {"test_set": ("set", "")}
        | {x: (name, "") for x, name in (part.keys | part.counts).items()},
    )
    for key, (title, digits) in part.numbers.items():
        for point, table in tables.items():
            if key in table:
                numbers = first[names].merge(table, on=["test_set", *part.keys], how="left")[key]
                out[f"{point}\n{title}"] = _texts(numbers, digits)
    return out


def _cells(table: pd.DataFrame, columns: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Return some columns of a table as text, under their headings; the first is the index."""
    cells = {title: _texts(table[key], digits) for key, (title, digits) in columns.items()}
    first, *_ = cells
    return pd.DataFrame(cells).set_index(first).rename_axis(None)


def _texts(values: "pd.Series[Any]", digits: str) -> list[str]:
    """Return values as text; nothing where there is none."""
    return ["" if pd.isna(x) else f"{x:{digits}}" if digits else f"{x}" for x in values]


def _numbers(found: dict[str, Breakdown], path: Path) -> list[Path]:
    """Write a csv a table with the numbers of all points; return the files."""
    files = []
    for name in (*dict.fromkeys(part.name for part in PARTS), "frames"):
        tables = {x: getattr(one, name) for x, one in found.items()}
        table = pd.concat(tables, names=["point", None]).reset_index(level="point")
        file = path.with_name(f"errors_{name}.csv")
        table.to_csv(file, index=False, float_format="%.6g")
        files.append(file)
    return files
