"""Digest the code that a step runs, so that edits which can change its results run it again.

Counted is the syntax tree of the step's module and of every module of this library that it
imports, directly or not.  Left out is what cannot change a number: comments, formatting,
docstrings, the arguments of log and error calls, and modules that only print (`PRINTS`).

The rooms of `RESOLVED` are left out, too: what they say reaches a step as values, in its settings,
so that a new row of a table or a new check of the config runs nothing again.  A row that names a
function ("lora.checks.curves:dimers") counts with that function and what it uses.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name
# modules that only tell people or servers how things go
PRINTS = frozenset(
    f"{NAME}.{x}" for x in ("progress", "files.terminal", "training.progress", "tracking.live")
)
# rooms whose values stand in the settings of a step
RESOLVED = frozenset({f"{NAME}.plan", f"{NAME}.catalogue", f"{NAME}.errors"})
TALKERS = frozenset({"log", "logging", "logger", "warnings"})


def code_of(*entries: str) -> str:
    """Return the digest of all code that some modules, or functions in them, run.

    Args:
        entries: dotted modules ("lora.steps.train") or functions ("lora.checks.curves:dimers");
            of a function count those parts of its module that it reaches

    Returns 16 hex digits.  Raises LookupError: a module or a name is not there.
    """
    digests: dict[str, str] = {}
    todo: list[str] = []
    for entry in entries:
        module, _, function = entry.partition(":")
        if function:
            tree = _reached(module, function)
            digests[entry] = _digest(tree)
            todo += _imported(tree, module)
        else:
            todo.append(module)
    while todo:
        module = todo.pop()
        if module in digests or module in PRINTS or _room(module) in RESOLVED:
            continue
        digests[module], imported = _read(module)
        todo += imported
    text = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def modules_of(*entries: str) -> set[str]:
    """Return the names of all modules of this library that some modules import, and theirs."""
    found: set[str] = set()
    todo = list(entries)
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += _read(module)[1]
    return found


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module and the modules of this library that it imports."""
    tree = _parse(module)
    return _digest(tree), tuple(_imported(tree, module))


@cache
def _parse(module: str) -> ast.Module:
    path = _file(module)
    if path is None:
        raise LookupError(f"{module}: there is no such module in {PACKAGE}")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    parsed = _Meaning().visit(tree)
    assert isinstance(parsed, ast.Module)
    return parsed


def _file(module: str) -> Path | None:
    """Return the file of a module of this library, None if there is none."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and module.split(".")[0] == NAME:
            return path
    return None


def _digest(tree: ast.AST) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _imported(tree: ast.AST, module: str) -> list[str]:
    """Return the modules of this library that a syntax tree imports, at any depth."""
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {x.name: None for x in node.names if x.name.split(".")[0] == NAME}
        elif isinstance(node, ast.ImportFrom):
            found |= dict.fromkeys(_imported_from(node, module))
    return list(found)


def _imported_from(node: ast.ImportFrom, module: str) -> list[str]:
    source = node.module or ""
    if node.level:
        path = _file(module)
        depth = node.level - (path is not None and path.name == "__init__.py")
        parent = module.rsplit(".", depth)[0] if depth else module
        source = f"{parent}.{source}".rstrip(".")
    if source.split(".")[0] != NAME:
        return []
    found = [source]
    path = _file(source)
    if path is not None and path.name == "__init__.py":
        defined = _defined(source)
        for name in (alias.name for alias in node.names):
            if _file(f"{source}.{name}"):
                found.append(f"{source}.{name}")
            elif name not in defined and source != NAME:
                raise LookupError(f"{module}: imports {name} from {source}, where it is not")
    return found


def _defined(module: str) -> set[str]:
    """Return the names that the top of a module defines or imports."""
    names: set[str] = set()
    for node in _parse(module).body:
        names |= _names_of(node)
    return names


def _names_of(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(x.asname or x.name).split(".")[0] for x in node.names}
    return {
        x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
    }


@cache
def _reached(module: str, function: str) -> ast.Module:
    """Return the statements of a module's top that a function of it reaches by name."""
    body = _parse(module).body
    bound = [(node, _names_of(node)) for node in body]
    if not any(function in names for _, names in bound):
        raise LookupError(f"{module}: has no {function}")
    wanted, kept = {function}, set()
    grown = True
    while grown:
        grown = False
        for i, (node, names) in enumerate(bound):
            if i not in kept and (names & wanted):
                kept.add(i)
                wanted |= {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
                grown = True
    return ast.Module(body=[body[i] for i in sorted(kept)], type_ignores=[])


class _Meaning(ast.NodeTransformer):
    """Take out of a syntax tree what cannot change a result."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Drop docstrings, wherever a body may begin with one, and go on below."""
        body: Iterable[ast.stmt] | None = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [x for x in body if not _is_text(x)]  # type: ignore[attr-defined]  # has one
        visited: ast.AST = super().visit(node)
        return visited

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Drop imports that only type checkers see."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Empty log calls, warnings and prints."""
        call = node.value
        if isinstance(call, ast.Call) and _talks(call.func) and not _binds(call):
            call.args, call.keywords = [], []
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Empty what an error says."""
        if isinstance(node.exc, ast.Call) and not _binds(node.exc):
            node.exc.args, node.exc.keywords = [], []
        return self.generic_visit(node)


def _is_text(node: ast.stmt) -> bool:
    """Return True for a docstring, or another text that stands alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _binds(call: ast.Call) -> bool:
    """Return True where an argument gives a name to a value that is used later."""
    return any(isinstance(x, ast.NamedExpr) for x in ast.walk(call))


def _talks(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return isinstance(function.value, ast.Name) and function.value.id in TALKERS
    return isinstance(function, ast.Name) and function.id == "print"
