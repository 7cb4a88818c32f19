"""What the audit of the data can find: what each finding means, and what to do about it.

A row with a factor is a wrong unit or sign: labels are `factor` times what they should be.  The
rows are all that the audit knows by name; how it measures is in `lora.data.audit`.
"""

from dataclasses import dataclass
from typing import Literal

HARTREE = 27.211386245988  # eV, CODATA 2018
RYDBERG = HARTREE / 2
BOHR = 0.529177210903  # Å
KCAL_MOL = 0.0433641042  # eV
KJ_MOL = KCAL_MOL / 4.184
GPA = 1 / 160.21766208  # eV/Å^3
NEWTON = 1 / 1.602176634e-9  # eV/Å

Level = Literal["refuse", "warn", "note"]
Label = Literal["energy", "forces", "stress", "positions", "frames", "labels", "export"]
Per = Literal["", "atom", "volume"]
LABELS: tuple[Label, ...] = ("energy", "forces", "stress")  # that are compared


@dataclass(frozen=True)
class Finding:
    """One thing that can be wrong with data, or worth knowing.

    Attributes:
        name: What `audit: {accept: [...]}` calls it.
        label: The label that it is about.
        level: refuse stops the sweep where the audit is sure and warns where it is not; warn is
            said in the terminal and on the report's first page; note in the terminal and on the
            report's page of the audit.
        meaning: What it is, or most likely is: the end of a sentence about the label.
        remedy: What to do; "" for nothing.
        factor: The size of the wrong label where the right one is 1; None for what is no unit.
        per: What the label was divided by (atom), or multiplied by (volume), beside the factor.
        acceptable: Whether the sweep can go on with it.
    """

    name: str
    label: Label
    level: Level
    meaning: str
    remedy: str
    factor: float | None = None
    per: Per = ""
    acceptable: bool = True


def _unit(label: Label, name: str, unit: str, size: float, level: Level = "refuse") -> Finding:
    """Return the row of a wrong unit.

    Args:
        label: The label.
        name: The end of the row's name.
        unit: The unit in words.
        size: The unit in eV, eV/Å, eV/Å^3 or Å.
        level: Refuse, or only warn.
    """
    remedy = f"multiply by {size:.6g}"
    return Finding(f"{label}_{name}", label, level, f"in {unit}", remedy, 1 / size)


def _unexplained(label: Label) -> Finding:
    return Finding(
        f"{label}_unexplained",
        label,
        "warn",
        "not what the foundation model predicts, so that the audit cannot tell whether they are "
        "right",
        "compare unit, sign and the order of frames and atoms with where they come from",
    )


def _scale(label: Label) -> Finding:
    return Finding(
        f"{label}_scale",
        label,
        "warn",
        "of another scale than the foundation model's",
        "compare the unit with where they come from",
    )


