"""Linear models fitted by stochastic gradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.linear.model import LinearModel, split

__all__ = [
    "ConvergenceTracker",
    "LossWindow",
    "SGDLasso",
    "SGDLinearModel",
    "SGDLinearRegression",
    "SGDRidge",
    "l2_loss",
    "sgd_train_linear_model",
]

LossFunction = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def l2_loss(x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return half the weighted mean of squares, :math:`\frac12 \sum_i \frac{w_i}{\sum_j |w_j|}\,(x_i - y_i)^2`.

    Args:
        x1: ``(N,)`` or ``(N, C)``; the outputs of a row are averaged.
        x2: of the same shape.
        weights: ``(N,)``; default: all equal.

    Returns:
        The loss, a tensor without dimensions.
    """
    squares = ((x1 - x2) ** 2).reshape(len(x1), -1).mean(1)
    if weights is None:
        return squares.mean() / 2
    return (weights / weights.abs().sum() * squares).sum() / 2


class ConvergenceTracker:
    """Tell when a loss has stopped falling.

    Args:
        patience: how many times in a row the loss may fall by less than ``threshold``.
        threshold: the least fall that counts.
    """

    def __init__(self, patience: int, threshold: float) -> None:
        self.patience = patience
        self.threshold = threshold
        self.min_avg_loss: Tensor | None = None
        self.convergence_counter = 0
        self.converged = False

    def update(self, average_loss: Tensor) -> bool:
        """Take the next loss, return whether it has converged."""
        if self.min_avg_loss is None or bool(average_loss < self.min_avg_loss - self.threshold):
            self.convergence_counter = 0
        else:
            self.convergence_counter += 1
        if self.min_avg_loss is None or bool(average_loss < self.min_avg_loss):
            self.min_avg_loss = average_loss
        self.converged = self.converged or self.convergence_counter >= self.patience
        return self.converged


class LossWindow:
    """Mean of the latest losses.

    Args:
        window_size: how many of them.
    """

    def __init__(self, window_size: int) -> None:
        self.window_size = window_size
        self.loss_window: list[Tensor] = []

    def append(self, loss: Tensor) -> None:
        """Take the next loss."""
        self.loss_window = [*self.loss_window, loss][-self.window_size :]

    @property
    def full(self) -> bool:
        """Whether as many losses have come as the window holds."""
        return len(self.loss_window) == self.window_size

    def average(self) -> Tensor:
        """Return the mean of the losses in the window."""
        if not self.loss_window:
            message = "the window is empty; append a loss first"
            raise InputError(message)
        return torch.stack(self.loss_window).mean()


@dataclass(frozen=True)
class _Options:
    """How to descend; named as in :func:`sgd_train_linear_model`."""

    max_epoch: int
    reduce_lr: bool
    initial_lr: float
    alpha: float
    loss_fn: LossFunction
    reg_term: int | None
    patience: int
    threshold: float
    running_loss_window: int | None
    device: str | torch.device | None
    init_scheme: str | None
    debug: bool

    def __post_init__(self) -> None:
        if self.max_epoch < 1 or (self.running_loss_window is not None and self.running_loss_window < 1):
            found = f"{self.max_epoch} and {self.running_loss_window}"
            message = f"max_epoch and running_loss_window must be at least 1, got {found}"
            raise InputError(message)
        if self.init_scheme not in ("zeros", "xavier", None):
            message = f"init_scheme must be 'zeros', 'xavier' or None, got {self.init_scheme!r}"
            raise InputError(message)


