"""Calls of every kind of operator in one small function each, for the tests of the rules."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]
CALLS: dict[str, Function] = {}
D = torch.float64


def call(function: Function) -> Function:
    CALLS[function.__name__] = function
    return function


def _one(name: str, function: Function) -> None:
    CALLS[name] = function


def _raised(base: Tensor, power: Tensor) -> Tensor:
    base.pow_(power)
    return base * power


# x is (4, 6); every function gives (4, *)
# ruff: noqa: B008
for _name in [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "sigmoid",
    "logsigmoid",
    "tanh",
    "softplus",
    "softsign",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softshrink",
    "hardshrink",
    "tanhshrink",
]:
    _one(f"F.{_name}", lambda x, f=getattr(F, _name): f(x * 2))
for _name in [
    "exp",
    "exp2",
    "erfc",
    "expm1",
    "sin",
    "cos",
    "atan",
    "sinh",
    "erf",
    "square",
    "abs",
    "sigmoid",
    "tanh",
    "asinh",
    "round",
    "floor",
    "sinc",
]:
    _one(f"torch.{_name}", lambda x, f=getattr(torch, _name): f(x))
    if hasattr(Tensor, _name):
        _one(f"x.{_name}()", lambda x, n=_name: getattr(x, n)())
for _name in ["log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "lgamma", "digamma", "acosh"]:
    _one(f"torch.{_name}", lambda x, f=getattr(torch, _name): f(x.abs() + 1.1))
_one("gelu tanh form", lambda x: F.gelu(x, approximate="tanh"))
_one("prelu", lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)))
_one("clamp", lambda x: x.clamp(-0.5, 0.5))
_one("threshold", lambda x: F.threshold(x, 0.1, 20.0))
_one("pow", lambda x: (x.abs() + 1).pow(2.5) + 2**x)
_one("pow of two", lambda x: (x.abs() + 1) ** x)
_one("max with index", lambda x: x.max(1)[0])
_one("min with index", lambda x: x.min(1).values)
_one("max of all", lambda x: x.max() * x)
_one("amax", lambda x: x.amax(1, keepdim=True) * x)
_one("amin over two dims", lambda x: x.view(4, 2, 3).amin((1, 2)))
_one("maximum", lambda x: torch.maximum(x, x * x))
_one("minimum", lambda x: torch.minimum(x, torch.zeros_like(x)))
_one("max_pool1d overlapping", lambda x: F.max_pool1d(x[:, None].tanh(), 3, 1, 1))
_one("max_pool2d padded", lambda x: F.max_pool2d(x.view(4, 1, 2, 3), (2, 2), 1, 1))
_one("max_pool2d dilated", lambda x: F.max_pool2d(x.repeat(1, 6).view(4, 1, 6, 6), 2, 2, dilation=2))
_one("max_pool3d", lambda x: nn.MaxPool3d(2, 1)(x.repeat(1, 2).view(4, 1, 2, 2, 3)))
_one("max_pool with ties", lambda x: F.max_pool1d(x[:, None].relu(), 3, 2))
_one("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x[:, None], 2))
_one("adaptive_max_pool2d", lambda x: nn.AdaptiveMaxPool2d(2)(x.view(4, 1, 2, 3)))
_one("avg_pool", lambda x: F.avg_pool1d(x[:, None], 3, 2, 1).exp())
_one("lp_pool", lambda x: F.lp_pool1d(x[:, None].abs() + 0.1, 2, 3, 2))
_one("a / b", lambda x: x / (x * x + 1))
_one("1 / b", lambda x: 1 / (2 + x.abs()))
_one("a / const", lambda x: (x / 3).tanh())
_one("1 - b", lambda x: (1 - x).exp())
_one("a - a.mean", lambda x: (x - x.mean(1, keepdim=True)).exp())
_one("mul", lambda x: x * x.sin())
_one("mul of itself", lambda x: x * x)
_one("matmul", lambda x: x.unsqueeze(2) @ x.tanh().unsqueeze(1))
_one("bmm", lambda x: torch.bmm(x[:, :, None], x.exp()[:, None]))
_one("einsum", lambda x: torch.einsum("bi,bj->bij", x, x.sin()))
_one("bilinear", lambda x: F.bilinear(x, x.tanh(), torch.ones(2, 6, 6, dtype=x.dtype)))
_one("addcmul", lambda x: torch.addcmul(x, x, x.sin(), value=2))
_one("addcdiv", lambda x: torch.addcdiv(x, x, x * x + 1))
_one("lerp", lambda x: torch.lerp(x, x.tanh(), 0.3))
_one("lerp near the end", lambda x: (x + 0).lerp_(x.tanh(), 0.7))
_one("lerp by a gate", lambda x: x.tanh().lerp(x, x.sigmoid()))
_one("pow in place", lambda x: _raised(x.abs() + 1, x))
_one("softmax", lambda x: F.softmax(x * 3, 1) * x)
_one("softmax of far values", lambda x: F.softmax(x * 200, -1)[:, :2])
_one("softmin", lambda x: F.softmin(x, 1) * x)
_one("log_softmax", lambda x: F.log_softmax(x, 1)[:, 1])
_one("logsumexp", lambda x: x.logsumexp(1))
_one("logaddexp", lambda x: torch.logaddexp(x, x * x))
_one("softmax under a mask", lambda x: F.softmax(x.masked_fill(torch.eye(6)[:4].bool(), -torch.inf), 1) * x)
_one("softmax less detached max", lambda x: (x - x.max(1, keepdim=True)[0].detach()).exp())
_one("layer_norm", lambda x: F.layer_norm(x, [6], torch.arange(6.0, dtype=x.dtype)).tanh())
_one("rms_norm", lambda x: F.rms_norm(x, [6]).tanh())
_one("group_norm", lambda x: F.group_norm(x.view(4, 2, 3), 2, torch.tensor([1.0, 2.0], dtype=x.dtype)).tanh())
_one("instance_norm", lambda x: F.instance_norm(x.view(4, 2, 3)).tanh())
_one("hand-made rms norm", lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6))
_one("local_response_norm", lambda x: F.local_response_norm(x[:, :, None], 3))
_one("normalize", lambda x: F.normalize(x).tanh())
_one("cosine_similarity", lambda x: F.cosine_similarity(x, x.tanh() + 1))
_one("pairwise_distance", lambda x: F.pairwise_distance(x, x.tanh()))
_one("norm", lambda x: x * x.norm(dim=1, keepdim=True))
_one("torch.norm", lambda x: x * torch.norm(x, dim=1, keepdim=True))
_one("linalg.norm", lambda x: x / torch.linalg.norm(x, dim=1, keepdim=True))
_one("vector_norm 3", lambda x: x / torch.linalg.vector_norm(x, 3, dim=1, keepdim=True))
_one("var", lambda x: x * x.var(1, keepdim=True))
_one("std", lambda x: x / x.std(1, unbiased=False)[:, None])
_one("var_mean", lambda x: torch.var_mean(x, 1)[0][:, None] * x)
_one("prod", lambda x: x.prod(1))
_one("sum and mean", lambda x: x.sum(1, keepdim=True).tanh() * x.mean())
_one("cumsum", lambda x: x.cumsum(1).tanh())
_one("glu", F.glu)
_one("sort", lambda x: x.sort(1)[0] * torch.arange(6))
_one("topk", lambda x: x.topk(3, 1)[0].tanh())
_one("where", lambda x: torch.where(x > 0, x, 0.1 * x))
_one("times a mask", lambda x: x * (x > 0))
_one("masked_fill", lambda x: x.masked_fill(x < 0, 0.0).tanh())
_one("index by argmax", lambda x: x[torch.arange(4), x.argmax(1)])
_one("gather", lambda x: x.gather(1, x.argsort(1)) * torch.arange(6))
_one("cat split chunk stack", lambda x: torch.stack(torch.cat([x, x.tanh()], 1).split(4, 1)[1].chunk(2, 1), 2).exp())
_one("transposes", lambda x: (x.T * 2).mT.tanh().permute(0, 1).flip(1))
_one("pad roll repeat", lambda x: F.pad(x, (1, 2), value=0.5).roll(1, 1).repeat(1, 2).tanh())
_one("interpolate", lambda x: F.interpolate(x.view(4, 1, 2, 3), scale_factor=2, mode="bilinear").relu())
_one("unbind", lambda x: sum(part.tanh() * i for i, part in enumerate(x.unbind(1))))
_one("dtype there and back", lambda x: x.to(torch.float64).tanh().to(x.dtype))
_one("dropout in eval", lambda x: F.dropout(x, 0.5, training=False).tanh())
_one(
    "sdpa", lambda x: F.scaled_dot_product_attention(x.view(4, 1, 3, 2), x.view(4, 1, 3, 2).tanh(), x.view(4, 1, 3, 2))
)
_one("causal sdpa", lambda x: F.scaled_dot_product_attention(*[x.view(4, 1, 3, 2)] * 3, is_causal=True))


@call
def writes_into_a_constant(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    window = out[:, 1:3]
    window.copy_(x[:, :2])
    out[:, 0] = x[:, 5].tanh()
    return out * out


@call
def works_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y += x
    y *= x.sigmoid()
    y.view(-1).relu_()
    F.silu(y, inplace=True)
    y.mul_(y)
    return y


@call
def overwrites_through_a_view(x: Tensor) -> Tensor:
    y = x * 1
    y[:, :3].relu_()
    nn.ReLU(inplace=True)(y)
    return y.tanh_()


# operands by the names that torch has for them
_MIX = torch.linspace(-1, 2, 36, dtype=D).reshape(6, 6).sin()
for _name, _function in {
    "linear": lambda x: F.linear(input=x.tanh(), weight=_MIX, bias=_MIX[0]),
    "layer norm": lambda x: F.layer_norm(input=x.tanh(), normalized_shape=(6,), weight=_MIX[0]) * _MIX[1],
    "batch norm": lambda x: F.batch_norm(input=x.tanh(), running_mean=_MIX[0], running_var=_MIX[1] ** 2 + 1),
    "group norm": lambda x: F.group_norm(input=x.tanh(), num_groups=2, weight=_MIX[0]),
    "quotient": lambda x: torch.div(input=x.tanh(), other=x.exp()),
    "product": lambda x: torch.mul(input=x.tanh(), other=x.exp()),
    "difference": lambda x: torch.sub(input=x.tanh(), other=x.exp(), alpha=2),
    "power": lambda x: torch.pow(input=x.exp(), exponent=x.sigmoid()),
    "mm": lambda x: torch.mm(input=x.tanh(), mat2=_MIX),
    "addmm": lambda x: torch.addmm(input=_MIX[0], mat1=x.tanh(), mat2=_MIX, beta=0.5),
    "larger": lambda x: torch.maximum(input=x, other=x.tanh() * 2),
    "sum of sizes": lambda x: torch.sum(input=x**2, dim=1),
    "softmax": lambda x: torch.softmax(input=x, dim=-1) * _MIX[0],
    "where": lambda x: torch.where(condition=x > 0, input=x * 2, other=x.tanh()),
    "dropout": lambda x: F.dropout(input=x.tanh(), p=0.5, training=False),
    "relu in place": lambda x: F.relu(input=x * 2, inplace=True),
    "sort": lambda x: torch.sort(input=x, dim=-1)[0] * _MIX[0],
    "glu": lambda x: F.glu(input=x, dim=-1),
    "addcdiv": lambda x: torch.addcdiv(input=x, tensor1=x.tanh(), tensor2=x.exp(), value=2),
    "logaddexp": lambda x: torch.logaddexp(x, other=x.tanh()),
    "lerp": lambda x: torch.lerp(input=x, end=x.tanh(), weight=x.sigmoid()),
}.items():
    _one(f"{_name} by keywords", _function)
_one("multi_dot", lambda x: torch.linalg.multi_dot([x.tanh(), _MIX, _MIX[:, :3]]))


@call
def writes_to_a_view_that_an_operator_gave(x: Tensor) -> Tensor:
    scores = torch.einsum("bxhd,byhd->bhxy", x.view(-1, 2, 1, 3), x.tanh().view(-1, 2, 1, 3))
    scores[:, :, 0, 1] = -1.5
    scores.masked_fill_(scores > 2, 0.3)
    return scores.softmax(-1).flatten(1) * _MIX[0, :4]


_TURNS = torch.polar(torch.ones(3, dtype=D), torch.arange(1.0, 4.0, dtype=D))
_POINTS = torch.linspace(-1.2, 1.1, 4 * 2 * 3 * 2, dtype=D).reshape(4, 2, 3, 2)
for _name, _function in {
    "turned by complex numbers": lambda x: torch.view_as_real(
        torch.view_as_complex(x.tanh().reshape(-1, 3, 2)) * _TURNS
    ).flatten(1),
    "complex numbers that vary": lambda x: (
        (torch.complex(x[:, :3], x[:, 3:]) * torch.polar(x[:, 3:].exp(), x[:, :3])).imag
    ),
    "a quotient of complex numbers": lambda x: (
        (torch.complex(x[:, :3], x[:, 3:]) / torch.complex(x[:, 3:].exp(), x[:, :3])).real
    ),
    "sizes of complex numbers": lambda x: (torch.complex(x[:, :3], x[:, 3:]) + 2 - (x[:, :3] + 1j)).conj().abs(),
    "products of complex matrices": lambda x: (
        (torch.complex(x, x.tanh()) @ torch.complex(_MIX, _MIX.T) + (-torch.complex(x, x)).sum(-1, keepdim=True)).real
    ),
    "complex numbers in place": lambda x: torch.view_as_complex((x * 2).reshape(-1, 3, 2)).mul_(_TURNS).imag,
    "cdist": lambda x: torch.cdist(x.view(-1, 2, 3), x.tanh().view(-1, 2, 3)).flatten(1),
    "cdist of itself": lambda x: torch.cdist(x.view(-1, 3, 2), x.view(-1, 3, 2)).flatten(1),
    "cdist, absolute": lambda x: torch.cdist(x.view(-1, 2, 3), _MIX[:, :3], p=1).flatten(1),
    "max_unpool1d": lambda x: F.max_unpool1d(x.tanh()[:, None], torch.arange(6).mul(2).expand(len(x), 1, 6), 2)[:, 0],
    "max_unpool2d after its pool": lambda x: F.max_unpool2d(
        *F.max_pool2d(x.view(-1, 1, 2, 3), (1, 3), return_indices=True), (1, 3)
    ).flatten(1),
    "max_unpool3d": lambda x: F.max_unpool3d(
        x.view(-1, 1, 1, 1, 6), torch.arange(6).mul(2).expand(len(x), 1, 1, 1, 6), (1, 1, 2)
    ).flatten(1),
    "affine_grid": lambda x: F.affine_grid(x.tanh().view(-1, 2, 3), [len(x), 1, 2, 2], align_corners=False).flatten(1),
}.items():
    _one(_name, _function)
for _mode in ("bilinear", "nearest", "bicubic"):
    _one(
        f"grid_sample pool {_mode}",
        lambda x, m=_mode: F.grid_sample(x.view(4, 1, 2, 3).exp(), _POINTS, m, "border", align_corners=False).flatten(
            1
        ),
    )


def _classes(x: Tensor) -> Tensor:
    return torch.ones(len(x), dtype=torch.long)


_SHARE = torch.linspace(0.1, 0.9, 6, dtype=D)
for _name, _function in {
    "mse_loss": lambda x: F.mse_loss(x.tanh(), _MIX[0].expand_as(x), reduction="none"),
    "mse_loss of a mean": lambda x: torch.stack([F.mse_loss(row, _MIX[0]) for row in x]),
    "mse_loss with weights": lambda x: torch.stack([F.mse_loss(row, _MIX[0], weight=_SHARE) for row in x]),
    "l1_loss": lambda x: F.l1_loss(x, x.tanh() * 2, reduction="none"),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x * 2, _MIX[0].expand_as(x), reduction="none", beta=0.7),
    "nll_loss": lambda x: F.nll_loss(x.tanh(), _classes(x), reduction="none"),
    "nll_loss with weights": lambda x: F.nll_loss(x.tanh(), _classes(x), weight=_SHARE, reduction="none"),
    "nll_loss that ignores": lambda x: F.nll_loss(x.tanh(), _classes(x), ignore_index=1, reduction="none"),
    "nll_loss of a mean": lambda x: torch.stack([F.nll_loss(row.tanh()[None], _classes(row[:1]), _SHARE) for row in x]),
    "cross_entropy": lambda x: F.cross_entropy(x, _classes(x), reduction="none"),
    "cross_entropy of maps": lambda x: F.cross_entropy(
        x.view(-1, 2, 3), torch.ones(len(x), 3, dtype=torch.long), reduction="none"
    ),
    "cross_entropy of shares": lambda x: F.cross_entropy(x, _SHARE.expand_as(x), reduction="none", label_smoothing=0.1),
    "cross_entropy of one row": lambda x: torch.stack([F.cross_entropy(row, torch.tensor(2)) for row in x]),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x.sigmoid(), _SHARE.expand_as(x), reduction="none"),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(
        x, _SHARE.expand_as(x), weight=_SHARE, pos_weight=_SHARE + 1, reduction="none"
    ),
    "median": lambda x: x.tanh().median(1).values,
    "median with its dim": lambda x: torch.median(x.view(-1, 2, 3), dim=1, keepdim=True)[0].flatten(1),
    "median of all": lambda x: torch.stack([row.tanh().median() for row in x]),
    "kthvalue": lambda x: torch.kthvalue(x * _MIX[0], 2)[0],
    "cumprod": lambda x: torch.cumprod(x.sigmoid(), 1),
    "hypot": lambda x: torch.hypot(x, x.tanh() + 1),
    "pdist": lambda x: torch.stack([torch.pdist(row.view(3, 2)).sum() for row in x]),
    "rrelu": lambda x: F.rrelu(x * 2),
    "rrelu in place": lambda x: F.rrelu(x * 2, inplace=True),
    "trapezoid": lambda x: torch.trapezoid(x.tanh(), dx=0.5, dim=1),
    "trapezoid over varying steps": lambda x: torch.trapezoid(x.tanh(), x.exp(), dim=1),
    "deg2rad and back": lambda x: torch.rad2deg(torch.deg2rad(x * 30).tanh()),
    "unsafe_chunk in place": lambda x: torch.cat([part.mul_(2).relu_() for part in (x + 1).unsafe_chunk(2, 1)], 1),
    "unsafe_split": lambda x: (x.unsafe_split(2, 1)[1] * x.unsafe_split_with_sizes([2, 4], 1)[0]).tanh(),
    "sum_to_size": lambda x: x.tanh().sum_to_size(len(x), 1),
    "adjoint": lambda x: (x.view(-1, 2, 3).adjoint() * _MIX[:3, :2]).tanh().flatten(1),
    "ndtr": lambda x: torch.special.ndtr(x) + torch.special.log_ndtr(x) + torch.special.i0e(x),
    "entr": lambda x: (
        torch.special.entr(x.sigmoid()) + torch.special.erfcx(x.sigmoid()) + torch.special.ndtri(x.sigmoid())
    ),
}.items():
    _one(_name, _function)
