"""Conductance: how much of the flow along the path passes through a layer or a neuron."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.derivative import differentiate
from captum._engine.drive import AtInputs, Reduce
from captum._engine.entry import differentiable
from captum._engine.place import Layers, Neuron
from captum._engine.rows import Chunk, Rows, fold
from captum._engine.sweep import Sweep, check_limit
from captum.attr.base import GradientAttribution, LayerAttribution, NeuronAttribution, completeness_gap, wants_graph
from captum.attr.paths.influence import MORE_ROWS, gradients_at_layer
from captum.attr.paths.integral import Tensors, points_on_path, precise
from captum.attr.paths.quadrature import nodes_and_weights
from captum.errors import CaptumWarning
from captum.log import log_usage

__all__ = ["LayerConductance", "NeuronConductance"]


class _Increments:
    """Sum of gradient · increment of the layer's value between neighbouring nodes, streamed.

    The increments of a row add up to ``y(x) − y(x')`` exactly: the first node answers for all that happens before it,
    the last for all after it. Between two nodes the mean of their gradients counts; the left or the right one for the
    Riemann rules of that name.

    Args:
        ends: gives the layer's values at start and end, when the first chunk has shown how the model runs fastest.
        method: name of the quadrature.
    """

    def __init__(self, ends: Callable[[], tuple[Tensors, Tensors]], method: str) -> None:
        left = {"riemann_left": 1.0, "riemann_right": 0.0}.get(method, 0.5)
        self._shares = (left, 1 - left)
        self._read = ends
        self._ends: tuple[Tensors, Tensors] = ((), ())
        self._last: list[tuple[Tensor, Tensor]] | None = None
        self.totals: list[Tensor] = []

    def add(self, chunk: Chunk, values: Tensors, grads: Tensors, last_variant: int) -> None:
        """Take in the next nodes; the pairs of a row follow each other (order ``"example"``)."""
        if self._last is None:
            self._ends = self._read()
            self.totals = [torch.zeros(e.shape, dtype=precise(e.dtype), device=e.device) for e in self._ends[1]]
        first = torch.nonzero(chunk.variants == 0).flatten()
        final = torch.nonzero(chunk.variants == last_variant).flatten()
        kept: list[tuple[Tensor, Tensor]] = []
        for i, (raw, slope) in enumerate(zip(values, grads, strict=True)):
            dtype = precise(raw.dtype)
            y, g = raw.to(dtype), slope.to(dtype)
            before = self._before(i, chunk, y, g)
            parts = torch.zeros_like(y) if before is None else self._between(before, y, g)
            parts = self._at_ends(i, chunk, (first, final), parts, (y, g))
            self.totals[i] = fold(self.totals[i], chunk, parts)
            kept.append((y[-1:], g[-1:]))
        self._last = kept

    def _before(self, i: int, chunk: Chunk, y: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Value and gradient one node earlier for each pair, and 1 where there is such a node."""
        last = self._last[i] if self._last is not None else (y[:1], g[:1])
        exists = (chunk.variants > 0).to(device=y.device, dtype=y.dtype)
        if not bool((chunk.variants > 0).any()):
            return None
        shape = [-1] + [1] * (y.dim() - 1)
        return torch.cat([last[0], y[:-1]]), torch.cat([last[1], g[:-1]]), exists.reshape(shape)

    def _between(self, before: tuple[Tensor, Tensor, Tensor], y: Tensor, g: Tensor) -> Tensor:
        earlier, slope, exists = before
        left, right = self._shares
        return (left * slope + right * g) * (y - earlier) * exists

    def _at_ends(
        self, i: int, chunk: Chunk, ends: tuple[Tensor, Tensor], parts: Tensor, now: tuple[Tensor, Tensor]
    ) -> Tensor:
        y, g = now
        for where, point, sign in ((ends[0], self._ends[0][i], -1.0), (ends[1], self._ends[1][i], 1.0)):
            if len(where):
                place = where.to(y.device)
                picked = Rows(len(point), _rows(chunk)[where]).pick(point).to(y.dtype)
                step = sign * (picked - y[place])
                parts = parts.index_add(0, place, g[place] * step)
        return parts


def _rows(chunk: Chunk) -> Tensor:
    return torch.arange(chunk.rows.batch, device="cpu") if chunk.rows.index is None else chunk.rows.index


class LayerConductance(LayerAttribution, GradientAttribution):
    r"""Conductance of a layer: :math:`a = \int \partial F / \partial y \cdot dy(x' + \alpha (x - x'))`.

    The increments of ``y`` between the nodes add up to ``y(x) − y(x')``, so a score that is linear in the layer is
    attributed exactly with any number of steps.

    K. Dhamdhere, M. Sundararajan, Q. Yan, "How important is a neuron?", 2018, arXiv:1805.12233; A. Shrikumar, J. Su,
    A. Kundaje, "Computationally efficient measures of internal neuron importance", 2018, arXiv:1807.09946.

    Args:
        forward_func: the model or function.
        layer: a module.
        device_ids: accepted for compatibility.
    """

    @property
    def multiplies_by_inputs(self) -> bool:
        """True."""
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
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        show_progress: bool = False,
        create_graph: bool = False,
    ) -> Any:
        """Conductance of each element of the layer.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50).
            method: where the nodes lie, ``"gausslegendre"`` by default.
            internal_batch_size: rows per forward pass; None (default) plans it.
            return_convergence_delta: whether to return the delta too.
            attribute_to_layer_input: whether to use the layer's input.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.

        Returns:
            Attributions shaped like the layer's value, in score units; with the delta ``(B,)`` if asked for.

        Raises:
            LayerError: when the layer is not reached.
        """
        create_graph = wants_graph(create_graph, grad_kwargs)
        function = self._at_inputs(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input)
        nodes = nodes_and_weights(n_steps, method)[0]
        check_limit(internal_batch_size)
        function.tune(layers.modules)
        start, end = function.baseline_values(baselines), function.end(create_graph)

        def body(chunk: Chunk) -> tuple[Tensors, Tensors]:
            def run(points: Tensors) -> tuple[Tensors, Tensors]:
                return gradients_at_layer(function, layers, points, chunk, create_graph)

            return function.run_on_path((start, end), chunk, nodes, run)

        def ends() -> tuple[Tensors, Tensors]:
            if not create_graph and internal_batch_size is None and function.batch == 1:
                return _values_at_both(function, layers, start, end)
            how = (create_graph, internal_batch_size)
            return _values_at(function, layers, start, how), _values_at(function, layers, end, how)

        with function.running():
            sums = _Increments(ends, method)
            plan = function.plan(internal_batch_size, 1 if create_graph else MORE_ROWS)
            sweep = Sweep(function.batch, n_steps, plan, order="example", label=self._label(show_progress))
            for chunk, (values, grads) in sweep.run(body):
                sums.add(chunk, values, grads, n_steps - 1)
            delta = None
            if return_convergence_delta:
                delta = completeness_gap(
                    sums.totals,
                    function.values_at(end, internal_batch_size),
                    function.values_at(start, internal_batch_size),
                ).detach()
        low = end[0].dtype
        results = [t.to(low) if low in (torch.float16, torch.bfloat16) else t for t in sums.totals]
        result = self._by_layer(results, layers)
        return (result, delta) if return_convergence_delta else result


