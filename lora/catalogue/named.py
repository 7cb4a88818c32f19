"""Import a function or class that a row of a catalogue names."""

from importlib import import_module
from typing import Any


def resolve(entry: str) -> Any:
    """Return a function or class.

    Args:
        entry: Its place, as "module:name"; the module is imported only now.
    """
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
