"""Models whose rows influence each other: each coalition goes alone, without being told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.attr.games.adapters import numpy_function
from captum.errors import OutputError
from tests.subjects import drawn

WEIGHTS = torch.arange(1.0, 7.0, dtype=torch.float64)
X = drawn(3, 6, seed=3, dtype=torch.float64) + 2


def standardised(x: Tensor) -> Tensor:
    return ((x - x.mean()) / x.std()) @ WEIGHTS


def scaled(x: Tensor) -> Tensor:
    return (x / x.max()) @ WEIGHTS


def compared(x: Tensor) -> Tensor:
    return torch.softmax(x @ WEIGHTS / 10, 0)


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "std": standardised,
    "max": scaled,
    "softmax": compared,
    "distance to the smallest": lambda x: (x - x.min()) @ WEIGHTS,
    "largest magnitude": lambda x: (x / x.abs().max()).tanh() @ WEIGHTS,
    "neighbours": lambda x: (x + x.roll(1, 0)) @ WEIGHTS,
    "largest so far": lambda x: x.cummax(0)[0] @ WEIGHTS,
    "smallest so far": lambda x: x.cummin(0)[0] @ WEIGHTS,
    "largest from here": lambda x: x.flip(0).cummax(0)[0].flip(0) @ WEIGHTS,
    "sum so far": lambda x: x.cumsum(0) @ WEIGHTS,
    "product so far": lambda x: x.tanh().cumprod(0) @ WEIGHTS,
    "rank": lambda x: (x + x.argsort(0).argsort(0)) @ WEIGHTS,
    "winners": lambda x: (x * (x == x.amax(0))) @ WEIGHTS,
    "the largest row": lambda x: (x + (torch.arange(len(x))[:, None] == x.argmax(0))) @ WEIGHTS,
    "the last row": lambda x: torch.cat([x[:-1], 2 * x[-1:]]) @ WEIGHTS,
    "the first row": lambda x: torch.cat([2 * x[:1], x[1:]]) @ WEIGHTS,
    "a single row": lambda x: x @ WEIGHTS * (len(x) > 1),
    "places for half of the rows": lambda x: x @ WEIGHTS * ((x[:, 0] > 0).cumsum(0) <= max(1, len(x) // 2)),
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MIXING)
def test_rows_that_mix_are_scored_as_the_caller_passes_them(name: str, rows: int) -> None:
    model, x = MIXING[name], X[:rows]
    if name == "softmax" and rows == 1:
        return  # constant
    gone = [torch.where(torch.arange(6) == i, 0.0, x) for i in range(6)]
    want = torch.stack([model(x) - model(z) for z in gone], 1)
    torch.testing.assert_close(attr.FeatureAblation(model).attribute(x), want)
    for method in (attr.ShapleyValues(model), attr.ShapleyValueSampling(model), attr.KernelShap(model)):
        found = method.attribute(x, baselines=X[:1] / 2 + 0.1)
        change = model(x) - model((X[:1] / 2 + 0.1).expand_as(x))
        torch.testing.assert_close(found.sum(1), change)


@pytest.mark.parametrize("name", MIXING)
def test_ablation_of_many_nets_whose_rows_mix(name: str) -> None:
    for seed in range(12):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)).double()
        model = lambda x, net=net: MIXING[name](net(x))  # noqa: E731
        x = torch.randn(2, 6, dtype=torch.float64)
        with torch.no_grad():
            want = torch.stack([model(x) - model(torch.where(torch.arange(6) == i, 0.0, x)) for i in range(6)], 1)
        torch.testing.assert_close(attr.FeatureAblation(model).attribute(x), want)


def refuses_negative(x: Tensor) -> Tensor:
    if bool((x < 0).any()):
        message = "values are counts"
        raise ValueError(message)
    return standardised(x)


def test_models_that_refuse_far_values_are_looked_at_too() -> None:
    x = X.abs()
    want = torch.stack([standardised(x) - standardised(torch.where(torch.arange(6) == i, 0.0, x)) for i in range(6)], 1)
    torch.testing.assert_close(attr.FeatureAblation(refuses_negative).attribute(x), want)


def test_numpy_does_not_warn_of_far_values() -> None:
    model = numpy_function(lambda a: np.log(a + 1).sum(1))
    x = X.abs()
    torch.testing.assert_close(attr.FeatureAblation(model).attribute(x), (x + 1).log())


def test_few_rows_of_a_large_batch_are_looked_at() -> None:
    sizes: list[int] = []

    def model(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x @ WEIGHTS

    x = torch.randn(50, 6, dtype=torch.float64)
    attr.FeatureAblation(model).attribute(x)
    assert sizes == [50, 100, 12, 50, 200]


def test_complex_scores_are_refused() -> None:
    with pytest.raises(OutputError, match="real scores"):
        attr.FeatureAblation(lambda x: x.sum(1) + 1j).attribute(X)


def test_a_layer_whose_rows_mix() -> None:
    layer = nn.Identity()
    found = attr.LayerFeatureAblation(lambda x: standardised(layer(x)), layer).attribute(X)
    torch.testing.assert_close(found, attr.FeatureAblation(standardised).attribute(X))


class Counted:
    """A model that counts its calls."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model = model
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x)


def drop(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.5) @ WEIGHTS


def coarse(x: Tensor) -> Tensor:
    """Rounds otherwise for other numbers of rows, as kernels do."""
    scores = (x @ WEIGHTS).float()
    return scores * (1 + 1e-6 * len(x) % 3)


def half(x: Tensor) -> Tensor:
    scores = (x @ WEIGHTS).bfloat16()
    return scores * (1 + 0.008 * (len(x) > 3))


def spoiled(x: Tensor) -> Tensor:
    return torch.where(x[:, 0] == 0, torch.nan, x @ WEIGHTS)


@pytest.mark.parametrize("model", [drop, coarse, half, spoiled])
def test_chance_rounding_and_missing_numbers_are_no_mixing(model: Callable[[Tensor], Tensor]) -> None:
    counted = Counted(model)
    torch.manual_seed(0)
    attr.ShapleyValues(counted).attribute(X)
    assert counted.calls <= 7  # 64 coalitions in a chunk or two


def test_what_the_user_packs_is_packed() -> None:
    counted = Counted(standardised)
    attr.FeatureAblation(counted).attribute(X, perturbations_per_eval=4)
    assert counted.calls == 3


def test_code_that_writes_into_its_inputs_does_not_look_like_mixing() -> None:
    calls: list[int] = []

    def scaled(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.div_(255).sum(1)

    x = torch.arange(1.0, 21.0)[None]
    torch.testing.assert_close(attr.FeatureAblation(scaled).attribute(x), x / 255)
    assert max(calls) > 1
    assert len(calls) < 10
