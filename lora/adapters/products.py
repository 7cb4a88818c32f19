"""Hosts of the two products that read elements: skip connections and symmetric contractions.

Off by default (`targets: {skip_tp: true, symmetric_contraction: true}` turns them on); ELoRA
(ICML 2025) adapts them too.  The weights of both are matrices whose rows are pairs of an element
and an input, or an element and a path, and whose columns are channels.  With LoRA, A has a row
for each pair and all elements share B, so what is learnt of one element helps the others.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lora.adapters.host import ElementShape, Host, Matrices, Stretch
from lora.adapters.linear import O3Host
from lora.mace.contraction import PathWeight, path_weights
from lora.mace.door import Untyped, is_cueq, o3


class SkipHost(O3Host):
    """A `skip_tp`: an equivariant linear map of features x one-hot elements.

    W [n_inputs, n_elements, n_outputs] of each irrep is the matrix [n_inputs * n_elements,
    n_outputs]; all else is that of `O3Host`.
    """

    switch = "skip_tp"
    reads_elements = True

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True for a tensor product with all paths and weights."""
        return type(module).__name__ == "FullyConnectedTensorProduct"

    @classmethod
    def irreps_of(cls, module: nn.Module) -> set[o3.Irrep]:
        """Return the irreps of the output."""
        return {ir for _, ir in o3.Irreps(str(module.irreps_out))}

    def _irreps(self) -> tuple[o3.Irreps, o3.Irreps]:
        self.n_elements: int = o3.Irreps(str(self.base.irreps_in2)).dim
        return o3.Irreps(str(self.base.irreps_in1)), o3.Irreps(str(self.base.irreps_out))

    def _rows(self, mul: int) -> int:
        return mul * self.n_elements

    def _check_path_weights(self) -> None:
        size = sum(block.rows * block.columns for block in self.blocks)
        if size != self.base.weight_numel:
            raise ValueError(f"{self.base}: is not a map of features x one-hot elements")

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base computes with K weights, one after the other."""
        return Host.run_packed(self, weights, *inputs)

    def element_shapes(self) -> list[ElementShape] | None:
        """Return [n_inputs, n_elements, 1] for each adapted irrep of the input."""
        n = self.n_elements
        return [(stretch.size // n, n, 1) for stretch in self.inputs]


class ContractionHost(Host):
    """MACE's symmetric contraction, all its weights of one output irrep together.

    The weight of an output irrep is [n_elements, n_paths, channels], paths of all orders
    together; as a matrix it has a row for each element and path.

    Attributes:
        irreps_out: The irreps of the output.
        paths: The single weights, in the order in which MACE joins them.
        adapted: Whether each of them is adapted; those that symmetry forbids are not.
    """

    switch = "symmetric_contraction"
    reads_elements = True

    def __init__(self, base: Untyped, irreps: tuple[str, ...] = ()) -> None:
        """Look at the weights of the contraction.

        Args:
            base: The contraction.
            irreps: The output irreps to adapt; an empty tuple means all.

        Raises:
            ValueError: The contraction has none of these irreps.
        """
        super().__init__(base, irreps)
        self.irreps_out = o3.Irreps(str(base.irreps_out))
        self.paths = path_weights(base)
        self.adapted = [
            path.exists and (not irreps or self._part(path) in irreps) for path in self.paths
        ]
        example: Tensor = base.weight if is_cueq(base) else base.contractions[0].weights_max
        self.n_elements: int = example.shape[0]
        self.channels: int = example.shape[-1]
        n_paths: dict[str, int] = {}  # adapted ones, by output irrep
        for path, adapted in zip(self.paths, self.adapted, strict=True):
            if adapted:
                n_paths[self._part(path)] = n_paths.get(self._part(path), 0) + path.n_paths
        if not n_paths:
            raise ValueError(f"{self.irreps_out} has none of {', '.join(irreps)}")
        self.inputs = [Stretch(part, self.n_elements * n) for part, n in n_paths.items()]
        self.outputs = [Stretch(part, self.channels) for part in n_paths]

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True for a symmetric contraction of MACE or cuEquivariance."""
        return type(module).__name__ == "SymmetricContraction"

    @classmethod
    def irreps_of(cls, module: nn.Module) -> set[o3.Irrep]:
        """Return the irreps of the output."""
        return {ir for _, ir in o3.Irreps(str(module.irreps_out))}

    def _part(self, path: PathWeight) -> str:
        return str(self.irreps_out[path.output].ir)

    def matrices(self, weight: Tensor) -> Matrices:
        """Return a matrix [n_elements * n_paths, channels] for each adapted output irrep."""
        pieces: dict[str, list[Tensor]] = {part: [] for part in self.parts}
        for path, adapted, piece in zip(self.paths, self.adapted, self._joint(weight), strict=True):
            if adapted:
                pieces[self._part(path)].append(piece)
        return {part: torch.cat(found, dim=-2).flatten(-3, -2) for part, found in pieces.items()}

    def assemble(self, matrices: Matrices) -> Tensor:
        """Return the matrices as the joint weight, [..., n_elements, n_paths, channels]."""
        like = next(iter(matrices.values()))
        whole = {part: x.unflatten(-2, (self.n_elements, -1)) for part, x in matrices.items()}
        joint = []  # of each single weight
        taken = dict.fromkeys(whole, 0)
        for path, adapted in zip(self.paths, self.adapted, strict=True):
            if adapted:
                part = self._part(path)
                first = taken[part]
                taken[part] = last = first + path.n_paths
                joint.append(whole[part][..., first:last, :])
            else:
                shape = (self.n_elements, path.n_paths, self.channels)
                joint.append(like.new_zeros(*like.shape[:-2], *shape))
        return self._to_cueq(joint) if is_cueq(self.base) else torch.cat(joint, dim=-2)

    def _to_cueq(self, joint: list[Tensor]) -> Tensor:
        """Return cuEquivariance's weight from e3nn's; MACE's converter does the same."""
        projection = self.base.from_reduced
        if projection is None:  # the module itself projects, and has no weights of what is zero
            kept = [x for x, path in zip(joint, self.paths, strict=True) if path.exists]
            return torch.cat(kept, dim=-2)
        return torch.einsum("...au,ab->...bu", torch.cat(joint, dim=-2), projection)

    def _joint(self, weight: Tensor) -> list[Tensor]:
        """Return the single weights that the joint one is made of, in e3nn's couplings."""
        paths = self.paths
        if is_cueq(self.base):
            projection = self.base.from_reduced
            if projection is None:
                paths = [path for path in paths if path.exists]
            else:
                inverse = torch.linalg.pinv(projection.double()).to(weight.dtype)
                weight = torch.einsum("...bu,ba->...au", weight, inverse)
        found = dict(zip(paths, weight.split([p.n_paths for p in paths], dim=-2), strict=True))
        none = weight[..., :0, :]
        return [found.get(path, none) for path in self.paths]

    def base_weight(self) -> Tensor:
        """Return the joint weight, [n_elements, n_paths, channels]."""
        if is_cueq(self.base):
            return super().base_weight()
        return torch.cat([self.base.get_parameter(path.name) for path in self.paths], dim=1)

    def set_base_weight(self, weight: Tensor) -> None:
        """Overwrite the single weights of the base."""
        if is_cueq(self.base):
            super().set_base_weight(weight)
            return
        own = dict(self.base.named_parameters())  # which TorchScript's modules have, too
        for name, values in self._split(weight).items():
            own[name].copy_(values)

    def _split(self, weight: Tensor) -> dict[str, Tensor]:
        pieces = weight.split([path.n_paths for path in self.paths], dim=-2)
        return {path.name: piece for path, piece in zip(self.paths, pieces, strict=True)}

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base computes with another weight, [n_atoms, irreps_out.dim]."""
        own = {"weight": weight} if is_cueq(self.base) else self._split(weight)
        out: Tensor = functional_call(self.base, own, inputs)
        return out

    def element_shapes(self) -> list[ElementShape] | None:
        """Return [1, n_elements, n_paths] for each adapted output irrep."""
        n = self.n_elements
        return [(1, n, stretch.size // n) for stretch in self.inputs]
