"""TracIn: what training examples did to the loss of others, along the checkpoints of a training run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.influence.batches import Batch, Batches, LoaderBatches, as_batches, loader_of, size_of
from captum.influence.checkpoints import LoadCheckpoint, find_checkpoints, learning_rate, load_checkpoint, untouched
from captum.influence.data_influence import DataInfluence
from captum.influence.gradients import ExampleGradients, choose_parameters, expect_model, refuse_batch_statistics
from captum.influence.losses import ExampleLoss, expect_reduction
from captum.influence.results import KMostInfluentialResults, positive_count
from captum.influence.scoring import GradientRows, Rows, Tally, blocks, joined, moving_bar
from captum.log import log_usage

__all__ = ["TracInCP", "TracInCPBase"]

#: Bytes that what is known of test examples may take at a time; beyond it the training data come by again.
TEST_BUDGET = 2**30


class TracInCPBase(DataInfluence):
    """What TracIn's variants share: checkpoints, data, losses, and one stream of inner products.

    Args:
        model: the module; its parameters, buffers, modes and gradients are after every call as they were before.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoints: a directory, whose files are taken in natural order (``b9`` before ``b10``); a list of paths,
            sorted the same way; or any other objects, in their order.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``; default: a file of ``torch.save`` that holds a
            state dict and perhaps the key ``"learning_rate"`` (else 1.0).
        loss_fn: the loss of training, ``(outputs, labels) -> Tensor``.
        batch_size: training examples in a batch, where ``train_dataset`` is no DataLoader (default 1).
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.

    Raises:
        InputError: when there is no checkpoint, the loader shuffles, or a loss has another reduction than is needed.
        InputTypeError: when an argument has another type.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        checkpoints: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        loss_fn: Any = None,
        batch_size: int = 1,
        test_loss_fn: Any = None,
    ) -> None:
        expect_model(model)
        self.model = model
        self.checkpoints = checkpoints
        self.checkpoints_load_func = checkpoints_load_func
        self.loss_fn = loss_fn
        self.test_loss_fn = loss_fn if test_loss_fn is None else test_loss_fn
        self.batch_size = batch_size
        self.train_dataloader = loader_of(train_dataset, batch_size, "train_dataset")

    @property
    def checkpoints(self) -> list[Any]:
        """The checkpoints in their order; may be set to whatever the constructor takes."""
        return self._checkpoints

    @checkpoints.setter
    def checkpoints(self, checkpoints: Any) -> None:
        self._checkpoints = find_checkpoints(checkpoints)

    @abstractmethod
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self,
        inputs: Any,
        k: int | None = None,
        proponents: bool = True,
        unpack_inputs: bool = True,
        show_progress: bool = False,
    ) -> Any:
        """Scores of training examples; see the classes that derive from this."""

    @abstractmethod
    def self_influence(self, inputs: Any = None, show_progress: bool = False) -> Tensor:
        """Influence of each example on itself; see the classes that derive from this."""

    @abstractmethod
    def _rows(self, batch: Batch, loss: ExampleLoss) -> Iterator[Rows]:
        """The examples of a batch as vectors, in pieces, under the checkpoint that is loaded."""

    @abstractmethod
    def _together(self, parts: Iterable[Any], aggregate: bool) -> Any:
        """Pieces of the examples of several batches as one; or their sum."""

    @abstractmethod
    def _row_bytes(self) -> int:
        """Bytes that one example takes as a vector."""

    def _losses(self) -> tuple[ExampleLoss, ExampleLoss]:
        return ExampleLoss(self.loss_fn), ExampleLoss(self.test_loss_fn, "test_loss_fn")

    def _train(self) -> Batches:
        return LoaderBatches(self.train_dataloader, "train_dataset")

    def _loaded(self) -> Iterator[float]:
        """Learning rates, with their checkpoint in the model."""
        for checkpoint in self._checkpoints:
            rate = learning_rate(self.checkpoints_load_func(self.model, checkpoint))
            refuse_batch_statistics(self.model)
            yield rate

    def _label(self, show_progress: bool) -> str | None:
        return f"{self.get_name()} influence" if show_progress else None

    def _steps(self) -> int | None:
        count = size_of(self.train_dataloader)
        return None if count is None else count * len(self._checkpoints)

    def _influence(
        self, inputs: Any, k: int | None, proponents: bool, label: str | None, *, aggregate: bool = False
    ) -> Any:
        positive_count(k)
        tests = as_batches(inputs, ordered=not aggregate)
        parts: list[Tensor | KMostInfluentialResults] = []
        with untouched(self.model):
            limit = max(1, TEST_BUDGET // max(1, self._row_bytes()))
            for group in [tests] if aggregate else blocks(tests, limit):
                tally = Tally(len(self._checkpoints), k, largest=proponents)
                self._stream(group, tally, aggregate, label)
                parts.append(tally.results())
        return joined(parts)

    def _stream(self, tests: Iterable[Batch], tally: Tally, aggregate: bool, label: str | None) -> None:
        """Every training example with the test examples, under every checkpoint."""
        loss, test_loss = self._losses()
        with moving_bar(label, self._steps()) as step:
            for rate in self._loaded():
                known = self._together((r for b in tests for r in self._rows(b, test_loss)), aggregate)
                for batch in self._train():
                    _add(tally, rate, known, self._rows(batch, loss))
                    step()
                tally.end_pass()

    def _self_influence(self, inputs: Any, label: str | None) -> Tensor:
        examples = self._train() if inputs is None else as_batches(inputs)
        loss, _ = self._losses()
        total: Tensor | None = None
        with untouched(self.model), moving_bar(label, self._steps() if inputs is None else None) as step:
            for rate in self._loaded():
                parts: list[Tensor] = []
                for batch in examples:
                    parts += [rate * rows.squares() for rows in self._rows(batch, loss)]
                    step()
                if not parts:
                    message = "Expected examples, got none."
                    raise InputError(message)
                found = torch.cat(parts)
                total = found if total is None else total + found
        if total is None:
            message = "Expected at least one checkpoint, got none."
            raise InputError(message)
        return total


def _add(tally: Tally, rate: float, known: Any, pieces: Iterable[Rows]) -> None:
    for rows in pieces:
        tally.add(rate * known.dot(rows))


class TracInCP(TracInCPBase):
    r"""Influence of training examples: inner products of gradients, summed over checkpoints.

    :math:`\mathrm{score}(z, z') = \sum_c \eta_c\, \nabla_\theta L(\theta_c, z) \cdot \nabla_\theta L(\theta_c, z')`.
    Positive scores belong to proponents: steps on them lowered the loss of ``z``.

    G. Pruthi, F. Liu, S. Kale, M. Sundararajan, "Estimating training data influence by tracing gradient descent",
    2020, arXiv:2002.08484.

    Args:
        model: the module; after every call it is as it was before. Every kind of module is differentiated; batch
            normalisation must be in evaluation mode.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoints: a directory, a list of paths, or any other objects; see :class:`TracInCPBase`.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``.
        layers: names of modules whose parameters count, also frozen ones; None (default) for all parameters that are
            not frozen.
        loss_fn: the loss; each example's is computed as in a batch of its own. None for the sum of the outputs.
        batch_size: training examples in a batch, where ``train_dataset`` is no DataLoader (default 1).
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        sample_wise_grads_per_batch: which reduction the losses of torch must have: ``"none"`` (False, default), or
            ``"sum"`` or ``"mean"`` (True). Gradients are computed for many examples at once either way.

    Raises:
        InputError: when an argument cannot be used; see :class:`TracInCPBase`.
        InputTypeError: when an argument has another type.

    Example:
        >>> import torch
        >>> model, data = torch.nn.Linear(2, 1, bias=False), [(torch.tensor([1.0, 2.0]), torch.tensor(0.0))]
        >>> tracin = TracInCP(model, data, [1], lambda model, checkpoint: 0.5)
        >>> tracin.influence((torch.tensor([[3.0, 4.0]]), torch.zeros(1)))
        tensor([[5.5000]])
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        checkpoints: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        layers: list[str] | None = None,
        loss_fn: Any = None,
        batch_size: int = 1,
        test_loss_fn: Any = None,
        sample_wise_grads_per_batch: bool = False,
    ) -> None:
        super().__init__(model, train_dataset, checkpoints, checkpoints_load_func, loss_fn, batch_size, test_loss_fn)
        self.sample_wise_grads_per_batch = sample_wise_grads_per_batch
        allowed = ("sum", "mean", "batchmean") if sample_wise_grads_per_batch else ("none",)
        why = f"sample_wise_grads_per_batch is {sample_wise_grads_per_batch}"
        expect_reduction(loss_fn, allowed, "loss_fn", why)
        expect_reduction(test_loss_fn, allowed, "test_loss_fn", why)
        self._names = choose_parameters(model, layers)
        self._gradients = ExampleGradients(model, self._names)

    def _rows(self, batch: Batch, loss: ExampleLoss) -> Iterator[GradientRows]:
        return map(GradientRows, self._gradients.pieces(batch, loss))

    def _together(self, parts: Iterable[GradientRows], aggregate: bool) -> GradientRows:
        found = [p.matrix.sum(0, keepdim=True) if aggregate else p.matrix for p in parts]
        if not found:
            message = "Expected examples, got none."
            raise InputError(message)
        whole = torch.cat(found)
        return GradientRows(whole.sum(0, keepdim=True) if aggregate else whole)

    def _row_bytes(self) -> int:
        return self._gradients.row_bytes()

    @log_usage()
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self,
        inputs: Any,
        k: int | None = None,
        proponents: bool = True,
        show_progress: bool = False,
        aggregate: bool = False,
    ) -> Any:
        """Scores of training examples for each example, or the ``k`` that matter most.

        Args:
            inputs: ``(features …, labels)`` with the batch in dim 0, or a DataLoader of such batches.
            k: how many training examples to return for each; None (default) for the scores of all.
            proponents: whether those with the largest scores matter most (default), or those with the smallest.
            show_progress: whether to draw a progress bar.
            aggregate: whether the scores are summed over the examples.

        Returns:
            Scores ``(n_test, n_train)`` in the order of the training data, in at least single precision; with ``k``
            :class:`KMostInfluentialResults`, ``(n_test, k)`` each, best first. With ``aggregate`` there is one row.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        return self._influence(inputs, k, proponents, self._label(show_progress), aggregate=aggregate)

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

    @log_usage()
    def compute_intermediate_quantities(self, inputs: Any, aggregate: bool = False) -> Tensor:
        """Gradients of the training loss of each example, times the learning rate, of all checkpoints side by side.

        Args:
            inputs: ``(features …, labels)``, or a DataLoader of such batches.
            aggregate: whether to sum over the examples.

        Returns:
            ``(n, P · checkpoints)``; one row with ``aggregate``.

        Raises:
            InputError: when inputs cannot be used, or batch normalisation is in training mode.
        """
        examples = as_batches(inputs, ordered=not aggregate)
        loss, _ = self._losses()
        with untouched(self.model):
            found = [
                rate * self._together((r for b in examples for r in self._rows(b, loss)), aggregate).matrix
                for rate in self._loaded()
            ]
        return torch.cat(found, 1)
