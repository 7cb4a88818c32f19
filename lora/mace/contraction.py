"""The weights of MACE's symmetric contraction."""

from typing import NamedTuple, cast

from torch import Tensor, nn

from lora.mace.door import is_cueq


class PathWeight(NamedTuple):
    """One weight of a contraction: [n_elements, n_paths, channels]."""

    output: int  # which output irrep
    name: str  # in e3nn's module
    n_paths: int
    exists: bool  # a coupling that symmetry forbids has a weight too, of zeros


def path_weights(contraction: nn.Module) -> list[PathWeight]:
    """Return the weights of MACE's SymmetricContraction in the order in which MACE joins them.

    cuEquivariance's has one joint weight; `lora.mace.kernels.to_kernel` notes on it what that is
    made of.

    Args:
        contraction: A symmetric contraction of MACE, or of cuEquivariance as `to_kernel` leaves it.

    Returns:
        A row for each weight, [n_elements, n_paths, channels].
    """
    if is_cueq(contraction):
        return cast(list[PathWeight], contraction.path_weights)
    out = []
    for k, part in enumerate(cast(nn.ModuleList, contraction.contractions)):
        others = cast(nn.ParameterList, part.weights)
        weights = {"weights_max": cast(Tensor, part.weights_max)}
        weights |= {f"weights.{i}": weight for i, weight in enumerate(others)}
        for name, weight in weights.items():
            full_name = f"contractions.{k}.{name}"
            out.append(PathWeight(k, full_name, weight.shape[1], bool(weight.any())))
    return out
