"""The weights of MACE's symmetric contraction."""

from typing import NamedTuple

from lora.mace.door import Untyped, is_cueq


class PathWeight(NamedTuple):
    """One weight of a contraction: [n_elements, n_paths, channels].

    Attributes:
        output: The index of the output irrep.
        name: The name of the parameter in MACE's module.
        n_paths: The number of paths.
        exists: False where symmetry forbids the coupling; its weight is zero.
    """

    output: int
    name: str
    n_paths: int
    exists: bool


def path_weights(contraction: Untyped) -> list[PathWeight]:
    """Return the weights of MACE's SymmetricContraction in the order in which MACE joins them.

    Args:
        contraction: MACE's module, or cuEquivariance's, which has one joint weight;
            `lora.mace.kernels.to_kernel` notes on it what that is made of.
    """
    if is_cueq(contraction):
        noted: list[PathWeight] = contraction.path_weights
        return noted
    out = []
    for k, part in enumerate(contraction.contractions):
        weights = {"weights_max": part.weights_max}
        weights |= {f"weights.{i}": weight for i, weight in enumerate(part.weights)}
        for name, weight in weights.items():
            full_name = f"contractions.{k}.{name}"
            out.append(PathWeight(k, full_name, weight.shape[1], bool(weight.any())))
    return out
