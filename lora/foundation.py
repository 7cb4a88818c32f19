"""Foundation models: load by name or file, choose the head, fingerprint, trim, restore.

Together with `data.py` this is all that knows MACE's insides (besides the linear layers).
"""

import copy
import hashlib
import logging
import math
from pathlib import Path

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from lora._upstream import default_dtype, o3, upstream
from lora.config import UserError

log = logging.getLogger(__name__)

# short names that MACE's documentation uses, to those that its code knows
ALIASES = {
    "medium_omat": "medium-omat-0",
    "small_omat": "small-omat-0",
    "medium_mpa": "medium-mpa-0",
}
OFF_NAMES = ("small_off", "medium_off", "large_off")
# layers that read the one-hot elements, so that their weight has a row an element
ELEMENT_LINEARS = ("node_embedding.linear", "source_embedding", "target_embedding")


def load_foundation(
    name: str | Path, head: str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Load a MACE foundation model on the CPU, with one head.

    Args:
        name: a .model file, or a name that MACE knows (medium-omat-0, small, medium_off, ...)
        head: which head to keep; needed where the model has several
        dtype: convert the weights to it (default: as they are stored)

    A .model file is a pickle and runs what its author put in: open only files you trust.

    Raises UserError: no such name or file, not a MACE model, or no such head.
    """
    model = _load_file(Path(name)) if Path(name).is_file() else _load_name(str(name))
    if not (hasattr(model, "interactions") and hasattr(model, "atomic_energies_fn")):
        raise UserError(f"{name}: holds a {type(model).__name__}, not a MACE model")
    model = _choose_head(model, head, name)
    model = model.to(dtype) if dtype else model
    model.eval()
    model.base_fingerprint = fingerprint(model)
    return model


def _load_file(path: Path) -> nn.Module:
    upstream("mace.modules")  # so that the classes of the pickle are found
    log.warning("%s: a .model file is a pickle and can run code; open only those you trust", path)
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a model ({error})") from None
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{path}: holds a {type(model).__name__}, not a model; give the .model file that "
            "mace_run_train saves, not a checkpoint or a state dict"
        )
    return model


def _load_name(name: str) -> nn.Module:
    zoo = upstream("mace.calculators.foundations_models")
    known = [n for n in zoo.mace_mp_names if n] + list(OFF_NAMES) + ["mace_omol"]
    canonical = ALIASES.get(name, name)
    try:
        if canonical in OFF_NAMES:
            return zoo.mace_off(
                model=canonical.removesuffix("_off"), device="cpu", return_raw_model=True
            )
        if canonical == "mace_omol":
            return zoo.mace_omol(device="cpu", return_raw_model=True)
        if canonical in known:
            return zoo.mace_mp(model=canonical, device="cpu", return_raw_model=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"foundation.model: {name} could not be fetched ({error}); download it where there "
            "is a network and give the file"
        ) from None
    raise UserError(
        f"foundation.model: {name} is neither a file nor a name that MACE knows; "
        f"names: {', '.join([*ALIASES, *known])}"
    )


def _choose_head(model: nn.Module, head: str | None, name: str | Path) -> nn.Module:
    heads = list(getattr(model, "heads", None) or ["Default"])
    if head is not None and head not in heads:
        raise UserError(f"foundation.head: {head} is not in {name}; heads: {', '.join(heads)}")
    if len(heads) == 1:
        return model
    if head is None:
        raise UserError(
            f"foundation.head: {name} has several heads, choose one of: {', '.join(heads)}"
        )
    with default_dtype(next(model.parameters()).dtype):  # else float64 weights pass float32
        return upstream("mace.tools.scripts_utils").remove_pt_head(model, head)


def fingerprint(model: nn.Module) -> str:
    """A digest of the weights, not of the file: 16 hex digits of SHA-256.

    Floats count in float32, so that a base keeps its digest when it is converted to float64.
    E0s are left out, because fine-tuning replaces them.
    """
    digest = hashlib.sha256()
    tensors = dict(model.named_parameters())
    buffers = ("atomic_numbers", "r_max", "scale_shift.scale", "scale_shift.shift")
    tensors |= {n: b for n, b in model.named_buffers() if n in buffers}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# --- elements and their energies


def elements(model: nn.Module) -> list[int]:
    """Atomic numbers that the model knows, in its order."""
    return [int(z) for z in model.atomic_numbers]


def get_e0s(model: nn.Module) -> dict[str, float]:
    """The model's E0s (eV) by chemical symbol."""
    values = model.atomic_energies_fn.atomic_energies.reshape(-1)
    symbols = [chemical_symbols[z] for z in elements(model)]
    return dict(zip(symbols, values.tolist(), strict=True))


def set_e0s(model: nn.Module, e0s: dict[str, float]) -> None:
    """Replace the E0s (eV) of the elements given; the others keep theirs.

    Raises UserError for an element that the model does not know.
    """
    values = model.atomic_energies_fn.atomic_energies  # [1, n_elements] or [n_elements]
    known = elements(model)
    for symbol, energy in e0s.items():
        if atomic_numbers[symbol] not in known:
            raise UserError(f"E0s: the foundation model does not know the element {symbol}")
        values[..., known.index(atomic_numbers[symbol])] = energy


def trim_elements(model: nn.Module, numbers: list[int]) -> nn.Module:
    """A copy that knows only the elements `numbers`; on structures of those it computes the same.

    Every weight with a row an element keeps the rows of `numbers`, in the model's order.
    `trimmed.kept_elements` remembers them, for `restore_elements` and for adapters.

    Raises UserError for an element that the model does not know.
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
    out = copy.deepcopy(model)
    with torch.no_grad():
        for owner, name in _element_layers(out):
            old = getattr(owner, name)
            new = _with_elements(old, len(keep))
            _copy_rows(old, new, keep, every)
            setattr(owner, name, new)
        for owner, name in _element_tensors(out, len(known)):
            old = getattr(owner, name)
            setattr(owner, name, type(old)(old[keep].clone()))
        energies = out.atomic_energies_fn
        energies.atomic_energies = energies.atomic_energies[..., keep].clone()
        out.atomic_numbers = out.atomic_numbers[keep].clone()
    out.kept_elements, out.base_elements = keep, len(known)
    return out


def restore_elements(trimmed: nn.Module, full: nn.Module) -> nn.Module:
    """A copy of `full` with every weight and E0 of `trimmed` written back into it.

    The result has the architecture of `full`; elements that were trimmed away keep their rows.
    """
    keep, every = trimmed.kept_elements, list(range(len(trimmed.kept_elements)))
    out = copy.deepcopy(full)
    by_rows: set[Tensor] = set()  # parameters that hold elements, done row by row
    with torch.no_grad():
        layers = zip(_element_layers(trimmed), _element_layers(out), strict=True)
        for (owner, name), (full_owner, _) in layers:
            _copy_rows(getattr(owner, name), getattr(full_owner, name), every, keep)
            by_rows.add(getattr(full_owner, name).weight)
        tensors = zip(
            _element_tensors(trimmed, len(keep)),
            _element_tensors(out, len(elements(full))),
            strict=True,
        )
        for (owner, name), (full_owner, _) in tensors:
            getattr(full_owner, name)[keep] = getattr(owner, name)
            by_rows.add(getattr(full_owner, name))
        new_e0s = trimmed.atomic_energies_fn.atomic_energies
        out.atomic_energies_fn.atomic_energies[..., keep] = new_e0s
        source = dict(trimmed.named_parameters())
        for name, parameter in out.named_parameters():
            if parameter not in by_rows:
                parameter.copy_(source[name])
    return out


def full_rows(trimmed: nn.Module, rows: Tensor) -> Tensor:
    """Element rows [n_kept, k] of a factor of a trimmed model, as [n_full, k] of its base.

    e3nn divides a linear map by sqrt(fan-in), and here the fan-in is the number of elements.
    """
    n_full = trimmed.base_elements
    out = rows.new_zeros(n_full, rows.shape[1])
    out[trimmed.kept_elements] = rows * (n_full / rows.shape[0]) ** 0.5
    return out


def reads_elements(name: str) -> bool:
    """Whether the linear layer of this name takes the one-hot elements as input."""
    return name.endswith(ELEMENT_LINEARS)


def _element_layers(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """(owner, attribute) of each layer that takes the one-hot elements as an input."""
    found = []
    for name, layer in model.named_modules():
        tensor_product = isinstance(layer, o3.FullyConnectedTensorProduct)
        if reads_elements(name) or (name.endswith("skip_tp") and tensor_product):
            owner, _, attribute = name.rpartition(".")
            found.append((model.get_submodule(owner), attribute))
    return found


def _element_tensors(model: nn.Module, n_elements: int) -> list[tuple[nn.Module, str]]:
    """(owner, attribute) of each bare parameter with a row an element: the contractions'."""
    found: list[tuple[nn.Module, str]] = []
    for layer in model.modules():
        if not hasattr(layer, "weights_max"):
            continue
        names = [
            (layer, "weights_max"),
            *((layer.weights, str(i)) for i in range(len(layer.weights))),
        ]
        # an element-agnostic product has one row for all
        found += [
            (owner, name) for owner, name in names if getattr(owner, name).shape[0] == n_elements
        ]
    return found


def _with_elements(layer: nn.Module, n: int) -> nn.Module:
    """The same layer for n elements, weights not yet set."""
    one_hot = o3.Irreps(f"{n}x0e")
    with default_dtype(layer.weight.dtype):  # e3nn's constants are made in it
        if isinstance(layer, o3.FullyConnectedTensorProduct):
            new = o3.FullyConnectedTensorProduct(layer.irreps_in1, one_hot, layer.irreps_out)
        else:
            new = o3.Linear(one_hot, layer.irreps_out)
    return new.to(layer.weight.device)


def _copy_rows(source: nn.Module, target: nn.Module, rows: list[int], to: list[int]) -> None:
    """target[..., to, :] = source[..., rows, :], block by block of the flat weights.

    The path weights of both, 1/sqrt(fan-in), differ by the number of elements: made up for.
    """
    start_s = start_t = 0
    for ins_s, ins_t in zip(source.instructions, target.instructions, strict=True):
        size_s, size_t = math.prod(ins_s.path_shape), math.prod(ins_t.path_shape)
        block_s = source.weight[start_s : start_s + size_s].view(-1, *ins_s.path_shape[-2:])
        block_t = target.weight[start_t : start_t + size_t].view(-1, *ins_t.path_shape[-2:])
        block_t[:, to] = block_s[:, rows] * (ins_s.path_weight / ins_t.path_weight)
        start_s, start_t = start_s + size_s, start_t + size_t
