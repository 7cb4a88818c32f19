"""Put adapters into a model, and merge them back."""

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from lora.adapters import sound
from lora.adapters.before import NOTE as BEFORE
from lora.adapters.before import Before, before, inside, modules_to_save
from lora.adapters.host import Host
from lora.adapters.hosts import host_class
from lora.adapters.kinds import KINDS
from lora.adapters.layer import Adapter
from lora.errors import UserError
from lora.mace.door import is_cueq, o3
from lora.mace.elements import ELEMENT_LINEARS
from lora.mace.modules import count_parameters, holds_upstream_lora, replace_layer
from lora.mace.origin import NOTE, note, origin_of
from lora.plan.targets import Targets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Injection:
    """How a model is injected; kept on the model as `model.lora_injection`.

    Attributes:
        rank: The rank of the adapters.
        alpha: The numerator of their scaling.
        scaling: The name of the scaling; see `Adapter.scale`.
        targets: The layers and irreps, products or not, ranks and alphas of single layers, and
            the modules that train as a whole.
        wrap_equivariant: Whether `o3.Linear` and `cuet.Linear` are adapted.
        wrap_dense: Whether `nn.Linear` and the layers of `FullyConnectedNet` are adapted.
        kind: The kind of adapter, a row of `lora/adapters/kinds.py`.
        start: The start of the factors, a name of `lora.catalogue.methods.STARTS`.
    """

    rank: int = 4
    alpha: float = 1.0
    scaling: str = "mace"
    targets: Targets = Targets()
    wrap_equivariant: bool = True
    wrap_dense: bool = True
    kind: str = "lora"
    start: str = "documented"

    def switched_on(self, host: type[Host]) -> bool:
        """Return True if layers of a host are to be adapted.

        Args:
            host: The class of the host.
        """
        switches = {
            "equivariant": self.wrap_equivariant,
            "dense": self.wrap_dense,
            "skip_tp": self.targets.skip_tp,
            "symmetric_contraction": self.targets.symmetric_contraction,
        }
        return switches[host.switch]


class Extras(TypedDict, total=False):
    """What `inject_lora` takes beyond the parameters of upstream's function of that name."""

    scaling: str
    targets: Targets | Mapping[str, Any] | None
    kind: str
    start: str
    modules_to_save: Iterable[str]


def inject_lora(
    module: nn.Module,
    rank: int = 4,
    alpha: float = 1.0,
    wrap_equivariant: bool = True,
    wrap_dense: bool = True,
    cueq_config: object | None = None,
    **extras: Unpack[Extras],
) -> list[str]:
    """Wrap the linear layers of a model in place, and freeze all else.

    A layer computes y = W x + (alpha/r) B(A(x)), see `lora.adapters.lora`; it starts as the base,
    with B = 0.  `merge_lora_weights` makes it part of the base, `unload_lora` takes it off again.
    The adapter belongs to the base whose weights are there now, whatever file they came from.

    Args:
        module: A MACE model, or any module with `o3.Linear`, `cuet.Linear`, `nn.Linear` or e3nn
            FC layers.
        rank: The rank of A and B. What is above the rank that a layer can have is warned of.
        alpha: The numerator of the scaling, above 0; the update is scaled by alpha/rank.
        wrap_equivariant: Whether to wrap `o3.Linear` and `cuet.Linear`.
        wrap_dense: Whether to wrap `nn.Linear` and the layers of `FullyConnectedNet`.
        cueq_config: MACE's cuEquivariance settings. Where they are enabled, the model has to run
            on cuEquivariance already (`lora.mace.kernels.to_kernel`).
        **extras: `scaling`, "mace" (with e3nn's path weights) or "rank_stable" (alpha/sqrt(rank));
            `targets`, the layers and irreps, products or not, and ranks and alphas of single
            layers; `kind`, the kind of adapter; `start`, "documented" (A at N(0, 1e-3)),
            "upstream" (N(0, 1) for equivariant layers) or "pissa" (the weights' singular vectors);
            `modules_to_save`, globs over names of modules that train as a whole and are saved,
            loaded, merged and unloaded with the adapter; no layer in them is wrapped.

    Returns:
        The names of the wrapped layers, sorted.

    Raises:
        ValueError: The model is injected already, nothing in it can be wrapped, or a setting is
            not allowed.
        UserError: A pattern matches no layer or module; the message lists them.
    """
    if getattr(cueq_config, "enabled", False) and not any(map(is_cueq, module.modules())):
        raise ValueError(
            "cueq_config is enabled, but the model has no layer of cuEquivariance: convert it "
            "first (lora.mace.kernels.to_kernel), then inject; adapters fit both kernels"
        )
    sound.check_extras(extras, ("rank", "alpha", *Extras.__annotations__))
    given = extras.get("targets")
    targets = given if isinstance(given, Targets) else Targets.from_dict(given or {})
    if "modules_to_save" in extras:
        more = extras["modules_to_save"]
        more = (more,) if isinstance(more, str) else tuple(more)
        targets = replace(targets, modules_to_save=targets.modules_to_save + more)
    scaling, kind = extras.get("scaling", "mace"), extras.get("kind", "lora")
    start = sound.checked_start(extras.get("start", "documented"))
    own = (rank, alpha, scaling, targets, wrap_equivariant, wrap_dense, kind, start)
    wrapped = inject(module, Injection(*own))
    sound.say_idle_ranks(ranks(module))
    return wrapped


