"""Targets that are more than an index: regions of a segmentation, time steps, several labels at once.

Each object reads the model's output ``(B, *)`` into one number per row. They work with every attribution method:
``Saliency(model).attribute(x, target=Region(5))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum.errors import TargetError, TargetIndexError

__all__ = ["Labels", "Region", "Step"]


def _class_of(output: Tensor, index: int, dim: int) -> Tensor:
    size = output.shape[dim]
    if not -size <= index < size:
        message = f"Class {index} is outside dim {dim} of the output {tuple(output.shape)}; pass 0…{size - 1}."
        raise TargetIndexError(message)
    return output.select(dim, index)


@dataclass(frozen=True)
class Region:
    """Sum of one class over a region of a dense output ``(B, C, *spatial)``: ``Σ_p mask_p · output[:, class, p]``.

    Args:
        class_index: the class ``c``.
        mask: weights or bools that broadcast to ``(B, *spatial)``; None for all positions.

    Example:
        >>> import torch
        >>> from captum._engine.rows import Rows
        >>> Region(1).select(torch.ones(2, 3, 4, 4), Rows(2))
        tensor([16., 16.])
    """

    class_index: int
    mask: Tensor | None = None

    def select(self, output: Tensor, rows: Rows) -> Tensor:
        """Read ``output`` ``(n, C, *spatial)`` into ``(n,)``."""
        if output.dim() < 3:
            message = f"Region needs an output (B, classes, *spatial), got {tuple(output.shape)}; pass an int target."
            raise TargetError(message)
        values = _class_of(output, self.class_index, 1)
        if self.mask is not None:
            given = torch.as_tensor(self.mask)
            mask = given if given.dim() < values.dim() else _rows_of_mask(given, rows)
            pairs = zip(reversed(mask.shape), reversed(values.shape), strict=False)
            if mask.dim() > values.dim() or any(have not in (1, want) for have, want in pairs):
                wanted = (rows.batch, *values.shape[1:])
                message = f"Expected a mask that broadcasts to {wanted}, got {tuple(given.shape)}."
                raise TargetError(message)
            values = values * mask.to(values)
        return values.flatten(1).sum(1)


def _rows_of_mask(mask: Tensor, rows: Rows) -> Tensor:
    if len(mask) not in (1, rows.batch):
        message = f"Expected a mask with dim 0 of 1 or {rows.batch}, got {tuple(mask.shape)}."
        raise TargetError(message)
    return rows.spread(mask)


@dataclass(frozen=True)
class Step:
    """One time step of a sequence output: ``output[:, step, class]``, or ``output[:, step]`` without a class.

    Args:
        step: the time step; negative counts from the end.
        class_index: the class at that step; None when the output is ``(B, T)``.
    """

    step: int
    class_index: int | None = None

    def select(self, output: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002  # the same for every row
        """Read ``output`` ``(n, T)`` or ``(n, T, C)`` into ``(n,)``."""
        want = 2 if self.class_index is None else 3
        if output.dim() != want:
            form = "(B, T)" if want == 2 else "(B, T, classes)"
            message = f"{self} needs an output {form}, got {tuple(output.shape)}."
            raise TargetError(message)
        values = _class_of(output, self.step, 1)
        return values if self.class_index is None else _class_of(values, self.class_index, 1)


@dataclass(frozen=True)
class Labels:
    """Weighted sum of several outputs of a multi-label model ``(B, C)``: ``Σ_k w_k · output[:, c_k]``.

    Args:
        indices: the classes ``c_k``.
        weights: one weight per class; None for 1 each.
    """

    indices: Sequence[int]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse a single number."""
        if isinstance(self.indices, int):
            message = f"Labels takes a list of classes, got {self.indices}; for one class pass it as the target itself."
            raise TargetError(message)

    def select(self, output: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002  # the same for every row
        """Read ``output`` ``(n, C)`` into ``(n,)``."""
        weights = [1.0] * len(self.indices) if self.weights is None else list(self.weights)
        if output.dim() != 2 or len(weights) != len(self.indices) or not weights:
            message = (
                f"Labels needs an output (B, classes) and one weight per index; the output is {tuple(output.shape)}, "
                f"with {len(self.indices)} indices and {len(weights)} weights."
            )
            raise TargetError(message)
        parts = [w * _class_of(output, int(i), 1) for i, w in zip(self.indices, weights, strict=True)]
        return torch.stack(parts).sum(0)
