"""The most influential training examples, kept while scores stream by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum.errors import InputError

__all__ = ["BestSoFar", "KMostInfluentialResults", "positive_count"]


class KMostInfluentialResults(NamedTuple):
    """The ``k`` training examples that matter most to each test example, the strongest first.

    Attributes:
        indices: ``(n_test, k)``, places in the training set, int64.
        influence_scores: ``(n_test, k)``, their scores with their true sign.
    """

    indices: Tensor
    influence_scores: Tensor


def positive_count(k: int | None, name: str = "k") -> None:
    """Refuse numbers of examples that are no positive integers; None is fine.

    Raises:
        InputError: when ``k`` is not.
    """
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):  # pyright: ignore[reportUnnecessaryIsInstance] users pass what they like
        message = f"Expected {name} to be a positive integer or None, got {k!r}."
        raise InputError(message)


class BestSoFar:
    """The ``k`` largest (or smallest) scores of each test example, from scores that come in pieces.

    Equal scores are in the order of the training set. NaN counts as the worst score.

    Args:
        k: how many to keep.
        largest: whether large scores are best.

    >>> best = BestSoFar(2, largest=True)
    >>> best.update(torch.tensor([[1.0, 3.0]]), 0)
    >>> best.update(torch.tensor([[2.0]]), 2)
    >>> best.results().indices.tolist()
    [[1, 2]]
    """

    def __init__(self, k: int, *, largest: bool) -> None:
        self._k = k
        self._largest = largest
        self._kept: KMostInfluentialResults | None = None

    def update(self, scores: Tensor, start: int) -> None:
        """Take scores ``(n_test, b)`` of the training examples from ``start`` on."""
        indices = torch.arange(start, start + scores.shape[1], device=scores.device).expand(len(scores), -1)
        if self._kept is not None:
            indices = torch.cat([self._kept.indices, indices], 1)
            scores = torch.cat([self._kept.influence_scores, scores], 1)
        worst = float("-inf") if self._largest else float("inf")
        order = torch.where(scores.isnan(), worst, scores).argsort(dim=1, descending=self._largest, stable=True)
        order = order[:, : self._k]
        self._kept = KMostInfluentialResults(indices.gather(1, order), scores.gather(1, order))

    def results(self) -> KMostInfluentialResults:
        """What was best.

        Raises:
            InputError: when there were no training examples.
        """
        if self._kept is None:
            message = "Expected training examples to choose from, got an empty data set."
            raise InputError(message)
        return self._kept