class _Descent:
    """One training of one model."""

    def __init__(self, model: LinearModel, options: _Options, construct_kwargs: Mapping[str, object]) -> None:
        self.model = model
        self.options = options
        self.construct_kwargs = construct_kwargs
        self.tracker = ConvergenceTracker(options.patience, options.threshold)
        self.window = LossWindow(options.running_loss_window or 1)
        self.iterations = 0
        self.average = torch.tensor(torch.nan)
        self._optimizer: torch.optim.SGD | None = None
        self._schedule: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None

    def epoch(self, dataloader: Iterable[Sequence[Tensor]]) -> None:
        """Go once through the data, or until the training has converged."""
        losses: list[Tensor] = []
        for batch in dataloader:
            losses.append(self._step(*self._moved(batch)))
            if self.options.running_loss_window is not None:
                self._watch(losses[-1])
            if self.tracker.converged:
                return
        if not losses:
            message = "train_data has no rows; give at least one batch"
            raise InputError(message)
        if self.options.running_loss_window is None:
            self._judge(torch.stack(losses).mean())

    def _watch(self, loss: Tensor) -> None:
        self.window.append(loss)
        if self.window.full:
            self._judge(self.window.average())
        else:
            self.average = self.window.average()

    def _judge(self, average: Tensor) -> None:
        """Take an average loss, which must be finite."""
        self.average = average
        if not bool(torch.isfinite(average)):
            message = (
                f"the training diverged within {self.iterations} batches; "
                f"lower initial_lr, now {self.options.initial_lr}, or scale the features"
            )
            raise InputError(message)
        if self._schedule is not None:
            self._schedule.step(average.item())
        self.tracker.update(average)

    def _moved(self, batch: object) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read a batch in one floating dtype, on the device of the training."""
        inputs, targets, weights = split(batch)
        dtype = torch.promote_types(torch.promote_types(inputs.dtype, targets.dtype), torch.float32)
        device = inputs.device if self.options.device is None else torch.device(self.options.device)
        moved = None if weights is None else weights.to(device, dtype)
        return inputs.to(device, dtype), targets.to(device, dtype), moved

    def _step(self, inputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Go one step down on a batch, return its loss."""
        optimizer = self._optimizer or self._start(inputs, targets)
        options = self.options
        with torch.enable_grad():
            predictions = self.model(inputs)
            loss = options.loss_fn(targets.reshape(predictions.shape), predictions, weights)
            if options.reg_term is not None and options.alpha:
                loss = loss + options.alpha * torch.linalg.vector_norm(self._layer().weight, ord=options.reg_term)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        self.iterations += 1
        if options.debug:
            rate = optimizer.param_groups[0]["lr"]
            print(f"lr={rate:.3g} loss={loss.item():.6g}")  # noqa: T201 - asked for by debug=True
        return loss.detach()

    def _layer(self) -> nn.Linear:
        layer = self.model.linear
        if layer is None:
            message = "the model has no layer; its training has to start with a batch"
            raise InputError(message)
        return layer

    def _start(self, inputs: Tensor, targets: Tensor) -> torch.optim.SGD:
        """Make the layers to fit the first batch, and the optimiser."""
        options, outputs = self.options, targets.shape[1] if targets.dim() == 2 else 1
        make_layers: Callable[..., None] = self.model.make_layers
        make_layers(inputs.shape[1], outputs, **self.construct_kwargs)
        self.model.to(inputs.device, inputs.dtype)
        layer = self._layer()
        with torch.no_grad():
            if options.init_scheme == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            for parameter in layer.parameters() if options.init_scheme is not None else ():
                if options.init_scheme == "zeros" or parameter is not layer.weight:
                    parameter.zero_()
        self.model.train()
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=options.initial_lr)
        if options.reduce_lr:
            self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self._optimizer,
                factor=0.5,
                patience=max(options.patience // 2, 1),
                threshold=options.threshold,
                threshold_mode="abs",
            )
        return self._optimizer


