"""The documents: links resolve, the README's example runs and prints what the README says."""

from __future__ import annotations

import doctest
import json
import re
import runpy
from pathlib import Path

import pytest
import torch

from tests.architecture.reading import ROOT

BUILD = runpy.run_path(str(ROOT / "docs" / "build.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", BUILD["documents"](), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    assert BUILD["broken_links"](path) == []


def test_the_link_check_sees_a_missing_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](b.md#x) ![c](d.png) [e](https://example.org) [f](page.md)", encoding="utf-8")
    assert BUILD["broken_links"](page) == ["b.md", "d.png"]


def test_the_readme_example_prints_what_it_says() -> None:
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", README.split("## Getting started")[1], re.DOTALL)[:2]
    room: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), room)
    attributions = re.search(r"attributions\s+(\[\[.*\]\])", printed)
    assert attributions is not None
    assert torch.allclose(room["attributions"], torch.tensor(json.loads(attributions[1])), atol=5e-5)
    assert float(room["delta"].abs().max()) < 1e-6


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda path: path.stem)
def test_what_how_tos_type_prints_what_they_say(path: Path) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(path), module_relative=False, optionflags=flags, encoding="utf-8").failed == 0


def test_a_how_to_is_read_for_its_examples() -> None:
    page = ROOT / "docs" / "how-to" / "choose-relevance-rules.md"
    assert doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE).attempted > 10


def test_the_reference_has_the_tables_of_rules() -> None:
    assert {"captum.attr.composites", "captum.attr.rules"} <= {*BUILD["PACKAGES"]}
