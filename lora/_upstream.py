"""The one door to e3nn and MACE, so that importing us leaves torch's safe loading as it was.

e3nn 0.4.4 unpickles a constants file that torch >= 2.6 refuses, and `import mace` answers
with an environment variable that turns safe loading off for the whole process.  Here the one
type that e3nn needs is allowed instead, and the variable is put back.
"""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from types import ModuleType

import torch

torch.serialization.add_safe_globals([slice])

from e3nn import o3  # noqa: E402
from e3nn.nn._fc import _Layer as FCLayer  # noqa: E402

_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def upstream(module: str) -> ModuleType:
    """Import a module of MACE (`upstream("mace.data")`), quietly and without its side effect."""
    before = os.environ.get(_SWITCH)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):  # it prints what is missing
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    finally:
        os.environ.pop(_SWITCH, None)
        if before is not None:
            os.environ[_SWITCH] = before


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in `dtype` inside the block: MACE and e3nn read torch's global."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


__all__ = ["FCLayer", "default_dtype", "o3", "upstream"]
