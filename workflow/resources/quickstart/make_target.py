"""Make the target dataset: malonaldehyde and its proton transfer, PBE0/def2-SVP.

    python make_target.py sample     geometries by GFN2-xTB MD and NEB (2 minutes)
    python make_target.py label      DFT energies and forces with PySCF (11 to 14 s each)

`label` appends as it goes and resumes where it was stopped.  Units: eV, Å, eV/Å.
"""

import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from tblite.ase import TBLite

HERE = Path(__file__).parent
SEED = 20261123
#           set    temperature (K), frames; one frame every 20 fs
MD_SETS = {"300K": (300, 260), "600K": (600, 60)}
LABELLED = 200  # of the 300 K frames; the later ones are left unlabelled
NEB_IMAGES, COPIES_PER_IMAGE, DISPLACEMENT = 11, 2, 0.03  # the last in Å

# cis-enol malonaldehyde, roughly; C3, O2 and their hydrogen mirror C1, O1 and theirs
SYMBOLS = "CCCOOHHHH"  # C1 C2 C3 O1 O2 H(C1) H(C2) H(C3) H(O1)
POSITIONS = [
    (1.21, 0.70, 0), (0, 1.40, 0), (-1.21, 0.70, 0), (1.25, -0.62, 0), (-1.30, -0.60, 0),
    (2.15, 1.25, 0), (0, 2.48, 0), (-2.15, 1.25, 0), (0.35, -1.00, 0),
]  # fmt: skip
MIRROR = [2, 1, 0, 4, 3, 7, 6, 5, 8]  # the tautomer is the mirror image with these atoms exchanged
ATOM_SPIN = {"H": 1, "C": 2, "O": 2}  # unpaired electrons of the free atoms


def xtb() -> TBLite:
    return TBLite(method="GFN2-xTB", verbosity=0)


def minimum() -> Atoms:
    atoms = Atoms(SYMBOLS, positions=POSITIONS)
    atoms.calc = xtb()
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=500)
    return atoms


def md(start: Atoms, temperature: float, frames: int, rng: np.random.Generator) -> list[Atoms]:
    atoms = start.copy()
    atoms.calc = xtb()
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng
    )
    dynamics.run(1000)
    out = []
    for _ in range(frames):
        dynamics.run(40)
        out.append(atoms.copy())
    return out


def reaction_path(start: Atoms, rng: np.random.Generator) -> list[Atoms]:
    """Climbing-image NEB of the proton transfer, and displaced copies of each image."""
    end = start.copy()
    end.positions = (start.positions * [-1, 1, 1])[MIRROR]
    images = [start.copy() for _ in range(NEB_IMAGES - 1)] + [end]
    for image in images:
        image.calc = xtb()
    neb = NEB(images, climb=True)
    neb.interpolate(method="idpp")
    FIRE(neb, logfile=None).run(fmax=0.05, steps=300)
    out = []
    for image in images:
        out.append(image.copy())
        for _ in range(COPIES_PER_IMAGE):
            copy = image.copy()
            copy.positions += rng.normal(scale=DISPLACEMENT, size=copy.positions.shape)
            out.append(copy)
    return out


def sample() -> None:
    rng = np.random.default_rng(SEED)
    start = minimum()
    sets = {"path": reaction_path(start, rng)}
    for name, (temperature, frames) in MD_SETS.items():
        sets[name] = md(start, temperature, frames, rng)
    for name, structures in sets.items():
        for atoms in structures:
            atoms.info, atoms.calc = {"config_type": name}, None
            atoms.arrays.pop("momenta", None)
        print(f"{name}: {len(structures)} geometries", flush=True)
        write(HERE / f"geometries_{name}.xyz", structures)


def dft(atoms: Atoms) -> tuple[float, np.ndarray]:
    """PBE0/def2-SVP, density fitting: energy (eV) and forces [n_atoms, 3] (eV/Å)."""
    from pyscf import dft, gto

    spin = ATOM_SPIN[atoms.symbols[0]] if len(atoms) == 1 else 0
    mol = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)),
        basis="def2-svp", spin=spin, verbose=0,
    )  # fmt: skip
    mf = (dft.UKS if spin else dft.RKS)(mol, xc="pbe0").density_fit()
    mf.conv_tol = 1e-9
    energy = mf.kernel()
    if not mf.converged:
        raise RuntimeError("SCF did not converge")
    gradient = np.zeros((1, 3)) if len(atoms) == 1 else mf.nuc_grad_method().kernel()
    return energy * units.Hartree, -gradient * units.Hartree / units.Bohr


def label() -> None:
    free_atoms = [Atoms(s, info={"config_type": "IsolatedAtom"}) for s in ATOM_SPIN]
    for name in ("path", "600K", "300K"):
        todo = read(HERE / f"geometries_{name}.xyz", ":")
        if name == "300K":  # the main set carries the free atoms, for `e0s: isolated`
            todo = free_atoms + todo[:LABELLED]
        target = HERE / f"malonaldehyde_{name}.xyz"
        done = len(read(target, ":")) if target.exists() else 0
        for k, atoms in enumerate(todo[done:], start=done):
            start = time.perf_counter()
            energy, forces = dft(atoms)
            atoms.info["REF_energy"] = energy
            atoms.arrays["REF_forces"] = forces
            write(target, atoms, append=True)
            seconds = time.perf_counter() - start
            print(f"{name} {k + 1}/{len(todo)}: {energy:.4f} eV, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    {"sample": sample, "label": label}[sys.argv[1]]()
