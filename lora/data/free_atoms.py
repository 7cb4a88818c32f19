"""Free atoms: known however they are written, and one energy for each element."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from lora.catalogue.config_types import ISOLATED, names_free_atom
from lora.data.labels import CHARGE, ENERGY, SPIN, counts
from lora.data.origin import where
from lora.errors import UserError

FAR = 10.0  # Å between periodic images; more than the cutoff of any published MACE model
SAME = 1e-3  # eV; two energies of a free atom that differ by more contradict each other


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return True for a free atom, which is used for E0s and not trained on.

    Args:
        atoms: The structure.
    """
    return len(atoms) == 1 and str(atoms.info.get("config_type")) == ISOLATED


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


def free_atoms(structures: Sequence[Atoms], path: str | Path) -> list[Atoms]:
    """Return the free atoms among some structures.

    Args:
        structures: The structures.
        path: Their file, for messages.

    Raises:
        UserError: Two of one element have different energies.
    """
    found = [atoms for atoms in structures if is_isolated_atom(atoms)]
    free_energies(found, path)
    return found


def free_energies(structures: Iterable[Atoms], path: str | Path) -> dict[str, float]:
    """Return the energies (eV) of free atoms by symbol: neutral ones, the lowest over spins.

    Args:
        structures: Free atoms; those without an energy, with weight 0 or with a charge are passed
            over.
        path: Their file, for messages.

    Raises:
        UserError: A structure has several atoms, or two of one element (and, where it is given,
            one spin) have different energies.
    """
    found: dict[tuple[str, float | None], tuple[float, str]] = {}
    for i, atoms in enumerate(structures):
        place = where(atoms, path, i)
        if len(atoms) != 1:
            raise UserError(f"{place}: has {len(atoms)} atoms, not a free atom; remove it")
        if atoms.info.get(CHARGE) or not counts(atoms, "energy"):
            continue
        symbol, energy = chemical_symbols[atoms.numbers[0]], float(atoms.info[ENERGY])
        other, first = found.setdefault((symbol, atoms.info.get(SPIN)), (energy, place))
        if abs(energy - other) > SAME:
            raise UserError(
                f"{place}: the free atom {symbol} has {energy:.6f} eV, and {other:.6f} eV in "
                f"{first}; remove the one that is not of the ground state at your level of theory"
            )
    lowest: dict[str, float] = {}
    for (symbol, _), (energy, _) in found.items():
        lowest[symbol] = min(energy, lowest.get(symbol, energy))
    return lowest


def _image(atoms: Atoms) -> float:
    """Return the distance of the nearest periodic images of a single atom (Å)."""
    vectors = atoms.cell.array[atoms.pbc]
    if not len(vectors):
        return float("inf")
    steps = np.array(np.meshgrid(*[[-2, -1, 0, 1, 2]] * len(vectors))).reshape(len(vectors), -1).T
    lengths = np.linalg.norm(steps @ vectors, axis=1)
    return float(lengths[steps.any(axis=1)].min())
