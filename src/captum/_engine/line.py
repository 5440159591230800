"""The straight path between two values of the variable, and the same path behind the model's first convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captum._engine.derivative import differentiate
from captum._engine.entrance import Head
from captum._engine.layout import Layout
from captum._engine.rows import Chunk
from captum._engine.score import Score

T = TypeVar("T")
Tensors = tuple[Tensor, ...]

#: Most elements of the head's results at both ends of the paths, so that they take little memory.
MOST_ELEMENTS = 2**24


def precise(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: at least single precision."""
    return torch.promote_types(dtype, torch.float32)


def points_on_path(start: Tensors, end: Tensors, chunk: Chunk, nodes: Tensor) -> Tensors:
    """``start + α (end − start)`` for the pairs of a chunk, in the dtype of ``end``."""
    out: list[Tensor] = []
    for a, b in zip(start, end, strict=True):
        first, last = chunk.rows.spread(a), chunk.rows.spread(b)
        dtype = precise(b.dtype)
        point = torch.lerp(first.to(dtype), last.to(dtype), chunk.of(nodes.to(dtype), b))
        out.append(point.to(b.dtype))
    return tuple(out)


class Catch(torch.autograd.Function):
    """Identity on a tensor that the model may write into, whose gradient is caught: a leaf would have to be copied."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, values: Tensor, caught: list[Tensor]) -> Tensor:
        """``values`` themselves; ``root`` only makes them part of a graph."""
        ctx.mark_dirty(values)
        ctx.caught, ctx.like = caught, root
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        """Keep the gradient by the values."""
        ctx.caught.append(gradient)
        return torch.zeros_like(ctx.like), None, None


class Line:
    """A path seen behind the head: it runs for the two ends, and backwards once for a sum over points.

    Args:
        layout: the layout that found the head.
        head: the first convolution.
        score: the score of the call.
        ends: start and end of the path, ``(1, C, H, W)`` or ``(B, C, H, W)``.
    """

    def __init__(self, layout: Layout, head: Head, score: Score, ends: tuple[Tensor, Tensor]) -> None:
        self._layout = layout
        self._head = head
        self._score = score
        self._shape = ends[1].shape
        self._start, self._end = head.of(ends[0]), head.of(ends[1])
        # rows by (height, width, channel), as the gradients lie in memory
        self._total = torch.zeros((len(ends[1]), self._end[0].numel()), dtype=self._end.dtype, device="cpu")

    def points(self, chunk: Chunk, nodes: Tensor) -> Tensor:
        """The head's results at the points of a chunk."""
        return points_on_path((self._start,), (self._end,), chunk, nodes)[0]

    def run(self, chunk: Chunk, nodes: Tensor, body: Callable[[Tensors], T]) -> list[T]:
        """``body(images)`` at the points of a chunk, for images that only the head may read; nothing if others do."""
        return self._layout.run_behind_head(self.points(chunk, nodes), (chunk.count, *self._shape[1:]), body)

    def add(self, chunk: Chunk, nodes: Tensor, weights: Tensor) -> bool:
        """Add up the weighted gradients by the head's results; False when the model reads its input otherwise."""
        gradients = self._gradients(chunk, nodes)
        if gradients is None:
            return False
        index = chunk.rows.index
        examples = torch.arange(chunk.rows.batch, device="cpu") if index is None else index
        shares = torch.zeros((len(self._total), chunk.count), dtype=gradients.dtype, device="cpu")
        shares[examples, torch.arange(chunk.count, device="cpu")] = weights[chunk.variants].to(gradients.dtype)
        self._total.addmm_(shares, gradients.permute(0, 2, 3, 1).reshape(chunk.count, -1))
        return True

    def _gradients(self, chunk: Chunk, nodes: Tensor) -> Tensor | None:
        caught: list[Tensor] = []
        with torch.enable_grad():
            root = torch.zeros(1, dtype=self._end.dtype, device="cpu", requires_grad=True)
            mapped = Catch.apply(root, self.points(chunk, nodes), caught)
            shape = (chunk.count, *self._shape[1:])
            found = self._layout.run_behind_head(
                mapped, shape, lambda images: differentiate(self._score(images, chunk.rows), (root,))
            )
        if not found:
            return None
        return caught[0] if caught else self._end.new_zeros((chunk.count, *self._end.shape[1:]))

    def pull(self) -> Tensor:
        """The sum of the gradients by the variable, ``(B, C, H, W)``."""
        _, channels, height, width = self._end.shape
        total = self._total.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return self._head.pull(total, self._shape)
