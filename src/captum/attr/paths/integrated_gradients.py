"""Integrated gradients of inputs, layers and neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.at_layer import AtLayer
from captum._engine.drive import AtInputs, Reduce
from captum._engine.entry import differentiable
from captum._engine.values import parse_baselines
from captum.attr.base import GradientAttribution, LayerAttribution, NeuronAttribution, completeness_gap, wants_graph
from captum.attr.paths.integral import Steps, Tensors, choose_steps, integrate
from captum.log import log_usage

__all__ = ["IntegratedGradients", "LayerIntegratedGradients", "NeuronIntegratedGradients"]


class _Integration:
    """One call of integrated gradients: F, the two ends of the path, and how to integrate."""

    def __init__(self, function: AtInputs | AtLayer, start: Tensors, multiply: bool, options: dict[str, Any]) -> None:
        self.function = function
        self.start = start if options.get("create_graph") else tuple(v.detach() for v in start)
        self.multiply = multiply
        self.options = options
        self.keep = bool(options.get("create_graph"))
        self.end = function.values if self.keep else tuple(v.detach() for v in function.values)

    def run(self, n_steps: Steps, method: str, tol: float, want_delta: bool) -> tuple[Tensors, Tensor | None, int]:
        """Attributions of the variables, the delta if wanted, and the number of steps used."""
        with self.function.running():
            ends = None
            if want_delta or (n_steps == "auto" and self.multiply):
                limit = self.options["limit"]
                ends = (self.function.values_at(self.end, limit), self.function.values_at(self.start, limit))
            attributions, used = choose_steps(n_steps, method, tol, lambda n: self.attributions(n, method), ends)
            delta = None
            if want_delta and ends is not None:
                delta = completeness_gap(attributions, *ends).detach()
        return tuple(a.to(v.dtype) for a, v in zip(attributions, self.end, strict=True)), delta, used

    def attributions(self, n_steps: int, method: str) -> Tensors:
        """The integral with a number of steps, times (end − start) if wanted."""
        integral = integrate(self.function, self.start, self.end, (n_steps, method), **self.options)
        if not self.multiply:
            return integral
        return tuple(i * (e - s).to(i.dtype) for i, e, s in zip(integral, self.end, self.start, strict=True))


class IntegratedGradients(GradientAttribution):
    r"""Integrated gradients: the mean gradient on the straight path from the baseline, times the way.

    :math:`a = (x - x') \odot \int_0^1 \partial F(x' + \alpha (x - x')) / \partial x\, d\alpha`.

    The attributions of a row sum to ``F(x) − F(x')`` (completeness) up to the error of the quadrature.

    M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", 2017, arXiv:1703.01365.

    Args:
        forward_func: the model or function.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default); else the averaged gradients are returned.

    Attributes:
        n_steps_used: number of steps of the last call; what ``n_steps="auto"`` chose.

    Example:
        >>> import torch
        >>> ig = IntegratedGradients(lambda x: (x**2).sum(1))
        >>> ig.attribute(torch.tensor([[1.0, 3.0]]), n_steps=2).round(decimals=4)
        tensor([[1., 9.]])
    """

    n_steps_used: int = 0

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
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        tol: float = 0.01,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Integrated gradients of the score by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: ``x'``: None for zeros (token id 0), numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50), or ``"auto"`` to double until ``tol`` is met.
            method: ``"gausslegendre"`` (default), ``"riemann_left"``, ``"_right"``, ``"_middle"`` or ``"_trapezoid"``.
            internal_batch_size: rows per forward pass; None (default) plans it.
            return_convergence_delta: whether to return the delta too.
            tol: largest relative completeness error for ``"auto"`` (default 0.01).
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units; with the delta ``(B,)``,
            ``Σ a − (F(x) − F(x'))``, if asked for.

        Raises:
            InputError: when arguments do not fit.
        """
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        options = {"limit": internal_batch_size, "label": self._label(show_progress), "create_graph": create_graph}
        call = _Integration(function, function.baseline_values(baselines), self._multiply_by_inputs, options)
        attributions, delta, self.n_steps_used = call.run(n_steps, method, tol, return_convergence_delta)
        result = function.restore(attributions)
        return (result, delta) if return_convergence_delta else result


