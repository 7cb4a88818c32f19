"""Put LoRA layers into a model, and merge them back."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from torch import nn

from lora.adapters.layer import LoRALayer
from lora.adapters.linear import LoRADenseLinear, LoRAFCLayer, LoRAO3Linear
from lora.adapters.products import LoRAContraction, LoRASkipTP
from lora.errors import UserError
from lora.mace.door import FCLayer, is_cueq, o3
from lora.mace.modules import count_parameters, irreps_of, replace_layer, shared_irreps
from lora.plan.settings import Targets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Injection:
    """How a model was injected; kept on the model as `model.lora_injection`."""

    rank: int
    alpha: float
    scaling: str
    targets: Targets
    wrap_equivariant: bool = True
    wrap_dense: bool = True


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
        module: a MACE model, or any module with `o3.Linear`, `cuet.Linear`, `nn.Linear` or e3nn
            FC layers
        rank: of A and B
        alpha: the update is scaled by alpha/rank (see `scaling`)
        wrap_equivariant: wrap `o3.Linear` and `cuet.Linear`
        wrap_dense: wrap `nn.Linear` and the layers of `FullyConnectedNet`
        cueq_config: MACE's cuEquivariance settings; where they are enabled the model has to run
            on cuEquivariance already (`lora.mace.kernels.to_kernel`): nothing is dropped later
        scaling: "mace" (e3nn's path weights included) or "rank_stable" (alpha/sqrt(rank))
        targets: which layers and irreps, products or not, and ranks and alphas of single layers

    Returns: the names of the wrapped layers, sorted.

    Raises:
        ValueError: the model is injected already, or nothing in it can be wrapped.
        UserError: a pattern of the targets matches no layer; the message lists the layers.
    """
    if getattr(cueq_config, "enabled", False) and not any(map(is_cueq, module.modules())):
        raise ValueError(
            "cueq_config is enabled, but the model has no layer of cuEquivariance: convert it "
            "first (lora.mace.kernels.to_kernel), then inject; adapters are the same for both "
            "kernels"
        )
    if dict(lora_layers(module)):
        raise ValueError("the model holds LoRA layers already: merge them first")
    chosen = targets if isinstance(targets, Targets) else Targets.from_dict(targets or {})
    before = count_parameters(module)

    candidates = _candidates(module, wrap_equivariant, wrap_dense, chosen)
    if not candidates:
        raise ValueError("nothing to wrap: no o3.Linear, nn.Linear or e3nn FC layer was found")
    chosen.check(candidates)
    wanted = {o3.Irrep(ir) for ir in chosen.irreps}
    wrapped = sorted(
        name
        for name, (_, irreps) in candidates.items()
        if chosen.chosen(name) and (not wanted or irreps & wanted)
    )
    if not wrapped:
        raise UserError("targets: exclude and irreps leave no layer to wrap")
    for name in [name for name in candidates if name in wrapped]:  # in the model's order
        wrapper, _ = candidates[name]
        own = {"rank": chosen.rank_of(name, rank), "alpha": chosen.alpha_of(name, alpha)}
        only = {"irreps": chosen.irreps} if wrapper not in DENSE else {}
        layer = wrapper(module.get_submodule(name), **own, scaling=scaling, **only)
        replace_layer(module, name, layer)
    train_adapters_only(module)
    module.lora_injection = Injection(rank, alpha, scaling, chosen, wrap_equivariant, wrap_dense)

    after = count_parameters(module)
    log.info(
        "LoRA rank %d, alpha %g, scaling %s: %d layers wrapped; trainable parameters %d of %d "
        "before, %d of %d after",
        *(rank, alpha, scaling, len(wrapped), *before, *after),
    )
    return wrapped


DENSE = (LoRADenseLinear, LoRAFCLayer)
Candidates = dict[str, tuple[type[LoRALayer], set[o3.Irrep]]]


def _candidates(module: nn.Module, equivariant: bool, dense: bool, targets: Targets) -> Candidates:
    """The layers that can be wrapped: by what, and the irreps an adapter of them can have."""
    found: Candidates = {}
    for name, child in module.named_modules():
        kind = type(child).__name__  # of e3nn or cuEquivariance
        if isinstance(child, nn.Linear):
            if dense:
                found[name] = LoRADenseLinear, {o3.Irrep("0e")}
        elif isinstance(child, FCLayer):
            if dense:
                found[name] = LoRAFCLayer, {o3.Irrep("0e")}
        elif kind == "Linear" and (is_cueq(child) or isinstance(child, o3.Linear)):
            shared = shared_irreps(*irreps_of(child))
            if equivariant and child.internal_weights and child.weight_numel and shared:
                found[name] = LoRAO3Linear, shared
        elif kind == "FullyConnectedTensorProduct" and targets.skip_tp:
            found[name] = LoRASkipTP, {ir for _, ir in o3.Irreps(str(child.irreps_out))}
        elif kind == "SymmetricContraction" and targets.symmetric_contraction:
            found[name] = LoRAContraction, {ir for _, ir in o3.Irreps(str(child.irreps_out))}
    return found


def train_adapters_only(module: nn.Module) -> None:
    """Let A and B of every layer ask for a gradient, and nothing else."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.endswith(("lora_A", "lora_B")))


def merge_lora_weights(model: nn.Module, inplace: bool = True) -> nn.Module:
    """Write every adapter into its base layer and take the wrappers away.

    Returns the model with its original architecture (the same object if `inplace`, else a
    merged copy), all parameters trainable again.

    Raises ValueError while adapters are switched off: nothing would be merged.
    """
    if not all(layer.enabled for _, layer in lora_layers(model)):
        raise ValueError("the adapters are disabled: merge outside of `with disabled(model)`")
    if not inplace:
        model = copy.deepcopy(model)
    for layer in take_adapters(model).values():
        layer.merge()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def take_adapters(model: nn.Module) -> dict[str, LoRALayer]:
    """Take the LoRA layers off a model, which is its base again, and return them by name."""
    layers = dict(lora_layers(model))
    for name, layer in layers.items():
        replace_layer(model, name, layer.base)
    if hasattr(model, "lora_injection"):
        del model.lora_injection
    return layers


def lora_layers(module: nn.Module) -> Iterator[tuple[str, LoRALayer]]:
    """The LoRA layers of a model with their names, in the model's order."""
    for name, child in module.named_modules():
        if isinstance(child, LoRALayer):
            yield name, child


def injection_settings(module: nn.Module) -> dict[str, object]:
    """The settings of `inject_lora` as keyword arguments that would repeat it."""
    injection = getattr(module, "lora_injection", None)
    if injection is None:
        raise ValueError("the model holds no LoRA layers: call inject_lora first")
    return asdict(injection)
