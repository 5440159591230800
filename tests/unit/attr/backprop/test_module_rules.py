"""Rules that modules carry, and where rules are found."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LRP, LayerLRP, composites
from captum.attr.composites import EpsilonRule, FlatRule, GammaRule, IdentityRule, PropagationRule
from captum.errors import CaptumWarning


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POOLS = {
    "max": nn.MaxPool1d(2),
    "average": nn.AvgPool1d(2),
    "adaptive max": nn.AdaptiveMaxPool1d(2),
    "adaptive average": nn.AdaptiveAvgPool1d(2),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_modules_follow_the_rule_that_they_carry(name: str) -> None:
    """A large ε keeps a share for itself; flat gives every element of a window the same."""
    pool = copy.deepcopy(POOLS[name])
    x = drawn(2, 1, 4, seed=1)
    model = nn.Sequential(pool, nn.Flatten(), nn.Linear(2, 1, bias=False)).double()
    plain = LRP(model).attribute(x)
    z = model[0](x)
    share = (z / (z + 0.5 * torch.where(z < 0, -1.0, 1.0))).repeat_interleave(2, -1)
    pool.rule = EpsilonRule(0.5)  # type: ignore[assignment]
    torch.testing.assert_close(LRP(model).attribute(x), plain * share, rtol=1e-6, atol=1e-8)
    if "average" in name:
        pool.rule = FlatRule()  # type: ignore[assignment]
        halves = plain.view(2, 1, 2, 2).mean(-1, keepdim=True).expand(2, 1, 2, 2)
        torch.testing.assert_close(LRP(model).attribute(x), halves.reshape(2, 1, 4), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("before", [EpsilonRule(), GammaRule()])
def test_a_batch_norm_follows_the_rule_that_it_carries(before: PropagationRule) -> None:
    torch.manual_seed(0)
    first, norm = nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)
    model = nn.Sequential(first, norm, nn.Linear(4, 1, bias=False)).double().eval()
    first.rule, norm.rule = before, EpsilonRule(0.5)  # type: ignore[assignment]
    x = drawn(2, 3, seed=1)
    found = LayerLRP(model, norm).attribute(x, attribute_to_layer_input=True)
    with torch.no_grad():
        inside = first(x)
        z = norm(inside)
        relevance = model[2].weight * z
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        want = inside * scale * relevance / (z + 0.5 * torch.where(z < 0, -1.0, 1.0))
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-8)


def test_a_rule_that_no_operator_asks_for_is_told() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 1)).double()
    model[0].rule = GammaRule()
    with pytest.warns(CaptumWarning, match="The rule of module '0' was not used"):
        LRP(model).attribute(drawn(2, 3, seed=1))
    del model[0].rule
    model[0][0].rule, model[0][1].rule = GammaRule(), IdentityRule()
    LRP(model).attribute(drawn(2, 3, seed=1))


def test_composites_have_a_path_of_their_own() -> None:
    from captum.attr.composites import GammaRule as ByPath

    assert ByPath is GammaRule
    assert composites.__name__ == "captum.attr.composites"


def test_every_rule_and_named_composite_is_listed() -> None:
    from captum.attr.backprop import composites as tables
    from captum.attr.backprop import relevance_rules as rules

    assert {*rules.__all__, *tables.NAMED, "Composite", "Site"} == {*composites.__all__}
