"""TracIn by the last layer with a vector for each training example, kept for search."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError
from captum.influence.batches import Batches, as_batches
from captum.influence.checkpoints import LoadCheckpoint, load_checkpoint, untouched
from captum.influence.last_layer import LayerRows
from captum.influence.losses import ExampleLoss
from captum.influence.neighbors import ExactNearestNeighbors, NearestNeighbors
from captum.influence.results import KMostInfluentialResults, positive_count
from captum.influence.tracin_fast import TracInCPFast
from captum.log import log_usage

__all__ = ["TracInCPFastRandProj"]


class TracInCPFastRandProj(TracInCPFast):
    r"""TracIn by the last layer, with a vector for each training example, so that later calls only search.

    The vector of an example holds :math:`\sqrt{\eta_c}\,(A_c \delta) \otimes (B_c h)` of all checkpoints ``c``, with
    the layer's inputs ``h`` and the gradients ``δ`` of the loss by its outputs. ``A`` and ``B`` are random
    projections, or the identity: then inner products of vectors are the scores of :class:`TracInCPFast`.

    G. Pruthi, F. Liu, S. Kale, M. Sundararajan, "Estimating training data influence by tracing gradient descent",
    2020, arXiv:2002.08484.

    Args:
        model: the module; after every call it is as it was before. Its examples may not influence each other.
        final_fc_layer: the last linear layer, a module of the model or its name.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoints: a directory, a list of paths, or any other objects; see :class:`TracInCPBase`.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``, which may not be negative.
        loss_fn: the loss of a batch, with reduction ``"sum"`` or ``"mean"``, for training examples.
        batch_size: training examples in a batch, where ``train_dataset`` is no DataLoader (default 1).
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        vectorize: changes nothing.
        nearest_neighbors: a search, as :class:`captum.influence.neighbors.NearestNeighbors`; None (default) for
            an exact one.
        projection_dim: numbers that a vector takes for each checkpoint, at most; None (default) for all
            ``out · in``, which may not fit into memory.
        seed: of the projections (default 0); the global random streams are left alone.

    Raises:
        InputError: when an argument cannot be used; see :class:`TracInCPBase`.
        InputTypeError: when an argument has another type, or the layer is not linear.

    Example:
        >>> import torch
        >>> model, data = torch.nn.Linear(2, 1, bias=False), [(torch.tensor([1.0, 2.0]), torch.tensor([0.0]))]
        >>> model.weight.data.fill_(1.0)
        tensor([[1., 1.]])
        >>> loss = torch.nn.MSELoss(reduction="sum")
        >>> TracInCPFastRandProj(model, model, data, [1], lambda model, _: 1.0, loss).influence(
        ...     (torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)), k=1)
        KMostInfluentialResults(indices=tensor([[0]]), influence_scores=tensor([[924.]]))
    """

    def __init__(
        self,
        model: nn.Module,
        final_fc_layer: nn.Module | str,
        train_dataset: Any,
        checkpoints: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        loss_fn: Any = None,
        batch_size: int = 1,
        test_loss_fn: Any = None,
        vectorize: bool = False,
        nearest_neighbors: NearestNeighbors | None = None,
        projection_dim: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model,
            final_fc_layer,
            train_dataset,
            checkpoints,
            checkpoints_load_func,
            loss_fn,
            batch_size,
            test_loss_fn,
            vectorize,
        )
        positive_count(projection_dim, "projection_dim")
        self.nearest_neighbors: Any = ExactNearestNeighbors() if nearest_neighbors is None else nearest_neighbors
        if not all(callable(getattr(self.nearest_neighbors, n, None)) for n in ("setup", "get_nearest_neighbors")):
            message = (
                f"Expected nearest_neighbors with setup and get_nearest_neighbors, got {describe(nearest_neighbors)}."
            )
            raise InputTypeError(message)
        self.projection_dim = projection_dim
        self._projections = self._draw(projection_dim, seed)
        with untouched(model):
            self._vectors = self._vectors_of(self._train(), ExampleLoss(self.loss_fn))
        self.nearest_neighbors.setup(self._vectors)

    def _draw(self, dim: int | None, seed: int) -> tuple[Tensor, Tensor] | None:
        """Projections ``(out, √d)`` and ``(in, √d)``; None where vectors are short enough."""
        layer = self.final_fc_layer
        if dim is None or layer.out_features * layer.in_features <= dim:
            return None
        side = math.isqrt(dim)
        generator = torch.Generator().manual_seed(seed)
        torch.empty((), dtype=torch.int64).random_(generator=generator)  # what a pass over a DataLoader draws
        by_output, by_input = (
            torch.empty(n, side).normal_(0, side**-0.5, generator=generator)
            for n in (layer.out_features, layer.in_features)
        )
        return by_output, by_input

    def _vector(self, rows: LayerRows) -> Tensor:
        if self._projections is None:
            return rows.matrix()
        by_output, by_input = (p.to(rows.slopes) for p in self._projections)
        return LayerRows(rows.slopes @ by_output, rows.values @ by_input).matrix()

    def _vectors_of(self, batches: Batches, loss: ExampleLoss) -> Tensor:
        """Vectors ``(n, d · checkpoints)``."""
        found: list[Tensor] = []
        for rate in self._loaded():
            if rate < 0:
                message = f"Expected learning rates that are not negative, got {rate}: use TracInCPFast."
                raise InputError(message)
            parts = [rate**0.5 * self._vector(rows) for b in batches for rows in self._rows(b, loss)]
            if not parts:
                message = "Expected examples, got none."
                raise InputError(message)
            found.append(torch.cat(parts))
        return torch.cat(found, 1)

    @log_usage()
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self, inputs: Any = None, k: int | None = 5, proponents: bool = True
    ) -> Any:
        """The ``k`` training examples that matter most to each example, or the scores of all.

        Args:
            inputs: ``(features …, labels)`` with the batch in dim 0, or a DataLoader of such batches.
            k: how many training examples to return for each (default 5); None for the scores of all.
            proponents: whether those with the largest scores matter most (default), or those with the smallest.

        Returns:
            :class:`KMostInfluentialResults`, ``(n_test, k)`` each, best first; scores ``(n_test, n_train)`` for None.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        positive_count(k)
        query = self.compute_intermediate_quantities(inputs)
        if k is None:
            return query @ self._vectors.T
        sign = 1 if proponents else -1
        indices, scores = self.nearest_neighbors.get_nearest_neighbors(sign * query, min(k, len(self._vectors)))
        return KMostInfluentialResults(indices, sign * scores)

    @log_usage()
    def self_influence(
        self, inputs: Any = None, show_progress: bool = False, outer_loop_by_checkpoints: bool = False
    ) -> Tensor:
        """Not of this class: projections only approximate what :class:`TracInCPFast` computes exactly at the same cost.

        Raises:
            NotImplementedError: always.
        """
        message = "TracInCPFastRandProj has no self_influence: TracInCPFast computes it exactly at the same cost."
        raise NotImplementedError(message)

    @log_usage()
    def compute_intermediate_quantities(self, inputs: Any, *, test: bool = True) -> Tensor:
        """Vectors of examples whose inner products with those of training examples are their scores.

        Args:
            inputs: ``(features …, labels)`` with the batch in dim 0, or a DataLoader of such batches.
            test: whether the loss is that of the examples to be explained (default), or that of training.

        Returns:
            ``(n, d · checkpoints)``.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        loss, test_loss = self._losses()
        with untouched(self.model):
            return self._vectors_of(as_batches(inputs), test_loss if test else loss)