class LayerIntegratedGradients(LayerAttribution, GradientAttribution):
    r"""Integrated gradients of a layer: the path runs from the layer's value at the baseline to that at the input.

    :math:`a = (y - y') \odot \int_0^1 \partial F(y' + \alpha (y - y')) / \partial y\, d\alpha`.

    M. Sundararajan, A. Taly, Q. Yan, 2017, arXiv:1703.01365.

    Args:
        forward_func: the model or function.
        layer: a module, or a list of modules that do not feed each other.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``y − y'`` (default).
    """

    n_steps_used: int = 0

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Any,
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
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        tol: float = 0.01,
        show_progress: bool = False,
        create_graph: bool = False,
    ) -> Any:
        """Integrated gradients of the score by the layer's value.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50), or ``"auto"``.
            method: quadrature, ``"gausslegendre"`` by default.
            internal_batch_size: rows per forward pass; None (default) plans it.
            return_convergence_delta: whether to return the delta too.
            attribute_to_layer_input: whether to use the layer's input.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            tol: largest relative completeness error for ``"auto"``.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.

        Returns:
            Attributions shaped like the layer's value: a tensor, a tuple, or a list for a list of layers; with the
            delta ``(B,)`` over all layers if asked for: ``Σ a − (F(x) − F(x'))`` with the model's own scores, so that
            it also shows what flows around the layers.

        Raises:
            LayerError: when a layer is not reached.
        """
        create_graph = wants_graph(create_graph, grad_kwargs)
        score = self._score(inputs, target, additional_forward_args)
        function = self._at_layer(score, attribute_to_layer_input, create_graph, internal_batch_size)
        options = {"limit": internal_batch_size, "label": self._label(show_progress), "create_graph": create_graph}
        tensors = parse_baselines(baselines, score.inputs)
        ids = tuple(t.to(x.dtype) for t, x in zip(tensors, function.tensors, strict=True))
        with function.running():
            start = function.read(ids)
        call = _Integration(function, start, self._multiply_by_inputs, options)
        attributions, _, self.n_steps_used = call.run(n_steps, method, tol, want_delta=False)
        result = self._by_layer(attributions, function.place)
        if not return_convergence_delta:
            return result
        with function.running(), torch.no_grad():
            end, start = (score.at(t, internal_batch_size) for t in (function.tensors, ids))
        return result, completeness_gap([a.detach() for a in attributions], end, start)


class NeuronIntegratedGradients(NeuronAttribution, GradientAttribution):
    r"""Integrated gradients of a neuron: the score is :math:`y_j(x)`.

    M. Sundararajan, A. Taly, Q. Yan, 2017, arXiv:1703.01365.

    Args:
        forward_func: the model or function.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default).
    """

    n_steps_used: int = 0

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
        additional_forward_args: Any = None,
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        attribute_to_neuron_input: bool = False,
        *,
        tol: float = 0.01,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Integrated gradients of the selected neuron by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            additional_forward_args: constants of the model.
            n_steps: number of gradients per row (default 50), or ``"auto"``.
            method: quadrature, ``"gausslegendre"`` by default.
            internal_batch_size: rows per forward pass; None (default) plans it.
            attribute_to_neuron_input: whether to read the layer's input.
            tol: largest relative completeness error for ``"auto"``.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in units of the neuron.

        Raises:
            LayerError: when the layer is not reached or the selector does not fit.
        """
        function = self._at_neuron(
            inputs, neuron_selector, additional_forward_args, attribute_to_neuron_input, embedding_reduce
        )
        options = {"limit": internal_batch_size, "label": self._label(show_progress), "create_graph": create_graph}
        call = _Integration(function, function.baseline_values(baselines), self._multiply_by_inputs, options)
        attributions, _, self.n_steps_used = call.run(n_steps, method, tol, want_delta=False)
        return function.restore(attributions)
