"""Plain gradients: Saliency, InputXGradient and, for a neuron, NeuronGradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum._engine.drive import AtInputs, Reduce
from captum._engine.entry import differentiable
from captum.attr.base import GradientAttribution, NeuronAttribution
from captum.log import log_usage

__all__ = ["InputXGradient", "NeuronGradient", "Saliency"]


def gradients_at_inputs(function: AtInputs, create_graph: bool) -> tuple[Tensor, ...]:
    """∂F/∂x at the user's inputs, detached unless the graph is asked for."""
    if not function.score.needs_context():
        return function.gradients(function.values, function.everyone(), create_graph=create_graph)
    with function.running():
        return function.gradients(function.values, function.everyone(), create_graph=create_graph)


class Saliency(GradientAttribution):
    r"""Size of the gradient: :math:`a = |\partial F / \partial x|`.

    K. Simonyan, A. Vedaldi, A. Zisserman, "Deep inside convolutional networks", 2013, arXiv:1312.6034.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> Saliency(lambda x: (x * torch.tensor([1.0, -2.0])).sum(1)).attribute(torch.ones(1, 2))
        tensor([[1., 2.]])
    """

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        abs: bool = True,  # noqa: A002  # the published name
        additional_forward_args: Any = None,
        *,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Gradients of the score by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids are differentiated at their embeddings.
            target: which output is explained; see ``docs/conventions.md``.
            abs: whether to take absolute values (default), else signed gradients.
            additional_forward_args: constants of the model.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units per input unit.

        Raises:
            InputError: when inputs or target do not fit.
        """
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        grads = gradients_at_inputs(function, create_graph)
        return function.restore([g.abs() for g in grads] if abs else grads)


class InputXGradient(GradientAttribution):
    r"""Input times gradient: :math:`a = x \odot \partial F / \partial x`.

    A. Shrikumar, P. Greenside, A. Shcherbina, A. Kundaje, "Not just a black box", 2016, arXiv:1605.01713.

    Args:
        forward_func: the model or function.
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
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Gradients of the score times the inputs; for token ids, times their embeddings.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``, in score units.

        Raises:
            InputError: when inputs or target do not fit.
        """
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        grads = gradients_at_inputs(function, create_graph)
        values = function.values if create_graph else tuple(v.detach() for v in function.values)
        return function.restore([g * v for g, v in zip(grads, values, strict=True)])


class NeuronGradient(NeuronAttribution, GradientAttribution):
    r"""Gradient of a neuron: :math:`a = \partial y_j / \partial x`.

    Args:
        forward_func: the model or function.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
    """

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        *,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Gradients of the selected neuron by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            additional_forward_args: constants of the model.
            attribute_to_neuron_input: whether to read the layer's input.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Attributions in the structure of ``inputs``.

        Raises:
            LayerError: when the layer is not reached or the selector does not fit its value.
        """
        function = self._at_neuron(
            inputs, neuron_selector, additional_forward_args, attribute_to_neuron_input, embedding_reduce
        )
        return function.restore(gradients_at_inputs(function, create_graph))
