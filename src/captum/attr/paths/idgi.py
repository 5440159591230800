"""Important direction gradient integration: only the part of each step that moves the score counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum._engine.drive import Reduce
from captum._engine.entry import differentiable
from captum._engine.rows import Chunk, fold
from captum._engine.sweep import Sweep, check_limit
from captum.attr.base import GradientAttribution, completeness_gap
from captum.attr.paths.integral import Tensors, points_on_path, precise
from captum.attr.paths.quadrature import check_steps
from captum.errors import InputError
from captum.log import log_usage

__all__ = ["IDGI"]


def directions(grads: Tensors) -> Tensors:
    """Squared gradients that sum to one in each row over all variables; zeros where the gradient is zero."""
    squares = [g.to(precise(g.dtype)).square() for g in grads]
    norm = torch.stack([s.flatten(1).sum(1) for s in squares]).sum(0)
    scale = torch.where(norm > 0, 1 / torch.where(norm > 0, norm, 1), 0)
    return tuple(s * scale.reshape(-1, *[1] * (s.dim() - 1)) for s in squares)


class IDGI(GradientAttribution):
    r"""Important direction gradient integration.

    :math:`a = \sum_k \frac{g_k \odot g_k}{\|g_k\|^2}\,(F(x_{k+1}) - F(x_k))`.

    ``x_k`` are ``n_steps + 1`` even points from baseline to input and ``g_k`` the gradients there. Noise that does not
    move the score between two points gets nothing, and the attributions sum to ``F(x) − F(x')`` but for steps of zero
    gradient.

    R. Yang, B. Wang, M. Bilgic, "IDGI: a framework to eliminate explanation noise from integrated gradients", 2023,
    arXiv:2303.14242.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> IDGI(lambda x: x @ torch.tensor([3.0, 1.0])).attribute(torch.tensor([[1.0, 1.0]]), n_steps=4)
        tensor([[3.6000, 0.4000]])
    """

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: attributions are differences of scores."""
        return True

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Share each step's change of the score by the squared gradient at its start.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: ``x'``: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of steps per row (default 50, at least 2).
            internal_batch_size: rows per forward pass; None (default) plans it.
            return_convergence_delta: whether to return the delta ``(B,)`` too.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units.

        Raises:
            InputError: when arguments do not fit.
        """
        check_steps(n_steps, "riemann_left")
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        if function.gradient_func is not None:
            message = "IDGI needs the scores along the path, which a gradient_func of your own does not tell."
            raise InputError(message)
        start, end = function.baseline_values(baselines), function.end(create_graph)
        nodes = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64, device="cpu")
        function.tune()

        def body(chunk: Chunk) -> tuple[Tensor, Tensors]:
            points = points_on_path(start, end, chunk, nodes)
            values, grads = function.value_and_gradients(points, chunk.rows, create_graph=create_graph)
            return values.to(precise(values.dtype)), directions(grads)

        totals = [torch.zeros(v.shape, dtype=precise(v.dtype), device=v.device) for v in end]
        last: tuple[Tensor, Tensors] | None = None
        with function.running():
            plan = function.plan(check_limit(internal_batch_size))
            for chunk, (values, parts) in Sweep(
                function.batch, n_steps + 1, plan, order="example", label=self._label(show_progress)
            ).run(body):
                before = (values[:1], tuple(p[:1] for p in parts)) if last is None else last
                rises = (values - torch.cat([before[0], values[:-1]])) * (chunk.variants > 0).to(values)
                for i, part in enumerate(parts):
                    earlier = torch.cat([before[1][i], part[:-1]])
                    totals[i] = fold(totals[i], chunk, earlier * rises.reshape(-1, *[1] * (part.dim() - 1)))
                last = values[-1:], tuple(p[-1:] for p in parts)
            delta = None
            if return_convergence_delta:
                ends = [function.values_at(p, internal_batch_size) for p in (end, start)]
                delta = completeness_gap(totals, ends[0], ends[1]).detach()
        result = function.restore([t.to(e.dtype) for t, e in zip(totals, end, strict=True)])
        return (result, delta) if return_convergence_delta else result
