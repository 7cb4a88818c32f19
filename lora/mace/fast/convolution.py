"""The messages of MACE in one piece: gathering, tensor product and sum over neighbours.

Upstream writes the product of every edge down, [n_edges, channels * n_lm of all paths], and then
adds up those that reach the same atom.  Here the neighbours of an atom stand side by side, so that
product and sum are one small matrix product an atom and path:

    m[n, u, k] = sum over neighbours d and components i of (w x)[n, d, i, u] (C Y)[n, d, i, k]

Exact, but for the order of sums; nothing in it trains, so it serves every method.

    MACE: Batatia et al., arXiv 2206.07697, eq. 8
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lora.mace.door import Untyped, o3
from lora.mace.fast.autograd import join, spread

MOST_PADDING = 2.0  # places for neighbours an edge; beyond, upstream's way is the cheaper one


def fuse(model: nn.Module) -> list[str]:
    """Put fused convolutions in the place of MACE's, in place.

    MACE's own switch for such kernels, `conv_fusion`, makes a block hand over the edges.
    Products of another kind, such as those of cuEquivariance, are left as they are.

    Args:
        model: A MACE model.

    Returns:
        The names of the blocks that have one now.
    """
    modules: Iterable[tuple[str, Untyped]] = model.named_modules()
    found = {
        name: block
        for name, block in modules
        if _can_fuse(getattr(block, "conv_tp", None)) and not hasattr(block, "conv_fusion")
    }
    for block in found.values():
        block.conv_tp, block.conv_fusion = FusedConvolution(block.conv_tp), True
    return list(found)


def unfuse(model: nn.Module) -> nn.Module:
    """Put MACE's own convolutions back, in place.

    Args:
        model: A model that `fuse` was called on.

    Returns:
        The same model.
    """
    modules: list[Untyped] = list(model.modules())
    for block in modules:
        if isinstance(getattr(block, "conv_tp", None), FusedConvolution):
            block.conv_tp = block.conv_tp.product
            del block.conv_fusion
    return model


def message_width(model: nn.Module) -> int:
    """Return how many numbers an edge carries at most, which is the widest tensor of a step.

    Args:
        model: A MACE model.
    """
    widths = []
    for block in model.modules():
        if isinstance(product := getattr(block, "conv_tp", None), FusedConvolution):
            widths.append(sum(path.channels * path.dim_in for path in product.paths))
        elif hasattr(product, "irreps_out"):
            widths.append(o3.Irreps(str(product.irreps_out)).dim)
    return max(widths)


def _can_fuse(product: Untyped) -> bool:
    """Return True for e3nn's product with one weight for each channel, path and edge."""
    return (
        isinstance(product, o3.TensorProduct)
        and not product.shared_weights
        and all(mul == 1 for mul, _ in product.irreps_in2)
        and all(ins.connection_mode == "uvu" and ins.has_weight for ins in product.instructions)
        and sorted(ins.i_out for ins in product.instructions)
        == list(range(len(product.irreps_out)))
    )


class Path(NamedTuple):
    """One path of the product: an irrep of the features times one of the edge.

    Attributes:
        i_in: The index of the input irrep.
        i_out: The index of the output irrep.
        channels: The number of channels.
        dim_in: The number of components of the input irrep.
        dim_out: The number of components of the output irrep.
    """

    i_in: int
    i_out: int
    channels: int
    dim_in: int
    dim_out: int


