"""RevealCancel against the paper's formulas in loops over neurons, and how parts pass everything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.rules import RuleMode
from captum.attr import DeepLift, LayerDeepLift
from captum.attr.backprop.reveal_cancel import RevealCancel
from tests.subjects import subject
from tests.unit.engine.rule_calls import CALLS

D = torch.float64
Activation = Callable[[Tensor], Tensor]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


W1, W2, W3 = drawn(6, 4, seed=1), drawn(6, 6, seed=2), drawn(1, 6, seed=3)
B1, B2 = drawn(6, seed=4), drawn(6, seed=5)
X, X0 = drawn(3, 4, seed=6), drawn(3, 4, seed=7)


def parts_by_hand(weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Δy⁺ and Δy⁻ of y = W x: the products of each sign."""
    terms = weight * delta
    return terms.clamp(min=0).sum(1), terms.clamp(max=0).sum(1)


def through_weights(weight: Tensor, delta: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Multipliers of the inputs of y = W x, given those of Δy⁺ and of Δy⁻."""
    out = torch.zeros_like(delta)
    for i in range(len(delta)):
        for j in range(len(up)):
            way = float(weight[j, i] * delta[i])
            m = up[j] if way > 0 else down[j] if way < 0 else (up[j] + down[j]) / 2
            out[i] += weight[j, i] * m
    return out


def answers(f: Activation, start: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Δy⁺ and Δy⁻ of y = f(x): the mean over the two orders in which the parts can be added."""
    rises = [((f(start + a) - f(start)) + (f(start + b + a) - f(start + b))) / 2 for a, b in ((up, down), (down, up))]
    return rises[0], rises[1]


def part_multipliers(f: Activation, start: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Answer over part; where a part is empty the limit, the mean of the derivatives with and without the other."""
    ends = torch.stack([start, start + up + down]).requires_grad_()
    limit = torch.autograd.grad(f(ends).sum(), ends)[0].mean(0)
    pairs = zip(answers(f, start, up, down), (up, down), strict=True)
    first, second = (torch.where(part == 0, limit, answer / part) for answer, part in pairs)
    return first, second


class Dense(nn.Module):
    def __init__(self, f: Activation, skip: bool = False) -> None:
        super().__init__()
        self.f, self.skip = f, skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.f(F.linear(x, W1, B1))
        z = F.linear(h, W2, B2)
        if self.skip:
            z += h
        return F.linear(self.f(z), W3)


def by_hand(x: Tensor, x0: Tensor, f: Activation, skip: bool) -> Tensor:
    """Multipliers of :class:`Dense` for one example."""
    z1, z10 = W1 @ x + B1, W1 @ x0 + B1
    h, h0 = f(z1), f(z10)
    first = parts_by_hand(W1, x - x0)
    second = parts_by_hand(W2, h - h0)
    if skip:
        after_first = answers(f, z10, *first)
        second = second[0] + after_first[0], second[1] + after_first[1]
    z20 = W2 @ h0 + B2 + (h0 if skip else 0)
    z2 = z20 + second[0] + second[1]
    ones = torch.ones(1, dtype=D)
    m = through_weights(W3, f(z2) - f(z20), ones, ones)
    up, down = (m * s for s in part_multipliers(f, z20, *second))
    by_weights = through_weights(W2, h - h0, up, down)
    pair = (by_weights + up, by_weights + down) if skip else (by_weights, by_weights)
    up, down = (m * s for m, s in zip(pair, part_multipliers(f, z10, *first), strict=True))
    return through_weights(W1, x - x0, up, down)


@pytest.mark.parametrize("skip", [False, True], ids=["chain", "residual"])
@pytest.mark.parametrize("f", [torch.relu, torch.tanh, F.gelu, F.leaky_relu], ids=lambda f: f.__name__)
def test_the_papers_formulas_in_loops(f: Activation, skip: bool) -> None:
    found = DeepLift(Dense(f, skip), multiply_by_inputs=False, rule="reveal_cancel").attribute(X, X0)
    want = torch.stack([by_hand(x, x0, f, skip) for x, x0 in zip(X, X0, strict=True)])
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def test_what_does_not_differ_gets_the_mean_of_both_multipliers() -> None:
    x0 = X0.clone()
    x0[:, 1] = X[:, 1]
    found = DeepLift(Dense(torch.tanh), multiply_by_inputs=False, rule="reveal_cancel").attribute(X, x0)
    want = torch.stack([by_hand(x, b, torch.tanh, False) for x, b in zip(X, x0, strict=True)])
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def explained(model: Callable[[Tensor], Tensor], x: Tensor = X, x0: Tensor = X0) -> Tensor:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x)

    values, delta = DeepLift(Named(), rule="reveal_cancel").attribute(x, x0, return_convergence_delta=True)
    assert delta.abs().max() < 1e-13
    return values


def test_one_function_in_many_spellings() -> None:
    def tail(z: Tensor) -> Tensor:
        return (z.relu() * W3[0]).sum(1)

    def overwritten(x: Tensor) -> Tensor:
        z = F.linear(x, W1)
        z.add_(B1).relu_()
        z *= W3[0]
        return z.sum(1)

    def joined(x: Tensor) -> Tensor:
        return torch.stack([(x * w).sum(1) for w in W1], 1) + B1

    spellings = (
        lambda x: F.linear(x, W1, B1), lambda x: torch.addmm(B1, x, W1.T), lambda x: x @ W1.T + B1,
        lambda x: torch.einsum("bi,oi->bo", x, W1) + B1, lambda x: (x[:, None, :] * W1).sum(2) + B1,
        lambda x: F.linear(x, W1 * 4, B1 * 4) / 4, lambda x: -(F.linear(x, -W1) - B1),
        lambda x: F.conv1d(x[:, :, None], W1[:, :, None], B1).squeeze(2),
        lambda x: torch.cat([F.linear(x, W1[:2], B1[:2]), F.linear(x, W1[2:], B1[2:])], 1),
        lambda x: B1 - F.linear(x, -W1), joined,
    )  # fmt: skip
    want = explained(lambda x: tail(spellings[0](x)))
    rescaled = DeepLift(Dense(torch.relu)).attribute(X, X0)
    assert not torch.allclose(want, rescaled)
    for spelling in spellings[1:]:
        torch.testing.assert_close(explained(lambda x, z=spelling: tail(z(x))), want)
    torch.testing.assert_close(explained(overwritten), want)


def test_batch_norm_belongs_to_the_convolution_before_it() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    rest = nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)
    apart = nn.Sequential(conv, norm, *rest).double().eval()
    merged = nn.Sequential(nn.utils.fuse_conv_bn_eval(conv, norm), *rest)
    x, x0 = drawn(2, 2, 6, 6, seed=1), drawn(2, 2, 6, 6, seed=2)
    found = [DeepLift(model, rule="reveal_cancel").attribute(x, x0) for model in (apart, merged)]
    torch.testing.assert_close(*found)
    assert not torch.allclose(found[0], DeepLift(apart).attribute(x, x0))


def test_parts_of_memory_that_was_written_to_are_forgotten() -> None:
    def written(x: Tensor) -> Tensor:
        z = F.linear(x, W1, B1)
        first = z[:, :3]
        z[:, 1] = x[:, 0] * 2
        first.mul_(x[:, 1:].sum(1, keepdim=True))
        return (z.relu() * W3[0]).sum(1) + first.tanh().sum(1)

    explained(written)


def test_masks_of_minus_infinity_and_functions_without_bound() -> None:
    hidden = torch.tensor([False, True, False, False, True, False])

    def masked(x: Tensor) -> Tensor:
        z = F.linear(x, W1, B1).masked_fill(hidden, float("-inf"))
        return (z.relu() + F.softmax(z, 1) + z.sigmoid()).sum(1) + F.linear(x, W1).square().mean(1).add(1e-3).sqrt()

    assert torch.isfinite(explained(masked)).all()


def test_genomics_parts_dense_layers_alone() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv1d(4, 3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(9, 5)
    )
    model = nn.Sequential(body, nn.ReLU(), nn.Linear(5, 1)).double().eval()
    x, x0 = drawn(2, 4, 8, seed=1), drawn(2, 4, 8, seed=2)
    below = LayerDeepLift(model, body[2], rule="genomics").attribute(x, x0)
    torch.testing.assert_close(below, LayerDeepLift(model, body[2], rule="reveal_cancel").attribute(x, x0))
    slopes = (body[:3](x) - body[:3](x0)) / (body[:2](x) - body[:2](x0))
    secants = LayerDeepLift(model, body[1], rule="genomics", multiply_by_inputs=False).attribute(x, x0)
    m = LayerDeepLift(model, body[2], rule="genomics", multiply_by_inputs=False).attribute(x, x0)
    torch.testing.assert_close(secants, (m * slopes).detach())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, D], ids=["single", "double"])
@pytest.mark.parametrize("rule", ["reveal_cancel", "genomics"])
def test_a_deep_residual_net_is_complete(rule, dtype: torch.dtype) -> None:
    """Seventeen convolutions: parts that are not formed anew would reach 1e17 times their difference."""
    from tests.models import fresh_model

    whole = subject("resnet18")
    model, x = fresh_model("resnet18").to(dtype), whole.inputs.to(dtype)
    scale = 1e-5 if dtype == torch.float32 else 1e-10
    for baseline in (0.0, x.flip(0)):
        method = DeepLift(model, rule=rule)
        values, delta = method.attribute(x, baseline, whole.target, return_convergence_delta=True)
        change = values.flatten(1).sum(1) - delta
        assert change.abs().min() > 1e-3
        assert (delta.abs() <= scale * change.abs()).all()
        one = method.attribute(x[:1], baseline if isinstance(baseline, float) else baseline[:1], whole.target)
        torch.testing.assert_close(one, values[:1], rtol=1e-3, atol=1e-3 * float(values.abs().max()))


M = drawn(6, 6, seed=9)
_ONE_SCORE = ("max of all", "sum and mean")  # one score of the whole batch in each row


@pytest.mark.parametrize("name", CALLS)
def test_every_operator_between_a_dense_layer_and_an_activation(name: str) -> None:
    """Parts that come in and parts that go out: the change is whole, and the gradient where nothing differs."""
    x, x0 = drawn(4, 6, seed=1), drawn(4, 6, seed=2)

    def score(t: Tensor) -> Tensor:
        out = CALLS[name](F.linear(t, M)).tanh()
        return out.flatten(1).sum(1) if out.dim() > 1 else out

    def multipliers(here: Tensor, there: Tensor) -> Tensor:
        leaf = here.clone().requires_grad_()
        mode = RuleMode(RevealCancel(1e-10, genomics=False).table(), paired=True)
        mode.begin([leaf], [there])
        try:
            with mode:
                scores = score(leaf.clone())
            return torch.autograd.grad(scores.sum(), leaf)[0]
        finally:
            mode.close()

    parts, change = multipliers(x, x0) * (x - x0), (score(x) - score(x0)).detach()
    if name in _ONE_SCORE:
        parts, change = parts.sum(0, keepdim=True), change.sum(0, keepdim=True)
    scale = 1e-9 + parts.abs().sum() + change.abs().max()
    assert (parts.sum(1) - change).abs().max() < 1e-12 * scale
    if name in ("works_in_place", "overwrites_through_a_view"):
        return  # torch itself cannot differentiate it
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf.clone()).sum(), leaf)
    torch.testing.assert_close(multipliers(x, x), gradient, rtol=1e-9, atol=1e-11)
