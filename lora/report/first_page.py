"""Write the first page: which model, how good, against what, what it forgot, what to do next.

choice.html
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.files.sealed import read_json
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep
from lora.report import first_figures as draw
from lora.report.comparison import Errors
from lora.report.page import listing, page, paragraph, rows_of, verdict
from lora.report.planes import planes_of
from lora.report.rank_alpha import Cells, rank_alpha
from lora.report.style import embedded
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
    parity = pd.read_parquet(intact(layout.parity(choice.point)))
    epochs = draw.epochs_of(draw.histories(sweep, errors))
    figures = [
        *_rank_alpha(errors, chosen),
        embedded(draw.methods(errors, chosen)[0], "Methods", _about_methods(errors)),
        embedded(
            draw.curves(epochs, errors, choice.point)[0], "Learning curves", _improving(errors)
        ),
        embedded(
            draw.parity(parity, choice.point)[0],
            "Parity",
            f"{choice.point} on its test sets, all structures together.",
        ),
    ]
    return page(
        "What won",
        verdict(rows, rows_of(errors_of(errors, chosen)), listing("The model:", code)),
        *figures,
        *map(paragraph, story.rest),
        table,
    )


def _rank_alpha(errors: Errors, chosen: str) -> list[Markup]:
    """Return the figure of ranks and alphas on the validation set; none without LoRA."""
    planes = Cells.of_planes(errors, VALID, errors.metric, chosen)
    if not planes:
        return []
    cells = planes[0]
    what, seeds = BY_KEY[errors.metric], max(x.n for x in cells.found.values())
    apart = "the seeds do not tell them" if seeds > 1 else "within 5 %, one seed does not tell them"
    marked = "choice" if cells.marked == chosen else "best LoRA setting"
    about = (
        (f"{cells.title}: " if cells.title else "")
        + f"{what.heading} on the validation set"
        + (f", mean ± spread over {seeds} seeds" if seeds > 1 else ", one seed")
        + f". Orange frame: the {marked}; hatched: {apart} from it. The darkest shade is "
        f"{cells.high - cells.low:.2g} {what.unit} above the best"
        + ("; of several settings in a cell the lowest is shown." if cells.shared else ".")
        + (f" Maps of {len(planes) - 1} more are in the heat map." if planes[1:] else "")
    )
    return [embedded(rank_alpha(cells, errors), "Rank and alpha", about)]


def _about_methods(errors: Errors) -> str:
    """Return how the figure of methods is to be read."""
    about = "The best setting of each method, a bar a test set; bars of error: spread over seeds."
    return " ".join(x for x in (about, draw.not_drawn(errors)) if x)


def _improving(errors: Errors) -> str:
    """Return how many trainings ended too early."""
    still, of = errors.improving(*errors.groups)
    return f"{still} of {of} trainings had their lowest error in their last epoch."


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
        improving: What is said of trainings that were still improving, or gained nothing.
    """
    lines = [*improving]
    if errors.of(chosen, VALID, errors.metric).n == 1:
        lines.append("One seed cannot tell close settings apart: set grid.seed to three or more.")
    table = errors.table.drop_duplicates("group").set_index("group")
    own = next((x.groups for x in planes_of(errors) if chosen in x.groups), [])
    for axis in ("rank", "alpha"):
        values = table.loc[own, axis]
        if chosen in values.index and values.nunique() > 1 and values[chosen] == values.max():
            lines.append(f"The choice has the largest {axis} of the grid: add a larger one.")
    if not errors.of_kind(FOUNDATION.kind):
        lines.append("Add baselines: [foundation, full], to see what LoRA is worth.")
    return lines
