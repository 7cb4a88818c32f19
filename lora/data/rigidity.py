"""A score of each atom: how little the training set says about it, by a model's last layer.

    s = sqrt(f^T (F^T F + lambda)^-1 f)

with f the features of the atom that a model's last layer reads, and F those of the atoms of the
training set: the last-layer prediction rigidity (LLPR) of Bigi et al., arXiv 2403.02251, an atom.
It costs a pass over the training set once and one small matrix product a structure after that.
A score is no error yet; `lora.data.conformal` says how many eV/Å stand for one.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

# lambda, in mean eigenvalues of F^T F: far above the rounding of float32, of which features have
# 1e-7 and F^T F its square, and far below what structures differ by
RIDGE = 1e-8


@dataclass(frozen=True)
class Rigidity:
    """What the training set says about directions of feature space.

    Attributes:
        whitening: A matrix [width, width] W with W W^T = (F^T F + lambda)^-1.
    """

    whitening: np.ndarray

    @classmethod
    def of(cls, features: Iterable[np.ndarray]) -> "Rigidity":
        """Return that of a training set.

        Args:
            features: The features of some atoms [n_atoms, width] at a time, at least one atom.

        Raises:
            numpy.linalg.LinAlgError: A feature is not finite.
        """
        gram = sum((part.T @ part for part in features), start=np.zeros(()))
        if not np.isfinite(gram).all():
            raise np.linalg.LinAlgError("the features are not finite")
        mean = max(np.trace(gram) / len(gram), 1e-30)  # of a model that reads zeros
        factor = np.linalg.cholesky(gram + RIDGE * mean * np.eye(len(gram)))
        return cls(solve_triangular(factor, np.eye(len(gram)), lower=True).T)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores [n_atoms] of atoms.

        Args:
            features: Their features [n_atoms, width].
        """
        found: np.ndarray = np.linalg.norm(features @ self.whitening, axis=1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds, exactly; `from_dict` gives the same back."""
        content = np.ascontiguousarray(self.whitening, dtype="<f8").tobytes()
        return {"width": len(self.whitening), "base64": base64.b64encode(content).decode()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Rigidity":
        """Return it from JSON."""
        flat = np.frombuffer(base64.b64decode(values["base64"]), dtype="<f8")
        return cls(flat.reshape(values["width"], values["width"]).astype(float))
