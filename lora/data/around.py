"""Make structures around those of a training set, without any labels.

A model that trains on one kind of structures forgets what it knew of others.  What lies around the
training set costs nothing but a label by the foundation model itself, which then keeps what it says
there.  The kinds are the rows of `lora/catalogue/made.py`; each function here is one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from lora.data.labels import CHARGE, SPIN
from lora.data.structures import bare, elements_of

APART = 0.7  # sums of covalent radii; atoms nearer than this overlap: a triple bond has 0.77
RATTLE = (0.02, 0.25)  # Å, standard deviation of a coordinate
STRAIN = 0.1  # the largest uniform stretch, and shear, which adds half as much to an axis
STEPS = 3  # the largest number of atoms that are exchanged, removed or added
GAPS = (0.95, 2.0)  # sums of covalent radii, between the parts of two molecules
SLICE = (0.3, 0.7)  # share of a cell that comes from another crystal
BONDS = (0.95, 1.15)  # sums of covalent radii, to the next atom of one that is new


@dataclass(frozen=True)
class Around:
    """What structures are made around, and how many.

    Attributes:
        structures: Those of the training set, each of two atoms or more.
        count: How many to make; of some no structure can be made.
        temperatures: Of molecular dynamics (K).
        forces: Forces of structures by the foundation model, [n_atoms, 3] of each (eV/Å).
        rng: What chooses.
    """

    structures: Sequence[Atoms]
    count: int
    temperatures: tuple[float, ...]
    forces: Callable[[list[Atoms]], list[np.ndarray]]
    rng: np.random.Generator

    def some(self) -> list[Atoms]:
        """Return as many structures as are to be made, each as often as the others, bare."""
        n = len(self.structures)
        places = np.concatenate([self.rng.permutation(n) for _ in range(-(-self.count // n))])
        return [bare(self.structures[int(i)]) for i in places[: self.count]]


def rattled(around: Around) -> list[Atoms]:
    """Return structures whose atoms are all moved at random.

    Args:
        around: What to make them of.
    """
    found = around.some()
    for atoms in found:
        size = around.rng.uniform(*RATTLE)
        atoms.positions += around.rng.normal(scale=size, size=atoms.positions.shape)
    return found


def strained(around: Around) -> list[Atoms]:
    """Return structures that are stretched and sheared with their cells.

    Args:
        around: What to make them of.
    """
    found = around.some()
    for atoms in found:
        shear = around.rng.uniform(-STRAIN, STRAIN, size=(3, 3)) / 2
        change = np.eye(3) * (1 + around.rng.uniform(-STRAIN, STRAIN)) + (shear + shear.T) / 2
        atoms.cell = atoms.cell.array @ change
        atoms.positions = atoms.positions @ change
    return found


def mixed(around: Around) -> list[Atoms]:
    """Return structures of parts of two others, cut by a plane (doi 10.1103/PhysRevLett.75.288).

    Args:
        around: What to make them of.
    """
    found = []
    for one, other in zip(around.some(), around.some(), strict=True):
        if not one.pbc.any() and not other.pbc.any():
            found.append(_with_parity(_joined(one, other, around.rng)))
        elif (one.pbc == other.pbc).all() and one != other:
            found.append(_with_parity(_spliced(one, other, around.rng)))
    return found


def changed(around: Around) -> list[Atoms]:
    """Return structures with atoms exchanged for another element, removed or added.

    Args:
        around: What to make them of.
    """
    numbers, rng = elements_of(around.structures), around.rng
    found = []
    for source in around.some():
        atoms = source
        for _ in range(rng.integers(1, STEPS + 1)):
            what, i = rng.integers(3), int(rng.integers(len(atoms)))
            if what == 0:
                _exchange(atoms, i, int(rng.choice(numbers)), rng)
            elif what == 1 and len(atoms) > 2:
                atoms = atoms[np.arange(len(atoms)) != i]
            else:
                atoms = _with_one_more(atoms, i, int(rng.choice(numbers)), rng)
        found.append(_with_parity(atoms))
    return found


def fits(atoms: Atoms) -> bool:
    """Return True for a structure of two atoms or more that do not overlap.

    Args:
        atoms: The structure.
    """
    if len(atoms) < 2 or not np.isfinite(atoms.positions).all():
        return False
    radii = covalent_radii[atoms.numbers]
    cutoff = 2 * APART * radii.max()
    i, j, d = neighbor_list("ijd", atoms, cutoff)  # type: ignore[no-untyped-call]
    return bool((d >= APART * (radii[i] + radii[j])).all())


def _joined(one: Atoms, other: Atoms, rng: np.random.Generator) -> Atoms:
    """Return the upper part of a molecule over the lower part of another, at some distance."""
    upper, lower = (_part(atoms, rng) for atoms in (one, other))
    lower.positions[:, 2] *= -1  # a mirror image is as good
    radii = covalent_radii[upper.numbers][:, None] + covalent_radii[lower.numbers]
    wanted = rng.uniform(*GAPS) * radii
    while (cdist(upper.positions, lower.positions) < wanted).any():
        lower.positions[:, 2] -= 0.1
    out: Atoms = upper + lower
    out.info = dict(one.info)
    return out


def _part(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return what lies above a plane through an atom, with that atom, turned at random."""
    turned = Rotation.random(None, rng).apply(atoms.positions)
    height = turned[:, 2] - turned[rng.integers(len(turned)), 2]
    out: Atoms = atoms[height >= 0]
    out.positions = turned[height >= 0]
    out.positions[:, :2] -= out.positions[:, :2].mean(axis=0)
    out.positions[:, 2] -= out.positions[:, 2].min()
    return out


