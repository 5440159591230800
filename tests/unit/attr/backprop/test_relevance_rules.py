"""Rules of relevance at convolutions, for inputs of both signs, against matrices; and no blow-up in whole networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, composites
from captum.attr.backprop.affine import Affine
from captum.attr.composites import (
    AlphaBetaRule,
    EpsilonRule,
    FlatRule,
    GammaRule,
    GeneralizedGammaRule,
    PropagationRule,
    WSquareRule,
    ZBoxRule,
    ZPlusRule,
)

D = torch.float64
EPS = 1e-9
LOW, HIGH = -3.0, 4.0


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def convolve(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    assert weight is not None
    return F.conv2d(x, weight, bias, stride=2, padding=1, dilation=1, groups=2)


WEIGHT, BIAS, X = drawn(4, 1, 3, 3, seed=1), drawn(4, seed=2), drawn(2, 2, 5, 5, seed=3)
R = drawn(*convolve(X, WEIGHT, BIAS).shape, seed=4)


def matrix(weight: Tensor) -> Tensor:
    """The convolution as ``(outputs, inputs)``."""
    ends = R[0].numel(), X[0].numel()
    found = torch.autograd.functional.jacobian(lambda x: convolve(x[None], weight, None)[0], torch.zeros_like(X[0]))
    return found.reshape(ends)  # type: ignore[union-attr]


def shared(contributions: Tensor, bias: Tensor, relevance: Tensor) -> Tensor:
    """R_i = Σ_j c_ji R_j / Σ_i c_ji for one example, contributions ``(outputs, inputs)``."""
    z = contributions.sum(1) + bias
    return contributions.T @ (relevance / (z + EPS * torch.where(z >= 0, 1.0, -1.0)))


def signed(c: Tensor, b: Tensor, r: Tensor, gamma: float) -> Tensor:
    """The generalised γ rule, output by output."""
    total = torch.zeros(c.shape[1], dtype=D)
    for j in range(len(c)):
        z = c[j].sum() + b[j]
        sign = 1.0 if z > 0 else -1.0
        part, start = c[j] * (c[j] * sign > 0), b[j] * (b[j] * sign > 0)
        total += (c[j] + gamma * part) / (z + gamma * (part.sum() + start) + EPS * sign) * r[j]
    return total


def by_matrix(name: str, x: Tensor, r: Tensor) -> Tensor:
    """Each rule for one example, all tensors flat."""
    w, b = matrix(WEIGHT), BIAS.repeat_interleave(len(R[0, 0].flatten()))
    c, up, down = w * x, w.clamp(min=0), w.clamp(max=0)
    none = torch.zeros_like(b)
    if name in ("generalized gamma", "generalized gamma without bias"):
        return signed(c, b if name == "generalized gamma" else none, r, 0.3)
    if name == "alpha2 beta1":
        return 2 * shared(c.clamp(min=0), b.clamp(min=0), r) - shared(c.clamp(max=0), b.clamp(max=0), r)
    formulae = {
        "epsilon": (c, b),
        "gamma": ((w + 0.3 * up) * x, b),
        "z plus": (c.clamp(min=0), b.clamp(min=0)),
        "z box": (c - LOW * up - HIGH * down, none),
        "own box": (c - x.min() * up - x.max() * down, none),
        "w square": (matrix(WEIGHT**2), none),
        "flat": (matrix(torch.ones_like(WEIGHT)), none),
    }
    return shared(*formulae[name], r)


RULES: dict[str, PropagationRule] = {
    "epsilon": EpsilonRule(),
    "gamma": GammaRule(0.3),
    "generalized gamma": GeneralizedGammaRule(0.3),
    "generalized gamma without bias": GeneralizedGammaRule(0.3, True),
    "alpha2 beta1": AlphaBetaRule(2, 1),
    "z plus": ZPlusRule(),
    "z box": ZBoxRule(LOW, HIGH),
    "own box": ZBoxRule(),
    "w square": WSquareRule(),
    "flat": FlatRule(),
}


@pytest.mark.parametrize("inputs", ["signed", "positive"])
@pytest.mark.parametrize("name", RULES)
def test_rules_at_a_convolution_in_matrix_form(name: str, inputs: str) -> None:
    x = X if inputs == "signed" else X.relu()
    found = RULES[name].propagate(x, Affine(convolve, WEIGHT, BIAS), R)
    want = [by_matrix(name, row.flatten(), r.flatten()).reshape(row.shape) for row, r in zip(x, R, strict=True)]
    torch.testing.assert_close(found, torch.stack(want), rtol=1e-6, atol=1e-8)


def test_gamma_rules_agree_where_inputs_and_outputs_are_positive() -> None:
    x, weight = X.relu() + 0.1, drawn(4, 1, 3, 3, seed=5) + 1
    affine = Affine(convolve, weight, None)
    relevance = R * (affine.apply(x, weight, None) > 0)
    found = [rule.propagate(x, affine, relevance) for rule in (GammaRule(0.3), GeneralizedGammaRule(0.3))]
    torch.testing.assert_close(*found)


def test_the_generalised_denominator_cannot_vanish() -> None:
    """z = 4 · (−1) + (−5) · (−1) = 1, where raising the positive weight alone gives 5 · (−1) + 5 = 0."""
    x, weight = torch.tensor([[-1.0, -1.0]], dtype=D), torch.tensor([[4.0, -5.0]], dtype=D)
    affine, one = Affine(F.linear, weight, None), torch.ones(1, 1, dtype=D)
    assert GammaRule(0.25).propagate(x, affine, one).abs().max() > 1e8
    found = GeneralizedGammaRule(0.25).propagate(x, affine, one)
    torch.testing.assert_close(found, torch.tensor([[-4.0, 6.25]], dtype=D) / 2.25)


class Bottleneck(nn.Module):
    """Expand, filter by channel, project without an activation, add: what comes out has both signs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.expand, self.norm1 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.filter, self.norm2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        self.project, self.norm3 = nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.norm1(self.expand(x)))
        h = F.relu6(self.norm2(self.filter(h)))
        return x + self.norm3(self.project(h))


