"""Standard errors of LIME's coefficients."""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from captum import attr
from captum.attr.games.similarity import ExponentialKernel
from captum.attr.games.stopping import small_sample
from captum.attr.games.surrogate import fit_model
from captum.attr.games.surrogate_errors import coefficient_errors
from captum.errors import InputError
from captum.linear import ClosedFormLinearRegression, ClosedFormRidge, SkLearnLasso, SkLearnLinearRegression
from tests.subjects import drawn

X = drawn(1, 5, seed=0, dtype=torch.float64)
INNER, OUTER = drawn(5, 12, seed=1, dtype=torch.float64), drawn(12, seed=2, dtype=torch.float64)


def bent(x: Tensor) -> Tensor:
    return torch.relu(x @ INNER) @ OUTER


@functools.cache
def limit(kind: str) -> Tensor:
    """Coefficients of the surrogate on all coalitions, each as often as the others: those of endless samples."""
    coalitions = torch.tensor(list(itertools.product([0, 1], repeat=5)), dtype=torch.float64)
    kernel = ExponentialKernel()
    weights = torch.tensor([kernel(X, X * z) for z in coalitions], dtype=torch.float64)
    scores = bent(X * coalitions)
    model = ClosedFormLinearRegression() if kind == "least squares" else SkLearnLasso(alpha=0.05)
    return fit_model(model, coalitions, scores, weights).reshape(-1)


def covered(kind: str, runs: int, count: int) -> float:
    """The share of coefficients within 1.96 standard errors of the limit."""
    model = ClosedFormLinearRegression() if kind == "least squares" else SkLearnLasso(alpha=0.05)
    lime = attr.Lime(bent, model)
    inside = 0.0
    for seed in range(runs):
        values, errors = lime.attribute(X, n_samples=count, seed=seed, return_std_error=True)
        inside += float(((values - limit(kind)).abs() <= 1.96 * errors).double().mean())
    return inside / runs


@pytest.mark.parametrize("count", [12, 60])
def test_intervals_of_least_squares_cover(count: int) -> None:
    """Of 200 seeded runs at 95 %, at least 93 % of the values lie within 1.96 standard errors; and not all of them."""
    assert 0.93 <= covered("least squares", 200, count) < 1.0


