"""Routing and branches that depend on values: DeepLIFT explains them whole, warns, or refuses; never a silent miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, DeepLift, GuidedBackprop
from captum.errors import CaptumWarning, UnknownOperatorError


class Experts(nn.Module):
    """A router and three experts."""

    def __init__(self, mix: Callable[[Experts, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.router = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(3))
        self.head = nn.Linear(6, 1)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self, x)).reshape(len(x), -1).sum(1)


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
BASE = torch.randn(5, 6, generator=torch.Generator().manual_seed(2)) - 0.5


def dense(m: Experts, x: Tensor) -> Tensor:
    gates = m.router(x).softmax(-1)
    return torch.stack([gates[:, i : i + 1] * expert(x) for i, expert in enumerate(m.experts)]).sum(0)


def chosen_by_where(m: Experts, x: Tensor) -> Tensor:
    gate, best = m.router(x).softmax(-1).topk(1, -1)
    out = torch.zeros_like(x)
    for i, expert in enumerate(m.experts):
        out = torch.where(best == i, expert(x) * gate, out)
    return out


def sent_by_mask(m: Experts, x: Tensor) -> Tensor:
    gate, best = m.router(x).softmax(-1).max(-1)
    out = torch.zeros_like(x)
    for i, expert in enumerate(m.experts):
        out[best == i] = expert(x[best == i]) * gate[best == i][:, None]
    return out


def sent_by_index(m: Experts, x: Tensor) -> Tensor:
    gates, best = m.router(x).softmax(-1).topk(2, -1)
    out = torch.zeros_like(x)
    for i, mask in enumerate(F.one_hot(best, 3).permute(2, 1, 0)):
        which, rows = torch.where(mask)
        out.index_add_(0, rows, m.experts[i](x[rows]) * gates[rows, which, None])
    return out


def sent_by_nonzero(m: Experts, x: Tensor) -> Tensor:
    best = m.router(x).argmax(-1)
    out = torch.zeros_like(x)
    for i, expert in enumerate(m.experts):
        rows = (best == i).nonzero().squeeze(-1)
        out = out.index_copy(0, rows, expert(x.index_select(0, rows)))
    return out


def sorted_by_expert(m: Experts, x: Tensor) -> Tensor:
    order = m.router(x).argmax(-1).argsort()
    return m.experts[0](x[order])[order.argsort()]


def of_a_branch(m: Experts, x: Tensor) -> Tensor:
    return m.experts[0](x) if x[0, 0] > X[0, 0] - 0.5 else m.experts[1](x)


WHOLE = {"dense": dense, "where": chosen_by_where}
REFUSED: dict[str, Callable[[Experts, Tensor], Tensor]] = {
    "mask": sent_by_mask,
    "index": sent_by_index,
    "nonzero": sent_by_nonzero,
    "sorted": sorted_by_expert,
    "branch": of_a_branch,
    "loop": lambda m, x: torch.stack([m.experts[int(k)](r) for k, r in zip(m.router(x).argmax(-1), x, strict=True)]),
    "list": lambda m, x: m.experts[m.router(x).argmax(-1).tolist()[0]](x),
    "numpy": lambda m, x: m.experts[int(m.router(x).argmax(-1).detach().numpy()[0])](x),
    "item": lambda m, x: m.experts[0](x) * x.detach().mean().item(),
    "number": lambda m, x: m.experts[0](x) * int((x > 0).sum()),
    "length": lambda m, x: m.experts[0](x) * len((x > 0).nonzero()),
    "size": lambda m, x: m.experts[0](x) * (x > 0).nonzero().size(0),
    "shape": lambda m, x: m.experts[0](x) * (x > 0).nonzero().shape[0],
    "numel": lambda m, x: m.experts[0](x) * (x > 0).nonzero().numel(),
    "selected": lambda m, x: m.experts[0](x) * x.masked_select(x > 0).numel(),
    "contained": lambda m, x: m.experts[0](x) if float(X[0, 0]) in x else m.experts[1](x),
}


@pytest.mark.parametrize("how", WHOLE)
def test_routing_that_keeps_every_row_in_its_place_is_explained_whole(how: str) -> None:
    model = Experts(WHOLE[how])
    found = DeepLift(model).attribute(X, BASE)
    with torch.no_grad():
        torch.testing.assert_close(found.sum(1), model(X) - model(BASE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", REFUSED)
def test_what_the_baseline_would_do_otherwise_is_refused(how: str) -> None:
    model = Experts(REFUSED[how])
    with torch.no_grad():
        assert float((model(X) - model(BASE)).abs().max()) > 1e-3
    with pytest.raises(UnknownOperatorError):
        DeepLift(model).attribute(X, BASE - 1)


@pytest.mark.parametrize("how", [h for h in REFUSED if h not in ("sorted", "nonzero", "index", "mask")])
def test_the_same_way_for_both_is_explained(how: str) -> None:
    """The baseline is the input but for a little, which changes no choice."""
    model = Experts(REFUSED[how])
    near = X * (1 + 1e-6)
    if how in ("item", "contained"):
        near = X
    DeepLift(model).attribute(X, near)


def test_weights_picked_by_an_index_are_told_by_what_is_missing() -> None:
    def picked(m: Experts, x: Tensor) -> Tensor:
        weights = torch.stack([e.get_parameter("0.weight") for e in m.experts])[m.router(x).argmax(-1)]
        return torch.einsum("bij,bj->bi", weights, x).relu()

    with pytest.warns(CaptumWarning, match="Attributions miss the change of the score"):
        DeepLift(Experts(picked)).attribute(X, BASE)


@pytest.mark.parametrize("how", ["index", "mask", "branch"])
def test_methods_without_baseline_follow_the_way_of_the_input(how: str) -> None:
    model = Experts(REFUSED[how])
    for method in (LRP(model), GuidedBackprop(model)):
        assert bool(method.attribute(X).abs().sum() > 0)
