"""Linear models fitted by scikit-learn, which is loaded on use."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum.errors import CaptumWarning, InputError, MissingDependencyError
from captum.linear.model import LinearModel, NormLayer, TrainingRows, rows_of

__all__ = [
    "SkLearnLasso",
    "SkLearnLinearModel",
    "SkLearnLinearRegression",
    "SkLearnLogisticRegression",
    "SkLearnRidge",
    "SkLearnSGDClassifier",
    "sklearn_train_linear_model",
]

Array = npt.NDArray[np.float64]


class _Estimator(Protocol):
    """What is used of a linear estimator of scikit-learn."""

    coef_: Array
    intercept_: Array | float

    def fit(self, X: Array, y: npt.NDArray[np.generic], **kwargs: object) -> object: ...  # noqa: N803 - theirs


def sklearn_train_linear_model(
    model: LinearModel,
    dataloader: Iterable[Sequence[Tensor]],
    construct_kwargs: Mapping[str, object],
    sklearn_trainer: str = "Lasso",
    norm_input: bool = False,
    **fit_kwargs: object,
) -> dict[str, int | float | Tensor]:
    """Fit a linear estimator of scikit-learn to all rows in double precision and put its coefficients into ``model``.

    Args:
        model: gets the coefficients, in the dtype of the data.
        dataloader: batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.
        construct_kwargs: arguments of the estimator.
        sklearn_trainer: dotted path of the estimator below ``sklearn``, for example ``"linear_model.Lasso"``.
        norm_input: standardise the features first (mean and population standard deviation of the rows).
        fit_kwargs: further arguments of the estimator's ``fit``.

    Returns:
        ``train_time`` in seconds.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        InputError: it has no such estimator, or what it fits is not linear.
    """
    options = dict(construct_kwargs)
    rows = rows_of(dataloader)
    if sklearn_trainer == "linear_model.Lasso" and not norm_input and "copy_X" not in options:
        # a copy of its own in the order that it works in, which it need not copy again
        inputs, options["copy_X"] = _columns(rows.inputs), False
    else:
        inputs = _array(rows.inputs)
    estimator = _estimator(sklearn_trainer)(**options)
    norm = None
    if norm_input:
        mean, std = inputs.mean(0), inputs.std(0)
        norm = NormLayer(_tensor(mean, rows), _tensor(std, rows), n=len(inputs))
        inputs = (inputs - mean) / (std + norm.eps)
    started = time.perf_counter()
    _fit(estimator, inputs, rows, fit_kwargs)
    took = time.perf_counter() - started
    if not hasattr(estimator, "coef_"):
        message = f"sklearn.{sklearn_trainer} has no coefficients after its fit; take a linear estimator"
        raise InputError(message)
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    intercept = np.broadcast_to(np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64)), len(coefficients))
    labels: object = getattr(estimator, "classes_", None)
    model.make_layers(
        weight_values=_tensor(coefficients, rows),
        bias_value=_tensor(intercept.copy(), rows),
        classes=None if labels is None else torch.as_tensor(labels),
    )
    model.norm = norm
    return {"train_time": took}


def _estimator(path: str) -> Callable[..., _Estimator]:
    try:
        package = import_module("sklearn")
    except ImportError as fault:
        message = "scikit-learn fits this linear model: pip install scikit-learn, or use captum.linear.ClosedFormRidge"
        raise MissingDependencyError(message) from fault
    module, _, name = path.rpartition(".")
    try:
        home = import_module(f"sklearn.{module}") if module else package
        return getattr(home, name)
    except (ImportError, AttributeError) as fault:
        message = f"scikit-learn has no {path!r}; give the path below sklearn, such as 'linear_model.Lasso'"
        raise InputError(message) from fault


def _fit(estimator: _Estimator, inputs: Array, rows: TrainingRows, options: Mapping[str, object]) -> None:
    """Fit with the rows' weights where the estimator can use them."""
    targets = rows.targets.detach().cpu().numpy() if not rows.targets.is_floating_point() else _array(rows.targets)
    if rows.weights is None:
        estimator.fit(inputs, targets, **options)
        return
    if "sample_weight" in inspect.signature(estimator.fit).parameters:
        estimator.fit(inputs, targets, sample_weight=_array(rows.weights), **options)
        return
    warnings.warn(
        f"{type(estimator).__name__} takes no sample weights and was fitted without them; take an estimator that does",
        CaptumWarning,
        stacklevel=4,
    )
    estimator.fit(inputs, targets, **options)


def _array(x: Tensor) -> Array:
    return x.detach().to("cpu", torch.float64).numpy()


def _columns(x: Tensor) -> Array:
    """A new array, column by column in memory."""
    columns: Array = np.empty(tuple(x.shape), order="F")
    torch.from_numpy(columns).copy_(x.detach())
    return columns


def _tensor(values: Array, rows: TrainingRows) -> Tensor:
    return torch.as_tensor(values, device=rows.inputs.device, dtype=rows.dtype)


class SkLearnLinearModel(LinearModel):
    """Linear model fitted by any linear estimator of scikit-learn.

    Args:
        sklearn_module: dotted path of the estimator below ``sklearn``, for example ``"linear_model.HuberRegressor"``.
        kwargs: arguments of the estimator.
    """

    def __init__(self, sklearn_module: str, **kwargs: object) -> None:
        super().__init__(train_fn=sklearn_train_linear_model, **kwargs)
        self.sklearn_module = sklearn_module

    def fit(self, train_data: Iterable[Sequence[Tensor]], **kwargs: object) -> dict[str, int | float | Tensor] | None:
        """Fit to all rows; weights are used where the estimator can.

        Args:
            train_data: DataLoader over ``(inputs, targets)`` or ``(inputs, targets, weights)``.
            kwargs: ``norm_input=True`` standardises the features first; the rest goes to the estimator's ``fit``.

        Returns:
            ``train_time`` in seconds.

        Raises:
            MissingDependencyError: scikit-learn is not installed.
        """
        return super().fit(train_data, sklearn_trainer=self.sklearn_module, **kwargs)


class SkLearnLasso(SkLearnLinearModel):
    """Least squares with a 1-norm penalty, ``sklearn.linear_model.Lasso``.

    Args:
        kwargs: its arguments, such as ``alpha``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(sklearn_module="linear_model.Lasso", **kwargs)


class SkLearnRidge(SkLearnLinearModel):
    """Least squares with a squared 2-norm penalty, ``sklearn.linear_model.Ridge``.

    Args:
        kwargs: its arguments, such as ``alpha``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(sklearn_module="linear_model.Ridge", **kwargs)


class SkLearnLinearRegression(SkLearnLinearModel):
    """Least squares, ``sklearn.linear_model.LinearRegression``.

    Args:
        kwargs: its arguments, such as ``fit_intercept``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(sklearn_module="linear_model.LinearRegression", **kwargs)


class SkLearnLogisticRegression(SkLearnLinearModel):
    """Logistic regression on class labels, ``sklearn.linear_model.LogisticRegression``.

    Args:
        kwargs: its arguments, such as ``C``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(sklearn_module="linear_model.LogisticRegression", **kwargs)


class SkLearnSGDClassifier(SkLearnLinearModel):
    """Linear classifier trained by stochastic gradient descent, ``sklearn.linear_model.SGDClassifier``.

    Args:
        kwargs: its arguments, such as ``loss`` and ``random_state``.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(sklearn_module="linear_model.SGDClassifier", **kwargs)
