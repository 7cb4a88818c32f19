"""Bounds of a model's force errors, from what its last layer read in the latest pass."""

from pathlib import Path

import torch
from torch import Tensor

from lora.data.calibration import Calibration
from lora.errors import UserError
from lora.mace.device import device_of
from lora.mace.door import Untyped
from lora.mace.foundation import fingerprint
from lora.mace.last_layer import LastLayer


class Bounds:
    """Bounds for any program that runs a MACE model: ask after each of its passes.

    Each takes one product of the features [n_atoms, width] with a small matrix.
    """

    def __init__(self, model: Untyped, calibration: str | Path) -> None:
        """Watch a model.

        Args:
            model: The model, not in TorchScript and on e3nn's layers.
            calibration: The .trust.json beside an export of the same model.

        Raises:
            UserError: The file is missing or damaged, or of another model.
        """
        self.calibration = Calibration.read(calibration)
        if (own := fingerprint(model)) != self.calibration.fingerprint:
            raise UserError(
                f"{calibration}: was calibrated for the model with fingerprint "
                f"{self.calibration.fingerprint}, and this one has {own}; give the file beside the "
                "model"
            )
        self._layer = LastLayer(model)
        whitening = torch.as_tensor(self.calibration.rigidity.whitening, dtype=torch.float64)
        self._whitening = whitening.to(device_of(model))

    def scores(self) -> Tensor:
        """Return the scores [n_atoms] of the atoms of the latest pass."""
        return torch.linalg.vector_norm(self._layer() @ self._whitening, dim=1)

    def components(self) -> Tensor:
        """Return of each atom the bound [n_atoms] (eV/Å) of each component of the force on it."""
        return self.calibration.trial.bound.component * self.scores()

    def largest(self) -> float:
        """Return the bound (eV/Å) of the largest error of all force components of the pass."""
        return self.calibration.trial.bound.structure * float(self.scores().max())
