"""Make the foundation model: a small MACE of H, C, N, O molecules at the GFN2-xTB level.

    python make_base.py sample    MD of small molecules, labelled as it runs (8 minutes)
    python make_base.py train     mace_run_train on those labels (33 minutes of one core)

`sample` writes base_train.xyz and base_valid.xyz (not kept) and base_holdout.xyz (kept:
trajectories that the base never saw, to measure forgetting).  Units: eV, Å, eV/Å.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.collections import g2
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS

HERE = Path(__file__).parent
SEED = 20261123
TEMPERATURES = (300, 600, 1200)  # K
FRAMES = {"train": 22, "valid": 1, "holdout": 1}  # a trajectory; one frame every 25 steps of 0.5 fs
ELEMENTS = {"H", "C", "N", "O"}
ATOM_SPIN = {"H": 1, "C": 2, "N": 3, "O": 2}  # unpaired electrons of the free atoms


def xtb(atoms: Atoms) -> object:
    from tblite.ase import TBLite

    spin = ATOM_SPIN[atoms.symbols[0]] if len(atoms) == 1 else 0
    return TBLite(method="GFN2-xTB", verbosity=0, multiplicity=spin + 1)


def molecules() -> list[str]:
    """The closed-shell molecules of ASE's g2 collection made of H, C, N, O."""

    def wanted(atoms: Atoms) -> bool:
        return len(atoms) > 1 and set(atoms.symbols) <= ELEMENTS and atoms.numbers.sum() % 2 == 0

    triplets = {"O2", "CH2_s3B1d", "NH"}
    return [name for name in g2.names if wanted(molecule(name)) and name not in triplets]


def labelled(atoms: Atoms, config_type: str) -> Atoms:
    out = Atoms(atoms.symbols, positions=atoms.positions, info={"config_type": config_type})
    out.info["REF_energy"] = atoms.get_potential_energy()
    out.arrays["REF_forces"] = atoms.get_forces()
    return out


def trajectory(name: str, temperature: float, frames: int, rng: np.random.Generator) -> list[Atoms]:
    atoms = molecule(name)
    atoms.calc = xtb(atoms)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng
    )
    dynamics.run(200)
    out = []
    for _ in range(frames):
        dynamics.run(25)
        out.append(labelled(atoms, f"{name}_{temperature}K"))
    return out


def sample(names: list[str] | None = None, here: Path = HERE) -> None:
    """Sample and label; of other molecules and in another folder for another base."""
    rng = np.random.default_rng(SEED)
    sets: dict[str, list[Atoms]] = {name: [] for name in FRAMES}
    for symbol in ATOM_SPIN:
        atoms = Atoms(symbol)
        atoms.calc = xtb(atoms)
        sets["train"].append(labelled(atoms, "IsolatedAtom"))
    for name in molecules() if names is None else names:
        for temperature in TEMPERATURES:
            for which, frames in FRAMES.items():
                try:
                    sets[which] += trajectory(name, temperature, frames, rng)
                except Exception as error:
                    warnings.warn(f"{name} at {temperature} K left out: {error}", stacklevel=1)
        print(f"{name}: {len(sets['train'])} structures so far", flush=True)
    for which, structures in sets.items():
        write(here / f"base_{which}.xyz", structures)


TRAIN = """
mace_run_train --name=base --work_dir={here}/base_work --model=MACE
    --train_file={here}/base_train.xyz --valid_file={here}/base_valid.xyz
    --test_file={here}/base_holdout.xyz --E0s=IsolatedAtom
    --num_interactions=2 --num_channels={channels} --max_L=1 --correlation=2
    --r_max=4.5 --num_radial_basis=8 --MLP_irreps=16x0e
    --energy_weight=1 --forces_weight=100 --loss=weighted
    --batch_size=16 --valid_batch_size=64 --max_num_epochs={epochs}
    --lr=0.01 --weight_decay=5e-7 --amsgrad --ema --ema_decay=0.99 --clip_grad=10
    --scheduler=ExponentialLR --lr_scheduler_gamma={gamma}
    --swa --start_swa={stage_two} --swa_energy_weight=1000 --swa_lr=3e-4
    --default_dtype=float32 --device=cpu --seed=1 --eval_interval=1
    --energy_key=REF_energy --forces_key=REF_forces
"""


def train(
    epochs: int = 34, channels: int = 32, here: Path = HERE, model: Path = HERE / "base.model"
) -> None:
    """Stage one learns forces; stage two, the last quarter, weighs energies up."""
    gamma = 0.01 ** (1 / epochs)  # the learning rate falls to a hundredth
    values = {"epochs": epochs, "gamma": gamma, "stage_two": epochs * 3 // 4}
    subprocess.run(TRAIN.format(here=here, channels=channels, **values).split(), check=True)
    (here / "base_work/base_stagetwo.model").replace(model)


if __name__ == "__main__":
    {"sample": sample, "train": train}[sys.argv[1]](*map(int, sys.argv[2:]))
