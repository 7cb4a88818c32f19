"""What ends a step early: a mistake of the user, a pause; and the exit codes that say so."""

import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one line with where, what, and what to do."""


class UserErrors(UserError):  # noqa: N818  # several of them
    """Several mistakes that were found together.

    Attributes:
        lines: One line for each mistake, in the order of the file that holds them.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """Keep the lines.

        Args:
            lines: One line for each mistake.
        """
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type["UserErrors"], tuple[list[str]]]:
        """Return what pickle needs: the lines, not the joined text."""
        return type(self), (self.lines,)


MEMORY_CODE = 71  # EX_OSERR: the system gave no memory
EXIT_CODE = 75  # EX_TEMPFAIL: nothing is wrong, run it again


class Paused(Exception):  # noqa: N818  (it is no error)
    """A training that stopped early and goes on from its checkpoint when it is run again."""


# how Python's import, torch and other libraries say that there is no memory
NO_MEMORY = re.compile(
    "bad_alloc|bad allocation|allocation failed|allocate memory|failed to allocate|out of memory"
    "|not enough memory|failed to map segment|returned NULL without setting|without exception set",
    re.IGNORECASE,
)
MEMORY = "memory ran out; give the job more of it, or lower batch_size and valid_batch_size"


def out_of_memory(error: BaseException) -> bool:
    """Return True where an error says that there is no memory left, of the CPU or the GPU.

    Args:
        error: The error, of Python, torch or another library.
    """
    at: BaseException | None = error
    while at is not None:  # the one that it came from may say it
        named = isinstance(at, MemoryError) or type(at).__name__ == "OutOfMemoryError"  # torch's
        vague = isinstance(at, (RuntimeError, SystemError, ImportError))
        if named or (vague and NO_MEMORY.search(str(at))):
            return True
        if isinstance(at, OSError) and at.errno == errno.ENOMEM:
            return True
        at = at.__context__
    return False


def one_line(text: object) -> str:
    """Return a message as one line that a terminal shows as it is, whatever names stand in it.

    Args:
        text: The message, or the error that holds it.
    """
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in str(text))


def trouble(error: OSError) -> str:
    """Return what the system says of a file, and which: "a/b: no space left on device"."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"