def _values_at(function: AtInputs, layers: Layers, points: Tensors, how: tuple[bool, int | None]) -> Tensors:
    """The layer's values for one input point per example; ``how``: whether to keep a graph, and rows at a time."""
    keep_graph, limit = how
    parts: list[Tensors] = []
    with torch.set_grad_enabled(keep_graph):
        for rows in function.everyone().pieces(limit):
            picked = tuple(rows.pick(p) for p in points)
            parts.append(_tapped(function, layers, picked, rows, keep_graph))
    values = tuple(torch.cat(p) for p in zip(*parts, strict=True))
    return values if keep_graph else tuple(v.detach() for v in values)


def _values_at_both(function: AtInputs, layers: Layers, start: Tensors, end: Tensors) -> tuple[Tensors, Tensors]:
    """The layer's values of a single example at both ends, from one pass."""
    points = tuple(torch.cat(pair) for pair in zip(start, end, strict=True))
    with torch.no_grad():
        values = _tapped(function, layers, points, Rows(1, torch.zeros(2, dtype=torch.int64, device="cpu")), False)
    return tuple(v[:1] for v in values), tuple(v[1:] for v in values)


def _tapped(function: AtInputs, layers: Layers, points: Tensors, rows: Rows, keep_graph: bool) -> Tensors:
    if keep_graph:
        return function.tap(layers, points, rows, keep_graph=True)[1]
    return function.run_points(points, lambda p: function.tap(layers, p, rows)[1])


