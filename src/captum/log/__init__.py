"""Hooks for recording how the library is used; they do nothing until a platform replaces them.

The public methods of the library are wrapped by :func:`log_usage`, and longer phases run inside :class:`TimedLog`.
A platform that wants records replaces the functions of this module before the other modules are imported. Nothing is
recorded or sent otherwise.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, overload

__all__ = ["TimedLog", "disable_detailed_logging", "log", "log_usage", "patch_methods", "set_environment"]

P = ParamSpec("P")
R = TypeVar("R")


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

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]: ...

    @overload
    def __call__(self, function: Callable[P, R]) -> Callable[P, R]: ...

    def __call__(self, function: Callable[P, object]) -> Callable[P, object]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: P.args, **kwargs: P.kwargs) -> object:
                return await function(*args, **kwargs)

            return waiting

        @functools.wraps(function)
        def calling(*args: P.args, **kwargs: P.kwargs) -> object:
            return function(*args, **kwargs)

        return calling


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