def inject(module: nn.Module, how: Injection) -> list[str]:
    """Put adapters into a model in place, and freeze all else.

    Args:
        module: As for `inject_lora`.
        how: The settings; they are kept on the model.

    Returns:
        The names of the wrapped layers, sorted.

    Raises:
        ValueError: As for `inject_lora`.
        UserError: As for `inject_lora`.
    """
    sound.check_model(module)
    if how.kind not in list(KINDS):
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {how.kind!r}")
    sound.check_settings(how.rank, how.alpha, how.scaling)
    if dict(lora_layers(module)):
        raise ValueError("the model holds LoRA layers already: merge or unload them first")
    if holds_upstream_lora(module):
        raise ValueError("the model holds LoRA layers of MACE's own: merge them first with MACE")
    counted, origin = count_parameters(module), origin_of(module)
    hosts = _hosts(module, how)
    if not hosts:
        raise ValueError("nothing to wrap: no o3.Linear, nn.Linear or e3nn FC layer was found")
    how.targets.check(hosts)
    whole = modules_to_save(module, how.targets.modules_to_save)
    hosts = {name: host for name, host in hosts.items() if not inside(name, whole)}
    wrapped = [name for name, host in hosts.items() if _wanted(module, name, host, how.targets)]
    if not wrapped:
        where = " outside of modules_to_save" if whole else ""
        raise UserError(f"targets: exclude and irreps leave no layer to wrap{where}")
    was = Before.of(module, whole)
    try:
        layers = {name: _adapter(module.get_submodule(name), name, how) for name in wrapped}
    except ValueError:  # nothing is wrapped yet; the layers that were tried are frozen
        was.put_back(module)
        raise
    for name, layer in layers.items():
        replace_layer(module, name, layer)
    for name, value in {"lora_injection": how, BEFORE: was, NOTE: origin}.items():
        note(module, name, value)
    train_adapters_only(module)
    log.info(
        "LoRA rank %d, alpha %g, scaling %s: %d layers wrapped; trainable parameters %d of %d "
        "before, %d of %d after",
        *(how.rank, how.alpha, how.scaling, len(wrapped), *counted, *count_parameters(module)),
    )
    return sorted(wrapped)


def _adapter(layer: nn.Module, name: str, how: Injection) -> Adapter:
    """Return the adapter of a layer; each draws its start values, so their order counts."""
    host = host_class(layer)
    assert host is not None
    irreps = how.targets.irreps if host.by_irrep else ()
    rank, alpha = how.targets.rank_of(name, how.rank), how.targets.alpha_of(name, how.alpha)
    out = KINDS[how.kind].named(host)(layer, rank, alpha, how.scaling, irreps, how.start)
    out.host.reads_elements |= name.endswith(ELEMENT_LINEARS)
    return out


def _hosts(module: nn.Module, how: Injection) -> dict[str, type[Host]]:
    """Return the layers that can be adapted, and what hosts them."""
    found = {}
    for name, child in module.named_modules():
        host = host_class(child)
        if host is not None and how.switched_on(host) and host.irreps_of(child):
            found[name] = host
    return found


