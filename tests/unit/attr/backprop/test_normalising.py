"""DeepLIFT through what divides by its own size: one result however it is written, and none that explodes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import DeepLift

EPS = 1e-6


def power(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True) + EPS


RMS: dict[str, Callable[[Tensor], Tensor]] = {
    "fused": lambda x: F.rms_norm(x, [8], eps=EPS),
    "rsqrt": lambda x: x * torch.rsqrt(power(x)),
    "rsqrt first": lambda x: torch.rsqrt(power(x)) * x,
    "power": lambda x: x * power(x).pow(-0.5),
    "reciprocal": lambda x: x * power(x).sqrt().reciprocal(),
    "one over": lambda x: x * (1 / power(x).sqrt()),
    "quotient": lambda x: x / power(x).sqrt(),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer norm": lambda x: F.layer_norm(x, [8], eps=EPS),
    "group norm": lambda x: F.group_norm(x, 2, eps=EPS),
    "unit length": lambda x: F.normalize(x, dim=-1),
}
DRAWS = torch.Generator().manual_seed(0)
X, BASE, WEIGHTS = (torch.randn(3 if n < 2 else 8, 8, generator=DRAWS, dtype=torch.float64) for n in range(3))


class Net(nn.Module):
    """A norm between smooth layers."""

    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(x).tanh() @ WEIGHTS).square().sum(1)


BASES = {"zeros": torch.zeros_like(X), "nearly zeros": 1e-6 * BASE, "others": BASE, "opposite": -X}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("how", RMS)
def test_every_spelling_is_one_function(how: str, base: str) -> None:
    found = DeepLift(Net(RMS[how])).attribute(X, BASES[base])
    torch.testing.assert_close(found, DeepLift(Net(RMS["fused"])).attribute(X, BASES[base]))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("how", [*RMS, *OTHERS])
def test_the_whole_change_in_parts_of_its_size(how: str, base: str) -> None:
    model = Net({**RMS, **OTHERS}[how])
    found = DeepLift(model).attribute(X, BASES[base])
    change = model(X) - model(BASES[base])
    torch.testing.assert_close(found.sum(1), change, rtol=1e-9, atol=1e-9)
    assert float(found.abs().sum(1).max()) < 20 * float(model(X).max())


@pytest.mark.parametrize("how", [*RMS, *OTHERS])
def test_close_to_the_input_it_is_the_gradient(how: str) -> None:
    model = Net({**RMS, **OTHERS}[how])
    leaf = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf).sum(), leaf)
    torch.testing.assert_close(DeepLift(model, multiply_by_inputs=False).attribute(X, X), grad)
    near = DeepLift(model, multiply_by_inputs=False).attribute(X, X + 1e-5 * BASE)
    torch.testing.assert_close(near, grad, rtol=1e-2, atol=1e-3)


def test_a_divisor_that_changes_sign() -> None:
    class Ratio(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x[:, 0] * 2) / (x[:, 1] * 3)

    found = DeepLift(Ratio()).attribute(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(found.sum(), torch.tensor(4 / 3 + 2 / 3))
