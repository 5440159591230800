"""Inner products of examples with examples, streamed over the training data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from captum.errors import InputError
from captum.influence.batches import Batch
from captum.influence.results import BestSoFar, KMostInfluentialResults

__all__ = ["GradientRows", "Rows", "Tally", "blocks", "moving_bar"]


class Rows(Protocol):
    """Examples as vectors under some geometry."""

    @property
    def size(self) -> int:
        """How many examples."""
        ...

    def dot(self, other: Self) -> Tensor:
        """Inner products ``(n, m)`` of these examples with others."""
        ...

    def squares(self) -> Tensor:
        """Inner products ``(n,)`` of examples with themselves."""
        ...


class GradientRows:
    """Examples as the rows of a matrix ``(n, P)``."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @property
    def size(self) -> int:
        """How many examples."""
        return len(self.matrix)

    def dot(self, other: GradientRows) -> Tensor:
        """Inner products ``(n, m)`` of these examples with others."""
        return self.matrix @ other.matrix.T

    def squares(self) -> Tensor:
        """Inner products ``(n,)`` of examples with themselves."""
        return self.matrix.square().sum(1)


class Tally:
    """Scores ``(n_test, n_train)`` that come in pieces over several passes, and are wanted whole or only the best.

    The pieces of all passes but the last are added up; with one pass, only the best need to be kept.

    Args:
        passes: how often the training data come by.
        k: how many training examples to keep; None for all.
        largest: whether large scores are best.
    """

    def __init__(self, passes: int, k: int | None, *, largest: bool) -> None:
        self._left = passes
        self._pieces: list[Tensor] = []
        self._sum: Tensor | None = None
        self._best = None if k is None else BestSoFar(k, largest=largest)
        self._start = 0

    def add(self, scores: Tensor) -> None:
        """Take the scores ``(n_test, b)`` of the next training examples."""
        start, self._start = self._start, self._start + scores.shape[1]
        if self._sum is not None:
            seen = self._sum[:, start : self._start]
            if seen.shape[1] != scores.shape[1]:
                self._refuse()
            scores = seen.add_(scores)
        if self._left == 1 and self._best is not None:
            self._best.update(scores, start)
        elif self._sum is None:
            self._pieces.append(scores)

    def end_pass(self) -> None:
        """The training data have come by once."""
        if self._pieces:
            self._sum = torch.cat(self._pieces, 1)
            self._pieces.clear()
        if self._sum is not None and self._sum.shape[1] != self._start:
            self._refuse()
        self._left -= 1
        self._start = 0

    def results(self) -> Tensor | KMostInfluentialResults:
        """All scores, or the best with their places."""
        if self._best is not None:
            return self._best.results()
        if self._sum is None:
            message = "Expected training examples, got an empty data set."
            raise InputError(message)
        return self._sum

    @staticmethod
    def _refuse() -> None:
        message = "Expected the same training examples in every pass, got another number of them: fix their order."
        raise InputError(message)


def blocks(batches: Iterable[Batch], limit: int) -> Iterator[list[Batch]]:
    """Batches in groups of at most ``limit`` examples, cut where they must be."""
    group: list[Batch] = []
    room = limit
    for batch in batches:
        start = 0
        while start < batch.size:
            part = batch.rows(start, min(batch.size, start + room))
            group.append(part)
            start, room = start + part.size, room - part.size
            if room == 0:
                yield group
                group, room = [], limit
    if group:
        yield group


def joined(parts: Sequence[Tensor | KMostInfluentialResults]) -> Tensor | KMostInfluentialResults:
    """Results of groups of test examples under each other.

    Raises:
        InputError: when there are none.
    """
    whole = [p for p in parts if isinstance(p, Tensor)]
    best = [p for p in parts if not isinstance(p, Tensor)]
    if best:
        indices, scores = (torch.cat([b[i] for b in best]) for i in range(2))
        return KMostInfluentialResults(indices, scores)
    if not whole:
        message = "Expected examples to explain, got none."
        raise InputError(message)
    return torch.cat(whole)


@contextlib.contextmanager
def moving_bar(label: str | None, total: int | None) -> Generator[Callable[[], object]]:
    """A progress bar of batches; without a label nothing is drawn."""
    if label is None:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit="batch") as bar:
        yield bar.update
