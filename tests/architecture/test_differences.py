"""Every difference from upstream names a test that exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "differences.md"]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?(?:\[[^`]*)?`")


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_named_tests_exist(page: Path) -> None:
    found = NAMED.findall(page.read_text(encoding="utf-8"))
    assert found, f"{page.name} names no test"
    missing = []
    for path, name in found:
        file = ROOT / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
            missing.append(f"{path}::{name}")
    assert not missing


def rows(page: Path) -> list[str]:
    """Rows of the tables that have a column of tests."""
    found: list[str] = []
    tests = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| what |"):
            tests = line.rstrip().endswith("| test |")
        elif not line.startswith("|"):
            tests = False
        elif tests and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_every_line_names_a_test_function(page: Path) -> None:
    assert len(rows(page)) > 100
    assert [row for row in rows(page) if not any(name for _, name in NAMED.findall(row))] == []


def test_the_suite_runs_with_warnings_as_errors() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"
