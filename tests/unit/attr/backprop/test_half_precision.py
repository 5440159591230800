"""Rules in half precision: no quotient vanishes or overflows, and what cannot be told in it is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LRP, DeepLift, composites
from captum.errors import CaptumWarning

HALVES = {torch.float16: 1.5e-2, torch.bfloat16: 5e-2}
dtypes = pytest.mark.parametrize("dtype", HALVES, ids=lambda d: str(d).removeprefix("torch."))


def require_close(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=HALVES[dtype] * float(exact.abs().max()))


def images() -> tuple[nn.Module, Tensor]:
    """A channel that is zero everywhere: averages of it are 0, where ε must not vanish."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    net[0].get_parameter("bias").data[1] = -100
    return net, torch.randn(2, 1, 8, 8)


@dtypes
@pytest.mark.parametrize(
    "composite",
    ["epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1_flat", "epsilon_gamma_box", "attn_lrp", "cp_lrp"],
)
def test_relevance_of_what_is_zero(composite: str, dtype: torch.dtype) -> None:
    net, x = images()
    found = LRP(net.to(dtype), composite=composite).attribute(x.to(dtype), 1)
    exact = LRP(net.double(), composite=composite).attribute(x.to(dtype).double(), 1)
    require_close(found, exact, dtype)


@dtypes
def test_relevance_through_attention(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, bias=False).eval()
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 2, bias=False)).to(dtype)
    x = torch.randn(3, 5, 8).to(dtype)
    found = LRP(net, composite="attn_lrp").attribute(x, 0)
    require_close(found, LRP(net.double(), composite="attn_lrp").attribute(x.double(), 0), dtype)


ACTIVATIONS = [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.3), nn.GELU(), nn.ELU(), nn.Hardtanh(), nn.Sigmoid()]


@dtypes
@pytest.mark.parametrize("eps", [1e-10, 0.0])
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_multipliers_where_nothing_differs(activation: nn.Module, rule, eps: float, dtype: torch.dtype) -> None:
    """Half of the elements are those of the baseline, as black pixels are."""
    torch.manual_seed(0)
    first = nn.Linear(6, 6)
    first.weight.data[:, :3] = 0
    first.weight.data[:3] = 0
    net = nn.Sequential(first, activation, nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1)).to(dtype)
    x = torch.randn(3, 6).to(dtype)
    there = x.clone()
    there[:, 3:] += torch.randn(3, 3).to(dtype)
    found = DeepLift(net, False, eps, rule=rule).attribute(x, there, 0)
    exact = DeepLift(net.double(), False, rule=rule).attribute(x.double(), there.double(), 0)
    require_close(found, exact, dtype)


class Cancelling(nn.Module):
    """A sum that nearly vanishes before a function that is large there."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x[:, 0] - x[:, 1])


def test_relevance_that_cancels_beyond_all_digits_is_told() -> None:
    x = torch.ones(2, 2)
    with pytest.warns(CaptumWarning, match=r"Relevance cancels in parts that are 2e\+09 times the score"):
        LRP(Cancelling()).attribute(x)
    LRP(Cancelling(), composite=composites.epsilon(0.1)).attribute(x)
    net, images_ = images()
    LRP(net).attribute(images_, 1)
