"""Windows whose score is not finite: only what they cover shows it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from captum.attr import Occlusion


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_stays_in_its_window(odd: float) -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 0, odd, x.sum(1))

    got = Occlusion(forward).attribute(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (2,))
    assert not got[0, :2].isfinite().any()
    torch.testing.assert_close(got[0, 2:], torch.tensor([6.0, 7.0]))
