"""The rules of the house: who may import whom, how large a thing may be, what ``import captum`` may load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module

import pytest

from tests.architecture import reading
from tests.architecture.reading import SOURCE, Source

FAMILIES = ("gradients", "paths", "backprop", "games", "averages", "text", "visualization")

# packages that use attribution, and that attribution does not know
BESIDE = ("concept", "influence", "metrics", "module", "robust")

# (who, whom): why. Everything else between families is forbidden.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("averages", "games"): "DataLoaderAttribution plays a game whose score is a metric over a whole loader",
}

# functions that stand in for one of torch's and so take its arguments, in its order
MIRRORS = {"scaled_dot_product_attention", "multi_head_attention_forward", "bag", "cross_entropy"}

NAMELESS = {"utils", "util", "common", "core", "helper", "helpers", "misc", "tools", "base_utils"}

# packages of attr/ that know algorithms by name: the front door and the lists of names
ABOVE_FAMILIES = (
    "captum.attr",
    "captum.attr.composites",
    "captum.attr.explaining",
    "captum.attr.explanation",
    "captum.attr.registry",
)

HEAVY = ("matplotlib", "tqdm", "sklearn", "scipy", "PIL", "IPython", "pandas", "transformers", "safetensors", "skimage")

SOURCES = reading.sources()
MODULES = frozenset(source.module for source in SOURCES)


def family(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["captum", "attr"] and len(parts) > 2 and parts[2] in FAMILIES else None


def room_beside(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BESIDE else None


def offences(rule: str, found: list[str]) -> None:
    assert not found, rule + "\n" + "\n".join(found)


def within(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.module)
def test_imports_only_from_rooms_below(source: Source) -> None:
    for other in reading.imports(source, MODULES):
        if source.module == "captum.errors":
            offences("errors stand at the bottom", [other])
        if within(source.module, "captum._engine"):
            assert within(other, "captum._engine", "captum.errors"), (
                f"the engine knows no algorithm, yet imports {other}"
            )
        mine, theirs = family(source.module), family(other)
        if mine and theirs and mine != theirs:
            assert (mine, theirs) in EXCEPTIONS, f"families do not import each other: {mine} imports {other}"
        if mine:
            assert not within(other, "captum.cli", "captum.attr.registry", "captum.attr.explaining"), (
                f"{other} is above"
            )
        beside, among = room_beside(source.module), room_beside(other)
        if among and (beside or within(source.module, "captum.attr", "captum._engine")):
            assert beside == among, f"{source.module} imports {other}: rooms beside attr know attr, and not each other"
        elif within(source.module, "captum.attr") and theirs and not mine:
            above = source.module in ABOVE_FAMILIES or within(source.module, "captum.attr.results")
            assert above, f"{source.module} is shared by the families and may not know {other}"


def test_files_are_short() -> None:
    files = [*SOURCE.rglob("*.py"), *(reading.ROOT / "tests").rglob("*.py")]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    found = [f"{path.relative_to(reading.ROOT)}: {n}" for path, n in sorted(lines.items()) if n > 400]
    offences("a file has at most 400 lines: split it by idea", found)


def measured(what: str, limit: int, value: dict[str, int]) -> None:
    offences(f"{what}: at most {limit}", [f"{place}: {n}" for place, n in value.items() if n > limit])


def places(source: Source, *, private: bool = False) -> dict[str, reading.Function]:
    chosen = (f for f in reading.functions(source) if not private or reading.is_private(source, f))
    return {f"{source.path.relative_to(SOURCE)}:{f.lineno} {f.name}": f for f in chosen}


def test_functions_are_short() -> None:
    measured("lines of a function", 50, {p: reading.length(f) for s in SOURCES for p, f in places(s).items()})


def test_functions_are_flat() -> None:
    measured("levels of nesting", 3, {p: reading.nesting(f) for s in SOURCES for p, f in places(s).items()})


def test_private_functions_take_few_parameters() -> None:
    every = (item for s in SOURCES for item in places(s, private=True).items())
    found = {place: reading.parameters(f) for place, f in every if f.name not in MIRRORS}
    measured("parameters of a private function", 7, found)


def test_files_are_named_for_ideas() -> None:
    offences("a name that says nothing", [str(s.path) for s in SOURCES if s.path.stem.strip("_") in NAMELESS])


def test_no_assert_for_users() -> None:
    found = [f"{s.path}:{n.lineno}" for s in SOURCES for n in ast.walk(s.tree) if isinstance(n, ast.Assert)]
    offences("assert vanishes under -O: raise an InputError", found)


@pytest.mark.parametrize("names", ["captum", "captum, captum.attr"])
def test_import_is_light(names: str) -> None:
    code = f"import sys, torch, numpy; before = set(sys.modules); import {names}; print(*set(sys.modules) - before)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    offences(f"import {names} loads torch and numpy only", sorted(loaded & set(HEAVY)))
    third = {name for name in loaded - {"captum"} if name.lstrip("_") and name not in sys.stdlib_module_names}
    offences(f"import {names} loads nothing else", sorted(third))


PUBLIC = sorted(s.module for s in SOURCES if s.path.name == "__init__.py" and not s.private)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_resolves(module: str) -> None:
    package = import_module(module)
    names = getattr(package, "__all__", [])
    assert len(names) == len(set(names))
    missing = [name for name in names if not hasattr(package, name)]
    offences(f"{module}.__all__ promises what is not there", missing)


def test_public_names_are_listed() -> None:
    """What a package imports for its users, it lists; what it lists, ``dir`` shows."""
    for module in ("captum", "captum.attr"):
        package = import_module(module)
        assert set(package.__all__) <= set(dir(package)), module


def test_versions_agree() -> None:
    from importlib.metadata import PackageNotFoundError, version

    import captum

    try:
        assert version("captum") == captum.__version__
    except PackageNotFoundError:
        text = (reading.ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert 'path = "src/captum/__init__.py"' in text


def test_every_setup_pin_is_exact() -> None:
    lines = (reading.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    offences("constraints.txt pins exactly", [line for line in pins if line.count("==") != 1])
    assert "torch==2.13.0" in pins
