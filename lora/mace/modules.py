"""What is asked of any module of a MACE model, and how one takes the place of another."""

from typing import cast

from torch import Tensor, nn

from lora.mace.door import o3


def cutoff_of(model: nn.Module) -> Tensor:
    """Return the cutoff radius of a model (Å), a scalar in the dtype of its graphs.

    Args:
        model: A MACE model.
    """
    return cast(Tensor, model.r_max)


def irreps_of(layer: nn.Module) -> tuple[o3.Irreps, o3.Irreps]:
    """Return input and output of a linear layer as e3nn's irreps.

    Args:
        layer: A layer of e3nn or cuEquivariance.
    """
    return o3.Irreps(str(layer.irreps_in)), o3.Irreps(str(layer.irreps_out))


def shared_irreps(irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> set[o3.Irrep]:
    """Return the irreps that occur in both: what a linear map can connect.

    Args:
        irreps_in: The irreps of the input.
        irreps_out: The irreps of the output.
    """
    return {ir for _, ir in irreps_in} & {ir for _, ir in irreps_out}


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return the (trainable, total) numbers of parameters, truly counted.

    Args:
        module: Any module.
    """
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


def replace_layer(root: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of the one that has this name.

    Args:
        root: The model, which is changed in place.
        name: The name of the layer in it.
        new: What takes its place.
    """
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
