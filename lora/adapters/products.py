"""LoRA of the two products that read elements: skip connections and symmetric contractions.

Off by default (`targets: {skip_tp: true, symmetric_contraction: true}` turns them on); ELoRA
(ICML 2025) adapts them too.  The weights of both are matrices whose rows are pairs of an element
and an input, or an element and a path, and whose columns are channels: A has a row each, B is
shared by all elements.  So what is learnt of one element helps the others.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lora.adapters.layer import LoRALayer
from lora.adapters.linear import LoRAO3Linear
from lora.mace.contraction import path_weights
from lora.mace.door import is_cueq, o3

ElementRows = list[tuple[slice, tuple[int, int, int]]]


class LoRASkipTP(LoRAO3Linear):
    """LoRA of a `skip_tp`: an equivariant linear map of features x one-hot elements.

    W [n_inputs, n_elements, n_outputs] of each irrep is the matrix [n_inputs * n_elements,
    n_outputs]; all else is that of `LoRAO3Linear`.
    """

    def _irreps(self) -> tuple[o3.Irreps, o3.Irreps]:
        self.n_elements = o3.Irreps(str(self.base.irreps_in2)).dim
        return o3.Irreps(str(self.base.irreps_in1)), o3.Irreps(str(self.base.irreps_out))

    def _rows(self, mul: int) -> int:
        return mul * self.n_elements

    def _check_path_weights(self) -> None:
        size = sum(block.rows * block.columns for block in self.blocks)
        if size != self.base.weight_numel:
            raise ValueError(f"{self.base}: is not a map of features x one-hot elements")

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        return LoRALayer.run_packed(self, weights, *inputs)

    def element_rows(self) -> ElementRows:
        """Where A has a row an element: slices, and their shapes [before, n_elements, after]."""
        shapes = {i: (self.irreps_in[i].mul, self.n_elements, self.rank) for i in self.in_a}
        return [(where, shapes[i]) for i, where in self.in_a.items()]


class LoRAContraction(LoRALayer):
    """LoRA of MACE's symmetric contraction, over all its weights of one output irrep at once.

    The weight of an output irrep is [n_elements, n_paths, channels], paths of all orders
    together; as a matrix it has a row for each element and path.
    """

    def __init__(
        self,
        base: nn.Module,
        rank: int = 4,
        alpha: float = 1.0,
        scaling: str = "mace",
        irreps: tuple[str, ...] = (),
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        self.irreps_out, self.irreps = o3.Irreps(str(base.irreps_out)), irreps
        self.parts = path_weights(base)
        self.adapted = [
            part.exists and (not irreps or str(self.irreps_out[part.output].ir) in irreps)
            for part in self.parts
        ]
        example = base.weight if is_cueq(base) else base.contractions[0].weights_max
        self.n_elements: int = example.shape[0]
        self.channels: int = example.shape[-1]
        self.n_paths: dict[int, int] = {}  # adapted ones, by output irrep
        for part, adapted in zip(self.parts, self.adapted, strict=True):
            if adapted:
                self.n_paths[part.output] = self.n_paths.get(part.output, 0) + part.n_paths
        if not self.n_paths:
            raise ValueError(f"{self.irreps_out} has none of {', '.join(irreps)}")
        rows = self.n_elements * sum(self.n_paths.values())
        self._add_factors((rows * rank,), (len(self.n_paths) * rank * self.channels,))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        outputs, start = {}, 0
        rights = b.unflatten(-1, (len(self.n_paths), self.rank, self.channels)).unbind(-3)
        for right, (output, n) in zip(rights, self.n_paths.items(), strict=True):
            size = self.n_elements * n * self.rank
            left = a[..., start : (start := start + size)]
            left = left.unflatten(-1, (self.n_elements * n, self.rank))
            outputs[output] = (left @ right).unflatten(-2, (self.n_elements, n))
        joint = []  # [..., n_elements, n_paths, channels] of each weight
        taken = dict.fromkeys(self.n_paths, 0)
        for part, adapted in zip(self.parts, self.adapted, strict=True):
            if adapted:
                first = taken[part.output]
                taken[part.output] = last = first + part.n_paths
                joint.append(outputs[part.output][..., first:last, :])
            else:
                shape = (self.n_elements, part.n_paths, self.channels)
                joint.append(a.new_zeros(*a.shape[:-1], *shape))
        return self._to_cueq(joint) if is_cueq(self.base) else torch.cat(joint, dim=-2)

    def _to_cueq(self, joint: list[Tensor]) -> Tensor:
        """From e3nn's couplings to those of cuEquivariance; MACE's converter does the same."""
        projection = self.base.from_reduced
        if projection is None:  # the module itself projects, and has no weights of what is zero
            kept = [x for x, part in zip(joint, self.parts, strict=True) if part.exists]
            return torch.cat(kept, dim=-2)
        return torch.einsum("...au,ab->...bu", torch.cat(joint, dim=-2), projection)

    def base_weight(self) -> Tensor:
        if is_cueq(self.base):
            return super().base_weight()
        return torch.cat([self.base.get_parameter(part.name) for part in self.parts], dim=1)

    def set_base_weight(self, weight: Tensor) -> None:
        if is_cueq(self.base):
            super().set_base_weight(weight)
            return
        for name, values in self._split(weight).items():
            self.base.get_parameter(name).copy_(values)

    def _split(self, weight: Tensor) -> dict[str, Tensor]:
        pieces = weight.split([part.n_paths for part in self.parts], dim=-2)
        return {part.name: piece for part, piece in zip(self.parts, pieces, strict=True)}

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        own = {"weight": weight} if is_cueq(self.base) else self._split(weight)
        out: Tensor = functional_call(self.base, own, inputs)
        return out  # [n_atoms, irreps_out.dim]

    def element_rows(self) -> ElementRows:
        """Where A has a row an element: slices, and their shapes [before, n_elements, after]."""
        out, start = [], 0
        for n in self.n_paths.values():
            size = self.n_elements * n * self.rank
            out.append((slice(start, start := start + size), (1, self.n_elements, n * self.rank)))
        return out
