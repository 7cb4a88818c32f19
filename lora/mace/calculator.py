"""MACE's own calculator in ASE, and the model that it runs."""

from pathlib import Path

from ase.calculators.calculator import Calculator

from lora.mace.door import Untyped, upstream


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
