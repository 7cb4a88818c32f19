"""Free atoms: known however they are written, and one energy for each element."""

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from lora.catalogue.config_types import ISOLATED, names_free_atom
from lora.data.labels import CHARGE, ENERGY
from lora.data.origin import origin_of
from lora.errors import UserError

FAR = 10.0  # Å between periodic images; more than the cutoff of any published MACE model
SAME = 1e-4  # eV


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return True for a free atom, which is used for E0s and not trained on.

    Args:
        atoms: The structure.
    """
    return atoms.info.get("config_type") == ISOLATED and len(atoms) == 1


def mark_free_atom(atoms: Atoms) -> None:
    """Give a free atom the config_type `ISOLATED`, however it was written.

    It is one atom that its config_type calls so (isolated_atom, Isolated-Atom, free_atom, ...), or
    a neutral one without periodic images within `FAR`.

    Args:
        atoms: The structure, which is changed.
    """
    if len(atoms) != 1:
        return
    lone = not atoms.info.get(CHARGE) and _image(atoms) > FAR
    if names_free_atom(atoms.info.get("config_type")) or lone:
        atoms.info["config_type"] = ISOLATED


def free_atoms(structures: list[Atoms]) -> list[Atoms]:
    """Return the free atoms among some structures.

    Args:
        structures: The structures.

    Raises:
        UserError: Two of one element have different energies.
    """
    found = [atoms for atoms in structures if is_isolated_atom(atoms)]
    first: dict[str, Atoms] = {}
    for atoms in found:
        if ENERGY not in atoms.info:
            continue
        symbol = chemical_symbols[atoms.numbers[0]]
        other = first.setdefault(symbol, atoms)
        energy, known = atoms.info[ENERGY], other.info[ENERGY]
        if abs(energy - known) > SAME:
            raise UserError(
                f"{origin_of(other)} and {origin_of(atoms)}: two free atoms of {symbol} have "
                f"different energies, {known:.6f} and {energy:.6f} eV; keep the one that is meant"
            )
    return found


def _image(atoms: Atoms) -> float:
    """Return the distance of the nearest periodic images of a single atom (Å)."""
    vectors = atoms.cell.array[atoms.pbc]
    if not len(vectors):
        return float("inf")
    steps = np.array(np.meshgrid(*[[-2, -1, 0, 1, 2]] * len(vectors))).reshape(len(vectors), -1).T
    lengths = np.linalg.norm(steps @ vectors, axis=1)
    return float(lengths[steps.any(axis=1)].min())
