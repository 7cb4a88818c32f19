"""The labels of a structure as the audit reads them: none where there is none, or its weight is 0.

Units: energy eV, forces eV/Å, stress eV/Å^3.
"""

import re
from collections.abc import Iterable

import numpy as np
from ase import Atoms

from lora.data.structures import ENERGY, FORCES, STRESS

NAMES = {"energy": ENERGY, "forces": FORCES, "stress": STRESS}
# the words of a name that make it that of a label; weights and errors of labels are none
KINDS = re.compile(r"(?:^|_)(energy|forces?|gradients?|stress|virials?)(?:_|$)", re.IGNORECASE)
OTHER = re.compile(r"weight|sigma|std|error|uncertainty|initial|kinetic", re.IGNORECASE)


def label_of(atoms: Atoms, quantity: str) -> np.ndarray | None:
    """Return a label: energy [], forces [n_atoms, 3] or stress [9]; None where it does not count.

    Args:
        atoms: The structure.
        quantity: energy, forces or stress.
    """
    held = atoms.arrays if quantity == "forces" else atoms.info
    if NAMES[quantity] not in held or weight_of(atoms, quantity) == 0:
        return None
    return np.asarray(held[NAMES[quantity]], dtype=float)


def weight_of(atoms: Atoms, quantity: str) -> float:
    """Return MACE's weight of a label, config_weight times config_{quantity}_weight.

    Args:
        atoms: The structure.
        quantity: energy, forces or stress.
    """
    info = atoms.info
    return float(info.get("config_weight", 1)) * float(info.get(f"config_{quantity}_weight", 1))


def formula_of(atoms: Atoms) -> str:
    """Return the chemical formula of a structure.

    Args:
        atoms: The structure.
    """
    return str(atoms.symbols.formula.format("hill"))


def missing_labels(structures: Iterable[Atoms]) -> dict[str, int]:
    """Return how many structures lack each label; of the stress, how many periodic ones.

    Args:
        structures: The structures, without free atoms.
    """
    found = dict.fromkeys(NAMES, 0)
    for atoms in structures:
        for name, key in NAMES.items():
            held = atoms.arrays if name == "forces" else atoms.info
            counts = name != "stress" or atoms.pbc.all()
            found[name] += counts and key not in held
    return found


def unused_labels(frames: Iterable[Atoms], asked: Iterable[str]) -> dict[str, int]:
    """Return the labels that frames of a file have and no key asks for, and how many have each.

    A free energy beside an energy that is asked for is left out: ASE writes both.

    Args:
        frames: The frames as ASE reads them.
        asked: The names that the config gives its labels.
    """
    asked, found = set(asked), dict[str, int]()
    for atoms in frames:
        results = getattr(atoms.calc, "results", {})
        names = {*atoms.info, *atoms.arrays, *results}
        for name in sorted(names - asked):
            if not isinstance(name, str) or not KINDS.search(name) or OTHER.search(name):
                continue
            if "free_energy" not in name.lower() or not asked & names:
                found[name] = found.get(name, 0) + 1
    return found