class NeuronConductance(NeuronAttribution, GradientAttribution):
    r"""Conductance of one neuron, by input.

    :math:`a = (x - x') \odot \int \frac{\partial F}{\partial y_j} \frac{\partial y_j}{\partial x}\, d\alpha`.

    K. Dhamdhere, M. Sundararajan, Q. Yan, 2018, arXiv:1805.12233; A. Shrikumar, J. Su, A. Kundaje, 2018,
    arXiv:1807.09946.

    Args:
        forward_func: the model or function.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default).
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: torch.nn.Module,
        device_ids: list[int] | None = None,
        multiply_by_inputs: bool = True,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "riemann_trapezoid",
        internal_batch_size: int | None = None,
        attribute_to_neuron_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Conductance of the selected neuron, by input.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function that only selects.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50).
            method: quadrature, ``"riemann_trapezoid"`` by default.
            internal_batch_size: rows per forward pass; None (default) plans it.
            attribute_to_neuron_input: whether to read the layer's input.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units.

        Raises:
            LayerError: when the layer is not reached or the selector does not fit.
        """
        if callable(neuron_selector):
            message = "The neuron_selector function must only select: what it computes is not differentiated."
            warnings.warn(message, CaptumWarning, stacklevel=3)
        create_graph = wants_graph(create_graph, grad_kwargs)
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        layers = self._layers(attribute_to_neuron_input)
        neuron = Neuron(function.score_of_model(), layers, neuron_selector)
        nodes, weights = nodes_and_weights(n_steps, method)
        start = function.baseline_values(baselines)
        start = start if create_graph else tuple(v.detach() for v in start)
        end = function.end(create_graph)
        function.tune(layers.modules)
        plan = function.plan(check_limit(internal_batch_size))

        def body(chunk: Chunk) -> Tensors:
            points = points_on_path(start, end, chunk, nodes)
            grads = function.run_points(points, lambda p: _flow(function, (layers, neuron), p, chunk, create_graph))
            return tuple(g.to(precise(g.dtype)) * chunk.of(weights.to(precise(g.dtype)), g) for g in grads)

        totals = [torch.zeros(v.shape, dtype=precise(v.dtype), device=v.device) for v in end]
        with function.running():
            sweep = Sweep(function.batch, n_steps, plan, label=self._label(show_progress))
            for chunk, grads in sweep.run(body):
                totals = [fold(t, chunk, g) for t, g in zip(totals, grads, strict=True)]
        if self._multiply_by_inputs:
            totals = [t * (e - s).to(t.dtype) for t, e, s in zip(totals, end, start, strict=True)]
        return function.restore([t.to(e.dtype) for t, e in zip(totals, end, strict=True)])


def _flow(
    function: AtInputs, where: tuple[Layers, Neuron], points: Tensors, chunk: Chunk, create_graph: bool
) -> Tensors:
    """∂F/∂y_j · ∂y_j/∂x at input points, in one forward pass; selected neurons are summed."""
    layers, neuron = where
    with torch.enable_grad():
        output, values, variables = function.tap(layers, points, chunk.rows, keep_graph=create_graph)
        scores = function.score_of_model().read(output, chunk.rows)
        slopes = differentiate(scores, values, create_graph=create_graph, retain_graph=True)
        chosen = tuple(v.detach().requires_grad_() for v in values)
        picked = neuron.pick(chosen, chunk.rows)
        masks: list[Tensor | None] = list(torch.autograd.grad(picked.sum(), chosen, allow_unused=True))
        pairs = [(v, s * m) for v, s, m in zip(values, slopes, masks, strict=True) if m is not None]
        grads: list[Tensor | None] = list(
            torch.autograd.grad(
                [v for v, _ in pairs],
                variables,
                [w for _, w in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return tuple(torch.zeros_like(v) if g is None else g for g, v in zip(grads, variables, strict=True))
