"""Predict energies and forces of structures with a MACE model, as a pyfunc of MLflow.

MLflow copies this file beside the model and imports it from there, on machines that know nothing
of this library: it needs MACE, ASE, torch and pandas alone.
"""

import io
from pathlib import Path
from typing import Any

import ase.io
import mace  # noqa: F401  (before torch opens the model: it lets pickles be loaded)
import pandas as pd
import torch
from ase import Atoms
from mace.calculators import MACECalculator


class Potential:
    """A MACE model as a function of structures, in the precision of its weights.

    Args:
        file: The .model file.
    """

    def __init__(self, file: Path) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = torch.load(file, map_location=device, weights_only=False)
        self.dtype = next(model.parameters()).dtype
        before = torch.get_default_dtype()
        try:  # MACE's calculator changes torch's default for the whole process
            name = str(self.dtype).removeprefix("torch.")
            self.calculator = MACECalculator(models=model, device=device, default_dtype=name)
        finally:
            torch.set_default_dtype(before)

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return energies and forces.

        Args:
            table: Column `structure`: text in extended xyz, one structure a row.

        Returns:
            Columns `energy` (eV) and `forces` (eV/Å, a list of three numbers an atom), with the
            rows of the table.

        Raises:
            ValueError: A text is not one structure, or has elements that the model does not know.
        """
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            rows = [self._predict(i, text) for i, text in enumerate(table["structure"])]
        finally:
            torch.set_default_dtype(before)
        return pd.DataFrame(rows, index=table.index, columns=["energy", "forces"])

    def _predict(self, row: int, text: str) -> dict[str, Any]:
        atoms = _read(row, text)
        unknown = {*atoms.numbers.tolist()} - {*self.calculator.z_table.zs}
        if unknown:
            symbols = sorted({x for x in atoms.symbols if Atoms(x).numbers[0] in unknown})
            raise ValueError(f"structure {row}: the model does not know {' '.join(symbols)}")
        for own, read in (("total_charge", "charge"), ("total_spin", "spin")):
            if own in atoms.info:  # its name in files for training
                atoms.info.setdefault(read, atoms.info[own])
        atoms.calc = self.calculator
        return {
            "energy": float(atoms.get_potential_energy()),
            "forces": atoms.get_forces().tolist(),
        }


def _read(row: int, text: str) -> Atoms:
    """Return the structure of a row."""
    if not isinstance(text, str):
        raise ValueError(f"structure {row} is no text; give several as the rows of a DataFrame")
    try:
        frames: Any = ase.io.read(io.StringIO(text), index=":", format="extxyz")
    except Exception as error:  # ASE raises whatever its parser meets
        raise ValueError(f"structure {row} is not extended xyz: {error}") from None
    if len(frames) != 1:
        raise ValueError(f"structure {row}: {len(frames)} structures in one text; give each a row")
    atoms: Atoms = frames[0]
    return atoms


def _load_pyfunc(path: str) -> Potential:
    """Return the model of a file, as MLflow asks for it."""
    return Potential(Path(path))
