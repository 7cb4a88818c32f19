"""What a MACE model sees of structures, as vectors that can be compared."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from lora.mace.device import device_of
from lora.mace.door import Untyped, default_dtype, o3
from lora.mace.graphs import batches, graphs


def structure_descriptors(
    model: Untyped, structures: Sequence[Atoms], batch_size: int = 32
) -> np.ndarray:
    """Return the mean and the spread over a structure's atoms of what the layers make of them.

    Of every layer only what no rotation changes counts.  The spread tells of single atoms in
    surroundings of their own, which a mean over many hides.

    Args:
        model: A MACE model without adapters, in e3nn's layout.
        structures: Structures of elements that the model knows.
        batch_size: The number of structures in a batch.

    Returns:
        A row a structure, [n_structures, 2 n_features].
    """
    columns = _invariant(model)
    rows = [torch.zeros(0, 2 * len(columns), dtype=torch.float64)]
    with torch.no_grad(), default_dtype(next(model.parameters()).dtype):
        for batch in batches(graphs(structures, model), batch_size, device_of(model)):
            out = model(batch.to_dict(), training=False, compute_force=False)
            features = out["node_feats"][:, columns].double().cpu()
            for one in features.split((batch.ptr[1:] - batch.ptr[:-1]).tolist()):
                spread = one.std(dim=0, correction=0)
                rows.append(torch.cat([one.mean(dim=0), spread])[None])
    return torch.cat(rows).numpy()


def _invariant(model: Untyped) -> list[int]:
    """Return the columns of a model's features of nodes that are scalars."""
    found, start = [], 0
    for product in model.products:
        irreps = o3.Irreps(str(product.linear.irreps_out))
        for place, (_, ir) in zip(irreps.slices(), irreps, strict=True):
            if ir == o3.Irrep("0e"):
                found += range(start + place.start, start + place.stop)
        start += irreps.dim
    return found
