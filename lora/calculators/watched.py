"""MACE's calculator in ASE with bounds of its force errors, and a guard that watches them in MD."""

import logging
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.md.md import MolecularDynamics

from lora.calculators.bounds import Bounds
from lora.data.structures import bare
from lora.errors import UserError
from lora.files.sealed import check_file
from lora.mace.calculator import mace_calculator, with_both_names

log = logging.getLogger(__name__)
BOUND, LARGEST = "forces_bound", "largest_force_bound"


class Watched(Calculator):
    """MACE's own calculator, whose results say how far its forces may be off.

    `results` has all that MACE's calculator gives, and

    - `forces_bound` [n_atoms] (eV/Å): of each atom the bound of each component of the force on it,
    - `largest_force_bound` (eV/Å): the bound of the largest error of all components.

    Each holds with the calibrated coverage for structures such as those of the validation set; on
    which test sets that was seen, the card beside the model says.
    """

    def __init__(
        self,
        model: str | Path,
        calibration: str | Path,
        device: str = "cpu",
        default_dtype: str = "",
    ) -> None:
        """Load a model that was exported.

        Args:
            model: The .model file.
            calibration: The .trust.json beside it.
            device: The device: cpu or cuda.
            default_dtype: float32 or float64; "" means that of the model.

        Raises:
            UserError: A file is missing or damaged, or the calibration is of another model.
        """
        super().__init__()
        if not Path(model).is_file():
            raise UserError(f"{model}: no such file; give the .model file of an export")
        check_file(model)
        self.mace, inside = mace_calculator(model, device, default_dtype)
        self.bounds = Bounds(inside, calibration)
        self.implemented_properties = [*self.mace.implemented_properties]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` for a structure.

        Args:
            atoms: The structure.
            properties: What ASE asks for; all are always computed.
            system_changes: What has changed since the last call, for ASE.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self.mace.calculate(with_both_names(self.atoms), properties, system_changes)
        own = {BOUND: self.bounds.components().cpu().numpy(), LARGEST: self.bounds.largest()}
        self.results = self.mace.results | own


class Guard:
    """Watch an MD, and stop it or write its frames where a force may be too far off.

    Attributes:
        frames: How many frames were beyond the limit so far.
        first: The step of the first of them; None while there is none.
    """

    def __init__(
        self,
        dynamics: MolecularDynamics,
        limit: float,
        file: str | Path | None = None,
        stop: bool = True,
    ) -> None:
        """Watch a run of ASE, after each of its steps and before the first.

        Args:
            dynamics: The run, whose atoms have a `Watched` calculator.
            limit: The largest bound of a force error that is let pass (eV/Å).
            file: The extended XYZ file to which frames beyond the limit are added, without labels
                and with their bounds; None writes none.
            stop: Whether the run ends at the first of them.

        Raises:
            UserError: The atoms have another calculator, or the limit is not above 0.
        """
        if not isinstance(dynamics.atoms.calc, Watched):
            raise UserError("Guard: the atoms have no Watched calculator; set atoms.calc to one")
        if not limit > 0:
            raise UserError(f"Guard: the limit is {limit} eV/Å; give one above 0")
        self.dynamics, self.limit, self.stop = dynamics, limit, stop
        self.file = Path(file) if file else None
        self.frames = 0
        self.first: int | None = None
        dynamics.attach(self, interval=1)

    def __call__(self) -> None:
        """Look at the frame at which the run is."""
        results = self.dynamics.atoms.calc.results
        if results[LARGEST] <= self.limit:
            return
        self.frames += 1
        if self.first is None:
            self.first = self.dynamics.nsteps
            self._say(results[LARGEST])
        if self.file:
            self._write(self.file, results)
        if self.stop:
            self.dynamics.max_steps = self.dynamics.nsteps  # at which ASE ends a run

    def _say(self, bound: float) -> None:
        end = "; the run stops" if self.stop else ""
        log.warning(
            "step %d: a force may be off by %.3g eV/Å, beyond the limit of %g eV/Å%s",
            *(self.first, bound, self.limit, end),
        )

    def _write(self, file: Path, results: dict[str, Any]) -> None:
        """Add the frame to a file, without the energy and forces that are not to be trusted.

        Labels of the structure that the run began with are of another geometry, and left out, too.
        """
        frame = bare(with_both_names(self.dynamics.atoms))
        frame.set_velocities(self.dynamics.atoms.get_velocities())
        frame.arrays[BOUND] = results[BOUND]
        frame.info |= {"step": self.dynamics.nsteps, LARGEST: results[LARGEST]}
        ase.io.write(file, frame, format="extxyz", append=True)
