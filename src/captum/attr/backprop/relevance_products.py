"""Relevance through the operators that cost the most, in closed form: dense layers, sums, products, attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.calls import Call, reduce_to, route
from captum.attr.backprop.relevance_rules import stabilised
from captum.attr.backprop.slopes import detached, is_half, widened

Pull = Callable[[Tensor], tuple[Tensor, ...]]


#: Products with a tensor that is added, by the position of that tensor and its name.
_SUMMANDS = {
    **dict.fromkeys(("addmm", "addbmm", "baddbmm", "addmv", "addr", "addcmul"), (0, "input")),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "conv_tbc"), (2, "bias")),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (2, "bias")),
    "bilinear": (3, "bias"),
}


def summand(call: Call) -> Tensor | None:
    """The operand of a product that is added to it, and no factor."""
    found = _SUMMANDS.get(call.name)
    operand: object = None if found is None else call.argument(*found)
    return operand if isinstance(operand, Tensor) else None


def adds_up(call: Call) -> bool:
    """Whether a call that moves elements adds those that meet in one place."""
    if call.name == "index_put":
        return bool(call.argument(3, "accumulate", False))
    return call.name == "scatter" and call.kwargs.get("reduce") == "add"


def transposed(call: Call, active: list[Tensor]) -> Pull | None:
    """The transposed derivative of a call by the tensors that vary, or None where autograd has to find it."""
    if call.kwargs or any(isinstance(t, Tensor) and t.dtype != active[0].dtype for t in call.args):
        return None
    if call.name == "linear" and len(active) == 1 and call.args[0] is active[0]:
        weight = call.args[1].detach()
        return lambda g: (g @ weight,)
    if call.name == "addmm" and len(active) == 1 and len(call.args) == 3 and call.args[1] is active[0]:
        factor = call.args[2].detach()
        return lambda g: (g @ factor.t(),)
    if len(call.args) != 2 or any(not isinstance(t, Tensor) for t in call.args):
        return None
    if call.name == "add" and call.args[0] is not call.args[1]:
        likes = [t.detach() for t in active]
        return lambda g: tuple(reduce_to(g, t) for t in likes)
    if call.name in ("matmul", "bmm", "mm") and len(active) == 2 and min(t.dim() for t in active) > 1:
        a, b = (call.mode.save(t) for t in call.args)
        return lambda g: (
            reduce_to(g @ b.tensor.transpose(-1, -2), a.tensor),
            reduce_to(a.tensor.transpose(-1, -2) @ g, b.tensor),
        )
    return None


def linearised(call: Call, active: list[Tensor]) -> tuple[Tensor, Pull]:
    """The value of a call, and its transposed derivative by the tensors that vary, in single precision at least.

    Half precision has too few digits and too narrow a range for quotients R / z.
    """
    half = any(is_half(t) for t in active)
    closed = None if half else transposed(call, active)
    if closed is not None:
        return call.evaluate(detached), closed
    with torch.enable_grad():
        leaves = {id(t): widened(t.detach()).requires_grad_() for t in active}
        inner = call.evaluate(lambda t: leaves[id(t)] if id(t) in leaves else widened(t.detach()))
    inputs = [leaves[id(t)] for t in active]
    value = call.evaluate(detached) if half else inner.detach()
    return value, lambda g: torch.autograd.grad(inner, inputs, g.to(inner.dtype))


def attention(call: Call, epsilon: float) -> Any:
    """Scaled dot-product attention as its operators one by one would do it, in fewer passes over memory.

    With s = q kᵀ scale, x = s + mask, p = softmax(x), o = p v, and every division stabilised:
    G = ½ (R / o) vᵀ, R_v = v ⊙ pᵀ ½ (R / o), D = p ⊙ G − p Σ (p ⊙ G), R_q = q ⊙ ½ (D x/x s/s) k and R_k alike. Where
    that does not hold, in dropout, groups of heads, or when not all three vary, the operators are called one by one.
    """
    bound = _arguments(call)
    if bound is None:
        return _one_by_one(call)
    query, key, value, mask, scale = bound
    varies = {id(t) for t in call.active}
    if any(id(t) not in varies for t in (query, key, value)) or any(mask is t for t in call.path):
        return _one_by_one(call)
    q, k, v = (widened(t.detach()) for t in (query, key, value))
    q = q * scale
    scores = q @ k.transpose(-1, -2)
    shown = scores if mask is None else scores + _added(mask, scores)
    shares = torch.softmax(shown, -1)
    out = shares @ v
    kept = [call.mode.save(t) for t in (k, v, out)]
    floating = mask is not None and mask.dtype.is_floating_point
    shrink = _shrink(scores, epsilon)
    if floating:
        shrink = shrink * _shrink(shown, epsilon).nan_to_num_(nan=0.0)

    def pull(relevance: Tensor) -> tuple[Tensor, ...]:
        k, v, z = (s.tensor for s in kept)
        ratio = relevance.div(stabilised(z, epsilon)).mul_(0.5)
        given = (ratio @ v.transpose(-1, -2)).mul_(shares)
        given.addcmul_(shares, given.sum(-1, keepdim=True), value=-1.0).mul_(shrink).mul_(0.5)
        to_value = (shares.transpose(-1, -2) @ ratio) * v
        parts = (given @ k) * q, (given.transpose(-1, -2) @ q) * k, to_value
        return tuple(reduce_to(r, t).to(dtype) for r, t in zip(parts, (q, k, v), strict=True))

    dtype = query.dtype
    return call.settle(route(pull, out.to(dtype), query, key, value))


def _arguments(call: Call) -> tuple[Tensor, Tensor, Tensor, Tensor | None, float] | None:
    """Query, key, value, mask and scale of a call; None where the closed form does not hold."""
    query, key, value = (call.argument(i, name) for i, name in enumerate(("query", "key", "value")))
    mask, causal, scale = call.argument(3, "attn_mask"), call.argument(5, "is_causal"), call.argument(6, "scale")
    if call.argument(4, "dropout_p", 0.0) or call.argument(7, "enable_gqa") or (causal and mask is not None):
        return None
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    return query, key, value, mask, 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _one_by_one(call: Call) -> Any:
    if call.operator.decompose is None:
        return call.native()
    with call.mode:
        return call.operator.decompose(*call.args, **call.kwargs)


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """What a mask adds to scores."""
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill_(~mask, -torch.inf)


def _shrink(z: Tensor, epsilon: float) -> Tensor:
    """Z / (z + ε sign z)."""
    size = z.abs()
    return size.div_(size + epsilon)
