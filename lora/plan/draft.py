"""A config in the making: keys with their values, and the reason of each as a comment."""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import yaml

from lora.plan.messages import Key, every_key

WIDTH = 96  # characters of a line
RANKS, ALPHAS = [4, 8, 16], [8, 32]  # of a first sweep


@dataclass
class Entry:
    """What the file holds at one key.

    Attributes:
        why: Comments, a paragraph each.
        value: The value, where it is written.
        written: Whether the key is written; where not, only the comments are.
    """

    why: list[str] = field(default_factory=list)
    value: Any = None
    written: bool = False


class Draft:
    """Values and reasons, in the order of the config.

    Args:
        title: Comments at the top, a paragraph each.
    """

    def __init__(self, *title: str) -> None:
        self.title = title
        self.entries: dict[Key, Entry] = {}
        self.doubts: list[str] = []

    def set(self, key: str, value: Any, *why: str) -> None:
        """Write a key.

        Args:
            key: The key, "grid.rank".
            value: Its value, as YAML holds it.
            *why: The reasons.
        """
        entry = self.entries.setdefault(tuple(key.split(".")), Entry())
        entry.value, entry.written = value, True
        entry.why += why

    def say(self, key: str, *why: str) -> None:
        """Add comments at a key, or at a section, that is not written.

        Args:
            key: The key.
            *why: The comments.
        """
        self.entries.setdefault(tuple(key.split(".")), Entry()).why += why

    def doubt(self, key: str, why: str) -> None:
        """Add a comment at a key that the user is told on the terminal, too.

        Args:
            key: The key.
            why: What is not sure, and what to do.
        """
        self.say(key, why)
        self.doubts.append(f"{key}: {why}")

    def values(self) -> dict[str, Any]:
        """Return the config without its comments."""
        out: dict[str, Any] = {}
        for key, entry in self._sorted():
            if entry.written:
                section = out
                for part in key[:-1]:
                    section = section.setdefault(part, {})
                section[key[-1]] = entry.value
        return out

    def text(self) -> str:
        """Return the YAML file."""
        lines = _comments(self.title, 0)
        opened: Key = ()
        for key, section, entry in self._placed():
            shared = len([*takewhile(lambda x: x[0] == x[1], zip(opened, section, strict=False))])
            if not shared:
                lines.append("")
            for depth in range(shared, len(section)):
                lines.append(f"{'  ' * depth}{section[depth]}:")
            opened = section
            name = ".".join(key[len(section) :])
            about = f"{name}: " if name and not entry.written else ""
            lines += _comments([about + x for x in entry.why], len(section))
            if entry.written:
                lines.append(f"{'  ' * len(section)}{name}: {_flow(entry.value)}")
        return "\n".join(lines) + "\n"

    def _placed(self) -> Iterator[tuple[Key, Key, Entry]]:
        """Yield key, section and entry in the order of the file.

        The section is the deepest that something is written in: comments do not open one.
        """
        written = {key[:i] for key, e in self.entries.items() if e.written for i in range(len(key))}
        for key, entry in self._sorted():
            section = key[:-1] if entry.written else key
            while section not in written:
                section = section[:-1]
                if not section:
                    break
            yield key, section, entry

    def _sorted(self) -> list[tuple[Key, Entry]]:
        """Return the entries in the order of the config; what is said of a section comes first."""
        order = {key: i for i, key in enumerate(every_key())}
        return sorted(self.entries.items(), key=lambda x: order[x[0]])


def _comments(paragraphs: Iterable[str], depth: int) -> list[str]:
    """Return comments, wrapped and indented."""
    start = "  " * depth + "# "
    lines: list[str] = []
    for text in paragraphs:
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=start,
            subsequent_indent=start,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _flow(value: Any) -> str:
    """Return a value as YAML writes it in a line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()
