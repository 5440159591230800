"""Affine operators as one form y = f(x; w, b), so that a rule can put other values, weights and biases in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.calls import Call, replace_tensors
from captum.attr.backprop.rescale_norms import channels_of

_POOLS = ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
Apply = Callable[[Tensor, Any, Any], Tensor]


@dataclass(slots=True)
class Affine:
    """An affine operator of one tensor.

    Attributes:
        apply: ``(x, w, b) -> y``.
        weight: w, or None where the operator has no parameters; its own weights are then ≥ 0.
        bias: b, or None.
        scaled: gives the operator followed by a scale and a shift per channel, or None where channels are not known.
    """

    apply: Apply
    weight: Tensor | None
    bias: Tensor | None
    scaled: Callable[[Tensor, Tensor], Affine] | None = None


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _with_channels(apply: Apply, weight: Tensor, bias: Tensor | None, axis: int) -> Affine:
    """An operator whose weight has its output channels along ``axis``."""

    def scaled(scale: Tensor, shift: Tensor) -> Affine:
        shape = [1] * weight.dim()
        shape[axis] = -1
        moved = shift if bias is None else shift + scale * bias
        return _with_channels(apply, weight * scale.reshape(shape), moved, axis)

    return Affine(apply, weight, bias, scaled)


def as_affine(call: Call) -> Affine | None:
    """The form of a call, or None when more than one tensor varies or the operator is not one of these."""
    if len(call.active) != 1:
        return None
    name, x = call.name, call.active[0]
    if name == "linear" and call.args[0] is x:
        weight = call.argument(1, "weight").detach()
        return _with_channels(F.linear, weight, _detached(call.argument(2, "bias")), 0)
    if name.startswith("conv") and call.args and call.args[0] is x and name != "conv_tbc":
        return _convolution(call)
    if name == "batch_norm":
        return _batch_norm(call)
    if name == "addmm" and len(call.args) == 3 and not call.kwargs and call.args[1] is x:
        bias, weight = call.args[0].detach(), call.args[2].detach()
        return Affine(lambda t, w, b: t @ w if b is None else torch.addmm(b, t, w), weight, bias)
    if name in ("matmul", "mm", "bmm", "mv") and len(call.args) == 2:
        first = call.args[0] is x
        weight = call.args[1 if first else 0].detach()
        return Affine(_product(first), weight, None)
    return None


def pooling(call: Call) -> Affine | None:
    """The form of a pooling call, which has no parameters; None for other calls, and where indices are wanted."""
    if not call.name.startswith(_POOLS) or len(call.active) != 1 or _gives_indices(call):
        return None
    x = call.active[0]
    frozen = x.detach()
    args, kwargs = (
        replace_tensors(values, lambda t: frozen if t is x else t.detach()) for values in (call.args, call.kwargs)
    )
    evaluate = call.evaluator(args, kwargs)
    return Affine(lambda t, _w, _b: evaluate(lambda q: t if q is frozen else q), None, None)


def _gives_indices(call: Call) -> bool:
    position = 2 if call.name.startswith("adaptive") else 6
    wanted = "max_pool" in call.name and call.argument(position, "return_indices", False)
    return bool(wanted) or "with_indices" in getattr(call.function, "__name__", "")


def _product(first: bool) -> Apply:
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out = torch.matmul(x, weight) if first else torch.matmul(weight, x)
        return out if bias is None else out + bias

    return apply


def _convolution(call: Call) -> Affine:
    weight = call.argument(1, "weight").detach()
    rest = call.args[3:]
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("weight", "bias")}
    function = call.function
    transposed = "transpose" in call.name
    groups = call.argument(6, "groups", 1)

    def apply(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return function(x, w, b, *rest, **kwargs)

    affine = _with_channels(apply, weight, _detached(call.argument(2, "bias")), 1 if transposed else 0)
    if transposed and groups != 1:
        affine.scaled = None
    return affine


def _batch_norm(call: Call) -> Affine | None:
    args: list[Any] = [
        call.argument(i, n) for i, n in enumerate(("input", "running_mean", "running_var", "weight", "bias"))
    ]
    x, mean, variance, gain, shift = args
    if call.argument(5, "training", False) or mean is None:
        return None
    scale = (variance + call.argument(7, "eps", 1e-5)).rsqrt()
    scale = scale if gain is None else scale * gain.detach()
    offset = -mean * scale if shift is None else shift.detach() - mean * scale

    def apply(t: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        out = t * channels_of(w, x_like)
        return out if b is None else out + channels_of(b, x_like)

    x_like = x.detach()
    return Affine(apply, scale, offset)