def _seeded(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(-1, 1.5)
            module.bias.data.normal_(0, 0.3)
    return model.double().eval()


def _bottlenecks(depth: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
    blocks = [Bottleneck(8) for _ in range(depth)]
    head = nn.Conv2d(8, 16, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    model = _seeded(nn.Sequential(*stem, *blocks, *head))
    assert isinstance(model, nn.Sequential)
    return model


def _merged(model: nn.Sequential) -> nn.Sequential:
    """The same function without a batch norm."""
    from copy import deepcopy

    def fuse(conv: nn.Module, norm: nn.Module) -> nn.Module:
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return nn.utils.fuse_conv_bn_eval(conv, norm)

    out = deepcopy(model)
    for block in out:
        if isinstance(block, Bottleneck):
            for conv, norm in (("expand", "norm1"), ("filter", "norm2"), ("project", "norm3")):
                setattr(block, conv, fuse(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    return nn.Sequential(fuse(out[0], out[1]), *out[2:])


NAMES = ["epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1_flat", "epsilon_gamma_box"]


@pytest.mark.parametrize("composite", NAMES)
def test_batch_norms_of_linear_bottlenecks_are_merged(composite: str) -> None:
    model, x = _bottlenecks(), drawn(2, 3, 12, 12, seed=1)
    found = [LRP(m, composite=composite).attribute(x, [1, 2]) for m in (model, _merged(model))]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-9)


def test_gamma_stays_bounded_after_linear_bottlenecks() -> None:
    """The generalised rule hands on less than the score; what the plain one hands on depends on who cancels whom."""
    model, x = _bottlenecks(), drawn(8, 3, 12, 12, seed=1)
    scores = model(x)[:, 1].abs()
    sizes = {}
    for rule in (GammaRule(), GeneralizedGammaRule()):
        table = composites.Composite(((0, ZBoxRule()), ("conv*", rule)), EpsilonRule(1e-6))
        sizes[type(rule)] = LRP(model, composite=table).attribute(x, 1).abs().flatten(1).sum(1)
    assert (sizes[GeneralizedGammaRule] < 0.4 * scores).all()
    assert (sizes[GammaRule] > 5 * scores).any()


@pytest.mark.parametrize("composite", NAMES)
def test_no_spot_takes_it_all_in_a_network_of_relus(composite: str) -> None:
    """A VGG and a residual net: relevance is bounded by the score times what cancels, and no pixel has most of it."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    inside = 3
    for width in (8, 8, 16, 16):
        parts += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(inplace=True)]
        parts += [nn.MaxPool2d(3, 2, 1)] if width != inside else []
        inside = width
    vgg = _seeded(nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * 16, 4)))
    x = drawn(2, 3, 16, 16, seed=1)
    for model in (vgg, _bottlenecks(2)):
        found = LRP(model, composite=composite).attribute(x, 1)
        sizes = found.abs().flatten(1)
        assert torch.isfinite(found).all()
        assert (sizes.sum(1) < 30 * model(x)[:, 1].abs()).all()
        assert (sizes.max(1).values < 0.2 * sizes.sum(1)).all()


def test_a_box_by_name_is_that_of_each_example() -> None:
    model, x = _bottlenecks(2), drawn(2, 3, 12, 12, seed=1)
    found = LRP(model, composite="epsilon_gamma_box").attribute(x, 1)
    for row in range(2):
        table = composites.epsilon_gamma_box(float(x[row].min()), float(x[row].max()))
        one = LRP(model, composite=table).attribute(x[row : row + 1], 1)
        torch.testing.assert_close(found[row : row + 1], one)
    corners = [torch.full((1, 3, 1, 1), v, dtype=D) for v in (-4.0, 4.0)]
    by_tensors = LRP(model, composite=composites.epsilon_gamma_box(*corners)).attribute(x, 1)
    torch.testing.assert_close(by_tensors, LRP(model, composite=composites.epsilon_gamma_box(-4, 4)).attribute(x, 1))


@pytest.mark.parametrize("composite", NAMES)
def test_swish_and_squeeze_and_excitation_pass_relevance_to_what_they_scale(composite: str) -> None:
    """``silu(x)`` and ``x * sigmoid(x)`` are one; a gate made of pooled channels gets nothing."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
    squeeze, head = nn.Linear(6, 6), nn.Linear(6, 2)

    class Excited(nn.Module):
        def __init__(self, written: bool, gated: bool) -> None:
            super().__init__()
            self.written, self.gated = written, gated
            self.conv, self.norm, self.squeeze, self.head = conv, norm, squeeze, head

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.conv(x))
            h = h * torch.sigmoid(h) if self.written else F.silu(h)
            gate = torch.sigmoid(self.squeeze(h.mean((2, 3))))[:, :, None, None]
            h = h * (gate if self.gated else gate.detach())
            return self.head(h.mean((2, 3)))

    models = [_seeded(Excited(*how)) for how in ((False, False), (True, False), (False, True))]
    x = drawn(2, 3, 8, 8, seed=1)
    want, *others = [LRP(model, composite=composite).attribute(x, 1) for model in models]
    for other in others:
        torch.testing.assert_close(other, want, rtol=1e-6, atol=1e-10)
