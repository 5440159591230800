"""Perturbed inputs where nearly everything stays: copies of the input with a few elements written over."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from captum.attr.games.features import Features, Groups
from captum.attr.games.fills import ConstantReady, Ready

#: Above this share of absent players, masks for all elements are faster than lists of those that change.
FEW = 0.05
#: Where a coalition in the middle has a smaller share of present players, nobody counts the others.
SURELY_FEWER = 0.8


def patched(
    features: Features, fill: Ready, values: tuple[Tensor, ...], members: Tensor, batch: int
) -> tuple[Tensor, ...] | None:
    """The inputs ``(k, B, *)`` for members ``(k, M)`` on the CPU; None where masks serve better, or are needed.

    Equal to ``torch.where`` on whole masks, bit by bit.
    """
    if members.dim() != 2 or not members.numel():
        return None
    present = members.numpy()
    if np.count_nonzero(present[len(present) // 2]) < SURELY_FEWER * present.shape[1]:
        return None
    if not isinstance(features, Groups) or not isinstance(fill, ConstantReady) or not features.shared:
        return None
    if any(len(v) != batch or b.dtype != v.dtype for v, b in zip(values, fill.bases, strict=True)):
        return None
    changes = present.size - np.count_nonzero(present)
    if changes > FEW * present.size:
        return None
    if not changes:
        return tuple(_copies(value, len(members)) for value in values)
    pairs = np.flatnonzero(~present)
    variant, player = torch.from_numpy(pairs // present.shape[1]), torch.from_numpy(pairs % present.shape[1])
    return tuple(
        _written(value, base, len(members), features.elements(number, variant, player))
        for number, (value, base) in enumerate(zip(values, fill.bases, strict=True))
    )


def _copies(value: Tensor, count: int) -> Tensor:
    """``(count, B, *)``."""
    return value.detach().expand(count, *value.shape).clone(memory_format=torch.contiguous_format)


def _written(value: Tensor, base: Tensor, count: int, places: tuple[Tensor, Tensor]) -> Tensor:
    """``count`` copies of ``value`` ``(B, *)`` with elements of the base at the places ``(variant, element)``."""
    width = math.prod(value.shape[1:])
    out = _copies(value, count)
    variant, element = (p.to(value.device) for p in places)
    flat = base.expand(len(base), *value.shape[1:]).reshape(len(base), width)
    out.view(count, len(value), width)[variant, :, element] = flat[:, element].T
    return out
