"""Slopes between two points, and derivatives of an operator call at chosen points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum._engine.calls import Call, replace_tensors


def detached(tensor: Tensor) -> Tensor:
    """The tensor without its history."""
    return tensor.detach()


def distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, each once, in order."""
    return list({id(t): t for t in tensors}.values())


def some(mask: Tensor) -> bool:
    """Whether a mask is set anywhere; yes where values cannot be read."""
    return mask.is_meta or bool(mask.any())


def at_least(eps: float, like: Tensor) -> float:
    """A threshold or stabiliser that does not vanish in the tensor's dtype, as 1e-10 does in half precision."""
    return max(eps, torch.finfo(like.dtype).tiny)


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor's sums and quotients need a wider dtype."""
    return tensor.dtype in (torch.float16, torch.bfloat16)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in single precision, if it has half."""
    return tensor.float() if is_half(tensor) else tensor


def secant(rise: Tensor, run: Tensor, eps: float, otherwise: float) -> Tensor:
    """Rise / run, and ``otherwise`` where run is 0, below ``eps`` or undefined."""
    usable = (run.abs() >= eps) & (run != 0)
    return torch.where(usable, rise / torch.where(usable, run, 1.0), otherwise)


def same_conditions(call: Call) -> bool:
    """Tell whether the operands that no derivative follows (masks, indices) are the same for input and baseline."""
    return all(t.is_meta or torch.equal(t, call.mode.twin(t)) for t in call.passive)


def bends(call: Call) -> bool:
    """Complain where the points at which a call reads its tensor vary: it is linear at points that are constants."""
    grid = call.argument(1, "grid")
    if not any(grid is t for t in call.active):
        return False
    call.mode.complain(call.function, f"{call.name} at points that vary")
    return True


def derivative_at(
    call: Call, operands: Sequence[Tensor], points: Sequence[Tensor]
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The transposed derivative of a call by ``operands`` when they have the values ``points``.

    What is returned holds no tensor of the graph, so that in-place calls make no cycles.
    """
    position = {id(t): i for i, t in enumerate(operands)}
    kept: dict[int, int] = {}

    def freeze(tensor: Tensor) -> Tensor:
        frozen = tensor.detach()
        if id(tensor) in position:
            frozen = points[position[id(tensor)]].detach()
            kept[id(frozen)] = position[id(tensor)]
        return frozen

    args, kwargs = replace_tensors(call.args, freeze), replace_tensors(call.kwargs, freeze)
    evaluate = call.evaluator(args, kwargs)
    likes = list(points)

    def pull(grad: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [p.detach().requires_grad_() for p in likes]
            value = evaluate(lambda t: leaves[kept[id(t)]] if id(t) in kept else t)
            return torch.autograd.grad(value, leaves, grad.to(value.dtype))

    return pull
