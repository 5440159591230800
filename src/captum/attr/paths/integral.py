"""Integrals of the gradient along a straight path, streamed over steps and rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from captum._engine.drive import Function
from captum._engine.rows import Chunk, fold
from captum._engine.sweep import Sweep, check_limit
from captum.attr.base import completeness_gap
from captum.attr.paths.quadrature import check_steps, nodes_and_weights
from captum.errors import CaptumWarning, InputError

Steps = int | Literal["auto"]
Tensors = tuple[Tensor, ...]

#: Where ``n_steps="auto"`` starts and stops.
FIRST_STEPS = 16
MOST_STEPS = 4096


def precise(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: at least single precision."""
    return torch.promote_types(dtype, torch.float32)


def points_on_path(start: Tensors, end: Tensors, chunk: Chunk, nodes: Tensor) -> Tensors:
    """``start + α (end − start)`` for the pairs of a chunk, in the dtype of ``end``."""
    out: list[Tensor] = []
    for a, b in zip(start, end, strict=True):
        first, last = chunk.rows.spread(a), chunk.rows.spread(b)
        dtype = precise(b.dtype)
        point = torch.lerp(first.to(dtype), last.to(dtype), chunk.of(nodes.to(dtype), b))
        out.append(point.to(b.dtype))
    return tuple(out)


def integrate(
    function: Function,
    start: Tensors,
    end: Tensors,
    rule: tuple[int, str],
    *,
    limit: int | None = None,
    label: str | None = None,
    create_graph: bool = False,
) -> Tensors:
    r""":math:`\sum_k w_k\, \partial F / \partial v\,(v' + \alpha_k (v - v'))` for every example.

    Args:
        function: F of the variable.
        start: ``v'``, ``(1, *)`` or ``(B, *)`` each.
        end: ``v``, ``(B, *)`` each.
        rule: number of steps and name of the quadrature.
        limit: rows per forward pass; None to plan.
        label: name of the progress bar.
        create_graph: whether to keep the graph.

    Returns:
        Tensors ``(B, *)`` in at least single precision.
    """
    nodes, weights = nodes_and_weights(*rule)
    check_limit(limit)
    function.tune()

    def gradients(chunk: Chunk) -> Tensors:
        points = points_on_path(start, end, chunk, nodes)
        grads = function.gradients(points, chunk.rows, create_graph=create_graph)
        return tuple(g.to(precise(g.dtype)) * chunk.of(weights.to(precise(g.dtype)), g) for g in grads)

    totals = [torch.zeros(v.shape, dtype=precise(v.dtype), device=v.device) for v in end]
    sweep = Sweep(function.batch, len(nodes), function.plan(limit), label=label)
    for chunk, grads in sweep.run(gradients):
        totals = [fold(t, chunk, g) for t, g in zip(totals, grads, strict=True)]
    return tuple(totals)


def choose_steps(
    n_steps: Steps, method: str, tol: float, attribute: Callable[[int], Tensors], ends: tuple[Tensor, Tensor] | None
) -> tuple[Tensors, int]:
    """Attributions with a given number of steps, or with as many as completeness needs.

    ``"auto"`` doubles the number from 16 until ``|Σ a − (F(x) − F(x'))| ≤ tol · |F(x) − F(x')|`` in every row, up to
    the rounding of the scores, and warns with the error that is left at 4096.

    Args:
        n_steps: a number, or ``"auto"``.
        method: quadrature.
        tol: largest relative completeness error.
        attribute: gives attributions for a number of steps.
        ends: F at the end and at the start, ``(B,)`` each; needed for ``"auto"``.
    """
    if n_steps != "auto":
        if isinstance(n_steps, str):
            message = f"Expected n_steps as an int or 'auto', got {n_steps!r}."
            raise InputError(message)
        check_steps(n_steps, method)
        return attribute(n_steps), n_steps
    if ends is None or not tol > 0:
        message = f"n_steps='auto' needs multiply_by_inputs=True and tol > 0, got tol={tol}."
        raise InputError(message)
    steps = FIRST_STEPS
    noise = 32 * torch.finfo(ends[0].dtype).eps * torch.maximum(ends[0].abs(), ends[1].abs())
    rise = torch.maximum((ends[0] - ends[1]).abs(), noise / tol).clamp(min=torch.finfo(ends[0].dtype).tiny)
    while True:
        attributions = attribute(steps)
        error = float((completeness_gap(attributions, *ends).abs().detach() / rise).max())
        if error <= tol:
            return attributions, steps
        if steps >= MOST_STEPS:
            message = f"The relative completeness error is {error:.2g} after {steps} steps, above tol={tol:g}."
            warnings.warn(message, CaptumWarning, stacklevel=3)
            return attributions, steps
        steps *= 2
