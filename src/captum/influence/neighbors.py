"""Vectors that have the largest inner products with a query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from captum.errors import InputError, MissingDependencyError
from captum.influence.results import positive_count

__all__ = ["AnnoyNearestNeighbors", "ExactNearestNeighbors", "NearestNeighbors"]


class NearestNeighbors(ABC):
    """A search for the vectors that have the largest inner products with a query."""

    @abstractmethod
    def setup(self, data: Tensor) -> None:
        """Take the vectors ``(n, d)`` to be searched."""

    @abstractmethod
    def get_nearest_neighbors(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest vectors of each query ``(m, d)``.

        Returns:
            Their places ``(m, k)`` and their inner products with the query ``(m, k)``, the largest first.
        """


class ExactNearestNeighbors(NearestNeighbors):
    """Every inner product is looked at: exact, and fast enough for some millions of numbers.

    >>> search = ExactNearestNeighbors()
    >>> search.setup(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    >>> search.get_nearest_neighbors(torch.tensor([[1.0, 1.0]]), 1)
    (tensor([[1]]), tensor([[2.]]))
    """

    def __init__(self) -> None:
        self._data: Tensor | None = None

    def setup(self, data: Tensor) -> None:
        """Take the vectors ``(n, d)`` to be searched."""
        self._data = data

    def get_nearest_neighbors(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest vectors of each query ``(m, d)``: places and inner products, ``(m, k)`` each."""
        if self._data is None:
            message = "Expected vectors to search, got none: call setup first."
            raise InputError(message)
        scores = query @ self._data.T
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        return order, scores.gather(1, order)


class AnnoyNearestNeighbors(NearestNeighbors):
    """An approximate search by random trees, with the package annoy.

    Args:
        num_trees: how many trees are built; more are slower and more exact.

    Raises:
        MissingDependencyError: when annoy is not installed.
    """

    def __init__(self, num_trees: int = 10) -> None:
        positive_count(num_trees, "num_trees")
        try:
            self._annoy: Any = import_module("annoy")
        except ImportError:
            message = "AnnoyNearestNeighbors needs annoy: pip install annoy, or use ExactNearestNeighbors."
            raise MissingDependencyError(message) from None
        self.num_trees = num_trees
        self._index: Any = None
        self._data: Tensor | None = None

    def setup(self, data: Tensor) -> None:
        """Take the vectors ``(n, d)`` to be searched."""
        self._data = data
        self._index = self._annoy.AnnoyIndex(data.shape[1], "dot")
        for place, vector in enumerate(data.cpu()):
            self._index.add_item(place, vector.tolist())
        self._index.build(self.num_trees)

    def get_nearest_neighbors(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """About the ``k`` nearest vectors of each query ``(m, d)``: places and inner products, ``(m, k)`` each.

        Raises:
            InputError: before :meth:`setup`, and when the trees find fewer than ``k`` vectors for a query.
        """
        if self._data is None:
            message = "Expected vectors to search, got none: call setup first."
            raise InputError(message)
        wanted = min(k, len(self._data))
        found = [self._index.get_nns_by_vector(q.tolist(), wanted) for q in query.cpu()]
        if any(len(places) != wanted for places in found):
            message = f"The trees found fewer than {wanted} neighbours of a query: raise num_trees."
            raise InputError(message)
        places = torch.tensor(found, dtype=torch.int64, device=query.device).reshape(len(query), wanted)
        scores = (query.unsqueeze(1) * self._data.to(query.device)[places]).sum(2)
        order = scores.argsort(dim=1, descending=True, stable=True)
        return places.gather(1, order), scores.gather(1, order)