def _spliced(one: Atoms, other: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a crystal, a slice of which along a periodic direction is another's."""
    axis = int(rng.choice(np.flatnonzero(one.pbc)))
    own, others = _fractions(one)[:, axis], _fractions(other)[:, axis]
    start, width = own[rng.integers(len(own))], rng.uniform(*SLICE)
    out: Atoms = one[(own - start) % 1.0 >= width]
    slice_of: Atoms = other[(others - start) % 1.0 < width]
    slice_of.positions = _fractions(slice_of) @ one.cell.complete().array
    joined: Atoms = out + slice_of
    return joined


def _fractions(atoms: Atoms) -> np.ndarray:
    """Return positions as multiples of the vectors of the cell, [n_atoms, 3]."""
    return np.asarray(atoms.positions @ np.linalg.inv(atoms.cell.complete().array))


def _exchange(atoms: Atoms, i: int, number: int, rng: np.random.Generator) -> None:
    """Give an atom another element, and its nearest neighbour the distance that this asks for."""
    others = [j for j in range(len(atoms)) if j != i]
    periodic = bool(atoms.pbc.any())
    bonds = atoms.get_distances(  # type: ignore[no-untyped-call]
        i, others, mic=periodic, vector=True
    )
    j = int(np.linalg.norm(bonds, axis=1).argmin())
    long, old = bonds[j], atoms.numbers[i]
    near = covalent_radii[atoms.numbers[others[j]]]
    ratio = (near + covalent_radii[number]) / (near + covalent_radii[old])
    atoms.positions[i] += long * (1 - ratio * rng.uniform(*BONDS))
    atoms.numbers[i] = number


def _with_one_more(atoms: Atoms, i: int, number: int, rng: np.random.Generator) -> Atoms:
    """Return a structure with an atom in a random direction from another, at a bond's length."""
    away = rng.normal(size=3)
    bond = covalent_radii[atoms.numbers[i]] + covalent_radii[number]
    away *= bond * rng.uniform(*BONDS) / np.linalg.norm(away)
    out: Atoms = atoms + Atoms([number], [atoms.positions[i] + away])
    return out


def _with_parity(atoms: Atoms) -> Atoms:
    """Return a structure whose spin multiplicity, if it has one, fits its number of electrons."""
    if SPIN in atoms.info:
        electrons = int(atoms.numbers.sum()) - round(float(atoms.info.get(CHARGE, 0)))
        spin = round(float(atoms.info[SPIN]))
        atoms.info[SPIN] = spin + (electrons + spin + 1) % 2
    return atoms
