"""MACE models from files: published ones fetched, all read, refused or repaired, one head chosen.

Whatever enters the library as a MACE model comes through here, so that the rest may rely on it.
"""

import contextlib
import logging
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from torch import nn

from lora.catalogue.foundations import BY_NAME, NAMES, USABLE, why_not
from lora.errors import UserError, out_of_memory
from lora.files.sealed import check_file
from lora.mace.conditions import CONDITIONS
from lora.mace.door import Untyped, default_dtype, is_cueq, o3, upstream
from lora.plan.earlier import adapter_at

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.float64)
PACKAGES = {"les": "github.com/ChengUCB/les", "graph_longrange": "pip install graph-longrange"}


def fetch(name: str) -> Path:
    """Return the file of a published model, from MACE's cache or the network.

    Args:
        name: A name of `lora.catalogue.foundations`.

    Raises:
        UserError: There is no such name, or no network.
    """
    if adapter_at(name):
        raise UserError(
            f"foundation.model: {name} is an adapter, not a model; mace-lora foundation {name} "
            "--out base.model merges it into its base"
        )
    if name not in BY_NAME:
        raise UserError(
            f"foundation.model: {name} is neither a file nor a name that MACE knows; "
            f"names: {', '.join(NAMES)}"
        )
    row = BY_NAME[name]
    if why := why_not(row.cls):
        raise UserError(f"foundation.model: {name} {why}")
    cached = Path(upstream("mace.tools.utils").get_cache_dir()) / row.file
    if cached.is_file():
        return cached
    zoo = upstream("mace.calculators.foundations_models")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # how far the download is
            return Path(zoo.download_mace_mp_checkpoint(row.url))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"foundation.model: {name} could not be fetched ({error}); download {row.url} where "
            "there is a network and give the file"
        ) from None


def read_model(path: str | Path) -> tuple[nn.Module, list[str]]:
    """Return the model of a file, as this version of MACE would have made it, and what was mended.

    Args:
        path: A .model file. It is a pickle and runs what its author put in.

    Raises:
        UserError: The file holds no MACE model that can be fine-tuned.
    """
    path = Path(path)
    check_file(path)  # a merged model may be a base, too
    model = _unpickled(path)
    name = type(model).__name__
    kind = "TorchScript" if isinstance(model, torch.jit.ScriptModule) else name
    if why := why_not(kind):
        raise UserError(f"{path}: {why}")
    if not isinstance(model, nn.Module) or not hasattr(model, "interactions"):
        raise UserError(f"{path}: holds a {name}, not a MACE model")
    if name not in USABLE:
        raise UserError(
            f"{path}: holds a {name}, which is not known here; known are {' and '.join(USABLE)}"
        )
    _refuse_inside(model, path)
    return model, repair(model)


def _unpickled(path: Path) -> object:
    """Return what a file holds."""
    upstream("mace.modules")  # so that the classes of the pickle are found
    _warn_once("a .model file is a pickle and can run code when loaded: open only those you trust")
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        where = f" ({PACKAGES[package]})" if package in PACKAGES else ""
        raise UserError(
            f"{path}: was made with the package {package}{where}, which is not installed; models "
            "that need it cannot be fine-tuned here"
        ) from None
    except Exception as error:
        if out_of_memory(error):
            raise
        why = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UserError(f"{path}: cannot be read as a model ({why[0]})") from None


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _refuse_inside(model: Untyped, path: Path) -> None:
    """Raise UserError for layers and inputs that are not known here."""
    others = [x for x in getattr(model, "embedding_specs", None) or {} if x not in CONDITIONS]
    if others:
        raise UserError(
            f"{path}: takes {others[0]} as an input, which data cannot give here; models with "
            f"embeddings of {' and '.join(CONDITIONS)} can be fine-tuned"
        )
    for dtype in {p.dtype for p in model.parameters()} - set(DTYPES):
        kind = str(dtype).removeprefix("torch.")
        raise UserError(f"{path}: has weights in {kind}; save it in float32 or float64")
    if any(is_cueq(module) for module in model.modules()):
        raise UserError(
            f"{path}: is on cuEquivariance's layers; convert it with mace_cueq_to_e3nn and give "
            "that file (enable_cueq: true trains on cuEquivariance)"
        )


def repair(model: Untyped) -> list[str]:
    """Set what this version of MACE reads of a model and older files lack.

    MACE before 0.3.7 had no heads.  Some files lack the irreps of edges, or have None in their
    place, and MACE, which builds models anew from these attributes, then builds another one
    (github.com/ACEsuit/mace/issues/1495); the layers say what they are.

    Args:
        model: A MACE model; it is changed.

    Returns:
        What was set, for people.
    """
    done = []
    if not getattr(model, "heads", None):
        model.heads = ["Default"]
        done.append("no heads (MACE before 0.3.7): one head, Default")
    if len({p.dtype for p in model.parameters()}) > 1:
        model.to(torch.float64)
        done.append("weights in float32 and float64: all are in float64")
    first, last = model.interactions[0].linear_up, model.interactions[-1].linear_up
    edges = o3.Irreps(str(last.irreps_out)) if _narrows(last) else None
    own = {"edge_irreps": edges, "use_edge_irreps_first": _narrows(first)}
    for name, value in own.items():
        said = getattr(model, name, None) or None
        if str(said) != str(value or None):
            done.append(f"{name} was {said}, the layers have {value}")
        setattr(model, name, value)
    return done


def _narrows(linear: Untyped) -> bool:
    """Return True where messages have other irreps than the atoms."""
    return o3.Irreps(str(linear.irreps_in)) != o3.Irreps(str(linear.irreps_out))


def heads_of(model: Untyped) -> list[str]:
    """Return the names of the heads of a model.

    Args:
        model: A MACE model.
    """
    heads: Iterable[str] = getattr(model, "heads", None) or ["Default"]
    return [str(head) for head in heads]


def choose_head(model: nn.Module, head: str | None, name: str | Path) -> nn.Module:
    """Return a model with one head; a model that has one is returned as it is.

    Args:
        model: A MACE model.
        head: The head to keep; None where there is one.
        name: The name of the model, for messages.

    Raises:
        UserError: There is no such head, several and no choice, or MACE cannot take it out.
    """
    heads = heads_of(model)
    if head is not None and head not in heads:
        raise UserError(f"foundation.head: {head} is not in {name}; heads: {', '.join(heads)}")
    if len(heads) == 1:
        return model
    if head is None:
        raise UserError(
            f"foundation.head: {name} has several heads, choose one of: {', '.join(heads)}"
        )
    try:
        with default_dtype(next(model.parameters()).dtype):  # else float64 weights pass float32
            return upstream("mace.tools.scripts_utils").remove_pt_head(model, head)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"foundation.head: MACE cannot take the head {head} out of {name}, a "
            f"{type(model).__name__} ({why}); take it out with mace_select_head and give that file"
        ) from None
