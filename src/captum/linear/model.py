"""What a surrogate model is, and the linear one: a layer whose weights explain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from captum.errors import InputError, InputTypeError

__all__ = ["LinearModel", "Model", "NormLayer", "TrainFunction", "TrainingRows", "rows_of", "split"]

Fitted = dict[str, int | float | Tensor]
TrainFunction = Callable[..., "Fitted | None"]


class Model(ABC):
    """A model that is fitted to explain another, and read by its representation."""

    @abstractmethod
    def fit(self, train_data: Iterable[Sequence[Tensor]], **kwargs: object) -> Fitted | None:
        """Fit to batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.

        Args:
            train_data: DataLoader over such batches, ``(N, M)``, ``(N,)`` or ``(N, C)``, and ``(N,)``.
            kwargs: options of the fit.

        Returns:
            Figures about the training, such as the seconds it took, or ``None``.
        """

    @abstractmethod
    def representation(self) -> Tensor:
        """Return what explains: for linear models the coefficients."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the predictions for rows ``(N, M)``."""


class NormLayer(nn.Module):
    r"""Standardise features, :math:`(x - \mu) / (\sigma + \epsilon)`.

    Args:
        mean: mean of each feature, ``(M,)``.
        std: standard deviation of each feature, ``(M,)``.
        n: number of rows that these were taken from; only kept.
        eps: added to ``std``.
    """

    def __init__(self, mean: Tensor | float, std: Tensor | float, n: int | None = None, eps: float = 1e-8) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean), persistent=True)
        self.register_buffer("std", torch.as_tensor(std), persistent=True)
        self.n = n
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised rows."""
        return (x - self.get_buffer("mean")) / (self.get_buffer("std") + self.eps)


class LinearModel(nn.Module, Model):
    r"""Linear map :math:`x \mapsto W x + b`, optionally behind a norm, that a training function makes and fits.

    Args:
        train_fn: called as ``train_fn(model, dataloader=…, construct_kwargs=…, **options of fit)``; it has to call
            ``model.make_layers`` and to fit the layer, and returns figures about the training.
        kwargs: handed to ``train_fn`` as ``construct_kwargs``.
    """

    SUPPORTED_NORMS = (None, "batch_norm", "layer_norm")

    def __init__(self, train_fn: TrainFunction, **kwargs: object) -> None:
        super().__init__()
        self.norm: nn.Module | None = None
        self.linear: nn.Linear | None = None
        self.train_fn = train_fn
        self.construct_kwargs = kwargs
        self._classes: Tensor | None = None

    def make_layers(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        norm_type: str | None = None,
        affine_norm: bool = False,
        bias: bool = True,
        weight_values: Tensor | None = None,
        bias_value: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> None:
        """Make the layers; a training function calls this once it knows the sizes.

        Args:
            in_features: number of features ``M``; default: that of ``weight_values``.
            out_features: number of outputs ``C``; default: that of ``weight_values``.
            norm_type: ``"batch_norm"``, ``"layer_norm"`` or ``None``: what the features go through first.
            affine_norm: whether that norm has parameters.
            bias: whether there is an intercept.
            weight_values: the coefficients ``(C, M)``; they also tell dtype and device.
            bias_value: the intercepts ``(C,)``, or one for all.
            classes: labels of the outputs, for a classifier.

        Raises:
            InputError: the norm is none of these, or the sizes are not known.
        """
        if norm_type not in self.SUPPORTED_NORMS:
            message = f"norm_type must be one of {self.SUPPORTED_NORMS}, got {norm_type!r}"
            raise InputError(message)
        if weight_values is not None:
            out_features, in_features = weight_values.shape
        if in_features is None or out_features is None:
            message = "give in_features and out_features, or weight_values of shape (out_features, in_features)"
            raise InputError(message)
        self.norm = None
        if norm_type == "batch_norm":
            self.norm = nn.BatchNorm1d(in_features, eps=1e-8, affine=affine_norm)
        elif norm_type == "layer_norm":
            self.norm = nn.LayerNorm(in_features, eps=1e-8, elementwise_affine=affine_norm)
        like = weight_values if weight_values is not None else torch.zeros(())
        self.linear = nn.Linear(in_features, out_features, bias=bias, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            if weight_values is not None:
                self.linear.weight.copy_(weight_values)
            if bias_value is not None and bias:
                self.linear.bias.copy_(bias_value.reshape(-1).expand(out_features))
        self._classes = classes

    _construct_model_params = make_layers  # its name in earlier releases

    def fit(self, train_data: Iterable[Sequence[Tensor]], **kwargs: object) -> Fitted | None:
        """Fit to batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.

        Args:
            train_data: DataLoader over such batches, ``(N, M)``, ``(N,)`` or ``(N, C)``, and ``(N,)``.
            kwargs: options of the training function.

        Returns:
            What the training function returns: ``train_time`` in seconds, and more.
        """
        return self.train_fn(self, dataloader=train_data, construct_kwargs=self.construct_kwargs, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C)`` predictions for rows ``(N, M)``, in the dtype of the fitted weights."""
        linear = self._fitted()
        x = x.to(linear.weight.dtype)
        return linear(x if self.norm is None else self.norm(x))

    def representation(self) -> Tensor:
        """Return the coefficients ``(C, M)``, detached."""
        return self._fitted().weight.detach()

    def bias(self) -> Tensor | None:
        """Return the intercepts ``(C,)``, detached; ``None`` without or before the fit."""
        if self.linear is None or not self._has_bias:
            return None
        return self.linear.bias.detach()

    @property
    def _has_bias(self) -> bool:
        """Whether there is an intercept."""
        return self.linear is not None and "bias" in dict(self.linear.named_parameters())

    def classes(self) -> Tensor | None:
        """Return the class labels in the order of the outputs; ``None`` for regressions or before the fit."""
        return self._classes

    def _fitted(self) -> nn.Linear:
        if self.linear is None:
            message = f"{type(self).__name__} has no coefficients yet; call fit(train_data) first"
            raise InputError(message)
        return self.linear


