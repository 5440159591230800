"""Rows of a chunk: which of the call's examples each of them belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from captum.errors import InputError

T = TypeVar("T")


class Rows:
    """The examples that the rows of a chunk repeat.

    Args:
        batch: number of examples ``B`` of the call.
        index: LongTensor ``(n,)`` on the CPU, the example of each row; None for all examples in order.
    """

    __slots__ = ("batch", "count", "index")

    def __init__(self, batch: int, index: Tensor | None = None) -> None:
        self.batch = batch
        self.index = index
        self.count = batch if index is None else len(index)

    def pick(self, tensor: Tensor) -> Tensor:
        """The rows of ``tensor`` ``(B, *)`` or ``(1, *)``, as a tensor ``(n, *)``."""
        if self.index is None:
            return tensor if len(tensor) == self.batch else self._repeat(tensor)
        if len(tensor) == 1 and self.batch != 1:
            return self._repeat(tensor)
        return tensor.index_select(0, self.index.to(tensor.device))

    def _repeat(self, tensor: Tensor) -> Tensor:
        """A single row, copied for all; an expanded one would fail in a model that takes a view of it."""
        if len(tensor) != 1:
            message = (
                f"Expected a tensor whose dim 0 is 1 or the batch of {self.batch}, got shape {tuple(tensor.shape)}."
            )
            raise InputError(message)
        return tensor.expand(self.count, *tensor.shape[1:]).contiguous()

    def distinct(self) -> Rows:
        """The examples that occur, each once, in order."""
        return self if self.index is None else Rows(self.batch, torch.unique(self.index))

    def compose(self, inner: Rows) -> Rows:
        """The examples of rows that repeat these rows."""
        if self.index is None or inner.index is None:
            return inner if self.index is None else self
        return Rows(self.batch, self.index[inner.index])

    def pieces(self, limit: int | None) -> list[Rows]:
        """These rows, at most ``limit`` at a time."""
        if limit is None or self.count <= limit:
            return [self]
        index = torch.arange(self.batch, device="cpu") if self.index is None else self.index
        return [Rows(self.batch, part) for part in index.split(limit)]

    def spread(self, tensor: Tensor) -> Tensor:
        """Like :meth:`pick`, but a single row stays one row, for broadcasting without a copy."""
        return tensor if len(tensor) == 1 else self.pick(tensor)

    def pick_constant(self, value: object) -> object:
        """A constant of the model for these rows: tensors with a row per example are repeated, others are not."""
        if self.index is None or not isinstance(value, Tensor) or value.dim() == 0 or len(value) != self.batch:
            return value
        return self.pick(value)

    def pick_list(self, values: list[T]) -> list[T]:
        """The entries of a list with one entry per example, one for each row."""
        return values if self.index is None else [values[i] for i in self.index.tolist()]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of (variant, example) pairs that is evaluated in one forward pass.

    Attributes:
        start: position of the first pair in the order of the sweep.
        stop: position after the last pair.
        rows: the example of each pair.
        variants: LongTensor ``(n,)`` on the CPU, the variant of each pair.
    """

    start: int
    stop: int
    rows: Rows
    variants: Tensor

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.stop - self.start

    def of(self, values: Tensor, like: Tensor) -> Tensor:
        """The entry of ``values`` ``(K,)`` for each pair, shaped ``(n, 1, …)`` to multiply tensors like ``like``."""
        picked = values[self.variants].to(like.device)
        return picked.reshape(-1, *([1] * (like.dim() - 1)))


def fold(total: Tensor, chunk: Chunk, values: Tensor) -> Tensor:
    """Add ``values`` ``(n, *)`` to their rows of ``total`` ``(B, *)``; in place unless a graph is kept."""
    if len(total) == 1:
        values = values.sum(0, keepdim=True)
        return total + values if values.requires_grad else total.add_(values)
    index = chunk.rows.index
    place = torch.arange(len(total), device=total.device) if index is None else index.to(total.device)
    return total.index_add(0, place, values) if values.requires_grad else total.index_add_(0, place, values)
