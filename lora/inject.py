"""Put LoRA layers into a model, and merge them back."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from torch import nn

from lora._upstream import FCLayer, o3
from lora.config import Targets, UserError
from lora.layers import LoRADenseLinear, LoRAFCLayer, LoRALayer, LoRAO3Linear, shared_irreps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Injection:
    """How a model was injected; kept on the model as `model.lora_injection`."""

    rank: int
    alpha: float
    scaling: str
    wrap_equivariant: bool
    wrap_dense: bool
    targets: Targets


def inject_lora(
    module: nn.Module,
    rank: int = 4,
    alpha: float = 1.0,
    wrap_equivariant: bool = True,
    wrap_dense: bool = True,
    cueq_config: object | None = None,
    *,
    scaling: str = "mace",
    targets: Targets | dict | None = None,
) -> list[str]:
    """Wrap the linear layers of a model in place, and freeze all else.

    Args:
        module: a MACE model, or any module that holds `o3.Linear`, `nn.Linear` or e3nn FC layers
        rank: of A and B
        alpha: the update is scaled by alpha/rank (see `scaling`)
        wrap_equivariant: wrap `o3.Linear`
        wrap_dense: wrap `nn.Linear` and the layers of `FullyConnectedNet`
        cueq_config: cuEquivariance settings of the model; enabled ones are refused for now
        scaling: "mace" (e3nn's path weights included) or "rank_stable" (alpha/sqrt(rank))
        targets: which layers and irreps, and ranks and alphas of single layers; default all

    Returns: the names of the wrapped layers, sorted.

    Raises:
        ValueError: the model is injected already, or nothing in it can be wrapped.
        UserError: a pattern of the targets matches no layer; the message lists the layers.
    """
    if getattr(cueq_config, "enabled", False):
        raise ValueError(
            "cueq_config is enabled: adapters live in the e3nn layout, convert the model to "
            "e3nn first (mace.cli.convert_cueq_e3nn)"
        )
    if dict(lora_layers(module)):
        raise ValueError("the model holds LoRA layers already: merge them first")
    chosen = targets if isinstance(targets, Targets) else Targets.from_dict(targets or {})
    before = count_parameters(module)

    candidates = _candidates(module, wrap_equivariant, wrap_dense, chosen.irreps)
    if not candidates:
        raise ValueError("nothing to wrap: no o3.Linear, nn.Linear or e3nn FC layer was found")
    _check_patterns(chosen, list(_candidates(module, wrap_equivariant, wrap_dense, ())))
    wrapped = sorted(name for name in candidates if chosen.chosen(name))
    if not wrapped:
        raise UserError("targets: exclude leaves no layer to wrap")
    for name, wrapper in candidates.items():
        if name in wrapped:
            own = {"rank": chosen.rank_of(name, rank), "alpha": chosen.alpha_of(name, alpha)}
            only = {"irreps": chosen.irreps} if wrapper is LoRAO3Linear else {}
            layer = wrapper(module.get_submodule(name), **own, scaling=scaling, **only)
            replace_layer(module, name, layer)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.endswith(("lora_A", "lora_B")))
    module.lora_injection = Injection(rank, alpha, scaling, wrap_equivariant, wrap_dense, chosen)

    after = count_parameters(module)
    log.info(
        "LoRA rank %d, alpha %g, scaling %s: %d layers wrapped; trainable parameters %d of %d "
        "before, %d of %d after",
        *(rank, alpha, scaling, len(wrapped), *before, *after),
    )
    return wrapped


def _candidates(
    module: nn.Module, equivariant: bool, dense: bool, irreps: tuple[str, ...]
) -> dict[str, type[LoRALayer]]:
    """The layers that can be wrapped, and by what."""
    wanted = {o3.Irrep(ir) for ir in irreps}
    found: dict[str, type[LoRALayer]] = {}
    for name, child in module.named_modules():
        if isinstance(child, o3.Linear):
            shared = shared_irreps(child.irreps_in, child.irreps_out)
            shared = shared & wanted if wanted else shared
            if equivariant and child.internal_weights and child.weight_numel and shared:
                found[name] = LoRAO3Linear
        elif dense and (not wanted or o3.Irrep("0e") in wanted):
            if isinstance(child, nn.Linear):
                found[name] = LoRADenseLinear
            elif isinstance(child, FCLayer):
                found[name] = LoRAFCLayer
    return found


def _check_patterns(targets: Targets, names: list[str]) -> None:
    for pattern in targets.patterns():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"targets: {pattern!r} matches no layer; layers: {', '.join(names)}")


def merge_lora_weights(model: nn.Module, inplace: bool = True) -> nn.Module:
    """Write every adapter into its base layer and take the wrappers away.

    Returns the model with its original architecture (the same object if `inplace`, else a
    merged copy), all parameters trainable again.
    """
    if not inplace:
        model = copy.deepcopy(model)
    for name, layer in list(lora_layers(model)):
        replace_layer(model, name, layer.merge())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if hasattr(model, "lora_injection"):
        del model.lora_injection
    return model


def lora_layers(module: nn.Module) -> Iterator[tuple[str, LoRALayer]]:
    """The LoRA layers of a model with their names, in the model's order."""
    for name, child in module.named_modules():
        if isinstance(child, LoRALayer):
            yield name, child


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(trainable, total) numbers of parameters, truly counted."""
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


def injection_settings(module: nn.Module) -> dict[str, object]:
    """The settings of `inject_lora` as keyword arguments that would repeat it."""
    injection = getattr(module, "lora_injection", None)
    if injection is None:
        raise ValueError("the model holds no LoRA layers: call inject_lora first")
    return asdict(injection)


def replace_layer(root: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of the one that has this name."""
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
