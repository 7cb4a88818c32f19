"""Calibrated bounds of a model's force errors as a file, which travels with the model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lora.catalogue.columns import VALID
from lora.data.conformal import Bound, Covered, Share, calibrate, measure
from lora.data.rigidity import Rigidity
from lora.errors import UserError
from lora.files.sealed import check_file, read_json, write_sealed

TRUST = ".trust.json"  # the end of the file's name beside an exported model


@dataclass(frozen=True)
class Trial:
    """Bounds, and how they held on sets that they were not calibrated on.

    Attributes:
        bound: The bounds.
        sets: How they held on each test set, by its name; sets without forces are not there.
    """

    bound: Bound
    sets: Mapping[str, Covered]

    @classmethod
    def of(cls, table: pd.DataFrame, coverage: float) -> "Trial":
        """Calibrate bounds on the validation set, and measure them on every other set.

        Args:
            table: As for `lora.data.conformal.calibrate`, and test_set, the set of each row.
            coverage: The share that the bounds are to hold for.

        Raises:
            ValueError: The validation set has too few structures with forces.
        """
        bound = calibrate(table[table["test_set"] == VALID], coverage)
        others = table[table["test_set"] != VALID].groupby("test_set", sort=False)
        return cls(bound, {str(name): measure(part, bound) for name, part in others})

    @property
    def holding(self) -> dict[str, Covered]:
        """Return the sets on which the bounds may be called an uncertainty."""
        return {k: x for k, x in self.sets.items() if x.holds(self.bound.coverage)}

    @property
    def failing(self) -> dict[str, Covered]:
        """Return the sets on which they may not."""
        return {k: x for k, x in self.sets.items() if k not in self.holding}

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds; `from_dict` gives the same back."""
        holds = {name: {"uncertainty": name in self.holding} for name in self.sets}
        sets = {name: asdict(x) | holds[name] for name, x in self.sets.items()}
        return {"bound": asdict(self.bound), "sets": sets}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Trial":
        """Return it from JSON."""
        sets = {
            name: Covered(
                Share(**found["components"]),
                Share(**found["structures"]),
                found["median"],
                found["largest"],
                found["n_structures"],
            )
            for name, found in values["sets"].items()
        }
        return cls(Bound(**values["bound"]), sets)


@dataclass(frozen=True)
class Calibration:
    """All that is needed to bound the force errors of a model while it runs.

    Attributes:
        point: The name of the model.
        fingerprint: Of its weights (`lora.mace.origin.fingerprint`).
        trial: The bounds, and how they held.
        rigidity: What gives an atom its score.
    """

    point: str
    fingerprint: str
    trial: Trial
    rigidity: Rigidity

    def components(self, scores: np.ndarray) -> np.ndarray:
        """Return the bounds [n_atoms] (eV/Å) of each component of the forces on atoms.

        Args:
            scores: The scores [n_atoms] of the atoms.
        """
        return self.trial.bound.component * scores

    def largest(self, scores: np.ndarray) -> float:
        """Return the bound (eV/Å) of the largest force error of a structure.

        Args:
            scores: The scores [n_atoms] of its atoms.
        """
        return self.trial.bound.structure * float(scores.max(initial=0.0))

    def write(self, path: Path) -> None:
        """Write the file, sealed."""
        own = {"point": self.point, "fingerprint": self.fingerprint}
        rest = {"rigidity": self.rigidity.to_dict()}
        write_sealed(path, own | self.trial.to_dict() | rest)

    @classmethod
    def read(cls, path: str | Path) -> "Calibration":
        """Read the file.

        Args:
            path: The file.

        Raises:
            UserError: It is missing, damaged or edited, or no such file.
        """
        check_file(path)
        found = read_json(path)
        try:
            trial, rigidity = Trial.from_dict(found), Rigidity.from_dict(found["rigidity"])
            return cls(found["point"], found["fingerprint"], trial, rigidity)
        except (KeyError, TypeError):
            raise UserError(
                f"{path}: holds no calibration; give the {TRUST} beside an exported model"
            ) from None
