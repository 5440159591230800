"""Values of a layer, and gradient times value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.derivative import differentiate
from captum._engine.entry import differentiable
from captum._engine.place import Layers
from captum._engine.score import Score
from captum.attr.base import GradientAttribution, LayerAttribution, wants_graph
from captum.log import log_usage

__all__ = ["LayerActivation", "LayerGradientXActivation"]


def values_and_gradients(
    score: Score, layers: Layers, create_graph: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Values ``y`` at the layers and ∂F/∂y, in one forward and one backward pass."""
    everyone = score.everyone()
    with score.running(), torch.enable_grad():
        output, values = layers.tap(score, score.inputs.tensors, everyone)
        grads = differentiate(score.read(output, everyone), values, create_graph=create_graph)
    return (values if create_graph else tuple(v.detach() for v in values)), grads


class LayerActivation(LayerAttribution):
    """The value of a layer, as it is.

    Args:
        forward_func: the model or function.
        layer: a module or a list of modules.
        device_ids: accepted for compatibility.
    """

    @property
    def multiplies_by_inputs(self) -> bool:
        """True."""
        return True

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """Read the layer.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            additional_forward_args: constants of the model.
            attribute_to_layer_input: whether to read the layer's input.

        Returns:
            The layer's value: a tensor, a tuple, or a list for a list of layers.

        Raises:
            LayerError: when a layer is not reached.
        """
        score = self._score(inputs, None, additional_forward_args)
        layers = self._layers(attribute_to_layer_input, several=True, as_made=True)
        with score.running():
            values = layers.read(score, score.inputs.tensors, score.everyone())
        return self._by_layer(values, layers)


class LayerGradientXActivation(LayerAttribution, GradientAttribution):
    r"""Gradient times value of a layer: :math:`a = y \odot \partial F / \partial y`.

    Args:
        forward_func: the model or function.
        layer: a module or a list of modules.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``y`` (default); else the gradient is returned.
        memory_efficient: whether to move results to the CPU.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Any,
        device_ids: list[int] | None = None,
        multiply_by_inputs: bool = True,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self._multiply_by_inputs = multiply_by_inputs
        self.memory_efficient = memory_efficient

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        create_graph: bool = False,
    ) -> Any:
        """Gradient times value at the layer.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            attribute_to_layer_input: whether to use the layer's input.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            create_graph: whether the result can be differentiated again.

        Returns:
            Attributions shaped like the layer's value, in score units.

        Raises:
            LayerError: when a layer is not reached.
        """
        score = self._score(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input, several=True, as_made=True)
        values, grads = values_and_gradients(score, layers, wants_graph(create_graph, grad_kwargs))
        return self._by_layer(self.multiply_gradient_acts(grads, values), layers)

    def multiply_gradient_acts(self, gradients: tuple[Tensor, ...], evals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The product, or the gradients alone, as the constructor's flags say.

        Args:
            gradients: ∂F/∂y.
            evals: y.

        Returns:
            One tensor per value.
        """
        products = (g * v if self._multiply_by_inputs else g for g, v in zip(gradients, evals, strict=True))
        return tuple(p.detach().cpu() if self.memory_efficient else p for p in products)
