"""The documents: links resolve, the README's example runs and prints what the README says."""

from __future__ import annotations

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
