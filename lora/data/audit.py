"""Name what is wrong with labels, from how they go with the foundation model's own predictions.

A wrong unit or sign shows as a slope: right labels have one near 1, whatever the level of theory,
and those in kcal/mol one near 23.
"""

import math
from dataclasses import dataclass

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
WORSE = 0.05  # loss of correlation beyond which labels are not per atom, or times the volume
SHOWN = 6  # frames that a line names


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        name: Of its row in the catalogue.
        where: The file, or file and frames.
        evidence: What was measured, in words.
        sure: Whether a finding that can refuse does.
    """

    name: str
    where: str
    evidence: str
    sure: bool = True

    @property
    def row(self) -> Finding:
        """Return the row of the catalogue."""
        return BY_NAME[self.name]

    @property
    def level(self) -> Level:
        """Return what it does: refuse, warn or note."""
        return self.row.level if self.sure or self.row.level != "refuse" else "warn"

    def text(self, accepted: bool = False) -> str:
        """Return the finding as one line, with how to accept it where it stops the sweep.

        Args:
            accepted: Whether the user has accepted it.
        """
        row = self.row
        about = "" if row.label in ("frames", "labels") else f"{row.label}: "
        maybe = "" if row.factor is None else "most likely " if self.sure else "perhaps "
        said = f"{maybe}{row.meaning}" + (f"; {row.remedy}" if row.remedy else "")
        line = f"{self.where}: {about}{self.evidence}; {said}"
        if accepted or not row.acceptable or self.level != "refuse":
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


def distance(slope: float, row: Finding) -> float:
    """Return how far a slope is from a row's factor, |ln |slope / factor||.

    Args:
        slope: The slope, with what the row divides by undone.
        row: The row.
    """
    assert row.factor is not None
    return abs(math.log(abs(slope / row.factor)))


def reach(size: float) -> float:
    """Return the distance within which a slope is taken for a unit: closer, the nearer it is to 1.

    Args:
        size: The size of a typical label in the unit, where the right one is 1.
    """
    return min(math.log(FACTOR), abs(math.log(size)) / NEAR)


@dataclass(frozen=True)
class Match:
    """A wrong unit that labels may have.

    Attributes:
        row: The unit.
        fit: How the labels go with the predictions once what the row divides by is undone.
        size: The size of a typical label in this unit, where the right one is 1.
    """

    row: Finding
    fit: Fit
    size: float


def units(quantity: Label, compared: Compared) -> list[Match]:
    """Return the wrong units that the labels may have, the likeliest first; no signs.

    Args:
        quantity: energy, forces or stress.
        compared: The structures, all of which count.
    """
    having = compared.having(quantity)
    plain = fit_of(quantity, having)
    n_atoms = float(np.median([len(x) for x in having.structures]))
    volume = float(np.median([abs(x.cell.volume) for x in having.structures]))
    typical = {"": 1.0, "atom": 1 / n_atoms, "volume": max(volume, 1e-6)}
    found = []
    for row in units_of(quantity):
        own = fit_of(quantity, having, row.per) if row.per else plain
        match = Match(row, own, abs(row.factor or 0) * typical[row.per])
        worse = abs(plain.correlation) - abs(own.correlation)
        if not own.slope or worse > WORSE:
            continue
        if (away := distance(own.slope, row)) < reach(match.size):
            found.append((away + worse, match))
    return [match for _, match in sorted(found, key=lambda x: x[0])]


def scale_findings(
    quantity: Label, where: str, compared: Compared, settings: Audit, trusted: bool = False
) -> tuple[Fit, list[Found]]:
    """Return how the labels of a kind go with the predictions, and what is wrong with them.

    A finding is sure where the correlation is certain.  Where the forces of the same structures go
    with the predictions, energies and stresses that vary by another power of ten than the
    predicted ones, or against them, are wrong, too, and a weaker correlation will do.

    Args:
        quantity: energy, forces or stress.
        where: The file.
        compared: The structures.
        settings: The thresholds.
        trusted: Whether forces go with the predictions.
    """
    own = fit_of(quantity, compared)
    frames = len(compared.having(quantity))
    if not frames:
        return own, []
    small = own.predicted < FLOORS[quantity] and own.size < FLOORS[quantity]
    if own.n < LEAST or small:
        evidence = f"{quantity} of {frames} structures, {own.size:.1g} {UNITS[quantity]} in size"
        return own, [Found("nothing_to_compare", where, evidence)]
    said = f"{in_words(own)} in {frames} structures"
    certain = own.least >= settings.least_correlation
    found = _unit(units(quantity, compared), where, said, settings, trusted)
    off = _times(own.slope)
    if not found and ((certain and off > RIGHT) or (trusted and off > ODD)):
        found.append(Found(f"{quantity}_scale", where, said))
    against = certain or (trusted and own.least > settings.least_correlation / 2)
    if against and own.slope < 0 and "stress_virial" not in [x.name for x in found]:
        found.append(Found(f"{quantity}_sign", where, said))
    if not certain and not found:
        hidden = quantity == "energy" and trusted
        found.append(Found(f"{quantity}_{'hidden' if hidden else 'unexplained'}", where, said))
    return own, found


def _unit(
    matches: list[Match], where: str, said: str, settings: Audit, trusted: bool
) -> list[Found]:
    """Return the likeliest of some wrong units, with the others in words; [] for none."""
    kept = []
    for match in matches:
        certain = match.fit.least >= settings.least_correlation
        odd = _times(match.size) > ODD
        alike = odd and match.fit.least > 0 and match.fit.slope > 0
        sure = (certain and (odd or match.fit.least >= SHARP)) or (alike and trusted)
        if certain or alike:
            kept.append((match.row, sure))
    if not kept:
        return []
    others = [row.meaning for row, _ in kept[1:3]]
    also = f" (or {' or '.join(others)})" if others else ""
    return [Found(kept[0][0].name, where, said + also, kept[0][1])]


def _times(slope: float) -> float:
    """Return by what factor a slope is off 1, upwards or downwards; 1 for none."""
    return max(abs(slope), 1 / abs(slope)) if slope else 1.0


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
