"""Describe one job of a sweep: what it reads, what it runs, and what has to be done before it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# steps that compute nothing with torch, MACE and e3nn, so that their versions do not count
PLAIN = ("split", "rung", "shortlist", "choose", "report", "track")
FOUNDATION_ROLE = "foundation"  # of the foundation model, among files and settings


@dataclass(frozen=True)
class Job:
    """One command of a sweep.

    settings: every value of the config that the step reads, as JSON
    files:    {role: file of the user, or the foundation model}; their contents count, not their
              names
    needs:    the jobs whose receipts it reads
    after:    the jobs that have to be done before it runs and of which it reads nothing: what they
              found counts for nothing, and where they run again it does not
    code:     modules, or functions in them, that it runs
    copies:   {file that it makes: the user's file that it will be a copy of, None for one that
              is fetched}
    """

    step: str
    name: str
    receipt: Path
    settings: dict[str, Any]
    code: tuple[str, ...]
    files: dict[str, Path] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    copies: dict[Path, Path | None] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return what a job is called in a plan."""
        return key_of(self.step, self.name)

    @property
    def computes(self) -> bool:
        """Return True where the versions of torch, MACE and e3nn count."""
        return self.step not in PLAIN


def key_of(step: str, name: str = "") -> str:
    """Return what a job is called in a plan."""
    return f"{step}/{name}" if name else step
