"""Adapters: a frozen base layer plus a trained change of its weight.

    x --> base layer with the weight  W + change(W; trained parameters)  --> y

An adapter is made of two things.  Its host (`lora.adapters.host`) shows the weight of the base
layer as matrices, one for each irrep, and runs the layer with another weight.  Its kind, a
subclass of `Adapter`, says what is done to the matrices.  Every kind works on every host.

The changed weight is computed once and the base layer's arithmetic is called with it.  That is a
small product of weights instead of a second pass over atoms or edges, gradients reach the
parameters by autograd alone, nothing is cached, and `merge` writes exactly what was used.

A new kind is a file with one subclass of `Adapter` (`axes`, `start` and `change`; `lora.py` is
the example), a row in `lora/adapters/kinds.py` and a row in `lora/catalogue/methods.py`.
"""

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lora.adapters.host import Host
from lora.adapters.hosts import host_of
from lora.adapters.sound import check_settings
from lora.adapters.stored import Stored, Values
from lora.catalogue.methods import ANCHORED, BY_NAME, STARTS

Pairs = dict[str, tuple[Tensor, Tensor]]  # by irrep, left [rows, rank] and right [rank, columns]


class Adapter(Stored, ABC):
    """What all kinds of adapters share.

    Class attributes that a kind sets, beside `axes`:
        kind: The name of its row in `lora/catalogue/methods.py`.
        linear: Whether the change does not depend on the base weight and can be scaled and added;
            if it cannot be cut, by scaling and adding the parameters.
        can_be_cut: Whether the change is a product of two factors, `factors`, so that it has a
            spectrum and a lower rank.
        packable: Whether `change` takes parameters with a leading dimension, and padding the rank
            with zeros does not change the weight.
        padding_trains: Whether such zeros have a gradient, and a pack has to hold them at zero.
        b_factors: The parameters whose learning rate `lr_ratio_b` multiplies.

    Attributes:
        base: The wrapped layer, frozen.
        alpha: The numerator of the scaling.
        scaling: The name of the scaling.
        started: The name of the start of the parameters.
        probe: Zeros that are added to the weight, for its gradient; None but where it is asked for.
        enabled: Whether the change is applied; see `lora.adapters.algebra.disabled`.
    """

    kind: ClassVar[str]
    linear: ClassVar[bool] = False
    can_be_cut: ClassVar[bool] = False
    packable: ClassVar[bool] = True
    padding_trains: ClassVar[bool] = False
    b_factors: ClassVar[tuple[str, ...]] = ()
    is_adapter = True  # by which rooms below tell that a model holds adapters

    def __init__(
        self,
        base: nn.Module,
        rank: int = 4,
        alpha: float = 1.0,
        scaling: str = "mace",
        irreps: tuple[str, ...] = (),
        started: str = "documented",
    ) -> None:
        """Wrap a layer and freeze it.

        Args:
            base: The layer, of e3nn, cuEquivariance or torch.
            rank: The rank of the change.
            alpha: The numerator of the scaling.
            scaling: "mace" or "rank_stable"; see `scale`.
            irreps: The irreps to adapt; an empty tuple means all. Dense layers have no choice.
            started: The start of the parameters, where the kind has several.

        Raises:
            ValueError: A setting is not allowed, or the layer cannot be adapted.
        """
        super().__init__()
        check_settings(rank, alpha, scaling)
        if started not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, got {started!r}")
        if self.kind in BY_NAME and not BY_NAME[self.kind].has_start(started):
            has = ", ".join(BY_NAME[self.kind].starts)
            raise ValueError(f"start {started}: {self.kind} adapters do not have it; use {has}")
        self.base, self.host = base, host_of(base, irreps)
        self.rank, self.alpha, self.scaling = int(rank), float(alpha), scaling
        self.started, self.enabled = started, True
        self.frozen = self.rank if started in ANCHORED else 0
        self.probe: Tensor | None = None
        for parameter in base.parameters():
            parameter.requires_grad_(False)
        example = next(base.parameters())
        for name in self.axes:
            like = torch.empty(self._stored_shape(name), dtype=example.dtype, device=example.device)
            self.register_parameter(name, nn.Parameter(self.start(name, like)))
        if self.frozen:
            self.anchor()

    @classmethod
    def named(cls, host: type[Host]) -> type["Adapter"]:
        """Return the class of the layers of a host; a kind may have names for some.

        Args:
            host: The class of the host.
        """
        return cls

    # --- what a kind says

    @abstractmethod
    def start(self, name: str, like: Tensor) -> Tensor:
        """Return the start value of a parameter; the changed weight has to be the base's.

        Args:
            name: The name of the parameter.
            like: A tensor of the shape, dtype and device that are wanted.
        """

    def anchor(self) -> None:
        """Set the parameters to a start other than zero, and the frozen columns to its negative.

        Raises:
            ValueError: The kind has no such start.
        """
        raise ValueError(f"start {self.started}: adapters of the kind {self.kind} do not have it")

    def start_from(self, gradient: Tensor) -> None:
        """Set the parameters to what the gradient of the loss asks for; the change stays zero.

        Args:
            gradient: Of the weight, in the shape of `base_weight`.

        Raises:
            ValueError: The kind has no such start, or the adapter has another with frozen columns.
        """
        raise ValueError(f"start gradient: adapters of the kind {self.kind} do not have it")

    @abstractmethod
    def change(self, values: Values, scale: float | Tensor) -> Tensor:
        """Return the change of the base weight: `self.host.assemble` of changed matrices.

        Args:
            values: The parameters, as `values` gives them; in a pack each has a leading
                dimension K. `self.matrices(name, values)` shows them by irrep.
            scale: s, a number, or [K] in a pack; `times` multiplies with it.

        Returns:
            [*shape of the base weight], or [K, *shape of the base weight].
        """

    def scale_by(self, factor: float) -> None:
        """Multiply the change of the weight by a factor, in place; if `linear`.

        Args:
            factor: The factor.
        """
        raise NotImplementedError

    def factors(self) -> Pairs:
        """Return the factors whose products, times `scale`, are the change; if `can_be_cut`."""
        raise NotImplementedError

    def set_factors(self, pairs: Pairs) -> None:
        """Set the parameters so that `factors` gives these, padded with zeros; if `can_be_cut`.

        Args:
            pairs: {irrep: (left [rows, rank], right [rank, columns])}.
        """
        raise NotImplementedError

    # --- the same for all kinds

    @property
    def scale(self) -> float:
        """S of the change: alpha/sqrt(r), or MACE's alpha/r with e3nn's path weights in it.

        Those of A and of the base cancel, since both read the same inputs; that of B, 1/sqrt(r),
        stays.  So with scaling `mace` an equivariant layer has alpha/r^1.5, a dense one alpha/r.
        """
        if self.scaling == "rank_stable":
            return self.alpha / math.sqrt(self.rank)
        return self.alpha / (self.rank**1.5 if self.host.path_weights else self.rank)

    @property
    def highest_rank(self) -> int:
        """The highest rank that is of use."""
        return self.host.highest_rank

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the base layer computes with the changed weight."""
        return self.host.run(self.weight(), *inputs)

    def base_weight(self) -> Tensor:
        """Return the frozen weight."""
        return self.host.base_weight()

    def set_base_weight(self, weight: Tensor) -> None:
        """Overwrite the frozen weight.

        Args:
            weight: In the shape of `base_weight`.
        """
        self.host.set_base_weight(weight)

    def delta(self) -> Tensor:
        """Return the change of the base weight, in its shape."""
        values = self.values()
        if self.frozen:
            still = self.still()
            values = {k: torch.where(still[k], x.detach(), x) for k, x in values.items()}
        return self.change(values, self.scale)

    def weight(self) -> Tensor:
        """Return the changed weight; the base's own while the adapter is disabled."""
        changed = self.base_weight() + self.delta() if self.enabled else self.base_weight()
        return changed if self.probe is None else changed + self.probe

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write the changed weight into the base layer and return that layer."""
        self.set_base_weight(self.weight())
        return self.base

    def like(self, rank: int, started: str = "documented") -> "Adapter":
        """Return a new adapter of another rank on the same base, all else the same.

        Args:
            rank: The rank.
            started: Its start.
        """
        new = type(self)(self.base, rank, self.alpha, self.scaling, self.host.irreps, started)
        new.host.reads_elements = self.host.reads_elements
        return new

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what TorchScript compiles in its place: a copy of the base layer, merged.

        A scripted model has the adapters in its weights, as they are when it is scripted.
        """
        merged = copy.copy(self.host)
        merged.base = copy.deepcopy(self.base)
        with torch.no_grad():
            merged.set_base_weight(self.weight())
        layer: nn.Module = merged.base
        return layer

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"rank={self.rank}, alpha={self.alpha:g}, scaling={self.scaling}"
