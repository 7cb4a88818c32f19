"""Read labelled structures from extended xyz, check them, and write them with fixed keys.

ASE and numpy only.  Units: energy eV, positions Å, forces eV/Å, stress eV/Å^3.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from lora.errors import UserError
from lora.files.sealed import check_file, write_text

# the keys of every file that this project writes: MACE's own defaults
ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
# what no calculation gives, so that its unit must be another
MOST_ENERGY = 1e7  # eV an atom; all electrons of the heaviest have less
MOST_FORCE = 1e3  # eV/Å
NEAREST = 0.2  # Å
ISOLATED = "IsolatedAtom"  # the config_type of free atoms, as in MACE


def read_structures(
    path: str | Path,
    energy_key: str = ENERGY,
    forces_key: str = FORCES,
    stress_key: str = STRESS,
) -> list[Atoms]:
    """Read a labelled dataset; every structure comes back checked, with the keys above.

    Args:
        path: any format of ASE that holds energies and forces; extended xyz as a rule
        energy_key, forces_key, stress_key: what the file calls them; stress may be missing

    Raises UserError: one line with file, frame, key, value and remedy.
    """
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    frames = _read(Path(path))
    return [_checked(atoms, keys, f"{path} frame {i}") for i, atoms in enumerate(frames)]


def load_structures(path: str | Path) -> list[Atoms]:
    """Read without checking numbers: a file that this project wrote, or for its geometries.

    Raises UserError: no structures in it, or it is no longer what was written.
    """
    check_file(path)
    return _read(Path(path))


def write_structures(path: str | Path, structures: Iterable[Atoms]) -> None:
    """Write extended xyz, whole or not at all.  Positions and forces keep 12 digits."""
    text = io.StringIO()
    ase.io.write(text, list(structures), format="extxyz", vec_cell=False)
    write_text(path, text.getvalue())


def bare(atoms: Atoms) -> Atoms:
    """The structure alone: elements, positions, cell; no labels, notes or calculator."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def is_isolated_atom(atoms: Atoms) -> bool:
    """Whether a structure is a free atom, kept for E0s and not trained on."""
    return atoms.info.get("config_type") == ISOLATED and len(atoms) == 1


def composition(structures: list[Atoms], numbers: list[int]) -> np.ndarray:
    """Counts of each element: [n_structures, n_elements]."""
    counts = [Counter(atoms.numbers.tolist()) for atoms in structures]
    return np.array([[c[z] for z in numbers] for c in counts], dtype=float)


def elements_of(structures: Iterable[Atoms]) -> list[int]:
    """Sorted atomic numbers that occur."""
    return sorted({int(z) for atoms in structures for z in atoms.numbers})


def _read(path: Path) -> list[Atoms]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            form = "extxyz" if ".xyz" in path.suffixes or ".extxyz" in path.suffixes else None
            frames = ase.io.read(path, index=":", format=form)
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as extended xyz ({why})") from None
    if not frames:
        raise UserError(f"{path}: holds no structures")
    return list(frames)


