"""What the last layer of a MACE model reads: the features in which an atom's energy is linear.

They say how far a structure lies from those that a model was trained on (`lora.data.rigidity`).
As metatrain takes them of MACE, they are what the last linear map of each readout reads: of a
linear readout the scalars of its layer, of another the outputs of its activation.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lora.mace.device import device_of
from lora.mace.door import Untyped
from lora.mace.graphs import batches
from lora.mace.modules import irreps_of
from lora.mace.predict import frozen


class LastLayer:
    """The last layer of a model, which remembers what it read in the latest pass.

    Whatever program runs the model, a hook on each readout sees the numbers go by.
    """

    def __init__(self, model: Untyped) -> None:
        """Watch a model.

        Args:
            model: A MACE model with one head, not in TorchScript.
        """
        layers = [_last_linear(readout) for readout in model.readouts]
        self._scalars = [_scalars(layer) for layer in layers]
        self._read: dict[int, Tensor] = {}
        self._hooks = [
            layer.register_forward_pre_hook(partial(self._keep, place))
            for place, layer in enumerate(layers)
        ]

    def _keep(self, place: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._read[place] = inputs[0].detach()

    def __call__(self) -> Tensor:
        """Return the features [n_atoms, width] of the latest pass, in float64."""
        parts = [self._read[i][:, columns] for i, columns in enumerate(self._scalars)]
        return torch.cat(parts, dim=-1).double()

    def release(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()


def _last_linear(readout: Untyped) -> nn.Module:
    """Return the linear map that ends a readout of MACE."""
    layer: nn.Module = readout.linear_2 if hasattr(readout, "linear_2") else readout.linear
    return layer


def _scalars(layer: nn.Module) -> list[int]:
    """Return the columns of a layer's input that are scalars; energies are made of these alone."""
    irreps, _ = irreps_of(layer)
    blocks = zip(irreps, irreps.slices(), strict=True)
    return [
        i for (_, ir), block in blocks if ir.is_scalar() for i in range(block.start, block.stop)
    ]


def features(
    model: nn.Module, dataset: Sequence[Any], batch_size: int = 32
) -> Iterator[np.ndarray]:
    """Yield the features of the atoms of each batch [n_atoms, width]: a pass without forces.

    Args:
        model: A MACE model with one head.
        dataset: What `lora.mace.graphs.graphs` returned.
        batch_size: The number of structures in a batch.
    """
    layer = LastLayer(model)
    try:
        for batch in batches(dataset, batch_size, device_of(model)):
            with frozen(model), torch.no_grad():
                model(batch.to_dict(), training=False, compute_force=False)
            yield layer().cpu().numpy()
    finally:
        layer.release()
