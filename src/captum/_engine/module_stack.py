"""Which module is running: the stack of modules of the current thread, kept while a block is active."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


def carried(module: nn.Module | None, attribute: str) -> object:
    """An attribute of a module that has it at all: no search through parameters and submodules."""
    named = module is not None and (attribute in vars(module) or hasattr(type(module), attribute))
    return getattr(module, attribute, None) if named else None


class ModuleStack:
    """The modules whose ``forward`` is running, outermost first.

    Args:
        root: the model, to name modules by their path.
        change: called with each module that ends, its arguments and its output; what it returns, unless None, takes the
            output's place.
    """

    def __init__(self, root: nn.Module, change: Callable[[nn.Module, Any, Any], Any] | None = None) -> None:
        self._change = change
        self._root = root
        self.names = {id(m): n for n, m in root.named_modules(remove_duplicate=False)}
        self._running: list[nn.Module] = []
        self._thread = threading.get_ident()

    @contextlib.contextmanager
    def followed(self) -> Generator[None]:
        """Follow the calls of the model's modules in this thread; nothing stays behind."""

        def enter(module: nn.Module, _args: Any) -> None:
            if threading.get_ident() == self._thread:
                self._running.append(module)

        def leave(module: nn.Module, args: Any, output: Any) -> Any:
            if threading.get_ident() != self._thread or not self._running or self._running[-1] is not module:
                return None
            self._running.pop()
            return None if self._change is None or output is None else self._change(module, args, output)

        handles: list[RemovableHandle] = []
        try:
            for module in self._root.modules():
                if type(module).__name__ != "OptimizedModule":  # a wrapper that shares its module's hooks
                    handles.append(module.register_forward_pre_hook(enter))
                    handles.append(module.register_forward_hook(leave, always_call=True))
            yield
        finally:
            for handle in reversed(handles):
                handle.remove()
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
