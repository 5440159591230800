"""Gradients by the weight of one linear layer, as the factors they are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError, LayerError
from captum.influence.batches import Batch
from captum.influence.losses import ExampleLoss

__all__ = ["LayerRows", "find_linear", "layer_rows"]


def find_linear(model: nn.Module, layer: Any) -> nn.Linear:
    """The layer itself, or the one of that name.

    Raises:
        InputError: when the model has no layer of that name, or not that layer.
        InputTypeError: when it is no linear layer.
    """
    if isinstance(layer, str):
        try:
            layer = model.get_submodule(layer)
        except AttributeError:
            message = f"Expected final_fc_layer to name a module of the model, got {layer!r}: see named_modules()."
            raise InputError(message) from None
    if not isinstance(layer, nn.Linear):
        message = f"Expected final_fc_layer to be a torch.nn.Linear or its name, got {describe(layer)}: use TracInCP."
        raise InputTypeError(message)
    if not any(m is layer for m in model.modules()):
        message = "Expected final_fc_layer to be a module of the model, got a layer that is not part of it."
        raise InputError(message)
    return layer


class LayerRows:
    """Examples as gradients by a weight: sums of outer products of the loss's gradients by outputs, and inputs.

    Args:
        slopes: gradients of the loss of each example by the layer's outputs ``(n, T, out)``; ``T`` counts positions and
            calls.
        values: the layer's inputs ``(n, T, in)``.
    """

    def __init__(self, slopes: Tensor, values: Tensor) -> None:
        self.slopes = slopes
        self.values = values

    @property
    def size(self) -> int:
        """How many examples."""
        return len(self.slopes)

    def dot(self, other: LayerRows) -> Tensor:
        """Inner products ``(n, m)`` of these examples with others."""
        pairs = self.size * self.slopes.shape[1] * other.size * other.slopes.shape[1]
        if pairs > (self.size + other.size) * self.slopes.shape[2] * self.values.shape[2]:
            return self.matrix() @ other.matrix().T
        by_output = torch.einsum("nto,mso->nmts", self.slopes, other.slopes)
        return (by_output * torch.einsum("nti,msi->nmts", self.values, other.values)).sum((2, 3))

    def squares(self) -> Tensor:
        """Inner products ``(n,)`` of examples with themselves."""
        if self.slopes.shape[1] ** 2 > self.slopes.shape[2] * self.values.shape[2]:
            return self.matrix().square().sum(1)
        by_output = torch.einsum("nto,nso->nts", self.slopes, self.slopes)
        return (by_output * torch.einsum("nti,nsi->nts", self.values, self.values)).sum((1, 2))

    def matrix(self) -> Tensor:
        """Gradients ``(n, out · in)``."""
        return torch.einsum("nto,nti->noi", self.slopes, self.values).flatten(1)


def layer_rows(model: nn.Module, layer: nn.Linear, batch: Batch, loss: ExampleLoss) -> LayerRows:
    """The factors of the gradients of each example's loss by the layer's weight.

    Args:
        model: the model.
        layer: one of its linear layers; a weight that others share counts here alone.
        batch: examples.
        loss: their loss.

    Raises:
        LayerError: when the layer does not run, or sees no row for each example.
    """
    values: list[Tensor] = []
    outputs: list[Tensor] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        del module
        values.append(args[0].detach())
        outputs.append(output if output.requires_grad else output.detach().requires_grad_())
        return outputs[-1].clone()

    hook = layer.register_forward_hook(watch)
    try:
        found = model(*batch.features)
    finally:
        hook.remove()
    if not outputs or any(v.dim() < 2 or len(v) != batch.size for v in values):
        shapes = [tuple(v.shape) for v in values]
        message = (
            f"Expected final_fc_layer to run with a row for each of {batch.size} example(s), got inputs of the shapes "
            f"{shapes}: use TracInCP, with layers=[…]."
        )
        raise LayerError(message)
    total = loss.total(found, batch.labels, batch.size)
    if total.requires_grad:
        slopes = torch.autograd.grad(total, outputs, allow_unused=True, materialize_grads=True)
    else:
        slopes = tuple(torch.zeros_like(o) for o in outputs)
    return LayerRows(_positions(slopes, batch.size), _positions(values, batch.size))


def _positions(parts: tuple[Tensor, ...] | list[Tensor], size: int) -> Tensor:
    """Values ``(n, *, d)`` of several calls as ``(n, T, d)``, in at least single precision."""
    whole = torch.cat([p.reshape(size, -1, p.shape[-1]) for p in parts], 1)
    return whole.to(torch.promote_types(whole.dtype, torch.float32))
