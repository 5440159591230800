"""What someone who waits at a terminal sees, and that nobody else does."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

import captum
from captum.cli import main
from tests.unit.cli.photos import factory_file, photo


class Terminal(io.StringIO):
    """A standard error that someone watches."""

    def isatty(self) -> bool:
        return True


METHODS = {
    "integrated_gradients": "Integrated Gradients attribution",
    "integrated_gradients+vargrad": "Noise Tunnel of Integrated Gradients",
    "kernel_shap": "Kernel Shap attribution",
}


def explain(folder: Path, method: str) -> int:
    photo(folder)
    model = f"{factory_file(folder)}:full"
    small = () if "+" not in method else ("--set", "nt_samples=3")
    options = ("--method", method, "--save", "--out", str(folder / "out"), *small)
    return main(["explain", str(folder / "photo.png"), "--model", model, *options])


def screen(said: str, lines: int = 40, columns: int = 200) -> list[str]:
    """The lines that a terminal shows in the end: carriage returns and cursor movements are obeyed."""
    rows, row, column, at = [[" "] * columns for _ in range(lines)], 0, 0, 0
    while at < len(said):
        if said.startswith("\x1b[A", at):
            row, at = row - 1, at + 3
            continue
        if said[at] == "\n":
            row, column = row + 1, 0
        elif said[at] == "\r":
            column = 0
        else:
            rows[row][column], column = said[at], column + 1
        at += 1
    return ["".join(line).rstrip() for line in rows]


@pytest.mark.parametrize("method", METHODS)
def test_a_terminal_shows_how_far_a_method_is(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert explain(tmp_path, method) == 0
    said = terminal.getvalue()
    assert f"\n\r{METHODS[method]}:   0%" in said  # on the line below the bar of the methods
    assert not any(screen(said))  # all bars are gone in the end
    saved = captum.Explanation.load(tmp_path / "out" / method.replace("+", "_"))
    assert "progress" not in str(saved.arguments)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_terminal_nothing_is_drawn(method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert explain(tmp_path, method) == 0
    assert capfd.readouterr().err == ""
