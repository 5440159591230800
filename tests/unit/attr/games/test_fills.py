"""What stands in for absent features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum import attr
from captum.attr.games.fills import Background, Blur, Function, Mean, Permuted
from captum.errors import BaselineError
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(2, 3, seed=4, dtype=torch.float64)


@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "KernelShap", "ShapleyValueSampling"])
def test_background_is_the_mean_over_its_rows(method: str) -> None:
    rows = drawn(5, 3, seed=9, dtype=torch.float64)
    kind = getattr(attr, method)
    options = {"seed": 1} if method == "ShapleyValueSampling" else {}
    found = kind(NET).attribute(X, Background(rows), 1, **options)
    want = torch.stack([kind(NET).attribute(X, row[None], 1, **options) for row in rows]).mean(0)
    torch.testing.assert_close(found, want)
    packed = kind(NET).attribute(X, Background(rows), 1, perturbations_per_eval=3, **options)
    torch.testing.assert_close(packed, want)


def test_mean_and_blur_are_baselines_made_of_the_input() -> None:
    x = drawn(2, 3, 8, 6, seed=1)

    def score(x: Tensor) -> Tensor:
        return (x * x).sum((1, 2, 3))

    mask = torch.arange(48).reshape(1, 1, 8, 6) // 12
    found = attr.FeatureAblation(score).attribute(x, Mean(), feature_mask=mask)
    torch.testing.assert_close(
        found, attr.FeatureAblation(score).attribute(x, x.mean((2, 3), keepdim=True).expand_as(x), feature_mask=mask)
    )
    flat = torch.full((1, 2, 9, 9), 3.0)
    still = attr.FeatureAblation(score).attribute(flat, Blur(2.0), feature_mask=torch.arange(81).reshape(1, 1, 9, 9))
    torch.testing.assert_close(still, torch.zeros_like(flat), atol=1e-3, rtol=0)
    step = torch.zeros(1, 1, 1, 41)
    step[..., 20:] = 1
    ready = Blur(3.0)._blurred(step)[0, 0, 0]
    normal = torch.distributions.Normal(0.0, 3.0).cdf(torch.arange(41) - 19.5)
    torch.testing.assert_close(ready[5:36], normal[5:36], atol=3e-3, rtol=0)


def test_a_function_fills_what_is_not_kept() -> None:
    def fill(x: Tensor, keep: Tensor) -> Tensor:
        assert x.shape == keep.shape
        mean = torch.where(keep, x, 0).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
        return torch.where(keep, x, mean)

    found = attr.FeatureAblation(NET).attribute(X, Function(fill), 1)
    want = torch.zeros(2, 3, dtype=torch.float64)
    for place in range(3):
        changed = X.clone()
        changed[:, place] = X[:, [i for i in range(3) if i != place]].mean(1)
        want[:, place] = (NET(X) - NET(changed))[:, 1].detach()
    torch.testing.assert_close(found, want)
    with pytest.raises(BaselineError, match="fill function"):
        attr.FeatureAblation(NET).attribute(X, Function(lambda x, keep: x[:, :1]), 1)


def test_permuted_takes_values_of_other_rows() -> None:
    x = torch.arange(6.0).reshape(3, 2)
    found = attr.FeatureAblation(lambda x: x.sum(1)).attribute(x, Permuted(torch.Generator().manual_seed(0)))
    moved = x - found
    assert moved.sort(0).values.tolist() == x.tolist()
    assert moved.tolist() != x.tolist()


def test_fills_that_do_not_fit() -> None:
    for wrong in (
        Background(torch.ones(4, 2)),
        Background(torch.ones(0, 3)),
        Background((torch.ones(4, 3),) * 2),
        Blur(),
    ):
        with pytest.raises(BaselineError):
            attr.FeatureAblation(NET).attribute(X, wrong, 0)
    with pytest.raises(BaselineError, match="sigma"):
        Blur(0.0)
    with pytest.raises(BaselineError, match="2 rows"):
        attr.FeatureAblation(NET).attribute(X[:1], Permuted(), 0)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_rows_apart_get_the_same_numbers(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that split the rows of a coalition, for shared and for own masks, fixed and drawn fills."""
    monkeypatch.setattr("captum._engine.sweep.BUSY_ELEMENTS", 3 * rows)
    monkeypatch.setattr("captum._engine.sweep.SHORT", 0.0)
    x = drawn(5, 3, seed=2, dtype=torch.float64)
    base = drawn(5, 3, seed=3, dtype=torch.float64)
    mask = torch.tensor([[0, 1, 1], [1, 0, 0], [2, 1, 0], [0, 0, 0], [1, 1, 2]])
    seen = []

    def net(x: Tensor) -> Tensor:
        seen.append(len(x))
        return NET(x)

    for options in ({}, {"feature_mask": mask}, {"baselines": Background(base[:2])}):
        call = {"baselines": base, **options, "target": [0, 1, 0, 1, 1]}
        apart = attr.ShapleyValues(net).attribute(x, **call)
        whole = attr.ShapleyValues(NET).attribute(x, **call, perturbations_per_eval=64)
        torch.testing.assert_close(apart, whole)
    assert rows >= 5 or rows in seen
