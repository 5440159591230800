"""Integrals of the gradient along a straight path, streamed over steps and rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from captum._engine.drive import Function
from captum._engine.line import Line, points_on_path, precise
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
    path = _Path(function, (start, end), (nodes, weights), create_graph)
    sweep = Sweep(function.batch, len(nodes), function.plan(limit), label=label)
    for chunk, gradients in sweep.run(path.gradients):
        path.add(chunk, gradients)
    return path.result()


class _Path:
    """The weighted gradients of one straight path, summed for each example.

    Where the model begins with a convolution, all chunks but the first are taken behind it, see
    :class:`~captum._engine.entrance.Head`.
    """

    def __init__(
        self, function: Function, ends: tuple[Tensors, Tensors], rule: tuple[Tensor, Tensor], create_graph: bool
    ) -> None:
        self._function = function
        self._ends = ends
        self._nodes, self._weights = rule
        self._create_graph = create_graph
        self._line: Line | None = None
        self._totals = [torch.zeros(v.shape, dtype=precise(v.dtype), device=v.device) for v in ends[1]]

    def gradients(self, chunk: Chunk) -> Tensors:
        """Weighted gradients at the points of a chunk; nothing when the line has added them up already."""
        if self._line is None and not self._create_graph:
            self._line = self._function.line(*self._ends)
        if self._line is not None and self._line.add(chunk, self._nodes, self._weights):
            return ()
        points = points_on_path(*self._ends, chunk, self._nodes)
        grads = self._function.gradients(points, chunk.rows, create_graph=self._create_graph)
        return tuple(g.to(precise(g.dtype)) * chunk.of(self._weights.to(precise(g.dtype)), g) for g in grads)

    def add(self, chunk: Chunk, grads: Tensors) -> None:
        """Take in what :meth:`gradients` gave for this chunk."""
        if grads:
            self._totals = [fold(t, chunk, g) for t, g in zip(self._totals, grads, strict=True)]

    def result(self) -> Tensors:
        """The sums by the variables."""
        if self._line is not None:
            self._totals = [self._totals[0] + self._line.pull()]
        return tuple(self._totals)


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
    if ends is None or isinstance(tol, bool) or not isinstance(tol, (int, float)) or not tol > 0:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass text
        message = f"n_steps='auto' needs multiply_by_inputs=True and tol > 0, got tol={tol!r}."
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
