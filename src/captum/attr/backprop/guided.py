"""Guided backpropagation, deconvolution, and guided Grad-CAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.derivative import differentiate
from captum._engine.drive import Reduce
from captum._engine.entry import differentiable
from captum._engine.operators import OPERATORS, Kind
from captum._engine.ruled import Tensors, require_visible, run_ruled
from captum._engine.ruled_inputs import AtRuled, at_ruled, neuron_at_ruled
from captum._engine.rules import RuleMode
from captum._engine.values import describe
from captum.attr.arrangement import arrangement
from captum.attr.backprop.contrast import warn_of_training
from captum.attr.backprop.relu_rules import ReluRules
from captum.attr.base import GradientAttribution, InternalAttribution, NeuronAttribution
from captum.errors import InputError, LayerError
from captum.log import log_usage

__all__ = [
    "Deconvolution",
    "GuidedBackprop",
    "GuidedGradCam",
    "ModifiedReluGradientAttribution",
    "NeuronDeconvolution",
    "NeuronGuidedBackprop",
]


def modified_gradients(function: AtRuled, model: nn.Module, deconvolution: bool, activations: Sequence[str]) -> Tensors:
    """Gradients of the score by the inputs under the ReLU rules.

    Args:
        function: the score as a function of the inputs.
        model: the model, to name modules in messages.
        deconvolution: whether to use the rule of deconvolution.
        activations: names of operators treated as activations.
    """
    warn_of_training(model)
    rules = ReluRules(deconvolution, activations)
    mode = RuleMode(rules.table(), model, on_unknown="linear")
    points = tuple(v.detach() for v in function.values)
    with function.running():
        done = run_ruled(function, mode, (points, None), function.everyone())
    if not rules.applied:
        raise InputError(_nothing_to_rule(activations, mode.used))
    return done.grads


def _nothing_to_rule(activations: Sequence[str], used: Iterable[str]) -> str:
    """What to say when no activation was met: which other ones were."""
    listed = " or ".join(activations)
    seen = [name for name in used if OPERATORS[name].kind is Kind.ELEMENTWISE]
    advice = (
        f"It calls {', '.join(seen)}: name those that count, as in activations={(seen[0],)!r}, or use Saliency."
        if seen
        else "It calls no other element-wise function there either: use Saliency."
    )
    return (
        f"The model calls no {listed} on the way from the inputs to the score, so the result would be the plain "
        f"gradient. {advice}"
    )


class ModifiedReluGradientAttribution(GradientAttribution):
    """Base of guided backpropagation and deconvolution: gradients whose passage through ReLU is changed.

    Args:
        model: the model.
        use_relu_grad_output: whether to use the rule of deconvolution.
        activations: names of the element-wise operators that count as ReLU, such as ``("relu", "gelu", "silu")``.
    """

    def __init__(
        self, model: nn.Module, use_relu_grad_output: bool = False, *, activations: Sequence[str] = ("relu",)
    ) -> None:
        require_visible(model, type(self).__name__)
        super().__init__(model)
        self.model = model
        self.use_relu_grad_output = use_relu_grad_output
        self.activations = tuple(activations)

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Modified gradients of the score by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Modified gradients in the structure of ``inputs``.

        Raises:
            InputError: when the model calls no ReLU.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args, embedding_reduce)
        return function.restore(modified_gradients(function, self.model, self.use_relu_grad_output, self.activations))


class GuidedBackprop(ModifiedReluGradientAttribution):
    r"""Guided backpropagation: at every ReLU only positive gradients pass, and only where the ReLU was open.

    :math:`g_{in} = \max(g_{out}, 0) \cdot \max(f'(x), 0)`, whatever way the activation is called. ReLU6 and other ReLUs
    that end at c count as ReLU, with f' = 1 where 0 < x < c.

    J. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, "Striving for simplicity", 2014, arXiv:1412.6806.

    Args:
        model: the model.
        activations: names of the element-wise operators that count as ReLU (default only ``"relu"``).
    """

    def __init__(self, model: nn.Module, *, activations: Sequence[str] = ("relu",)) -> None:
        super().__init__(model, use_relu_grad_output=False, activations=activations)


class Deconvolution(ModifiedReluGradientAttribution):
    r"""Deconvolution: at a ReLU only positive gradients pass, :math:`g_{in} = \max(g_{out}, 0)`; ReLU6 counts as ReLU.

    M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", 2013, arXiv:1311.2901.

    Args:
        model: the model.
        activations: names of the element-wise operators that count as ReLU (default only ``"relu"``).
    """

    def __init__(self, model: nn.Module, *, activations: Sequence[str] = ("relu",)) -> None:
        super().__init__(model, use_relu_grad_output=True, activations=activations)


class GuidedGradCam(GradientAttribution):
    r"""Guided backpropagation times Grad-CAM: :math:`a = g_{guided} \odot \text{resize}(\max(\text{GradCAM}, 0))`.

    R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks", 2016, arXiv:1610.02391.

    Args:
        model: the model.
        layer: the module whose maps, or tokens on the grid of an image, Grad-CAM weighs.
        device_ids: accepted for compatibility.
        activations: names of the element-wise operators that count as ReLU (default only ``"relu"``).
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        device_ids: list[int] | None = None,
        *,
        activations: Sequence[str] = ("relu",),
    ) -> None:
        require_visible(model, type(self).__name__)
        super().__init__(model)
        self.model = model
        self.layer = layer
        self.device_ids = device_ids
        self.activations = tuple(activations)

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        interpolate_mode: str = "nearest",
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """Guided Grad-CAM of the score.

        Args:
            inputs: images ``(B, C, *spatial)``, or a tuple of them.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            interpolate_mode: how the map is resized: ``"nearest"`` (default), ``"bilinear"``, …
            attribute_to_layer_input: whether to weigh the layer's input.

        Returns:
            Attributions in the structure of ``inputs``.

        Raises:
            LayerError: when the layer's value is no map that can be resized to the inputs.
            InputError: when the model calls no ReLU.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args)
        heat = self._heat(function, attribute_to_layer_input)
        guided = modified_gradients(function, self.model, deconvolution=False, activations=self.activations)
        parts = [g * _resize(heat, g, interpolate_mode) for g in guided]
        return function.restore(tuple(parts))

    def _heat(self, function: AtRuled, to_input: bool) -> Tensor:
        """max(Grad-CAM, 0), ``(B, 1, *spatial)``."""
        layers = InternalAttribution(self.model, self.layer)._layers(to_input)  # how a layer is read, said once
        rows = function.everyone()
        with function.running(), torch.enable_grad():
            output, values, _ = function.tap(layers, tuple(v.detach() for v in function.values), rows)
            grads = differentiate(function.score.read(output, rows), values)
        if len(values) != 1:
            message = f"Grad-CAM needs a layer with one tensor, got {len(values)}."
            raise LayerError(message)
        image = next((tuple(v.shape[1:]) for v in function.values if v.dim() == 4), None)
        arrange = arrangement(values[0], self.layer, lambda: list(self.model.modules()), image, function.batch)
        value, grad = arrange(values[0].detach()), arrange(grads[0])
        spatial = tuple(range(2, value.dim()))
        weights = grad.mean(spatial, keepdim=True) if spatial else grad
        return F.relu((weights * value).sum(1, keepdim=True))


def _resize(heat: Tensor, like: Tensor, mode: str) -> Tensor:
    """The map in the spatial size of an input."""
    if heat.dim() < 3 or heat.dim() != like.dim():
        message = (
            f"Grad-CAM's map is {describe(heat)}, which cannot be resized to the input's {tuple(like.shape)}. "
            "Choose a layer whose value has the spatial dims of the input, such as the last convolution."
        )
        raise LayerError(message)
    return F.interpolate(heat, like.shape[2:], mode=mode)


class _NeuronModified(NeuronAttribution, GradientAttribution):
    """What guided backpropagation and deconvolution of a neuron share."""

    _deconvolution = False

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        device_ids: list[int] | None = None,
        *,
        activations: Sequence[str] = ("relu",),
    ) -> None:
        require_visible(model, type(self).__name__)
        super().__init__(model, layer, device_ids)
        self.activations = tuple(activations)

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        *,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Modified gradients of the selected neuron by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            additional_forward_args: constants of the model.
            attribute_to_neuron_input: whether to read the layer's input.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Modified gradients in the structure of ``inputs``.

        Raises:
            InputError: when no ReLU lies between the inputs and the neuron.
        """
        neuron = self._layers(attribute_to_neuron_input), neuron_selector
        function = neuron_at_ruled(self.forward_func, inputs, additional_forward_args, neuron, embedding_reduce)
        model: Any = self.forward_func
        return function.restore(modified_gradients(function, model, self._deconvolution, self.activations))


class NeuronGuidedBackprop(_NeuronModified):
    """Guided backpropagation of a neuron.

    Args:
        model: the model.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
        activations: names of the element-wise operators that count as ReLU (default only ``"relu"``).
    """


class NeuronDeconvolution(_NeuronModified):
    """Deconvolution of a neuron.

    Args:
        model: the model.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
        activations: names of the element-wise operators that count as ReLU (default only ``"relu"``).
    """

    _deconvolution = True
