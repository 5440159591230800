"""Standard errors of a surrogate's coefficients: how far they would move with other samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum.attr.games.stopping import small_sample
from captum.attr.games.surrogate import fit_model
from captum.errors import InputError
from captum.linear import ClosedFormLinearRegression, ClosedFormRidge, SkLearnLinearRegression, SkLearnRidge

#: Fits to samples that are drawn anew from the samples, for models whose errors have no formula.
REFITS = 100
#: Pivots below this share of the largest tell of features that samples do not tell apart.
SMALLEST_PIVOT = 1e-6
#: Options of least squares that leave it least squares.
HARMLESS = {"alpha", "fit_intercept", "copy_X", "n_jobs", "tol", "solver"}
#: Models in closed form, with the weight of the squared norm of their coefficients.
PENALTIES: dict[type, float] = {
    ClosedFormLinearRegression: 0.0, SkLearnLinearRegression: 0.0, ClosedFormRidge: 1.0, SkLearnRidge: 1.0,
}  # fmt: skip


def coefficient_errors(
    model: Any, samples: Tensor, scores: Tensor, weights: Tensor, source: torch.Generator | None
) -> Tensor:
    """Standard errors ``(M,)`` of the coefficients of a model fitted to samples, ±1.96 of them a 95 % interval.

    For least squares and ridge regression the sandwich estimator with the residual of each sample left out
    (J. MacKinnon, H. White, 1985), infinite when samples are too few to tell; for other models, such as a lasso, the
    bootstrap (B. Efron, 1979). What is estimated are the coefficients that the model would have with very many samples.

    Args:
        model: the interpretable model; the bootstrap fits it again and again.
        samples: ``(K, M)``.
        scores: ``(K,)``.
        weights: ``(K,)``.
        source: where the bootstrap draws from; None for torch's global stream.
    """
    known = _least_squares(model)
    if known is not None:
        return _sandwich(samples.double(), scores.double(), weights.double(), *known)
    return _bootstrap(model, (samples, scores, weights), source)


def _least_squares(model: Any) -> tuple[float, bool] | None:
    """The penalty of least squares or ridge regression, and whether there is an intercept; None for other models."""
    penalty = PENALTIES.get(type(model))
    options: dict[str, object] = {} if penalty is None else model.construct_kwargs
    alpha = options.get("alpha", penalty)
    if not isinstance(alpha, (int, float)) or not set(options) <= HARMLESS:
        return None
    return float(alpha), bool(options.get("fit_intercept", True))


def _sandwich(x: Tensor, y: Tensor, w: Tensor, alpha: float, intercept: bool) -> Tensor:
    count, players = x.shape
    unknown = torch.full((players,), torch.inf, dtype=torch.float64)
    if not players or (alpha == 0 and count - players - intercept < 1):
        return unknown
    share = w / w.sum() if intercept else torch.zeros_like(w)
    x, y = x - share @ x, y - share @ y
    scaled = w[:, None] * x
    gram = x.T @ scaled
    gram.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal()
    if int(failed) or not bool(pivots.min() > SMALLEST_PIVOT * pivots.max()):
        return unknown
    influence = torch.cholesky_solve(scaled.T, factor)
    leverage = torch.einsum("km,mk->k", x, influence) + share
    left_out = (y - x @ (influence @ y)) / (1 - leverage).clamp(min=1e-6)
    moves = influence * left_out
    if alpha:
        moves -= moves.mean(1, keepdim=True)
    free = count - round(float(leverage.sum()))
    return moves.square().sum(1).sqrt() * small_sample(free + 1) if free > 0 else unknown


def _bootstrap(model: Any, parts: tuple[Tensor, Tensor, Tensor], source: torch.Generator | None) -> Tensor:
    count = len(parts[1])
    picks = torch.randint(count, (REFITS, count), generator=source, device="cpu")
    found: list[Tensor] = []
    for pick in picks:
        fitted = fit_model(model, *(part[pick] for part in parts))
        if isinstance(fitted, tuple):
            message = "Standard errors need an interpretable model whose representation is one tensor, got a tuple."
            raise InputError(message)
        found.append(torch.as_tensor(fitted, device="cpu").detach().double().reshape(-1))
    if count < 2:
        return torch.full_like(found[0], torch.inf)
    return torch.stack(found).std(0) * small_sample(count) * (count / (count - 1)) ** 0.5
