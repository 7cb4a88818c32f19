"""Irreps and parameters of any module of a MACE model, and how one replaces another."""

from torch import nn

from lora.mace.door import Untyped, o3


def irreps_of(layer: Untyped) -> tuple[o3.Irreps, o3.Irreps]:
    """Return the irreps of input and output of a layer, as e3nn's.

    Args:
        layer: A layer of e3nn or cuEquivariance.
    """
    return o3.Irreps(str(layer.irreps_in)), o3.Irreps(str(layer.irreps_out))


def shared_irreps(irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> set[o3.Irrep]:
    """Return the irreps that occur in both, which is what a linear map can connect.

    Args:
        irreps_in: The irreps of the input.
        irreps_out: The irreps of the output.
    """
    return {ir for _, ir in irreps_in} & {ir for _, ir in irreps_out}


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and of all.

    Args:
        module: Any module.
    """
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    still = sum(getattr(part, "n_still", 0) for part in module.modules())  # parts of adapters
    return trainable - still, sum(p.numel() for p in parameters)


def holds_upstream_lora(model: nn.Module) -> bool:
    """Return True for a model that MACE's own `inject_lora` was called on.

    Args:
        model: A model.
    """
    kinds = {(type(module).__module__, type(module).__name__) for module in model.modules()}
    return any(room.startswith("mace.") and name.startswith("LoRA") for room, name in kinds)


def replace_layer(root: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of another.

    Args:
        root: The model.
        name: The name of the module to replace, as in `named_modules`.
        new: What takes its place.
    """
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
