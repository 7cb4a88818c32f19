"""Memory set aside, so that a training that has used up all the rest can still say so."""

import contextlib
import mmap

BLOCK = 1 << 20  # bytes
MOST = 16  # blocks


class Spare:
    """Address space that nothing else may have until it is given back; it takes no pages."""

    def __init__(self) -> None:
        """Take it; where there is little, half of what there is."""
        self._blocks: list[mmap.mmap] = []
        with contextlib.suppress(OSError, MemoryError):
            while len(self._blocks) < MOST:
                self._blocks.append(mmap.mmap(-1, BLOCK))
        if len(self._blocks) < MOST:
            del self._blocks[::2]

    def give_back(self) -> None:
        """Let the rest of the process have it."""
        self._blocks.clear()
