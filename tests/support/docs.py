"""The pages of the documentation: their commands, blocks, links and headings."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, heading: str) -> list[str]:
    """Return the code blocks of a section that are commands.

    Args:
        page: A file of the project, as docs/cluster.md.
        heading: The heading of the section.
    """
    section = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^( *)```\n(.*?)^ *```", section, re.S | re.M)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


def fenced(page: str, language: str) -> list[str]:
    """Return the code blocks of a page that name a language.

    Args:
        page: A file of the project.
        language: As bash, python or yaml.
    """
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)


def bash(text: str, folder: Path, env: dict[str, str]) -> str:
    """Run commands in bash, which ends at the first that fails; return what they print."""
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, text + done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def commands(page: str, *programs: str) -> list[str]:
    """Return the commands that a page has within its sentences.

    Args:
        page: A file of the project.
        programs: What they begin with.
    """
    text = (ROOT / page).read_text()
    return sorted({*re.findall(rf"`((?:{'|'.join(programs)}) [^`]+)`", text)})


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.S | re.M)


def links(text: str) -> list[tuple[str, str]]:
    """Return the links of a page that lead to a file or a heading: (file, heading)."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [tuple(x.partition("#")[::2]) for x in found if "://" not in x]


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as both the forge and the site make them."""
    heads = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
