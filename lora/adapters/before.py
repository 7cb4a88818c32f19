"""What a base was before adapters came, beside its frozen weights, so that they can go again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from lora.errors import UserError
from lora.mace.door import Untyped, is_cueq

NOTE = "lora_before"


@dataclass(frozen=True)
class Before:
    """What injection and training may change of a base; kept on the model as `lora_before`.

    Attributes:
        asked: Whether each parameter asked for a gradient.
        e0s: The E0s of all heads (eV), None where a model has none.
        weights: The weights of the modules that train as a whole (`modules_to_save`), by name.
    """

    asked: dict[str, bool]
    e0s: Tensor | None
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, model: Untyped, modules: list[str]) -> "Before":
        """Look at a model that has no adapters.

        Args:
            model: The model.
            modules: The names of the modules that will train as a whole.
        """
        named = dict(model.named_parameters())
        saved = {n: p.detach().clone() for n, p in named.items() if inside(n, modules)}
        block = getattr(model, "atomic_energies_fn", None)
        e0s = None if block is None else block.atomic_energies.detach().clone()
        return cls({name: p.requires_grad for name, p in named.items()}, e0s, saved)

    @torch.no_grad()
    def put_back(self, model: Untyped) -> None:
        """Make a model what it was, once its adapters are off.

        Args:
            model: The model that this was made of.
        """
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.asked.get(name, True))
            if name in self.weights:
                parameter.copy_(self.weights[name])
        if self.e0s is not None:
            model.atomic_energies_fn.atomic_energies.copy_(self.e0s)


def before(model: nn.Module) -> Before:
    """Return what was kept of the base of a model with adapters.

    Args:
        model: A model; one that has no such note, as in a pack, has no modules to save either.
    """
    found: Before | None = getattr(model, NOTE, None)
    return found or Before({}, None, {})


def modules_to_save(model: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Return the modules that train as a whole: those that match, none of them in another.

    Args:
        model: A model without adapters.
        patterns: Globs over names of modules, for example "readouts" or "readouts.*".

    Raises:
        UserError: A pattern matches no module with weights; the message lists the modules.
        ValueError: A module is on cuEquivariance, which stores weights in another layout.
    """
    weighty = {
        name: module
        for name, module in model.named_modules()
        if name and any(p.numel() for p in module.parameters())
    }
    found: list[str] = []
    for pattern in patterns:
        matching = [name for name in weighty if fnmatchcase(name, pattern)]
        if not matching:
            raise UserError(
                f"modules_to_save: {pattern!r} matches no module with weights; modules: "
                f"{', '.join(weighty)}"
            )
        found += matching
    for name in found:
        if any(map(is_cueq, weighty[name].modules())):
            raise ValueError(
                f"modules_to_save: {name} runs on cuEquivariance, which stores weights in another "
                "layout; inject the e3nn model"
            )
    names = list(dict.fromkeys(found))
    return [x for x in names if not any(inside(x, [y]) for y in names if y != x)]


def inside(name: str, modules: list[str]) -> bool:
    """Return True for the name of a module or weight that is one of some modules, or in one.

    Args:
        name: The name.
        modules: Names of modules.
    """
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@contextmanager
def base_weights(model: nn.Module) -> Iterator[None]:
    """Put the base's own weights into the modules that train as a whole, inside the block.

    Args:
        model: A model with adapters.
    """
    trained = {name: model.get_parameter(name) for name in before(model).weights}
    values = {name: parameter.detach().clone() for name, parameter in trained.items()}

    @torch.no_grad()
    def put(weights: dict[str, Tensor]) -> None:
        for name, parameter in trained.items():
            parameter.copy_(weights[name])

    put(before(model).weights)
    try:
        yield
    finally:
        put(values)
