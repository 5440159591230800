"""Progress of several methods: bars where someone watches, a line per method where nobody does."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """A bar on a terminal's standard error; finished methods are listed above it, a method's own bar is drawn below.

    Args:
        total: How many methods there are.
        out: Where finished methods are listed.
    """

    def __init__(self, total: int, out: TextIO) -> None:
        self._out = out
        form = "{l_bar}{bar:30}{r_bar}"
        self._bar = tqdm(range(total), leave=False, disable=not sys.stderr.isatty(), bar_format=form)

    def __enter__(self) -> Self:
        """Show the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away, also after an error."""
        self._bar.close()

    @property
    def watched(self) -> bool:
        """Whether bars are drawn."""
        return not self._bar.disable

    def begin(self, name: str) -> None:
        """Say what is being worked on."""
        self._bar.set_description(name)

    def end(self, name: str, result: str) -> None:
        """Say what is done, and how long it took or how it ended."""
        self._bar.update()
        with tqdm.external_write_mode(file=self._out):
            print(f"  {name:<42} {result:>8}", file=self._out, flush=True)