class FusedConvolution(nn.Module):
    """MACE's `conv_tp` with the gathering before and the sum after it.

    Attributes:
        product: The `conv_tp`.
        couplings: C of all paths, [n_lm, sum of dim_in * dim_out].
    """

    def __init__(self, product: Untyped) -> None:
        """Read the couplings off a product.

        Args:
            product: The `conv_tp` of a block.
        """
        super().__init__()
        self.product = product
        self.inputs = [(mul, ir.dim) for mul, ir in product.irreps_in1]
        self.paths = [
            Path(
                ins.i_in1,
                ins.i_out,
                product.irreps_in1[ins.i_in1].mul,
                product.irreps_in1[ins.i_in1].ir.dim,
                product.irreps_out[ins.i_out].ir.dim,
            )
            for ins in product.instructions
        ]
        self.register_buffer("couplings", self._couplings(), persistent=False)

    @torch.no_grad()
    def _couplings(self) -> Tensor:
        """Read off the product, an edge for each pair of components, so that they are its own."""
        product: Untyped = self.product
        starts = [where.start for where in product.irreps_in1.slices()]
        outputs = product.irreps_out.slices()
        n_lm, out = product.irreps_in2.dim, []
        for path in self.paths:
            first = torch.arange(path.dim_in, device=product.output_mask.device)
            like: dict[str, Any] = {"dtype": self._dtype(), "device": first.device}
            x = torch.zeros(path.dim_in, product.irreps_in1.dim, **like)
            x[first, starts[path.i_in] + first] = 1.0  # the first channel
            y = torch.eye(n_lm, **like)
            weights = torch.ones(n_lm * path.dim_in, product.weight_numel, **like)
            made = product(x.repeat(n_lm, 1), y.repeat_interleave(path.dim_in, 0), weights)
            made = made[:, outputs[path.i_out]][:, : path.dim_out]  # [n_lm * dim_in, dim_out]
            out.append(made.reshape(n_lm, -1))
        return torch.cat(out, dim=1)

    def _dtype(self) -> torch.dtype:
        """Return the dtype of the product's coefficients; one of scalars alone takes any."""
        kinds = [x.dtype for name, x in self.product.named_buffers() if "w3j" in name]
        return kinds[0] if kinds else torch.float64

    def forward(self, x: Tensor, y: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Return the sum of what reaches each atom, [n_atoms, irreps_out.dim].

        Args:
            x: Features, [n_atoms, irreps_in.dim].
            y: Spherical harmonics, [n_edges, n_lm].
            weights: The weight of each edge, channel and path, [n_edges, channels of all paths].
            edge_index: Sender and receiver of each edge, [2, n_edges].
        """
        n, (sender, receiver) = len(x), edge_index
        near = neighbours(receiver, n)
        if n * near.most > MOST_PADDING * len(receiver):
            messages = self.product(x[sender], y, weights)
            return messages.new_zeros(n, messages.shape[1]).index_add(0, receiver, messages)
        features = x.split([mul * dim for mul, dim in self.inputs], dim=1)
        x = join(*(self._components_first(f, i) for i, f in enumerate(features)))
        x = x[sender[near.edge]]  # [n * most, irreps_in.dim]
        features = x.split([mul * dim for mul, dim in self.inputs], dim=1)
        coupled = spread(y @ self.couplings.to(y.dtype), near.place, n * near.most)
        coupled = coupled.split([path.dim_in * path.dim_out for path in self.paths], dim=1)
        weights = spread(weights, near.place, n * near.most)
        split_weights = weights.split([path.channels for path in self.paths], dim=1)
        outs = {}
        for path, c, w in zip(self.paths, coupled, split_weights, strict=True):
            rows = near.most * path.dim_in
            weighted = features[path.i_in].unflatten(1, (path.dim_in, -1)) * w[:, None]
            weighted = weighted.reshape(n, rows, path.channels)
            message = weighted.transpose(1, 2) @ c.reshape(n, rows, path.dim_out)
            outs[path.i_out] = message.flatten(1)  # [n, channels * dim_out]
        return join(*(outs[i] for i in range(len(outs))))

    def _components_first(self, x: Tensor, i: int) -> Tensor:
        """Return features [n, channels * dim] of an irrep as [n, dim * channels]."""
        return x.unflatten(1, self.inputs[i]).transpose(1, 2).flatten(1)


class Neighbours(NamedTuple):
    """Edges in rows of equal length, one row for each atom.

    Attributes:
        place: The place of each edge among all places, [n_edges].
        edge: The edge at each place, one of the same row where there is none, [n_atoms * most].
        most: The number of places in a row.
    """

    place: Tensor
    edge: Tensor
    most: int


def neighbours(receiver: Tensor, n_atoms: int) -> Neighbours:
    """Give every edge a place in the row of the atom that receives it.

    Args:
        receiver: The receiving atom of each edge, [n_edges].
        n_atoms: The number of atoms.
    """
    counts = torch.bincount(receiver, minlength=n_atoms)  # [n_atoms]
    most = int(counts.max()) if len(receiver) else 0
    order = torch.argsort(receiver, stable=True)
    start = counts.cumsum(0) - counts
    within = torch.arange(len(order), device=order.device) - start[receiver[order]]
    place = torch.empty_like(order)
    place[order] = receiver[order] * most + within
    # not the same edge everywhere: a GPU adds up what one atom gets from many places one by one
    first = order[start.clamp(max=len(order) - 1)] if len(order) else start
    edge = first[:, None].expand(-1, most).flatten()
    edge[place] = torch.arange(len(order), device=order.device)
    return Neighbours(place, edge, most)
