r"""Least squares in closed form, for many games at once, on any device.

.. math:: \min_{c,\,b} \sum_s w_s\,(y_s - b - x_s \cdot c)^2 + \alpha\,\lVert c \rVert^2

The intercept is taken out by centring; the rest is solved in double precision on the shorter side of the design, by
Cholesky, and by singular values where that is too ill-conditioned. Without a unique solution the one of smallest norm
is given.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum.errors import InputError
from captum.linear.model import LinearModel, rows_of

__all__ = ["ClosedFormLinearRegression", "ClosedFormRidge", "Fit", "least_squares"]

# Cholesky squares the condition number of the design; beyond this ratio of its pivots the singular values are used.
_SMALLEST_PIVOT = 1e-5
# Eigenvalues of the samples' Gram matrix below this share of the largest are too close to those that are zero.
_SMALLEST_EIGENVALUE = 1e-7


class Fit(NamedTuple):
    """Coefficients ``(R, M)`` and intercepts ``(R,)``; ``(M,)`` and ``()`` for a single game."""

    coefficients: Tensor
    intercept: Tensor


def least_squares(
    design: Tensor,
    scores: Tensor,
    weights: Tensor | None = None,
    *,
    alpha: float = 0.0,
    fit_intercept: bool = True,
) -> Fit:
    r"""Fit weighted least squares or ridge regression to one or many games.

    .. math:: \min_{c,\,b} \sum_s w_s\,(y_s - b - x_s \cdot c)^2 + \alpha\,\lVert c \rVert^2

    Args:
        design: ``(S, M)`` samples × features, shared by all games, or ``(R, S, M)``, one for each of ``R`` games.
        scores: with a shared design ``(S,)`` for one game or ``(S, R)``; otherwise ``(R, S)``.
        weights: of the samples, ``(S,)`` or in the form of ``scores``, not negative; default: all 1.
        alpha: weight of the squared norm of the coefficients; 0 for least squares.
        fit_intercept: whether there is an intercept ``b``, which is never penalised; else it is 0.

    Returns:
        Coefficients ``(R, M)`` and intercepts ``(R,)``, for scores ``(S,)`` ``(M,)`` and ``()``, in the dtype of design
        and scores, at least single precision. Of several solutions the one of smallest norm.

    Raises:
        InputError: the shapes do not fit together, ``alpha`` or a weight is negative, or all weights of a game are 0.

    >>> fit = least_squares(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0]))
    >>> round(fit.coefficients.item(), 4), round(fit.intercept.item(), 4)
    (2.0, 1.0)
    """
    _check(design, scores, weights, alpha)
    dtype = torch.promote_types(torch.promote_types(design.dtype, scores.dtype), torch.float32)
    device = design.device
    # double precision, on the CPU where the accelerator has none
    place = torch.device("cpu") if device.type == "mps" else device
    x, y = design.to(place, torch.float64), scores.to(place, torch.float64)
    w = None if weights is None else weights.to(place, torch.float64)
    single, shared = y.dim() == 1, x.dim() == 2
    if shared and w is not None and w.dim() == 2:
        x, y, w, shared = x.expand(y.shape[1], *x.shape), y.T, w.T, False
    if shared:
        c, b = _solve(x, y[:, None] if single else y, w, alpha, fit_intercept)
        c = c.mT
    else:
        c, b = _solve(x, y[..., None], w, alpha, fit_intercept)
        c, b = c[..., 0], b[..., 0]
    if single:
        c, b = c[0], b[0]
    return Fit(c.to(device, dtype), b.to(device, dtype))


def _check(design: Tensor, scores: Tensor, weights: Tensor | None, alpha: float) -> None:
    shapes = f"design {tuple(design.shape)}, scores {tuple(scores.shape)}"
    shared = design.dim() == 2 and scores.dim() in (1, 2) and scores.shape[0] == design.shape[0]
    apart = design.dim() == 3 and scores.shape == design.shape[:2]
    if not (shared or apart) or 0 in scores.shape:
        message = (
            f"expected design (S, M) with scores (S,) or (S, R), or design (R, S, M) with scores (R, S); got {shapes}"
        )
        raise InputError(message)
    if alpha < 0:
        message = f"alpha must not be negative, got {alpha}"
        raise InputError(message)
    if weights is None:
        return
    samples = scores.shape[0] if shared else scores.shape[1]
    if weights.shape not in ((samples,), scores.shape):
        message = f"weights must be ({samples},) or {tuple(scores.shape)} for {shapes}; got {tuple(weights.shape)}"
        raise InputError(message)
    if bool((weights < 0).any()) or not bool((weights.sum(0 if shared else -1) > 0).all()):
        message = "weights must not be negative, and those of a game not all 0"
        raise InputError(message)


def _solve(x: Tensor, y: Tensor, w: Tensor | None, alpha: float, fit_intercept: bool) -> tuple[Tensor, Tensor]:
    """Fit designs ``(*, S, M)`` to scores ``(*, S, K)`` with weights ``(*, S)``: ``(*, M, K)`` and ``(*, K)``."""
    share = None if w is None else w[..., None]
    x_mean, y_mean = x.new_zeros(1, x.shape[-1]), y.new_zeros(1, y.shape[-1])
    if fit_intercept:
        x_mean, y_mean = _mean(x, share), _mean(y, share)
        x, y = x - x_mean, y - y_mean
    if share is not None:
        root = share.sqrt()
        x, y = x.mul_(root) if fit_intercept else x * root, y * root
    c = _penalised(x, y, alpha)
    return c, (y_mean - x_mean @ c)[..., 0, :]


def _mean(values: Tensor, share: Tensor | None) -> Tensor:
    if share is None:
        return values.mean(-2, keepdim=True)
    return (values * share).sum(-2, keepdim=True) / share.sum(-2, keepdim=True)


def _penalised(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Minimise ``|y - x c|² + alpha |c|²`` for each design of a batch."""
    if x.shape[-1] == 0:
        return x.new_zeros(*x.shape[:-2], 0, y.shape[-1])
    wide = x.shape[-2] < x.shape[-1]
    if wide and alpha == 0:
        return _of_smallest_norm(x, y)
    gram = x @ x.mT if wide else x.mT @ x
    gram.diagonal(dim1=-2, dim2=-1).add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=-2, dim2=-1).abs()
    bad = (failed != 0) | ~(pivots.amin(-1) > _SMALLEST_PIVOT * pivots.amax(-1))
    if not bool(bad.any()):
        return x.mT @ torch.cholesky_solve(y, factor) if wide else torch.cholesky_solve(x.mT @ y, factor)
    if wide or bool(bad.all()):
        return _by_singular_values(x, y, alpha)
    c = torch.empty(*x.shape[:-2], x.shape[-1], y.shape[-1], dtype=x.dtype, device=x.device)
    c[~bad] = torch.cholesky_solve(x[~bad].mT @ y[~bad], factor[~bad])
    c[bad] = _by_singular_values(x[bad], y[bad], alpha)
    return c


