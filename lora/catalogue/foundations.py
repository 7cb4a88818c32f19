"""The foundation models that MACE fetches by name, with their licences and papers.

Licences and papers are those that MACE's own code and papers state.
"""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

MACE_PAPER = "MACE: Batatia et al., NeurIPS 2022, arXiv 2206.07697"
ASL = "ASL (Academic Software License): no commercial use"
_MP = "MACE-MP-0: arXiv 2401.00096"
_OMAT = f"OMat24: arXiv 2410.12771; {_MP}"
_MATPES = f"MatPES: arXiv 2503.04070; {_MP}"
_OFF = "MACE-OFF: arXiv 2312.15211"


@dataclass(frozen=True)
class Foundation:
    """One foundation model.

    Attributes:
        name: The name that MACE's code knows.
        licence: Its licence; None if it is not known here.
        paper: What to cite; None if it is not known here.
        aliases: Other names for it.
        source: Which of MACE's functions fetches it: mace_mp, mace_off or mace_omol.
        marks: What the name of its file holds, in small letters and digits only.
    """

    name: str
    licence: str | None = None
    paper: str | None = None
    aliases: tuple[str, ...] = ()
    source: Literal["mp", "off", "omol"] = "mp"
    marks: tuple[str, ...] = ()


# A file is the first row of which its name holds a mark: OMat's before those that it continues.
ROWS = (
    Foundation("small-omat-0", ASL, _OMAT, ("small_omat",), marks=("omat",)),
    Foundation("medium-omat-0", ASL, _OMAT, ("medium_omat",), marks=("omat",)),
    Foundation("mace-matpes-pbe-0", ASL, _MATPES, marks=("matpes",)),
    Foundation("mace-matpes-r2scan-0", ASL, _MATPES, marks=("matpes",)),
    Foundation("mace_omol", ASL, "OMol25: arXiv 2505.08762", source="omol", marks=("omol",)),
    Foundation("small_off", ASL, _OFF, source="off", marks=("off",)),
    Foundation("medium_off", ASL, _OFF, source="off", marks=("off",)),
    Foundation("large_off", ASL, _OFF, source="off", marks=("off",)),
    Foundation("medium-mpa-0", "MIT", _MP, ("medium_mpa",), marks=("mpa",)),
    Foundation("small", "MIT", _MP, marks=("mace128l", "macemp")),
    Foundation("medium", "MIT", _MP, marks=("mace128l", "macemp")),
    Foundation("large", "MIT", _MP, marks=("mptrj", "macemp")),
    Foundation("small-0b", "MIT", _MP, marks=("agnesi",)),
    Foundation("medium-0b", "MIT", _MP, marks=("agnesi",)),
    Foundation("small-0b2", "MIT", _MP, marks=("agnesi",)),
    Foundation("medium-0b2", "MIT", _MP, marks=("agnesi",)),
    Foundation("large-0b2", "MIT", _MP, marks=("agnesi",)),
    Foundation("medium-0b3", "MIT", _MP, marks=("macemp",)),
    Foundation("mh-0"),
    Foundation("mh-1"),
)
BY_NAME = {name: row for row in ROWS for name in (row.name, *row.aliases)}
ALIASES = {alias: row.name for row in ROWS for alias in row.aliases}
NAMES = tuple(BY_NAME)


def known_foundation(base: str | None) -> Foundation | None:
    """Return the row of a foundation model, by its name or by the name of its file.

    Args:
        base: A name, or the path of a .model file; None is not known.
    """
    if not base:
        return None
    if base in BY_NAME:
        return BY_NAME[base]
    letters = "".join(c for c in PurePath(base).name.lower() if c.isalnum())
    return next((row for row in ROWS if any(mark in letters for mark in row.marks)), None)
