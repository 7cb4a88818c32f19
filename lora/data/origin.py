"""The origin of a frame: the file that it was read from first, and its number there.

It travels in `atoms.info` through every file that this project writes.  The names begin with
`lora_`, so that keys of a user's own file, such as `source_file`, keep their names and values.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

SOURCE_FILE, SOURCE_FRAME = "lora_source_file", "lora_source_frame"


class Origin(NamedTuple):
    """Where a frame comes from.

    Attributes:
        file: The file, as the config or the command names it.
        frame: The number of the frame in that file, from 0.
    """

    file: str
    frame: int

    def __str__(self) -> str:
        """Return file and frame as messages name them."""
        return f"{self.file} frame {self.frame}"


def origin_of(atoms: Atoms) -> Origin | None:
    """Return the origin of a structure; None where it was not read from a file.

    Args:
        atoms: The structure.
    """
    if SOURCE_FILE not in atoms.info or SOURCE_FRAME not in atoms.info:
        return None
    return Origin(str(atoms.info[SOURCE_FILE]), int(atoms.info[SOURCE_FRAME]))


def set_origin(atoms: Atoms, origin: Origin) -> None:
    """Write an origin to a structure.

    Args:
        atoms: The structure, which is changed.
        origin: Its origin.
    """
    atoms.info |= {SOURCE_FILE: origin.file, SOURCE_FRAME: origin.frame}


def read_from(frames: Iterable[Atoms], path: str | Path, keep: bool = False) -> None:
    """Write to each frame of a file that it was read from there.

    Args:
        frames: All frames of the file in their order, which are changed.
        path: The file.
        keep: Leave frames that have an origin as they are.
    """
    for i, atoms in enumerate(frames):
        if not (keep and origin_of(atoms)):
            set_origin(atoms, Origin(str(path), i))


def where(atoms: Atoms, path: str | Path, i: int) -> str:
    """Return the origin of a structure for a message, such as "dft.xyz frame 17".

    Args:
        atoms: The structure.
        path: What to name where it has no origin: the file, or what holds the structure.
        i: Its number there, from 0.
    """
    return str(origin_of(atoms) or Origin(str(path), i))
