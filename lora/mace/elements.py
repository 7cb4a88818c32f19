"""Elements of a model: their energies, and models trimmed to some of them.

Training runs on a base that knows the elements of the data only; what was trained is written
back into the full one.  This module knows which of MACE's weights have a row for each element.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from lora.data.origin import where
from lora.errors import UserError
from lora.mace.door import Untyped, default_dtype, o3
from lora.mace.origin import noted, origin_of, pass_on

# linear layers that read the one-hot elements
ELEMENT_LINEARS = ("node_embedding.linear", "source_embedding", "target_embedding")


def elements(model: Untyped) -> list[int]:
    """Return the atomic numbers that a model knows, in its order.

    Args:
        model: A MACE model.
    """
    return [int(z) for z in model.atomic_numbers]


def check_elements(model: nn.Module, structures: Sequence[Atoms], path: str | Path) -> None:
    """Raise an error for the first frame with an element that the model does not know.

    Args:
        model: A MACE model.
        structures: The structures to look at.
        path: Their file, for the message.

    Raises:
        UserError: A frame has such an element.
    """
    known = set(elements(model))
    for i, atoms in enumerate(structures):
        unknown = sorted(set(atoms.numbers.tolist()) - known)
        if unknown:
            raise UserError(
                f"{where(atoms, path, i)}: the foundation model does not know "
                f"{chemical_symbols[unknown[0]]}; it knows "
                f"{' '.join(chemical_symbols[z] for z in sorted(known))}; take another model or "
                "remove those structures"
            )


def get_e0s(model: Untyped) -> dict[str, float]:
    """Return the E0s (eV) of the model's first head by chemical symbol.

    Args:
        model: A MACE model.
    """
    values = torch.atleast_2d(model.atomic_energies_fn.atomic_energies)[0]
    symbols = [chemical_symbols[z] for z in elements(model)]
    return dict(zip(symbols, values.tolist(), strict=True))


def set_e0s(model: Untyped, e0s: dict[str, float]) -> None:
    """Replace the E0s of the first head for some elements; the others keep theirs.

    Args:
        model: A MACE model.
        e0s: The E0s (eV) by chemical symbol.

    Raises:
        UserError: The model does not know an element.
    """
    values = torch.atleast_2d(model.atomic_energies_fn.atomic_energies)[0]  # [n_elements], a view
    known = elements(model)
    for symbol, energy in e0s.items():
        if atomic_numbers[symbol] not in known:
            raise UserError(f"E0s: the foundation model does not know the element {symbol}")
        values[known.index(atomic_numbers[symbol])] = energy


def with_e0s(model: nn.Module, numbers: list[int], e0s: dict[str, float]) -> nn.Module:
    """Return a copy that knows only some elements, with new E0s for those that have any.

    Args:
        model: A MACE model.
        numbers: The atomic numbers to keep.
        e0s: The E0s (eV) by chemical symbol; what is not kept is passed over.

    Raises:
        UserError: The model does not know an element.
    """
    made = trim_elements(model, numbers)
    set_e0s(made, {x: energy for x, energy in e0s.items() if x in get_e0s(made)})
    return made


def trim_elements(model: nn.Module, numbers: list[int]) -> nn.Module:
    """Return a copy that knows only the elements `numbers`, and computes the same on those.

    Every weight with a row for each element keeps the rows of `numbers`, in the model's order.
    They are noted on the copy (`lora.mace.origin`), for `restore_elements` and for adapters.

    Args:
        model: A MACE model.
        numbers: The atomic numbers to keep.

    Raises:
        UserError: The model does not know an element.
    """
    known = elements(model)
    unknown = [chemical_symbols[z] for z in numbers if z not in known]
    if unknown:
        raise UserError(
            f"element {', '.join(unknown)}: the foundation model does not know it; it knows "
            f"{' '.join(chemical_symbols[z] for z in known)}"
        )
    keep = [i for i, z in enumerate(known) if z in numbers]
    every = list(range(len(keep)))
    out: Untyped = copy.deepcopy(model)
    with torch.no_grad():
        for owner, name in _element_layers(out):
            old = getattr(owner, name)
            new = _with_elements(old, len(keep))
            _copy_rows(old, new, keep, every)
            setattr(owner, name, new)
        for owner, name in _element_tensors(out):
            old = getattr(owner, name)
            setattr(owner, name, type(old)(old[keep].clone()))
        energies = out.atomic_energies_fn
        energies.atomic_energies = energies.atomic_energies[..., keep].clone()
        out.atomic_numbers = out.atomic_numbers[keep].clone()
    origin = origin_of(model)
    kept = tuple(origin.kept[i] for i in keep) if origin.kept else tuple(keep)
    pass_on(origin, out, kept=kept, n_elements=origin.n_elements or len(known))
    trimmed: nn.Module = out
    return trimmed


def restore_elements(trimmed: Untyped, full: nn.Module) -> nn.Module:
    """Return a copy of `full` with every weight and E0 of `trimmed` written back into it.

    The result has the architecture of `full`; elements that were trimmed away keep their rows.

    Args:
        trimmed: What `trim_elements` returned, trained or not.
        full: The base that it was made from.

    Raises:
        ValueError: It was not trimmed in this process.
    """
    origin = noted(trimmed)
    if origin is None or not origin.kept:
        raise ValueError("the model was not trimmed by trim_elements in this process")
    keep, every = list(origin.kept), list(range(len(origin.kept)))
    out: Untyped = copy.deepcopy(full)
    by_rows: set[Tensor] = set()  # parameters that hold elements, done row by row
    with torch.no_grad():
        layers = zip(_element_layers(trimmed), _element_layers(out), strict=True)
        for (owner, name), (full_owner, _) in layers:
            _copy_rows(getattr(owner, name), getattr(full_owner, name), every, keep)
            by_rows.add(getattr(full_owner, name).weight)
        tensors = zip(_element_tensors(trimmed), _element_tensors(out), strict=True)
        for (owner, name), (full_owner, _) in tensors:
            getattr(full_owner, name)[keep] = getattr(owner, name)
            by_rows.add(getattr(full_owner, name))
        new_e0s = trimmed.atomic_energies_fn.atomic_energies
        out.atomic_energies_fn.atomic_energies[..., keep] = new_e0s
        source = dict(trimmed.named_parameters())
        for name, parameter in out.named_parameters():
            if parameter not in by_rows:
                parameter.copy_(source[name])
    restored: nn.Module = out
    return restored


def is_agnostic(model: nn.Module, name: str) -> bool:
    """Return True if the product with a contraction has one weight for all elements.

    Args:
        model: A MACE model.
        name: The name of the contraction.
    """
    product = model.get_submodule(name.rpartition(".")[0])
    return getattr(product, "use_agnostic_product", False)


def _element_layers(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return (owner, attribute) of each layer that takes the one-hot elements as an input."""
    found = []
    for name, layer in model.named_modules():
        tensor_product = isinstance(layer, o3.FullyConnectedTensorProduct)
        if name.endswith(ELEMENT_LINEARS) or (name.endswith("skip_tp") and tensor_product):
            owner, _, attribute = name.rpartition(".")
            found.append((model.get_submodule(owner), attribute))
    return found


