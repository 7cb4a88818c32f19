"""The labels of a structure as the audit reads them: none where there is none, or its weight is 0.

Units: energy eV, forces eV/Å, stress eV/Å^3.
"""

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from lora.catalogue.findings import LABELS
from lora.data.labels import counts, has_label, has_volume, label


def label_of(atoms: Atoms, quantity: str) -> np.ndarray | None:
    """Return a label: energy [], forces [n_atoms, 3] or stress [9]; None where it does not count.

    Args:
        atoms: The structure.
        quantity: energy, forces or stress.
    """
    return label(atoms, quantity) if counts(atoms, quantity) else None


def missing_labels(structures: Iterable[Atoms]) -> dict[str, int]:
    """Return how many structures lack each label; of the stress, of those that can have one.

    Args:
        structures: The structures, without free atoms.
    """
    found: dict[str, int] = dict.fromkeys(LABELS, 0)
    for atoms in structures:
        for name in LABELS:
            can = name != "stress" or has_volume(atoms)
            found[name] += can and not has_label(atoms, name)
    return found
