"""Relevance through operators in closed form, against autograd on one operator at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, composites
from captum.attr.backprop import relevance_flow, relevance_products

Body = Callable[[Tensor, Tensor, Tensor], Tensor]


class Net(nn.Module):
    """Three projections, an operator, and a sum that weighs its elements."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = [torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(3)]
        self.weights = torch.randn(4 * 6 * 6, generator=generator, dtype=torch.float64)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(*(x @ m for m in self.maps)).reshape(len(x), -1)
        return (out @ self.weights[: out.shape[1]]).reshape(-1)


def attend(**options: Any) -> Body:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


KEEP = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0]]).bool()
FLOATS = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
W = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

BODIES: dict[str, Body] = {
    "attention": attend(),
    "causal": attend(is_causal=True),
    "scaled": attend(scale=2.0),
    "a mask": attend(attn_mask=KEEP),
    "a mask of zeros and -inf": attend(attn_mask=torch.zeros(5, 5, dtype=torch.float64).masked_fill(~KEEP, -torch.inf)),
    "a mask that adds": attend(attn_mask=FLOATS),
    "a mask for each row": attend(attn_mask=torch.stack([KEEP, KEEP.flip(1), KEEP.flip(0)])[:, None]),
    "a mask that varies": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=q @ k.mT),
    "other lengths": lambda q, k, v: F.scaled_dot_product_attention(q[..., :2, :], k, v, is_causal=True),
    "keywords": lambda q, k, v: F.scaled_dot_product_attention(query=q, key=k, value=v),
    "groups": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True),
    "without heads": lambda q, k, v: F.scaled_dot_product_attention(q[:, 0], k[:, 0], v[:, 0]),
    "one key for all heads": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1]),
    "one tensor": lambda q, k, v: F.scaled_dot_product_attention(q, q, q),
    "a constant key": lambda q, k, v: F.scaled_dot_product_attention(q, FLOATS[:, :1].expand(3, 4, 5, 6), v),
    "linear": lambda q, k, v: F.linear(q, W.T, W[0]) * 1,
    "addmm": lambda q, k, v: torch.addmm(W[0], q.reshape(-1, 6), W),
    "a scaled addmm": lambda q, k, v: torch.addmm(W[0], q.reshape(-1, 6), W, alpha=2),
    "sum": lambda q, k, v: q + k,
    "sum with itself": lambda q, k, v: q + q,
    "scaled sum": lambda q, k, v: torch.add(q, k, alpha=3),
    "sum with a mean": lambda q, k, v: q + k.mean(-1, keepdim=True),
    "sum with a number": lambda q, k, v: q + 2.0,
    "sum with a constant": lambda q, k, v: W[:, 0] + q,
    "product": lambda q, k, v: q @ k.mT,
    "product with a square": lambda q, k, v: q.mT @ q,
    "product of a batch and one": lambda q, k, v: q @ k[0, 0].T,
    "bmm": lambda q, k, v: torch.bmm(q[:, 0], k[:, 1].mT),
    "product with a vector": lambda q, k, v: q @ k[0, 0, 0],
}


@pytest.mark.parametrize("epsilon", [1e-6, 0.3])
@pytest.mark.parametrize("name", BODIES)
def test_closed_forms_are_what_autograd_finds(name: str, epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    method = LRP(Net(BODIES[name]), composite=composites.attn_lrp(epsilon=epsilon))
    found = method.attribute(x)
    monkeypatch.setattr(relevance_products, "transposed", lambda _call, _active: None)
    table = relevance_flow.RelevanceFlow.table

    def plain(flow: relevance_flow.RelevanceFlow) -> Any:
        made = table(flow)
        made.names.pop("scaled_dot_product_attention")
        return made

    monkeypatch.setattr(relevance_flow.RelevanceFlow, "table", plain)
    torch.testing.assert_close(found, method.attribute(x), rtol=1e-9, atol=1e-9)
    assert bool(found.abs().sum() > 0)


MIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
POINTS = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "einsum of three": lambda a, b, c: torch.einsum("bi,bi,bj->bij", a, b, c),
    "einsum of a square": lambda a, b, c: torch.einsum("bi,bj,bj->bij", a, c, c),
    "addmm of a residual": lambda a, b, c: torch.addmm(a, b, MIX),
    "addmm in place": lambda a, b, c: (a + 0).addmm_(b, MIX, beta=0.5, alpha=2),
    "addcmul of three": lambda a, b, c: torch.addcmul(a, b, c, value=2),
    "addcmul of a factor": lambda a, b, c: torch.addcmul(a, a, c, value=2),
    "baddbmm": lambda a, b, c: torch.baddbmm(a.view(-1, 2, 2), b.view(-1, 2, 2), c.view(-1, 2, 2), alpha=0.5),
    "a made weight and bias": lambda a, b, c: torch.stack(
        [F.linear(x, u.view(2, 2).repeat(1, 2), v[:2]) for x, u, v in zip(a, b, c, strict=True)]
    ),
    "lerp by a gate": lambda a, b, c: torch.lerp(a, b, c.sigmoid()),
    "index_put that adds": lambda a, b, c: torch.zeros(len(a), 2, dtype=a.dtype).index_put(
        (torch.arange(len(a))[:, None], torch.tensor([[0, 1, 0, 0]])), a, accumulate=True
    ),
    "pow in place": lambda a, b, c: _raised(a.abs(), b),
}


def _raised(base: Tensor, power: Tensor) -> Tensor:
    base.pow_(power)
    return base * power


@pytest.mark.parametrize("composite", ["epsilon", "attn_lrp"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_factors_and_summands_that_vary_share_what_there_is(name: str, composite: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.maps = nn.ModuleList(nn.Linear(5, 4, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return PRODUCTS[name](*(m(x) for m in self.maps)).flatten(1).sum(1)

    model = Mixed().double()
    table = getattr(composites, composite)(epsilon=1e-10)
    _, delta = LRP(model, composite=table).attribute(POINTS, return_convergence_delta=True)
    assert (delta.abs() <= 1e-6 * model(POINTS).abs()).all()
