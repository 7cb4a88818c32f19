"""The labels of structures: their names, which are there, and stress and virials of each other.

In memory, and in every file that this project writes, a label has the name below.  One that a
structure does not have is an absent key, never a NaN.  Units: energy eV, forces eV/Å, stress
eV/Å^3, virials eV, charge e, spin multiplicity 2S+1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from ase import Atoms

from lora.errors import UserError
from lora.plan.config_data import Data

# MACE's own names: of its defaults, and of what its graphs take from `atoms.info`
ENERGY, FORCES = "REF_energy", "REF_forces"
STRESS, VIRIALS = "REF_stress", "REF_virials"
CHARGE, SPIN = "total_charge", "total_spin"
NAMES = {
    "energy": ENERGY,
    "forces": FORCES,
    "stress": STRESS,
    "virials": VIRIALS,
    "total_charge": CHARGE,
    "total_spin": SPIN,
}
QUANTITIES = ("energy", "forces", "stress", "virials")  # that a loss can have a term for
OTHER = {"stress": "virials", "virials": "stress"}  # which give each other
_CONFIG = Data.model_fields  # the defaults
# MACE's weights of a structure in the loss: of all its labels, and of each
WEIGHT = "config_weight"
GIVEN_WEIGHT = "config_weight_before"  # a weight as it was, before that of its config_type
WEIGHTS = (WEIGHT, *(f"config_{quantity}_weight" for quantity in QUANTITIES))
LEAST_VOLUME = 1e-6  # Å^3; a cell with less has no stress


@dataclass(frozen=True)
class Keys:
    """The names of the labels in files of the user: the keys `*_key` of `data` in the config.

    Attributes:
        energy: The total energy (eV).
        forces: The forces (eV/Å).
        stress: The stress (eV/Å^3).
        virials: The virials (eV), minus the stress times the volume.
        total_charge: The total charge (e).
        total_spin: The spin multiplicity, 2S+1.

    Raises:
        UserError: Two labels have one name.
    """

    energy: str = _CONFIG["energy_key"].default
    forces: str = _CONFIG["forces_key"].default
    stress: str = _CONFIG["stress_key"].default
    virials: str = _CONFIG["virials_key"].default
    total_charge: str = _CONFIG["total_charge_key"].default
    total_spin: str = _CONFIG["total_spin_key"].default

    def __post_init__(self) -> None:
        taken: dict[str, str] = {}
        for name, key in self.named().items():
            if key in taken:
                raise UserError(
                    f"data.{taken[key]}_key and data.{name}_key are both {key}; name each label"
                )
            taken[key] = name

    def named(self) -> dict[str, str]:
        """Return the name in the files of each label, {"energy": "REF_energy", ...}."""
        return {x.name: getattr(self, x.name) for x in fields(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Keys":
        """Return the keys among some values of the config.

        Args:
            values: {"energy_key": ..., ...}; what else is there is passed over, and what is not
                there has its default.
        """
        given = {x.name: values[f"{x.name}_key"] for x in fields(cls) if f"{x.name}_key" in values}
        return cls(**given)


def label(atoms: Atoms, quantity: str) -> np.ndarray | None:
    """Return a label of a structure: energy [], forces [n_atoms, 3], stress or virials [9].

    Stress and virials are had from each other where one of them is missing: in MACE's sign,
    virials = -stress x volume, the derivative of minus the energy by the strain.  The volume is
    that of the cell as it is written, along directions without periodicity, too.

    Args:
        atoms: The structure.
        quantity: One of `QUANTITIES`.

    Returns:
        The label; None where the structure does not have it.
    """
    if quantity == "forces":
        forces: np.ndarray | None = atoms.arrays.get(FORCES)
        return forces
    if (found := atoms.info.get(NAMES[quantity])) is not None:
        return np.asarray(found, dtype=float).reshape(() if quantity == "energy" else 9)
    other = atoms.info.get(NAMES[OTHER[quantity]]) if quantity in OTHER else None
    if other is None or not has_volume(atoms):
        return None
    volume = abs(atoms.cell.volume)
    scale = -1 / volume if quantity == "stress" else -volume
    return np.asarray(scale * np.asarray(other, dtype=float)).reshape(9)


def name_conditions(atoms: Atoms, keys: Keys) -> None:
    """Give total charge and spin of a structure that was only loaded our keys.

    Args:
        atoms: The structure, which is changed.
        keys: Their names in its file.
    """
    for ours, theirs in ((CHARGE, keys.total_charge), (SPIN, keys.total_spin)):
        value = atoms.info.pop(theirs, None)
        atoms.info.pop(ours, None)
        if value is not None:
            atoms.info[ours] = value


def names_of(atoms: Atoms) -> list[str]:
    """Return the names of all that ASE read of a frame beside elements, positions and cell.

    Args:
        atoms: The structure as it was read.
    """
    results = getattr(atoms.calc, "results", {})
    return sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})


def has_volume(atoms: Atoms) -> bool:
    """Return True if a structure can have a stress: it is periodic, and its cell has a volume.

    A slab (periodic along two directions) has one if its cell has a third vector.

    Args:
        atoms: The structure.
    """
    return bool(atoms.pbc.any() and abs(atoms.cell.volume) > LEAST_VOLUME)


def has_label(atoms: Atoms, quantity: str) -> bool:
    """Return True if a structure has a label, or the stress or virials that give it.

    Args:
        atoms: The structure.
        quantity: One of `QUANTITIES`.
    """
    return label(atoms, quantity) is not None


def count_labels(structures: Iterable[Atoms]) -> dict[str, int]:
    """Return how many structures have each label as written, {"energy": 12, ..., "total_spin": 0}.

    Args:
        structures: The structures.
    """
    counts = dict.fromkeys(NAMES, 0)
    for atoms in structures:
        for name, key in NAMES.items():
            counts[name] += key in (atoms.arrays if name == "forces" else atoms.info)
    return counts


def own_weight(atoms: Atoms, quantity: str) -> float:
    """Return the weight that a structure gives a label, MACE's config_*_weight.

    Args:
        atoms: The structure.
        quantity: One of `QUANTITIES`; stress and virials that come from each other have the weight
            of the one that is there.

    Returns:
        1 where the structure names no weight, 0 where it does not have the label.
    """
    if not has_label(atoms, quantity):
        return 0.0
    held = atoms.arrays if quantity == "forces" else atoms.info
    there = quantity if NAMES[quantity] in held else OTHER[quantity]
    return float(atoms.info.get(f"config_{there}_weight", 1.0))


def weight_of(atoms: Atoms, quantity: str) -> float:
    """Return the weight of a label of a structure in squared errors, as in MACE's loss.

    Args:
        atoms: The structure.
        quantity: One of `QUANTITIES`.

    Returns:
        config_weight times the label's own weight; 0 where it does not have the label.
    """
    return own_weight(atoms, quantity) * float(atoms.info.get(WEIGHT, 1.0))


def counts(atoms: Atoms, quantity: str) -> bool:
    """Return True if a structure has a label and gives it a weight above 0.

    Args:
        atoms: The structure.
        quantity: One of `QUANTITIES`.
    """
    return weight_of(atoms, quantity) > 0


def reference(structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Return the labels that count, with NaN for those that are missing or have weight 0.

    Args:
        structures: The structures.

    Returns:
        "energy" [n] (eV), "forces" [n_atoms of all, 3] (eV/Å), "stress" [n, 9] (eV/Å^3) and
        "n_atoms" [n].
    """
    found: dict[str, list[np.ndarray]] = {"energy": [], "forces": [], "stress": []}
    for atoms in structures:
        for quantity, shape in (("energy", ()), ("forces", (len(atoms), 3)), ("stress", (9,))):
            value = label(atoms, quantity) if counts(atoms, quantity) else None
            found[quantity].append(np.full(shape, np.nan) if value is None else value)
    return {
        "energy": np.array(found["energy"], dtype=float),
        "forces": np.concatenate([np.empty((0, 3)), *found["forces"]]),
        "stress": np.array(found["stress"], dtype=float).reshape(-1, 9),
        "n_atoms": np.array([len(atoms) for atoms in structures]),
    }


def say_labels(name: str, structures: Sequence[Atoms]) -> str:
    """Return how many structures of a set have each label, in a line.

    Args:
        name: The name of the set.
        structures: The structures.
    """
    found = count_labels(structures)
    total = len(structures)
    parts = [
        f"{quantity.replace('_', ' ')} {'all' if n == total else f'{n} ({total - n} without)'}"
        for quantity, n in found.items()
        if n or quantity in ("energy", "forces")
    ]
    return f"{name}: {total} structures, labels: {', '.join(parts)}"