@dataclass(frozen=True)
class TrainingRows:
    """All rows of a training set at once: inputs ``(N, M)``, targets ``(N,)`` or ``(N, C)``, weights ``(N,)``."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype that the fitted weights take: that of inputs and targets, at least single precision."""
        return torch.promote_types(torch.promote_types(self.inputs.dtype, self.targets.dtype), torch.float32)


def _is_sequence(x: object) -> TypeGuard[Sequence[object]]:
    return isinstance(x, (tuple, list))


def split(batch: object) -> tuple[Tensor, Tensor, Tensor | None]:
    """Read one batch of a loader; anything but two or three tensors with as many rows is refused."""
    found = tuple(batch) if _is_sequence(batch) else (batch,)
    parts = [part for part in found if isinstance(part, Tensor)]
    if len(parts) != len(found) or len(parts) not in (2, 3):
        kinds = ", ".join(type(part).__name__ for part in found)
        message = f"train_data must give tensors (inputs, targets) or (inputs, targets, weights), got ({kinds})"
        raise InputTypeError(message)
    shapes = [tuple(part.shape) for part in parts]
    if len(shapes[0]) != 2 or any(len(shape) == 0 or shape[0] != shapes[0][0] for shape in shapes):
        message = f"a batch needs inputs (N, M) and as many rows in targets and weights, got shapes {shapes}"
        raise InputError(message)
    return parts[0], parts[1], parts[2].reshape(-1) if len(parts) == 3 else None


def rows_of(train_data: Iterable[Sequence[Tensor]]) -> TrainingRows:
    """Gather all batches.

    Args:
        train_data: batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.

    Returns:
        The rows of all, targets of shape ``(N, 1)`` flattened to ``(N,)``.

    Raises:
        InputTypeError: a batch is something else.
        InputError: there are no rows, or the numbers of rows differ.
    """
    batches = [split(batch) for batch in train_data]
    if not batches or not sum(len(inputs) for inputs, _, _ in batches):
        message = "train_data has no rows; give at least one batch"
        raise InputError(message)
    weights = [weight for _, _, weight in batches if weight is not None]
    if weights and len(weights) != len(batches):
        message = "some batches of train_data have weights and some have none; give weights with all or none"
        raise InputError(message)
    targets = torch.cat([target for _, target, _ in batches])
    if targets.dim() == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    inputs = batches[0][0] if len(batches) == 1 else torch.cat([x for x, _, _ in batches])
    return TrainingRows(inputs, targets, torch.cat(weights) if weights else None)
