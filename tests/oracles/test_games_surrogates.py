"""LIME and kernel SHAP, re-derived from their random draws and a plain weighted regression."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from captum import attr
from captum.attr.games.similarity import get_exp_kernel_similarity_function
from captum.linear import SkLearnLinearRegression
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(2, 3, seed=4, dtype=torch.float64)
X0 = drawn(1, 3, seed=5, dtype=torch.float64)
MASK = torch.tensor([[0, 1, 1]])


def spent(players: int) -> None:
    """What fitting a linear model takes from torch's global stream."""
    torch.empty((), dtype=torch.int64).random_()
    torch.nn.Linear(players, 1)


def weighted(design: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Coefficients of weighted least squares with an intercept, by NumPy."""
    root = weights.sqrt()[:, None]
    columns = torch.cat([design, torch.ones(len(design), 1, dtype=torch.float64)], 1)
    return torch.from_numpy(np.linalg.lstsq((columns * root).numpy(), (scores * root[:, 0]).numpy(), rcond=None)[0])[
        :-1
    ]


@pytest.mark.parametrize("mode", ["cosine", "euclidean"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["elements", "groups"])
def test_lime(mask: Tensor | None, mode: str) -> None:
    ids = torch.arange(3) if mask is None else mask[0]
    players, width = int(ids.max()) + 1, 0.8
    similarity = get_exp_kernel_similarity_function(mode, width)
    torch.manual_seed(2)
    found = attr.Lime(NET, similarity_func=similarity).attribute(X, X0, 1, feature_mask=mask, n_samples=40)
    torch.manual_seed(2)
    for row in range(2):
        kept = torch.cat([torch.bernoulli(0.5 * torch.ones(1, players)) for _ in range(40)]).bool()
        spent(players)
        x = X[row]
        perturbed = torch.stack([torch.where(z[ids], x, X0[0]) for z in kept])
        cosine = 1 - torch.cosine_similarity(perturbed, x[None])
        distance = cosine if mode == "cosine" else (perturbed - x).norm(dim=1)
        weights = torch.exp(-(distance**2) / (2 * width**2))
        scores = NET(perturbed)[:, 1].detach()
        fit = Lasso(alpha=0.01).fit(kept.double().numpy(), scores.numpy(), sample_weight=weights.numpy())
        want = torch.from_numpy(fit.coef_)[ids]
        torch.testing.assert_close(found[row], want, rtol=1e-4, atol=1e-5)


def test_lime_with_another_model_and_the_users_functions() -> None:
    """The users' own functions get what they got before, and give the numbers of the batched way."""
    calls: list[tuple[tuple[int, ...], ...]] = []

    def similarity(original: Tensor, perturbed: Tensor, sample: Tensor, **kwargs: object) -> float:
        calls.append((tuple(original.shape), tuple(perturbed.shape), tuple(sample.shape)))
        assert sorted(kwargs) == ["baselines", "feature_mask", "num_interp_features"]
        return 1.0 + float(sample.sum())

    torch.manual_seed(1)
    found = attr.Lime(NET, SkLearnLinearRegression(), similarity).attribute(X, X0, [1, 0], n_samples=30)
    assert set(calls) == {((1, 3), (1, 3), (1, 3))}
    assert len(calls) == 60
    torch.manual_seed(1)
    for row, target in enumerate((1, 0)):
        kept = torch.cat([torch.bernoulli(0.5 * torch.ones(1, 3)) for _ in range(30)])
        spent(3)
        scores = NET(torch.where(kept.bool(), X[row], X0[0]))[:, target].detach()
        torch.testing.assert_close(found[row], weighted(kept.double(), scores, 1 + kept.sum(1).double()))


def test_lime_shares_coalitions_between_rows_when_seeded() -> None:
    whole = attr.Lime(NET).attribute(X, X0, 1, seed=5)
    rows = torch.cat([attr.Lime(NET).attribute(X[i : i + 1], X0, 1, seed=5) for i in range(2)])
    torch.testing.assert_close(whole, rows)


def test_kernel_shap_in_the_published_stream() -> None:
    players, count = 3, 20
    odds = torch.tensor([0.0, *((players - 1) / (k * (players - k)) for k in range(1, players))])
    torch.manual_seed(9)
    found = attr.KernelShap(NET).attribute(X, X0, 1, n_samples=count, sampling="upstream")
    torch.manual_seed(9)
    for row in range(2):
        kept = [torch.ones(players), torch.zeros(players)]
        for _ in range(count - 2):
            size = int(torch.distributions.Categorical(odds).sample())
            order = torch.randn(1, players)[0].argsort(descending=True)
            kept.append(torch.zeros(players).index_fill(0, order[:size], 1.0))
        spent(players)
        design = torch.stack(kept).double()
        weights = torch.ones(count, dtype=torch.float64).index_fill(0, torch.tensor([0, 1]), 1e6)
        scores = NET(torch.where(design.bool(), X[row], X0[0]))[:, 1].detach()
        torch.testing.assert_close(found[row], weighted(design, scores, weights), rtol=1e-6, atol=1e-8)


def test_kernel_shap_with_all_coalitions_is_the_textbook_regression() -> None:
    x = drawn(1, 6, seed=3, dtype=torch.float64)

    def score(v: Tensor) -> Tensor:
        return torch.tanh(v[:, 0] * v[:, 1] + v[:, 2:4].sum(1)) + v[:, 4] * v[:, 5] * v[:, 0]

    z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    size = z.sum(1)
    weights = torch.tensor([1e9 if s in (0, 6) else 5 / (math.comb(6, int(s)) * s * (6 - s)) for s in size.tolist()])
    want = weighted(z, score(z * x), weights.double())
    found = attr.KernelShap(score).attribute(x, n_samples=64)
    torch.testing.assert_close(found[0], want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, attr.ShapleyValues(score).attribute(x))


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_one_number_for_the_batch_is_one_model(method: str) -> None:
    def total(x: Tensor) -> Tensor:
        return NET(x)[:, 0].sum()

    if method == "kernel_shap":
        found = attr.KernelShap(total).attribute(X, X0)
        want = attr.KernelShap(NET).attribute(X, X0, 0).sum(0, keepdim=True)
    else:
        torch.manual_seed(4)
        found = attr.Lime(total, SkLearnLinearRegression()).attribute(X, X0, n_samples=30)
        torch.manual_seed(4)
        kept = torch.cat([torch.bernoulli(0.5 * torch.ones(1, 3)) for _ in range(30)])
        changed = [torch.where(z.bool(), X, X0) for z in kept]
        distance = torch.stack([1 - torch.cosine_similarity(c.reshape(1, -1), X.reshape(1, -1))[0] for c in changed])
        scores = torch.stack([total(c) for c in changed]).detach()
        want = weighted(kept.double(), scores, torch.exp(-(distance**2) / 2))[None]
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-8)
