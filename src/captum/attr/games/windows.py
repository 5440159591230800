"""Features that are windows of a grid and may overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.boxes import Places
from captum._engine.rows import Rows
from captum._engine.values import describe
from captum.errors import InputError


class Windows:
    """Players are the positions of a sliding window over each tensor.

    A window is a product of intervals, so which elements it covers is a product of one small 0/1 matrix per dimension;
    counts of covering windows are contractions with these matrices, never lists of masks.

    Args:
        shapes: window shape per tensor, without the batch.
        strides: stride per tensor and dimension.
        tensors: the tensors.
    """

    shared = True

    def __init__(
        self, shapes: list[tuple[int, ...]], strides: list[tuple[int, ...]], tensors: tuple[Tensor, ...]
    ) -> None:
        self._shapes = shapes
        self._strides = strides
        self._covers = [
            [_intervals(*d) for d in zip(t.shape[1:], w, s, strict=True)]
            for t, w, s in zip(tensors, shapes, strides, strict=True)
        ]
        self.grids = [tuple(len(c) for c in covers) for covers in self._covers]
        self._sizes = [math.prod(g) for g in self.grids]
        self.players = sum(self._sizes)

    def keep(self, members: Tensor, rows: Rows | None) -> tuple[Tensor, ...]:
        """See :class:`~captum.attr.games.features.Features`: an element goes when any window over it goes."""
        del rows
        lead = tuple(members.shape[:2])
        parts = (~members).reshape(-1, self.players).split(self._sizes, 1)
        return tuple(
            (_contract(part.reshape(-1, *grid).float(), covers) < 0.5)
            .contiguous()
            .reshape(*lead, *(c.shape[1] for c in covers))
            for part, grid, covers in zip(parts, self.grids, self._covers, strict=True)
        )

    def spread(self, values: Tensor, batch: int) -> tuple[Tensor, ...]:
        """See :class:`~captum.attr.games.features.Features`: the mean over the windows that cover an element."""
        del batch
        parts = values.T.split(self._sizes, 1)
        return tuple(
            _total(part.reshape(-1, *grid), covers) / _contract(part.new_ones((1, *grid)), covers)
            for part, grid, covers in zip(parts, self.grids, self._covers, strict=True)
        )

    def bounds(self, players: Places) -> list[tuple[Places, Places]]:
        """Where windows over a single tensor begin, and where they end, along each dimension."""
        places = np.unravel_index(players, self.grids[0])
        sizes = [c.shape[1] for c in self._covers[0]]
        steps = zip(places, self._strides[0], self._shapes[0], sizes, strict=True)
        return [(p * stride, np.minimum(p * stride + window, size)) for p, stride, window, size in steps]


def _intervals(size: int, window: int, stride: int) -> Tensor:
    """0/1 matrix ``(positions, size)``: windows start at multiples of the stride, the last may stick out and is cut."""
    positions = -(-(size - window) // stride) + 1
    start = torch.arange(positions, device="cpu")[:, None] * stride
    element = torch.arange(size, device="cpu")
    return ((element >= start) & (element < start + window)).double()


def _total(values: Tensor, covers: list[Tensor]) -> Tensor:
    """Like :func:`_contract`, but what is not finite stays where its windows lie: elsewhere 0 · NaN would be NaN."""
    finite = values.isfinite()
    total = _contract(torch.where(finite, values, 0), covers)
    for odd in (math.inf, -math.inf, math.nan):
        here = values.isnan() if math.isnan(odd) else values == odd
        touched = _contract(here.to(values.dtype), covers) > 0.5
        total = torch.where(touched, total + odd, total)
    return total


def _contract(values: Tensor, covers: list[Tensor]) -> Tensor:
    """Sum ``values`` ``(n, *grid)`` over the windows that cover each element, ``(n, *sizes)``."""
    for cover in reversed(covers):
        # the last grid dimension becomes elements and moves to the front of the others
        values = (values @ cover.to(values)).movedim(-1, 1)
    return values


def parse_windows(shapes: Any, strides: Any, tensors: tuple[Tensor, ...]) -> Windows:
    """Read ``sliding_window_shapes`` and ``strides`` of an occlusion."""
    windows = _per_tensor(shapes, tensors, "sliding_window_shapes")
    if strides is None or _is_whole(strides):
        strides = tuple(1 if strides is None else strides for _ in tensors) if len(tensors) > 1 else strides
    elif len(tensors) == 1 and _is_shape(strides):
        strides = (strides,)
    steps = strides if isinstance(strides, tuple) else (strides,)
    if len(steps) != len(tensors):
        message = f"Expected strides for {len(tensors)} input tensor(s), got {describe(strides)}."
        raise InputError(message)
    checked = [_as_stride(s, w, t, i) for i, (s, w, t) in enumerate(zip(steps, windows, tensors, strict=True))]
    return Windows(windows, checked, tensors)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list, torch.Size)) and all(map(_is_whole, value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _per_tensor(shapes: Any, tensors: tuple[Tensor, ...], name: str) -> list[tuple[int, ...]]:
    entries = (shapes,) if len(tensors) == 1 and _is_shape(shapes) else shapes
    if not isinstance(entries, (tuple, list)) or len(entries) != len(tensors) or not all(map(_is_shape, entries)):
        message = f"Expected {name}: a tuple of ints per input tensor ({len(tensors)}), got {describe(shapes)}."
        raise InputError(message)
    out: list[tuple[int, ...]] = []
    for entry, tensor in zip(entries, tensors, strict=True):
        window, feature = tuple(map(int, entry)), tuple(tensor.shape[1:])
        if len(window) != len(feature) or any(not 1 <= w <= s for w, s in zip(window, feature, strict=True)):
            message = (
                f"Expected a window with one size per dim of {feature} (without the batch), each from 1 to the size of "
                f"the input; got {window}."
            )
            raise InputError(message)
        out.append(window)
    return out


def _as_stride(stride: Any, window: tuple[int, ...], tensor: Tensor, number: int) -> tuple[int, ...]:
    feature = tuple(tensor.shape[1:])
    steps = (1 if stride is None else stride,) * len(feature) if stride is None or _is_whole(stride) else stride
    if not _is_shape(steps) or len(steps) != len(feature) or any(s < 1 for s in steps):
        message = (
            f"Expected strides of input {number} to be None, an int ≥ 1, or {len(feature)} of them; got {stride!r}."
        )
        raise InputError(message)
    if any(s > w and w < size for s, w, size in zip(steps, window, feature, strict=True)):
        message = (
            f"The stride {tuple(steps)} is larger than the window {window} in a dim of {feature} that the window does "
            "not cover: elements would be skipped. Use a smaller stride or a larger window."
        )
        raise InputError(message)
    return tuple(map(int, steps))
