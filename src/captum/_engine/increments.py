"""Increments: maps of many rows that equal the map of an unchanged example but for a small box.

:class:`Unchanged` is a map of the examples, computed when it is asked for; :class:`Increment` is what a pack of rows
makes of it. An operator is a function of both, so that nothing but the boxes is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.boxes import Places, Reach, Span
from captum._engine.convolutions import Norm

Compute = Callable[..., Any]
#: How many maps made of one map are remembered; weights that differ from pack to pack would make many.
MOST_USES = 32


class Unchanged:
    """A map ``(B, C, H, W)`` of the unchanged examples, and the maps that operators make of it.

    Args:
        compute: gives the map.
    """

    __slots__ = ("_compute", "_made", "_table", "_value", "elements")

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._value: Any = None
        self._table: dict[float, Tensor] = {}
        self._made: list[tuple[Compute, Any, int | None, Unchanged]] = []
        self.elements = 0

    def value(self) -> Any:
        """The map."""
        if self._value is None:
            with torch._C.DisableTorchFunction():  # modes are about the boxes; no public name
                self._value = self._compute()
            self.elements = self._value.numel() if isinstance(self._value, Tensor) else 0
        return self._value

    def pixels(self, pad: float) -> Tensor:
        """One row of channels for each pixel, ``(B · H · W + 1, C)``; the last one holds ``pad``."""
        if pad not in self._table:
            value = self.value()
            flat = value.permute(0, 2, 3, 1).reshape(-1, value.shape[1])
            self._table[pad] = table = torch.cat([flat, flat.new_full((1, flat.shape[1]), pad)])
            count, channels, height, width = value.shape
            self._value = table[:-1].view(count, height, width, channels).permute(0, 3, 1, 2)
        return self._table[pad]

    def region(self, example: Places, y: Reach, x: Reach, size: tuple[int, int], pad: float = 0.0) -> Tensor:
        """The parts of the map at these places of these examples, ``(n, h, w, C)``; ``pad`` outside the map."""
        height, width = size
        ys, xs = y.places(), x.places()
        index = ((example * height)[:, None] + ys)[:, :, None] * width + xs[:, None, :]
        pixels = self.pixels(pad)
        if ys.min() < 0 or xs.min() < 0 or ys.max() >= height or xs.max() >= width:
            inside = ((ys >= 0) & (ys < height))[:, :, None] & ((xs >= 0) & (xs < width))[:, None, :]
            index = np.where(inside, index, len(pixels) - 1)
        region = pixels.index_select(0, torch.from_numpy(index.reshape(-1)).to(pixels.device))
        return region.view(*index.shape, pixels.shape[1])

    def through(self, function: Compute, arguments: Any, part: int | None = None) -> Unchanged:
        """The map that a call makes of this one; the same call gives the same map.

        Args:
            function: what is called; it changes none of its arguments.
            arguments: positional and named ones; maps stand for their values.
            part: which part of the result.
        """
        for known, given, number, map_ in self._made:
            if known is function and number == part and _same(given, arguments):
                return map_

        def compute() -> Any:
            args, kwargs = _filled(arguments)
            out = function(*args, **kwargs)
            return out if part is None else out[part]

        made = Unchanged(compute)
        del self._made[: len(self._made) - MOST_USES]
        self._made.append((function, arguments, part, made))
        return made

    def total(self) -> int:
        """Elements of all maps that were computed, this one and those made of it, each once."""
        return sum(m.elements for m in self._all({}).values())

    def trim(self) -> None:
        """Forget the maps that nobody looked at but to compute the next one; they can be computed again."""
        for map_ in self._all({}).values():
            if map_ is not self and not map_._table:
                map_._value = None

    def _all(self, found: dict[int, Unchanged]) -> dict[int, Unchanged]:
        waiting = [self]
        while waiting:
            map_ = waiting.pop()
            if id(map_) not in found:
                found[id(map_)] = map_
                waiting += [made for *_, made in map_._made]
        return found


def _same(one: Any, other: Any) -> bool:
    """Whether the arguments of two calls are the same."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            return False
        alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
        return alike and torch.equal(one, other)
    if type(one) is not type(other) or isinstance(one, Unchanged):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    return bool(one == other)


