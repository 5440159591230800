"""Class activation maps: Grad-CAM and its siblings, on channels or on tokens."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from captum._engine.entry import differentiable
from captum.attr.arrangement import Arrange, arrangement
from captum.attr.base import GradientAttribution, LayerAttribution, wants_graph
from captum.attr.gradients.activation import values_and_gradients
from captum.errors import CaptumWarning, InputError
from captum.log import log_usage

__all__ = ["LayerGradCam"]

_UNREAD = (
    "The score depends on the layer's class or register tokens only, so the map over the other tokens is zero. Choose "
    "a layer before the last attention, such as the norm that opens the last block."
)
Variant = Literal["grad_cam", "grad_cam++", "hires_cam", "layer_cam", "eigen_cam"]
VARIANTS = ("grad_cam", "grad_cam++", "hires_cam", "layer_cam", "eigen_cam")


class LayerGradCam(LayerAttribution, GradientAttribution):
    r"""Grad-CAM: :math:`a_p = \sum_c \bar g_c\, y_{c,p}` with :math:`\bar g_c` the mean of :math:`\partial F / \partial y_{c,p}` over positions.

    Layers ``(B, C, *spatial)`` are used as they are. Layers of tokens ``(B, T, D)`` are brought to ``(B, D, h, w)`` for
    an image input (class and register tokens before the grid are dropped) or to ``(B, D, T)``, so that the map lies
    over the positions and not over the embedding; maps with channels last, ``(B, h, w, C)``, are turned round.

    R. Selvaraju et al., "Grad-CAM", 2016, arXiv:1610.02391. Variants: Grad-CAM++ (A. Chattopadhyay et al., 2017,
    arXiv:1710.11063), HiResCAM (R. Draelos, L. Carin, 2020, arXiv:2011.08891), LayerCAM (P. Jiang et al., 2021),
    EigenCAM (M. Muhammad, M. Yeasin, 2020, arXiv:2008.00299; ignores the target).

    Args:
        forward_func: the model or function.
        layer: a module.
        device_ids: accepted for compatibility.
    """  # noqa: E501  # the formula

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        variant: Variant = "grad_cam",
        reshape_transform: Arrange | None = None,
        create_graph: bool = False,
    ) -> Any:
        """The map over the layer's positions.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            attribute_to_layer_input: whether to use the layer's input.
            relu_attributions: whether to keep only positive values.
            attr_dim_summation: whether to sum over channels (default), else ``(B, C, *)`` is returned.
            grad_kwargs: ``{"create_graph": True}`` is the same as ``create_graph``.
            variant: ``"grad_cam"`` (default), ``"grad_cam++"``, ``"hires_cam"``, ``"layer_cam"`` or ``"eigen_cam"``.
            reshape_transform: brings the layer's value to ``(B, C, *spatial)``; found by itself when None.
            create_graph: whether the result can be differentiated again.

        Returns:
            Tensor ``(B, 1, *spatial)``, or a tuple for a layer with several tensors.

        Raises:
            LayerError: when the layer is not reached, its positions cannot be told from its channels, or they lie in
                dim 0 beside the rows of the inputs, as in window attention.
        """
        if variant not in VARIANTS:
            message = f"Expected as variant one of {', '.join(VARIANTS)}; got {variant!r}."
            raise InputError(message)
        score = self._score(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input)
        values, grads = values_and_gradients(score, layers, wants_graph(create_graph, grad_kwargs))
        image = next((tuple(t.shape[1:]) for t in score.inputs.tensors if t.dim() == 4), None)
        maps: list[Tensor] = []
        for value, grad in zip(values, grads, strict=True):
            arrange = reshape_transform or arrangement(value, self.layer, score.modules, image, score.batch)
            placed = arrange(grad)
            if placed.numel() < grad.numel() and not grad.is_meta and not placed.any() and grad.any():
                warnings.warn(_UNREAD, CaptumWarning, stacklevel=3)
            product = weighted(arrange(value), placed, variant)
            summed = product.sum(1, keepdim=True) if attr_dim_summation else product
            maps.append(summed.relu() if relu_attributions else summed)
        return self._by_layer(maps, layers, rows_first=True)


def weighted(value: Tensor, grad: Tensor, variant: Variant) -> Tensor:
    """Channels times their weights, ``(B, C, *spatial)``; their sum over ``C`` is the map."""
    spatial = tuple(range(2, value.dim()))
    if variant == "eigen_cam":
        return _principal(value)
    if variant == "hires_cam" or not spatial:
        return grad * value
    if variant == "layer_cam":
        return grad.relu() * value
    if variant == "grad_cam++":
        curve = 2 * grad.square() + value.sum(spatial, keepdim=True) * grad.pow(3)
        share = grad.square() / torch.where(curve == 0, torch.ones_like(curve), curve)
        return (share * grad.relu()).sum(spatial, keepdim=True) * value
    return grad.mean(spatial, keepdim=True) * value


def _principal(value: Tensor) -> Tensor:
    """Channels, centred over positions, times the first principal direction; signed to point where activity is high."""
    flat = value.flatten(2) if value.dim() > 2 else value[..., None]
    flat = flat.to(torch.promote_types(value.dtype, torch.float32))
    centred = flat - flat.mean(2, keepdim=True)
    direction = torch.linalg.svd(centred.transpose(1, 2), full_matrices=False).Vh[:, 0]
    product = centred * direction[..., None]
    strength = flat.abs().sum(1)
    agree = (product.sum(1) * (strength - strength.mean(1, keepdim=True))).sum(1)
    return (product * torch.where(agree < 0, -1.0, 1.0)[:, None, None]).reshape(value.shape).to(value.dtype)
