"""LoRA fine-tuning of MACE interatomic potentials."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora.adapters.inject import (
        inject_lora,
        lora_layers,
        merge_lora_weights,
        unload_lora,
    )
    from lora.adapters.lora import LoRADenseLinear, LoRAFCLayer, LoRAO3Linear
    from lora.adapters.saved import load_adapter, save_adapter
    from lora.mace.foundation import load_foundation

_HOME = {
    "LoRADenseLinear": "adapters.lora",
    "LoRAFCLayer": "adapters.lora",
    "LoRAO3Linear": "adapters.lora",
    "inject_lora": "adapters.inject",
    "load_adapter": "adapters.saved",
    "load_foundation": "mace.foundation",
    "lora_layers": "adapters.inject",
    "merge_lora_weights": "adapters.inject",
    "save_adapter": "adapters.saved",
    "unload_lora": "adapters.inject",
}
__all__ = [
    "LoRADenseLinear",
    "LoRAFCLayer",
    "LoRAO3Linear",
    "__version__",
    "inject_lora",
    "load_adapter",
    "load_foundation",
    "lora_layers",
    "merge_lora_weights",
    "save_adapter",
    "unload_lora",
]

try:
    __version__ = version("mace-lora-sweep")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """Import a public name on first use: torch costs seconds, and most commands do not need it."""
    if name not in _HOME:
        raise AttributeError(f"module 'lora' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lora.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, imported yet or not."""
    return __all__
