"""Name what is wrong with labels, from how they go with the foundation model's own predictions.

A wrong unit or sign shows as a slope: right labels have one near 1, whatever the level of theory,
and those in kcal/mol one near 23.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from lora.catalogue.findings import BY_NAME, Finding, Label, Level, units_of
from lora.data.audit_fit import LEAST, Compared, Fit, fit_of
from lora.plan.config_data import Audit

# RMS of predictions below which labels of that size are too small to be compared
FLOORS: dict[Label, float] = {"energy": 1e-3, "forces": 0.01, "stress": 1e-4}
UNITS: dict[Label, str] = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"}
RIGHT = 2.0  # slopes between its inverse and it may be those of another theory
FACTOR = 1.5  # around the factor of a unit in which a slope is taken for it, at most
NEAR = 8  # and at most the NEAR-th root of the factor: a unit near 1 has to be hit closely
SHARP = 0.9  # correlation from which on a unit within a factor `ODD` of 1 is sure
ODD = 3.0  # a ratio of sizes beyond which low correlation says something all the same
SHOWN = 6  # frames that a line names


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        name: Of its row in the catalogue.
        where: The file, or file and frames.
        evidence: What was measured, in words.
        sure: Whether a finding that can refuse does.
        values: The numbers behind it.
    """

    name: str
    where: str
    evidence: str
    sure: bool = True
    values: dict[str, float] = field(default_factory=dict)

    @property
    def row(self) -> Finding:
        """Return the row of the catalogue."""
        return BY_NAME[self.name]

    @property
    def level(self) -> Level:
        """Return what it does: refuse, warn or note."""
        return self.row.level if self.sure or self.row.level != "refuse" else "warn"

    def text(self) -> str:
        """Return the finding as one line."""
        row = self.row
        about = "" if row.label in ("frames", "labels") else f"{row.label}: "
        maybe = "" if row.factor is None else "most likely " if self.sure else "perhaps "
        said = f"{maybe}{row.meaning}" + (f"; {row.remedy}" if row.remedy else "")
        line = f"{self.where}: {about}{self.evidence}; {said}"
        if not row.acceptable or row.level == "note":
            return line
        return f"{line}, or go on as it is with audit: {{accept: [{self.name}]}}"


def in_words(found: Fit) -> str:
    """Return slope and correlation in words.

    Args:
        found: The fit.
    """
    return (
        f"{found.slope:.3g} times what the foundation model predicts (correlation "
        f"{found.correlation:.2f})"
    )


def taken(slope: float, row: Finding, typical: float = 1.0) -> float:
    """Return how far a slope is from a row's factor; below 0 it is taken for it.

    Args:
        slope: The slope with the row's transformation undone, so that the factor is all.
        row: The row.
        typical: What the transformation does to the size of a typical label.
    """
    assert row.factor is not None
    away = abs(math.log(abs(row.factor) * typical))
    return abs(math.log(abs(slope / row.factor))) - min(math.log(FACTOR), away / NEAR)


def units(quantity: Label, compared: Compared) -> list[tuple[Finding, Fit]]:
    """Return the wrong units that the labels may have, the likeliest first; no signs.

    Args:
        quantity: energy, forces or stress.
        compared: The structures, all of which count.
    """
    having = compared.having(quantity)
    plain = fit_of(quantity, having)
    sizes = {"": 1.0}
    if len(having):
        sizes["atom"] = 1 / float(np.median([len(x) for x in having.structures]))
        volumes = [abs(x.cell.volume) for x in having.structures]
        sizes["volume"] = max(float(np.median(volumes)), 1e-6)
    found = []
    for row in units_of(quantity):
        own = fit_of(quantity, having, row.per) if row.per else plain
        if own.slope and (miss := taken(own.slope, row, sizes[row.per])) < 0:
            worse = abs(plain.correlation) - abs(own.correlation)
            if worse < 0.05:
                found.append((miss + worse, row, own))
    return [(row, own) for _, row, own in sorted(found, key=lambda x: x[0])]


def scale_findings(
    quantity: Label, where: str, compared: Compared, settings: Audit
) -> tuple[Fit, list[Found]]:
    """Return how the labels of a kind go with the predictions, and what is wrong with them.

    Args:
        quantity: energy, forces or stress.
        where: The file.
        compared: The structures.
        settings: The thresholds.
    """
    own = fit_of(quantity, compared)
    frames = len(compared.having(quantity))
    if not frames:
        return own, []
    small = own.predicted < FLOORS[quantity] and own.size < FLOORS[quantity]
    if own.n < LEAST or small:
        evidence = f"{quantity} of {frames} structures, {own.size:.1g} {UNITS[quantity]} in size"
        return own, [Found("nothing_to_compare", where, evidence)]
    sure = own.least >= settings.correlation
    said = f"{in_words(own)} in {frames} structures"
    values = {"slope": own.slope, "correlation": own.correlation}
    found = []
    ratio = abs(own.slope)
    doubtful = own.least > 0 and max(ratio, 1 / ratio) > ODD
    matches = units(quantity, compared) if sure or doubtful else []
    if matches:
        others = [other.meaning for other, _ in matches[1:3]]
        also = f" (or {' or '.join(others)})" if others else ""
        sharp = max(ratio, 1 / ratio) > ODD or own.least >= SHARP
        found.append(Found(matches[0][0].name, where, said + also, sure and sharp, values))
    if sure and own.slope < 0 and "stress_virial" not in [x.name for x in found]:
        found.append(Found(f"{quantity}_sign", where, said, True, values))
    if not sure and not found:
        found.append(Found(f"{quantity}_unexplained", where, said, values=values))
    elif not matches and not 1 / RIGHT < ratio < RIGHT:
        found.append(Found(f"{quantity}_scale", where, said, values=values))
    return own, found


def named(frames: list[str]) -> str:
    """Return the frames of a file in words, "dft.xyz frames 3, 7 and 2 more".

    Args:
        frames: Each as "dft.xyz frame 3".
    """
    by_file: dict[str, list[str]] = {}
    for one in frames:
        file, _, number = one.rpartition(" frame ")
        by_file.setdefault(file, []).append(number)
    parts = []
    for file, numbers in by_file.items():
        more = len(numbers) - SHOWN
        shown = ", ".join(numbers[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        parts.append(f"{file} frame{'s' if len(numbers) > 1 else ''} {shown}")
    return "; ".join(parts)