def sgd_train_linear_model(
    model: LinearModel,
    dataloader: Iterable[Sequence[Tensor]],
    construct_kwargs: Mapping[str, object],
    max_epoch: int = 100,
    reduce_lr: bool = True,
    initial_lr: float = 0.01,
    alpha: float = 1.0,
    loss_fn: LossFunction = l2_loss,
    reg_term: int | None = 1,
    patience: int = 10,
    threshold: float = 1e-4,
    running_loss_window: int | None = None,
    device: str | torch.device | None = None,
    init_scheme: str | None = "zeros",
    debug: bool = False,
) -> dict[str, int | float | Tensor]:
    r"""Fit ``model`` by stochastic gradient descent on :math:`\text{loss} + \alpha\,\lVert W \rVert_p`.

    Args:
        model: gets its layers at the first batch, and is in evaluation mode afterwards.
        dataloader: batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``; read once per epoch.
        construct_kwargs: ``bias``, ``norm_type`` (``"batch_norm"``, ``"layer_norm"``) and ``affine_norm`` of the model.
        max_epoch: most passes over the data.
        reduce_lr: halve the learning rate whenever the loss has stopped falling for half of ``patience``.
        initial_lr: learning rate at the start.
        alpha: weight of the penalty.
        loss_fn: called with targets and predictions ``(N, C)`` and weights ``(N,)`` or ``None``.
        reg_term: the norm ``p`` of the penalty; ``None`` for no penalty.
        patience: how many averages in a row may fall by less than ``threshold`` before the training ends.
        threshold: the least fall of the average loss that counts.
        running_loss_window: number of batches to average the loss over, after each batch; default: over each epoch.
        device: where to train; default: where the data are.
        init_scheme: ``"zeros"``, ``"xavier"``, or ``None`` for torch's own.
        debug: print learning rate and loss after each batch.

    Returns:
        ``train_time`` in seconds; ``train_loss``, the last average; ``train_iter`` batches; ``train_epoch`` epochs.

    Raises:
        InputError: there are no data, an option is not one of those named, or the training diverged.
    """
    options = _Options(
        max_epoch, reduce_lr, initial_lr, alpha, loss_fn, reg_term, patience, threshold, running_loss_window, device,
        init_scheme, debug,
    )  # fmt: skip
    started, epochs = time.perf_counter(), 0
    descent = _Descent(model, options, construct_kwargs)
    while epochs < max_epoch and not descent.tracker.converged:
        descent.epoch(dataloader)
        epochs += 1
    model.eval()
    took = time.perf_counter() - started
    loss = descent.average.item()
    return {"train_time": took, "train_loss": loss, "train_iter": descent.iterations, "train_epoch": epochs}


class SGDLinearModel(LinearModel):
    """Linear model fitted by :func:`sgd_train_linear_model`.

    Args:
        kwargs: ``bias``, ``norm_type`` (``"batch_norm"``, ``"layer_norm"``) and ``affine_norm``.
    """

    _regularisation: Mapping[str, object] = MappingProxyType({})

    def __init__(self, **kwargs: object) -> None:
        super().__init__(train_fn=sgd_train_linear_model, **kwargs)

    def fit(self, train_data: Iterable[Sequence[Tensor]], **kwargs: object) -> dict[str, int | float | Tensor] | None:
        """Fit to batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.

        Args:
            train_data: DataLoader over such batches.
            kwargs: options of :func:`sgd_train_linear_model`.

        Returns:
            ``train_time``, ``train_loss``, ``train_iter`` and ``train_epoch``.
        """
        return super().fit(train_data, **self._regularisation, **kwargs)


class SGDLasso(SGDLinearModel):
    r"""Linear model with the penalty :math:`\alpha\,\lVert W \rVert_1`.

    Args:
        kwargs: as for :class:`SGDLinearModel`; ``alpha`` is an option of ``fit``.
    """

    _regularisation = MappingProxyType({"reg_term": 1})


class SGDRidge(SGDLinearModel):
    r"""Linear model with the penalty :math:`\alpha\,\lVert W \rVert_2`, the norm itself, not its square.

    Args:
        kwargs: as for :class:`SGDLinearModel`; ``alpha`` is an option of ``fit``.
    """

    _regularisation = MappingProxyType({"reg_term": 2})


class SGDLinearRegression(SGDLinearModel):
    """Linear model without a penalty.

    Args:
        kwargs: as for :class:`SGDLinearModel`.
    """

    _regularisation = MappingProxyType({"reg_term": None})
