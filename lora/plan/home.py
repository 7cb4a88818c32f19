"""Find the workflow that belongs to this library: its clone's, or the one that its wheel brought.

A workflow of the user's own names it in a `module`, so its folder need not hold it; the data of the
quickstart are found with it.
"""

import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import write_text

LIBRARY = Path(__file__).resolve().parents[1]
PACKAGE = "mace-lora-sweep"
QUICKSTART = "workflow/resources/quickstart/"
MODULE = """\
# A sweep by the rules of the mace-lora-sweep that is installed: snakemake --configfile my.yaml
# Rules of your own go below.

from lora.plan.home import snakefile


module sweep:
    snakefile:
        snakefile()
    config:
        config


use rule * from sweep


onsuccess:
    sweep.onsuccess()
"""
INSTALL = f'pip install "{PACKAGE}[workflow]" of that version into the environment of snakemake'


@cache
def home() -> Path | None:
    """Return the folder with the Snakefile of this library; None where it was left out."""
    if (LIBRARY.parent / "Snakefile").is_file():
        return LIBRARY.parent
    try:
        brought = files(PACKAGE) or []
    except PackageNotFoundError:
        return None
    found = [x for x in brought if x.name == "Snakefile" and x.parent.name == PACKAGE]
    return Path(str(found[0].locate())).resolve().parent if found else None


def lead_jobs() -> None:
    """Let jobs use the library of this clone, too, and not another that is installed."""
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if home() == LIBRARY.parent and before[0] != str(LIBRARY.parent):
        paths = [str(LIBRARY.parent), *filter(None, before)]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def snakefile() -> str:
    """Return the Snakefile for a `module` of the user's own.

    Raises UserError: the library came without it.
    """
    return str(_needed() / "Snakefile")


def _needed() -> Path:
    """Return the folder of the workflow; raise UserError where there is none."""
    folder = home()
    if folder is None:
        raise UserError(
            f"{LIBRARY}: this library came without its workflow; install the wheel of {PACKAGE} "
            "with pip, or clone its repository and start snakemake there"
        )
    return folder


def settle(folder: Path) -> list[str]:
    """Write into a folder without a workflow what snakemake needs there; return what was written.

    Args:
        folder: A folder; files that are there are left as they are.

    Raises UserError: the library came without its workflow.
    """
    if any((folder / x).exists() for x in ("Snakefile", "snakefile", "workflow/Snakefile")):
        return []
    source = _needed()
    written = ["Snakefile"]
    write_text(folder / "Snakefile", MODULE)
    for name in ("profiles/default/config.yaml", "slurm/config.yaml"):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, (source / name).read_text())
            written.append(name)
    return written


def with_quickstart(raw: Any, folder: Path) -> Any:
    """Return a raw config with the files of the quickstart where they are.

    Args:
        raw: What the config holds, at any depth.
        folder: The folder in which paths start; a file that is there is taken.
    """
    if isinstance(raw, dict):
        return {key: with_quickstart(value, folder) for key, value in raw.items()}
    if isinstance(raw, list):
        return [with_quickstart(value, folder) for value in raw]
    if not (isinstance(raw, str) and re.fullmatch(rf"{QUICKSTART}[\w.]+", raw)):
        return raw
    brought = home()
    elsewhere = brought is not None and not (folder / raw).exists() and (brought / raw).is_file()
    return str(brought / raw) if brought and elsewhere else raw


def refuse_other_rules(project: str) -> None:
    """Raise UserError where rules from a forge are of another version than the library.

    Args:
        project: The content of pyproject.toml beside the rules.
    """
    found = re.search(r'^version = "(.+)"$', project, re.M)
    rules, ours = found[1] if found else "unknown", version(PACKAGE)
    if rules != ours:
        raise UserError(
            f"module: its rules are of {PACKAGE} {rules}, and {ours} is installed: name the tag of "
            f"{ours} in the module, or {INSTALL}"
        )
