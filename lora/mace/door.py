"""The one door to e3nn and MACE, so that importing us leaves torch's safe loading on.

e3nn 0.4.4 unpickles a constants file that torch >= 2.6 refuses.  MACE's answer is an environment
variable, set when it is imported, that turns safe loading off for the whole process.  Here the
one type that e3nn needs is allowed instead, and MACE is imported only when a step needs it;
what we load ourselves says `weights_only` each time.

MACE imports torch's compiler, too, where it is installed.  That takes as long as torch itself, and
of our steps only a training's optimiser asks for it; so MACE finds none, until it uses it.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from types import ModuleType
from typing import Any, TypeAlias

import torch

torch.serialization.add_safe_globals([slice])

from e3nn import o3  # noqa: E402
from e3nn.nn._fc import _Layer as FCLayer  # noqa: E402

Untyped: TypeAlias = Any  # a module of MACE, e3nn or cuEquivariance: what it holds has no types


def upstream(module: str) -> ModuleType:
    """Import a module of MACE without what it prints and warns.

    Args:
        module: Its name, for example "mace.data".
    """
    with warnings.catch_warnings(), redirect_stdout(StringIO()), _compiler_later():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


USED = ("modules", "data", "tools.train", "tools.scripts_utils", "calculators")  # by our steps


def import_all() -> None:
    """Import what steps use of MACE, before any of them does."""
    for name in USED:
        upstream(f"mace.{name}")


COMPILER, ITS_USER = "torch._dynamo", "mace.tools.compile"


class _Compiler:
    """Torch's compiler, imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(COMPILER), name)


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Let MACE find no compiler while it is imported, and a `_Compiler` afterwards."""
    if COMPILER in sys.modules or ITS_USER in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[COMPILER] = None  # what is None there is not found
    try:
        yield
    finally:
        del sys.modules[COMPILER]
        if ITS_USER in modules:
            modules[ITS_USER].dynamo = _Compiler()


def is_cueq(module: torch.nn.Module) -> bool:
    """Return True for a layer of cuEquivariance, without importing it.

    Args:
        module: Any module of a model.
    """
    return type(module).__module__.partition(".")[0] == "cuequivariance_torch"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in a dtype inside the block: MACE and e3nn read torch's global.

    Args:
        dtype: The dtype.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


__all__ = ["FCLayer", "Untyped", "default_dtype", "import_all", "is_cueq", "o3", "upstream"]
