"""Windows: a score that is not finite shows only where it is covered; code may make views of what it is given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from captum.attr import Occlusion
from captum.errors import InputError


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_stays_in_its_window(odd: float) -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 0, odd, x.sum(1))

    got = Occlusion(forward).attribute(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (2,))
    assert not got[0, :2].isfinite().any()
    torch.testing.assert_close(got[0, 2:], torch.tensor([6.0, 7.0]))


@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (2, 3, 40), (2, 2, 3, 4, 5)])
def test_code_may_make_views_of_windowed_inputs(shape: tuple[int, ...]) -> None:
    """Inputs with a window at the baseline lie in memory as the user's own inputs do."""
    sizes: list[int] = []
    x = torch.randn(shape, dtype=torch.float64)
    weights = torch.randn(x[0].numel(), dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return (x.view(x.size(0), -1) @ weights).tanh()

    window = (1, *[2] * (len(shape) - 2))
    found = Occlusion(model).attribute(x, window, window)
    want = Occlusion(lambda x: model(x.contiguous())).attribute(x, window, window)
    torch.testing.assert_close(found, want)
    assert sum(n == 2 for n in sizes) <= 4  # windows are scored together, not one by one


def test_windows_and_strides_may_be_numbers_of_numpy() -> None:
    x = torch.arange(12.0).reshape(2, 6)
    sides, steps = np.array([4]), np.array([2])
    want = Occlusion(lambda x: x.square().sum(1)).attribute(x, (4,), 2)
    for stride in (steps[0], tuple(steps)):
        found = Occlusion(lambda x: x.square().sum(1)).attribute(x, tuple(sides), stride)
        torch.testing.assert_close(found, want)
    with pytest.raises(InputError, match="tuple of ints"):
        Occlusion(lambda x: x.square().sum(1)).attribute(x, (True,))