def _wanted(module: nn.Module, name: str, host: type[Host], targets: Targets) -> bool:
    """Return True if the targets choose a layer, by its name and its irreps."""
    wanted = {o3.Irrep(ir) for ir in targets.irreps}
    irreps = host.irreps_of(module.get_submodule(name))
    return targets.chosen(name) and (not wanted or bool(irreps & wanted))


def train_adapters_only(module: nn.Module) -> None:
    """Let adapters, and modules that train as a whole, ask for a gradient, and nothing else.

    Args:
        module: A model with adapters.
    """
    module.requires_grad_(False)
    for _, layer in lora_layers(module):
        for parameter in layer.values().values():
            parameter.requires_grad_(True)
    for name in before(module).weights:
        module.get_parameter(name).requires_grad_(True)


def merge_lora_weights(model: nn.Module, inplace: bool = True) -> nn.Module:
    """Write every adapter into its base layer, W + s A B, and take the wrappers away.

    Modules that were trained as a whole stay as they are.

    Args:
        model: A model with adapters.
        inplace: Whether to change this model, or a copy.

    Returns:
        The model with its original architecture, all parameters trainable again.

    Raises:
        ValueError: The model has no adapters, they are switched off, so that nothing would be
            merged, or a factor or merged weight is not finite.  The model is as it was.
    """
    layers = dict(lora_layers(model))
    if not layers:
        raise ValueError("the model holds no LoRA layers, so there is nothing to merge")
    check_sound(model)
    if not inplace:
        model = copy.deepcopy(model)
    for layer in take_adapters(model).values():
        layer.merge()
    return model.requires_grad_(True)


def unload_lora(model: nn.Module) -> nn.Module:
    """Take the adapters off a model, in place: it is the base that was injected, exactly.

    Weights, E0s, those of modules that trained as a whole, and which parameters ask for a gradient
    are what they were before `inject_lora` or `load_adapter`.  Another adapter can be loaded then.

    Args:
        model: A model with adapters.

    Returns:
        The same model.

    Raises:
        ValueError: It holds no adapters (whole weights, what was merged), or they are switched off.
    """
    injection_of(model)
    sound.check_enabled(model, "unload")
    was = before(model)
    take_adapters(model)
    was.put_back(model)
    return model


def check_sound(model: nn.Module) -> None:
    """Raise an error if what was trained of a model is switched off, or holds inf or nan.

    Args:
        model: A model, with adapters or without.

    Raises:
        ValueError: It is or does; the message names the layer or weight.
    """
    sound.check_enabled(model, "save or merge")
    for name, layer in lora_layers(model):
        with torch.no_grad():
            values = {**layer.values(), "change": layer.delta(), "weight": layer.weight()}
        sound.check_finite((f"{name}.{key}", value) for key, value in values.items())
    sound.check_finite((name, model.get_parameter(name)) for name in before(model).weights)


def take_adapters(model: nn.Module) -> dict[str, Adapter]:
    """Take the adapters off a model, which is its base again.

    Args:
        model: A model with adapters.

    Returns:
        The adapters by the names of their layers.
    """
    layers = dict(lora_layers(model))
    for name, layer in layers.items():
        replace_layer(model, name, layer.base)
    for name in ("lora_injection", BEFORE):  # which base it is stays known
        model.__dict__.pop(name, None)
    return layers


def lora_layers(module: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """Return the adapted layers of a model with their names, in the model's order.

    Args:
        module: A model, with adapters or without.
    """
    sound.check_model(module)
    for name, child in module.named_modules():
        if isinstance(child, Adapter):
            yield name, child


def ranks(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the rank of each adapted layer, and the highest that it can have.

    Args:
        module: A model with adapters.
    """
    return {name: (layer.rank, layer.highest_rank) for name, layer in lora_layers(module)}


def injection_of(module: nn.Module) -> Injection:
    """Return how a model was injected.

    Args:
        module: A model with adapters.

    Raises:
        ValueError: It has none.
    """
    sound.check_model(module)
    injection: Injection | None = getattr(module, "lora_injection", None)
    if injection is None:
        raise ValueError("the model holds no LoRA layers: call inject_lora first")
    return injection
