"""Internal influence: the gradient by a layer, averaged along the path of the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum._engine.derivative import differentiate
from captum._engine.drive import AtInputs
from captum._engine.entry import differentiable
from captum._engine.place import Layers
from captum._engine.rows import Chunk, fold
from captum._engine.sweep import Sweep, check_limit
from captum.attr.base import GradientAttribution, LayerAttribution, wants_graph
from captum.attr.paths.integral import Tensors, precise
from captum.attr.paths.quadrature import nodes_and_weights
from captum.log import log_usage

__all__ = ["InternalInfluence"]

#: How many times more rows fit where what comes before a layer keeps no graph.
MORE_ROWS = 3


def gradients_at_layer(
    function: AtInputs, layers: Layers, points: Tensors, chunk: Chunk, create_graph: bool
) -> tuple[Tensors, Tensors]:
    """The layer's values ``y`` and ∂F/∂y at input points."""
    with torch.enable_grad():
        output, values, _ = function.tap(layers, points, chunk.rows, create_graph, from_here=not create_graph)
        scores = function.score_of_model().read(output, chunk.rows)
        layers.require_rows(values, chunk.count)
        grads = differentiate(scores, values, create_graph=create_graph)
    return (values if create_graph else tuple(v.detach() for v in values)), grads


class InternalInfluence(LayerAttribution, GradientAttribution):
    r"""Mean gradient of a layer along the path.

    :math:`a = \int_0^1 \partial F / \partial y\,(x' + \alpha (x - x'))\, d\alpha`.

    K. Leino et al., "Influence-directed explanations for deep convolutional networks", 2018, arXiv:1802.03788.

    Args:
        forward_func: the model or function.
        layer: a module.
        device_ids: accepted for compatibility.
    """

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
        attribute_to_layer_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        show_progress: bool = False,
        create_graph: bool = False,
    ) -> Any:
        """Mean gradients of the score by the layer's value.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50).
            method: quadrature, ``"gausslegendre"`` by default.
            internal_batch_size: rows per forward pass; None (default) plans it.
            attribute_to_layer_input: whether to use the layer's input.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.

        Returns:
            Attributions shaped like the layer's value, in score units per unit of the layer.

        Raises:
            LayerError: when the layer is not reached.
        """
        create_graph = wants_graph(create_graph, grad_kwargs)
        function = self._at_inputs(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input)
        nodes, weights = nodes_and_weights(n_steps, method)
        start, end = function.baseline_values(baselines), function.end(create_graph)
        function.tune(layers.modules)

        def body(chunk: Chunk) -> Tensors:
            grads = function.run_on_path(
                (start, end), chunk, nodes, lambda p: gradients_at_layer(function, layers, p, chunk, create_graph)[1]
            )
            return tuple(g.to(precise(g.dtype)) * chunk.of(weights.to(precise(g.dtype)), g) for g in grads)

        totals: list[Tensor] = []
        dtypes: list[torch.dtype] = []
        with function.running():
            sweep = Sweep(
                function.batch,
                n_steps,
                function.plan(check_limit(internal_batch_size), 1 if create_graph else MORE_ROWS),
                label=self._label(show_progress),
            )
            for chunk, grads in sweep.run(body):
                if not totals:
                    totals = [g.new_zeros((function.batch, *g.shape[1:])) for g in grads]
                    dtypes = [v.dtype for v in grads]
                totals = [fold(t, chunk, g) for t, g in zip(totals, grads, strict=True)]
        low = function.values[0].dtype
        results = [t.to(low) if low in (torch.float16, torch.bfloat16) else t for t in totals]
        return self._by_layer(results if dtypes else totals, layers)
