"""Total charge and spin of structures, and the models that know them."""

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from lora.data.labels import CHARGE, SPIN
from lora.data.origin import where
from lora.errors import UserError
from lora.mace.door import Untyped

# what MACE's graphs assume where a structure does not say it, and its name in words
CONDITIONS = {CHARGE: (0.0, "total charge"), SPIN: (1.0, "spin multiplicity")}


def known_conditions(model: Untyped) -> dict[str, dict[str, Any]]:
    """Return what a model knows beside the atoms, {CHARGE or SPIN: MACE's specification}.

    Args:
        model: A MACE model; {} of most.
    """
    specs = getattr(model, "embedding_specs", None) if hasattr(model, "joint_embedding") else None
    return {key: spec for key, spec in (specs or {}).items() if key in CONDITIONS}


def check_conditions(model: Untyped, structures: Sequence[Atoms]) -> None:
    """Refuse a charge or spin for which a model has no class.

    Args:
        model: A MACE model.
        structures: The structures.

    Raises:
        UserError: The first structure with such a value, and the values that the model knows.
    """
    for key, spec in known_conditions(model).items():
        if spec["type"] != "categorical":
            continue
        low = -int(spec.get("offset", 0))
        high = low + int(spec["num_classes"]) - 1
        default, name = CONDITIONS[key]
        for i, atoms in enumerate(structures):
            value = float(atoms.info.get(key, default))
            if not (value.is_integer() and low <= value <= high):
                raise UserError(
                    f"{where(atoms, 'structures', i)}: the {name} ({key}) is {value:g}; the model "
                    f"knows whole numbers from {low} to {high}"
                )


def say_conditions(model: Untyped, structures: Sequence[Atoms]) -> list[str]:
    """Return which charges and spins are assumed, and which the model does not use, a line each.

    Args:
        model: A MACE model.
        structures: The structures.
    """
    known, lines = known_conditions(model), []
    for key, (default, name) in CONDITIONS.items():
        if key in known:
            n = sum(key not in atoms.info for atoms in structures)
            if n:
                lines.append(
                    f"{n} of {len(structures)} structures have no {name} (data.{key}_key), which "
                    f"the model uses: {default:g} is assumed"
                )
        elif n := sum(atoms.info.get(key, default) != default for atoms in structures):
            lines.append(
                f"the model does not know the {name}: that of {n} of {len(structures)} structures "
                f"(data.{key}_key), other than {default:g}, is not used"
            )
    return lines
