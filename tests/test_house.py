"""The house: rooms on floors, imports that go down, and what each room may know."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lora"
# room: its floor; a room imports only rooms on lower floors, and itself
FLOORS = {
    "cli": 10,
    "steps": 9,
    "checks": 8,
    "training": 7,
    "calculators": 7,
    "adapters": 6,
    "export": 6,
    "mace": 5,
    "report": 5,
    "selection": 4,
    "tracking": 4,
    "data": 4,
    "plan": 3,
    "files": 2,
    "catalogue": 1,
    "errors": 1,
}
NO_TORCH = {"errors", "catalogue", "files", "plan", "data", "selection", "report", "tracking"}
MACE = {"mace", "export"}  # export writes MACE's formats
DOORS = ("upstream", "import_module", "__import__")  # which import a module by its name
LINES, FUNCTION, SIGNATURE = 350, 60, 7


def modules() -> list[Path]:
    return sorted(p for p in LIBRARY.rglob("*.py") if p != LIBRARY / "__init__.py")


def name_of(path: Path) -> str:
    """adapters.pack, of the room adapters."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.partition(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, inside: bool = True) -> set[str]:
    """The modules that a file imports; those inside of functions only if asked for."""
    found = set()
    top = [node for node in tree_of(path).body if not isinstance(node, ast.FunctionDef)]
    for tree in [tree_of(path)] if inside else top:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: imports are absolute"
                found.add(node.module or "")
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The modules of the library that a file imports, as `adapters.pack`."""
    known = {name_of(p) for p in modules()}
    named = {x.removeprefix("lora.") for x in imports(path) if x.startswith("lora.")}
    return named & known


each = pytest.mark.parametrize("path", modules(), ids=name_of)

# --- 1. imports go down


def test_there_are_rooms_and_nothing_else() -> None:
    found = {p.stem for p in LIBRARY.iterdir() if not p.name.startswith("__")} - {"py"}  # py.typed
    assert found <= set(FLOORS)
    for folder in {p.parent for p in modules()}:
        sentence = ast.get_docstring(tree_of(folder / "__init__.py"))
        assert sentence and len(sentence.splitlines()) == 1


@each
def test_imports_go_down(path: Path) -> None:
    own = room_of(name_of(path))
    for target in map(room_of, ours(path)):
        assert target == own or FLOORS[target] < FLOORS[own], f"{own} -> {target}"


def test_no_circles() -> None:
    graph = {name_of(p): ours(p) - {name_of(p)} for p in modules()}
    while leaves := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"circles among {', '.join(graph)}"


# --- 2. rooms without torch


@each
def test_no_torch(path: Path) -> None:
    if room_of(name_of(path)) in NO_TORCH:
        assert "torch" not in {x.partition(".")[0] for x in imports(path, inside=False)}


def test_rooms_without_torch_do_not_bring_it_in() -> None:
    names = [f"lora.{name_of(p)}" for p in modules() if room_of(name_of(p)) in NO_TORCH]
    code = f"import sys, {', '.join(names)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- 3. MACE in one room, 4. MLflow in one, snakemake in none


@each
def test_mace_is_known_in_one_room(path: Path) -> None:
    room = room_of(name_of(path))
    if room not in MACE:
        named = imports(path) | {
            node.args[0].value
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) in DOORS
            and node.args
            and isinstance(node.args[0], ast.Constant)
        }
        assert not {x.partition(".")[0] for x in named} & {"mace", "e3nn"}
    assert "mace.modules.lora" not in path.read_text()


@each
def test_who_knows_mlflow_and_snakemake(path: Path) -> None:
    named = {x.partition(".")[0] for x in imports(path)}
    assert "snakemake" not in named
    assert "mlflow" not in named or room_of(name_of(path)) == "tracking"


def test_plugins_stay_small_and_leave_the_library_to_the_clone() -> None:
    """Snakemake imports them before the Snakefile says which clone's library it is."""
    paths = list(ROOT.glob("snakemake_*_plugin_mace_*/*.py"))
    assert len({x.parent for x in paths}) == 2
    for path in paths:
        assert ast.get_docstring(tree_of(path))
        assert len(path.read_text().splitlines()) <= LINES
        for node in tree_of(path).body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [getattr(node, "module", None) or "", *(x.name for x in node.names)]
                assert not any(x.partition(".")[0] in ("lora", "snakemake") for x in names)


def test_the_workflow_imports_of_the_library_only_the_plan() -> None:
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        for line in re.findall(r"^\s*(?:from|import)\s+[\w.]+", path.read_text(), re.M):
            module = line.split()[1]
            assert not re.match(r"(torch|mlflow|mace)\b", module)
            assert not re.match(r"lora\b", module) or module.startswith("lora.plan")


# --- 5. sizes


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """module.Class.function and its syntax."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}" if hasattr(child, "name") and child.name else name
            if isinstance(child, ast.FunctionDef):
                yield inner, child
            yield from walk(child, inner)

    for path in modules():
        yield from walk(tree_of(path), name_of(path))


def length(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def parameters(function: ast.FunctionDef) -> int:
    a = function.args
    named = [x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs]]
    return len([x for x in named if x not in ("self", "cls", "ctx")])


def over(found: dict[str, int], bound: int) -> dict[str, int]:
    return {name: n for name, n in found.items() if n > bound}


def test_files_are_short() -> None:
    lines = {name_of(p): len(p.read_text().splitlines()) for p in modules()}
    assert not over(lines, LINES)


def test_functions_are_short() -> None:
    assert not over({name: length(f) for name, f in functions()}, FUNCTION)


def test_signatures_are_short() -> None:
    assert not over({name: parameters(f) for name, f in functions()}, SIGNATURE)


# --- 6. tests mirror the rooms

BESIDE = {"support", "faults", "slurm", "browser", "workflow"}  # of no single room


def test_tests_mirror_the_rooms() -> None:
    folders = {p.name for p in (ROOT / "tests").iterdir() if (p / "__init__.py").is_file()}
    assert folders <= BESIDE | FLOORS.keys()
    assert not list((ROOT / "tests/support").glob("test_*.py"))


# --- the library as a whole


def test_few_public_names() -> None:
    import lora

    assert len(lora.__all__) <= 11
    for name in lora.__all__:
        assert getattr(lora, name).__doc__


def test_importing_the_library_is_cheap_and_leaves_safe_loading_on() -> None:
    code = (
        "import sys, os, lora.cli.main; assert 'torch' not in sys.modules\n"
        "import lora; [getattr(lora, name) for name in lora.__all__]; import lora.steps.train\n"
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