def _element_tensors(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return (owner, attribute) of each parameter of a contraction, which has a row an element."""
    found: list[tuple[nn.Module, str]] = []
    modules: Iterable[tuple[str, Untyped]] = model.named_modules()
    for name, layer in modules:
        if name.endswith("symmetric_contractions") and not is_agnostic(model, name):
            for part in layer.contractions:
                found.append((part, "weights_max"))
                found += [(part.weights, str(i)) for i in range(len(part.weights))]
    return found


def _with_elements(layer: Untyped, n: int) -> nn.Module:
    """Return the same layer for n elements, weights not yet set."""
    one_hot = o3.Irreps(f"{n}x0e")
    with default_dtype(layer.weight.dtype):  # e3nn's constants are made in it
        if isinstance(layer, o3.FullyConnectedTensorProduct):
            new = o3.FullyConnectedTensorProduct(layer.irreps_in1, one_hot, layer.irreps_out)
        else:
            new = o3.Linear(one_hot, layer.irreps_out)
    made: nn.Module = new.to(layer.weight.device)
    return made


def _copy_rows(source: Untyped, target: Untyped, rows: list[int], to: list[int]) -> None:
    """Set target[..., to, :] to source[..., rows, :], block by block of the flat weights.

    The path weights of both, 1/sqrt(fan-in), differ by the number of elements, which is corrected.
    """
    start_s = start_t = 0
    for ins_s, ins_t in zip(source.instructions, target.instructions, strict=True):
        size_s, size_t = math.prod(ins_s.path_shape), math.prod(ins_t.path_shape)
        block_s = source.weight[start_s : start_s + size_s].view(-1, *ins_s.path_shape[-2:])
        block_t = target.weight[start_t : start_t + size_t].view(-1, *ins_t.path_shape[-2:])
        block_t[:, to] = block_s[:, rows] * (ins_s.path_weight / ins_t.path_weight)
        start_s, start_t = start_s + size_s, start_t + size_t
