"""LoRA fine-tuning of MACE interatomic potentials."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora.adapter import load_adapter, save_adapter
    from lora.foundation import load_foundation
    from lora.inject import inject_lora, lora_layers, merge_lora_weights
    from lora.layers import LoRADenseLinear, LoRAFCLayer, LoRAO3Linear

_HOME = {
    "LoRADenseLinear": "layers",
    "LoRAFCLayer": "layers",
    "LoRAO3Linear": "layers",
    "inject_lora": "inject",
    "load_adapter": "adapter",
    "load_foundation": "foundation",
    "lora_layers": "inject",
    "merge_lora_weights": "inject",
    "save_adapter": "adapter",
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
