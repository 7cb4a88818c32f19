"""What no adapter may be: settings that mean nothing, values that are not finite, idle ranks."""

import logging
import math
import os
from collections.abc import Iterable, Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path

from torch import Tensor, nn

from lora.catalogue.methods import ALONG_GRADIENT, SCALINGS
from lora.plan.words import did_you_mean

log = logging.getLogger(__name__)


def check_model(model: object) -> None:
    """Raise an error for what is no model.

    Args:
        model: What was given as a model.

    Raises:
        TypeError: It is no module of torch.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, as load_foundation returns, got {_named(model)}"
        )


def check_extras(extras: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise an error for settings that `inject_lora` does not have, or of a wrong type.

    Args:
        extras: The settings by name.
        known: The names that there are.

    Raises:
        TypeError: One is not known, or `modules_to_save` is no list of names.
    """
    for name in extras.keys() - {*known}:
        raise TypeError(f"inject_lora has no argument {name}{did_you_mean(name, known)}")
    whole = extras.get("modules_to_save", ())
    if not isinstance(whole, Iterable) or not all(isinstance(x, str) for x in whole):
        raise TypeError(f"modules_to_save must be names of modules, got {_named(whole)}")


def path_of(folder: object) -> Path:
    """Return what was given as a folder.

    Args:
        folder: It.

    Raises:
        TypeError: It is neither a text nor a path.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder must be a path, got {_named(folder)}")
    return Path(folder)


def _named(value: object) -> str:
    """Return a value of a simple type as it is, else the name of its type."""
    simple = isinstance(value, (str, int, float)) or value is None
    return repr(value) if simple else f"a {type(value).__name__}"


def check_settings(rank: object, alpha: object, scaling: object) -> None:
    """Raise an error for a setting that no layer can have.

    Args:
        rank: A whole number of at least 1.
        alpha: A finite number above 0.
        scaling: One of `SCALINGS`.

    Raises:
        ValueError: One of them is not allowed.
    """
    if not isinstance(rank, Integral) or isinstance(rank, bool):
        raise ValueError(f"rank must be a whole number, got {rank!r}")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a finite number above 0, got {alpha!r}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")


def checked_start(start: str) -> str:
    """Return a start that a model alone gives.

    Args:
        start: Its name.

    Raises:
        ValueError: It needs data.
    """
    if start in ALONG_GRADIENT:
        raise ValueError(
            f"start {start} needs structures: inject without it, then call "
            "lora.training.starts.along_gradient(settings, graphs)(model); docs/library.md"
        )
    return start


def check_enabled(model: nn.Module, act: str) -> None:
    """Raise an error for a model inside of `with disabled(model)`.

    There, modules that train as a whole have the base's weights, and get theirs back at its end.

    Args:
        model: A model, with adapters or without.
        act: What is to be done with the adapters, for the message.

    Raises:
        ValueError: Adapters are switched off.
    """
    adapters = [x for x in model.modules() if getattr(x, "is_adapter", False)]
    if not all(adapter.enabled for adapter in adapters):
        raise ValueError(f"the adapters are disabled: {act} outside of `with disabled(model)`")


def check_finite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise an error if one of the tensors of an adapter holds inf or nan.

    Args:
        tensors: Names and tensors.

    Raises:
        ValueError: One does; the message names it.
    """
    for name, value in tensors:
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"{name} holds a number that is not finite; the adapter is of no use, train it "
                "again with a lower learning rate"
            )


def say_idle_ranks(ranks: Mapping[str, tuple[int, int]]) -> None:
    """Warn of ranks above what a layer can have; they cost parameters and gain nothing.

    They are not refused: the model is right, and one rank for all layers is the custom.  Layers
    that can only have rank 1, such as readouts of one energy, are passed over while others are
    adapted, because they have less than any rank that is asked for.

    Args:
        ranks: {layer: (its rank, the highest that it can have)}.
    """
    highest = max(most for _, most in ranks.values())
    idle = {
        name: most
        for name, (rank, most) in ranks.items()
        if rank > most and (most > 1 or highest == 1)
    }
    if idle:
        asked = ", ".join(map(str, sorted({ranks[name][0] for name in idle})))
        _warn_once(
            f"rank {asked}: above what {len(idle)} of {len(ranks)} layers can have, where it adds "
            f"parameters and nothing else; the largest useful rank is {max(idle.values())} for "
            f"them and {highest} for the model "
            f"({', '.join(f'{name}: {most}' for name, most in idle.items())}); lower it, or set "
            "targets.rank_pattern"
        )


@cache
def _warn_once(message: str) -> None:
    log.warning(message)
