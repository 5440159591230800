"""Influence functions: what would become of a loss, had a training example been left out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.influence.batches import Batches, LoaderBatches, as_batches, loader_of, size_of
from captum.influence.checkpoints import LoadCheckpoint, Snapshot, learning_rate, load_checkpoint, untouched
from captum.influence.curvature import Curvature, inverse_root
from captum.influence.data_influence import DataInfluence
from captum.influence.gradients import ExampleGradients, choose_parameters, expect_model, refuse_batch_statistics
from captum.influence.losses import ExampleLoss, expect_reduction
from captum.influence.results import positive_count
from captum.influence.scoring import Tally, moving_bar
from captum.log import log_usage

__all__ = ["InfluenceFunctionBase", "IntermediateQuantitiesInfluenceFunction", "NaiveInfluenceFunction"]


class InfluenceFunctionBase(DataInfluence):
    """What influence functions share: one checkpoint, data, and losses.

    Args:
        model: the module; its parameters, buffers, modes and gradients are after every call as they were before, and
            after the constructor, too.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoint: what the load function takes, once.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``, which is not used; default: a file of
            ``torch.save`` that holds a state dict.
        layers: names of modules whose parameters count, also frozen ones; None (default) for all that are not frozen.
        loss_fn: the loss of training; each example's is computed as in a batch of its own.
        batch_size: examples in a batch, where data are no DataLoader (default 1).
        hessian_dataset: the data whose loss has the Hessian, may shuffle; None (default) for the training data.
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        sample_wise_grads_per_batch: which reduction the losses of torch must have: ``"none"`` (False, default), or
            ``"sum"`` or ``"mean"`` (True).

    Raises:
        InputError: when there is no loss, a loader shuffles, or a loss has another reduction than is needed.
        InputTypeError: when an argument has another type.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        checkpoint: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        layers: list[str] | None = None,
        loss_fn: Any = None,
        batch_size: int = 1,
        hessian_dataset: Any = None,
        test_loss_fn: Any = None,
        sample_wise_grads_per_batch: bool = False,
    ) -> None:
        expect_model(model)
        if loss_fn is None:
            message = f"Expected a loss_fn for {self.get_name()}, got None: its Hessian is needed."
            raise InputError(message)
        allowed = ("sum", "mean", "batchmean") if sample_wise_grads_per_batch else ("none",)
        for loss, name in ((loss_fn, "loss_fn"), (test_loss_fn, "test_loss_fn")):
            expect_reduction(loss, allowed, name, f"sample_wise_grads_per_batch is {sample_wise_grads_per_batch}")
        self.model = model
        self.checkpoint = checkpoint
        self.checkpoints_load_func = checkpoints_load_func
        self.loss_fn = loss_fn
        self.test_loss_fn = loss_fn if test_loss_fn is None else test_loss_fn
        self.batch_size = batch_size
        self.sample_wise_grads_per_batch = sample_wise_grads_per_batch
        self.train_dataloader = loader_of(train_dataset, batch_size, "train_dataset")
        hessian = train_dataset if hessian_dataset is None else hessian_dataset
        self.hessian_dataloader = loader_of(hessian, batch_size, "hessian_dataset", ordered=False)
        self._names = choose_parameters(model, layers)
        with untouched(model):
            learning_rate(checkpoints_load_func(model, checkpoint))
            refuse_batch_statistics(model)
            self._at_checkpoint = Snapshot(model)

    @abstractmethod
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self, inputs: Any, k: int | None = None, proponents: bool = True, show_progress: bool = False
    ) -> Any:
        """Scores of training examples; see the classes that derive from this."""

    @abstractmethod
    def self_influence(self, inputs_dataset: Any = None, show_progress: bool = False) -> Tensor:
        """Influence of each example on itself; see the classes that derive from this."""


