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


def weights_of(m: Experts) -> Tensor:
    return torch.stack([e.get_parameter("0.weight") for e in m.experts])


PICKS: dict[str, Callable[[Experts, Tensor, Tensor], Tensor]] = {
    "getitem": lambda m, x, best: torch.einsum("bij,bj->bi", weights_of(m)[best], x).relu(),
    "index_select": lambda m, x, best: torch.bmm(weights_of(m).index_select(0, best), x[..., None])[..., 0].relu(),
    "one hot": lambda m, x, best: torch.einsum("be,eij,bj->bi", F.one_hot(best, 3).to(x), weights_of(m), x).relu(),
    "transposed": lambda m, x, best: (x[:, None] @ weights_of(m)[best].mT).tanh(),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("how", PICKS)
def test_weights_that_an_index_of_the_inputs_picks_are_refused(how: str, frozen: bool) -> None:
    """They are routing in another spelling; whether parameters are trained makes no difference."""
    model = Experts(lambda m, x: PICKS[how](m, x, m.router(x).argmax(-1))).requires_grad_(not frozen)
    with pytest.raises(UnknownOperatorError, match="weights that the baseline changes"):
        DeepLift(model).attribute(X, BASE)
    with pytest.warns(CaptumWarning, match="Attributions miss the change of the score"):
        DeepLift(model, on_unknown="linear").attribute(X, BASE)
    DeepLift(model).attribute(X, X * (1 + 1e-6))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("how", PICKS)
def test_weights_that_a_constant_index_picks_are_weights(how: str, frozen: bool) -> None:
    index = torch.tensor([0, 2, 1, 1, 0])
    model = Experts(lambda m, x: PICKS[how](m, x, index)).double().requires_grad_(not frozen)
    found = DeepLift(model).attribute(X.double(), BASE.double())
    with torch.no_grad():
        change = model(X.double()) - model(BASE.double())
    torch.testing.assert_close(found.sum(1), change, rtol=1e-12, atol=1e-13)


def _written(m: Experts, x: Tensor) -> Tensor:
    weights = weights_of(m)[m.router(x).argmax(-1), 0].clone()
    weights[:, 0] = x[:, 1].tanh()  # from here on a derivative leads through the memory
    return m.experts[0](weights + x)


def _scaled_where(m: Experts, x: Tensor) -> Tensor:
    weights = weights_of(m)
    return x * torch.where(x > 0, weights[0, 0], weights[1, 0])


ELEMENTS: dict[str, Callable[[Experts, Tensor], Tensor]] = {
    "mask": lambda m, x: x + (x > 0) * weights_of(m)[0, 0],
    "where": _scaled_where,
    "rows": lambda m, x: x * weights_of(m)[m.router(x).argmax(-1), 0],
    "unlisted": lambda m, x: x * torch.special.i1(weights_of(m)[m.router(x).argmax(-1), 0]),
    "bag": lambda m, x: x + F.embedding(m.router(x).argmax(-1), weights_of(m)[:, 0]).tanh(),
}


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("how", ELEMENTS)
def test_trained_or_frozen_parameters_behind_a_mask_give_the_same(how: str, rule) -> None:
    """What requires grad for the sake of parameters alone has no share of its own."""
    model = Experts(ELEMENTS[how]).double()
    here, there = X.double(), BASE.double()
    found = DeepLift(model, rule=rule).attribute(here, there)
    with torch.no_grad():
        torch.testing.assert_close(found.sum(1), model(here) - model(there), rtol=1e-10, atol=1e-11)
    frozen = DeepLift(model.requires_grad_(False), rule=rule).attribute(here, there)
    torch.testing.assert_close(found, frozen, rtol=1e-12, atol=1e-13)


def test_what_is_written_into_picked_weights_is_on_the_path() -> None:
    model = Experts(_written).double()
    with pytest.warns(CaptumWarning, match="Attributions miss the change of the score"):  # that of what was picked
        found = DeepLift(model).attribute(X.double(), BASE.double())
    with pytest.warns(CaptumWarning, match="Attributions miss the change of the score"):
        frozen = DeepLift(model.requires_grad_(False)).attribute(X.double(), BASE.double())
    torch.testing.assert_close(found, frozen)
    near = DeepLift(model, multiply_by_inputs=False).attribute(X.double(), X.double() * (1 + 1e-9))
    leaf = X.double().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).sum(), leaf)
    torch.testing.assert_close(near, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["index", "mask", "branch"])
def test_methods_without_baseline_follow_the_way_of_the_input(how: str) -> None:
    model = Experts(REFUSED[how])
    for method in (LRP(model), GuidedBackprop(model)):
        assert bool(method.attribute(X).abs().sum() > 0)