@pytest.mark.parametrize("runs", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_intervals_of_a_lasso_cover(runs: int) -> None:
    """Likewise, by the bootstrap."""
    assert 0.93 <= covered("lasso", runs, 60) < 1.0


def test_the_sandwich() -> None:
    """Left-out residuals found by fits without each sample, in plain loops."""
    z = (torch.rand((20, 5), generator=torch.Generator().manual_seed(0)) < 0.5).double()
    weights, scores = drawn(20, seed=5, dtype=torch.float64).exp(), bent(X * z)
    for alpha in (0.0, 2.0):
        model = ClosedFormRidge(alpha=alpha)
        found = coefficient_errors(model, z, scores, weights, None)
        design = torch.cat([z, torch.ones(20, 1, dtype=torch.float64)], 1)
        penalty = alpha * torch.diag(torch.tensor([1.0] * 5 + [0.0], dtype=torch.float64))
        bread = torch.linalg.inv(design.T @ (weights[:, None] * design) + penalty)
        moves, taken = [], 0.0
        for k in range(20):
            rest = [i for i in range(20) if i != k]
            kept = torch.linalg.inv(design[rest].T @ (weights[rest, None] * design[rest]) + penalty)
            fit = kept @ design[rest].T @ (weights[rest] * scores[rest])
            moves.append(bread @ design[k] * weights[k] * (scores[k] - design[k] @ fit))
            taken += float(weights[k] * design[k] @ bread @ design[k])
        spread = torch.stack(moves)
        spread = spread - spread.mean(0) if alpha else spread
        # Student's quantile at what the fit leaves free
        quantile = small_sample(20 - round(taken) + 1)
        torch.testing.assert_close(found, spread.square().sum(0).sqrt()[:5] * quantile)


def test_each_row_has_its_own() -> None:
    rows = torch.cat([X, X + 1, X - 0.5])
    lime = attr.Lime(bent, ClosedFormLinearRegression())
    values, errors = lime.attribute(rows, n_samples=30, seed=3, return_std_error=True)
    torch.testing.assert_close(values, lime.attribute(rows, n_samples=30, seed=3))
    for row in range(3):
        alone = lime.attribute(rows[row : row + 1], n_samples=30, seed=3, return_std_error=True)
        torch.testing.assert_close((values[row : row + 1], errors[row : row + 1]), alone)
    matrix = lime.attribute(rows, n_samples=30, seed=3, return_input_shape=False, return_std_error=True)
    torch.testing.assert_close(matrix[1], errors)
    exact = attr.Lime(lambda x: x.sum(1), ClosedFormLinearRegression())
    assert float(exact.attribute(rows, n_samples=30, seed=3, return_std_error=True)[1].max()) < 1e-9


def test_too_few_samples_tell_nothing() -> None:
    for model in (ClosedFormLinearRegression(), SkLearnLinearRegression()):
        errors = attr.Lime(bent, model).attribute(X, n_samples=6, seed=0, return_std_error=True)[1]
        assert bool(errors.isinf().all())
    assert bool(attr.Lime(bent).attribute(X, n_samples=6, seed=0, return_std_error=True)[1].isfinite().all())


def test_the_default_model_keeps_its_fit() -> None:
    lime = attr.Lime(bent)
    torch.manual_seed(0)
    values, _ = lime.attribute(X, n_samples=30, return_std_error=True)
    torch.testing.assert_close(lime.interpretable_model.representation(), values)
    torch.manual_seed(0)
    torch.testing.assert_close(lime.attribute(X, n_samples=30), values)


def test_over_a_loader() -> None:
    def total(seen: Tensor | None, out: Tensor, batch: object) -> Tensor:
        del batch
        return out.sum() + (0 if seen is None else seen)

    over = attr.DataLoaderAttribution(attr.Lime(bent, ClosedFormLinearRegression()))
    found = over.attribute([X], reduce=total, n_samples=30, seed=1, return_std_error=True)
    alone = attr.Lime(bent, ClosedFormLinearRegression()).attribute(X, n_samples=30, seed=1, return_std_error=True)
    torch.testing.assert_close((found[0][0], found[1][0]), alone)


def test_what_cannot_be_told() -> None:
    lime = attr.Lime(bent, similarity_func=lambda *a, **k: 1.0)
    with pytest.raises(InputError, match="return_std_error"):
        lime.attribute(X, return_std_error=True)

    class Pair(ClosedFormLinearRegression):
        def representation(self):
            return super().representation(), super().representation()

    with pytest.raises(InputError, match="tuple"):
        attr.Lime(bent, Pair()).attribute(X, seed=0, return_std_error=True)


def test_a_complex_input_is_weighed_whole() -> None:
    """As its real and imaginary parts side by side are."""
    real, imaginary = drawn(2, 3, seed=8, dtype=torch.float64), drawn(2, 3, seed=9, dtype=torch.float64)

    def score(a: Tensor, b: Tensor) -> Tensor:
        return (a * b + a.square()).sum(1) * b[:, 0]

    mask = (torch.tensor([[0, 1, 2]]),) * 2
    parts = attr.Lime(score, ClosedFormLinearRegression())
    expected = parts.attribute((real, imaginary), feature_mask=mask, n_samples=40, seed=0)[0]
    whole = attr.Lime(lambda z: score(z.real, z.imag), ClosedFormLinearRegression())
    inputs = torch.complex(real, imaginary)
    torch.testing.assert_close(whole.attribute(inputs, n_samples=40, seed=0), expected)
    kernel = ExponentialKernel("euclidean")
    near = kernel(inputs, inputs * 0.5)
    assert near == pytest.approx(kernel((real, imaginary), (real * 0.5, imaginary * 0.5)))


def test_threads_may_share_a_method() -> None:
    """The interpretable model is fitted and read by one call at a time."""
    lime = attr.Lime(bent, ClosedFormLinearRegression())

    def call(seed: int) -> Tensor:
        return lime.attribute(X + seed, n_samples=40, seed=seed)

    expected = [call(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(24)))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
