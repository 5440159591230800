"""One random point on the path from baseline to input: the building block of expected gradients, in classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import Source
from captum._engine.drive import AtInputs, Reduce
from captum._engine.entry import differentiable
from captum._engine.rows import Chunk
from captum._engine.sweep import Sweep
from captum.attr.base import GradientAttribution, LayerAttribution, completeness_gap, wants_graph
from captum.attr.paths.influence import gradients_at_layer
from captum.attr.paths.integral import Tensors, points_on_path
from captum.log import log_usage

__all__ = ["InputBaselineXGradient", "LayerInputBaselineXGradient"]


def _one_point(function: AtInputs, start: Tensors, source: Source) -> tuple[Chunk, Tensors]:
    """All examples in one chunk, each at its own random place between baseline and input."""
    chunk = Sweep(function.batch, 1, function.plan(function.batch)).chunk(0, function.batch)
    nodes = source.uniform(function.batch)
    chunk = Chunk(0, function.batch, chunk.rows, torch.arange(function.batch, device="cpu"))
    return chunk, points_on_path(start, function.end(), chunk, nodes)


def _gap(function: AtInputs, attributions: Tensors, start: Tensors) -> Tensor:
    return completeness_gap(attributions, function.values_at(function.end()), function.values_at(start))


class InputBaselineXGradient(GradientAttribution):
    r"""Gradient at a random point of the path.

    :math:`a = (x - x') \odot \partial F / \partial x\,(x' + u (x - x'))`, ``u ~ U(0, 1)``.

    Args:
        forward_func: the model or function.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default).
    """

    def __init__(self, forward_func: Callable[..., Any], multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

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
        return_convergence_delta: bool = False,
        *,
        embedding_reduce: Reduce = "sum",
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """One draw for each row.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta ``(B,)`` too.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.
            generator: source of the draws; None for NumPy's global stream.
            seed: makes a fresh generator.

        Returns:
            Attributions in the structure of ``inputs``.

        Raises:
            InputError: when arguments do not fit.
        """
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        start, end = tuple(b.detach() for b in function.baseline_values(baselines)), function.end()
        chunk, points = _one_point(function, start, Source(generator, seed))
        with function.running():
            grads = function.gradients(points, chunk.rows)
            if self._multiply_by_inputs:
                grads = tuple(g * (e - s) for g, e, s in zip(grads, end, start, strict=True))
            result = function.restore(grads)
            return (result, _gap(function, grads, start)) if return_convergence_delta else result


class LayerInputBaselineXGradient(LayerAttribution, GradientAttribution):
    r"""Gradient of a layer at a random point of the path, times the difference of the layer's values at its ends.

    Args:
        forward_func: the model or function.
        layer: a module.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``y(x) − y(x')`` (default).
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

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        baselines: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """One draw for each row.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta ``(B,)`` too.
            attribute_to_layer_input: whether to use the layer's input.
            grad_kwargs: ``{"create_graph": True}`` keeps the graph of the gradient.
            generator: source of the draws; None for NumPy's global stream.
            seed: makes a fresh generator.

        Returns:
            Attributions shaped like the layer's value.

        Raises:
            LayerError: when the layer is not reached.
        """
        keep = wants_graph(create_graph=False, grad_kwargs=grad_kwargs)
        function = self._at_inputs(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input)
        start = function.baseline_values(baselines)
        chunk, points = _one_point(function, start, Source(generator, seed))
        with function.running():
            parts = gradients_at_layer(function, layers, points, chunk, keep)[1]
            if self._multiply_by_inputs:
                rows = function.everyone()
                ends = [tuple(rows.pick(p) for p in point) for point in (function.end(), start)]
                with torch.no_grad():
                    high, low = (function.tap(layers, e, rows)[1] for e in ends)
                parts = tuple(g * (h - w) for g, h, w in zip(parts, high, low, strict=True))
            result = self._by_layer(parts, layers)
            return (result, _gap(function, parts, start)) if return_convergence_delta else result
