"""Closed-form fits against numpy's least squares and scikit-learn, and by their normal equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from captum.errors import InputError
from captum.linear import ClosedFormLinearRegression, ClosedFormRidge, least_squares


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def oracle(x: Tensor, y: Tensor, w: Tensor | None, alpha: float, intercept: bool) -> tuple[np.ndarray, float]:
    """Smallest-norm solution of the augmented system, the intercept as a huge-scaled unpenalised column."""
    root = np.ones(len(y)) if w is None else np.sqrt(w.numpy())
    design, scores = x.numpy(), y.numpy()
    x_mean, y_mean = np.zeros(design.shape[1]), 0.0
    if intercept:
        x_mean = np.average(design, axis=0, weights=root**2)
        y_mean = np.average(scores, weights=root**2)
    rows = np.vstack([(design - x_mean) * root[:, None], np.sqrt(alpha) * np.eye(design.shape[1])])
    right = np.concatenate([(scores - y_mean) * root, np.zeros(design.shape[1])])
    c = np.linalg.lstsq(rows, right, rcond=1e-12)[0]
    return c, y_mean - x_mean @ c


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 2.0])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("samples", "features"), [(40, 5), (5, 5), (3, 6), (2, 1), (1, 2)])
def test_one_game_equals_numpy(alpha: float, intercept: bool, weighted: bool, samples: int, features: int) -> None:
    x, y = rand(samples, features), rand(samples, seed=1)
    w = rand(samples, seed=2).abs() if weighted else None
    fit = least_squares(x, y, w, alpha=alpha, fit_intercept=intercept)
    c, b = oracle(x, y, w, alpha, intercept)
    np.testing.assert_allclose(fit.coefficients.numpy(), c, atol=1e-8)
    np.testing.assert_allclose(fit.intercept.item(), b, atol=1e-8)
    assert fit.coefficients.shape == (features,)
    assert fit.intercept.shape == ()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("weights", ["none", "shared", "own"])
@pytest.mark.parametrize("design", ["shared", "own"])
def test_many_games_are_many_single_games(alpha: float, weights: str, design: str) -> None:
    games, samples, features = 4, 20, 3
    x = rand(samples, features) if design == "shared" else rand(games, samples, features)
    y = rand(samples, games, seed=1)
    w = {"none": None, "shared": rand(samples, seed=2).abs(), "own": rand(samples, games, seed=2).abs()}[weights]
    shared = design == "shared"
    own = w is not None and w.dim() == 2
    fit = least_squares(x, y if shared else y.T, w.T if own and not shared else w, alpha=alpha)
    assert fit.coefficients.shape == (games, features)
    for game in range(games):
        single = least_squares(
            x if design == "shared" else x[game], y[:, game], w[:, game] if weights == "own" else w, alpha=alpha
        )
        torch.testing.assert_close(fit.coefficients[game], single.coefficients, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(fit.intercept[game], single.intercept, rtol=1e-10, atol=1e-12)


def test_one_bad_game_does_not_spoil_the_others() -> None:
    x, y = rand(3, 12, 4), rand(3, 12, seed=1)
    x[1, :, 3] = x[1, :, 2]  # two features that cannot be told apart share their weight
    fit = least_squares(x, y)
    assert fit.coefficients[1, 2].item() == pytest.approx(fit.coefficients[1, 3].item(), abs=1e-10)
    for game in range(3):
        np.testing.assert_allclose(
            fit.coefficients[game].numpy(), oracle(x[game], y[game], None, 0, True)[0], atol=1e-9
        )


@pytest.mark.parametrize("power", [2, 4, 6])
def test_ill_conditioned_designs(power: int) -> None:
    grid = torch.linspace(0, 1, 200, dtype=torch.float64)
    x = torch.stack([grid**k for k in range(1, power + 4)], 1) * 10.0 ** -torch.arange(power + 3)
    truth = rand(power + 3) * 10.0 ** torch.arange(power + 3)
    fit = least_squares(x, x @ truth + 3)
    torch.testing.assert_close(x @ fit.coefficients + fit.intercept, x @ truth + 3, rtol=1e-9, atol=1e-9)


def test_dead_and_constant_features_get_nothing() -> None:
    x = torch.stack([torch.zeros(6), torch.ones(6), torch.arange(6.0)], 1)
    fit = least_squares(x, 2 * torch.arange(6.0) + 5)
    torch.testing.assert_close(fit.coefficients, torch.tensor([0.0, 0.0, 2.0]))
    assert fit.intercept.item() == pytest.approx(5)


def test_no_features_give_the_mean() -> None:
    fit = least_squares(torch.zeros(3, 0), torch.tensor([1.0, 2.0, 6.0]))
    assert fit.coefficients.shape == (0,)
    assert fit.intercept.item() == pytest.approx(3.0)


def test_a_sample_of_weight_two_counts_twice() -> None:
    x, y = rand(6, 2), rand(6, seed=1)
    twice = least_squares(torch.cat([x, x[:1]]), torch.cat([y, y[:1]]), alpha=0.7)
    weighted = least_squares(x, y, torch.tensor([2, 1, 1, 1, 1, 1]), alpha=0.7)
    torch.testing.assert_close(twice.coefficients, weighted.coefficients)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.bool, torch.float32),
        (torch.int64, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(dtype: torch.dtype, result: torch.dtype) -> None:
    x = (rand(30, 3) > 0).to(dtype)
    y = x.float() @ torch.tensor([1.0, -2.0, 4.0]) + 0.5
    fit = least_squares(x, y)
    assert fit.coefficients.dtype == fit.intercept.dtype == result
    torch.testing.assert_close(fit.coefficients, torch.tensor([1.0, -2.0, 4.0], dtype=result), rtol=1e-6, atol=1e-6)


def test_gradients_flow_to_the_scores() -> None:
    x, y = rand(7, 2), rand(7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: tuple(least_squares(x, scores, alpha=0.1)), y)


def test_nothing_is_changed_in_place() -> None:
    x, y, w = rand(9, 2), rand(9, seed=1), rand(9, seed=2).abs()
    copies = [tensor.clone() for tensor in (x, y, w)]
    least_squares(x, y, w, alpha=1.0)
    assert all(torch.equal(*pair) for pair in zip((x, y, w), copies, strict=True))


@pytest.mark.parametrize(
    ("design", "scores", "weights", "alpha", "text"),
    [
        ((4, 2), (5,), None, 0.0, r"design \(4, 2\), scores \(5,\)"),
        ((3, 4, 2), (4, 3), None, 0.0, "expected design"),
        ((4,), (4,), None, 0.0, "expected design"),
        ((0, 2), (0,), None, 0.0, "expected design"),
        ((4, 2), (4, 3), torch.ones(3), 0.0, r"weights must be \(4,\) or \(4, 3\)"),
        ((4, 2), (4,), torch.tensor([1.0, 1, 1, -1]), 0.0, "not be negative"),
        ((2, 4, 2), (2, 4), torch.tensor([[0.0] * 4, [1.0] * 4]), 0.0, "not all 0"),
        ((4, 2), (4,), None, -1.0, "alpha must not be negative"),
    ],
)
def test_what_does_not_fit_together(design, scores, weights, alpha: float, text: str) -> None:
    with pytest.raises(InputError, match=text):
        least_squares(torch.ones(design), torch.ones(scores), weights, alpha=alpha)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_models_equal_scikit_learn(weighted: bool, outputs: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = rand(30, 4), rand(30, outputs, seed=1)
    w = rand(30, seed=2).abs()
    data = [(x[i : i + 7], y[i : i + 7], *([w[i : i + 7]] if weighted else [])) for i in range(0, 30, 7)]
    for model, reference in [
        (ClosedFormRidge(alpha=0.3), linear_model.Ridge(alpha=0.3)),
        (ClosedFormRidge(alpha=0.3, fit_intercept=False), linear_model.Ridge(alpha=0.3, fit_intercept=False)),
        (ClosedFormLinearRegression(), linear_model.LinearRegression()),
    ]:
        assert model.fit(data)["train_time"] >= 0
        reference.fit(x.numpy(), y.numpy(), sample_weight=w.numpy() if weighted else None)
        np.testing.assert_allclose(model.representation().numpy(), np.atleast_2d(reference.coef_), atol=1e-9)
        np.testing.assert_allclose(
            model(x).detach().numpy(), reference.predict(x.numpy()).reshape(30, outputs), atol=1e-9
        )


def test_more_features_than_samples() -> None:
    """Solved through the samples: as by numpy, also with equal, nearly equal and absent samples."""
    for seed in range(20):
        x, y = (rand(6, 15, seed=seed) > 0).double(), rand(6, seed=seed + 50)
        if seed % 2:
            x[5] = x[0]
        if seed % 5 == 0:
            x[4] = 0
        if seed % 4 == 0:
            x[5] = x[1] + 1e-7 * rand(15, seed=seed + 90)
        for alpha in (0.0, 0.5):
            fit = least_squares(x, y, alpha=alpha)
            c, b = oracle(x, y, None, alpha, True)
            np.testing.assert_allclose(fit.coefficients.numpy(), c, rtol=1e-5, atol=1e-7 * (1 + abs(c).max()))
            np.testing.assert_allclose(fit.intercept.numpy(), b, rtol=1e-5, atol=1e-6 * (1 + abs(c).max()))
