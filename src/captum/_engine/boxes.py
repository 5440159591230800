"""Boxes: which part of a map may differ from the unchanged one, along each of its two dimensions.

Every row of a pack has its own interval, and all rows share one length, so that their parts of the map stack into one
tensor. A box is never cut at the border of the map: it is moved inside, where it holds unchanged values as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]


class Span:
    """Along one dimension: the interval of each row that may differ, within a box of one length.

    Args:
        low: first place of each row, ``(n,)``.
        high: place after the last, ``(n,)``.
        size: length of the map.

    Attributes:
        start: first place of each row's box.
        length: length of the boxes.
    """

    __slots__ = ("high", "length", "low", "size", "start")

    def __init__(self, low: Places, high: Places, size: int) -> None:
        self.low = np.clip(low, 0, size)
        self.high = np.clip(high, self.low, size)
        self.size = size
        self.length = max(1, int((self.high - self.low).max()))
        self.start = np.minimum(self.low, size - self.length)

    @property
    def reach(self) -> Reach:
        """The box."""
        return Reach(self.start, self.length)

    def joined(self, other: Span) -> Span:
        """The interval that holds both."""
        if other is self:
            return self
        return Span(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.size)

    def seen(self, window: Window) -> Span:
        """The places of the result whose window meets the interval."""
        low = -(-(self.low + window.before - window.extent + 1) // window.stride)
        high = (self.high - 1 + window.before) // window.stride + 1
        return Span(low, high, window.results(self.size))

    def padded(self, before: int, after: int) -> Span:
        """The same interval of a map that was padded."""
        return Span(self.low + before, self.high + before, self.size + before + after)


@dataclass(frozen=True, slots=True)
class Reach:
    """Places ``begin`` to ``begin + length`` of each row; they may lie outside the map."""

    begin: Places
    length: int

    def places(self) -> Places:
        """All places, ``(n, length)``."""
        return self.begin[:, None] + np.arange(self.length)

    def offset(self, span: Span) -> int | None:
        """Where the box of ``span`` begins in here, when that is the same for all rows."""
        offsets = span.start - self.begin
        first = int(offsets[0])
        return first if bool((offsets == first).all()) else None

    def matches(self, span: Span) -> bool:
        """Whether this is the box of ``span``."""
        return self.length == span.length and self.offset(span) == 0


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides along one dimension.

    Attributes:
        kernel: places that it looks at.
        stride: step.
        before: padding before the first place.
        after: padding after the last.
        dilation: distance of the places that it looks at.
        partial: whether a last window that sticks out counts.
    """

    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    partial: bool = False

    @property
    def extent(self) -> int:
        """Length of the window."""
        return self.dilation * (self.kernel - 1) + 1

    def results(self, size: int) -> int:
        """Number of its positions on a map of ``size``."""
        free = size + self.before + self.after - self.extent
        if not self.partial:
            return free // self.stride + 1
        count = -(-free // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= size + self.before else count

    def needs(self, span: Span) -> Reach:
        """The places that the box of a result is computed from."""
        return Reach(span.start * self.stride - self.before, (span.length - 1) * self.stride + self.extent)
