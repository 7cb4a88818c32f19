"""A look at the file of a model, without torch and without running what a pickle holds."""

import pickletools
import zipfile
from pathlib import Path


def class_in(path: Path) -> str | None:
    """Return the name of the class of what a file of torch holds.

    Args:
        path: The file.

    Returns:
        The name, TorchScript for a compiled program, or None where it cannot be told.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                return "TorchScript"
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                return None
            with archive.open(pickles[0]) as pickled:
                for code, argument, _ in pickletools.genops(pickled):
                    if code.name == "GLOBAL":  # "module class", the outermost object first
                        return str(argument).rpartition(" ")[2]
                    if code.name == "EMPTY_DICT":
                        return "dict"
    except (OSError, ValueError, zipfile.BadZipFile):
        pass
    return None