def _checked(atoms: Atoms, keys: dict[str, str], where: str) -> Atoms:
    """The structure with only what we use, under our keys.  `where` names file and frame."""
    if len(atoms) == 0:
        raise UserError(f"{where}: holds no atoms; remove it")
    for z in atoms.numbers:
        if z == 0:
            raise UserError(f"{where}: holds the unknown element {chemical_symbols[z]}")
    _finite(atoms.positions, where, "positions")
    _finite(atoms.cell.array, where, "cell")
    _apart(atoms, where)
    if atoms.pbc.any() and abs(atoms.cell.volume) < 1e-6:
        raise UserError(f"{where}: is periodic but its cell has no volume; set Lattice or pbc")

    found = _label(atoms, keys["energy"], where, needed="data.energy_key")
    energy = _numbers(found, where, keys["energy"])
    if energy.size != 1:
        raise UserError(f"{where}: {keys['energy']} holds {energy.size} numbers, not one energy")
    found = _label(atoms, keys["forces"], where, needed="data.forces_key")
    forces = _numbers(found, where, keys["forces"])
    if forces.shape != (len(atoms), 3):
        raise UserError(
            f"{where}: {keys['forces']} has shape {forces.shape}, not ({len(atoms)}, 3)"
        )
    _finite(energy, where, keys["energy"])
    _finite(forces, where, keys["forces"])
    per_atom, largest = abs(energy.item()) / len(atoms), np.abs(forces).max()
    if per_atom > MOST_ENERGY:
        raise UserError(
            f"{where}: {keys['energy']} is {per_atom:.0e} eV an atom in size; give the total "
            "energy in eV"
        )
    if largest > MOST_FORCE:
        raise UserError(
            f"{where}: {keys['forces']} reaches {largest:.0f} eV/Å; give forces in eV/Å, or remove "
            "the structure"
        )

    kept = {k: v for k, v in atoms.info.items() if k not in keys.values()}
    out = bare(atoms)
    out.info = {**kept, ENERGY: float(energy.reshape(-1)[0])}
    out.arrays[FORCES] = forces
    stress = _label(atoms, keys["stress"], where, needed=None)
    if stress is not None:
        out.info[STRESS] = _stress(_numbers(stress, where, keys["stress"]), where, keys["stress"])
    return out


def _label(atoms: Atoms, key: str, where: str, needed: str | None) -> object:
    """A label from wherever ASE put it: info, arrays, or the calculator that it attaches."""
    if key in atoms.info:
        return atoms.info[key]
    if key in atoms.arrays:
        return atoms.arrays[key]
    results = getattr(atoms.calc, "results", {})
    if key in results:
        return results[key]
    if needed is None:
        return None
    present = sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})
    raise UserError(
        f"{where}: has no {key}; its keys are {', '.join(present) or 'none'}; set {needed}"
    )


def _numbers(value: object, where: str, key: str) -> np.ndarray:
    """A label as floats; text and truth values are none."""
    try:
        if np.asarray(value).dtype != bool:
            return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pass
    shown = repr(value) if np.asarray(value).size == 1 else "text"
    raise UserError(f"{where}: {key} is {shown}, not a number; correct the file")


def _apart(atoms: Atoms, where: str) -> None:
    """Raises UserError where two atoms are nearer than any of them can be."""
    if not 1 < len(atoms) <= 500:  # of many atoms all pairs are too many
        return
    i, j = np.triu_indices(len(atoms), 1)
    distances = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    if (nearest := distances.min()) < NEAREST:
        first = int(distances.argmin())
        raise UserError(
            f"{where}: atoms {i[first]} and {j[first]} are {nearest:.2g} Å apart; give positions "
            "in Å, or remove the structure"
        )


def _stress(stress: np.ndarray, where: str, key: str) -> np.ndarray:
    """Stress as nine numbers, row by row, from Voigt, 3x3 or nine."""
    if stress.size == 6:
        stress = voigt_6_to_full_3x3_stress(stress.reshape(6))
    elif stress.size != 9:
        raise UserError(f"{where}: {key} holds {stress.size} numbers; give 6 (Voigt) or 9 (3x3)")
    _finite(stress, where, key)
    return stress.reshape(9)


def _finite(values: np.ndarray, where: str, key: str) -> None:
    if not np.isfinite(values).all():
        raise UserError(
            f"{where}: {key} holds a number that is not finite; remove the structure or compute it "
            "again"
        )


SETS = ("train", "valid", "test")


def reference(structures: list[Atoms]) -> dict[str, np.ndarray]:
    """The labels: energy [n] (eV), forces [n_atoms of all, 3] (eV/Å), n_atoms [n]."""
    return {
        "energy": np.array([atoms.info[ENERGY] for atoms in structures]),
        "forces": np.concatenate([atoms.arrays[FORCES] for atoms in structures]),
        "n_atoms": np.array([len(atoms) for atoms in structures]),
    }


def has_stress(structures: list[Atoms]) -> bool:
    """Whether every structure has a stress label."""
    return all(STRESS in atoms.info for atoms in structures)
