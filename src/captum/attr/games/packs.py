"""Packs: how many (coalition × example) pairs go into a forward pass."""

from __future__ import annotations

import math

import torch

from captum._engine.rows import Chunk, Rows
from captum._engine.sweep import Plan, Sweep, parameter_count, sharing_rows
from captum.attr.games.variable import Variable

#: Rows of at most this many elements are a table's: chunks of them, and what layers make of them, are best kept in the
#: caches of the processors that share them. How wide the layers are is guessed from the number of parameters.
TABLE_ROW = 1 << 13
TABLE_ELEMENTS = 3 << 17
NO_PAIRS = torch.zeros(0, dtype=torch.int64, device="cpu")


class Batches(Plan):
    """A plan that takes whole variants when they fit, so that one mask serves all rows of a variant.

    Args:
        limit: rows per forward pass, or None.
        variable: what is varied.
        whole: never split the rows of a variant.
    """

    def __init__(self, limit: int | None, variable: Variable, whole: bool) -> None:
        elements, work = max(1, variable.elements()), parameter_count(variable.modules)
        super().__init__(limit, elements, work, least=sharing_rows(variable.values))
        if limit is None and elements <= TABLE_ROW:
            share = TABLE_ELEMENTS * torch.get_num_threads() // max(elements, math.isqrt(work))
            self._cap = max(1, min(self._cap, share))
            self._size = min(self._size, self._cap)
        self._batch = variable.batch
        self._whole = whole

    def size(self, remaining: int) -> int:
        """Rows of the next chunk: whole variants, or an even part of what is left of one."""
        size, left = super().size(remaining), remaining % self._batch
        if size >= self._batch and not left:
            return size // self._batch * self._batch
        left = left or self._batch
        return left if self._whole or size >= left else -(-left // -(-left // size))

    def measured(self, rows: int, seconds: float) -> None:
        """Learn from a chunk; one that is full but for rounding counts as full."""
        super().measured(self._size if rows + self._batch > self._size else rows, seconds)

    def failed(self, rows: int) -> bool:
        """Memory ran out."""
        return not (self._whole and rows <= self._batch) and super().failed(rows)


class Packs(Sweep):
    """Chunks of whole variants, or of some rows of one: see :meth:`Game._chunk`."""

    def chunk(self, start: int, stop: int) -> Chunk:
        """The pairs from ``start`` to ``stop``."""
        first = start % self.batch
        whole = first == 0 and stop % self.batch == 0
        index = None if whole else torch.arange(first, first + stop - start, device="cpu")
        return Chunk(start, stop, Rows(self.batch, index), NO_PAIRS)