ROWS: tuple[Finding, ...] = (
    _unit("energy", "hartree", "Hartree", HARTREE),
    _unit("energy", "rydberg", "Ry", RYDBERG),
    _unit("energy", "kcal_mol", "kcal/mol", KCAL_MOL),
    _unit("energy", "kj_mol", "kJ/mol", KJ_MOL),
    _unit("energy", "mev", "meV", 1e-3),
    _unit("energy", "millihartree", "mHartree", HARTREE * 1e-3),
    _unit("energy", "wavenumber", "1/cm", 1.239841984e-4),
    _unit("energy", "joule", "J", 6.241509074e18),
    Finding(
        *("energy_per_atom", "energy", "refuse", "an energy per atom"),
        *("multiply by the number of atoms", 1.0, "atom"),
    ),
    Finding(
        *("energy_sign", "energy", "refuse", "of the other sign, as binding energies are"),
        *("multiply by -1", -1.0),
    ),
    Finding(
        *("energy_constant", "energy", "refuse", "the same for different geometries"),
        "look at how the file was written, or remove those frames",
    ),
    _scale("energy"),
    _unexplained("energy"),
    Finding(
        *("energy_hidden", "energy", "note", "too little alike to judge the unit; forces are"),
        "",
    ),
    _unit("forces", "hartree_bohr", "Hartree/Bohr", HARTREE / BOHR),
    _unit("forces", "rydberg_bohr", "Ry/Bohr", RYDBERG / BOHR),
    _unit("forces", "millirydberg_bohr", "mRy/Bohr", RYDBERG / BOHR * 1e-3),
    _unit("forces", "millihartree_bohr", "mHartree/Bohr", HARTREE / BOHR * 1e-3),
    _unit("forces", "hartree_angstrom", "Hartree/Å", HARTREE),
    _unit("forces", "rydberg_angstrom", "Ry/Å", RYDBERG),
    _unit("forces", "kcal_mol", "kcal/mol/Å", KCAL_MOL),
    _unit("forces", "kcal_mol_bohr", "kcal/mol/Bohr", KCAL_MOL / BOHR),
    _unit("forces", "kj_mol", "kJ/mol/Å", KJ_MOL),
    _unit("forces", "kj_mol_nm", "kJ/mol/nm", KJ_MOL / 10),
    _unit("forces", "mev", "meV/Å", 1e-3),
    _unit("forces", "ev_bohr", "eV/Bohr", 1 / BOHR),
    _unit("forces", "ev_nm", "eV/nm", 0.1),
    _unit("forces", "newton", "N", NEWTON),
    _unit("forces", "piconewton", "pN", NEWTON * 1e-12),
    _unit("forces", "nanonewton", "nN", NEWTON * 1e-9, level="warn"),  # a soft base is as far off
    Finding(
        *("forces_sign", "forces", "refuse", "gradients, which have the other sign"),
        *("multiply by -1", -1.0),
    ),
    Finding(
        *("forces_zero", "forces", "refuse", "zero where the foundation model's are not"),
        "leave the forces out of those frames, or compute them",
    ),
    Finding(
        *("forces_constant", "forces", "refuse", "the same for different geometries or atoms"),
        "look at how the file was written, or remove those frames",
    ),
    _scale("forces"),
    _unexplained("forces"),
    _unit("stress", "kbar", "kbar", GPA / 10),
    _unit("stress", "gpa", "GPa", GPA),
    _unit("stress", "mpa", "MPa", GPA * 1e-3),
    _unit("stress", "bar", "bar", GPA * 1e-4),
    _unit("stress", "pascal", "Pa", GPA * 1e-9),
    _unit("stress", "hartree_bohr3", "Hartree/Bohr^3", HARTREE / BOHR**3),
    _unit("stress", "rydberg_bohr3", "Ry/Bohr^3", RYDBERG / BOHR**3),
    _unit("stress", "hartree_angstrom3", "Hartree/Å^3", HARTREE),
    _unit("stress", "ev_bohr3", "eV/Bohr^3", 1 / BOHR**3),
    _unit("stress", "mev", "meV/Å^3", 1e-3),
    _unit("stress", "kcal_mol", "kcal/mol/Å^3", KCAL_MOL),
    _unit("stress", "kj_mol", "kJ/mol/Å^3", KJ_MOL),
    Finding(
        *("stress_virial", "stress", "refuse", "a virial in eV, not a stress"),
        *("divide by the volume, or name it in data.virials_key", 1.0, "volume"),
    ),
    Finding(
        *("stress_sign", "stress", "refuse", "of the other sign, as pressure and virials are"),
        *("multiply by -1", -1.0),
    ),
    Finding(
        *("stress_zero", "stress", "refuse", "zero where the foundation model's is not"),
        "leave the stress out of those frames, or compute it",
    ),
    Finding(
        *("stress_constant", "stress", "refuse", "the same for different cells"),
        "look at how the file was written, or remove those frames",
    ),
    _scale("stress"),
    _unexplained("stress"),
    _unit("positions", "bohr", "Bohr", BOHR),
    _unit("positions", "nm", "nm", 10.0),
    _unit("positions", "pm", "pm", 0.01),
    _unit("positions", "bohr_twice", "Å that were converted from Bohr twice", 1 / BOHR),
    Finding(
        *("far_outside", "frames", "warn", "outliers, also against the foundation model"),
        "look at those calculations, and remove the frames that are not converged",
    ),
    Finding(
        *("unknown_kind", "frames", "warn", "of a kind that the foundation model describes badly"),
        "training has to learn it: see that each set has some",
    ),
    Finding(
        *("far_outside_as_predicted", "frames", "note"),
        "outliers that the foundation model predicts, too",
        "look whether they belong to the data",
    ),
    Finding(
        *("same_geometry", "frames", "warn", "equal geometries with other labels"),
        "keep one of each, or say charge and spin where they differ",
    ),
    Finding(
        *("strange_forces", "frames", "warn"),
        "farther from the foundation model than those of other frames",
        "look at the order of atoms and at the labels of those frames",
    ),
    Finding(
        *("engine_refuses", "export", "warn", "an engine of export.engines that gets no file"),
        "remove it there, install what it needs, or take another foundation model",
    ),
    Finding(
        *("unused_labels", "labels", "warn", "labels in the file that no key asks for"),
        "name them in data.*_key if they are to be used",
    ),
    Finding(
        *("spare_labels", "labels", "note", "beside labels that are read, and not read themselves"),
        "",
    ),
    Finding(
        *("missing_labels", "labels", "note", "labels that structures lack"),
        "they have weight 0",
    ),
    Finding(
        *("nothing_to_compare", "labels", "note", "too few or too small to be compared"),
        "",
    ),
    Finding(
        *("unknown_element", "frames", "refuse", "elements that the foundation model lacks"),
        "take another model, or remove those frames",
        acceptable=False,
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(row.name for row in ROWS if row.acceptable and row.level != "note")


def units_of(label: Label) -> tuple[Finding, ...]:
    """Return the wrong units and signs of a label.

    Args:
        label: The label.
    """
    return tuple(row for row in ROWS if row.label == label and row.factor is not None)
