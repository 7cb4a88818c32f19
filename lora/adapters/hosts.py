"""The five hosts: which layers of a model can have an adapter."""

from torch import nn

from lora.adapters.host import Host
from lora.adapters.linear import DenseHost, FCHost, O3Host
from lora.adapters.products import ContractionHost, SkipHost

HOSTS: tuple[type[Host], ...] = (DenseHost, FCHost, O3Host, SkipHost, ContractionHost)


def host_class(module: nn.Module) -> type[Host] | None:
    """Return the class of the host for a layer, None if there is none.

    Args:
        module: Any module of a model.
    """
    return next((host for host in HOSTS if host.takes(module)), None)


def host_of(base: nn.Module, irreps: tuple[str, ...] = ()) -> Host:
    """Return the host of a layer.

    Args:
        base: The layer.
        irreps: The irreps to adapt; an empty tuple means all.

    Raises:
        ValueError: No host takes such a layer, or it has none of the irreps.
    """
    found = host_class(base)
    if found is None:
        raise ValueError(f"{type(base).__name__}: is not a layer that can have an adapter")
    return found(base, irreps)
