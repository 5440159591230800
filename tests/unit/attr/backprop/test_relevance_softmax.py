"""Softmax has one relevance, in whichever operators it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LRP, composites

Softmax = Callable[[Tensor], Tensor]


def after_a_maximum(z: Tensor) -> Tensor:
    e = (z - z.max(-1, keepdim=True)[0]).exp()
    return e / e.sum(-1, keepdim=True)


def after_a_constant(z: Tensor) -> Tensor:
    with torch.no_grad():
        largest = z.amax(-1, keepdim=True)
    e = torch.exp(torch.sub(input=z, other=largest))
    return e.div(torch.sum(input=e, dim=(-1,), keepdim=True))


def in_place(z: Tensor) -> Tensor:
    z = z * 1
    z -= z.max(-1, keepdim=True).values
    e = z.exp_()
    e /= e.sum(-1, keepdim=True)
    return e


def bare(z: Tensor) -> Tensor:
    e = z.exp()
    return e / e.sum(-1, keepdim=True)


def moved_before_it_is_read(z: Tensor) -> Tensor:
    shifted = (z - z.amax(-1, keepdim=True)).mT.contiguous().view(z.shape[0], -1).view(z.mT.shape).mT
    e = torch.where(torch.ones_like(z) > 0, shifted, 0.0).exp()
    return e / e.sum(-1, keepdim=True)


WRITTEN: dict[str, Softmax] = {
    "a maximum": after_a_maximum,
    "a constant": after_a_constant,
    "that of all": lambda z: (z - z.max()).softmax(-1),
    "torch's, of a difference": lambda z: torch.softmax(z - z.detach().max(-1, keepdim=True)[0], -1),
    "in place": in_place,
    "bare": bare,
    "moved": moved_before_it_is_read,
}


class Attention(nn.Module):
    """One head, without biases; ``softmax`` says how its weights are made."""

    def __init__(self, softmax: Softmax) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6, bias=False) for _ in range(4))
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        shares = self.softmax(self.q(x) @ self.k(x).mT)
        return self.out(shares @ self.v(x)).flatten(1).sum(1)


X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("composite", ["epsilon", "attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("how", WRITTEN)
def test_softmax_has_one_relevance(how: str, composite: str, dtype: torch.dtype) -> None:
    table = getattr(composites, composite)(epsilon=1e-9)
    found = LRP(Attention(WRITTEN[how]).to(dtype), composite=table).attribute(X.to(dtype))
    want = LRP(Attention(lambda z: z.softmax(-1)).to(dtype), composite=table).attribute(X.to(dtype))
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6 if dtype is torch.float32 else 1e-8)


@pytest.mark.parametrize("composite", ["epsilon", "attn_lrp"])
def test_a_shift_is_seen_through_a_temperature_and_a_mask(composite: str) -> None:
    hidden = torch.ones(4, 4).triu(1).bool()

    def written(z: Tensor) -> Tensor:
        shifted = (z - z.amax(-1, keepdim=True)) / 2
        e = shifted.masked_fill_(hidden, -torch.inf).exp()
        return e / e.sum(-1, keepdim=True)

    table = getattr(composites, composite)(epsilon=1e-9)
    found = LRP(Attention(written).double(), composite=table).attribute(X)
    plain = Attention(lambda z: (z / 2).masked_fill(hidden, -torch.inf).softmax(-1)).double()
    torch.testing.assert_close(found, LRP(plain, composite=table).attribute(X), rtol=1e-5, atol=1e-8)


def test_a_shift_that_is_clamped_gets_nothing() -> None:
    class Chances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shifted = x - x.amax(-1, keepdim=True)
            return shifted.clamp(min=-50).exp().sum(-1).flatten(1).sum(1)

    found = LRP(Chances()).attribute(X)
    shares = (X - X.amax(-1, keepdim=True)).exp()
    torch.testing.assert_close(found, shares)


class Gap(nn.Module):
    """Σ_k w_k (x_k − max x), times one, and no exponential of it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        largest = x.amax(-1, keepdim=True)
        weights = torch.arange(1.0, 7.0).to(x)
        if self.how == "in place":
            gap = x * 1
            gap -= largest
        else:
            gap = torch.sub(x, largest.detach() if self.how == "a constant" else largest)
        return (gap * weights).flatten(1).sum(1) + (x.exp().sum((1, 2)) if self.how == "beside another" else 0)


@pytest.mark.parametrize("how", ["plain", "in place", "a constant", "beside another"])
def test_a_distance_to_the_largest_that_no_exponential_reads_is_a_difference(how: str) -> None:
    found = LRP(Gap(how)).attribute(X)
    weights = torch.arange(1.0, 7.0).to(X)
    first = X.amax(-1, keepdim=True) == X
    owed = -(weights.sum() - weights) * X  # −max x in the gaps of the other entries; its own gap is 0, as is its R
    want = torch.where(first, torch.zeros_like(X) if how == "a constant" else owed, weights * X)
    if how == "beside another":
        want = want + X.exp()
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)


def test_other_differences_share_in_proportion() -> None:
    class Margin(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x - x.mean(-1, keepdim=True)) * torch.arange(6).to(x)).flatten(1).sum(1)

    found, delta = LRP(Margin()).attribute(X, return_convergence_delta=True)
    assert delta.abs().max() < 1e-6
    weights = torch.arange(6).double()
    torch.testing.assert_close(found, X * (weights - weights.mean()), rtol=1e-6, atol=1e-6)


def test_an_exponential_that_is_written_to_is_no_part_of_a_softmax() -> None:
    def broken(z: Tensor) -> Tensor:
        e = z.exp()
        total = e.sum(-1, keepdim=True)
        e *= 2.0
        return e / total

    found = LRP(Attention(broken).double(), composite="cp_lrp").attribute(X)
    stopped = LRP(Attention(lambda z: 2 * z.softmax(-1)).double(), composite="cp_lrp").attribute(X)
    assert bool(found.isfinite().all())
    assert float((found - stopped).abs().max()) > 0.1


def test_what_is_stopped_in_place_is_a_constant() -> None:
    def gates(inplace: bool) -> Softmax:
        return lambda z: (z * 1).sigmoid_() if inplace else z.sigmoid()

    table = composites.Composite(stops=("sigmoid",))
    found, want = (LRP(Attention(gates(p)).double(), composite=table).attribute(X) for p in (True, False))
    torch.testing.assert_close(found, want)
