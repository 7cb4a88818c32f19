"""The shape of the house: imports go down only, few public names, modules of one idea."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "lora"
# from the bottom up; a module may import only from lines below its own
FLOORS = [
    {"config"},
    {"files", "rows", "stop", "lock", "progress", "parallel", "options", "_upstream"},
    {"layers", "structures", "facts", "store"},
    {"products", "engines"},
    {"inject", "data", "elements", "factors", "record", "view", "live", "heads"},
    {"foundation", "kernels", "pack", "fold", "convolution", "lammps"},
    {"adapter", "point", "protocol", "formats", "card"},
    {"fit"},
    {"algebra", "committee", "potential", "outcome"},
    {"checks"},
    {"dynamics"},
    {"verify"},
    {
        "split",
        "replay",
        "e0s",
        "train",
        "truncate",
        "merge",
        "evaluate",
        "track",
        "check",
        "export",
        "status",
        "ui",
    },
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def modules() -> list[Path]:
    return [p for p in sorted(LIBRARY.glob("*.py")) if p.stem != "__init__"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_imports_go_down(path: Path) -> None:
    for name in imports(path):
        if name.startswith("lora."):
            target = name.removeprefix("lora.")
            assert LEVEL[target] < LEVEL[path.stem], f"{path.stem} -> {target}"
        assert not name.startswith("snakemake")
        if name.split(".")[0] == "mlflow":
            assert path.stem == "store"
        if name.split(".")[0] in ("mace", "e3nn"):
            assert path.stem == "_upstream"


def test_upstreams_lora_is_not_used() -> None:
    for path in modules():
        assert "mace.modules.lora" not in path.read_text()


def test_every_module_has_a_floor_and_one_idea() -> None:
    for path in modules():
        assert path.stem in LEVEL
        assert len(path.read_text().splitlines()) <= 350, path.name


def test_few_public_names() -> None:
    import lora

    assert len(lora.__all__) <= 10
    for name in lora.__all__:
        assert getattr(lora, name).__doc__


def test_workflow_imports_nothing_of_the_library() -> None:
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        heavy = r"^\s*(from|import)\s+(lora|torch|mlflow|mace)\b"
        assert not re.search(heavy, path.read_text(), re.M)


def test_importing_the_library_is_cheap_and_leaves_safe_loading_on() -> None:
    code = (
        "import sys, os, lora.cli; assert 'torch' not in sys.modules\n"
        "import lora; [getattr(lora, name) for name in lora.__all__]; import lora.train\n"
        "assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TORCH_FORCE")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=clean)


def test_the_locks_name_every_file_by_its_hash() -> None:
    one = r"[\w.-]+==[\w.+]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    for path in ROOT.glob("requirements*.lock"):
        assert re.fullmatch(rf"(#.*\n)+({one})+", path.read_text()), path


def test_what_the_project_pins_is_in_the_lock() -> None:
    lock, project = ((ROOT / x).read_text() for x in ("requirements.lock", "pyproject.toml"))
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.M))
    declared = re.findall(r'"([\w.-]+)(?:\[\w+\])?==([^"]+)"', project)
    assert declared
    for name, version in declared:
        assert pinned[name] == version, name


def test_the_environment_is_what_the_lock_says() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([\w.-]+)==(\S+)", lock, re.M)
    wrong = [x for x, v in pinned if metadata.version(x).split("+")[0] != v]
    assert not wrong, f"{wrong}: delete .venv and run make again"
