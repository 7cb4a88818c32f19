"""Write the first page: which model, how good, against what, what it forgot, what to do next.

choice.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.files.sealed import read_json
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep
from lora.report import first_figures as draw
from lora.report.comparison import Errors
from lora.report.figures import epochs_of
from lora.report.page import listing, page, paragraph, rows_of, verdict
from lora.selection.choose import Choice
from lora.selection.results import intact

FAR = 1.5  # times the error on the validation set: a set that the training data do not cover
LOAD = """\
from mace.calculators import MACECalculator
atoms.calc = MACECalculator("{model}", default_dtype="{dtype}")"""


@dataclass(frozen=True)
class Story:
    """What is said of a sweep, by what a reader asks; each sentence stands in one of them.

    Attributes:
        model: Which model was chosen, by which rule.
        rivals: How it stands against other methods.
        forgotten: What it forgot of the foundation model's own theory.
        mind: Where it is not to be trusted.
        to_do: What would make it, or the evidence for it, better.
        rest: What else there is to say.
    """

    model: Sequence[str]
    rivals: Sequence[str]
    forgotten: Sequence[str]
    mind: Sequence[str]
    to_do: Sequence[str]
    rest: Sequence[str]


def first_page(sweep: Sweep, errors: Errors, choice: Choice, story: Story, table: Markup) -> str:
    """Return the page.

    Args:
        sweep: The sweep.
        errors: The errors of every group.
        choice: The decision.
        story: What is said of it.
        table: The table of groups.
    """
    layout, chosen = sweep.layout, errors.group_of[choice.point]
    model = layout.model(choice.point)
    merged = model.with_name("merge.json")
    dtype = read_json(merged).get("dtype", "float64") if merged.is_file() else "float64"
    forgot = story.forgotten or ["Not measured: it needs checks.holdout_file."]
    rows = {
        "Model": [*story.model],
        "Better than?": [*story.rivals] or ["No other method was trained (baselines)."],
        "Forgot": forgot,
        "Mind": [*story.mind] or ["Nothing beyond the test sets above."],
        "Next": [*story.to_do] or ["Look at the checks, then run MD."],
    }
    code = LOAD.format(model=model, dtype=dtype)
    figures = [
        draw.settings(errors, chosen),
        draw.methods(errors, chosen),
        draw.curves(epochs_of(_curves(sweep, errors)), errors, choice.point),
        draw.parity(pd.read_parquet(intact(layout.parity(choice.point))), choice.point),
    ]
    return page(
        "What won",
        verdict(rows, rows_of(errors_of(errors, chosen)), listing("The model:", code)),
        *(x for x in figures if x is not None),
        *map(paragraph, story.rest),
        table,
    )


def _curves(sweep: Sweep, errors: Errors) -> dict[str, Path]:
    """Return the epochs that are drawn, of points of groups that have errors: {point: file}."""
    known = {x for x, group in errors.group_of.items() if group in errors.groups}
    files = {x: sweep.training(x) / "metrics.jsonl" for x in sweep.trained_points if x in known}
    return {x: file for x, file in files.items() if file.is_file()}


def errors_of(errors: Errors, group: str) -> pd.DataFrame:
    """Return the errors of a group: a row a set, energy and forces, with their spread.

    Args:
        errors: The errors of every group.
        group: The group.
    """
    columns = {BY_KEY[ENERGY].heading: (ENERGY, 2), BY_KEY[FORCE].heading: (FORCE, 1)}
    return pd.DataFrame(
        {
            name: [errors.text(group, s, metric, digits) for s in errors.sets]
            for name, (metric, digits) in columns.items()
        },
        index=errors.sets,
    )


def to_mind(errors: Errors, chosen: str, tuned: Sequence[str] | None) -> list[str]:
    """Say where a model is not to be trusted.

    Args:
        errors: The errors of every group.
        chosen: Its group.
        tuned: The elements that were fine-tuned; None where that is not known.
    """
    lines = []
    sets, metric = errors.measured
    valid = errors.mean(chosen, VALID, metric)
    for s in sets:
        ratio = errors.mean(chosen, s, metric) / valid if valid else 0.0
        if ratio > FAR:
            lines.append(
                f"On {s} its error is {ratio:.1f} times that on the validation set: the training "
                "data do not cover it."
            )
    if tuned:
        lines.append(
            f"Fine-tuned on {' '.join(tuned)} alone; other elements are the foundation model's."
        )
    return lines


def to_do(errors: Errors, chosen: str, improving: Sequence[str]) -> list[str]:
    """Say what would make the model, or the evidence for it, better.

    Args:
        errors: The errors of every group.
        chosen: The group of the chosen point.
        improving: The sentence on trainings that were still improving.
    """
    lines = [*improving]
    if errors.of(chosen, VALID, errors.metric).n == 1:
        lines.append("One seed cannot tell close settings apart: set grid.seed to three or more.")
    table = errors.table.drop_duplicates("group").set_index("group")
    for axis in ("rank", "alpha"):
        values = table.loc[errors.of_kind("lora"), axis]
        if chosen in values.index and values.nunique() > 1 and values[chosen] == values.max():
            lines.append(f"The choice has the largest {axis} of the grid: add a larger one.")
    if not errors.of_kind(FOUNDATION.kind):
        lines.append("Add baselines: [foundation, full], to see what LoRA is worth.")
    return lines