def _filled(value: Any) -> Any:
    """Arguments with the values of the maps among them."""
    if isinstance(value, Unchanged):
        return value.value()
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(v) for v in value)
    if isinstance(value, dict):
        return {k: _filled(v) for k, v in value.items()}
    return value


@dataclass(eq=False, slots=True)
class Increment:
    """A map of ``n`` rows ``(n, C, H, W)``: the example's map, but for the values in each row's box.

    Attributes:
        base: the map of the examples.
        values: what the boxes hold, ``(n, h, w, C)``, contiguous.
        y: the boxes along the height.
        x: the boxes along the width.
        example: the example of each row.
        shared: whether the user's code may look at the same memory through another tensor.
        norm: the batch norm that has been folded into the values, and which has to be the next to use them.
    """

    base: Unchanged
    values: Tensor
    y: Span
    x: Span
    example: Places
    shared: bool = False
    norm: Norm | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the whole map."""
        return len(self.values), self.values.shape[3], self.y.size, self.x.size

    def box(self) -> Tensor:
        """What the boxes hold, ``(n, C, h, w)``, channels last in memory."""
        return self.values.permute(0, 3, 1, 2)

    def filled(self, y: Reach, x: Reach, pad: float = 0.0) -> Tensor:
        """The part of the map at these places, ``(n, h, w, C)``; ``pad`` outside the map."""
        if y.matches(self.y) and x.matches(self.x):
            return self.values
        region = self.base.region(self.example, y, x, (self.y.size, self.x.size), pad)
        self._write(region, y, x)
        return region

    def total(self) -> Tensor:
        """The sum over all pixels ``(n, C)``: that of the example and what the boxes add, in double precision."""
        clean = self.base.value()
        wide = torch.float64 if clean.dtype == torch.float32 and clean.device.type != "mps" else clean.dtype
        before = self.base.region(self.example, self.y.reach, self.x.reach, (self.y.size, self.x.size))
        change = self.values.sum((1, 2), dtype=wide) - before.sum((1, 2), dtype=wide)
        example = torch.from_numpy(self.example).to(clean.device)
        return clean.sum((2, 3), dtype=wide).index_select(0, example) + change

    def dense(self) -> Tensor:
        """The whole map ``(n, C, H, W)``, channels last in memory."""
        zero = np.zeros_like(self.example)
        whole = self.base.value().permute(0, 2, 3, 1)
        out = whole.index_select(0, torch.from_numpy(self.example).to(whole.device)).contiguous()
        self._write(out, Reach(zero, self.y.size), Reach(zero, self.x.size))
        return out.permute(0, 3, 1, 2)

    def _write(self, region: Tensor, y: Reach, x: Reach) -> None:
        """Write the boxes over a region."""
        at_y, at_x = y.offset(self.y), x.offset(self.x)
        if at_y is not None and at_x is not None:
            into_y, from_y = _overlap(at_y, self.y.length, y.length)
            into_x, from_x = _overlap(at_x, self.x.length, x.length)
            region[:, into_y, into_x] = self.values[:, from_y, from_x]
            return
        own_y, own_x = self.y.reach.places() - y.begin[:, None], self.x.reach.places() - x.begin[:, None]
        rows = np.arange(len(self.values))[:, None]
        index = ((rows * y.length + own_y)[:, :, None] * x.length + own_x[:, None, :]).reshape(-1)
        values = self.values.view(-1, self.values.shape[3])
        inside = ((own_y >= 0) & (own_y < y.length))[:, :, None] & ((own_x >= 0) & (own_x < x.length))[:, None, :]
        if not inside.all():
            chosen = np.flatnonzero(inside)
            index = index[chosen]
            values = values.index_select(0, torch.from_numpy(chosen).to(values.device))
        region.view(-1, region.shape[3]).index_copy_(0, torch.from_numpy(index).to(values.device), values)


def _overlap(at: int, length: int, room: int) -> tuple[slice, slice]:
    """Where a box of ``length`` that begins at ``at`` meets ``room`` places: the slice of the room, and of the box."""
    first, last = max(at, 0), max(min(at + length, room), at, 0)
    return slice(first, last), slice(first - at, last - at)


def pixels_last(values: Tensor) -> Tensor:
    """``(n, C, h, w)`` as contiguous ``(n, h, w, C)``."""
    return values.permute(0, 2, 3, 1).contiguous()
