"""Progress bars for loops, and a bar that shows nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TextIO, TypeVar, runtime_checkable

__all__ = ["BaseProgress", "DisableErrorIOWrapper", "IterableProgress", "NullProgress", "Progress", "progress"]

T = TypeVar("T")
IterableType = TypeVar("IterableType", covariant=True)  # noqa: PLC0105 - the established name


@runtime_checkable
class BaseProgress(Protocol):
    """What every progress bar can do."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def close(self) -> None:
        """Finish the bar."""
        ...


@runtime_checkable
class IterableProgress(BaseProgress, Iterable[IterableType], Protocol[IterableType]):
    """A bar that goes through an iterable."""


@runtime_checkable
class Progress(BaseProgress, Protocol):
    """A bar that is moved by hand."""

    def update(self, n: int = 1) -> Any:
        """Move on by ``n`` steps."""
        ...


class NullProgress(Iterable[T]):
    """A bar that shows nothing, and goes through its iterable.

    Args:
        iterable: what to go through.
        args: ignored, as are ``kwargs``: whatever a bar would take.
        kwargs: see ``args``.
    """

    def __init__(self, iterable: Iterable[T] | None = None, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self.iterable = iterable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        return None

    def __iter__(self) -> Iterator[T]:
        return iter(self.iterable if self.iterable is not None else ())

    def update(self, n: int = 1) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class DisableErrorIOWrapper:
    """A text stream that does not fail when it is closed or gone, as the stderr of a detached process may be.

    Args:
        wrapped: the stream.
    """

    def __init__(self, wrapped: TextIO) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def write(self, *args: object, **kwargs: object) -> Any:
        """Write; ``None`` if the stream is gone."""
        return self._tried("write", args, kwargs)

    def flush(self, *args: object, **kwargs: object) -> Any:
        """Flush; ``None`` if the stream is gone."""
        return self._tried("flush", args, kwargs)

    def _tried(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        try:
            return getattr(self._wrapped, name)(*args, **kwargs)
        except (OSError, ValueError):
            return None


def progress(
    iterable: Iterable[T] | None = None,
    desc: str | None = None,
    total: int | None = None,
    file: TextIO | None = None,
    mininterval: float = 0.5,
    **kwargs: object,
) -> Any:
    """A ``tqdm`` bar, over an iterable or moved by hand.

    Args:
        iterable: what to go through; ``None`` for a bar that is moved by ``update``.
        desc: what stands before the bar.
        total: number of steps; default: the length of ``iterable``.
        file: where to write; default: stderr.
        mininterval: least seconds between two drawings.
        kwargs: further options of ``tqdm``.

    Returns:
        The bar.
    """
    from tqdm.auto import tqdm

    stream = DisableErrorIOWrapper(sys.stderr if file is None else file)
    bar: Any = tqdm
    return bar(iterable, desc=desc, total=total, file=stream, mininterval=mininterval, **kwargs)
