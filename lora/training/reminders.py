"""What a training is reminded of the foundation model with, beside the new data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from lora.data.held import changed, hold, joined
from lora.data.labels import WEIGHT
from lora.data.structures import load_structures
from lora.errors import UserError
from lora.mace.heads import mark_replay
from lora.plan.settings import TrainSettings
from lora.training.inputs import TrainFiles


@dataclass(frozen=True)
class Reminders:
    """Labelled structures that are trained on beside the new data.

    Attributes:
        replayed: Structures of the foundation model's own kind, for a head of their own.
        kept: Structures made around the training set, for the head of the new data.
        trains: Whether it trains on those; elastic weight consolidation can do without.
        files: The files that they are from.
    """

    replayed: Sequence[Atoms]
    kept: Sequence[Atoms]
    trains: bool
    files: tuple[str | Path, ...]

    @classmethod
    def of(cls, settings: TrainSettings, files: TrainFiles) -> "Reminders":
        """Read what a training asks for.

        Args:
            settings: Its settings.
            files: Its files.

        Raises:
            UserError: It asks for structures of which it has no file.
        """
        replayed: Sequence[Atoms] = []
        kept: Sequence[Atoms] = []
        read: list[str | Path] = []
        if settings.replay:
            if not files.replay:
                raise UserError("replay: true needs structures to replay; set replay.file")
            replayed = mark_replay(load_structures(files.replay), settings.replay_weight)
            read.append(files.replay)
        if settings.keep:
            if not files.keep:
                raise UserError("keep: true needs made structures; give the file of mace-lora keep")
            kept = _weighted(load_structures(files.keep), settings.keep_weight)
            read.append(files.keep)
        return cls(replayed, kept, settings.keep_weight > 0, tuple(read))

    @property
    def every(self) -> Sequence[Atoms]:
        """Return all that is trained on."""
        return joined(self.replayed, self.kept) if self.trains else self.replayed


def _weighted(structures: Sequence[Atoms], weight: float) -> Sequence[Atoms]:
    """Return copies with a weight in the loss, times the one that each has."""

    def change(atoms: Atoms) -> None:
        atoms.info[WEIGHT] = weight * float(atoms.info.get(WEIGHT, 1.0))

    return changed(hold(atoms.copy() for atoms in structures), change)
