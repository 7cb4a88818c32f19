"""LoRA: a low-rank change of a weight.

                         y
                         |
            +------------+------------+
            |                         |
            |                  B [rank, columns]     starts at zero
     W [rows, columns]                |              rank copies of each irrep
          frozen               A [rows, rank]        starts at N(0, 1e-3)
            |                         |
            +------------+------------+
                         |
                         x

    W + s A B        for each irrep that input and output share, with s = alpha/r

(Hu et al., LoRA, arXiv 2106.09685; with s = alpha/sqrt(r), Kalajdzievski, arXiv 2312.03732.)

For an equivariant layer the bottleneck has `rank` copies of each irrep, so that A: irreps_in ->
bottleneck and B: bottleneck -> irreps_out are equivariant linear maps.  Their composition is one
such map, so one with the weight W + s A B is computed.  A pack (`lora.adapters.pack`) computes K
of them at once:

    x_1 ... x_K  -->  W + s_1 A_1 B_1 ... W + s_K A_K B_K  -->  y_1 ... y_K
"""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from lora.adapters.arithmetic import joined, times
from lora.adapters.host import Host, Matrices
from lora.adapters.layer import Adapter, Pairs
from lora.adapters.linear import DenseHost, FCHost, O3Host
from lora.adapters.stored import Axes, Values

INIT_STD = 1e-3  # of A; B starts at zero, so training starts from the base model


