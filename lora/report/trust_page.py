"""Write whether the bounds of the chosen model's force errors hold, and say it in a line.

trust.html, trust.csv
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lora.data.calibration import Trial
from lora.data.conformal import SLACK, Covered
from lora.files.sealed import read_json, write_text
from lora.plan.sweep import Sweep
from lora.report.page import page, paragraph, rows_of

SOURCES = {  # of scores, in the order of the table
    "features": "last layer of the chosen model",
    "committee": "spread of the committee",
}
NOTES = (
    "A bound is a factor times the score of an atom. Its score is how little the training set says "
    "about the atom by the last layer of the model (arXiv 2403.02251), or the spread of the forces "
    "on it over a committee, of which the errors are those of the mean. The factor is calibrated "
    "on the validation set, so that about the nominal share of the force components of a further "
    "structure of its kind lies within their bounds (split conformal prediction, arXiv "
    "2107.07511). Components of one structure are correlated, so that each structure has the same "
    "weight and the 95 % intervals come from how structures differ.",
    "The validation set chose the epoch and the point, too, so that errors on it are rather small: "
    "what counts is the coverage on the other sets. Bounds are called an uncertainty where the "
    f"interval for components reaches the nominal share but for {100 * SLACK:g} %.",
    "The largest bound of a structure is what a guard in MD compares with its limit: a limit a "
    "little above that of the test set stops a run where it leaves what that set is like.",
)


def write(sweep: Sweep) -> list[Path]:
    """Write the page, and its numbers as csv.

    Args:
        sweep: The sweep, with the calibration.

    Returns:
        Both files.
    """
    found = read_json(sweep.layout.receipt("trust"))
    path = sweep.layout.report("trust.html")
    rows = _rows(found)
    parts = [paragraph(line) for line in sentences(found)]
    if rows:
        shown = pd.DataFrame([_shown(*row) for row in rows]).set_index("")
        parts += [rows_of(shown), *(paragraph(line, note=True) for line in NOTES)]
    write_text(path, page("Do the bounds of force errors hold?", *parts))
    numbers = path.with_suffix(".csv")
    pd.DataFrame([_numbers(*row) for row in rows], columns=list(_COLUMNS)).to_csv(
        numbers, index=False
    )
    return [path, numbers]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Say what the bounds of a model are worth, in a line.

    Args:
        found: What the step `trust` found, or what the card of an export says of it.
    """
    if not found["sources"]:
        return [f"There are no bounds of force errors: {found['why']}."]
    trial = Trial.from_dict(found["sources"]["features"])
    return [sentence(trial)]


def sentence(trial: Trial) -> str:
    """Say what bounds from the last layer are worth.

    Args:
        trial: The bounds, and how they held.
    """
    nominal = f"{100 * trial.bound.coverage:g} % nominal"
    n = trial.bound.n_structures
    made = f"from the last layer, calibrated on {n} validation structures"
    if not trial.sets:
        why = "no test set has forces to see whether they hold"
        return f"Bounds of force errors ({made}) are not called an uncertainty: {why}."
    good, bad = _shares(trial.holding), _shares(trial.failing)
    if not good:
        return f"Bounds of force errors ({made}) are not an uncertainty on {bad}; {nominal}."
    end = f", but not on {bad}" if bad else ""
    return f"Bounds of force errors ({made}) are an uncertainty on {good}{end}; {nominal}."


def _shares(sets: Mapping[str, Covered]) -> str:
    of = {name: x.components.text() for name, x in sets.items()}
    return " and ".join(f"{name}, where {x} of components keep them" for name, x in of.items())


def _rows(found: Mapping[str, Any]) -> list[tuple[str, Trial, str, Covered]]:
    """Return a row a source and set."""
    trials = {x: Trial.from_dict(found["sources"][x]) for x in SOURCES if x in found["sources"]}
    return [
        (x, trial, name, one) for x, trial in trials.items() for name, one in trial.sets.items()
    ]


def _shown(source: str, trial: Trial, name: str, one: Covered) -> dict[str, Any]:
    """Return a row of the page."""
    return {
        "": f"{name}: {SOURCES[source]}",
        "structures": one.n_structures,
        f"components within their\nbounds, nominal {100 * trial.bound.coverage:g} %": (
            one.components.text()
        ),
        "structures whose largest\nerror is within its bound": one.structures.text(),
        "median bound\n(meV/Å)": f"{1e3 * one.median:.1f}",
        "largest bound of\na structure (eV/Å)": f"{one.largest:.2f}",
        "an uncertainty": "yes" if one.holds(trial.bound.coverage) else "no",
    }


_COLUMNS = (
    *("source", "test_set", "structures", "calibrated_on", "nominal"),
    *("components", "components_low", "components_high"),
    *("whole_structures", "whole_structures_low", "whole_structures_high"),
    *("median_bound_mev_per_a", "largest_bound_ev_per_a", "uncertainty"),
)


def _numbers(source: str, trial: Trial, name: str, one: Covered) -> tuple[Any, ...]:
    """Return a row of the csv."""
    shares = (x for s in (one.components, one.structures) for x in (s.value, s.low, s.high))
    bound = trial.bound
    own = (source, name, one.n_structures, bound.n_structures, bound.coverage)
    return (*own, *shares, 1e3 * one.median, one.largest, one.holds(bound.coverage))
