"""Write the dashboard: every point, error, training, worst structure and curve, to look around in.

dashboard.html
"""

from pathlib import Path

import pandas as pd

from lora.files.sealed import write_text
from lora.plan.sweep import Sweep
from lora.report import dashboard_curves as curves
from lora.report import dashboard_frames as frames
from lora.report.comparison import Errors
from lora.report.dashboard_page import render
from lora.report.dashboard_points import Points, columns, parallel, scatter
from lora.report.first_figures import epochs_of, histories
from lora.selection.choose import read_choice
from lora.selection.raced import read_races
from lora.selection.results import intact, read_results


def write(sweep: Sweep) -> list[Path]:
    """Write the page, which needs no network and no other file.

    Args:
        sweep: The sweep, with the choice.

    Returns:
        The file.

    Raises:
        UserError: A file of an earlier step is missing or damaged.
    """
    layout, choice = sweep.layout, read_choice(sweep)
    results = read_results(sweep, "choose")
    errors = Errors.of_sweep(sweep, results, choice.metric)
    points = Points.of(sweep, errors, choice)
    epochs = epochs_of(histories(sweep, errors))
    found = frames.Frames.of(pd.read_parquet(intact(layout.parity(choice.point))))
    space, told = frames.structures(found, frames.read_atoms(layout, found.worst))
    numbers = columns(points)
    panels = [
        parallel(points, errors.sets),
        scatter(points, errors.sets),
        curves.races(epochs, points, errors, read_races(sweep)),
        frames.parity(found, choice.point),
        space,
        *curves.of_checks(results.checks, curves.compared(errors, choice), choice.point),
    ]
    lead = (
        f"Chosen: {choice.point}, orange in every figure. The foundation model is left out of "
        "scales where it would flatten all others. Everything is in this file; it needs no network."
    )
    drawn = [panel for panel in panels if panel is not None]
    path = layout.report("dashboard.html")
    write_text(path, render("Dashboard", lead, drawn, {"points": numbers, "told": told}))
    return [path]
