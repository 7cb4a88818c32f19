"""LoRA fine-tuning of MACE interatomic potentials."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora.adapters.inject import inject_lora, lora_layers, merge_lora_weights
    from lora.adapters.linear import LoRADenseLinear, LoRAFCLayer, LoRAO3Linear
    from lora.adapters.saved import load_adapter, save_adapter
    from lora.mace.foundation import load_foundation

_HOME = {
    "LoRADenseLinear": "adapters.linear",
    "LoRAFCLayer": "adapters.linear",
    "LoRAO3Linear": "adapters.linear",
    "inject_lora": "adapters.inject",
    "load_adapter": "adapters.saved",
    "load_foundation": "mace.foundation",
    "lora_layers": "adapters.inject",
    "merge_lora_weights": "adapters.inject",
    "save_adapter": "adapters.saved",
}
__all__ = [
    "LoRADenseLinear",
    "LoRAFCLayer",
    "LoRAO3Linear",
    "inject_lora",
    "load_adapter",
    "load_foundation",
    "lora_layers",
    "merge_lora_weights",
    "save_adapter",
]


def __getattr__(name: str) -> object:
    """Import on first use: torch costs seconds, and most commands do not need it."""
    if name not in _HOME:
        raise AttributeError(f"module 'lora' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lora.{_HOME[name]}"), name)