class IntermediateQuantitiesInfluenceFunction(InfluenceFunctionBase):
    """Influence functions whose scores are inner products of a vector for each example.

    The vector is the gradient of its loss times ``R``, ``(P, d)``, with ``R Rᵀ`` close to the inverse of the Hessian.
    Arguments are those of :class:`InfluenceFunctionBase`.
    """

    _root: Tensor

    @property
    def R(self) -> Tensor:  # noqa: N802 -- upstream's name
        """The matrix ``(P, d)`` that makes vectors of gradients."""
        return self._root

    def _train(self) -> Batches:
        return LoaderBatches(self.train_dataloader, "train_dataset")

    def _label(self, show_progress: bool, what: str = "influence") -> str | None:
        return f"{self.get_name()} {what}" if show_progress else None

    def _find_root(self, projection_on_cpu: bool, label: str | None) -> None:
        """Find ``R``, at the checkpoint."""
        with untouched(self.model):
            self._at_checkpoint.restore()
            device = next(p.device for p in self.model.parameters())
            with moving_bar(label, size_of(self.hessian_dataloader)) as step:
                root = self._inverse_root(step)
            named = dict(self.model.named_parameters())
            dtype = torch.promote_types(named[self._names[0]].dtype, torch.float32)
            self._root = root.to("cpu" if projection_on_cpu else device, dtype)

    @abstractmethod
    def _inverse_root(self, step: Any) -> Tensor:
        """``(P, d)``; the checkpoint is in the model."""

    def _curvature(self) -> Curvature:
        batches = LoaderBatches(self.hessian_dataloader, "hessian_dataset")
        return Curvature(self.model, self._names, batches, ExampleLoss(self.loss_fn))

    def _pieces(self, batches: Batches, loss: ExampleLoss, step: Any = None) -> Iterator[Tensor]:
        """Vectors ``(b, d)`` of examples; the checkpoint is in the model."""
        gradients = ExampleGradients(self.model, self._names)
        for batch in batches:
            for rows in gradients.pieces(batch, loss):
                yield rows.to(self._root.device) @ self._root
            if step is not None:
                step()

    def _vectors(self, inputs: Any, test: bool, aggregate: bool, label: str | None) -> Tensor:
        batches = as_batches(inputs, ordered=not aggregate)
        loss = ExampleLoss(self.test_loss_fn, "test_loss_fn") if test else ExampleLoss(self.loss_fn)
        with untouched(self.model), moving_bar(label, None) as step:
            self._at_checkpoint.restore()
            found = [v.sum(0, keepdim=True) if aggregate else v for v in self._pieces(batches, loss, step)]
        if not found:
            message = "Expected examples, got none."
            raise InputError(message)
        whole = torch.cat(found)
        return whole.sum(0, keepdim=True) if aggregate else whole

    @log_usage()
    def influence(self, inputs: Any, k: int | None = None, proponents: bool = True, show_progress: bool = False) -> Any:
        """Scores of training examples for each example, or the ``k`` that matter most.

        Args:
            inputs: ``(features …, labels)`` with the batch in dim 0, or a DataLoader of such batches.
            k: how many training examples to return for each; None (default) for the scores of all.
            proponents: whether those with the largest scores matter most (default), or those with the smallest.
            show_progress: whether to draw a progress bar.

        Returns:
            Scores ``(n_test, n_train)`` in the order of the training data, in at least single precision; with ``k``
            :class:`KMostInfluentialResults`, ``(n_test, k)`` each, best first. Leaving out an example raises the loss
            by about its score.

        Raises:
            InputError: when inputs cannot be used.
        """
        positive_count(k)
        tests = self._vectors(inputs, test=True, aggregate=False, label=None)
        tally = Tally(1, k, largest=proponents)
        label, total = self._label(show_progress), size_of(self.train_dataloader)
        with untouched(self.model), moving_bar(label, total) as step:
            self._at_checkpoint.restore()
            for vectors in self._pieces(self._train(), ExampleLoss(self.loss_fn), step):
                tally.add(tests @ vectors.T)
        tally.end_pass()
        return tally.results()

    @log_usage()
    def self_influence(self, inputs_dataset: Any = None, show_progress: bool = False) -> Tensor:
        """Influence of each example on itself under the training loss: large for rare and mislabelled examples.

        Args:
            inputs_dataset: ``(features …, labels)``, or a DataLoader of such batches; None (default) for the training
                data.
            show_progress: whether to draw a progress bar.

        Returns:
            Scores ``(n,)``.

        Raises:
            InputError: when inputs cannot be used.
        """
        inputs = self.train_dataloader if inputs_dataset is None else inputs_dataset
        return self._vectors(inputs, False, False, self._label(show_progress)).square().sum(1)

    @log_usage()
    def compute_intermediate_quantities(
        self,
        inputs_dataset: Any,
        aggregate: bool = False,
        show_progress: bool = False,
        return_on_cpu: bool = True,
        test: bool = False,
    ) -> Tensor:
        """Vectors of examples whose inner products are their scores.

        Args:
            inputs_dataset: ``(features …, labels)``, or a DataLoader of such batches.
            aggregate: whether to sum over the examples.
            show_progress: whether to draw a progress bar.
            return_on_cpu: whether the result lies on the CPU (default), or where the model does.
            test: whether the loss is that of the examples to be explained, or that of training (default).

        Returns:
            ``(n, d)``; one row with ``aggregate``.

        Raises:
            InputError: when inputs cannot be used.
        """
        found = self._vectors(inputs_dataset, test, aggregate, self._label(show_progress, "quantities"))
        return found.to("cpu" if return_on_cpu else next(p.device for p in self.model.parameters()))


