"""Type checkers see the names that are loaded on first use: the stubs list them, each from its room."""

from __future__ import annotations

import ast
from pathlib import Path

import captum
import captum.attr


def imported(stub: Path) -> dict[str, str]:
    """Public name → where the stub imports it from."""
    found: dict[str, str] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname is not None, f"{stub.name}: write `import {alias.name} as …`, or it is not public"
                found[alias.asname] = f"{node.module}.{alias.name}"
    return found


def stub_of(module: object) -> Path:
    return Path(str(module.__file__)).with_suffix(".pyi")  # pyright: ignore[reportAttributeAccessIssue]


def test_captum():
    wanted = {name: f"captum.{name}" for name in captum._MODULES}
    wanted |= {name: f"{home}.{name}" for name, home in captum._NAMES.items()}
    assert imported(stub_of(captum)) == wanted


def test_captum_attr():
    wanted = {name: f"{home}.{name}" for home, names in captum.attr._HOMES.items() for name in names}
    assert imported(stub_of(captum.attr)) == wanted | captum.attr._MODULES
