"""IDGI re-derived in a plain loop."""

from __future__ import annotations

import torch
from torch import nn

from captum.attr import IDGI


def test_each_step_is_shared_by_the_squared_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x, start = torch.randn(2, 3, 4, dtype=torch.float64).unbind(0)
    steps = 6
    want = torch.zeros_like(x)
    for row in range(len(x)):
        for k in range(steps):
            here = (start[row] + (x[row] - start[row]) * k / steps).requires_grad_()
            there = start[row] + (x[row] - start[row]) * (k + 1) / steps
            score = model(here)[1]
            (slope,) = torch.autograd.grad(score, here)
            want[row] += slope**2 / (slope**2).sum() * (model(there)[1] - score).detach()
    got, delta = IDGI(model).attribute(x, start, target=1, n_steps=steps, return_convergence_delta=True)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert delta.abs().max() < 1e-12


def test_steps_of_zero_gradient_give_nothing_and_no_nan() -> None:
    got = IDGI(lambda x: torch.relu(x - 0.5).sum(1)).attribute(torch.ones(1, 2), n_steps=10)
    torch.testing.assert_close(got, torch.full((1, 2), 0.4), rtol=0, atol=1e-6)
