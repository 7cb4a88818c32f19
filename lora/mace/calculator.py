"""MACE's own calculator in ASE, and the model that it runs."""

from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator

from lora.mace.door import Untyped, upstream

NAMES = {"total_charge": "charge", "total_spin": "spin"}  # in files, and in MACE's calculator


def with_both_names(atoms: Atoms) -> Atoms:
    """Return a structure whose total charge and spin have the names of files and of the calculator.

    Args:
        atoms: The structure, which stays as it is; of two that differ each keeps its own.
    """
    pairs = [*NAMES.items(), *((b, a) for a, b in NAMES.items())]
    missing = {a: atoms.info[b] for a, b in pairs if b in atoms.info and a not in atoms.info}
    if not missing:
        return atoms
    out: Atoms = atoms.copy()
    out.info |= missing
    return out


def mace_calculator(
    model: str | Path, device: str = "cpu", default_dtype: str = "", head: str | None = None
) -> tuple[Calculator, Untyped]:
    """Return MACE's calculator of a model, and the model in it.

    Args:
        model: The .model file.
        device: The device: cpu or cuda.
        default_dtype: float32 or float64; "" means that of the model.
        head: The head; None is for models with one.
    """
    chosen = {"head": head} if head else {}
    made = upstream("mace.calculators").MACECalculator(
        str(model), device=device, default_dtype=default_dtype, **chosen
    )
    return made, made.models[0]
