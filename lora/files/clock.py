"""Tell the time by the clock that dates files, which is the file server's."""

import os
import tempfile
import time
from pathlib import Path


def file_time(folder: Path) -> float:
    """Return the time by the clock that dates the files of a folder, in seconds since 1970.

    The clocks of two machines may be an hour apart; only this one can be compared with the date of
    a file that either of them wrote.  Where nobody may write it is this machine's.

    Args:
        folder: The folder.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