class NaiveInfluenceFunction(IntermediateQuantitiesInfluenceFunction):
    r"""Influence of training examples by the inverse of the whole Hessian; for models of some thousand parameters.

    :math:`\mathrm{score}(z, z') = \nabla L(z)^\top (H + \lambda I)^{-1} \nabla L(z')` with the Hessian ``H`` of the
    loss summed over ``hessian_dataset``, in the directions of its largest eigenvalues.

    P. W. Koh, P. Liang, "Understanding black-box predictions via influence functions", 2017, arXiv:1703.04730.

    Args:
        model: the module; after the constructor and every call it is as it was before.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoint: what the load function takes, once.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``, which is not used.
        layers: names of modules whose parameters count, also frozen ones; None (default) for all that are not frozen.
        loss_fn: the loss of training; each example's is computed as in a batch of its own.
        batch_size: examples in a batch, where data are no DataLoader (default 1).
        hessian_dataset: the data whose loss has the Hessian, may shuffle; None (default) for the training data.
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        sample_wise_grads_per_batch: which reduction the losses of torch must have: ``"none"`` (False, default), or
            ``"sum"`` or ``"mean"`` (True).
        projection_dim: how many of the largest eigenvalues are kept (default 50); None for all.
        seed: not used; nothing is random.
        hessian_reg: ``λ`` (default 1e-6).
        hessian_inverse_tol: eigenvalues of ``H + λ I`` up to this (default 1e-5) are left out.
        projection_on_cpu: whether ``R`` lies on the CPU (default), or where the model does.
        show_progress: whether to draw a progress bar while the Hessian is computed.

    Raises:
        InputError: when an argument cannot be used, or no eigenvalue is left.
        InputTypeError: when an argument has another type.

    Example:
        >>> model, data = nn.Linear(1, 1, bias=False), [(torch.tensor([2.0]), torch.tensor([0.0]))]
        >>> model.weight.data.fill_(1.0)
        tensor([[1.]])
        >>> naive = NaiveInfluenceFunction(model, data, 1, lambda model, _: 1.0, None, nn.MSELoss(reduction="none"))
        >>> naive.influence((torch.tensor([[3.0]]), torch.zeros(1, 1)))  # 18 · 8 / (8 + λ)
        tensor([[18.0000]])
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        checkpoint: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        layers: list[str] | None = None,
        loss_fn: Any = None,
        batch_size: int = 1,
        hessian_dataset: Any = None,
        test_loss_fn: Any = None,
        sample_wise_grads_per_batch: bool = False,
        projection_dim: int | None = 50,
        seed: int = 42,
        hessian_reg: float = 1e-6,
        hessian_inverse_tol: float = 1e-5,
        projection_on_cpu: bool = True,
        show_progress: bool = False,
    ) -> None:
        positive_count(projection_dim, "projection_dim")
        super().__init__(
            model,
            train_dataset,
            checkpoint,
            checkpoints_load_func,
            layers,
            loss_fn,
            batch_size,
            hessian_dataset,
            test_loss_fn,
            sample_wise_grads_per_batch,
        )
        self.projection_dim = projection_dim
        self.seed = seed
        self.hessian_reg = hessian_reg
        self.hessian_inverse_tol = hessian_inverse_tol
        self._find_root(projection_on_cpu, self._label(show_progress, "Hessian"))

    def _inverse_root(self, step: Any) -> Tensor:
        hessian = self._curvature().dense(step)
        return inverse_root(hessian, self.hessian_reg, self.hessian_inverse_tol, self.projection_dim)
