"""Hooks for recording how the library is used; they do nothing until a platform replaces them.

The public methods of the library are wrapped by :func:`log_usage`, and longer phases run inside :class:`TimedLog`.
A platform that wants records replaces the functions of this module before the other modules are imported. Nothing is
recorded or sent otherwise.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["TimedLog", "disable_detailed_logging", "log", "log_usage", "patch_methods", "set_environment"]

F = TypeVar("F", bound=Callable[..., Any])


def log(*args: object, **kwargs: object) -> None:
    """Record one event; does nothing here."""


class TimedLog:
    """Record how long the ``with`` block takes; does nothing here, and lets every exception through.

    >>> with TimedLog("phase"):
    ...     pass
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take whatever describes the event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        fault: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        return None


class _Decorator:
    """What :func:`log_usage` returns: wraps a plain or an ``async`` function, and keeps ``__wrapped__``."""

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: object, **kwargs: object) -> object:
                return await function(*args, **kwargs)

            return waiting  # pyright: ignore[reportReturnType]  # called like the function itself

        @functools.wraps(function)
        def calling(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return calling  # pyright: ignore[reportReturnType]  # called like the function itself


def log_usage(*log_args: object, **log_kwargs: object) -> _Decorator:  # noqa: ARG001 - hooks that a platform reads
    """Decorate a function whose calls are recorded; here the call goes straight through.

    The plain function stays reachable as ``__wrapped__``; a coroutine function stays a coroutine function.

    Args:
        log_args: what describes the event; unused here.
        log_kwargs: the same by name; unused here.

    Returns:
        A decorator that keeps the signature.

    >>> @log_usage(part_of_slo=True)
    ... def double(x): return 2 * x
    >>> double(2), double.__wrapped__(3)
    (4, 6)
    """
    return _Decorator()


def set_environment(env: object) -> None:
    """Name the environment that records come from; does nothing here."""


def disable_detailed_logging() -> None:
    """Keep only coarse records; does nothing here."""


def patch_methods(_: object, patch_log: bool = True) -> None:
    """Wrap the methods of an object or class with records; does nothing here."""
