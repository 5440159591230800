"""DeepLIFT of inputs, layers and neurons."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum._engine.drive import Reduce
from captum._engine.entry import differentiable
from captum._engine.ruled import require_visible
from captum._engine.ruled_inputs import at_ruled, neuron_at_ruled
from captum._engine.rules import OnUnknown
from captum.attr.backprop.contrast import Comparison, Contrast, RuleName, of_baseline
from captum.attr.base import GradientAttribution, LayerAttribution, NeuronAttribution
from captum.log import log_usage

__all__ = [
    "DeepLift",
    "LayerDeepLift",
    "NeuronDeepLift",
]


class DeepLift(GradientAttribution):
    r"""DeepLIFT: :math:`a = (x - x') \odot m`, multipliers m chained so that every operator explains its whole change.

    The attributions of a row sum to ``F(x) − F(x')``. Rules act on operators, however they are called: modules,
    functions, tensor methods, in-place code, modules used several times. See ``captum.attr.rules`` for the operators
    known. The pass runs the model once, on the inputs, and each operator for input and baseline.

    A. Shrikumar, P. Greenside, A. Kundaje, "Learning important features through propagating activation differences",
    2017, arXiv:1704.02685.

    Args:
        model: the model.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default); else the multipliers are returned.
        eps: where an element differs by less from its baseline value, the own gradient is used (default 1e-10).
        rule: ``"rescale"`` (default), ``"reveal_cancel"``, or ``"genomics"``: RevealCancel after dense layers, Rescale
            after convolutions.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"``, or use its gradient
            (``"linear"``).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())
        >>> DeepLift(model).attribute(torch.tensor([[3.0, -1.0]]), torch.tensor([[-1.0, -1.0]]), target=0)
        tensor([[3., 0.]])
    """

    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        multiply_by_inputs: bool = True,
        eps: float = 1e-10,
        *,
        rule: RuleName = "rescale",
        on_unknown: OnUnknown = "raise",
    ) -> None:
        self._set_up(model, multiply_by_inputs, eps, rule, on_unknown)
        GradientAttribution.__init__(self, model)

    def _set_up(self, model: nn.Module, multiply: bool, eps: float, rule: RuleName, on_unknown: OnUnknown) -> None:
        require_visible(model, type(self).__name__)
        self.model = model
        self.eps = eps
        self._comparison = Comparison(model, multiply, eps, rule, on_unknown)

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._comparison.multiply

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    def satisfies_attribute_criteria(self, module: nn.Module) -> bool:
        """Whether a module carries ``input`` and ``output``; kept for compatibility, nothing depends on it."""
        return hasattr(module, "input") and hasattr(module, "output")

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        custom_attribution_func: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """DeepLIFT of the score by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: ``x'``: None for zeros (token id 0), numbers, tensors ``(1, *)`` or ``(B, *)``, or a function of
                no argument or of the inputs that returns these.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            custom_attribution_func: ``(multipliers, inputs, baselines) -> attributions``, tuples; may take fewer.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result keeps its graph.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units; with the delta ``(B,)``,
            ``Σ a − (F(x) − F(x'))``, if asked for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            InputError: when arguments do not fit.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args, embedding_reduce)
        call = Contrast(function, self._comparison, None, custom_attribution_func, create_graph)
        take = of_baseline(function, baselines, inputs)
        attributions, delta = call.mean(take, 1, internal_batch_size, self._label(show_progress))
        result = function.restore(attributions)
        return (result, delta) if return_convergence_delta else result


class LayerDeepLift(LayerAttribution, DeepLift):
    r"""DeepLIFT of a layer: :math:`a = (y - y') \odot m` with the layer's values at the input and at the baseline.

    Args:
        model: the model.
        layer: a module of it, or a list of modules.
        multiply_by_inputs: whether to multiply by ``y − y'`` (default).
        eps: where an element differs by less from its baseline value, the own gradient is used (default 1e-10).
        rule: ``"rescale"`` (default), ``"reveal_cancel"`` or ``"genomics"``.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"`` or ``"linear"``.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Any,
        multiply_by_inputs: bool = True,
        *,
        eps: float = 1e-10,
        rule: RuleName = "rescale",
        on_unknown: OnUnknown = "raise",
    ) -> None:
        LayerAttribution.__init__(self, model, layer)
        self._set_up(model, multiply_by_inputs, eps, rule, on_unknown)

    @log_usage()
    @differentiable
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # a layer has a side
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        custom_attribution_func: Any = None,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
    ) -> Any:
        """DeepLIFT of the score by the layer's value.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a function that returns these.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            attribute_to_layer_input: whether to use the layer's input.
            custom_attribution_func: ``(multipliers, values, baseline values) -> attributions``, tuples.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result keeps its graph.

        Returns:
            Attributions shaped like the layer's value: a tensor, a tuple, or a list for a list of layers; with the
            delta ``(B,)`` if asked for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            LayerError: when the layer is not reached.
        """
        graph = create_graph or bool((grad_kwargs or {}).get("create_graph"))
        function = at_ruled(self.model, inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input, several=True)
        call = Contrast(function, self._comparison, layers, custom_attribution_func, graph)
        take = of_baseline(function, baselines, inputs)
        attributions, delta = call.mean(take, 1, internal_batch_size, self._label(show_progress))
        result = self._by_layer(attributions, layers)
        return (result, delta) if return_convergence_delta else result


class NeuronDeepLift(NeuronAttribution, GradientAttribution):
    """DeepLIFT of a neuron: the score is the value that ``neuron_selector`` picks in a layer.

    Args:
        model: the model.
        layer: the module whose output (or input) holds the neuron.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default).
        eps: where an element differs by less from its baseline value, the own gradient is used (default 1e-10).
        rule: ``"rescale"`` (default), ``"reveal_cancel"`` or ``"genomics"``.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"`` or ``"linear"``.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        multiply_by_inputs: bool = True,
        *,
        eps: float = 1e-10,
        rule: RuleName = "rescale",
        on_unknown: OnUnknown = "raise",
    ) -> None:
        require_visible(model, type(self).__name__)
        super().__init__(model, layer)
        self._comparison = Comparison(model, multiply_by_inputs, eps, rule, on_unknown)

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._comparison.multiply

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        baselines: Any = None,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        custom_attribution_func: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """DeepLIFT of the selected neuron by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a function that returns these.
            additional_forward_args: constants of the model.
            attribute_to_neuron_input: whether to read the layer's input.
            custom_attribution_func: ``(multipliers, inputs, baselines) -> attributions``, tuples.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result keeps its graph.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in units of the neuron.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            LayerError: when the layer is not reached or the selector does not fit.
        """
        neuron = self._layers(attribute_to_neuron_input), neuron_selector
        function = neuron_at_ruled(self.forward_func, inputs, additional_forward_args, neuron, embedding_reduce)
        call = Contrast(function, self._comparison, None, custom_attribution_func, create_graph)
        take = of_baseline(function, baselines, inputs)
        return function.restore(call.mean(take, 1, internal_batch_size, self._label(show_progress))[0])
