"""TracIn by the weight of the last linear layer alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.influence.batches import Batch
from captum.influence.checkpoints import LoadCheckpoint, load_checkpoint
from captum.influence.last_layer import LayerRows, find_linear, layer_rows
from captum.influence.losses import ExampleLoss, expect_reduction
from captum.influence.tracin import TracInCPBase
from captum.log import log_usage

__all__ = ["TracInCPFast"]


class TracInCPFast(TracInCPBase):
    r"""TracIn by the weight of the last linear layer: one forward pass, and a backward pass as far as that layer.

    :math:`\mathrm{score}(z, z') = \sum_c \eta_c\, (\delta_z \cdot \delta_{z'})\,(h_z \cdot h_{z'})` with the layer's
    inputs ``h`` and the gradients ``δ`` of the loss by its outputs; sums over positions where the layer has several for
    an example. The bias does not count.

    G. Pruthi, F. Liu, S. Kale, M. Sundararajan, "Estimating training data influence by tracing gradient descent",
    2020, arXiv:2002.08484.

    Args:
        model: the module; after every call it is as it was before. Its examples may not influence each other.
        final_fc_layer: the last linear layer, a module of the model or its name.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoints: a directory, a list of paths, or any other objects; see :class:`TracInCPBase`.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``.
        loss_fn: the loss of a batch, with reduction ``"sum"`` or ``"mean"``; each example's counts as in a batch of its
            own.
        batch_size: training examples in a batch, where ``train_dataset`` is no DataLoader (default 1).
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        vectorize: changes nothing.

    Raises:
        InputError: when an argument cannot be used; see :class:`TracInCPBase`.
        InputTypeError: when an argument has another type, or the layer is not linear.

    Example:
        >>> import torch
        >>> model, data = torch.nn.Linear(2, 1, bias=False), [(torch.tensor([1.0, 2.0]), torch.tensor([0.0]))]
        >>> model.weight.data.fill_(1.0)
        tensor([[1., 1.]])
        >>> tracin = TracInCPFast(model, model, data, [1], lambda model, _: 1.0, torch.nn.MSELoss(reduction="sum"))
        >>> tracin.influence((torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)))
        tensor([[924.]])
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
    ) -> None:
        super().__init__(model, train_dataset, checkpoints, checkpoints_load_func, loss_fn, batch_size, test_loss_fn)
        self.vectorize = vectorize
        self._apart = False
        self.final_fc_layer = final_fc_layer
        if loss_fn is None:
            message = f"Expected a loss_fn for {self.get_name()}, got None: only TracInCP takes the outputs for a loss."
            raise InputError(message)
        for loss, name in ((loss_fn, "loss_fn"), (test_loss_fn, "test_loss_fn")):
            expect_reduction(loss, ("sum", "mean", "batchmean"), name, f"{self.get_name()} takes losses of batches")

    @property
    def final_fc_layer(self) -> nn.Linear:
        """The last linear layer; may be set to a module of the model, or its name."""
        return self._layer

    @final_fc_layer.setter
    def final_fc_layer(self, layer: nn.Module | str) -> None:
        self._layer = find_linear(self.model, layer)

    def _rows(self, batch: Batch, loss: ExampleLoss) -> Iterator[LayerRows]:
        rows = layer_rows(self.model, self._layer, batch, loss)
        if not self._apart and batch.size > 1:
            self._expect_apart(rows, layer_rows(self.model, self._layer, batch.rows(0, 1), loss))
        yield rows

    def _expect_apart(self, rows: LayerRows, alone: LayerRows) -> None:
        """Refuse models whose examples influence each other; in training mode examples may differ by chance."""
        self._apart = True
        if any(module.training for module in self.model.modules()):
            return
        near = 10 * torch.finfo(self._layer.weight.dtype).eps ** 0.5 * float(rows.values.abs().max())
        if not torch.allclose(rows.values[:1], alone.values, rtol=0.0, atol=near, equal_nan=True):
            message = (
                "Expected examples that do not influence each other: the first one reaches the last layer otherwise in "
                f"a batch of {rows.size} than alone. Use TracInCP, which runs every example by itself, or batch_size=1."
            )
            raise InputError(message)

    def _together(self, parts: Iterable[LayerRows], aggregate: bool) -> LayerRows:
        del aggregate  # only TracInCP sums over examples
        found = list(parts)
        if not found:
            message = "Expected examples, got none."
            raise InputError(message)
        widest = max(p.slopes.shape[1] for p in found)
        slopes, values = (
            torch.cat([nn.functional.pad(t, (0, 0, 0, widest - t.shape[1])) for t in side])
            for side in ([p.slopes for p in found], [p.values for p in found])
        )
        return LayerRows(slopes, values)

    def _row_bytes(self) -> int:
        return sum(self._layer.weight.shape) * self._layer.weight.element_size()

    @log_usage()
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self, inputs: Any, k: int | None = None, proponents: bool = True, show_progress: bool = False
    ) -> Any:
        """Scores of training examples for each example, or the ``k`` that matter most.

        Args:
            inputs: ``(features …, labels)`` with the batch in dim 0, or a DataLoader of such batches.
            k: how many training examples to return for each; None (default) for the scores of all.
            proponents: whether those with the largest scores matter most (default), or those with the smallest.
            show_progress: whether to draw a progress bar.

        Returns:
            Scores ``(n_test, n_train)`` in the order of the training data, in at least single precision; with ``k``
            :class:`KMostInfluentialResults`, ``(n_test, k)`` each, best first.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        return self._influence(inputs, k, proponents, self._label(show_progress))

    @log_usage()
    def self_influence(
        self, inputs: Any = None, show_progress: bool = False, outer_loop_by_checkpoints: bool = False
    ) -> Tensor:
        """Influence of each example on itself under the training loss: large for rare and mislabelled examples.

        Args:
            inputs: ``(features …, labels)``, or a DataLoader of such batches; None (default) for the training data.
            show_progress: whether to draw a progress bar.
            outer_loop_by_checkpoints: changes nothing; each checkpoint is loaded once.

        Returns:
            Scores ``(n,)``.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        del outer_loop_by_checkpoints
        return self._self_influence(inputs, self._label(show_progress))
