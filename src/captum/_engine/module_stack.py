"""Which module is running: the stack of modules of the current thread, kept while a block is active."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class ModuleStack:
    """The modules whose ``forward`` is running, outermost first.

    Args:
        root: the model, to name modules by their path.
    """

    def __init__(self, root: nn.Module) -> None:
        self.names = {id(m): n for n, m in root.named_modules(remove_duplicate=False)}
        self._running: list[nn.Module] = []
        self._thread = threading.get_ident()

    @contextlib.contextmanager
    def followed(self) -> Generator[None]:
        """Follow the calls of modules in this thread; nothing stays behind."""

        def enter(module: nn.Module, _args: Any) -> None:
            if threading.get_ident() == self._thread:
                self._running.append(module)

        def leave(module: nn.Module, _args: Any, _output: Any) -> None:
            if threading.get_ident() == self._thread and self._running and self._running[-1] is module:
                self._running.pop()

        with contextlib.ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(enter).remove)
            stack.callback(register_module_forward_hook(leave, always_call=True).remove)
            try:
                yield
            finally:
                self._running.clear()

    @property
    def current(self) -> nn.Module | None:
        """The innermost running module."""
        return self._running[-1] if self._running else None

    def path(self) -> str:
        """The innermost running module's path in the model; of a module made on the way, its owner's path."""
        for module in reversed(self._running):
            name = self.names.get(id(module))
            if name is not None:
                return name
        return ""

    def inside(self, attribute: str) -> object:
        """The first value of an attribute, from the innermost module outwards."""
        for module in reversed(self._running):
            found: object = getattr(module, attribute, None)
            if found is not None:
                return found
        return None
