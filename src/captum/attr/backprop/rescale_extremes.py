"""Rescale rules of operators that pick the largest or smallest of some elements.

All of Δout goes to the element that made the more extreme of the two outputs. That element's own difference is at least
as large as Δout and has its sign, so that the multiplier lies in [0, 1]. Contributions of overlapping windows add up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.calls import Call, reduce_to, route
from captum.attr.backprop.slopes import detached, secant

Picker = Callable[[Tensor], tuple[Tensor, Tensor]]
_POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_POOL_DEFAULTS = (None, None, 0, 1, False)
_POOLS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "max_pool1d": F.max_pool1d_with_indices,
    "max_pool2d": F.max_pool2d_with_indices,
    "max_pool3d": F.max_pool3d_with_indices,
    "adaptive_max_pool1d": F.adaptive_max_pool1d_with_indices,
    "adaptive_max_pool2d": F.adaptive_max_pool2d_with_indices,
    "adaptive_max_pool3d": F.adaptive_max_pool3d_with_indices,
}
_SMALLEST = {"min", "amin", "minimum", "fmin"}


def extreme(call: Call, eps: float) -> Any:
    """The rule of every operator of this kind."""
    if not call.active:
        return call.native()
    if call.name in _POOLS:
        return _pool(call, eps)
    second = call.argument(1, "other", call.argument(1, "dim"))
    if isinstance(second, Tensor):
        return _pairwise(call, second, eps)
    return _reduction(call, eps)


def _pool(call: Call, eps: float) -> Any:
    dims = int(call.name[-2])
    x = call.active[0]
    pool = _POOLS[call.name]
    if call.name.startswith("adaptive"):
        size = call.argument(1, "output_size")
        wanted = bool(call.argument(2, "return_indices", False))

        def pick(t: Tensor) -> tuple[Tensor, Tensor]:
            return pool(t, size)
    else:
        settings = [
            call.argument(i + 1, n, d) for i, (n, d) in enumerate(zip(_POOL_ARGUMENTS, _POOL_DEFAULTS, strict=True))
        ]
        wanted = bool(call.kwargs.get("return_indices", False)) or (len(call.args) > 6 and call.args[6] is True)

        def pick(t: Tensor) -> tuple[Tensor, Tensor]:
            return pool(t, settings[0], settings[1] or None, *settings[2:4], ceil_mode=settings[4])

    result = _select(call, x, pick, lambda t: t.flatten(-dims), lambda t, like: t.reshape(like), eps)
    return _finish(call, result, wanted or "with_indices" in getattr(call.function, "__name__", ""))


def _select(
    call: Call,
    x: Tensor,
    pick: Picker,
    flat: Callable[[Tensor], Tensor],
    unflat: Callable[[Tensor, torch.Size], Tensor],
    eps: float,
) -> tuple[Any, ...]:
    """Pick for both values, route Δout to the winner; ``flat`` brings the positions that indices count to the end."""
    here, there = x.detach(), call.mode.twin(x)
    with torch.no_grad():
        (value, index), (other, other_index) = pick(here), pick(there)
        wins = value <= other if call.name in _SMALLEST else value >= other
        shape = index.shape
        winner = torch.where(wins, index, other_index)
        delta = flat(here - there)
        lines = winner.reshape(*delta.shape[:-1], -1)
        slope = secant((value - other).reshape(lines.shape), delta.gather(-1, lines), eps, 1.0)

    flat_shape, x_shape = delta.shape, x.shape

    def pull(grad: Tensor, *_rest: Tensor) -> tuple[Tensor]:
        spread = grad.new_zeros(flat_shape).scatter_add(-1, lines, grad.reshape(lines.shape) * slope)
        return (unflat(spread, x_shape),)

    return route(pull, value, x), other, index.reshape(shape), other_index


def _finish(call: Call, result: tuple[Any, ...], indices: bool) -> Any:
    out, other, index, other_index = result
    if not indices:
        return call.settle(out, other)
    call.mode.mark_all((out, index), (other, other_index))
    return out, index


def _reduction(call: Call, eps: float) -> Any:
    x = call.active[0]
    dim = call.argument(1, "dim")
    keep = bool(call.argument(2, "keepdim", False))
    chosen = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    dims = sorted({d % max(x.dim(), 1) for d in chosen})
    count = len(dims)

    def flat(t: Tensor) -> Tensor:
        return t.movedim(dims, list(range(-count, 0))).flatten(-count) if count else t.reshape(1)

    def pick(t: Tensor) -> tuple[Tensor, Tensor]:
        line = flat(t)
        value, index = (line.min(-1) if call.name in _SMALLEST else line.max(-1))[:2]
        shape = [1 if d in dims else s for d, s in enumerate(t.shape)] if keep else value.shape
        return value.reshape(shape), index.reshape(shape)

    def unflat(t: Tensor, shape: torch.Size) -> Tensor:
        rest = [s for d, s in enumerate(shape) if d not in dims]
        return (
            t.reshape(*rest, *[shape[d] for d in dims]).movedim(list(range(-count, 0)), dims)
            if count
            else t.reshape(shape)
        )

    out, other, index, other_index = _select(call, x, pick, flat, unflat, eps)
    if call.name in ("max", "min") and isinstance(dim, int):
        kind = torch.return_types.max if call.name == "max" else torch.return_types.min
        call.mode.mark_all((out, index), (other, other_index))
        return kind((out, index))
    return call.settle(out, other)


def _pairwise(call: Call, second: Tensor, eps: float) -> Any:
    first: Tensor = call.args[0]
    mode = call.mode
    value, other = call.evaluate(detached), call.twin_value()
    a, b = torch.broadcast_tensors(first.detach(), second.detach())
    a0, b0 = torch.broadcast_tensors(mode.twin(first), mode.twin(second))
    smallest = call.name in _SMALLEST
    from_first = torch.where(
        value <= other if smallest else value >= other,
        a <= b if smallest else a >= b,
        a0 <= b0 if smallest else a0 >= b0,
    )
    rise = value - other
    slopes = {
        id(first): secant(rise, a - a0, eps, 1.0) * from_first,
        id(second): secant(rise, b - b0, eps, 1.0) * ~from_first,
    }
    active = [t for t in (first, second) if t.requires_grad and any(t is p for p in call.active)]
    likes = [t.detach() for t in active]
    factors = [slopes[id(t)] for t in active]
    out = route(lambda g: tuple(reduce_to(g * s, t) for s, t in zip(factors, likes, strict=True)), value, *active)
    return call.settle(out, other)
