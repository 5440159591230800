"""Rescale rules in closed form of softmax and its kin, and of the normalising operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.calls import Call, route
from captum._engine.rules import Rule
from captum.attr.backprop.slopes import detached


def logarithmic_mean(y: Tensor, y0: Tensor, log_y: Tensor, log_y0: Tensor) -> Tensor:
    """(y − y₀) / (log y − log y₀), in a form that is stable where they are close, and 0 where one of them is 0."""
    gap = log_y - log_y0
    gap = torch.where(gap.isnan(), torch.zeros_like(gap), gap)
    half = torch.where(gap == 0, torch.ones_like(gap), gap / 2).clamp(-1, 1)
    ratio = torch.where(gap == 0, torch.ones_like(gap), half.sinh() / half)
    close = ((log_y + log_y0) / 2).exp() * ratio
    far = (y - y0) / torch.where(gap == 0, torch.ones_like(gap), gap)
    return torch.where(gap.abs() < 2, close, far)


def _means(x: Tensor, x0: Tensor, dim: int) -> Tensor:
    """For each entry of a softmax: the mean value that makes Δy = mean · (Δx − ΔL), L = log Σ exp x."""
    log_y, log_y0 = torch.log_softmax(x, dim), torch.log_softmax(x0, dim)
    return logarithmic_mean(log_y.exp(), log_y0.exp(), log_y, log_y0)


def _one_operand(call: Call) -> Tensor | None:
    """The only tensor that varies, or None when no derivative is needed."""
    active = call.active
    if len(active) > 1:
        call.mode.complain(call.function, f"{call.name} with parameters that vary")
    return active[0] if active else None


def _dim(call: Call, x: Tensor) -> int:
    dim = call.argument(1, "dim")
    return (0 if x.dim() in (0, 1, 3) else 1) if dim is None else dim


def softmax(call: Call) -> Any:
    """Δy_i = m_i (Δx_i − Σ_j w_j Δx_j) with logarithmic means m and w = m / Σ m."""
    x = _one_operand(call)
    if x is None:
        return call.native()
    dim = _dim(call, x)
    value, other = call.evaluate(detached), call.twin_value()
    mean = _means(x.detach().to(value.dtype), call.mode.twin(x).to(value.dtype), dim)
    weights = mean / mean.sum(dim, keepdim=True)

    def pull(grad: Tensor) -> tuple[Tensor]:
        weighted = grad * mean
        return ((weighted - weights * weighted.sum(dim, keepdim=True)).to(x_dtype),)

    x_dtype = x.dtype
    return call.settle(route(pull, value, x), other)


def log_softmax(call: Call) -> Any:
    """Δy_i = Δx_i − Σ_j w_j Δx_j with the weights w of softmax."""
    x = _one_operand(call)
    if x is None:
        return call.native()
    dim = _dim(call, x)
    value, other = call.evaluate(detached), call.twin_value()
    mean = _means(x.detach().to(value.dtype), call.mode.twin(x).to(value.dtype), dim)
    weights = mean / mean.sum(dim, keepdim=True)
    x_dtype = x.dtype
    out = route(lambda g: ((g - weights * g.sum(dim, keepdim=True)).to(x_dtype),), value, x)
    return call.settle(out, other)


def logsumexp(call: Call) -> Any:
    """ΔL = Σ_j w_j Δx_j with the weights w of softmax."""
    x = _one_operand(call)
    if x is None:
        return call.native()
    chosen = call.argument(1, "dim")
    keep = bool(call.argument(2, "keepdim", False))
    dims = [chosen] if isinstance(chosen, int) else list(chosen)
    value, other = call.evaluate(detached), call.twin_value()
    here, there = x.detach(), call.mode.twin(x)
    log_y = here - here.logsumexp(dims, keepdim=True)
    log_y0 = there - there.logsumexp(dims, keepdim=True)
    mean = logarithmic_mean(log_y.exp(), log_y0.exp(), log_y, log_y0)
    weights = mean / mean.sum(dims, keepdim=True)
    order = sorted(d % x.dim() for d in dims)

    def pull(grad: Tensor) -> tuple[Tensor]:
        if not keep:
            for d in order:
                grad = grad.unsqueeze(d)
        return (grad * weights,)

    return call.settle(route(pull, value, x), other)


def normalise(
    call: Call,
    group: Callable[[Tensor], Tensor],
    gain: Tensor | None,
    eps: float,
    *,
    centred: bool = True,
    ungroup: Callable[[Tensor, torch.Size], Tensor] = torch.Tensor.reshape,
) -> Any:
    """Y = γ z, z = c r, r = 1 / √(mean(c²) + ε), c = x − mean(x): Δz = h Δc − h² z̄ mean(c̄ Δc), h = 2 r r₀ / (r + r₀).

    That is the product rule for c = z / r, solved for Δz. The one for z = c r would carry (r + r₀) / 2, which is large
    where one of both values is nearly constant, as embeddings of zeros are, and cancels in the sum alone.

    Args:
        call: the call.
        group: brings the elements that are normalised together to the last dim.
        gain: γ, shaped to multiply the input, or None.
        eps: ε.
        centred: whether the mean is taken off first.
        ungroup: the reverse of ``group``, given the shape of the input.
    """
    x = _one_operand(call)
    if x is None:
        return call.native()
    value, other = call.evaluate(detached), _twin_of_norm(call)
    here, there = group(x.detach()), group(call.mode.twin(x))
    c, c0 = (t - t.mean(-1, keepdim=True) if centred else t for t in (here, there))
    r, r0 = ((t.square().mean(-1, keepdim=True) + eps).rsqrt() for t in (c, c0))
    middle, scale, mean = (c + c0) / 2, 2 * r * r0 / (r + r0), (c * r + c0 * r0) / 2
    steep = -scale.square() / middle.shape[-1]
    shape, dtype = x.shape, x.dtype

    def pull(grad: Tensor) -> tuple[Tensor]:
        u = group(grad if gain is None else grad * gain)
        pulled = scale * u + middle * (steep * (u * mean).sum(-1, keepdim=True))
        if centred:
            pulled = pulled - pulled.mean(-1, keepdim=True)
        return (ungroup(pulled, shape).to(dtype),)

    return call.settle(route(pull, value, x), other)


def _twin_of_norm(call: Call) -> Tensor:
    """The value for the baseline; running statistics are updated by the input alone."""
    if call.name not in ("batch_norm", "instance_norm"):
        return call.twin_value()
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    args = (call.mode.twin(call.args[0]), None, None, weight, bias, True)
    eps = call.argument(7, "eps", 1e-5)
    with torch.no_grad():
        return (F.batch_norm if call.name == "batch_norm" else F.instance_norm)(*args, eps=eps)


def layer_norm(call: Call) -> Any:
    """Normalise over the last dims, centred."""
    count = len(call.argument(1, "normalized_shape"))
    eps = call.argument(4, "eps", 1e-5)
    return normalise(call, lambda t: t.flatten(-count), call.argument(2, "weight"), eps)


def rms_norm(call: Call) -> Any:
    """Normalise over the last dims, not centred."""
    count = len(call.argument(1, "normalized_shape"))
    eps = call.argument(3, "eps")
    eps = torch.finfo(call.args[0].dtype).eps if eps is None else eps
    return normalise(call, lambda t: t.flatten(-count), call.argument(2, "weight"), eps, centred=False)


def group_norm(call: Call) -> Any:
    """Normalise over groups of channels."""
    groups = call.argument(1, "num_groups")
    eps = call.argument(4, "eps", 1e-5)
    gain = per_channel(call.argument(2, "weight"), call.args[0])
    return normalise(call, lambda t: t.reshape(t.shape[0], groups, -1), gain, eps)


def instance_norm(call: Call) -> Any:
    """Normalise each channel of each example; affine with running statistics."""
    if not call.argument(5, "use_input_stats", True):
        return call.native()
    gain = per_channel(call.argument(3, "weight"), call.args[0])
    return normalise(call, lambda t: t.flatten(2), gain, call.argument(7, "eps", 1e-5))


def batch_norm(call: Call) -> Any:
    """Affine with running statistics; with statistics of the batch, normalise each channel over the batch."""
    if not call.argument(5, "training", False):
        return call.native()
    gain = per_channel(call.argument(3, "weight"), call.args[0])

    def ungroup(lines: Tensor, shape: torch.Size) -> Tensor:
        return lines.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1)

    return normalise(call, lambda t: t.transpose(0, 1).flatten(1), gain, call.argument(7, "eps", 1e-5), ungroup=ungroup)


def per_channel(weight: Tensor | None, like: Tensor) -> Tensor | None:
    """A weight per channel, or None, shaped to multiply ``like``."""
    return None if weight is None else channels_of(weight, like)


def channels_of(weight: Tensor, like: Tensor) -> Tensor:
    """A weight per channel, shaped to multiply ``like``."""
    return weight.detach().reshape(-1, *[1] * (like.dim() - 2))


NORMS: dict[str, Rule] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm": batch_norm,
}
