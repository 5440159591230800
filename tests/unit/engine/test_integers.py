"""Integer columns of a model of numbers are explained as floats; other refusals are the model's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import InputTypeError


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


METHODS: dict[str, Any] = {
    "integrated gradients": lambda m, x: attr.IntegratedGradients(m).attribute(x, target=1),
    "saliency": lambda m, x: attr.Saliency(m).attribute(x, target=1),
    "input times gradient": lambda m, x: attr.InputXGradient(m).attribute(x, target=1),
    "gradient shap": lambda m, x: attr.GradientShap(m).attribute(x, torch.zeros(2, 4), target=1, seed=0),
}


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_columns_of_integers_are_floats(method: Any, dtype: torch.dtype) -> None:
    model, x = perceptron(), torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1]], dtype=dtype)
    torch.testing.assert_close(method(model, x), method(model, x.float()))


def test_beside_floats_the_models_own_error_stays() -> None:
    def model(a: Tensor, b: Tensor) -> Tensor:
        return perceptron()(b) + a

    with pytest.raises(RuntimeError, match="dtype"):
        attr.IntegratedGradients(model).attribute((torch.ones(2, 3), torch.ones(2, 4, dtype=torch.int64)), target=1)


def test_a_model_that_takes_neither_says_what_it_wants() -> None:
    model = lambda x: x[torch.tensor([[0, 1]])] @ torch.ones(5)  # noqa: E731
    with pytest.raises((RuntimeError, InputTypeError)):
        attr.IntegratedGradients(model).attribute(torch.ones(2, 4, dtype=torch.int64))
