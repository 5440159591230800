"""How the inputs of a subject are divided for methods that must be told: masks, windows, groups."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

#: Elements of a row from which single ones would take too long to score one by one.
MANY = 1000


def tensors_of(inputs: object) -> tuple[Tensor, ...]:
    """The tensors of an input that have rows; nothing of an input that is none."""
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return tuple(part for part in parts if isinstance(part, Tensor) and part.dim())


def mask_of(inputs: object, most: int | None) -> Tensor | None:
    """A mask with few features over one tensor of many elements: blocks of an image, runs of anything else."""
    if not isinstance(inputs, Tensor) or inputs.dim() < 2:
        return None
    shape = inputs.shape[1:]
    if prod(shape) <= (MANY if most is None else most):
        return None
    if len(shape) == 3:
        down, across = (6, 6) if most is None else (2, most // 2)
        rows, columns = (
            torch.arange(size, device="cpu") * parts // size
            for size, parts in zip(shape[1:], (down, across), strict=True)
        )
        return (rows[:, None] * across + columns).expand(1, 1, *shape[1:])
    return None if most is None else (torch.arange(prod(shape), device="cpu") * most // prod(shape)).reshape(1, *shape)


def windows_of(inputs: object) -> dict[str, object]:
    """Windows that overlap where there are places: single values, pairs of steps, half an image wide."""
    shapes = [_window(tuple(tensor.shape[1:])) for tensor in tensors_of(inputs)] or [((1,), (1,))]
    windows, strides = zip(*shapes, strict=True)
    single = not isinstance(inputs, (tuple, Mapping))
    return {
        "sliding_window_shapes": windows[0] if single else windows,
        "strides": strides[0] if single else strides,
    }


def _window(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(shape) < 2:
        return (1,) * len(shape), (1,) * len(shape)
    places = shape[1:] if len(shape) > 2 else shape[:1]
    window, stride = tuple(max(1, p // 2) for p in places), tuple(max(1, p // 4) for p in places)
    if len(shape) > 2:
        return (shape[0], *window), (shape[0], *stride)
    return (*window, shape[1]), (*stride, shape[1])


def groups_of(inputs: object, mask: Tensor | None) -> list[object]:
    """A hierarchy: one group per tensor; the first feature of a single tensor and the others."""
    parts = tensors_of(inputs)
    if len(parts) != 1:
        sizes = [part[:1].numel() for part in parts]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        return [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
    players = parts[0][:1].numel() if mask is None else len(mask.unique())
    return [0, list(range(1, players))] if players > 1 else list(range(players))
