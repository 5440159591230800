"""The command line: ``captum explain``, ``captum demo``, ``captum methods``."""

from __future__ import annotations

from captum.cli.command import main

__all__ = ["main"]
