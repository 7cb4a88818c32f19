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

from lora.data.origin import Origin, read_from, set_origin
from lora.errors import UserError
from lora.files.sealed import check_file, write_text

# the keys of every file that this project writes: MACE's own defaults
ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
# larger than any calculation gives, so that the unit must be another one
MOST_ENERGY = 1e7  # eV/atom; the electrons of the heaviest element have less
MOST_FORCE = 1e3  # eV/Å
NEAREST = 0.2  # Å
ISOLATED = "IsolatedAtom"  # the config_type of free atoms, as in MACE
SETS = ("train", "valid", "test")


def read_structures(
    path: str | Path,
    energy_key: str = ENERGY,
    forces_key: str = FORCES,
    stress_key: str = STRESS,
) -> list[Atoms]:
    """Read a labelled dataset, check every structure, and give the labels our keys.

    Args:
        path: A file of any format of ASE that holds energies and forces.
        energy_key: The name of the total energy (eV) in the file.
        forces_key: The name of the forces (eV/Å) in the file.
        stress_key: The name of the stress (eV/Å^3) in the file, which need not have it.

    Returns:
        The structures in the order of the file, with its name and their numbers as their origin
        (`lora.data.origin`).

    Raises:
        UserError: One line with file, frame, key, value and remedy.
    """
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    frames = _read(Path(path))
    return [_checked(atoms, keys, Origin(str(path), i)) for i, atoms in enumerate(frames)]


def load_structures(path: str | Path) -> list[Atoms]:
    """Read structures without checking numbers.

    Args:
        path: A file that this project wrote, or one of which only the geometries are used.

    Returns:
        The structures.  Each keeps the origin that the file has for it; one without gets this
        file and its number here.

    Raises:
        UserError: The file holds no structures, or is no longer what was written.
    """
    check_file(path)
    frames = _read(Path(path))
    read_from(frames, path, keep=True)
    return frames


def write_structures(path: str | Path, structures: Iterable[Atoms]) -> None:
    """Write extended xyz, whole or not at all.

    Args:
        path: The file.
        structures: The structures; positions (Å) and forces (eV/Å) keep 12 digits.
    """
    text = io.StringIO()
    ase.io.write(text, list(structures), format="extxyz", vec_cell=False)
    write_text(path, text.getvalue())


def bare(atoms: Atoms) -> Atoms:
    """Return the structure alone: elements, positions, cell; no labels, info or calculator.

    Args:
        atoms: The structure, which is left as it is.
    """
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return True for a free atom, which is used for E0s and not trained on.

    Args:
        atoms: The structure.
    """
    return atoms.info.get("config_type") == ISOLATED and len(atoms) == 1


def composition(structures: list[Atoms], numbers: list[int]) -> np.ndarray:
    """Return the counts of each element, [n_structures, n_elements].

    Args:
        structures: The structures.
        numbers: The atomic numbers of the columns.
    """
    counts = [Counter(atoms.numbers.tolist()) for atoms in structures]
    return np.array([[c[z] for z in numbers] for c in counts], dtype=float)


def elements_of(structures: Iterable[Atoms]) -> list[int]:
    """Return the atomic numbers that occur, sorted.

    Args:
        structures: The structures.
    """
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


def _checked(atoms: Atoms, keys: dict[str, str], origin: Origin) -> Atoms:
    """Return a checked copy of a structure with its labels under our keys, and its origin."""
    where = str(origin)
    _check_geometry(atoms, where)
    energy, forces = _energy(atoms, keys["energy"], where), _forces(atoms, keys["forces"], where)
    kept = {k: v for k, v in atoms.info.items() if k not in keys.values()}
    out = bare(atoms)
    out.info = {**kept, ENERGY: energy}
    out.arrays[FORCES] = forces
    stress = _label(atoms, keys["stress"], where, needed=None)
    if stress is not None:
        out.info[STRESS] = _stress(_numbers(stress, where, keys["stress"]), where, keys["stress"])
    set_origin(out, origin)
    return out


def _check_geometry(atoms: Atoms, where: str) -> None:
    """Raise UserError for atoms, positions or a cell that no calculation can have used."""
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


def _energy(atoms: Atoms, key: str, where: str) -> float:
    """Return the total energy (eV); raise UserError where it is missing or cannot be one."""
    energy = _numbers(_label(atoms, key, where, needed="data.energy_key"), where, key)
    if energy.size != 1:
        raise UserError(f"{where}: {key} holds {energy.size} numbers, not one energy")
    _finite(energy, where, key)
    per_atom = abs(energy.item()) / len(atoms)
    if per_atom > MOST_ENERGY:
        raise UserError(
            f"{where}: {key} is {per_atom:.0e} eV an atom in size; give the total energy in eV"
        )
    return float(energy.reshape(-1)[0])


def _forces(atoms: Atoms, key: str, where: str) -> np.ndarray:
    """Return forces [n_atoms, 3] (eV/Å); raise UserError where they are missing or cannot be."""
    forces = _numbers(_label(atoms, key, where, needed="data.forces_key"), where, key)
    if forces.shape != (len(atoms), 3):
        raise UserError(f"{where}: {key} has shape {forces.shape}, not ({len(atoms)}, 3)")
    _finite(forces, where, key)
    largest = np.abs(forces).max()
    if largest > MOST_FORCE:
        raise UserError(
            f"{where}: {key} reaches {largest:.0f} eV/Å; give forces in eV/Å, or remove the "
            "structure"
        )
    return forces


def _label(atoms: Atoms, key: str, where: str, needed: str | None) -> object:
    """Return a label from wherever ASE put it: info, arrays, or the calculator of the frame.

    Raises UserError where a label with a key of the config, `needed`, is missing.
    """
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
    """Return a label as floats; raise UserError for texts and truth values."""
    try:
        if np.asarray(value).dtype != bool:
            return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pass
    shown = repr(value) if np.asarray(value).size == 1 else "text"
    raise UserError(f"{where}: {key} is {shown}, not a number; correct the file")


def _apart(atoms: Atoms, where: str) -> None:
    """Raise UserError where two atoms are nearer than atoms can be."""
    if not 1 < len(atoms) <= 500:  # all pairs of many atoms take too long
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
    """Return a stress (eV/Å^3) as nine numbers, row by row, from Voigt, 3x3 or nine."""
    if stress.size == 6:
        xx, yy, zz, yz, xz, xy = stress.reshape(6)
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif stress.size != 9:
        raise UserError(f"{where}: {key} holds {stress.size} numbers; give 6 (Voigt) or 9 (3x3)")
    _finite(stress, where, key)
    return stress.reshape(9)


def _finite(values: np.ndarray, where: str, key: str) -> None:
    """Raise UserError for values that are not finite."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{where}: {key} holds a number that is not finite; remove the structure or compute it "
            "again"
        )


def reference(structures: list[Atoms]) -> dict[str, np.ndarray]:
    """Return the labels: energy [n] (eV), forces [n_atoms of all, 3] (eV/Å), n_atoms [n].

    Args:
        structures: Labelled structures.
    """
    return {
        "energy": np.array([atoms.info[ENERGY] for atoms in structures]),
        "forces": np.concatenate([atoms.arrays[FORCES] for atoms in structures]),
        "n_atoms": np.array([len(atoms) for atoms in structures]),
    }


def has_stress(structures: list[Atoms]) -> bool:
    """Return True if every structure has a stress label.

    Args:
        structures: The structures.
    """
    return all(STRESS in atoms.info for atoms in structures)