def _of_smallest_norm(x: Tensor, y: Tensor) -> Tensor:
    """The least-squares solution of smallest norm for fewer samples than features, through the samples' Gram matrix."""
    if not bool(x.isfinite().all()):
        return _by_singular_values(x, y, 0.0)
    values, vectors = torch.linalg.eigh(x @ x.mT)
    largest = values[..., -1:]
    zero = values <= 8 * torch.finfo(x.dtype).eps * max(x.shape[-2:]) * largest
    # what squares to zero need not be zero
    hidden = torch.where(zero, torch.linalg.vector_norm(vectors.mT @ x, dim=-1), 0.0)
    doubtful = (~zero & (values < _SMALLEST_EIGENVALUE * largest)) | (hidden > 1e-11 * largest.clamp(min=0).sqrt())
    if bool(doubtful.any()):
        return _by_singular_values(x, y, 0.0)
    scale = torch.where(zero, 0.0, 1 / values.where(~zero, torch.ones_like(values)))
    return x.mT @ (vectors @ (scale[..., None] * (vectors.mT @ y)))


def _by_singular_values(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    kept = values > values[..., :1] * torch.finfo(x.dtype).eps * max(x.shape[-2:])
    scale = torch.where(kept, values / (values * values + alpha).where(kept, torch.ones_like(values)), 0.0)
    return right.mT @ (scale[..., None] * (left.mT @ y))


def closed_form_train(
    model: LinearModel,
    dataloader: Iterable[Sequence[Tensor]],
    construct_kwargs: Mapping[str, object],
) -> dict[str, int | float | Tensor]:
    """Fit ``model`` to all rows by :func:`least_squares`.

    Args:
        model: gets the coefficients.
        dataloader: batches of ``(inputs, targets)`` or ``(inputs, targets, weights)``.
        construct_kwargs: ``alpha`` and ``fit_intercept`` of :func:`least_squares`.

    Returns:
        ``train_time`` in seconds.
    """
    rows = rows_of(dataloader)
    started = time.perf_counter()
    alpha, intercept = construct_kwargs.get("alpha", 0.0), construct_kwargs.get("fit_intercept", True)
    if not isinstance(alpha, (int, float)):
        message = f"alpha must be a number, got a {type(alpha).__name__}"
        raise InputError(message)
    targets = rows.targets if rows.targets.dim() == 2 else rows.targets[:, None]
    fit = least_squares(rows.inputs, targets, rows.weights, alpha=alpha, fit_intercept=bool(intercept))
    model.make_layers(weight_values=fit.coefficients, bias_value=fit.intercept)
    return {"train_time": time.perf_counter() - started}


class ClosedFormRidge(LinearModel):
    """Ridge regression in closed form by torch: a surrogate that needs no scikit-learn and stays on the device.

    Args:
        alpha: weight of the squared norm of the coefficients, as in scikit-learn's ``Ridge``.
        fit_intercept: whether there is an intercept.

    >>> model = ClosedFormRidge(alpha=1.0)
    >>> figures = model.fit([(torch.tensor([[-1.0], [1.0]]), torch.tensor([-3.0, 3.0]))])
    >>> model.representation()
    tensor([[2.]])
    """

    def __init__(self, alpha: float = 1.0, fit_intercept: bool = True) -> None:
        super().__init__(train_fn=closed_form_train, alpha=alpha, fit_intercept=fit_intercept)


class ClosedFormLinearRegression(LinearModel):
    """Least squares in closed form by torch; of several solutions the one of smallest norm.

    Args:
        fit_intercept: whether there is an intercept.
    """

    def __init__(self, fit_intercept: bool = True) -> None:
        super().__init__(train_fn=closed_form_train, fit_intercept=fit_intercept)