class LoRA(Adapter):
    """W + s A B on any host; the parameters are `lora_A` and `lora_B`, in e3nn's layout."""

    kind = "lora"
    axes: ClassVar[Axes] = {"lora_A": ("inputs", "rank"), "lora_B": ("rank", "outputs")}
    linear = True
    can_be_cut = True
    b_factors = ("lora_B",)
    host_class: ClassVar[type[Host]] = cast(Any, Host)  # that a named class is for; an ABC

    def __init__(
        self,
        base: nn.Module,
        rank: int = 4,
        alpha: float = 1.0,
        scaling: str = "mace",
        irreps: tuple[str, ...] = (),
        started: str = "documented",
    ) -> None:
        """Wrap a layer and freeze it; see `Adapter`."""
        super().__init__(base, rank, alpha, scaling, irreps, started)
        if not isinstance(self.host, self.host_class):
            raise ValueError(f"{type(self).__name__}: does not take a {type(base).__name__}")

    @classmethod
    def named(cls, host: type[Host]) -> type[Adapter]:
        """Return the class of the layers of a host, which has a name of its own where it is public.

        Args:
            host: The class of the host.
        """
        found = [sub for sub in NAMED if issubclass(host, sub.host_class)]
        return found[0] if found and cls is LoRA else cls

    def start(self, name: str, like: Tensor) -> Tensor:
        """Return A ~ N(0, 1e-3), with the start `upstream` N(0, 1) where e3nn normalises; or B = 0.

        One draw has the same numbers for both, times another factor.
        """
        if name == "lora_A":
            std = 1.0 if self.started == "upstream" and self.host.path_weights else INIT_STD
            return torch.randn(like.shape, dtype=like.dtype, device=like.device) * std
        return torch.zeros_like(like)

    @torch.no_grad()
    def anchor(self) -> None:
        """Start at the largest singular values of the base weight, W = U S V (PiSSA).

        A = U sqrt(S/s) and B = sqrt(S/s) V, of the first `rank`; the same product stands with a
        minus in the frozen columns, so that the changed weight is the base's, and what trains are
        its principal components (Meng et al., arXiv 2404.02948).
        """
        pairs: Pairs = {}
        for part, matrix in self.host.matrices(self.base_weight()).items():
            u, values, v = torch.linalg.svd(matrix, full_matrices=False)
            root = (values[: self.rank] / self.scale).sqrt()
            short = self.rank - len(root)
            left = nn.functional.pad(u[:, : self.rank] * root, (0, short))
            right = nn.functional.pad(root[:, None] * v[: self.rank], (0, 0, 0, short))
            pairs[part] = torch.cat([left, left], dim=1), torch.cat([-right, right])
        self.set_factors(pairs)

    @torch.no_grad()
    def start_from(self, gradient: Tensor) -> None:
        """Start A at the singular vectors of the gradient G of the weight, B at zero.

        The first step of B is then along A^T G, and that of the weight along A A^T G: of all steps
        of this rank the closest to a step of the whole weight (as LoRA-GA, arXiv 2407.05000, and
        LoRA-One, arXiv 2502.01235, which start B, too, and change the base for it).
        """
        if self.frozen:
            raise ValueError(f"start gradient: the adapter was injected with {self.started}")
        pairs: Pairs = {}
        first, random = self.host.outputs_first, self.factors()
        for part, matrix in self.host.matrices(gradient).items():
            left, right = random[part]
            u, values, v = torch.linalg.svd(matrix, full_matrices=False)
            if first:
                pairs[part] = left, self._along(v.T, values, right.T).T
            else:
                pairs[part] = self._along(u, values, left), right
        self.set_factors(pairs)

    def _along(self, vectors: Tensor, values: Tensor, random: Tensor) -> Tensor:
        """Return A with singular vectors as columns; those that the gradient lacks stay random.

        They are as long as those of the start `upstream` where e3nn normalises, and of one sign:
        their largest component is positive.

        Args:
            vectors: [inputs, k].
            values: The singular values, [k].
            random: A as it is, [inputs, rank].
        """
        n = min(self.rank, int((values > 1e-8 * values[0]).sum()))
        found = vectors[:, :n]
        found = found * found.gather(0, found.abs().argmax(0, keepdim=True)).sign()
        length = len(found) ** 0.5 if self.host.path_weights else 1.0
        return torch.cat([length * found, random[:, n:]], dim=1)

    def change(self, values: Values, scale: float | Tensor) -> Tensor:
        """Return s A B in the layout of the base weight."""
        return times(scale, self.host.assemble(self.products(values)))

    def products(self, values: Values) -> Matrices:
        """Return A B of each irrep, B A where outputs come first.

        Each stretch of rows is a product of its own: one product for all would sum the gradient of
        the other factor in another order, and trainings would no longer repeat to the last digit.
        """
        left, right = self._sides
        rows, columns = self.stretches(left, values), self.matrices(right, values)
        return {
            part: joined([piece @ columns[part] for piece in rows[part]], dim=-2)
            for part in self.host.parts
        }

    def scale_by(self, factor: float) -> None:
        """Multiply the change of the weight by a factor, in place."""
        self.lora_B.mul_(factor)

    @torch.no_grad()
    def factors(self) -> Pairs:
        """Return A and B as (left, right) of each irrep; (B, A) where outputs come first."""
        left, right = (self.matrices(name, self.values()) for name in self._sides)
        return {part: (left[part], right[part]) for part in self.host.parts}

    @torch.no_grad()
    def set_factors(self, pairs: Pairs) -> None:
        """Set A and B from (left, right) of each irrep, padded with zeros to the rank."""
        left, right = self._sides
        self._set(left, {part: pair[0] for part, pair in pairs.items()}, of_left=True)
        self._set(right, {part: pair[1] for part, pair in pairs.items()}, of_left=False)

    def _set(self, name: str, sides: dict[str, Tensor], of_left: bool) -> None:
        """Write one side of the factors piece by piece, left [m, r] or right [r, n]."""
        axis = 0 if of_left else 1
        taken = dict.fromkeys(sides, 0)
        for part, piece in self.pieces(name, self.get_parameter(name).detach()):
            side, first = sides[part], taken[part]
            taken[part] = first + piece.shape[axis]
            short = self.width - side.shape[1 - axis]
            padded = nn.functional.pad(side, (0, short) if of_left else (0, 0, 0, short))
            piece.copy_(padded.narrow(axis, first, piece.shape[axis]))

    @property
    def n_still(self) -> int:
        """The number of entries that do not train, those of columns that are zero in A and B, too.

        The gradient of each factor has the other as a factor.  Beside frozen columns all count.
        """
        still = super().n_still
        for left, right in () if self.frozen else self.factors().values():
            empty = ~left.any(dim=0) & ~right.any(dim=1)
            still += int(empty.sum()) * (left.shape[0] + right.shape[1])
        return still

    @property
    def _sides(self) -> tuple[str, str]:
        """The factor on the left, with the rows of the matrix, and the one on the right."""
        return ("lora_B", "lora_A") if self.host.outputs_first else ("lora_A", "lora_B")


class LoRAO3Linear(LoRA):
    """LoRA of an `e3nn.o3.Linear`, a `cuet.Linear` or a `skip_tp`; equivariant as they are."""

    host_class = O3Host


class LoRADenseLinear(LoRA):
    """LoRA of an `nn.Linear`: W [out, in] + s B A, with A [rank, in] and B [out, rank]."""

    host_class = DenseHost


class LoRAFCLayer(LoRA):
    """LoRA of a layer of e3nn's `FullyConnectedNet`: W [in, out] + s A B."""

    host_class = FCHost


NAMED = (LoRAO3Linear, LoRADenseLinear, LoRAFCLayer)
