"""The source read as trees: sizes, nesting and imports of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def private(self) -> bool:
        return any(part.startswith("_") and part != "__init__" for part in self.module.split("."))


def sources() -> list[Source]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(SOURCE).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(path, module, text, ast.parse(text)))
    return found


def functions(source: Source) -> Iterator[Function]:
    return (node for node in ast.walk(source.tree) if isinstance(node, FUNCTIONS))


def length(function: Function) -> int:
    """Lines of a function without decorators, signature and docstring."""
    body = function.body
    has_docstring = ast.get_docstring(function, clean=False) is not None
    rest = body[1:] if has_docstring else body
    return (rest[-1].end_lineno or 0) - rest[0].lineno + 1 if rest else 0


def nesting(node: ast.AST, depth: int = 0) -> int:
    """How many blocks stand inside one another; ``elif`` is as deep as its ``if``, an inner function starts anew."""
    deepest = depth
    for field, child in ((f, c) for f, v in ast.iter_fields(node) for c in (v if isinstance(v, list) else [v])):
        if not isinstance(child, ast.AST) or isinstance(child, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            continue
        is_elif = field == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If) and len(node.orelse) == 1
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


def parameters(function: Function) -> int:
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return sum(name not in {"self", "cls"} for name in names)


def is_private(source: Source, function: Function) -> bool:
    name = function.name
    return (source.private and name != "__init__") or (name.startswith("_") and not name.endswith("__"))


def imports(source: Source, modules: frozenset[str]) -> set[str]:
    """Every ``captum`` module of ``modules`` that a file imports, at its head or inside a function."""
    package = source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= names & modules
            if not names <= modules:
                found.add(origin)
    return {name for name in found if name.split(".")[0] == "captum"}
