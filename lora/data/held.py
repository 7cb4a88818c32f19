"""Structures, few in memory and many in a file, so that data may be larger than memory.

Of more than `HELD` structures each is read from a file of this process when it is asked for, in
some 30 microseconds.  The file has no name, lies in $TMPDIR and ends with the process.
"""

import copy
import os
import pickle
import tempfile
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import overload

import numpy as np
from ase import Atoms

HELD = 10_000  # structures that are held in memory, with their graphs; of more, none is


@contextmanager
def naming_disk() -> Iterator[None]:
    """Say of a full disk in this context that it is that of $TMPDIR."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or tempfile.gettempdir()
        raise


class Outside(Sequence[Atoms], ABC):
    """Structures that are not all held in memory; neither are slices of them."""

    @abstractmethod
    def one(self, i: int) -> Atoms:
        """Return a structure by its number, from 0 on."""

    @overload
    def __getitem__(self, i: int) -> Atoms: ...

    @overload
    def __getitem__(self, i: slice) -> Sequence[Atoms]: ...

    def __getitem__(self, i: int | slice) -> Atoms | Sequence[Atoms]:
        place = range(len(self))[i]
        return Some(self, place) if isinstance(place, range) else self.one(place)


class Spool(Outside):
    """Structures in a file; each is a copy of its own whenever it is asked for."""

    def __init__(self, structures: Iterable[Atoms]) -> None:
        """Write structures one after the other.

        Args:
            structures: The structures, each of which is forgotten when it is written.

        Raises:
            OSError: $TMPDIR is full; the error names it.
        """
        with naming_disk():
            self.file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as this object)
        self.ends = array("q", [0])
        for atoms in structures:
            with naming_disk():
                self.ends.append(self.ends[-1] + self.file.write(pickle.dumps(atoms, -1)))
        with naming_disk():
            self.file.flush()

    def __len__(self) -> int:
        return len(self.ends) - 1

    def one(self, i: int) -> Atoms:
        """Return a structure by its number, from 0 on."""
        start, end = self.ends[i], self.ends[i + 1]
        # with its place, because processes that were forked share the position in the file
        made: Atoms = pickle.loads(os.pread(self.file.fileno(), end - start, start))
        return made


class Some(Outside):
    """Some structures of a sequence that is not held in memory."""

    def __init__(self, whole: Sequence[Atoms], indices: Sequence[int]) -> None:
        """Keep which they are.

        Args:
            whole: The sequence.
            indices: Their numbers in it, in the order in which they are asked for.
        """
        self.whole = whole
        self.indices = indices if isinstance(indices, range) else array("q", indices)

    def __len__(self) -> int:
        return len(self.indices)

    def one(self, i: int) -> Atoms:
        """Return a structure by its number, from 0 on."""
        return self.whole[self.indices[i]]


def hold(structures: Iterable[Atoms]) -> Sequence[Atoms]:
    """Return structures in a list, or, of more than `HELD`, in a file.

    Args:
        structures: The structures.
    """
    rest = iter(structures)
    few = list(islice(rest, HELD + 1))
    return few if len(few) <= HELD else Spool(chain(few, rest))


def only(structures: Sequence[Atoms], keep: Callable[[Atoms], bool]) -> Sequence[Atoms]:
    """Return those structures of which something is true, in a list if they are in one.

    Args:
        structures: The structures.
        keep: What has to be true.
    """
    if isinstance(structures, list):
        return [atoms for atoms in structures if keep(atoms)]
    return Some(structures, [i for i, atoms in enumerate(structures) if keep(atoms)])


def some(structures: Sequence[Atoms], indices: Sequence[int]) -> Sequence[Atoms]:
    """Return structures by their numbers, in a list if all are in one.

    Args:
        structures: The structures.
        indices: The numbers of those that are wanted.
    """
    if isinstance(structures, list):
        return [structures[i] for i in indices]
    return Some(structures, indices)


class Changed(Outside):
    """Structures of a sequence that is not held in memory, each changed when it is asked for."""

    def __init__(self, whole: Sequence[Atoms], change: Callable[[Atoms], None]) -> None:
        """Keep how they are changed.

        Args:
            whole: The sequence, which gives a copy whenever a structure is asked for.
            change: What is done to each.
        """
        self.whole, self.change = whole, change

    def __len__(self) -> int:
        return len(self.whole)

    def one(self, i: int) -> Atoms:
        """Return a structure by its number, from 0 on."""
        atoms = self.whole[i]
        self.change(atoms)
        return atoms


def changed(structures: Sequence[Atoms], change: Callable[[Atoms], None]) -> Sequence[Atoms]:
    """Return structures with a change; those of a list are changed themselves.

    Args:
        structures: The structures.
        change: What is done to each.
    """
    if not isinstance(structures, list):
        return Changed(structures, change)
    for atoms in structures:
        change(atoms)
    return structures


class Joined(Outside):
    """Several sequences, not all held in memory, one after the other; gives copies, as they do."""

    def __init__(self, *parts: Sequence[Atoms]) -> None:
        """Keep the parts.

        Args:
            *parts: The sequences.
        """
        self.parts, self.ends = parts, np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def one(self, i: int) -> Atoms:
        """Return a structure by its number, from 0 on."""
        part = int(np.searchsorted(self.ends, i, side="right")) - 1
        found = self.parts[part][i - int(self.ends[part])]
        return copy.deepcopy(found) if isinstance(self.parts[part], list) else found


def joined(*parts: Sequence[Atoms]) -> Sequence[Atoms]:
    """Return several sequences as one, a list if all are lists.

    Args:
        *parts: The sequences.
    """
    if all(isinstance(part, list) for part in parts):
        return [atoms for part in parts for atoms in part]
    return Joined(*parts)
