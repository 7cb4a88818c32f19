"""Put adapters into a model, and merge them back."""

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict, Unpack

from torch import nn

from lora.adapters.host import Host
from lora.adapters.hosts import host_class
from lora.adapters.kinds import KINDS
from lora.adapters.layer import Adapter
from lora.errors import UserError
from lora.mace.door import is_cueq, o3
from lora.mace.foundation import base_digest
from lora.mace.modules import count_parameters, replace_layer
from lora.mace.notes import note
from lora.plan.targets import Targets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Injection:
    """How a model is injected; kept on the model as `model.lora_injection`.

    Attributes:
        rank: The rank of the adapters.
        alpha: The numerator of their scaling.
        scaling: The name of the scaling; see `Adapter.scale`.
        targets: The layers and irreps, products or not, and ranks and alphas of single layers.
        wrap_equivariant: Whether `o3.Linear` and `cuet.Linear` are adapted.
        wrap_dense: Whether `nn.Linear` and the layers of `FullyConnectedNet` are adapted.
        kind: The kind of adapter, a row of `lora/adapters/kinds.py`.
        start: The start of the factor A, a name of `lora.catalogue.methods.STARTS`.
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

    Args:
        module: A MACE model, or any module with `o3.Linear`, `cuet.Linear`, `nn.Linear` or e3nn
            FC layers.
        rank: The rank of A and B.
        alpha: The numerator of the scaling; the update is scaled by alpha/rank.
        wrap_equivariant: Whether to wrap `o3.Linear` and `cuet.Linear`.
        wrap_dense: Whether to wrap `nn.Linear` and the layers of `FullyConnectedNet`.
        cueq_config: MACE's cuEquivariance settings. Where they are enabled, the model has to run
            on cuEquivariance already (`lora.mace.kernels.to_kernel`): nothing is dropped later.
        **extras: `scaling`, "mace" (with e3nn's path weights) or "rank_stable" (alpha/sqrt(rank));
            `targets`, the layers and irreps, products or not, and ranks and alphas of single
            layers; `kind`, the kind of adapter; `start`, "documented" (A at N(0, 1e-3)) or
            "upstream" (N(0, 1) for equivariant layers, which is what upstream's code does).

    Returns:
        The names of the wrapped layers, sorted.

    Raises:
        ValueError: The model is injected already, nothing in it can be wrapped, or a setting is
            not allowed.
        UserError: A pattern of the targets matches no layer; the message lists the layers.
    """
    if getattr(cueq_config, "enabled", False) and not any(map(is_cueq, module.modules())):
        raise ValueError(
            "cueq_config is enabled, but the model has no layer of cuEquivariance: convert it "
            "first (lora.mace.kernels.to_kernel), then inject; adapters are the same for both "
            "kernels"
        )
    given = extras.get("targets")
    targets = given if isinstance(given, Targets) else Targets.from_dict(given or {})
    scaling, kind = extras.get("scaling", "mace"), extras.get("kind", "lora")
    injection = Injection(rank, alpha, scaling, targets, wrap_equivariant, wrap_dense, kind)
    return inject(module, replace(injection, start=extras.get("start", injection.start)))


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
    if how.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {how.kind!r}")
    if dict(lora_layers(module)):
        raise ValueError("the model holds LoRA layers already: merge them first")
    before, digest = count_parameters(module), base_digest(module)
    hosts = _hosts(module, how)
    if not hosts:
        raise ValueError("nothing to wrap: no o3.Linear, nn.Linear or e3nn FC layer was found")
    how.targets.check(hosts)
    wrapped = [name for name, host in hosts.items() if _wanted(module, name, host, how.targets)]
    if not wrapped:
        raise UserError("targets: exclude and irreps leave no layer to wrap")
    for name in wrapped:  # in the model's order, because each draws its start values
        rank, alpha = how.targets.rank_of(name, how.rank), how.targets.alpha_of(name, how.alpha)
        irreps = how.targets.irreps if hosts[name].by_irrep else ()
        adapter = KINDS[how.kind].named(hosts[name])
        base = module.get_submodule(name)
        layer = adapter(base, rank, alpha, how.scaling, irreps, how.start)
        replace_layer(module, name, layer)
    train_adapters_only(module)
    note(module, "lora_injection", how)
    note(module, "base_fingerprint", digest)
    log.info(
        "LoRA rank %d, alpha %g, scaling %s: %d layers wrapped; trainable parameters %d of %d "
        "before, %d of %d after",
        *(how.rank, how.alpha, how.scaling, len(wrapped), *before, *count_parameters(module)),
    )
    return sorted(wrapped)


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
    """Let the parameters of the adapters ask for a gradient, and nothing else.

    Args:
        module: A model with adapters.
    """
    module.requires_grad_(False)
    for _, layer in lora_layers(module):
        for parameter in layer.values().values():
            parameter.requires_grad_(True)


def merge_lora_weights(model: nn.Module, inplace: bool = True) -> nn.Module:
    """Write every adapter into its base layer and take the wrappers away.

    Args:
        model: A model with adapters.
        inplace: Whether to change this model, or a copy.

    Returns:
        The model with its original architecture, all parameters trainable again.

    Raises:
        ValueError: The adapters are switched off, so that nothing would be merged.
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
    if hasattr(model, "lora_injection"):
        del model.lora_injection
    return layers


def lora_layers(module: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """Return the adapted layers of a model with their names, in the model's order.

    Args:
        module: A model, with adapters or without.
    """
    for name, child in module.named_modules():
        if isinstance(child, Adapter):
            yield name, child


def injection_of(module: nn.Module) -> Injection:
    """Return how a model was injected.

    Args:
        module: A model with adapters.

    Raises:
        ValueError: It has none.
    """
    injection: Injection | None = getattr(module, "lora_injection", None)
    if injection is None:
        raise ValueError("the model holds no LoRA layers: call inject_lora first")
    return injection


def injection_settings(module: nn.Module) -> dict[str, Any]:
    """Return the settings of `inject_lora` but the kind, as adapter.json holds them.

    Args:
        module: A model with adapters.
    """
    return {name: value for name, value in asdict(injection_of(module)).items() if name != "kind"}
