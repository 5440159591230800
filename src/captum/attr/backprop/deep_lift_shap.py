"""DeepLIFT averaged over a distribution of baselines: inputs, layers and neurons."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum._engine.drive import Reduce
from captum._engine.entry import differentiable
from captum._engine.ruled_inputs import at_ruled, neuron_at_ruled
from captum._engine.rules import OnUnknown
from captum.attr.backprop.contrast import Contrast, RuleName, of_distribution
from captum.attr.backprop.deep_lift import DeepLift, LayerDeepLift, NeuronDeepLift
from captum.attr.base import GradientAttribution
from captum.log import log_usage

__all__ = ["DeepLiftShap", "LayerDeepLiftShap", "NeuronDeepLiftShap"]


class DeepLiftShap(DeepLift):
    r"""Mean of DeepLIFT over N baselines: an approximation of SHAP values.

    S. Lundberg, S.-I. Lee, "A unified approach to interpreting model predictions", 2017, arXiv:1705.07874.

    Args:
        model: the model.
        multiply_by_inputs: whether to multiply by ``x − x'`` (default).
        eps: where an element differs by less from its baseline value, the own gradient is used (default 1e-10).
        rule: ``"rescale"`` (default), ``"reveal_cancel"`` or ``"genomics"``.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"`` or ``"linear"``.
    """

    def __init__(
        self,
        model: nn.Module,
        multiply_by_inputs: bool = True,
        *,
        eps: float = 1e-10,
        rule: RuleName = "rescale",
        on_unknown: OnUnknown = "raise",
    ) -> None:
        self._set_up(model, multiply_by_inputs, eps, rule, on_unknown)
        GradientAttribution.__init__(self, model)

    @log_usage()
    @differentiable
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # baselines have no default here
        self,
        inputs: Any,
        baselines: Any,
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
        """Mean of DeepLIFT over baselines.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: tensors ``(N, *)`` with N ≥ 2 for all examples, ``(B, N, *)`` for each example its own, or a
                function of no argument or of the inputs that returns these.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the deltas too.
            custom_attribution_func: ``(multipliers, inputs, baselines) -> attributions``, tuples; may take fewer.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result keeps its graph.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``; with deltas ``(B·N,)``, pair ``i·N + j``, if asked for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            BaselineError: when there are fewer than two baselines.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args, embedding_reduce)
        call = Contrast(function, self._comparison, None, custom_attribution_func, create_graph)
        take, count = of_distribution(function, baselines, inputs)
        attributions, delta = call.mean(take, count, internal_batch_size, self._label(show_progress))
        result = function.restore(attributions)
        return (result, delta) if return_convergence_delta else result


class LayerDeepLiftShap(LayerDeepLift, DeepLiftShap):
    """Mean of DeepLIFT of a layer over N baselines.

    Args:
        model: the model.
        layer: a module of it, or a list of modules.
        multiply_by_inputs: whether to multiply by ``y − y'`` (default).
        eps: where an element differs by less from its baseline value, the own gradient is used (default 1e-10).
        rule: ``"rescale"`` (default), ``"reveal_cancel"`` or ``"genomics"``.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"`` or ``"linear"``.
    """

    @log_usage()
    @differentiable
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # baselines have no default here
        self,
        inputs: Any,
        baselines: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        custom_attribution_func: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
    ) -> Any:
        """Mean over baselines of DeepLIFT by the layer's value.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: tensors ``(N, *)`` with N ≥ 2, ``(B, N, *)``, or a function that returns these.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the deltas too.
            attribute_to_layer_input: whether to use the layer's input.
            custom_attribution_func: ``(multipliers, values, baseline values) -> attributions``, tuples.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result keeps its graph.

        Returns:
            Attributions shaped like the layer's value; with deltas ``(B·N,)``, pair ``i·N + j``, if asked for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            BaselineError: when there are fewer than two baselines.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input, several=True)
        call = Contrast(function, self._comparison, layers, custom_attribution_func, create_graph)
        take, count = of_distribution(function, baselines, inputs)
        attributions, delta = call.mean(take, count, internal_batch_size, self._label(show_progress))
        result = self._by_layer(attributions, layers)
        return (result, delta) if return_convergence_delta else result


class NeuronDeepLiftShap(NeuronDeepLift):
    """Mean of DeepLIFT of a neuron over N baselines; arguments as of :class:`NeuronDeepLift`."""

    @log_usage()
    @differentiable
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # baselines have no default here
        self,
        inputs: Any,
        neuron_selector: Any,
        baselines: Any,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        custom_attribution_func: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Mean over baselines of DeepLIFT of the selected neuron.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            baselines: tensors ``(N, *)`` with N ≥ 2, ``(B, N, *)``, or a function that returns these.
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
            BaselineError: when there are fewer than two baselines.
        """
        neuron = self._layers(attribute_to_neuron_input), neuron_selector
        function = neuron_at_ruled(self.forward_func, inputs, additional_forward_args, neuron, embedding_reduce)
        call = Contrast(function, self._comparison, None, custom_attribution_func, create_graph)
        take, count = of_distribution(function, baselines, inputs)
        return function.restore(call.mean(take, count, internal_batch_size, self._label(show_progress))[0])
