"""Gradients of a target by inputs, at layers and of neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.derivative import differentiate, leaf
from captum._engine.place import Layers, Neuron
from captum._engine.score import Score
from captum._engine.values import parse_inputs
from captum.attr.base import default_gradients, side_of
from captum.compatibility.forms import format_inputs
from captum.errors import InputError, LayerError

__all__ = ["compute_gradients", "compute_layer_gradients_and_eval", "construct_neuron_grad_fn"]

Tensors = tuple[Tensor, ...]


def apply_gradient_requirements(inputs: Tensors, warn: bool = True) -> list[bool]:
    """Let every floating tensor require its gradient.

    Args:
        inputs: tensors; changed.
        warn: accepted for compatibility; nothing here needs a warning.

    Returns:
        For each tensor whether it required its gradient before.
    """
    del warn
    before = [x.requires_grad for x in inputs]
    for x in inputs:
        if x.is_floating_point() or x.is_complex():
            x.requires_grad_()
    return before


def undo_gradient_requirements(inputs: Tensors, grad_required: list[bool]) -> None:
    """Put back what :func:`apply_gradient_requirements` changed.

    Args:
        inputs: the same tensors; changed.
        grad_required: what it returned.
    """
    if len(inputs) != len(grad_required):
        message = f"Expected one flag per input, {len(inputs)}; got {len(grad_required)}."
        raise InputError(message)
    for x, required in zip(inputs, grad_required, strict=True):
        if not required and x.requires_grad:
            x.requires_grad_(False)


def compute_gradients(
    forward_fn: Callable[..., Any], inputs: Any, target_ind: Any = None, additional_forward_args: Any = None
) -> Tensors:
    """Gradients of the target's score by each input tensor.

    Args:
        forward_fn: the model.
        inputs: tensor or tuple of tensors ``(B, *)``.
        target_ind: the target.
        additional_forward_args: constants of the model.

    Returns:
        One tensor per input.
    """
    return default_gradients(forward_fn, tuple(format_inputs(inputs)), target_ind, additional_forward_args)


def compute_layer_gradients_and_eval(
    forward_fn: Callable[..., Any],
    layer: Any,
    inputs: Any,
    target_ind: Any = None,
    additional_forward_args: Any = None,
    gradient_neuron_selector: Any = None,
    device_ids: list[int] | None = None,
    attribute_to_layer_input: bool = False,
    output_fn: Callable[[Tensors], Tensors] | None = None,
    grad_kwargs: dict[str, Any] | None = None,
    offload_to_cpu: bool = False,
) -> tuple[Any, ...]:
    """Values of a layer, and the gradients of the target's score by them.

    Args:
        forward_fn: the model.
        layer: a module, or a list of modules.
        inputs: tensor or tuple of tensors ``(B, *)``.
        target_ind: the target.
        additional_forward_args: constants of the model.
        gradient_neuron_selector: which neuron of the (one) layer to differentiate by the inputs as well.
        device_ids: accepted for compatibility; layers are found where they run.
        attribute_to_layer_input: whether the layer's input is meant.
        output_fn: applied to gradients and values, each as a tuple.
        grad_kwargs: ``{"create_graph": True}`` keeps the graph of the gradients.
        offload_to_cpu: move gradients and values to the CPU.

    Returns:
        ``(gradients, values)``, each a tuple of tensors, or a list of tuples for a list of layers. With a neuron
        ``(gradients, values, neuron gradients by each input)``.
    """
    del device_ids
    several = isinstance(layer, (list, tuple, nn.ModuleList))
    modules: list[nn.Module] = list(layer) if several else [layer]
    score = Score(forward_fn, parse_inputs(inputs), target_ind, additional_forward_args)
    layers = Layers(modules, side_of(attribute_to_layer_input), as_made=True)
    keep = bool((grad_kwargs or {}).get("create_graph"))
    everyone = score.everyone()
    with score.running(), torch.enable_grad():
        wants_neuron = gradient_neuron_selector is not None
        variables = (
            tuple(leaf(t, keep_graph=True) for t in score.inputs.tensors) if wants_neuron else score.inputs.tensors
        )
        output, values = layers.tap(score, variables, everyone)
        retain = True if wants_neuron or keep else None
        grads = differentiate(score.read(output, everyone), values, create_graph=keep, retain_graph=retain)
        by_inputs: Tensors = ()
        if wants_neuron:
            if several:
                message = "gradient_neuron_selector goes with one layer, not with a list of layers."
                raise LayerError(message)
            neuron = Neuron(score, layers, gradient_neuron_selector).pick(values, everyone)
            by_inputs = differentiate(neuron, variables, score.inputs.names, create_graph=keep)

    def formed(tensors: Tensors) -> Any:
        moved = tuple(t.cpu() for t in tensors) if offload_to_cpu else tensors
        groups = [output_fn(g) if output_fn else g for g in layers.group(moved)]
        return groups if several else groups[0]

    return (formed(grads), formed(values), *([by_inputs] if wants_neuron else []))


def construct_neuron_grad_fn(
    layer: nn.Module, neuron_selector: Any, device_ids: list[int] | None = None, attribute_to_neuron_input: bool = False
) -> Callable[..., Tensors]:
    """A gradient function of a neuron, to be set as ``gradient_func`` of a gradient method.

    Args:
        layer: the module that the neuron is in.
        neuron_selector: int, tuple of ints and slices, or a function of the layer's value.
        device_ids: accepted for compatibility.
        attribute_to_neuron_input: whether the layer's input is meant.

    Returns:
        ``(forward_fn, inputs, target_ind=None, additional_forward_args=None) -> one gradient per input``.
    """
    del device_ids

    def gradients(
        forward_fn: Callable[..., Any], inputs: Any, target_ind: Any = None, additional_forward_args: Any = None
    ) -> Tensors:
        del target_ind  # the neuron stands for it
        tensors = tuple(format_inputs(inputs))
        score = Score(forward_fn, parse_inputs(tensors), None, additional_forward_args)
        neuron = Neuron(score, Layers([layer], side_of(attribute_to_neuron_input)), neuron_selector)
        with score.running(), torch.enable_grad():
            variables = tuple(leaf(t, keep_graph=True) for t in tensors)
            return differentiate(neuron(variables, score.everyone()), variables, score.inputs.names)

    return gradients
